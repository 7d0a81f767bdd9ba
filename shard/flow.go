package shard

import (
	"gannet/codec"
)

// flow is what a session has of durable messages, 64 bytes without pointers: how far its user's inbox is on the wire, and what became of
// its own sends. A session that has caught up, acknowledged everything and sent nothing has none.
//
// Live means that sent is the head: what a commit brings is delivered. Otherwise nothing is queued for the session
// (but for a short tail while a read is under way): it is fed from the log until it touches the tail.
type flow struct {
	sent       uint64 // the inbox is on its way up to here
	acked      uint64 // the device has acknowledged up to here
	blocked    uint64 // nonce that must come again before any higher one; 0: none
	retryAt    uint32 // when to send again what is not acknowledged, in ticks; 0: never
	next       uint32 // in a free place the next free one, +1
	unanswered uint16 // durable SENDs with the log
	reads      uint16 // PULLs, LISTs and SUBs with the log
	refusal    uint16 // the code that blocked stands for
	state      inboxState
	retries    uint8
	dirty      bool // in Shard.dirty
}

// inboxState is where a session is with its inbox.
type inboxState uint8

const (
	inboxLive   inboxState = iota
	inboxBehind            // it does not read, so nothing is read for it
	inboxReading
)

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

// flowOf returns the session's flow, and makes it: it has everything up to the place before.
func (sh *Shard) flowOf(s *Session, before uint64) *flow {
	if s.flow != 0 {
		return sh.flows.at(s.flow - 1)
	}
	i := sh.freeFlow
	if i != 0 {
		i--
		sh.freeFlow = sh.flows.at(i).next
	} else {
		i = sh.flows.grow()
	}
	f := sh.flows.at(i)
	*f = flow{sent: before, acked: before}
	s.flow = i + 1
	sh.nflows++
	return f
}

// endFlow ends what a session has to do with the log.
func (sh *Shard) endFlow(s *Session) {
	for c := sh.cursors[s.index]; c != nil; c = c.next {
		sh.unwait(c)
		c.dead = true
	}
	sh.markEnd(s)
	delete(sh.cursors, s.index)
	delete(sh.wanted, s.index)
	sh.dropTail(s)
	if s.flow != 0 {
		*sh.flows.at(s.flow - 1) = flow{next: sh.freeFlow}
		sh.freeFlow, s.flow = s.flow, 0
		sh.nflows--
	}
}

func (sh *Shard) dropTail(s *Session) {
	if t := sh.tails[s.index]; t != nil {
		sh.tailed -= len(t.items)
		delete(sh.tails, s.index)
	}
}

// receiver finds the session a delivery is for, also one that waits for its WELCOME.
func (sh *Shard) receiver(ref SessionRef, user []byte) *Session {
	if ref.Slot() >= sh.sessions.n {
		return nil
	}
	s := sh.sessions.at(ref.Slot())
	if s.gen != ref.Gen() || s.phase != phaseLive && s.phase != phaseResume || string(sh.user(s)) != string(user) {
		return nil
	}
	return s
}

// takeMail takes what the log has for this shard.
func (sh *Shard) takeMail() {
	if sh.cfg.Log == nil {
		return
	}
	sh.commits, sh.served = sh.mail.take(sh.commits[:0], sh.served[:0])
	for i, c := range sh.commits {
		sh.takeCommit(c)
		sh.mail.done(c)
		sh.commits[i] = nil
	}
	for i, r := range sh.served {
		sh.takeRead(r)
		sh.served[i] = nil
	}
	sh.tellPositions()
}

func (sh *Shard) takeCommit(c *Commit) {
	sh.items += uint64(len(c.Steps) + len(c.Answers))
	for i := range c.Steps {
		st := &c.Steps[i]
		switch {
		case st.member != nil:
			sh.membership(st.member)
		case st.room != nil:
			sh.enqueue(st.room, st.Frame, st.Born)
		default:
			sh.delivery(&st.Delivery)
		}
	}
	for i := range c.Answers {
		sh.sendAnswer(&c.Answers[i])
	}
}

// delivery takes a message for one session.
func (sh *Shard) delivery(d *Delivery) {
	sh.heard, sh.took = max(sh.heard, d.Place), max(sh.took, d.Place)
	s := sh.receiver(d.Ref, d.User)
	switch {
	case s == nil:
		if d.Frame != nil {
			sh.stats.drop(DropStaleSession, 1)
		}
	case d.Place != 0:
		sh.inboxMessage(s, d)
	case s.phase == phaseLive:
		sh.deliver(s, d.Frame, d.Born)
	}
}

// inboxMessage takes a message of the session's inbox: delivers it when the session is live.
func (sh *Shard) inboxMessage(s *Session, d *Delivery) {
	if s.phase == phaseResume {
		sh.keepTail(s, d)
		return
	}
	f := sh.flowOf(s, d.Place-1)
	switch {
	case d.Place <= f.sent:
		return
	case f.state == inboxReading:
		sh.keepTail(s, d)
		return
	case f.state == inboxBehind:
		return // it will be read
	case d.Frame == nil:
		if f.acked == f.sent {
			f.acked = d.Place
			sh.touchDirty(s, f)
		}
		f.sent = d.Place
	case sh.overLimit(s, len(d.Frame)):
		f.state = inboxBehind
		sh.stats.Behind++
		return
	default:
		gen := s.gen
		f.sent = d.Place
		sh.want(s, d.Frame, d.Place)
		sh.deliverN(s, d.Frame, 1, d.Born)
		if s.gen != gen {
			return
		}
		sh.expectAck(s, f)
	}
	sh.owePos(s)
}

