package bench

import (
	"encoding/binary"
	"math"
	"time"

	"gannet/codec"
)

// pingLen is the length of a PING that carries eight bytes.
const pingLen = codec.HeaderLen + 8

// handle acts on one frame that came on c at now. An error means that the peer does not speak the protocol.
func (l *loop) handle(c *conn, f codec.Frame, now int64) error {
	switch f.Type {
	case codec.TypeMsg:
		return l.message(c, f, now)
	case codec.TypeSendAck:
		return l.sendAck(c, f, now)
	case codec.TypePing:
		return l.answerPing(c, f)
	case codec.TypePong:
		return l.pong(f, now)
	case codec.TypeWelcome:
		return l.welcome(c, f, now)
	case codec.TypeSubAck:
		return l.subscribed(c, f, now)
	case codec.TypeBye:
		return l.bye(c, f)
	case codec.TypeErr:
		e, err := codec.ConsumeErr(f)
		if err == nil {
			l.n.refused.add(e.Code)
			l.n.explain(e.Code, string(e.Text))
		}
		return err
	case codec.TypeAuth, codec.TypeMigrate, codec.TypeRange, codec.TypeGap, codec.TypePos, codec.TypeReceipt,
		codec.TypeState, codec.TypeListed, codec.FirstSkippable, codec.LastSkippable:
		return nil // legal, and nothing that a scenario counts
	}
	return errUnexpected
}

func (l *loop) bye(c *conn, f codec.Frame) error {
	b, err := codec.ConsumeBye(f)
	if err != nil {
		return err
	}
	l.n.byes.add(b.Code)
	l.n.explain(b.Code, string(b.Reason))
	l.drop(c)
	return nil
}

// message counts a MSG and the way it took.
func (l *loop) message(c *conn, f codec.Frame, now int64) error {
	m, err := codec.ConsumeMsg(f)
	if err != nil {
		return err
	}
	if !l.sc.receives(c.index) {
		return nil // a publisher hears its own broadcast to all
	}
	s, ok := readStamp(m.Payload)
	track := 0
	if ok {
		track, ok = l.sc.track(c.index, s.stream^l.salt)
	}
	if !ok {
		l.n.foreign++
		return nil
	}
	if s.number == 0 {
		return nil // warm-up
	}
	switch l.tracks[int(c.slot)*l.sc.streams()+track].observe(s.number) {
	case arrivedAgain:
		l.n.duplicated++
		return nil
	case arrivedLate:
		l.n.reordered++
	}
	l.n.received++
	l.n.lastReceived = now
	l.meters[qDelivery].record(now - s.due)
	return nil
}

// sendAck pairs an answer with its send: req is one more than the place of the send in the schedule, and the
// schedule knows when that was due.
func (l *loop) sendAck(c *conn, f codec.Frame, now int64) error {
	a, err := codec.ConsumeSendAck(f)
	if err != nil {
		return err
	}
	k := uint64(a.Req) - 1
	if a.Req == 0 || k >= l.sched.pace.k {
		return errUnexpected
	}
	due := l.sched.pace.at(k)
	if due < l.sched.measure {
		return nil
	}
	if a.Code != codec.CodeOK {
		l.n.refused.add(a.Code)
		c.refused++
		l.n.expected -= l.sc.fan(l, c)
		return nil
	}
	l.n.acked++
	l.meters[qAck].record(now - due)
	return nil
}

func (l *loop) answerPing(c *conn, f codec.Frame) error {
	p, err := codec.ConsumePing(f)
	if err != nil {
		return err
	}
	out, ok := l.output(c, pingLen)
	if !ok {
		l.n.control++
		return nil
	}
	c.out = codec.AppendPong(out, codec.Ping{Data: p.Data})
	return nil
}

func (l *loop) pong(f codec.Frame, now int64) error {
	p, err := codec.ConsumePing(f)
	if err != nil || len(p.Data) == 0 {
		return err
	}
	if due := int64(binary.BigEndian.Uint64(p.Data)); due >= l.measure && due < l.end && due <= now {
		l.meters[qPing].record(now - due)
	}
	return nil
}

// setBeat plans the own PINGs for a heartbeat: each connection every nine tenths of it, so that a server that counts
// whole seconds need not ask, spread evenly over the period in an order unlike that of the logins.
func (l *loop) setBeat(heartbeat time.Duration) {
	l.beat = heartbeat
	n := len(l.conns)
	if l.o.Passive || n == 0 {
		return
	}
	l.pings = newCycle(l.clk.now(), heartbeat/10*9, n)
	l.step = uint64(math.Round(float64(n) * 0.618))
	for gcd(l.step, uint64(n)) != 1 {
		l.step++
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// pingSlot is whose turn the k-th PING is. step and the number of connections have no common divisor, so that
// every connection has its turn once in a period.
func (l *loop) pingSlot(k uint64) uint64 {
	n := uint64(len(l.conns))
	return k % n * l.step % n
}

// pingDue sends the PINGs that are due, each with the time at which it was.
func (l *loop) pingDue(now int64) {
	if l.pings.all == 0 {
		return
	}
	for range turnBudget {
		due := l.pings.due()
		if due > now {
			return
		}
		c := &l.conns[l.pingSlot(l.pings.k)]
		l.pings.k++
		if c.state != stateUp {
			continue
		}
		out, ok := l.output(c, pingLen)
		if !ok {
			l.n.control++
			continue
		}
		var data [8]byte
		binary.BigEndian.PutUint64(data[:], uint64(due))
		c.out = codec.AppendPing(out, codec.Ping{Data: data[:]})
		l.flush(c)
	}
}

// sayBye ends c in good order.
func (l *loop) sayBye(c *conn) {
	if out, ok := l.output(c, 64); ok {
		c.out = codec.AppendBye(out, codec.Bye{Code: codec.CodeOK, Reason: []byte("run over")})
		l.flush(c)
	}
}
