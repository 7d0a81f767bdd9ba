package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

const kib = 1 << 10

// TestSlowReader: at most OutLimit is kept for who does not read, what does not fit is dropped and counted, and after
// SlowTimeout it is told SLOW.
func TestSlowReader(t *testing.T) {
	for _, members := range []int{1, smallRoom + 10} {
		for _, limit := range []int{64 * kib, 256 * kib, 1 << 20} {
			t.Run(fmt.Sprintf("%d members, %d KiB", members, limit/kib), func(t *testing.T) {
				w := newWorld(t, 2, func(c *Config) { c.OutLimit = limit; c.MaxSessionsPerUser = 1000 })
				defer w.end()
				slow := w.crowd(1, members, "t")[0]
				a := w.login(0, "anna", "d")
				slow.room = 100
				n := limit / kib / 2 // so that two and a half times the limit comes
				for i := range n {
					a.ask(toTopic("t", strings.Repeat("x", 4*kib)), toUser(slow.user, strings.Repeat("y", kib)))
					if n := len(slow.pending); n > limit {
						t.Fatalf("%d: %d KiB are kept", i, n/kib)
					}
				}
				if len(slow.pending) < limit/2 {
					t.Errorf("only %d KiB are kept", len(slow.pending)/kib)
				}
				st := w.stats()
				if got := uint64(2*n+n*(members-1)) - st.Dropped[DropSlowReader]; st.Deliveries != got {
					t.Errorf("%d deliveries, %d drops", st.Deliveries, st.Dropped[DropSlowReader])
				}
				if st.Backlogged != 1 {
					t.Errorf("%d backlogged", st.Backlogged)
				}
				w.pass(29 * time.Second)
				if slow.shut || !slow.session.Live() {
					t.Fatal("ended before its time")
				}
				w.pass(1200 * time.Millisecond)
				if slow.session.Live() {
					t.Error("still live")
				}
				slow.read(-1)
				w.tick()
				slow.wantBye(codec.CodeSlow)
			})
		}
	}
}

func TestSlowReaderRecovers(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	slow, a := w.login(0, "slow", "d"), w.login(0, "anna", "d")
	slow.room = 0
	send := func() {
		for range 30 {
			a.ask(toUser("slow", strings.Repeat("x", 50*kib)))
		}
	}
	send()
	drops := w.stats().Dropped[DropSlowReader]
	if drops == 0 {
		t.Fatal("nothing was dropped")
	}
	w.pass(20 * time.Second)
	slow.read(len(slow.pending) - 100*kib) // it has read some: the time begins anew
	w.tick()
	slow.room = 0
	send()
	w.passWith(20*time.Second, a)
	if !slow.session.Live() {
		t.Fatal("ended although it reads")
	}
	slow.read(-1)
	w.tick()
	if slow.session.flags&flagBacklog != 0 || w.stats().Backlogged != 0 {
		t.Error("still in the backlog")
	}
	slow.take()
	drops = w.stats().Dropped[DropSlowReader]
	send()
	if n := len(slow.take()); n != 30 || w.stats().Dropped[DropSlowReader] != drops {
		t.Errorf("got %d of 30 after it had read all", n)
	}
}

// TestAskingWithoutReading: answers are not dropped; who asks and does not read ends.
func TestAskingWithoutReading(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.OutLimit = 64 * kib })
	defer w.end()
	c := w.login(0, "anna", "d")
	c.room = 0
	data := codec.AppendPing(nil, codec.Ping{Data: []byte("12345678")})
	n := 0
	for ; !c.shut && c.session.Live() && n < 100; n++ {
		c.ask([]byte(strings.Repeat(string(data), 100)))
		if len(c.pending) > 64*kib {
			t.Fatalf("%d KiB are kept", len(c.pending)/kib)
		}
	}
	if n < 40 || n > 60 {
		t.Errorf("ended after %d hundred", n)
	}
	c.read(-1)
	w.tick()
	c.wantBye(codec.CodeSlow)
}

