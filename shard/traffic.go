package shard

import (
	"errors"

	"gannet/codec"
)

// loginBacklog is how many bytes may wait behind a HELLO that is being judged.
const loginBacklog = 64 << 10

// Traffic tells that bytes came on the session's connection.
func (sh *Shard) Traffic(s *Session) {
	sh.begin()
	sh.inTurn = true
	sh.traffic(s)
	sh.settle()
}

func (sh *Shard) traffic(s *Session) {
	c := sh.conn(s)
	switch s.phase {
	case phaseClosing:
		_, _ = c.Discard(c.InboundBuffered())
	case phaseAuth, phaseResume:
		if c.InboundBuffered() > loginBacklog {
			sh.bye(s, codec.CodeMalformed, "too much before WELCOME")
		}
	case phaseNew, phaseLive:
		sh.read(s, c)
		if s.flow != 0 || len(sh.cursors) > 0 {
			sh.goOn(s) // it may have read what it had
		}
	}
}

// read takes the complete frames off the connection.
func (sh *Shard) read(s *Session, c Conn) {
	avail := c.InboundBuffered()
	if sh.waits(s, c, avail) {
		return
	}
	buf, err := c.Peek(avail)
	if err != nil {
		return
	}
	gen, used, frames := s.gen, 0, 0
	for s.phase == phaseNew || s.phase == phaseLive {
		f, n, err := codec.ConsumeFrame(buf[used:], sh.limit(s))
		if err != nil {
			sh.malformed(s, err)
			break
		}
		if n == 0 || !sh.frame(s, f) {
			break
		}
		used += n
		frames++
	}
	sh.stats.FramesIn += uint64(frames)
	if s.gen != gen {
		return // ended while it was answered; the connection is gone
	}
	if s.phase == phaseClosing {
		used = avail
	}
	if used > 0 {
		_, _ = c.Discard(used)
		sh.stats.BytesIn += uint64(used)
	}
	sh.touch(s, frames, used < avail)
}

// waits says that the first frame is not complete. It looks at four bytes only: peeking at more of what gnet has
// buffered in pieces would copy all of it for every piece that comes.
func (sh *Shard) waits(s *Session, c Conn, avail int) bool {
	if avail >= codec.HeaderLen {
		h, err := c.Peek(codec.HeaderLen)
		if err != nil {
			return true
		}
		length, _, _, _ := codec.ConsumeHeader(h)
		if length > sh.limit(s) || avail >= codec.HeaderLen+length {
			return false
		}
		if _, _, err := codec.ConsumeFrame(h, sh.limit(s)); err != nil {
			return false // the header alone is wrong
		}
	}
	if avail > 0 {
		sh.touch(s, 0, true)
	}
	return true
}

// touch notes that frames came and whether one is left unfinished. Frames count as a heartbeat, bytes do not.
func (sh *Shard) touch(s *Session, frames int, partial bool) {
	if s.phase != phaseLive {
		return // before the login only its own deadline counts
	}
	if frames > 0 {
		s.seen = sh.nowTick
		s.flags &^= flagPinged
		s.partial = 0
	}
	if !partial {
		s.partial = 0
	} else if s.partial == 0 {
		s.partial = sh.nowTick + ticks(sh.cfg.FrameTimeout)
	}
	sh.setDue(s)
}

// limit is the longest body accepted now.
func (sh *Shard) limit(s *Session) int {
	if s.phase == phaseLive {
		return sh.cfg.MaxFrame
	}
	return codec.LoginLimit
}

func (sh *Shard) malformed(s *Session, err error) {
	reason := "malformed frame"
	if errors.Is(err, codec.ErrTooLarge) {
		reason = "frame longer than the limit"
	} else if errors.Is(err, codec.ErrMagic) {
		reason = "this port speaks GWP/1: wrong magic"
	}
	sh.bye(s, codec.CodeMalformed, reason)
}

// frame does what one frame asks for. It is false when the frame must wait where it is.
func (sh *Shard) frame(s *Session, f codec.Frame) bool {
	if s.phase == phaseNew {
		if f.Type != codec.TypeHello {
			sh.bye(s, codec.CodeMalformed, "the first frame must be HELLO")
			return true
		}
		return sh.hello(s, f)
	}
	err := sh.request(s, f)
	if err != nil {
		sh.malformed(s, err)
	}
	return true
}

var errIllegal = errors.New("a client may not send this")

// request does what a frame of a live session asks for. An error is fatal for the connection.
func (sh *Shard) request(s *Session, f codec.Frame) error {
	switch f.Type {
	case codec.TypeSend:
		return sh.send(s, f)
	case codec.TypePing:
		return sh.ping(s, f)
	case codec.TypePong:
		_, err := codec.ConsumePing(f)
		return err
	case codec.TypeSub:
		return sh.sub(s, f)
	case codec.TypeUnsub:
		return sh.unsub(s, f)
	case codec.TypeState:
		return sh.state(s, f)
	case codec.TypeAck:
		return sh.ack(s, f)
	case codec.TypePull:
		return sh.pull(s, f)
	case codec.TypeList:
		return sh.list(s, f)
	case codec.TypeAuth:
		return sh.reauth(s, f)
	case codec.TypeBye:
		_, err := codec.ConsumeBye(f)
		if err == nil {
			sh.goodbye(s)
		}
		return err
	}
	return sh.unknown(s, f)
}

// goodbye is the client's BYE: what it asked before is answered, then the connection is closed, at the next tick.
func (sh *Shard) goodbye(s *Session) {
	sh.stats.ClosedByPeer++
	sh.logout(s, codec.CodeOK)
	*sh.due.at(s.index) = sh.nowTick
	sh.closing = append(sh.closing, closer{s.index, s.gen})
	sh.flush(s)
}

// unknown treats the types that a later version may add.
func (sh *Shard) unknown(s *Session, f codec.Frame) error {
	switch {
	case f.Type >= codec.FirstUnknownRequest && f.Type <= codec.LastUnknownRequest:
		if len(f.Body) < 4 {
			return codec.ErrTruncated
		}
		ob := sh.outOf(s)
		ob.buf = codec.AppendErr(ob.buf, codec.Err{Req: be.Uint32(f.Body), Code: codec.CodeInvalid, Text: []byte("unknown request")})
		return nil
	case f.Type >= codec.FirstSkippable && f.Type <= codec.LastSkippable:
		return nil
	}
	return errIllegal
}

func (sh *Shard) ping(s *Session, f codec.Frame) error {
	p, err := codec.ConsumePing(f)
	if err != nil {
		return err
	}
	pong := codec.Ping{Data: p.Data}
	if wish, ok := p.Ext.Uint16(codec.TagHeartbeat); ok {
		s.heartbeat = sh.heartbeat(wish, s.class)
		var tlv [4]byte
		pong.Ext = codec.TLVs(tlv[:0]).AppendUint16(codec.TagHeartbeat, s.heartbeat)
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendPong(ob.buf, pong)
	return nil
}
