package shard

import "gannet/codec"

// Feeding: what a session does not get live it gets in chunks read from the log, one after the other, as fast as it reads them.

// tail is what arrives for a session while its inbox is read.
type tail struct {
	items []Delivery
	lost  bool // it was too much: the log must be read again
}

// Bounds of the tails.
const (
	tailMax  = 64    // messages of one session
	tailsMax = 65536 // and of all of a shard
)

func (sh *Shard) keepTail(s *Session, d *Delivery) {
	t := sh.tails[s.index]
	if t == nil {
		t = &tail{}
		sh.tails[s.index] = t
	}
	if t.lost {
		return
	}
	if len(t.items) >= tailMax || sh.tailed >= tailsMax {
		sh.tailed -= len(t.items)
		*t = tail{lost: true}
		return
	}
	t.items = append(t.items, *d)
	sh.tailed++
}

func (sh *Shard) dropTail(s *Session) {
	if t := sh.tails[s.index]; t != nil {
		sh.tailed -= len(t.items)
		delete(sh.tails, s.index)
	}
}

// waiting is how many bytes wait for a session: those that the kernel did not take, and those of this turn.
func (sh *Shard) waiting(s *Session) (n int) {
	if s.flags&flagBacklog != 0 {
		n = sh.conn(s).OutboundBuffered()
	}
	if s.out != 0 {
		n += sh.outs[s.out-1].len()
	}
	return n
}

// overLimit says that a reader that does not keep up has so much waiting that n bytes more are not sent to it live.
func (sh *Shard) overLimit(s *Session, n int) bool {
	if s.flags&flagBacklog == 0 {
		return false
	}
	kept := sh.waiting(s)
	return kept > 0 && kept+n > sh.liveLimit()
}

// readChunk is how much of a log is read at a time, in bytes: what a reader that does not read is given at most.
func (sh *Shard) readChunk() int { return min(128<<10, sh.cfg.OutLimit/4) }

// canTake says that a reader may be fed from the log; while readers together are over their budget, only who has read everything.
func (sh *Shard) canTake(s *Session) bool {
	limit := sh.readChunk() / 2
	if sh.backBytes > sh.cfg.OutBudget {
		limit = 1
	}
	return s.flags&flagBacklog == 0 || sh.conn(s).OutboundBuffered() < limit
}

// crowded says that a chunk of n bytes finds no room any more, because of what was sent since it was asked for. It will be read again.
func (sh *Shard) crowded(s *Session, n int) bool {
	kept := sh.waiting(s)
	return n > 0 && kept > 0 && kept+n > sh.cfg.OutLimit-sh.cfg.OutLimit/16
}

// goOn feeds a session that can take more: of its inbox, and of one of the logs that it reads itself. Groups wait for the inbox,
// because a group that grew has its older messages there.
func (sh *Shard) goOn(s *Session) {
	if s.phase != phaseLive || sh.cfg.Log == nil {
		return
	}
	live := true
	if s.flow != 0 {
		f := sh.flows.at(s.flow - 1)
		if f.state == inboxBehind && sh.canTake(s) {
			sh.readInbox(s, f)
		}
		live = f.state == inboxLive
	}
	if len(sh.cursors) == 0 || s.flags&flagReading != 0 {
		return
	}
	for c := sh.cursors[s.index]; c != nil; c = c.next {
		if c.state == cursorBehind && (live || sh.rooms[c.room].topic.kind != codec.KindGroup) {
			if sh.canTake(s) {
				sh.readLog(s, c)
			}
			return
		}
	}
}

// readInbox asks for what the inbox has above what was sent.
func (sh *Shard) readInbox(s *Session, f *flow) {
	f.state = inboxReading
	sh.ask(&Read{Op: ReadInbox, Ref: sh.ref(s), User: string(sh.user(s)), After: f.sent, MaxBytes: sh.readChunk()})
}

// ask collects a read for the end of the pass.
func (sh *Shard) ask(r *Read) {
	sh.reads = append(sh.reads, r)
	sh.schedule()
}

