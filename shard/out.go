package shard

import "gannet/codec"

// outBuf is what a turn has for one connection. Small pieces are copied side by side (100 bytes copied cost less
// than an iovec), large ones are shared slices written with Writev.
type outBuf struct {
	index uint32 // of the session; noSession when it ended
	n     int    // messages in it
	born  int64  // when the oldest of them was received
	buf   []byte
	segs  [][]byte // with a shared piece in it: everything before buf[from:]
	from  int
	large int // bytes in shared pieces
}

const (
	noSession  = ^uint32(0)
	shareAbove = 4 << 10  // bytes from which a piece is shared instead of copied
	keepBuf    = 64 << 10 // capacity up to which a buffer is used again
	keepOuts   = 4096
	flushAbove = 4 << 20 // bytes waiting in a turn above which they are written before its end
	flushOne   = 256 << 10
)

func (ob *outBuf) len() int { return len(ob.buf) + ob.large }

// share adds a piece that will not change again.
func (ob *outBuf) share(p []byte) {
	if len(p) < shareAbove {
		ob.buf = append(ob.buf, p...)
		return
	}
	if len(ob.buf) > ob.from {
		ob.segs = append(ob.segs, ob.buf[ob.from:len(ob.buf):len(ob.buf)])
	}
	ob.segs = append(ob.segs, p)
	ob.from = len(ob.buf)
	ob.large += len(p)
}

func (ob *outBuf) reset() {
	clear(ob.segs)
	if cap(ob.buf) > keepBuf {
		ob.buf = nil
	}
	*ob = outBuf{index: noSession, buf: ob.buf[:0], segs: ob.segs[:0]}
}

// outOf returns the session's out buffer of this turn. It is good until the next call.
func (sh *Shard) outOf(s *Session) *outBuf {
	if s.phase == phaseFree { // its connection failed in a write of this turn
		sh.void.reset()
		return &sh.void
	}
	if s.out != 0 {
		return &sh.outs[s.out-1]
	}
	n := len(sh.outs)
	if n < cap(sh.outs) {
		sh.outs = sh.outs[:n+1]
	} else {
		sh.outs = append(sh.outs, outBuf{})
	}
	ob := &sh.outs[n]
	ob.reset()
	ob.index = s.index
	s.out = uint32(n) + 1
	sh.schedule()
	return ob
}

// reply adds the answer to a request. Answers are not dropped: a peer that asks and does not read ends with SLOW.
func (sh *Shard) reply(s *Session, frame []byte) { sh.outOf(s).share(frame) }

// deliver adds a message for a session, unless its backlog is at the limit.
func (sh *Shard) deliver(s *Session, frames []byte, born int64) { sh.deliverN(s, frames, 1, born) }

func (sh *Shard) deliverN(s *Session, frames []byte, n int, born int64) {
	if sh.overLimit(s, len(frames)) {
		sh.stats.drop(DropSlowReader, n)
		return
	}
	ob := sh.outOf(s)
	ob.share(frames)
	if ob.n == 0 || born < ob.born {
		ob.born = born
	}
	ob.n += n
	sh.spillOut(s, ob, len(frames))
}

// spillOut notes that n bytes were added to a session's out buffer, and writes what is too much to wait for the end of the turn.
func (sh *Shard) spillOut(s *Session, ob *outBuf, n int) {
	sh.outBytes += n
	if ob.len() > flushOne {
		sh.flush(s)
	} else if sh.outBytes > flushAbove {
		sh.flushAll()
	}
}

// liveLimit is the backlog above which messages are dropped: three quarters of OutLimit, so that answers still have room; an
// eighth of that while the shard's readers together are over their budget.
func (sh *Shard) liveLimit() int {
	l := sh.cfg.OutLimit / 4 * 3
	if sh.backBytes > sh.cfg.OutBudget {
		l /= 8
	}
	return l
}

