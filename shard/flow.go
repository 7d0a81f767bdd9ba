package shard

import "gannet/codec"

// flow is what a session has of durable messages, 56 bytes without pointers: how far its user's inbox is on the wire, and what became
// of its own sends. A session that has caught up, acknowledged everything and waits for nothing has none.
//
// Live means that sent is the head: what a commit brings is delivered. Otherwise nothing is queued for the session
// (but for a short tail while a read is under way): it is fed from the log until it touches the tail.
type flow struct {
	sent       uint64 // the inbox is on its way up to here; 0: nothing of it concerned the session since the flow was made
	high       uint64 // and was once: higher than sent while it is sent again
	acked      uint64 // the device has acknowledged up to here
	blocked    uint64 // nonce that must come again before any higher one; 0: none
	retryAt    uint32 // when to send again what is not acknowledged, in ticks; 0: never
	next       uint32 // in a free place the next free one, +1
	unanswered uint16 // durable SENDs with the log
	reads      uint16 // PULLs, LISTs and SUBs with the log
	refusal    uint16 // the code that blocked stands for
	state      inboxState
	retries    uint8
	dirty      dirtiness
	quiet      uint8 // seconds for which handed lasts
}

// inboxState is where a session is with its inbox.
type inboxState uint8

const (
	inboxLive   inboxState = iota
	inboxBehind            // it does not read, so nothing is read for it
	inboxReading
)

// dirtiness is what the next sweep of positions does with a flow: all but the first are in Shard.dirty.
type dirtiness uint8

const (
	clean  dirtiness = iota
	moved            // the position is to be handed to the log
	handed           // it was; the flow goes when it is known to be settled
)

// settleAfter is how many seconds a flow outlives its last acknowledgement at most.
const settleAfter = 60

// settled says that no commit is on its way any more to this shard that the session got already, from the log: without its flow it would
// get it twice.
func (sh *Shard) settled(f *flow) bool { return f.sent <= sh.took || f.quiet >= settleAfter }

// flowOf returns the session's flow, or makes it. The session has everything of its inbox up to the place before.
func (sh *Shard) flowOf(s *Session, before uint64) *flow {
	if s.flow != 0 {
		f := sh.flows.at(s.flow - 1)
		if f.state == inboxLive && f.acked == f.sent && before > f.sent {
			f.sent, f.high, f.acked = before, max(f.high, before), before // what lies between was for others
		}
		return f
	}
	i := sh.freeFlow
	if i != 0 {
		i--
		sh.freeFlow = sh.flows.at(i).next
	} else {
		i = sh.flows.grow()
	}
	f := sh.flows.at(i)
	*f = flow{sent: before, high: before, acked: before}
	s.flow = i + 1
	sh.nflows++
	return f
}

// dropFlow gives the flow's place back.
func (sh *Shard) dropFlow(s *Session) {
	if s.flow != 0 {
		*sh.flows.at(s.flow - 1) = flow{next: sh.freeFlow}
		sh.freeFlow, s.flow = s.flow, 0
		sh.nflows--
	}
}

// rest forgets a flow that says nothing.
func (sh *Shard) rest(s *Session) {
	if s.flow == 0 || s.flags&flagPos != 0 {
		return
	}
	f := sh.flows.at(s.flow - 1)
	if f.state == inboxLive && f.acked >= f.sent && f.blocked == 0 && f.unanswered == 0 && f.reads == 0 && f.dirty == clean && sh.settled(f) {
		sh.dropFlow(s)
	}
}

// endFlow ends what a session has to do with the log.
func (sh *Shard) endFlow(s *Session) {
	for c := sh.cursors[s.index]; c != nil; c = sh.cursors[s.index] {
		sh.unlink(s, c)
	}
	s.flags &^= flagAllAway
	sh.markEnd(s)
	delete(sh.wanted, s.index)
	delete(sh.changes, s.index)
	sh.dropTail(s)
	sh.dropFlow(s)
}

// alive says that a session did not end in what was done since gen was its generation.
func (s *Session) alive(gen uint32) bool { return s.gen == gen && s.phase == phaseLive }

// receiver finds the session a delivery is for, also one that waits for its WELCOME.
func (sh *Shard) receiver(ref SessionRef, user []byte) *Session {
	if s := sh.resolveAny(ref); s != nil && string(sh.user(s)) == string(user) {
		return s
	}
	return nil
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
		f.sent, f.high = d.Place, max(f.high, d.Place)
	case sh.overLimit(s, len(d.Frame)):
		f.state = inboxBehind
		sh.stats.Behind++
		return
	default:
		gen := s.gen
		f.sent, f.high = d.Place, max(f.high, d.Place)
		sh.want(s, d.Frame, d.Place)
		if sh.deliver(s, d.Frame, d.Born); !s.alive(gen) {
			return
		}
		sh.expectAck(s, f)
	}
	sh.owePos(s)
}

// owePos has the session told its position when the turn's messages are on their way.
func (sh *Shard) owePos(s *Session) {
	if s.flags&flagPos == 0 {
		s.flags |= flagPos
		sh.posDue = append(sh.posDue, closer{s.index, s.gen})
	}
}

func (sh *Shard) tellPositions() {
	for _, x := range sh.posDue {
		s := sh.sessions.at(x.index)
		if s.gen != x.gen {
			continue
		}
		s.flags &^= flagPos
		if s.phase == phaseLive && s.flow != 0 {
			ob := sh.outOf(s)
			ob.buf = codec.AppendPos(ob.buf, codec.Pos{InboxPos: sh.flows.at(s.flow - 1).high})
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
		delete(sh.wanted, s.index) // they are met again
		sh.goOn(s)
	}
	sh.expectAck(s, f)
	return true
}
