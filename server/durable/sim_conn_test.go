package durable

import (
	"net"
	"time"

	"gannet/codec"
	"gannet/shard"
)

// simClock is the time of a simulation. The wall clock can be set.
type simClock struct {
	ns   int64
	wall int64 // milliseconds by which the wall clock differs
}

func (c *simClock) Now() int64 { return c.ns }

func (c *simClock) UnixMilli() uint64 {
	return uint64(1_767_225_600_000 + c.ns/int64(time.Millisecond) + c.wall)
}

// simLoop is a loop that takes its turns when the simulation says so.
type simLoop struct {
	sh        *shard.Shard
	wakes     int
	continues int
	commits   int // sent to it since its last turn
}

func (l *simLoop) Wake()     { l.wakes++ }
func (l *simLoop) Continue() { l.continues++ }

func (l *simLoop) Close(c shard.Conn)      { c.(*simConn).disconnect() }
func (l *simLoop) CloseWrite(c shard.Conn) { c.(*simConn).shut = true }

func (l *simLoop) drain() {
	l.wakes, l.commits = max(0, l.wakes-1), 0
	l.sh.Drain()
}

// turn takes one; false when none is asked for.
func (l *simLoop) turn(second bool) bool {
	switch {
	case l.continues > 0 && (second || l.wakes == 0):
		l.continues--
		l.commits = 0
		l.sh.Slice()
	case l.wakes > 0:
		l.drain()
	default:
		return false
	}
	return true
}

// simConn is a connection with a kernel that keeps so much for a reader and no more.
type simConn struct {
	loop    *simLoop
	session *shard.Session
	kernel  int    // bytes
	wire    []byte // sent by the client, not yet arrived
	in      []byte // arrived
	out     []byte // the kernel has it for the client
	pending []byte // the kernel did not take it
	shut    bool
	closed  bool
}

func (c *simConn) Write(p []byte) (int, error) { return c.Writev([][]byte{p}) }

func (c *simConn) Writev(bs [][]byte) (n int, err error) {
	if c.closed || c.shut {
		return 0, net.ErrClosed
	}
	for i, p := range bs {
		c.pending = append(c.pending, p...)
		n += len(p)
		bs[i] = nil
	}
	c.push()
	return n, nil
}

// push gives the kernel what it takes.
func (c *simConn) push() {
	n := min(len(c.pending), max(0, c.kernel-len(c.out)))
	c.out = append(c.out, c.pending[:n]...)
	c.pending = append([]byte(nil), c.pending[n:]...)
}

func (c *simConn) OutboundBuffered() int { return len(c.pending) }
func (c *simConn) InboundBuffered() int  { return len(c.in) }
func (c *simConn) RemoteAddr() net.Addr  { return &net.TCPAddr{} }

func (c *simConn) Peek(n int) ([]byte, error) {
	if n > len(c.in) {
		return nil, net.ErrClosed
	}
	return c.in[:n:n], nil
}

func (c *simConn) Discard(n int) (int, error) {
	c.in = append([]byte(nil), c.in[n:]...)
	return n, nil
}

// arrive brings n bytes of the client to the shard.
func (c *simConn) arrive(n int) {
	c.in = append(append([]byte(nil), c.in...), c.wire[:n]...)
	c.wire = c.wire[n:]
	c.loop.sh.Traffic(c.session)
}

func (c *simConn) disconnect() {
	if !c.closed {
		c.closed = true
		c.loop.sh.Closed(c.session, c)
	}
}

// simHost is the rest of the server.
type simHost struct{}

func (simHost) Authenticate(shard.AuthRequest) bool { return false }
func (simHost) Event(shard.Event)                   {}

type simRights struct{}

func (simRights) MayPublish([]byte) bool   { return true }
func (simRights) MaySubscribe([]byte) bool { return true }
func (simRights) MayBroadcast() bool       { return true }
func (simRights) Key() string              { return "" }

// simCourier is the node's courier; its commits go out when the simulation says so, joined with what came meanwhile.
type simCourier struct {
	*shard.Courier
	s      *sim
	unsent bool
}

func (c *simCourier) Send(<-chan struct{}) bool {
	c.unsent = true
	if c.s.rng.IntN(3) > 0 {
		c.send()
	}
	return true
}

func (c *simCourier) send() {
	c.unsent = false
	for _, l := range c.s.loops {
		if l.commits++; l.commits > 6 { // they find no more room, and on a server the committer waits for the loop
			l.drain()
		}
	}
	c.Courier.Send(nil)
}

func (simHost) Refused(shard.Conn, codec.Code, string) {}