// submitAll hands over what the turn has for the log. What is not taken is refused, reads of logs are tried again later.
func (sh *Shard) submitAll() {
	log := sh.cfg.Log
	if log == nil {
		return
	}
	if len(sh.entries) > 0 {
		n := log.Submit(sh.entries)
		for i := n; i < len(sh.entries); i++ {
			e := &sh.entries[i]
			sh.sendAnswer(&Answer{Ref: e.Ref, Nonce: e.Nonce, Req: e.Req, Time: sh.nowMilli, Code: codec.CodeBusy})
		}
		clear(sh.entries)
		if sh.entries = sh.entries[:0]; cap(sh.entries) > keepOuts {
			sh.entries = nil
		}
	}
	sh.handMarks()
	if len(sh.reads) > 0 {
		n := log.Read(sh.reads)
		refused := sh.reads[n:]
		sh.reads = nil
		for _, r := range refused {
			r.Code = codec.CodeBusy
			sh.stats.ReadsRefused++
			sh.takeRead(r)
		}
	}
}

// takeRead takes an answered read, or one that the log did not take: Code is BUSY then.
func (sh *Shard) takeRead(r *Read) {
	s := sh.resolveAny(r.Ref)
	switch {
	case s == nil:
	case r.Op == ReadResume:
		if s.phase == phaseResume {
			sh.resumed(s, r)
		}
	case s.phase != phaseLive:
	case r.Op == ReadInbox:
		sh.inboxRead(s, r)
	case r.Op == ReadLog:
		sh.logRead(s, r)
	default:
		sh.requestServed(s, r)
	}
}

// inboxRead sends what was read, and goes on, waits for the reader, or becomes live.
func (sh *Shard) inboxRead(s *Session, r *Read) {
	if s.flow == 0 {
		return
	}
	f := sh.flows.at(s.flow - 1)
	switch {
	case f.state != inboxReading:
	case r.Code != codec.CodeOK || r.After != f.sent || sh.crowded(s, len(r.Frames)):
		f.state = inboxBehind
		sh.dropTail(s) // it is in what will be read
		sh.later(s)
	default:
		sh.feedInbox(s, f, r)
	}
}

// feedInbox sends a chunk of the inbox.
func (sh *Shard) feedInbox(s *Session, f *flow, r *Read) {
	gen := s.gen
	sh.heard = max(sh.heard, r.Covered)
	f.sent = max(f.sent, r.Covered)
	f.high = max(f.high, f.sent)
	if len(r.Frames) > 0 {
		sh.wantAll(s, r.Frames, f.sent)
		if sh.feed(s, r); !s.alive(gen) {
			return
		}
		sh.expectAck(s, f)
	} else if f.acked == r.After && f.acked != f.sent {
		f.acked = f.sent // nothing was there
		sh.touchDirty(s, f)
	}
	sh.owePos(s)
	t := sh.tails[s.index]
	if r.More || t != nil && t.lost {
		sh.dropTail(s)
		f.state = inboxBehind
		switch {
		case r.More && r.Covered <= r.After:
			sh.later(s) // nothing came of it
		case sh.canTake(s):
			sh.readInbox(s, f)
		default:
			sh.stats.Behind++
		}
		return
	}
	f.state = inboxLive
	if t != nil {
		sh.dropTail(s)
		for i := range t.items {
			if sh.inboxMessage(s, &t.items[i]); !s.alive(gen) {
				return
			}
		}
	}
	sh.goOn(s) // groups have waited for it
}

// feed sends what was read from a log: it is not dropped, whoever reads slowly is not read for.
func (sh *Shard) feed(s *Session, r *Read) {
	ob := sh.outOf(s)
	ob.share(r.Frames)
	if ob.n += r.N; ob.born == 0 {
		ob.born = sh.now
	}
	sh.stats.CaughtUp += uint64(r.N)
	sh.spillOut(s, ob, len(r.Frames))
}

// later has the session looked at again at the next tick.
func (sh *Shard) later(s *Session) { sh.retry = append(sh.retry, closer{s.index, s.gen}) }

// sweepBehind tries the reads again that the log could not serve.
func (sh *Shard) sweepBehind() {
	retry := sh.retry
	sh.retry = nil
	for _, x := range retry {
		if s := sh.sessions.at(x.index); s.gen == x.gen {
			sh.goOn(s)
		}
	}
}
