package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

// topicOf is a topic whose values shard owns.
func (w *world) topicOf(shard int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("t", i); newTopic(codec.KindTopic, name, w.node.Shards()).owner == shard {
			return name
		}
	}
}

// eachOwner runs a test with each placement of the owner of a topic's values: where the setter is, where the others are,
// elsewhere.
func eachOwner(t *testing.T, f func(t *testing.T, w *world, topic string)) {
	for owner := range 3 {
		t.Run(fmt.Sprint("owner ", owner), func(t *testing.T) {
			w := newWorld(t, 3)
			f(t, w, w.topicOf(owner))
			w.end()
			if n := w.stats().States; n != 0 {
				t.Errorf("%d values are left", n)
			}
		})
	}
}

func TestState(t *testing.T) {
	eachOwner(t, func(t *testing.T, w *world, topic string) {
		a, b := w.login(0, "anna", "d", topic), w.login(1, "bob", "d", topic)
		a.ask(setState(codec.KindTopic, topic, "mood", 0, "good"))
		line := fmt.Sprintf("STATE topic %s mood anna 0: ", topic)
		a.want(line + "good") // the setter's session too
		b.want(line + "good")
		late := w.login(1, "late", "d", topic)
		late.want() // login took it
		early := w.login(2, "early", "d")
		early.ask(sub(1, codec.KindTopic, topic))
		early.want("SUBACK 1 OK", line+"good")
		a.ask(codec.AppendState(nil, codec.StateUpdate{Kind: codec.KindTopic, Name: []byte(topic), Key: []byte("mood"), User: []byte("anna"), Payload: []byte("bad")}))
		for _, c := range []*client{a, b, late, early} {
			c.want(line + "bad")
		}
		// Values of another key and of another user stand beside it.
		b.ask(setState(codec.KindTopic, topic, "mood", 7, "fine"), setState(codec.KindTopic, topic, "place", 0, "home"))
		b.take()
		early.take()
		early.ask(unsub(2, codec.KindTopic, topic), sub(3, codec.KindTopic, topic))
		got := early.take()
		slices.Sort(got)
		want := []string{
			line + "bad", fmt.Sprintf("STATE topic %s mood bob 7: fine", topic),
			fmt.Sprintf("STATE topic %s place bob 0: home", topic), "SUBACK 2 OK", "SUBACK 3 OK",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		// An empty payload removes.
		late.take()
		a.ask(setState(codec.KindTopic, topic, "mood", 0, ""))
		late.want(line)
		b.ask(setState(codec.KindTopic, topic, "place", 3, ""))
		w.login(2, "later", "d").ask(sub(1, codec.KindTopic, topic))
		(&client{fakeConn: w.conns[len(w.conns)-1], w: w}).want("SUBACK 1 OK", fmt.Sprintf("STATE topic %s mood bob 7: fine", topic))
		for _, c := range []*client{a, b, late, early} {
			c.take()
		}
		w.pass(8 * time.Second)
		late.want(fmt.Sprintf("STATE topic %s mood bob 0: ", topic))
	})
}

func TestStateInWelcome(t *testing.T) {
	eachOwner(t, func(t *testing.T, w *world, topic string) {
		a := w.login(0, "anna", "d")
		a.ask(setState(codec.KindTopic, topic, "k", 9, "v"), setState(codec.KindAll, "all", "k", 9, "v"))
		a.want("STATE all all k anna 9: v")
		c := w.open(2)
		c.ask(hello("carl", "d", topic))
		got := c.take()
		slices.Sort(got[1:])
		if want := []string{"WELCOME carl 60s 0", "STATE all all k anna 9: v", fmt.Sprintf("STATE topic %s k anna 9: v", topic)}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		w.pass(10 * time.Second)
		c.take()
	})
}

func TestStateExpires(t *testing.T) {
	eachOwner(t, func(t *testing.T, w *world, topic string) {
		a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d", topic)
		for i, ttl := range []uint16{30, 10, 20} {
			a.ask(setState(codec.KindTopic, topic, fmt.Sprint("k", i), ttl, "v"))
		}
		b.take()
		a.disconnect() // a ttl outlives the session
		w.pass(9800 * time.Millisecond)
		b.want()
		w.pass(400 * time.Millisecond)
		b.want(fmt.Sprintf("STATE topic %s k1 anna 0: ", topic))
		w.pass(10 * time.Second)
		b.want(fmt.Sprintf("STATE topic %s k2 anna 0: ", topic))
		w.pass(10 * time.Second)
		b.want(fmt.Sprintf("STATE topic %s k0 anna 0: ", topic))
	})
}

func TestStateEndsWithItsSession(t *testing.T) {
	eachOwner(t, func(t *testing.T, w *world, topic string) {
		a1, a2, b := w.login(0, "anna", "one"), w.login(1, "anna", "two"), w.login(2, "bob", "d", topic)
		line := func(key, v string) string { return fmt.Sprintf("STATE topic %s %s anna 0: %s", topic, key, v) }
		a1.ask(setState(codec.KindTopic, topic, "mine", 0, "1"), setState(codec.KindTopic, topic, "shared", 0, "1"),
			setState(codec.KindTopic, topic, "removed", 0, "1"), setState(codec.KindTopic, topic, "removed", 0, ""),
			setState(codec.KindTopic, topic, "timed", 0, "1"), setState(codec.KindTopic, topic, "timed", 60, "2"))
		a2.ask(setState(codec.KindTopic, topic, "shared", 0, "2"))
		b.take()
		a1.disconnect()
		w.run()
		b.want(line("mine", ""))
		a2.ask(codec.AppendBye(nil, codec.Bye{}))
		w.tick()
		b.want(line("shared", ""))
		w.passWith(61*time.Second, b)
		if n := w.stats().States; n != 0 {
			t.Errorf("%d values are left", n)
		}
	})
}

// TestStateOfWhoIsReplaced: the value set by the newer session of the device stays.
func TestStateOfWhoIsReplaced(t *testing.T) {
	eachOwner(t, func(t *testing.T, w *world, topic string) {
		b := w.login(2, "bob", "d", topic)
		old := w.login(0, "anna", "phone")
		old.ask(setState(codec.KindTopic, topic, "k", 0, "old"))
		fresh := w.open(1)
		fresh.send(hello("anna", "phone"), setState(codec.KindTopic, topic, "k", 0, "new"))
		w.run()
		got := b.take()
		late := w.login(1, "late", "d")
		late.ask(sub(1, codec.KindTopic, topic))
		kept := late.take()[1:]
		if last := got[len(got)-1:]; !slices.Equal(kept, last) && !(len(kept) == 0 && strings.HasSuffix(last[0], ": ")) {
			t.Errorf("live %q, kept %q", got, kept)
		}
		if len(kept) != 1 || !strings.HasSuffix(kept[0], "new") {
			t.Errorf("kept %q", kept)
		}
	})
}

// TestRefusedRemoval: a removal, or a change to a ttl, that is refused does not make the value outlive its session.
func TestRefusedRemoval(t *testing.T) {
	for _, ttl := range []uint16{0, 60} {
		w := newWorld(t, 2, func(c *Config) { c.InboxCapacity = 16 })
		topic := w.topicOf(1)
		a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d")
		a.ask(setState(codec.KindTopic, topic, "k", 0, "v"))
		for range 20 { // fill shard 1's inbox
			a.send(toUser("bob", "x"))
		}
		a.send(setState(codec.KindTopic, topic, "k", ttl, strings.Repeat("w", int(ttl))))
		w.loops[0].sh.Drain()
		a.want("ERR 0 BUSY")
		w.run()
		if n := w.stats().States; n != 1 {
			t.Errorf("%d values", n)
		}
		a.disconnect()
		w.run()
		if n := w.stats().States; n != 0 {
			t.Errorf("%d values outlive their session", n)
		}
		b.take()
		w.end()
	}
}

func TestDirectState(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a1, a2, b := w.login(0, "anna", "one"), w.login(1, "anna", "two"), w.login(1, "bob", "d")
	a1.ask(setState(codec.KindDirect, "bob", "typing", 0, "on"))
	a1.want()
	for _, c := range []*client{a2, b} {
		c.want("STATE direct anna+bob typing anna 0: on")
	}
	late := w.login(0, "bob", "e")
	late.want()
	a1.disconnect()
	w.run()
	b.want() // it was not kept
	if n := w.stats().States; n != 0 {
		t.Errorf("%d values are kept", n)
	}
}

func TestStateRefusals(t *testing.T) {
	w := newWorld(t, 1, judged)
	c := w.login1(AuthAnswer{Rights: &testRights{pub: "mine", sub: "*"}}, "anna", "d")
	full := codec.StateUpdate{Kind: codec.KindTopic, Name: []byte("mine"), Key: []byte("k"), Payload: []byte("v")}
	with := func(f func(*codec.StateUpdate)) []byte {
		s := full
		f(&s)
		return codec.AppendState(nil, s)
	}
	for _, x := range []struct {
		name string
		in   []byte
		want codec.Code
	}{
		{"another topic", with(func(s *codec.StateUpdate) { s.Name = []byte("yours") }), codec.CodeForbidden},
		{"another user", with(func(s *codec.StateUpdate) { s.User = []byte("bob") }), codec.CodeForbidden},
		{"all", with(func(s *codec.StateUpdate) { s.Kind, s.Name = codec.KindAll, []byte("all") }), codec.CodeForbidden},
		{"all by another name", with(func(s *codec.StateUpdate) { s.Kind = codec.KindAll }), codec.CodeInvalid},
		{"group", with(func(s *codec.StateUpdate) { s.Kind = codec.KindGroup }), codec.CodeNotFound},
		{"kind 0", with(func(s *codec.StateUpdate) { s.Kind = 0 }), codec.CodeInvalid},
		{"no name", with(func(s *codec.StateUpdate) { s.Name = nil }), codec.CodeInvalid},
		{"no key", with(func(s *codec.StateUpdate) { s.Key = nil }), codec.CodeInvalid},
		{"bad key", with(func(s *codec.StateUpdate) { s.Key = []byte("a\nb") }), codec.CodeInvalid},
	} {
		c.ask(x.in)
		if got := c.take(); len(got) != 1 || got[0] != "ERR 0 "+x.want.String() {
			t.Errorf("%s: got %q, want %v", x.name, got, x.want)
		}
	}
	c.alive()
	w.end()
}

func TestLongestState(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.MaxFrame = codec.MaxBody; c.MaxStateBytes = 1 << 30 })
	defer w.end()
	user := strings.Repeat("u", 64)
	a, b := w.login(0, user, "one", "t"), w.login(0, user, "two")
	head := len(setState(codec.KindTopic, "t", "k", 9, "")) - codec.HeaderLen
	payload := strings.Repeat("p", w.node.cfg.MaxFrame-head)
	a.ask(setState(codec.KindTopic, "t", "k", 1, payload))
	if got := a.take(); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprint(len(payload))) {
		t.Errorf("got %.80q", got)
	}
	head = len(setState(codec.KindDirect, user, "k", 9, "")) - codec.HeaderLen
	a.ask(setState(codec.KindDirect, user, "k", 1, payload[:w.node.cfg.MaxFrame-head]))
	if got := b.take(); len(got) != 1 {
		t.Errorf("got %.80q", got)
	}
	w.pass(2 * time.Second)
	a.take()
}

