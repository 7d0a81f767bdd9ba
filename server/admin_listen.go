package server

import (
	"net"
	"sync"
)

// boundedListener accepts up to a number of connections at once; others wait in the kernel's queue, where they cost
// no descriptor. Without it who only opens connections to the admin port could take the descriptors that
// gnet's accept needs, and an accept that fails ends all event loops.
type boundedListener struct {
	net.Listener
	places chan struct{} // one for each connection that is open
	closed chan struct{}
	once   sync.Once
}

func newBoundedListener(ln net.Listener, n int) *boundedListener {
	return &boundedListener{Listener: ln, places: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a place, then for a connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &boundedConn{Conn: c, places: l.places}, nil
}

// Close ends Accept as well when it waits for a place.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	places chan struct{}
	once   sync.Once
}

// Close may be called more than once.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.places })
	return err
}
