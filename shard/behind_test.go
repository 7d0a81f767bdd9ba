package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

func patient(c *Config) {
	c.SlowTimeout, c.HeartbeatMin, c.AckTimeout = time.Hour, time.Hour, time.Hour
}

// A member that does not read leaves the room's runs, large ones and small ones, filtered ones too, and comes back.
func TestRoomOfASlowReader(t *testing.T) {
	for _, members := range []int{1, 2 * smallRoom} {
		for _, kind := range []codec.Kind{codec.KindTopic, codec.KindAll, codec.KindGroup} {
			for _, filter := range []string{"", "red"} {
				if filter != "" && kind != codec.KindTopic {
					continue
				}
				t.Run(fmt.Sprint(members, kind, filter), func(t *testing.T) { slowInRoom(t, members, kind, filter) })
			}
		}
	}
}

func slowInRoom(t *testing.T, members int, kind codec.Kind, filter string) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 64 << 10 })
	defer w.end()
	w.log.group("room", true)
	first, name := uint64(1), "room"
	switch kind {
	case codec.KindGroup:
		first = 2
	case codec.KindAll:
		name = "all"
	}
	others := []*client{}
	join := func(user string, tags ...string) *client {
		w.log.groups["room"].users[user] = 1
		c := w.login(0, user, "d")
		if kind == codec.KindTopic {
			c.ask(sub(1, kind, name, tags...))
			c.take()
		}
		return c
	}
	for i := range members {
		others = append(others, join(fmt.Sprint("user", i)))
	}
	tags := []string{}
	if filter != "" {
		tags = append(tags, filter)
	}
	a := w.listen(join("anna", tags...))
	a.next[fmt.Sprintf("%v %s", kind, name)] = first
	seq := first - 1
	post := func() {
		seq++
		w.log.post(kind, name, "bob", payloadOf(seq, 1000), "red")
		w.run()
	}
	a.stall(500)
	for range 200 {
		post()
	}
	if a.OutboundBuffered() > 64<<10 || w.stats().Cursors != 1 {
		t.Fatalf("%d bytes wait, %d cursors", a.OutboundBuffered(), w.stats().Cursors)
	}
	before := a.OutboundBuffered()
	w.node.Publish(Publication{Kind: codec.KindTopic, Name: name, Sender: "bob", Payload: []byte("x"), Ext: routes("red")})
	w.node.Publish(Publication{Kind: codec.KindTopic, Name: name, Sender: "bob", Payload: []byte("x"), Ext: routes("blue")})
	w.run()
	if a.OutboundBuffered() != before {
		t.Errorf("an ephemeral message overtook what is missing")
	}
	switch {
	case filter != "":
		w.wantDrops(DropCatchingUp, 1)
	case kind == codec.KindTopic:
		w.wantDrops(DropCatchingUp, 2)
	}
	for a.OutboundBuffered() > 0 {
		a.read(7 << 10)
		w.tick()
		if a.OutboundBuffered() > 64<<10 {
			t.Fatalf("%d bytes wait", a.OutboundBuffered())
		}
		a.hear(nil)
	}
	a.read(-1)
	for range 10 {
		w.tick()
	}
	a.hear(nil)
	w.wantRest()
	post()
	if a.hear(nil); a.next[fmt.Sprintf("%v %s", kind, name)] != seq+1 || a.brief != 0 {
		t.Errorf("%d of %d, %d ephemeral ones", a.next[fmt.Sprintf("%v %s", kind, name)]-1, seq, a.brief)
	}
	w.wantDrops(DropSlowReader, 0)
	for _, o := range others {
		if got := o.take(); !strings.Contains(got[len(got)-1], fmt.Sprintf("#%d ", seq)) {
			t.Errorf("%s got %q at last", o.user, got[len(got)-1])
		}
	}
}

// Every ephemeral message comes, or is counted once: also those in the run with which the reader falls behind, and while it comes back.
func TestEphemeralOfASlowReaderIsCounted(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 32 << 10 })
	defer w.end()
	a := w.listen(w.login(0, "anna", "d", "t"))
	sent := 0
	for i := range 300 {
		if i%100 < 50 {
			a.stall(300)
		} else {
			a.read(2000)
		}
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), 1000))
		for range i % 3 {
			w.node.Publish(Publication{Kind: codec.KindTopic, Name: "t", Sender: "bob", Payload: []byte("x")})
			sent++
		}
		if w.run(); i%5 == 0 {
			w.tick()
		}
	}
	a.read(-1)
	for range 20 {
		w.tick()
	}
	a.hear(nil)
	st := w.stats()
	if st.Behind == 0 || a.brief == 0 || st.Dropped[DropCatchingUp] == 0 {
		t.Fatalf("%d times behind, %d came, %d dropped", st.Behind, a.brief, st.Dropped[DropCatchingUp])
	}
	if n := a.brief + int(st.Dropped[DropCatchingUp]+st.Dropped[DropSlowReader]); n != sent || a.next["topic t"] != 301 {
		t.Errorf("%d came, %d + %d were dropped, of %d", a.brief, st.Dropped[DropCatchingUp], st.Dropped[DropSlowReader], sent)
	}
}

// Who catches up in a topic hears of its STATEs, which are in no log.
func TestStatesWhileCatchingUp(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 64 << 10 })
	defer w.end()
	a, b := w.listen(w.login(0, "anna", "d", "t")), w.login(0, "bob", "d")
	a.stall(0)
	for i := range 70 {
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), 1000))
		w.run()
	}
	a.read(30 << 10)
	w.tick()
	if w.stats().Cursors != 1 {
		t.Fatal("it is not behind")
	}
	b.ask(setState(codec.KindTopic, "t", "typing", 0, "yes"))
	b.ask(setState(codec.KindTopic, "t", "mood", 0, "good"))
	b.ask(setState(codec.KindTopic, "t", "typing", 0, ""))
	a.read(-1)
	for range 5 {
		w.tick()
	}
	a.hear(nil)
	if v, ok := a.stated["t/typing"]; !ok || v != "" || a.stated["t/mood"] != "good" {
		t.Errorf("states are %q", a.stated)
	}
	w.wantDrops(DropCatchingUp, 0)
}

