package server

import (
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// refusal is a connection that got its BYE instead of a session. Most clients have sent HELLO by then, and closing
// with unread bytes resets the connection, which can cost the peer the BYE. So it stays until the peer closes,
// for a short time, and what comes is discarded.
type refusal struct {
	// Owned by the loop.
	c      gnet.Conn
	until  int64 // the server's clock
	closed bool
}

const (
	// maxRefusals is how many refused connections may stay, all loops together: their descriptors come out of
	// reservedFiles. Beyond it they are closed at once.
	maxRefusals   = 64
	refusalLinger = 2 * time.Second
)

// refuse writes bye, which ends the connection.
func (lp *loop) refuse(c gnet.Conn, bye []byte) gnet.Action {
	s := lp.srv
	if s.refusals.Add(1) > maxRefusals {
		s.refusals.Add(-1)
		_, _ = c.Write(bye)
		var unread [4 << 10]byte // HELLO, if it is here already
		_, _ = unix.Read(c.Fd(), unread[:])
		return gnet.Close
	}
	s.open.Add(-1)
	r := &refusal{c: c, until: s.clock.Now() + int64(refusalLinger)}
	c.SetContext(r)
	lp.refused = append(lp.refused, r)
	if _, err := c.Write(bye); err == nil { // else it is closed
		lp.CloseWrite(c)
	}
	return gnet.None
}

// sweepRefused closes those whose time is over.
func (lp *loop) sweepRefused(now int64) {
	kept := lp.refused[:0]
	for _, r := range lp.refused {
		if !r.closed && now >= r.until {
			_ = lp.el.Close(r.c)
		}
		if !r.closed {
			kept = append(kept, r)
		}
	}
	clear(lp.refused[len(kept):])
	lp.refused = kept
}
