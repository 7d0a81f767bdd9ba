package verify

import (
	"context"
	"net"
	"time"
)

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	readSize     = 16 << 10
)

// link is one connection with the goroutine that reads it.
type link struct {
	conn   net.Conn
	chunks chan []byte // what was read; closed at the end
	spare  chan []byte // chunks given back
}

// dialLink connects. The goroutine ends when the connection does and all chunks are taken, or given up with end.
func dialLink(ctx context.Context, addr string) (*link, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, chunks: make(chan []byte, 1), spare: make(chan []byte, 2)}
	l.spare <- make([]byte, readSize)
	l.spare <- make([]byte, readSize)
	go l.read()
	return l, nil
}

func (l *link) read() {
	defer close(l.chunks)
	for buf := range l.spare {
		n, err := l.conn.Read(buf)
		if n > 0 {
			l.chunks <- buf[:n] // never blocks for good: end takes what is left
		}
		if err != nil {
			return
		}
		if n == 0 {
			l.spare <- buf
		}
	}
}

// giveBack returns a chunk.
func (l *link) giveBack(chunk []byte) { l.spare <- chunk[:cap(chunk)] }

func (l *link) write(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

// end closes the connection, with a RST when abrupt, and waits for the goroutine.
func (l *link) end(abrupt bool) {
	if tcp, ok := l.conn.(*net.TCPConn); ok && abrupt {
		_ = tcp.SetLinger(0)
	}
	_ = l.conn.Close()
	for chunk := range l.chunks {
		l.giveBack(chunk)
	}
}