// Many logs to catch up in at once are not too much for a connection that reads.
func TestManyLogsAtOnce(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 64 << 10 })
	defer w.end()
	e, topics := w.log.Epoch(), []codec.Position{}
	w.log.group("crowd", true, "anna")
	w.log.groups["crowd"].users["anna"] = 2
	for i := range 40 {
		name := fmt.Sprint("t", i)
		topics = append(topics, at(codec.KindTopic, name, e, 0))
		for j := range 30 {
			w.log.post(codec.KindTopic, name, "bob", payloadOf(uint64(j+1), 1000))
		}
	}
	for j := range 100 {
		w.log.post(codec.KindDirect, "anna", "bob", payloadOf(uint64(j+1), 1000))
		w.log.post(codec.KindGroup, "crowd", "bob", payloadOf(uint64(j+2), 1000))
	}
	w.run()
	c := w.open(0)
	c.user = "anna"
	a := w.listen(c)
	a.next["group crowd"] = 2
	a.stall(1000)
	a.ask(back("anna", "d", e, 0, topics...))
	a.skipOne()
	for n := 0; n < 1000 && w.stats().Cursors+w.stats().Flows > 0; n++ {
		if a.OutboundBuffered() > 64<<10 {
			t.Fatalf("%d bytes wait", a.OutboundBuffered())
		}
		a.read(30 << 10)
		w.tick()
		a.hear(nil)
		if a.closed || a.shut {
			t.Fatal("the session ended")
		}
		a.send(ackPos(a.pos))
		w.run()
	}
	a.read(-1)
	w.pass((settleAfter + 5) * time.Second)
	a.hear(nil)
	for i := range 40 {
		if n := a.next[fmt.Sprint("topic t", i)]; n != 31 {
			t.Errorf("topic %d: up to %d", i, n-1)
		}
	}
	if a.next["direct anna\x1fbob"] != 101 || a.next["group crowd"] != 102 {
		t.Errorf("direct %d, group %d", a.next["direct anna\x1fbob"]-1, a.next["group crowd"]-1)
	}
	w.wantRest()
}

// skipOne takes the frame in front.
func (l *listener) skipOne() {
	_, n, err := codec.ConsumeFrame(l.out, codec.MaxBody)
	if err != nil || n == 0 {
		l.w.t.Fatalf("no frame: %v", err)
	}
	l.out = l.out[n:]
}

// A message longer than what a slow reader may have waiting comes when the rest was read.
func TestLongMessageForASlowReader(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 16 << 10 })
	defer w.end()
	a := w.listen(w.login(0, "anna", "d", "t"))
	a.stall(100)
	for i, n := range []int{500, 500, 60000, 500, 60000} {
		w.log.post(codec.KindDirect, "anna", "bob", payloadOf(uint64(i+1), n))
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), n))
		w.run()
	}
	for range 300 {
		a.read(1 << 10)
		w.tick()
		if a.OutboundBuffered() > 16<<10+61000 {
			t.Fatalf("%d bytes wait", a.OutboundBuffered())
		}
	}
	a.read(-1)
	for range 10 {
		w.tick()
	}
	if a.hear(nil); a.next["direct anna\x1fbob"] != 6 || a.next["topic t"] != 6 {
		t.Errorf("got %v", a.next)
	}
}

// While readers together have too much waiting nothing is read for those who have anything.
func TestBudgetOfSlowReaders(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 64 << 10; c.OutBudget = 30 << 10 })
	defer w.end()
	all := []*listener{}
	for i := range 8 {
		a := w.listen(w.login(0, fmt.Sprint("u", i), "d", "t"))
		a.stall(100)
		all = append(all, a)
	}
	for i := range 100 {
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), 500))
		w.run()
		if i%10 == 0 {
			w.tick()
		}
	}
	total := 0
	for range 20 {
		total = 0
		for _, a := range all {
			total += a.OutboundBuffered()
			a.read(3 << 10)
		}
		w.tick()
	}
	if total > 8*(16<<10) {
		t.Errorf("%d bytes wait in all", total)
	}
	for range 20 {
		for _, a := range all {
			a.read(-1)
		}
		w.tick()
	}
	for _, a := range all {
		if a.hear(nil); a.next["topic t"] != 101 {
			t.Errorf("%s: up to %d", a.user, a.next["topic t"]-1)
		}
	}
}

// A read that the log cannot serve is tried again at a tick, not at once and not never.
func TestReadsRefused(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 16 << 10 })
	defer w.end()
	a := w.listen(w.login(0, "anna", "d", "t"))
	a.stall(100)
	for i := range 40 {
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), 1000))
		w.log.post(codec.KindDirect, "anna", "bob", payloadOf(uint64(i+1), 1000))
	}
	w.run()
	w.log.roomReads = 0
	a.read(-1)
	for range 5 {
		w.tick()
	}
	if n := w.stats().ReadsRefused; n < 2 || n > 20 {
		t.Errorf("%d reads refused", n)
	}
	w.log.roomReads, w.log.broken = -1, codec.CodeUnavailable
	for range 5 {
		w.tick()
	}
	w.log.broken = codec.CodeOK
	for range 5 {
		w.tick()
	}
	if a.hear(nil); a.next["direct anna\x1fbob"] != 41 || a.next["topic t"] != 41 {
		t.Errorf("got %v", a.next)
	}
}
