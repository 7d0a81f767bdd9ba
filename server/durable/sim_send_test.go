package durable

import (
	"fmt"
	"strings"

	"gannet/codec"
	"gannet/store"
)

// compose puts a message into the outbox.
func (d *simDevice) compose() {
	rng := d.s.rng
	d.nonce++
	m := &simSend{nonce: d.nonce}
	switch n := rng.IntN(10); {
	case n < 4:
		m.kind, m.name = codec.KindDirect, d.s.devices[rng.IntN(len(d.s.devices))].user
	case n < 6:
		m.kind, m.name = codec.KindTopic, fmt.Sprint("t", rng.IntN(3))
		m.tag = []string{"red", "blue"}[rng.IntN(2)]
	case n < 7:
		m.kind, m.name = codec.KindAll, codec.AllName
	default:
		m.kind, m.name = codec.KindGroup, d.s.groupNames[rng.IntN(len(d.s.groupNames))]
	}
	m.text = fmt.Sprintf("%s/%d ", d.name(), m.nonce) + strings.Repeat("x", rng.IntN(300))
	if rng.IntN(20) == 0 {
		m.text += strings.Repeat("y", 8000)
	}
	d.outbox = append(d.outbox, m)
}

// post sends what the outbox has, in order, a few messages at a time.
func (d *simDevice) post() {
	if d.conn == nil || !d.live {
		return
	}
	underway := 0
	for _, m := range d.outbox {
		if m.sent {
			underway++
		}
	}
	if d.refused && underway > 0 {
		return // what is on its way is refused as well, and nothing new may overtake it
	}
	d.refused = false
	for _, m := range d.outbox {
		if m.sent {
			continue
		}
		if underway++; underway > 6 {
			return
		}
		m.sent = true
		send := codec.Send{
			Req: uint32(m.nonce), Nonce: m.nonce, Flags: codec.MsgDurable, Kind: m.kind, Name: []byte(m.name), Payload: []byte(m.text),
		}
		if m.tag != "" {
			send.Ext = codec.TLVs(nil).Append(codec.TagRoute, []byte(m.tag))
		}
		if m.nonce%3 == 0 {
			send.Flags |= codec.MsgReceipt
		}
		d.write(codec.AppendSend(nil, send))
		d.s.note("%s sends %d to %v %s", d.name(), m.nonce, m.kind, m.name)
	}
}

// answered takes a SENDACK.
func (d *simDevice) answered(f codec.Frame) {
	a, _ := codec.ConsumeSendAck(f)
	i := 0
	for i < len(d.outbox) && d.outbox[i].nonce != uint64(a.Req) {
		i++
	}
	if a.Req == 0 {
		return
	}
	if i == len(d.outbox) {
		d.s.counts["answered twice"]++
		return
	}
	m := d.outbox[i]
	d.s.note("%s: %d is answered %v #%d", d.name(), a.Req, a.Code, a.Seq)
	id := fmt.Sprint(d.name(), "/", m.nonce)
	seq, stored := d.s.truth.seqs[id]
	switch {
	case a.Code == codec.CodeDuplicate && a.Seq == 0 && !stored && m.kind == codec.KindGroup:
		d.s.counts["refused for good and then told stored"]++
	case a.Code == codec.CodeOK || a.Code == codec.CodeDuplicate:
		if !stored || seq != a.Seq {
			d.fail("%s is acknowledged %v as #%d, stored: %v as #%d", id, a.Code, a.Seq, stored, seq)
		}
		d.s.acked++
	case a.Code.Temporary():
		d.s.counts["refused"]++
		m.sent, d.refused = false, true
		return
	case m.kind != codec.KindGroup || a.Code != codec.CodeForbidden && a.Code != codec.CodeNotFound:
		d.fail("%s to %v %q: %v", id, m.kind, m.name, a.Code)
	}
	d.outbox = append(d.outbox[:i], d.outbox[i+1:]...)
}

// acknowledge tells the server what the device has.
func (d *simDevice) acknowledge() {
	if d.conn == nil || !d.live {
		return
	}
	a := codec.Ack{Mode: codec.AckDelivered, InboxPos: d.now.inbox}
	d.told = d.now.inbox
	for _, ch := range d.listed() {
		if seq := d.now.logs[ch]; seq > 0 && ch.Kind != codec.KindTopic {
			a.Marks.Append(codec.Mark{Kind: ch.Kind, Name: []byte(ch.Name), Seq: seq})
		}
	}
	d.write(codec.AppendAck(nil, a))
	if d.s.rng.IntN(3) == 0 {
		if ch := (store.Channel{Kind: codec.KindDirect, Name: d.s.pairOf(d)}); d.whole[ch] > 0 {
			r := codec.Ack{Mode: codec.AckRead}
			r.Marks.Append(codec.Mark{Kind: ch.Kind, Name: []byte(ch.Name), Seq: d.whole[ch]})
			d.write(codec.AppendAck(nil, r))
		}
	}
}

// pairOf is one of the device's direct channels.
func (s *sim) pairOf(d *simDevice) string {
	peer := s.devices[s.rng.IntN(len(s.devices))].user
	return string(codec.AppendPair(nil, []byte(d.user), []byte(peer)))
}

// browse asks for some history.
func (d *simDevice) browse() {
	if d.conn == nil || !d.live {
		return
	}
	rng := d.s.rng
	ch := store.Channel{Kind: codec.KindDirect, Name: d.s.pairOf(d)}
	switch rng.IntN(4) {
	case 0:
		ch = store.Channel{Kind: codec.KindGroup, Name: d.s.groupNames[rng.IntN(len(d.s.groupNames))]}
	case 1:
		ch = store.Channel{Kind: codec.KindTopic, Name: fmt.Sprint("t", rng.IntN(3))}
	case 2:
		d.write(codec.AppendList(nil, codec.List{Req: 1, Limit: uint16(1 + rng.IntN(20))}))
		return
	}
	d.write(codec.AppendPull(nil, codec.Pull{
		Req: 1, Kind: ch.Kind, Name: []byte(ch.Name), From: uint64(rng.IntN(len(d.s.truth.channels[ch]) + 2)), Limit: uint16(1 + rng.IntN(50)),
	}))
}

// whisper sends something that is not stored and not acknowledged.
func (d *simDevice) whisper() {
	if d.conn == nil || !d.live {
		return
	}
	m := codec.Send{Kind: codec.KindTopic, Name: []byte("t0"), Payload: []byte("psst")}
	switch d.s.rng.IntN(4) {
	case 0:
		m.Kind, m.Name = codec.KindAll, []byte(codec.AllName)
	case 1:
		m.Kind, m.Name = codec.KindGroup, []byte(d.s.groupNames[d.s.rng.IntN(len(d.s.groupNames))])
	case 2:
		m.Kind, m.Name = codec.KindDirect, []byte(d.s.someone().user)
	}
	d.write(codec.AppendSend(nil, m))
}

// turnAway ends the subscription to the device's last topic, or makes it again from where it ended.
func (d *simDevice) turnAway() {
	t := d.topics[len(d.topics)-1]
	ch := store.Channel{Kind: codec.KindTopic, Name: t.name}
	if _, known := d.now.logs[ch]; d.conn == nil || !d.live || !known || len(d.waiting) > 0 {
		return
	}
	if d.away = !d.away; d.away {
		d.write(codec.AppendUnsub(nil, codec.Unsub{Kind: ch.Kind, Name: []byte(ch.Name)}))
	} else {
		d.subscribe(t)
	}
}
