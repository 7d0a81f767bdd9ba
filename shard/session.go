package shard

import "gannet/codec"

// Open takes a new connection. The session is what Traffic and Closed want back; it stays good until Closed.
func (sh *Shard) Open(c Conn) *Session {
	sh.begin()
	i := sh.free
	if i != 0 {
		i--
		sh.free = sh.sessions.at(i).out
	} else {
		i = sh.sessions.grow()
		sh.conns.grow()
		sh.due.grow()
	}
	s := sh.sessions.at(i)
	*s = Session{index: i, gen: max(s.gen, 1), phase: phaseNew, seen: sh.nowTick}
	*sh.conns.at(i) = c
	sh.stats.Opened++
	sh.stats.Connections++
	sh.setDue(s)
	return s
}

// Closed tells that c is closed, whoever closed it. It may be called while the shard writes to c.
func (sh *Shard) Closed(s *Session, c Conn) {
	if s.phase == phaseFree || sh.conn(s) != c {
		return // the shard closed it itself
	}
	if s.phase != phaseClosing {
		sh.stats.ClosedByPeer++
	}
	sh.release(s)
	sh.schedule()
}

// release gives the place back.
func (sh *Shard) release(s *Session) {
	if s.out != 0 {
		sh.dropOut(s)
	}
	sh.logout(s, codec.CodeOK)
	*sh.conns.at(s.index) = nil
	*sh.due.at(s.index) = 0
	s.phase, s.flags = phaseFree, 0
	if s.gen++; s.gen > maxGen {
		s.gen = 1
	}
	s.out, sh.free = sh.free, s.index+1
	sh.stats.Connections--
}

// maxGen is the highest generation a SessionRef can hold.
const maxGen = 1<<28 - 1

// logout takes a session out of everything that others see. code is why; it is told to an embedding program.
func (sh *Shard) logout(s *Session, code codec.Code) {
	if s.phase != phaseLive && s.phase != phaseResume {
		return
	}
	if sh.cfg.Log != nil {
		sh.endFlow(s)
	}
	if sh.cfg.Events&EventOffline != 0 {
		sh.event(s, EventOffline, code)
	}
	sh.node.dir.Remove(sh.node.dir.Hash(sh.user(s)), sh.ref(s))
	for s.subs != 0 {
		sh.leave(s, s.subs-1)
	}
	if s.flags&flagStates != 0 {
		sh.endStates(s)
	}
	sh.dropRights(s.rights)
	sh.names.drop(s.name, int(s.userLen)+int(s.deviceLen))
	s.phase = phaseClosing
	sh.stats.Sessions--
}

func (sh *Shard) event(s *Session, kind EventKind, code codec.Code) {
	sh.node.host.Event(Event{
		Kind: kind, Session: s.id, User: string(sh.user(s)), Device: string(sh.device(s)),
		Class: s.class, Code: code,
	})
}

// closer names a use of a place: a session that got its BYE, or one with a backlog.
type closer struct{ index, gen uint32 }

// slowReader is a session whose connection has a backlog; slow is when it was last below half of the limit, in ticks.
type slowReader struct{ index, gen, slow uint32 }

// Window that BYE gives to clients that should come back, in milliseconds.
func byeWindow(code codec.Code) (retry uint8, minMs, maxMs uint32) {
	switch code {
	case codec.CodeDraining:
		return 1, 1000, 15000
	case codec.CodeOverloaded:
		return 1, 2000, 30000
	case codec.CodeSlow, codec.CodeInternal:
		return 1, 1000, 10000
	}
	if code.Reconnect() {
		return 1, 0, 5000
	}
	return 0, 0, 0
}

// AppendBye appends the BYE for code with the window that belongs to it.
func AppendBye(dst []byte, code codec.Code, reason string) []byte {
	retry, lo, hi := byeWindow(code)
	return codec.AppendBye(dst, codec.Bye{Code: code, Retry: retry, MinMs: lo, MaxMs: hi, Reason: []byte(reason)})
}