func TestStateLimits(t *testing.T) {
	set := func(c *client, topic, key string, ttl uint16, v string) string {
		c.ask(setState(codec.KindTopic, topic, key, ttl, v))
		return strings.Join(c.take(), ",")
	}
	t.Run("of a session", func(t *testing.T) {
		w := newWorld(t, 1, func(c *Config) { c.MaxSessionStates = 3 })
		defer w.end()
		a := w.login(0, "anna", "d")
		for i := range 3 {
			if got := set(a, "t", fmt.Sprint(i), 0, "v"); got != "" {
				t.Error(got)
			}
		}
		if got := set(a, "t", "3", 0, "v"); got != "ERR 0 RATE_LIMITED" {
			t.Error(got)
		}
		for _, x := range []struct{ topic, key, v string }{{"t", "0", "changed"}, {"t", "1", ""}, {"u", "0", "v"}} {
			if got := set(a, x.topic, x.key, 0, x.v); got != "" {
				t.Errorf("%v: %s", x, got)
			}
		}
		if got := set(a, "t", "3", 9, "v"); got != "" { // with a ttl it does not count
			t.Error(got)
		}
		if got := set(a, "t", "4", 0, "v"); got != "ERR 0 RATE_LIMITED" {
			t.Error(got)
		}
		set(a, "t", "2", 9, "now with a ttl")
		if got := set(a, "t", "4", 0, "v"); got != "" {
			t.Error(got)
		}
		w.pass(10 * time.Second)
	})
	for name, limit := range map[string]func(*Config){
		"of a channel":      func(c *Config) { c.MaxChannelStates = 3 },
		"of a shard":        func(c *Config) { c.MaxStates = 3 },
		"of a shard, bytes": func(c *Config) { c.MaxStateBytes = 3 * len(setState(codec.KindTopic, "t0", "0", 1, "v1234")) },
	} {
		for _, shards := range []int{1, 2} {
			t.Run(fmt.Sprint(name, shards), func(t *testing.T) {
				w := newWorld(t, shards, limit)
				defer w.end()
				topic := w.topicOf(shards - 1)[:2]
				a := w.login(0, "a", "d")
				for i := range 3 {
					if got := set(a, topic, fmt.Sprint(i), 0, "v123"); got != "" {
						t.Error(got)
					}
				}
				if got := set(a, topic, "3", 0, "v123"); got != "ERR 0 RATE_LIMITED" {
					t.Errorf("one too many: %q", got)
				}
				if got := set(a, topic, "2", 0, "w123"); got != "" {
					t.Errorf("a change: %q", got)
				}
				if got := set(a, topic, "1", 0, ""); got != "" {
					t.Error(got)
				}
				if got := set(a, topic, "3", 0, "v123"); got != "" {
					t.Errorf("after a removal: %q", got)
				}
				w.wantDrops(DropStateLimit, 1)
				if n := w.stats().States; n != 3 {
					t.Errorf("%d values", n)
				}
			})
		}
	}
}