// flushAll writes what waits, one write a connection.
func (sh *Shard) flushAll() {
	if len(sh.outs) == 0 {
		return
	}
	now := sh.now
	for i := 0; i < len(sh.outs); i++ {
		if i%64 == 0 {
			now = sh.node.clock.Now()
		}
		if ob := &sh.outs[i]; ob.index != noSession {
			s := sh.sessions.at(ob.index)
			s.out = 0
			sh.write(s, ob, now)
		}
		sh.outs[i].reset()
	}
	if len(sh.outs) > keepOuts {
		sh.outs = nil
	}
	sh.outs = sh.outs[:0]
	sh.outBytes = 0
}

// flush writes what waits for one session.
func (sh *Shard) flush(s *Session) {
	if s.out == 0 {
		return
	}
	i := s.out - 1
	s.out = 0
	sh.outBytes -= min(sh.outBytes, sh.outs[i].len())
	sh.write(s, &sh.outs[i], sh.node.clock.Now())
	sh.outs[i].reset() // not through a pointer: a BYE may have moved outs
}

func (sh *Shard) dropOut(s *Session) {
	sh.outs[s.out-1].reset()
	s.out = 0
}

// write hands an out buffer to the connection. The session may have ended when it returns. Nothing that a failed
// write calls adds to outs, so ob does not move under a write.
func (sh *Shard) write(s *Session, ob *outBuf, now int64) {
	c, size := sh.conn(s), ob.len()
	if size == 0 {
		return
	}
	if s.phase == phaseLive && s.flags&flagBacklog != 0 && c.OutboundBuffered() > 0 && c.OutboundBuffered()+size > sh.cfg.OutLimit {
		sh.stats.drop(DropSlowReader, ob.n)
		ob.reset() // it would not be read
		sh.bye(s, codec.CodeSlow, "you ask but do not read")
		return
	}
	if len(ob.segs) == 0 {
		sh.writeTo(s, c, ob.buf)
	} else {
		if len(ob.buf) > ob.from {
			ob.segs = append(ob.segs, ob.buf[ob.from:])
		}
		sh.writevTo(s, c, ob.segs, size)
	}
	if ob.n > 0 {
		sh.stats.Deliveries += uint64(ob.n)
		sh.stats.latency(now-ob.born, ob.n)
	}
}

// iovMax is the largest number of pieces one writev takes.
const iovMax = 1024

func (sh *Shard) writevTo(s *Session, c Conn, segs [][]byte, size int) {
	gen := s.gen
	for len(segs) > 0 && s.gen == gen {
		n := min(len(segs), iovMax)
		_, _ = c.Writev(segs[:n]) // a failed write has closed the connection
		segs = segs[n:]
	}
	sh.written(s, c, gen, size)
}

func (sh *Shard) writeTo(s *Session, c Conn, p []byte) {
	gen := s.gen
	_, _ = c.Write(p) // a failed write has closed the connection
	sh.written(s, c, gen, len(p))
}

func (sh *Shard) written(s *Session, c Conn, gen uint32, size int) {
	sh.stats.Writes++
	sh.stats.BytesOut += uint64(size)
	if s.gen == gen && s.flags&flagBacklog == 0 && c.OutboundBuffered() > 0 {
		s.flags |= flagBacklog
		sh.backlog = append(sh.backlog, slowReader{s.index, gen, sh.nowTick})
	}
}

// sweepBacklog is the ladder's clock: who stays over half of OutLimit for SlowTimeout is told SLOW. Messages for it were
// dropped and counted meanwhile.
func (sh *Shard) sweepBacklog() {
	sh.backBytes = 0
	kept := sh.backlog[:0]
	for _, x := range sh.backlog {
		s := sh.sessions.at(x.index)
		if s.gen != x.gen {
			continue // ended, perhaps used again
		}
		n := sh.conn(s).OutboundBuffered()
		if n == 0 {
			s.flags &^= flagBacklog
			sh.goOn(s)
			continue
		}
		sh.backBytes += n
		switch {
		case n < sh.cfg.OutLimit/2:
			x.slow = sh.nowTick
			sh.goOn(s)
		case s.phase == phaseLive && sh.nowTick-x.slow >= ticks(sh.cfg.SlowTimeout):
			sh.bye(s, codec.CodeSlow, "you do not read what is sent to you")
		}
		kept = append(kept, x)
	}
	sh.backlog = kept
}
