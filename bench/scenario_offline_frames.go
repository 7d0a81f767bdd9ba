package bench

import (
	"math/rand/v2"
	"time"

	"gannet/codec"
)

// ackFrame is the length of an ACK of an inbox position.
const ackFrame = codec.HeaderLen + 1 + 8 + 2

// greet has a device go on where it was.
func (l *offlineLoop) greet(c *conn, h *codec.Hello) {
	p := &l.parties[c.slot]
	h.InboxEpoch, h.InboxPos = p.epoch, p.pos
}

// handle acts on one frame.
func (l *offlineLoop) handle(c *conn, f codec.Frame, now int64) error {
	if c.state == stateLeaving {
		return nil
	}
	switch f.Type {
	case codec.TypeMsg:
		return l.message(c, f, now)
	case codec.TypePos:
		return l.position(c, f)
	case codec.TypeSendAck:
		return l.answered(c, f, now)
	case codec.TypeWelcome:
		return l.welcome(c, f, now)
	case codec.TypeGap:
		g, err := codec.ConsumeGap(f)
		if err == nil && l.catchingUp(c) {
			l.gaps.add(g.Reason)
		}
		return err
	case codec.TypeBye:
		b, err := codec.ConsumeBye(f)
		if err != nil {
			return err
		}
		l.heed(&l.parties[c.slot], b, now)
	}
	return l.loop.handle(c, f, now)
}

// catchingUp says that c is a device that has come back.
func (l *offlineLoop) catchingUp(c *conn) bool {
	return l.stage >= stageReturn && l.plan.role(c.index) == roleDevice
}

// heed has a party come back when a BYE says, or never.
func (l *offlineLoop) heed(p *party, b codec.Bye, now int64) {
	if b.Retry != 1 {
		p.final = true
		return
	}
	lo := min(time.Duration(b.MinMs)*time.Millisecond, longestWindow)
	hi := min(time.Duration(b.MaxMs)*time.Millisecond, longestWindow)
	p.told = now + 1 + int64(lo)
	if hi > lo {
		p.told += rand.Int64N(int64(hi - lo))
	}
}

// welcome is the loop's; a device that was only to be known leaves.
func (l *offlineLoop) welcome(c *conn, f codec.Frame, now int64) error {
	w, err := codec.ConsumeWelcome(f)
	if err != nil {
		return err
	}
	if c.state != stateGreeting || !c.waitWelcome {
		return errUnexpected
	}
	c.waitWelcome = false
	c.limit = min(max(w.MaxFrame, codec.LoginLimit), codec.MaxBody)
	l.entered(c, now)
	p := &l.parties[c.slot]
	p.tries, p.epoch = 0, w.InboxEpoch
	switch {
	case p.out != nil:
		p.out.limit = uint64(len(p.out.dues))
		if w.Window != 0 {
			p.out.limit = min(p.out.limit, uint64(w.Window))
		}
		if l.stage == stageMeet {
			l.finish(p)
		}
		l.pump(c, now)
	case l.stage == stageMeet:
		p.pos, p.met, p.due = w.InboxHead, true, now
		l.n.up--
		l.leaving++
		c.state = stateLeaving
		l.sayBye(c)
	default:
		l.states.add(w.InboxState)
		l.meters[qLogin].record(now - p.due)
	}
	return nil
}

// position notes where the party is in its inbox, and acknowledges it.
func (l *offlineLoop) position(c *conn, f codec.Frame) error {
	at, err := codec.ConsumePos(f)
	if err != nil {
		return err
	}
	l.parties[c.slot].pos = at.InboxPos
	out, ok := l.output(c, ackFrame)
	if !ok {
		l.n.control++
		return nil
	}
	c.out = codec.AppendAck(out, codec.Ack{Mode: codec.AckDelivered, InboxPos: at.InboxPos})
	return nil
}

// message counts a MSG, of what was missed or of the live traffic.
func (l *offlineLoop) message(c *conn, f codec.Frame, now int64) error {
	m, err := codec.ConsumeMsg(f)
	if err != nil {
		return err
	}
	s, ok := readStamp(m.Payload)
	stream := s.stream ^ l.salt
	switch role := l.plan.role(c.index); {
	case ok && role == roleDevice && stream == c.index && s.number >= 1 && int(s.number) <= l.plan.off.Missed:
		l.takeMissed(c, s.number, now)
	case ok && role == roleLive && l.isPartner(c, stream):
		l.takeLive(c, s, now)
	default:
		l.n.foreign++
	}
	return nil
}

func (l *offlineLoop) isPartner(c *conn, stream uint32) bool {
	from, _ := l.plan.source(c.index, 0)
	return from == stream
}

func (l *offlineLoop) takeMissed(c *conn, number uint32, now int64) {
	p, all := &l.parties[c.slot], uint32(l.plan.off.Missed)
	if !l.missed.take(&p.got, number, all) {
		return
	}
	l.caught.Add(1)
	if p.got.got == all {
		l.meters[qCatchUp].record(now - p.due)
		l.caughtUp++
		l.lastCaught = now
		l.finish(p)
	}
}

func (l *offlineLoop) takeLive(c *conn, s stamp, now int64) {
	switch l.tracks[c.slot].observe(s.number) {
	case arrivedAgain:
		l.n.duplicated++
		return
	case arrivedLate:
		l.n.reordered++
	}
	l.n.received++
	l.n.lastReceived = now
	l.meters[qDelivery].record(now - s.due)
	switch {
	case s.due >= l.comeback && s.due < l.until:
		l.meters[qDuring].record(now - s.due)
	case s.due < l.comeback && s.due >= l.sched.measure+int64(l.plan.off.warmup()):
		l.meters[qBefore].record(now - s.due)
	}
}