// overLimit says that a reader has so much waiting that nothing more is sent to it live.
func (sh *Shard) overLimit(s *Session, n int) bool {
	if s.flags&flagBacklog == 0 {
		return false
	}
	kept := sh.conn(s).OutboundBuffered() + n
	if s.out != 0 {
		kept += sh.outs[s.out-1].len()
	}
	return kept > sh.liveLimit()
}

// readChunk is how much of a log is read at a time, in bytes: what a reader that does not read is given at most.
func (sh *Shard) readChunk() int { return min(128<<10, sh.cfg.OutLimit/4) }

// canTake says that a reader may be fed from the log.
func (sh *Shard) canTake(s *Session) bool {
	return s.flags&flagBacklog == 0 || sh.conn(s).OutboundBuffered() < sh.readChunk()/2
}

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

// owePos has the session told its position when the turn's messages are on their way.
func (sh *Shard) owePos(s *Session) {
	if s.flags&flagFlush == 0 {
		s.flags |= flagFlush
		sh.posDue = append(sh.posDue, closer{s.index, s.gen})
	}
}

func (sh *Shard) tellPositions() {
	for _, x := range sh.posDue {
		s := sh.sessions.at(x.index)
		if s.gen != x.gen {
			continue
		}
		s.flags &^= flagFlush
		if s.phase == phaseLive && s.flow != 0 {
			ob := sh.outOf(s)
			ob.buf = codec.AppendPos(ob.buf, codec.Pos{InboxPos: sh.flows.at(s.flow - 1).sent})
		}
	}
	sh.posDue = sh.posDue[:0]
}

// expectAck sets the time of the redelivery.
func (sh *Shard) expectAck(s *Session, f *flow) {
	if f.retryAt == 0 {
		f.retryAt = sh.nowTick + ticks(sh.cfg.AckTimeout)<<min(f.retries, 8)
		due := sh.due.at(s.index)
		*due = min(*due, f.retryAt)
	}
}

// redeliver sends what is not acknowledged again when it is time; false when the session ended.
func (sh *Shard) redeliver(s *Session) bool {
	f := sh.flows.at(s.flow - 1)
	if f.retryAt == 0 || f.retryAt > sh.nowTick {
		return true
	}
	f.retryAt = 0
	if f.acked >= f.sent {
		return true
	}
	if int(f.retries) >= sh.cfg.AckRetries {
		sh.bye(s, codec.CodeSlow, "you do not acknowledge what is sent to you")
		return false
	}
	f.retries++
	sh.stats.Redeliveries++
	if f.state == inboxLive {
		f.sent = f.acked
		f.state = inboxBehind
		sh.goOn(s)
	}
	sh.expectAck(s, f)
	return true
}

// goOn feeds a session that can take more.
func (sh *Shard) goOn(s *Session) {
	if s.phase != phaseLive || sh.cfg.Log == nil {
		return
	}
	if s.flow != 0 {
		if f := sh.flows.at(s.flow - 1); f.state == inboxBehind && sh.canTake(s) {
			sh.readInbox(s, f)
		}
	}
	for c := sh.cursors[s.index]; c != nil; c = c.next {
		if c.state == cursorBehind && sh.canTake(s) {
			sh.readLog(c)
		}
	}
}

// readInbox asks for what the inbox has above what was sent.
func (sh *Shard) readInbox(s *Session, f *flow) {
	sh.dropTail(s) // what arrived before the read begins is readable
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
			sh.stats.drop(DropLogFull, 1)
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
	if r.Ref.Slot() >= sh.sessions.n {
		return
	}
	s := sh.sessions.at(r.Ref.Slot())
	if s.gen != r.Ref.Gen() {
		return
	}
	switch {
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
	f := sh.flowOf(s, r.After)
	if f.state != inboxReading {
		return
	}
	if r.Code != codec.CodeOK || r.After != f.sent {
		f.state = inboxBehind // tried again at the next tick
		sh.later(s)
		return
	}
	sh.feedInbox(s, f, r)
}

// feedInbox sends a chunk of the inbox.
func (sh *Shard) feedInbox(s *Session, f *flow, r *Read) {
	gen := s.gen
	sh.heard = max(sh.heard, r.Covered)
	f.sent = max(f.sent, r.Covered)
	if len(r.Frames) > 0 {
		sh.wantAll(s, r.Frames, f.sent)
		sh.feed(s, r)
		if s.gen != gen {
			return
		}
		sh.expectAck(s, f)
	} else if f.acked == r.After {
		f.acked = f.sent // nothing was there
	}
	sh.owePos(s)
	t := sh.tails[s.index]
	switch {
	case r.More || t != nil && t.lost:
		if f.state = inboxBehind; sh.canTake(s) {
			sh.readInbox(s, f)
		} else {
			sh.stats.Behind++
		}
	default:
		f.state = inboxLive
		if t != nil {
			delete(sh.tails, s.index)
			sh.tailed -= len(t.items)
			for i := range t.items {
				if sh.inboxMessage(s, &t.items[i]); s.gen != gen || s.phase != phaseLive {
					return
				}
			}
		}
	}
}

// feed sends what was read from a log: it is not dropped, whoever reads slowly is not read for.
func (sh *Shard) feed(s *Session, r *Read) {
	ob := sh.outOf(s)
	ob.share(r.Frames)
	ob.n += r.N
	if ob.born == 0 {
		ob.born = sh.now
	}
	sh.stats.CaughtUp += uint64(r.N)
	if ob.len() > flushOne {
		sh.flush(s)
	}
}

// later has the session looked at again by sweepBehind.
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
