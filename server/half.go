package server

import (
	"io"
	"net"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"gannet/shard"
)

// halfConn is a connection whose peer has closed its writing side while the log still has answers for it. gnet closes such a
// connection when its callback returns; this is the same socket by another descriptor, which only ever writes. It lives
// until the shard closes it, two seconds at most. Owned by the loop.
type halfConn struct {
	fd     int
	in     []byte // what came and was not taken yet
	remote net.Addr
	s      *shard.Session
	lp     *loop
	failed bool
}

// takeHalf gives a session that waits for answers its half of the connection; false: it ends now.
func (h *handler) takeHalf(c gnet.Conn, s *shard.Session) bool {
	lp := h.s.loopOf(c.EventLoop())
	if !lp.sh.Waits(s) {
		return false
	}
	fd, err := unix.FcntlInt(uintptr(c.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	half := &halfConn{fd: fd, remote: c.RemoteAddr(), s: s, lp: lp}
	if in, err := c.Peek(c.InboundBuffered()); err == nil {
		half.in = append(half.in, in...)
	}
	lp.sh.HalfClosed(s, half)
	return true
}

// Write gives the kernel what it takes at once: a peer that does not even read has no claim on more.
func (c *halfConn) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !c.failed; {
		n, err := unix.Write(c.fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			c.failed = true
			break
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Writev is Write for several pieces.
func (c *halfConn) Writev(bs [][]byte) (n int, err error) {
	for _, p := range bs {
		m, _ := c.Write(p)
		n += m
	}
	return n, nil
}

// OutboundBuffered is always 0.
func (c *halfConn) OutboundBuffered() int { return 0 }

// InboundBuffered is what came before the peer's end and was not taken yet.
func (c *halfConn) InboundBuffered() int { return len(c.in) }

// Peek returns the first n of these bytes.
func (c *halfConn) Peek(n int) ([]byte, error) {
	if n > len(c.in) {
		return nil, io.ErrShortBuffer
	}
	return c.in[:n], nil
}

// Discard drops the first n of them.
func (c *halfConn) Discard(n int) (int, error) {
	n = min(n, len(c.in))
	c.in = c.in[n:]
	return n, nil
}

// RemoteAddr is the peer's.
func (c *halfConn) RemoteAddr() net.Addr { return c.remote }

func (c *halfConn) shut() { _ = unix.Shutdown(c.fd, unix.SHUT_WR) }

func (c *halfConn) close() {
	_ = unix.Close(c.fd)
	c.lp.srv.open.Add(-1)
	c.lp.sh.Closed(c.s, c)
}
