package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gannet/codec"
)

// crowd logs n clients in on a shard with a subscription.
func (w *world) crowd(shard, n int, topic string) []*client {
	w.t.Helper()
	var all []*client
	for i := range n {
		all = append(all, w.login(shard, fmt.Sprintf("%s-%d-%d", topic, shard, i), "d", topic))
	}
	return all
}

// TestRunsAreJoined: what waits for a room becomes one write a member.
func TestRunsAreJoined(t *testing.T) {
	for _, members := range []int{smallRoom, 200} {
		w := newWorld(t, 2)
		all := append(w.crowd(0, members, "t"), w.crowd(1, members, "t")...)
		a := w.login(0, "anna", "d")
		for _, c := range all {
			c.writes = 0
		}
		a.writes = 0
		var frames [][]byte
		var want []string
		for i := range 100 {
			frames = append(frames, message(uint32(i+1), codec.KindTopic, "t", fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("MSG topic t anna: %d", i))
		}
		a.ask(frames...)
		for _, c := range all {
			if c.want(want...); c.writes > 2 {
				t.Errorf("%d members: 100 messages in %d writes", members, c.writes)
			}
		}
		if got := a.take(); len(got) != 100 || a.writes > 2 {
			t.Errorf("%d SENDACKs in %d writes", len(got), a.writes)
		}
		if st := w.stats(); st.Deliveries != uint64(100*len(all)) {
			t.Errorf("%d deliveries counted of %d", st.Deliveries, 100*len(all))
		}
		w.end()
	}
}

// TestAnswersAndMessagesShareAWrite: in a small room even what is of different kinds goes in one write.
func TestAnswersAndMessagesShareAWrite(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d", "t")
	b := w.login(0, "anna", "e")
	a.writes = 0
	big := strings.Repeat("x", shareAbove)
	a.send(message(1, codec.KindTopic, "t", big), ping(), message(2, codec.KindTopic, "t", "small"))
	b.send(toUser("anna", big))
	w.run()
	if got := a.take(); len(got) != 6 {
		t.Errorf("got %q", got)
	}
	if a.writes > 2 {
		t.Errorf("%d writes", a.writes)
	}
}

// TestSlices: a fan-out ends its slice when the time is over and goes on after the sockets were served.
func TestSlices(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	big, small := w.crowd(0, 1000, "big"), w.crowd(0, 100, "small")
	a := w.login(0, "anna", "d")
	w.clock.step = int64(w.node.cfg.Slice) // each look at the clock ends a slice
	a.send(toTopic("big", "1"), toTopic("small", "2"))
	served := func(all []*client) (n int) {
		for _, c := range all {
			if len(c.out) > 0 {
				n++
			}
		}
		return n
	}
	rounds, smallDone := 0, 0
	for ; w.step(); rounds++ {
		if served(small) < len(small) {
			smallDone = rounds
		}
		if n := served(big) + served(small); n > 0 && n < 1000 {
			before := n
			a.send(ping())
			w.loops[0].sh.Drain()
			if got := a.take(); len(got) != 1 || got[0] != "PONG" {
				t.Fatalf("in the middle of a fan-out a PING is answered %q", got)
			}
			if after := served(big) + served(small); after > before+3*sliceCheck {
				t.Fatalf("%d were served before the PING", after-before)
			}
		}
	}
	if served(big) != 1000 || served(small) != 100 {
		t.Errorf("served %d and %d", served(big), served(small))
	}
	if rounds < 40 || smallDone > rounds*2/3 {
		t.Errorf("%d rounds, the small room had to wait for %d", rounds, smallDone)
	}
	w.clock.step = 0
	for _, c := range append(big, small...) {
		c.take()
	}
}

// TestJoinersInTheMiddleOfARun do not get what is being written.
func TestJoinersInTheMiddleOfARun(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	all := w.crowd(0, 200, "t")
	a, late := w.login(0, "anna", "d"), w.login(0, "late", "d")
	w.clock.step = int64(w.node.cfg.Slice)
	a.send(toTopic("t", "1"))
	w.step()
	late.send(sub(1, codec.KindTopic, "t"))
	all[0].send(unsub(1, codec.KindTopic, "t"))
	all[199].send(unsub(1, codec.KindTopic, "t"))
	all[100].disconnect()
	w.run()
	late.want("SUBACK 1 OK")
	n := 0
	for _, c := range all {
		for _, line := range c.take() {
			if line == "MSG topic t anna: 1" {
				n++
			}
		}
	}
	if n < 197 || n > 200 {
		t.Errorf("%d of 200 got it", n)
	}
	a.ask(toTopic("t", "2"))
	late.want("MSG topic t anna: 2")
	all[0].want()
}

// TestBroadcastInSlices: who logs in during a broadcast may get it in the place of who left, after WELCOME.
func TestBroadcastInSlices(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	var all []*client
	for i := range 300 {
		all = append(all, w.login(0, fmt.Sprint("user", i), "d"))
	}
	w.clock.step = int64(w.node.cfg.Slice)
	all[0].send(message(1, codec.KindAll, "all", "hear"))
	for range 5 {
		w.step()
	}
	for _, i := range []int{3, 150, 299} {
		all[i].disconnect()
	}
	fresh := w.open(0)
	fresh.send(hello("fresh", "d"))
	w.run()
	for i, c := range all {
		got := c.take()
		if i == 0 {
			got = slices.DeleteFunc(got, func(l string) bool { return l == "SENDACK 1 OK" })
		}
		if len(got) != 1 && !c.closed {
			t.Errorf("%d got %q", i, got)
		}
	}
	if got := fresh.take(); got[0] != "WELCOME fresh 60s" || len(got) > 2 {
		t.Errorf("fresh got %q", got)
	}
}

// TestGapsDoNotHoldTheLoop: a broadcast over places that are mostly free looks at the clock on its way.
func TestGapsDoNotHoldTheLoop(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	const n = 64 * chunkLen
	for range n {
		w.open(0)
	}
	for _, c := range w.conns[1:] {
		c.disconnect()
	}
	w.run()
	w.clock.step = int64(w.node.cfg.Slice)
	before := w.loops[0].slices
	a.ask(message(0, codec.KindAll, "all", "hear"))
	a.want("MSG all all anna: hear")
	if slices := w.loops[0].slices - before; slices < 4 {
		t.Errorf("%d free places were passed in %d slices", n, slices)
	}
}

// TestRefilterInTheMiddleOfARun: who only changes its filter misses nothing that both filters let through.
func TestRefilterInTheMiddleOfARun(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	all := w.crowd(0, 200, "t")
	a := w.login(0, "anna", "d")
	for _, c := range all {
		c.ask(sub(1, codec.KindTopic, "t", "x"))
		c.take()
	}
	w.clock.step = int64(w.node.cfg.Slice)
	a.send(toTopic("t", "1", "x"))
	w.step()
	for i, c := range all {
		c.send(sub(2, codec.KindTopic, "t", "x", fmt.Sprint(i%3)))
	}
	w.run()
	for i, c := range all {
		if got := c.take(); len(got) != 2 {
			t.Errorf("%d got %q", i, got)
		}
	}
}

// fate is what a message in flight may and must become for one client.
type fate struct{ must, may bool }

// fanWorld is the model of TestFanOut: what each client must get, may get and must not get.
type fanWorld struct {
	*world
	clients []*fanClient
	senders []*client
	sent    []int                           // by sender
	flight  map[string]map[*fanClient]*fate // messages sent since the shards were last at rest
	tags    map[string][]string
}

type fanClient struct {
	*client
	member bool
	filter []string
	last   []int // by sender, the last message that came
}

func passes(filter, tags []string) bool {
	return len(filter) == 0 || slices.ContainsFunc(tags, func(t string) bool { return slices.Contains(filter, t) })
}

func (f *fanWorld) send(t *rapid.T, j int) {
	var tags []string
	for _, tag := range []string{"x", "y"} {
		if rapid.Bool().Draw(t, tag) {
			tags = append(tags, tag)
		}
	}
	f.sent[j]++
	name := fmt.Sprintf("%d.%d", j, f.sent[j])
	fates := map[*fanClient]*fate{}
	for _, c := range f.clients {
		gets := c.member && passes(c.filter, tags)
		fates[c] = &fate{gets, gets}
	}
	f.flight[name], f.tags[name] = fates, tags
	f.senders[j].send(toTopic("t", name, tags...))
}

// change tells the model that a client joined, left or changed its filter.
func (f *fanWorld) change(c *fanClient, joined bool) {
	for name, fates := range f.flight {
		x := fates[c]
		in := c.member && passes(c.filter, f.tags[name])
		x.must = x.must && in && !joined
		x.may = x.may || in
	}
}

func (f *fanWorld) settle() {
	f.run()
	for _, c := range f.clients {
		count := map[string]int{}
		for _, line := range c.take() {
			if !strings.HasPrefix(line, "MSG ") {
				continue
			}
			_, name, _ := strings.Cut(line, ": ")
			name, _, _ = strings.Cut(name, " ")
			count[name]++
			var j, n int
			if _, err := fmt.Sscanf(name, "%d.%d", &j, &n); err != nil || n <= c.last[j] {
				f.t.Errorf("%s got %q after %d: %v", c.user, name, c.last[j], err)
			}
			c.last[j] = n
		}
		for name, fates := range f.flight {
			switch x, n := fates[c], count[name]; {
			case n > 1, x.must && n != 1 && !c.closed, !x.may && n != 0:
				f.t.Errorf("%s got %s %d times; must %v, may %v", c.user, name, n, x.must, x.may)
			}
			delete(count, name)
		}
		if len(count) > 0 {
			f.t.Errorf("%s got %v from before", c.user, count)
		}
	}
	clear(f.flight)
}

// TestFanOut sends to a room that changes while its runs are cut into many slices.
func TestFanOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 3).Draw(t, "shards")
		f := &fanWorld{world: newWorld(t, shards), flight: map[string]map[*fanClient]*fate{}, tags: map[string][]string{}}
		defer f.end()
		f.clock.step = int64(f.node.cfg.Slice) / int64(rapid.IntRange(1, 4).Draw(t, "looks"))
		f.seed(rapid.Uint64().Draw(t, "seed"))
		for i := range shards * rapid.SampledFrom([]int{3, smallRoom, smallRoom + 20}).Draw(t, "crowd") {
			c := &fanClient{client: f.login(i%shards, fmt.Sprint("user", i), "d", "t"), member: true, last: make([]int, 3)}
			f.clients = append(f.clients, c)
		}
		for j := range 3 {
			f.senders = append(f.senders, f.login(j%shards, fmt.Sprint("sender", j), "d"))
			f.sent = append(f.sent, 0)
		}
		for range rapid.IntRange(1, 60).Draw(t, "ops") {
			c := f.clients[rapid.IntRange(0, len(f.clients)-1).Draw(t, "client")]
			switch op := rapid.IntRange(0, 11).Draw(t, "op"); {
			case op <= 3:
				f.send(t, op%3)
			case op <= 5:
				for range rapid.IntRange(1, 6).Draw(t, "steps") {
					f.step()
				}
			case op == 6:
				f.settle()
			case c.closed || c.broken:
			case op == 7 && c.member:
				c.member = false
				c.send(unsub(1, codec.KindTopic, "t"))
				f.change(c, false)
			case op <= 9:
				joined := !c.member
				c.member, c.filter = true, rapid.SampledFrom([][]string{nil, {"x"}, {"y"}, {"x", "y"}}).Draw(t, "filter")
				c.send(sub(1, codec.KindTopic, "t", c.filter...))
				f.change(c, joined)
			case op == 10:
				c.broken, c.member = true, false
				f.change(c, false)
			case op == 11:
				c.member = false
				c.disconnect()
				f.change(c, false)
			}
		}
		f.settle()
	})
}

// TestLeaversBeforeARunReachesThem: members of a group that the run has not come to leave.
func TestLeaversBeforeARunReachesThem(t *testing.T) {
	for _, leave := range [][]int{{0}, {99}, {3, 99, 0}, {50, 51, 98, 99, 97, 0, 1}} {
		w := newWorld(t, 1)
		all := w.crowd(0, 100, "t")
		a := w.login(0, "anna", "d")
		w.crowd(0, 100, "busy")
		w.clock.step = int64(w.node.cfg.Slice)
		a.send(toTopic("busy", ""), toTopic("t", "1")) // the second run waits for its turn
		w.loops[0].sh.Drain()
		for _, i := range leave {
			all[i].send(unsub(1, codec.KindTopic, "t"))
			w.loops[0].sh.checkRooms(t)
		}
		w.run()
		for i, c := range all {
			want := "MSG topic t anna: 1"
			if slices.Contains(leave, i) {
				want = "SUBACK 1 OK"
			}
			if got := c.take(); len(got) != 1 || got[0] != want {
				t.Errorf("%v: %d got %q", leave, i, got)
			}
		}
		w.end()
	}
}
