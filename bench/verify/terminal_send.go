package verify

import (
	"time"

	"gannet/codec"
)

// write makes one message and puts it into the outbox, unless that is full.
func (t *terminal) write() {
	if t.box.open() >= t.r.o.Window {
		t.r.n.unsent.Add(1)
		return
	}
	x := t.targets[t.pick()]
	// Nonces grow by at least 1, so gaps between them mean nothing.
	t.nonce += 1 + t.rng.Uint64N(3)*t.rng.Uint64N(2)
	o := outgoing{to: x.to, nonce: t.nonce, id: t.h.Send(x.to.id, t.nonce)}
	if t.r.o.TTLShare > 0 && t.rng.Float64() < t.r.o.TTLShare {
		o.ttl = 1
	}
	t.box.add(o)
	t.r.n.sent.Add(1)
	t.settled.Store(false)
}

// pick draws a target: by kind first, so that the shares hold however many targets there are of each.
func (t *terminal) pick() int {
	var of [codec.KindAll + 1][2]int // first target of a kind, and how many
	for i, x := range t.targets {
		k := x.to.kind
		if of[k][1]++; of[k][1] == 1 {
			of[k][0] = i
		}
	}
	kind, roll := codec.KindDirect, t.rng.IntN(100)
	switch {
	case roll < 2 && of[codec.KindAll][1] > 0:
		kind = codec.KindAll
	case roll < 27 && of[codec.KindTopic][1] > 0:
		kind = codec.KindTopic
	case roll < 52 && of[codec.KindGroup][1] > 0:
		kind = codec.KindGroup
	}
	return of[kind][0] + t.rng.IntN(of[kind][1])
}

// pump sends what may be sent.
func (t *terminal) pump(now time.Time) {
	if !t.greeted || t.hold.After(now) {
		return
	}
	t.hold = time.Time{}
	for len(t.out) < maxOut {
		o, again := t.box.take(t.r.o.Window)
		if o == nil {
			return
		}
		if again {
			t.h.Retry(o.id)
			t.r.n.retries.Add(1)
		}
		if t.box.flying() == 1 {
			t.heard = now
		}
		t.appendSend(o)
	}
	t.hold = now // the rest at once
}

const maxOut = 64 << 10 // bytes of one write

func (t *terminal) appendSend(o *outgoing) {
	name := []byte(o.to.name)
	if o.to.kind == codec.KindDirect {
		name = []byte(peerOf(o.to.name, t.user))
	}
	s := codec.Send{
		Req: o.req, Nonce: o.nonce, Flags: codec.MsgDurable, Kind: o.to.kind, Name: name,
		Payload: appendPayload(t.key[:0], t.r.id, o.id, t.r.sizeOf(o.id)),
	}
	if o.ttl > 0 {
		s.Ext = s.Ext.AppendUint32(codec.TagTTL, o.ttl)
	}
	t.out = codec.AppendSend(t.out, s)
	t.key = s.Payload[:0]
}

// peerOf is the other user of a pair.
func peerOf(pair, user string) string {
	a, b, _ := codec.SplitPair([]byte(pair))
	if string(a) == user {
		return string(b)
	}
	return string(a)
}

// sendAck takes the answer to a SEND.
func (t *terminal) sendAck(a codec.SendAck) {
	now := time.Now()
	t.heard = now
	o, stale, known := t.box.answer(a.Req, a.Code)
	if !known {
		t.r.n.strange.Add(1)
		return
	}
	if a.Code.Temporary() {
		t.r.n.busy.Add(1)
		if stale {
			return
		}
		t.h.Ack(o.id, t.epochOf(o.to), a.Code, 0)
		if !t.hold.After(now) {
			t.refused = min(t.refused+1, 7)
			t.hold = now.Add(time.Millisecond + time.Duration(t.rng.Int64N(int64(2*time.Millisecond)<<t.refused)))
		}
		return
	}
	t.refused = 0
	t.h.Ack(o.id, t.epochOf(o.to), a.Code, a.Seq)
	switch {
	case a.Code == codec.CodeOK || a.Code == codec.CodeDuplicate:
		t.r.n.stored.Add(1)
		if o.to.kind == codec.KindDirect && a.Seq > 0 {
			t.current(o.to).seen.add(a.Seq, a.Seq) // at a resume it may come
		}
	default:
		t.r.n.refused.Add(1)
		if o.to.kind == codec.KindGroup && t.r.o.Members > 0 {
			return // no member any more
		}
		t.r.complain("SEND to %v %q refused: %v", o.to.kind, o.to.name, a.Code)
	}
}

// epochOf is the epoch of numbers that a channel's frames tell on this connection.
func (t *terminal) epochOf(f *following) uint64 {
	if f.inLogs && f.epoch != 0 {
		return f.epoch
	}
	return t.epoch
}

// current forgets what was seen of a channel in another epoch.
func (t *terminal) current(f *following) *following {
	if e := t.epochOf(f); f.epoch != e {
		if f.epoch != 0 {
			f.seen = seqSet{}
		}
		f.epoch = e
	}
	return f
}

// acknowledge tells how far this device is.
func (t *terminal) acknowledge() {
	t.ackAt = time.Time{}
	a := codec.Ack{Mode: codec.AckDelivered}
	if t.posNew {
		a.InboxPos = t.pos
	}
	for _, f := range t.logs {
		if f.dirty {
			f.dirty = false
			a.Marks.Append(codec.Mark{Kind: f.kind, Name: []byte(f.name), Seq: f.seen.upTo()})
		}
	}
	if t.posNew || a.Marks.Len() > 0 {
		t.out = codec.AppendAck(t.out, a)
	}
	t.posNew = false
}

func (t *terminal) ackSoon() {
	if t.ackAt.IsZero() {
		t.ackAt = time.Now().Add(t.every)
	}
}