// TestBurstForWhoReadsSlowly: a burst is dropped, not taken for asking.
func TestBurstForWhoReadsSlowly(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.OutLimit = 64 * kib })
	defer w.end()
	slow, a := w.login(0, "slow", "d"), w.login(0, "anna", "d")
	slow.room = 0
	slow.ask(ping())
	var frames [][]byte
	for range 200 {
		frames = append(frames, toUser("slow", strings.Repeat("x", kib)))
	}
	a.ask(frames...)
	if !slow.session.Live() {
		t.Error("ended by a burst")
	}
	if n := len(slow.pending); n > 64*kib {
		t.Errorf("%d KiB are kept", n/kib)
	}
}

// TestOutBudget: while all readers of a shard together are over the budget, each is kept less.
func TestOutBudget(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.OutBudget = 1 << 20 })
	defer w.end()
	a := w.login(0, "anna", "d")
	var slow []*client
	for i := range 4 {
		c := w.login(0, fmt.Sprint("slow", i), "d")
		c.room = 0
		slow = append(slow, c)
	}
	fill := func(n int) {
		for range n {
			for _, c := range slow {
				a.ask(toUser(c.user, strings.Repeat("x", 30*kib)))
			}
		}
	}
	fill(10) // 1.2 MiB in all
	w.tick()
	before := len(slow[0].pending)
	fill(10)
	if n := len(slow[0].pending); n != before {
		t.Errorf("over the budget %d KiB grew to %d", before/kib, n/kib)
	}
	for _, c := range slow {
		c.read(-1)
	}
	w.tick()
	slow[0].room = 0
	fill(10)
	if n := len(slow[0].pending); n < 300*kib {
		t.Errorf("under the budget %d KiB are kept", n/kib)
	}
	for _, c := range slow {
		c.read(-1)
		c.take()
	}
}

// TestJoinedRunForWhoDoesNotRead: what was joined while the shard was busy is not given to a reader as a whole.
func TestJoinedRunForWhoDoesNotRead(t *testing.T) {
	for _, members := range []int{1, smallRoom + 10} {
		const shards = 8
		w := newWorld(t, shards, func(c *Config) { c.RoomLimit = 256 * kib })
		slow := w.crowd(1, members, "t")[0]
		for i := 2; i < shards; i++ {
			w.crowd(i, 1, "t")
		}
		a := w.login(0, "anna", "d")
		slow.room = 0
		admitted := 0
		for i := range 100 {
			a.send(message(1, codec.KindTopic, "t", fmt.Sprintf("%04d%s", i, strings.Repeat("x", 30*kib))))
			w.loops[0].sh.Drain()
			for i := 2; i < shards; i++ {
				w.loops[i].sh.Drain()
				w.loops[i].sh.Slice()
			}
			if got := a.take(); len(got) == 1 && got[0] == "SENDACK 1 OK" {
				admitted++
			}
		}
		if admitted < 40 {
			t.Fatalf("only %d were admitted", admitted)
		}
		w.run()
		if n := len(slow.pending); n > 1<<20 {
			t.Errorf("%d members: %d KiB are kept", members, n/kib)
		}
		if st := w.stats(); st.Dropped[DropSlowReader] == 0 || w.node.topics.get([]byte("t")).queued.Load() != 0 {
			t.Errorf("%d drops", st.Dropped[DropSlowReader])
		}
		for _, c := range w.conns[1:members] {
			if x := (&client{fakeConn: c, w: w}).take(); len(x) != admitted {
				t.Fatalf("a reader got %d of %d", len(x), admitted)
			}
		}
		w.end()
	}
}

