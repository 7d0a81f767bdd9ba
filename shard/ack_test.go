package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

// ack acknowledges channels by seq.
func ack(mode uint8, marks ...codec.Mark) []byte {
	a := codec.Ack{Mode: mode}
	for _, m := range marks {
		a.Marks.Append(m)
	}
	return codec.AppendAck(nil, a)
}

func markOf(kind codec.Kind, name string, seq uint64) codec.Mark {
	return codec.Mark{Kind: kind, Name: []byte(name), Seq: seq}
}

// taken are the marks that the log got since the last call, a line for each.
func (l *modelLog) taken() []string {
	lines := []string{}
	for _, m := range l.marks[l.looked:] {
		line := fmt.Sprintf("%s/%s %d %v %s %d", m.User, m.Device, m.Mode, m.Kind, strings.ReplaceAll(m.Name, "\x1f", "+"), m.Seq)
		if m.Receipt != "" {
			line += " for " + m.Receipt
		}
		if m.Gone {
			line += " gone"
		}
		lines = append(lines, line)
	}
	l.looked = len(l.marks)
	return lines
}

func (w *world) wantMarks(lines ...string) {
	w.t.Helper()
	if got := w.log.taken(); !slices.Equal(got, lines) && len(got)+len(lines) > 0 {
		w.t.Errorf("marks\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

// Positions are handed over about once a second, and at the end; never backwards.
func TestAckInbox(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.say(codec.KindDirect, "anna", 1, 5)
	if got := a.take(); len(got) != 6 {
		t.Fatalf("got %q", got)
	}
	a.ask(ackPos(2))
	a.ask(ackPos(3))
	w.wantMarks()
	w.pass(time.Second)
	w.wantMarks("anna/d 1 inbox  3")
	a.ask(ackPos(1), ackPos(3))
	w.pass(2 * time.Second)
	w.wantMarks() // nothing new
	a.ask(ackPos(6))
	a.want("ERR 0 INVALID")
	a.ask(ackPos(5))
	w.pass(3 * time.Second)
	w.wantMarks("anna/d 1 inbox  5")
	w.wantRest()
	a.ask(ackPos(5), ackPos(6))
	a.want("ERR 0 INVALID")
	w.wantDrops(DropMark, 2)
	w.say(codec.KindDirect, "anna", 6, 6)
	a.want("MSG direct anna+bob #6 bob: 6", "POS 6")
	a.ask(ackPos(6))
	a.disconnect()
	w.run()
	w.wantMarks("anna/d 1 inbox  6 gone")
}

// What others sent meanwhile may be acknowledged too: POS of a login told so.
func TestAckOfAPositionWithNothingBelow(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.say(codec.KindDirect, "carl", 1, 5)
	a := w.come(0, "anna", hello("anna", "d"))
	a.want("WELCOME anna 60s inbox 0/5", "POS 5")
	a.ask(ackPos(5))
	a.want()
	a.ask(durable(1, codec.KindTopic, "t", "x"), ackPos(5)) // also when it has a flow
	a.want("SENDACK 1 OK #1")
	w.say(codec.KindDirect, "anna", 1, 1)
	a.want("MSG direct anna+bob #1 bob: 1", "POS 7")
	a.ask(ackPos(7))
	a.want()
}

// A session that is behind cannot acknowledge what it was never sent.
func TestAckWhileBehind(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 16 << 10 })
	defer w.end()
	c := w.login(0, "anna", "d")
	a := w.listen(c)
	a.stall(0)
	for i := range 50 {
		w.log.post(codec.KindDirect, "anna", "bob", payloadOf(uint64(i+1), 1000))
		w.log.post(codec.KindDirect, "carl", "bob", "x")
		w.run()
	}
	w.come(0, "carl", hello("carl", "d")) // the shard hears of all places
	a.send(ackPos(90))
	w.run()
	a.read(-1)
	w.pass(time.Second)
	if a.hear(nil); a.next["direct anna\x1fbob"] != 51 {
		t.Errorf("up to %d", a.next["direct anna\x1fbob"]-1)
	}
}

func TestAckMarks(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	pair := "anna\x1fbob"
	a.ask(ack(codec.AckRead, markOf(codec.KindDirect, pair, 3), markOf(codec.KindGroup, "g", 4), markOf(codec.KindTopic, "t", 5)),
		ack(codec.AckDelivered, markOf(codec.KindAll, "all", 6), markOf(codec.KindTopic, "t", 7)))
	a.want()
	w.run()
	w.wantMarks("anna/d 2 direct anna+bob 3", "anna/d 2 group g 4", "anna/d 2 topic t 5", "anna/d 1 all all 6")
	for _, x := range []struct {
		name string
		mark codec.Mark
		code string
	}{
		{"foreign pair", markOf(codec.KindDirect, "bob\x1fcarl", 1), "FORBIDDEN"},
		{"no pair", markOf(codec.KindDirect, "bob", 1), "INVALID"},
		{"pair in the wrong order", markOf(codec.KindDirect, "bob\x1fanna", 1), "INVALID"},
		{"inbox as a kind", markOf(codec.KindInbox, "x", 1), "INVALID"},
		{"kind 9", markOf(9, "x", 1), "INVALID"},
		{"no name", markOf(codec.KindGroup, "", 1), "INVALID"},
		{"seq 0", markOf(codec.KindDirect, pair, 0), "INVALID"},
	} {
		a.ask(ack(codec.AckRead, x.mark))
		if got := a.take(); len(got) != 1 || got[0] != "ERR 0 "+x.code {
			t.Errorf("%s: got %q", x.name, got)
		}
	}
	w.wantMarks()
	w.wantDrops(DropMark, 7)
	a.ask(codec.AppendFrame(nil, codec.Frame{Type: codec.TypeAck, Body: []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}))
	a.wantBye(codec.CodeMalformed)
}

// Marks that the log does not take are offered again; when too many wait positions are kept back and lists are dropped.
func TestMarksRefused(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.MaxMarks = 3 })
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(0, "zoe", "d")
	w.say(codec.KindDirect, "anna", 1, 1)
	w.log.roomMarks = 1
	for i := range 6 {
		b.ask(ack(codec.AckRead, markOf(codec.KindGroup, "g", uint64(i+1))))
	}
	w.wantMarks("zoe/d 2 group g 1")
	a.ask(ackPos(1))
	w.pass(3 * time.Second)
	w.wantMarks()
	w.log.roomMarks = -1
	w.pass(3 * time.Second)
	w.wantMarks("zoe/d 2 group g 2", "zoe/d 2 group g 3", "zoe/d 2 group g 4", "anna/d 1 inbox  1")
	w.wantRest()
	if n := w.stats().Dropped[DropMarksFull]; n < 2 {
		t.Errorf("%d marks dropped", n)
	}
}

