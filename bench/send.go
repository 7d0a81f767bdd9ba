package bench

import (
	"time"

	"gannet/codec"
)

const (
	// lateAfter is how far behind its schedule a send may leave before it counts as late.
	lateAfter = time.Millisecond
	// overrun is how long after the end a send that was due before it is still made up for.
	overrun = 100 * time.Millisecond
	// sendBatch is the most sends joined before they are written and before the loop reads again.
	sendBatch = 512
	// sendHead is an upper bound for what a SEND needs beside its payload.
	sendHead = codec.HeaderLen + 15 + codec.MaxID + 1
)

// join freezes who takes part: the connections that are up now. It returns the receivers of each group.
func (l *loop) join() []int64 {
	joined := make([]int64, l.sc.groups())
	for i := range l.conns {
		c := &l.conns[i]
		if c.state != stateUp {
			continue
		}
		c.joined = true
		if l.sc.receives(c.index) {
			joined[l.sc.group(c.index)]++
		}
	}
	return joined
}

// arm lists the senders that have somebody to send to and returns their number.
func (l *loop) arm(joined []int64) int {
	l.joined = joined
	for i := range l.conns {
		if c := &l.conns[i]; c.joined && l.sc.sends(c.index) && l.sc.fan(l, c) > 0 {
			l.senders = append(l.senders, uint32(i))
		}
	}
	return len(l.senders)
}

// begin starts to send.
func (l *loop) begin(s schedule) {
	l.sched, l.measure, l.end = s, s.measure, s.end
	if len(l.senders) > 0 {
		l.last = s.pace.before(s.end)
	}
}

func (l *loop) sending() bool { return l.sched.pace.k < l.last }

// sendDue sends what is due at now: first all frames are put into the buffers of their connections, then every
// connection is written once. The lateness of a send is taken after the last of these writes.
func (l *loop) sendDue(now int64) {
	for l.sending() && l.sched.pace.due() <= now {
		if now > l.sched.end+int64(overrun) {
			l.skipRest()
			return
		}
		first := l.sched.pace.k
		for l.sending() && l.sched.pace.k-first < sendBatch {
			due := l.sched.pace.due()
			if due > now {
				break
			}
			l.self.send(l.sched.pace.k, due)
			l.sched.pace.k++
		}
		l.flushDirty()
		now = l.clk.now()
		l.recordDelays(now)
		if l.sched.pace.k-first == sendBatch {
			return // far behind: read before going on
		}
	}
}

// send puts the k-th message of the schedule into its sender's buffer.
func (l *loop) send(k uint64, due int64) {
	c := &l.conns[l.senders[k%uint64(len(l.senders))]]
	counted := due >= l.sched.measure
	if c.state != stateUp || c.broken {
		if counted {
			l.n.unsentClosed++
		}
		return
	}
	out, ok := l.output(c, sendHead+len(l.payload))
	if !ok {
		if counted {
			l.n.unsentFull++
		}
		return
	}
	s := stamp{due: due, stream: l.sc.stream(c.index) ^ l.salt}
	if counted {
		c.sent++
		s.number = c.sent
		l.n.sent++
		l.dues = append(l.dues, due)
		l.n.expected += l.sc.fan(l, c)
	}
	s.put(l.payload)
	m := codec.Send{Nonce: k + 1, Payload: l.payload}
	if l.o.Acks {
		m.Req = uint32(k + 1)
	}
	m.Kind, l.name = l.sc.target(c.index, l.name[:0])
	m.Name = l.name
	c.out = codec.AppendSend(out, m)
	if !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

func (l *loop) flushDirty() {
	for _, c := range l.dirty {
		c.dirty = false
		l.flush(c)
	}
	l.dirty = l.dirty[:0]
}

// recordDelays says how late the sends of a batch left.
func (l *loop) recordDelays(now int64) {
	for _, due := range l.dues {
		l.n.lastSend = now
		l.meters[qDelay].record(now - due)
		if now-due > int64(lateAfter) {
			l.n.late++
		}
	}
	l.dues = l.dues[:0]
}

// skipRest counts what the generator did not get to.
func (l *loop) skipRest() {
	from := max(l.sched.pace.k, l.sched.pace.before(l.sched.measure))
	l.n.unsentBehind += int64(l.last - min(from, l.last))
	l.last = l.sched.pace.k
}