// TestSenderFailsInItsOwnTurn: what it sends makes so much to write that the shard writes in the middle of its turn,
// and its own connection fails there.
func TestSenderFailsInItsOwnTurn(t *testing.T) {
	for _, kind := range []string{"message", "state"} {
		for _, reused := range []bool{false, true} { // whether the list of free places is empty
			w := newWorld(t, 1)
			a := w.login(0, "anna", "d")
			var all []*client
			for i := range 100 {
				all = append(all, w.login(0, "bob", fmt.Sprint(i)))
			}
			if reused {
				w.open(0).disconnect()
			}
			payload := strings.Repeat("x", 60*kib)
			a.broken = true
			in := message(2, codec.KindDirect, "bob", payload)
			if kind == "state" {
				in = setState(codec.KindDirect, "bob", "k", 1, payload)
			}
			a.ask(message(1, codec.KindTopic, "void", ""), in, ping(), message(3, codec.KindTopic, "void", ""))
			if !a.closed {
				t.Fatal("the connection did not fail")
			}
			w.check()
			for _, c := range all {
				if got := c.take(); len(got) != 1 {
					t.Fatalf("got %q", got)
				}
			}
			seen := map[*Session]bool{}
			for _, c := range all {
				seen[c.session] = true
			}
			for range 3 {
				if c := w.open(0); seen[c.session] {
					t.Fatal("a place was given out twice")
				} else {
					seen[c.session] = true
				}
			}
			w.end()
		}
	}
}

// TestLoginFailsInItsOwnTurn: the values kept of its topics are so much that they are written in the middle of its login.
func TestLoginFailsInItsOwnTurn(t *testing.T) {
	w := newWorld(t, 1)
	a := w.login(0, "anna", "d")
	for i := range 10 {
		a.ask(setState(codec.KindTopic, "t", fmt.Sprint(i), 3000, strings.Repeat("x", 60*kib)))
	}
	c := w.open(0)
	c.broken = true
	c.ask(hello("bob", "d", "t"), sub(1, codec.KindTopic, "u"))
	if !c.closed {
		t.Fatal("the connection did not fail")
	}
	w.check()
	w.end()
}

// TestSharedBytesStay: bytes that out buffers share are not used again before they are written. m2 fails in a write in
// the middle of a run, and the values it had set make the next runs of the same room in the same turn.
func TestSharedBytesStay(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	m3, m2, m1 := w.login(0, "m3", "d", "t"), w.login(0, "m2", "d", "t"), w.login(0, "m1", "d", "t")
	a := w.login(0, "anna", "d")
	for _, c := range []*client{m2, m3} {
		for i := range 4 {
			c.ask(setState(codec.KindTopic, "t", fmt.Sprint(i), 0, "on"))
		}
	}
	m1.take()
	m2.broken, m3.broken = true, true
	fill := func(name string, n int) []byte {
		return toUser(name, strings.Repeat("f", n-len(toUser(name, ""))-17))
	}
	var frames [][]byte
	for range 4 { // both are just below what is written at once
		frames = append(frames, fill("m2", 60*kib), fill("m3", 60*kib))
	}
	x := toTopic("t", strings.Repeat("1", 6*kib))
	y := toTopic("t", strings.Repeat("2", 6*kib))
	frames = append(frames, fill("m2", 8*kib), fill("m3", 4*kib-200), x, y)
	a.ask(frames...)
	got := m1.take()
	if len(got) < 2 || !strings.Contains(got[0], ": 11111111…6144") || !strings.Contains(got[1], ": 22222222…6144") {
		t.Errorf("got %.200q", got)
	}
	for _, line := range got[2:] {
		if !strings.HasPrefix(line, "STATE topic t") {
			t.Errorf("got %q", line)
		}
	}
	if !m2.closed || !m3.closed || len(got) != 10 {
		t.Errorf("closed %v %v, %d frames", m2.closed, m3.closed, len(got))
	}
}

// TestBacklogIsCountedOnce: a place that is used again within a tick is in the backlog once.
func TestBacklogIsCountedOnce(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	var c *client
	for range 5 {
		c = w.login(0, "anna", "d")
		c.room = 0
		c.ask(ping())
		if len(c.pending) != 4 {
			t.Fatal("nothing waits")
		}
		if c.session.gen < 5 {
			c.disconnect()
		}
	}
	w.tick()
	if st := w.stats(); st.Backlogged != 1 || st.BacklogBytes != 4 {
		t.Errorf("%d in the backlog, %d bytes", st.Backlogged, st.BacklogBytes)
	}
	c.read(-1)
	c.want("PONG")
}