// What is not acknowledged comes again, later each time, and at last the session ends.
func TestRedelivery(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.AckTimeout = 10 * time.Second; c.AckRetries = 3; c.HeartbeatMin = time.Hour })
	defer w.end()
	a := w.login(0, "anna", "d")
	w.say(codec.KindDirect, "anna", 1, 3)
	a.take()
	a.ask(ackPos(1))
	all := said("direct anna+bob", 2, 3)
	for _, wait := range []time.Duration{10, 20, 40} {
		w.pass(wait*time.Second - 2*time.Second)
		a.want()
		w.pass(4 * time.Second)
		a.want(append(all, "POS 3")...)
		w.pass(-2 * time.Second)
		w.clock.ns -= int64(2 * time.Second)
	}
	w.pass(78 * time.Second)
	a.want()
	w.pass(5 * time.Second)
	a.wantBye(codec.CodeSlow)
	if n := w.stats().Redeliveries; n != 3 {
		t.Errorf("%d redeliveries", n)
	}
}

func TestAckEndsRedelivery(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.AckTimeout = 10 * time.Second; c.AckRetries = 2; c.HeartbeatMin = time.Hour })
	defer w.end()
	a := w.login(0, "anna", "d")
	for i := range 10 {
		w.say(codec.KindDirect, "anna", i+1, i+1)
		a.take()
		w.pass(12 * time.Second) // once more
		place := w.log.store.Place()
		a.want(fmt.Sprintf("MSG direct anna+bob #%d bob: %d", i+1, i+1), fmt.Sprintf("POS %d", place))
		a.ask(ackPos(place))
		w.say(codec.KindDirect, "carl", i, i) // moves nothing of hers
		a.want()
	}
	w.pass(5 * time.Minute)
	a.want()
	w.wantRest()
}