// TestStateOrder: many changes by two sessions on two shards end with the same value for everyone, also for who
// subscribes in between.
func TestStateOrder(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(t, 3)
		topic := w.topicOf(int(seed % 3))
		w.seed(seed)
		setters := []*client{w.login(0, "anna", "one"), w.login(1, "anna", "two")}
		var all []*client
		for i := range 60 {
			setters[i%2].send(setState(codec.KindTopic, topic, "k", 60, fmt.Sprint(i)))
			if i%10 == 0 {
				c := w.login(i/10%3, fmt.Sprint("user", i), "d")
				c.send(sub(1, codec.KindTopic, topic))
				all = append(all, c)
			}
			for range w.rng.IntN(4) {
				w.step()
			}
		}
		w.run()
		last := map[string]bool{}
		for _, c := range all {
			got := c.take()
			last[got[len(got)-1]] = true
		}
		if len(last) != 1 {
			t.Errorf("seed %d: some end with %v", seed, last)
		}
		w.passWith(61*time.Second, all...)
		w.end()
	}
}

// TestOwedIsNotOvertaken: a kept value that waits for a place in a full inbox comes before the change that follows it.
func TestOwedIsNotOvertaken(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.InboxCapacity = 16 })
	defer w.end()
	topic := w.topicOf(1)
	a, late := w.login(1, "anna", "d"), w.login(0, "late", "d")
	a.ask(setState(codec.KindTopic, topic, "k", 60, "1"))
	for range 40 { // fill shard 0's inbox
		a.send(toUser("late", ""))
	}
	w.loops[1].sh.Drain()
	late.send(sub(1, codec.KindTopic, topic))
	w.loops[0].sh.pushAll()
	w.loops[1].sh.inbox.Drain(10, w.loops[1].sh.take)
	if len(w.loops[1].sh.outboxes[0].owed) != 1 {
		t.Fatal("nothing is owed: the test does not test")
	}
	w.loops[0].sh.inbox.Drain(1, w.loops[0].sh.take) // now there is room for one
	a.send(setState(codec.KindTopic, topic, "k", 60, "2"))
	w.loops[1].sh.Drain()
	w.run()
	w.tick()
	got := late.take()
	if n := len(got); n == 0 || !strings.HasSuffix(got[n-1], ": 1") { // the change found no place
		t.Errorf("got %q", got)
	}
	w.wantDrops(DropInboxFull, 24+1)
	a.ask(setState(codec.KindTopic, topic, "k", 60, "3"))
	if got := late.take(); len(got) != 1 || !strings.HasSuffix(got[0], ": 3") {
		t.Errorf("got %q", got)
	}
	w.passWith(61*time.Second, late)
}

// TestOwedIsSentLater: what found a full inbox goes with a later tick, without anything else to do.
func TestOwedIsSentLater(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.InboxCapacity = 16 })
	defer w.end()
	old, a := w.login(1, "anna", "d"), w.login(0, "bob", "d")
	for range 40 {
		a.send(toUser("anna", ""))
	}
	w.loops[0].sh.Drain()
	fresh := w.open(0)
	fresh.send(hello("anna", "d"))
	w.loops[0].sh.Drain()
	if len(w.loops[0].sh.outboxes[1].owed) != 1 {
		t.Fatal("nothing is owed: the test does not test")
	}
	w.run()
	w.tick()
	old.wantBye(codec.CodeReplaced)
	fresh.want("WELCOME anna 60s")
}
