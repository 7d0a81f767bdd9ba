package shard

// Waits says that answers are under way for a session: a login, or requests that the log has.
func (sh *Shard) Waits(s *Session) bool {
	switch s.phase {
	case phaseAuth, phaseResume:
		return true
	case phaseLive:
		if s.flow == 0 {
			return false
		}
		f := sh.flows.at(s.flow - 1)
		return f.unanswered > 0 || f.reads > 0
	}
	return false
}

// HalfClosed tells that the peer of a session that waits for answers sends no more. The session goes on with c, which has what came and
// was not taken yet, until the answers are written, at most LingerTimeout.
func (sh *Shard) HalfClosed(s *Session, c Conn) {
	sh.begin()
	*sh.conns.at(s.index) = c
	s.flags |= flagHalf
	sh.halves = append(sh.halves, slowReader{s.index, s.gen, sh.nowTick + ticks(sh.cfg.LingerTimeout)})
}

// sweepHalves closes the sessions whose peer sends no more, when they have their answers.
func (sh *Shard) sweepHalves() {
	kept := sh.halves[:0]
	for _, x := range sh.halves {
		s := sh.sessions.at(x.index)
		switch {
		case s.gen != x.gen || s.phase == phaseClosing: // ended, or ends by itself
		case sh.Waits(s) && sh.nowTick < x.slow:
			kept = append(kept, x)
		default:
			sh.flush(s)
			if s.gen == x.gen {
				sh.stats.ClosedByPeer++
				sh.kill(s)
			}
		}
	}
	sh.halves = kept
}