// An acknowledgement that comes while it is sent again counts.
func TestAckWhileSentAgain(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.AckTimeout = 10 * time.Second; c.HeartbeatMin = time.Hour })
	defer w.end()
	a := w.login(0, "anna", "d")
	w.say(codec.KindDirect, "anna", 1, 30)
	a.take()
	w.log.auto = false
	w.pass(11 * time.Second)
	a.ask(ackPos(30))
	a.want()
	w.log.post(codec.KindDirect, "anna", "bob", "31")
	w.run()
	w.log.auto = true
	w.run()
	got := a.take()
	if len(got) == 0 || got[len(got)-1] != "POS 31" || got[len(got)-2] != "MSG direct anna+bob #31 bob: 31" {
		t.Errorf("got %q", got)
	}
	a.ask(ackPos(31))
	w.pass((settleAfter + 5) * time.Second)
	w.wantRest()
}

// receipt is a message whose sender wants to know.
func receipt(req uint32, name, payload string) []byte {
	return codec.AppendSend(nil, codec.Send{
		Req: req, Nonce: uint64(req), Flags: codec.MsgDurable | codec.MsgReceipt, Kind: codec.KindDirect, Name: []byte(name), Payload: []byte(payload),
	})
}

func TestReceipts(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	a, b, c := w.login(0, "anna", "d"), w.login(1, "bob", "d"), w.login(1, "carl", "d")
	b2 := w.login(0, "bob", "e")
	b.ask(receipt(1, "anna", "x"), receipt(2, "anna", "x"))
	c.ask(receipt(1, "anna", "x"))
	b.ask(durable(3, codec.KindDirect, "anna", "quiet"), receipt(4, "anna", "x"))
	a.take()
	b2.take()
	a.ask(ackPos(1))
	b2.ask(ackPos(2)) // of its own user's messages nobody is told
	w.run()
	w.wantMarks("anna/d 1 direct anna+bob 1 for bob")
	a.ask(ackPos(5))
	w.run()
	w.wantMarks("anna/d 1 direct anna+bob 2 for bob", "anna/d 1 direct anna+carl 1 for carl", "anna/d 1 direct anna+bob 4 for bob")
	a.disconnect()
	b.ask(receipt(5, "anna", "x"), receipt(6, "anna", "x"))
	w.log.taken()
	a = w.login(1, "anna", "d") // what is read from the log is receipted as well
	a.ask(ackPos(7))
	w.run()
	w.wantMarks("anna/d 1 direct anna+bob 6 for bob")
}

func TestReceiptsAreBounded(t *testing.T) {
	w := newLogWorld(t, 1, patient)
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(0, "bob", "d")
	const n = maxWanted + 300
	for i := range n {
		b.send(receipt(uint32(i+1), "anna", "x"))
		if i%100 == 0 {
			w.run()
		}
	}
	w.run()
	sh := w.loops[0].sh
	dropped := int(w.stats().Dropped[DropReceipt])
	if kept := len(sh.wanted[a.session.index]); kept > maxWanted || kept+dropped != n {
		t.Errorf("%d kept, %d dropped, of %d", kept, dropped, n)
	}
	w.log.taken()
	a.ask(ackPos(n))
	w.run()
	w.wantMarks(fmt.Sprintf("anna/d 1 direct anna+bob %d for bob", n))
	w.pass(5 * time.Second)
	w.wantRest()
}

// Sent again, a message is noted once.
func TestReceiptsOfARedelivery(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.HeartbeatMin = time.Hour })
	defer w.end()
	a, b, c := w.login(0, "anna", "d"), w.login(0, "bob", "d"), w.login(0, "carl", "d")
	b.ask(receipt(1, "anna", "x"))
	c.ask(receipt(1, "anna", "x"))
	b.ask(receipt(2, "anna", "x"))
	w.pass(35 * time.Second)
	if n := len(w.loops[0].sh.wanted[a.session.index]); n != 3 || w.stats().Redeliveries == 0 {
		t.Errorf("%d receipts are wanted, %d redeliveries", n, w.stats().Redeliveries)
	}
	w.log.taken()
	a.ask(ackPos(3))
	w.run()
	w.wantMarks("anna/d 1 direct anna+bob 1 for bob", "anna/d 1 direct anna+carl 1 for carl", "anna/d 1 direct anna+bob 2 for bob")
}