// bye ends a session: what waits for it is written, then BYE, then the writing side is closed; what the peer still
// sends is discarded until it closes, at most LingerTimeout. (Closing with unread bytes would reset the
// connection, and the peer could lose the BYE.)
func (sh *Shard) bye(s *Session, code codec.Code, reason string) {
	if s.phase == phaseFree || s.phase == phaseClosing {
		return
	}
	sh.stats.bye(code)
	c, gen := sh.conn(s), s.gen
	if code >= 300 || code == codec.CodeSlow {
		sh.node.host.Refused(c, code, reason)
	}
	ob := sh.outOf(s)
	ob.buf = AppendBye(ob.buf, code, reason)
	sh.logout(s, code)
	s.phase = phaseClosing
	*sh.due.at(s.index) = sh.nowTick + ticks(sh.cfg.LingerTimeout)
	sh.flush(s)
	if s.gen != gen {
		return // the write failed and closed it
	}
	sh.closing = append(sh.closing, closer{s.index, gen})
	sh.shut(s, c)
	sh.schedule()
}

// shut closes the writing side as soon as everything is with the kernel.
func (sh *Shard) shut(s *Session, c Conn) {
	if s.flags&flagShut == 0 && c.OutboundBuffered() == 0 {
		s.flags |= flagShut
		sh.loop.CloseWrite(c)
	}
}

// kill closes a connection at once.
func (sh *Shard) kill(s *Session) {
	c := sh.conn(s)
	sh.release(s)
	sh.loop.Close(c)
}

// sweepClosing goes through the sessions that got their BYE.
func (sh *Shard) sweepClosing() {
	kept := sh.closing[:0]
	for _, x := range sh.closing {
		s := sh.sessions.at(x.index)
		if s.gen != x.gen {
			continue
		}
		if *sh.due.at(x.index) <= sh.nowTick {
			sh.kill(s)
			continue
		}
		sh.shut(s, sh.conn(s))
		kept = append(kept, x)
	}
	sh.closing = kept
}

// idleAfter is the silence after which a session is closed: one and a half heartbeats, at least ten seconds
// after the PING.
func idleAfter(heartbeat uint16) uint32 {
	hb := uint32(heartbeat) * 10
	return max(hb+hb/2, hb+100)
}

// setDue computes the next deadline of a session from everything that it waits for.
func (sh *Shard) setDue(s *Session) {
	var d uint32
	switch s.phase {
	case phaseNew, phaseAuth, phaseResume:
		d = s.seen + ticks(sh.cfg.LoginTimeout)
	case phaseLive:
		if d = s.seen + uint32(s.heartbeat)*10; s.flags&flagPinged != 0 {
			d = s.seen + idleAfter(s.heartbeat)
		}
		if s.expires != 0 {
			d = min(d, s.expires)
		}
		if s.partial != 0 {
			d = min(d, s.partial)
		}
		if s.flow != 0 {
			if at := sh.flows.at(s.flow - 1).retryAt; at != 0 {
				d = min(d, at)
			}
		}
	default:
		return
	}
	*sh.due.at(s.index) = d
}

// onDue does what a session's deadline asks for.
func (sh *Shard) onDue(s *Session) {
	switch s.phase {
	case phaseNew:
		sh.bye(s, codec.CodeTimeout, "no HELLO in time")
		return
	case phaseAuth:
		sh.bye(s, codec.CodeOverloaded, "the credential could not be judged in time")
		return
	case phaseResume:
		sh.bye(s, codec.CodeOverloaded, "where you go on could not be read in time")
		return
	case phaseLive:
	default:
		return
	}
	now := sh.nowTick
	switch {
	case s.expires != 0 && now >= s.expires:
		sh.bye(s, codec.CodeExpired, "the credential expired; log in with a fresh one")
		return
	case s.partial != 0 && now >= s.partial:
		sh.bye(s, codec.CodeTimeout, "a frame was left unfinished")
		return
	case now-s.seen >= idleAfter(s.heartbeat):
		sh.bye(s, codec.CodeIdle, "no heartbeat")
		return
	case now-s.seen >= uint32(s.heartbeat)*10 && s.flags&flagPinged == 0:
		s.flags |= flagPinged
		ob := sh.outOf(s)
		ob.buf = codec.AppendPing(ob.buf, codec.Ping{})
		sh.stats.Pings++
	}
	if s.flow != 0 && !sh.redeliver(s) {
		return
	}
	sh.setDue(s)
}
