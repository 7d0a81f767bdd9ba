package bench

import "gannet/codec"

// startWriters fills the writers' windows.
func (l *offlineLoop) startWriters() {
	now := l.clk.now()
	for i := range l.conns {
		if c := &l.conns[i]; l.plan.role(c.index) == roleWriter {
			l.refill(c, now)
			l.pump(c, now)
			l.flush(c)
		}
	}
}

// refill gives a writer's outbox what it has room for; the writer is done when all is answered.
func (l *offlineLoop) refill(c *conn, now int64) {
	p := &l.parties[c.slot]
	end := l.plan.misses(c.index) + 1
	for !p.out.full() && p.out.high < end {
		p.out.add(now)
	}
	if p.out.low == end {
		l.finish(p)
	}
}

// send puts the k-th live message of the schedule into its sender's outbox.
func (l *offlineLoop) send(k uint64, due int64) {
	c := &l.conns[l.senders[k%uint64(len(l.senders))]]
	out := l.parties[c.slot].out
	if out.full() {
		l.n.unsentFull++
		return
	}
	out.add(due)
	c.sent++
	l.n.sent++
	l.n.expected++
	l.dues = append(l.dues, due)
	l.pump(c, due)
	if len(c.out) > 0 && !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// pump puts what an outbox has to send into the connection's buffer, as far as window and socket allow.
func (l *offlineLoop) pump(c *conn, now int64) {
	out := l.parties[c.slot].out
	if out == nil || c.state != stateUp || now < out.retryAt {
		return
	}
	for {
		n, due, ok := out.take()
		if !ok {
			return
		}
		buf, ok := l.output(c, sendHead+len(l.payload))
		if !ok {
			out.untake()
			return
		}
		to, stream, number := l.plan.letter(c.index, n)
		stamp{due, stream ^ l.salt, number}.put(l.payload)
		l.name = l.o.appendUser(l.name[:0], to)
		c.out = codec.AppendSend(buf, codec.Send{
			Req: uint32(n), Nonce: l.nonce + n, Flags: codec.MsgDurable, Kind: codec.KindDirect, Name: l.name, Payload: l.payload,
		})
	}
}

// answered takes a SENDACK. DUPLICATE says that the message was stored when it was sent before, and the answer lost.
func (l *offlineLoop) answered(c *conn, f codec.Frame, now int64) error {
	a, err := codec.ConsumeSendAck(f)
	if err != nil {
		return err
	}
	p, role := &l.parties[c.slot], l.plan.role(c.index)
	if p.out == nil {
		return errUnexpected
	}
	n, ok := p.out.find(a.Req)
	if !ok {
		return nil // answered, or to be sent again anyway
	}
	switch {
	case a.Code == codec.CodeOK || a.Code == codec.CodeDuplicate:
		due := p.out.answer(n)
		if role == roleWriter {
			l.written.Add(1)
		} else {
			l.n.acked++
			l.meters[qAck].record(now - due)
		}
	case a.Code.Temporary():
		l.n.refused.add(a.Code)
		l.calm(&p.out.retryAt)
		p.out.rewind(now + int64(busyPause))
		l.restless++
		return nil
	default:
		l.refusedForGood(c, p, n, a.Code)
	}
	if role == roleWriter {
		l.refill(c, now)
	}
	l.pump(c, now)
	return nil
}

// refusedForGood ends a message that will never be stored. Nobody waits for a live one; what a device misses is part of the run.
func (l *offlineLoop) refusedForGood(c *conn, p *party, n uint64, code codec.Code) {
	l.n.refused.add(code)
	p.out.answer(n)
	if l.plan.role(c.index) == roleWriter {
		l.refusedCode.Store(uint32(code))
		l.finish(p)
		return
	}
	c.refused++
	l.n.expected--
}
