package bench

import (
	"fmt"

	"golang.org/x/sys/unix"

	"gannet/codec"
)

// connState is where a connection stands.
type connState uint8

const (
	stateIdle       connState = iota // not opened yet
	stateConnecting                  // connect(2) under way
	stateGreeting                    // HELLO sent, WELCOME or SUBACK missing
	stateUp
	stateLeaving // our BYE sent
	stateClosed
)

// conn is one connection. Everything that can be derived from its index (user, peer, topic, source address) is.
type conn struct {
	in          []byte // an unfinished frame; nil otherwise
	out         []byte // not written yet; nil otherwise
	since       int64  // when its connect was due, ns
	opened      uint32 // when its connect began, ms since the start of the run
	index       uint32 // among all connections of the run
	slot        uint32 // in loop.conns, which epoll gives back
	fd          int32
	limit       uint32 // longest body accepted
	sent        uint32 // highest number given to a counted message
	refused     uint32 // of these, answered with a code other than OK
	state       connState
	waitWelcome bool
	waitSub     bool // SUBACK missing
	joined      bool // was up when sending began
	blocked     bool // the kernel takes no more: EPOLLOUT is asked for
	broken      bool // a write failed: only what the server still says is of interest
	dirty       bool // in loop.dirty
}

const (
	// readSize is the buffer that all connections of a loop read into.
	readSize = 256 << 10
	// maxPending bounds what waits for one full socket.
	maxPending = 64 << 10
	// maxSpare and spareCap bound the buffers that a loop keeps for the next unfinished frame or full socket.
	maxSpare = 1024
	spareCap = 16 << 10
)

// takeSpare returns an empty buffer.
func (l *loop) takeSpare() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, 512)
}

// putSpare takes back a buffer that nobody uses any more; nil is fine.
func (l *loop) putSpare(b []byte) {
	if cap(b) > 0 && cap(b) <= spareCap && len(l.spare) < maxSpare {
		l.spare = append(l.spare, b[:0])
	}
}

// read takes what one connection has, once: level-triggered epoll brings it back when there is more.
func (l *loop) read(c *conn, now int64) {
	head := copy(l.buf, c.in)
	n, err := unix.Read(int(c.fd), l.buf[head:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		l.ended(c, err.(unix.Errno))
		return
	case n == 0:
		l.ended(c, closedEOF)
		return
	case c.state == stateLeaving: // nobody counts it any more
		return
	}
	rest, err := l.consume(c, l.buf[:head+n], now)
	switch {
	case err != nil:
		l.n.malformed++
		if l.n.malformedWhy == "" {
			l.n.malformedWhy = err.Error()
		}
		l.drop(c)
	case c.state != stateClosed:
		l.keep(c, rest)
		l.flush(c)
	}
}

// consume handles all whole frames of b and returns what is left. It stops when a frame ended the connection.
func (l *loop) consume(c *conn, b []byte, now int64) (rest []byte, err error) {
	for {
		f, n, err := codec.ConsumeFrame(b, int(c.limit))
		if err != nil || n == 0 {
			return b, err
		}
		if err := l.self.handle(c, f, now); err != nil {
			return b, fmt.Errorf("%s: %w", f.Type, err)
		}
		if c.state == stateClosed {
			return nil, nil
		}
		b = b[n:]
	}
}

// keep stores an unfinished frame until its other bytes come, and makes room for it in the shared buffer.
func (l *loop) keep(c *conn, rest []byte) {
	if len(rest) == 0 {
		l.putSpare(c.in)
		c.in = nil
		return
	}
	if c.in == nil {
		c.in = l.takeSpare()
	}
	c.in = append(c.in[:0], rest...)
	if length, _, _, ok := codec.ConsumeHeader(rest); ok && codec.HeaderLen+length > len(l.buf) {
		l.buf = make([]byte, codec.HeaderLen+length)
	}
}

// output returns the buffer to append one more frame of size bytes for c; store the result in c.out and call
// flush. ok is false when c's socket is full and so is its buffer, or when nothing can be written any more.
func (l *loop) output(c *conn, size int) (buf []byte, ok bool) {
	if len(c.out)+size > maxPending {
		l.flush(c)
	}
	if c.broken || (c.blocked && len(c.out)+size > maxPending) {
		return nil, false
	}
	if c.out == nil {
		c.out = l.takeSpare()
	}
	return c.out, true
}

// flush writes what c.out holds. What the kernel does not take waits for EPOLLOUT.
func (l *loop) flush(c *conn) {
	if len(c.out) == 0 || c.blocked {
		return
	}
	l.write(c)
}

// writable is called when the kernel takes more again.
func (l *loop) writable(c *conn) {
	if c.blocked {
		l.write(c)
	}
}

func (l *loop) write(c *conn) {
	n, err := unix.Write(int(c.fd), c.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		// The server may have said why before it closed: what it said is still to be read.
		c.broken = true
		n = len(c.out)
	}
	if n < len(c.out) {
		c.out = c.out[:copy(c.out, c.out[max(n, 0):])]
		l.watch(c, true)
		return
	}
	l.putSpare(c.out)
	c.out = nil
	l.watch(c, false)
}

// watch asks for EPOLLOUT or no longer does.
func (l *loop) watch(c *conn, blocked bool) {
	if c.blocked == blocked {
		return
	}
	c.blocked = blocked
	events := uint32(unix.EPOLLIN)
	if blocked {
		events |= unix.EPOLLOUT
	}
	if err := l.poll.ctl(unix.EPOLL_CTL_MOD, int(c.fd), int(c.slot), events); err != nil {
		l.fail(fmt.Errorf("watching a connection: %w", err))
	}
}

// ended is called when the peer closed c without BYE, or the connection failed.
func (l *loop) ended(c *conn, errno unix.Errno) {
	if c.state != stateLeaving {
		l.n.closes.add(errno)
	}
	l.drop(c)
}

// drop closes c, counts what that means in its state and frees its buffers.
func (l *loop) drop(c *conn) {
	switch c.state {
	case stateConnecting, stateGreeting:
		l.pending--
		l.n.failed++
	case stateUp:
		l.n.up--
		l.n.dropped++
	case stateLeaving:
		l.leaving--
	}
	_ = unix.Close(int(c.fd)) // its outcome tells nothing that reading has not told
	l.putSpare(c.in)
	l.putSpare(c.out)
	c.in, c.out, c.fd, c.state = nil, nil, -1, stateClosed
}
