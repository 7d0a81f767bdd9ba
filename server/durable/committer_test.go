package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

func TestDirectMessages(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		p := newPost(t, open)
		got := p.send(note("ann", 1, codec.KindDirect, "bob", "a"), note("bob", 1, codec.KindDirect, "ann", "b"), note("ann", 2, codec.KindDirect, "ann", "self"))
		wantCodes(t, got, 0, 0, 0)
		for i, want := range []shard.Answer{
			{Ref: sessionOf("ann"), Nonce: 1, Req: 1, Seq: 1, Pos: 1, Time: postNow},
			{Ref: sessionOf("bob"), Nonce: 1, Req: 1, Seq: 2, Pos: 2, Time: postNow},
			{Ref: sessionOf("ann"), Nonce: 2, Req: 2, Seq: 1, Pos: 3, Time: postNow},
		} {
			if got[i] != want {
				t.Errorf("answer %+v, want %+v", got[i], want)
			}
		}
		p.wantTexts("ann", "a", "b", "self")
		p.wantTexts("bob", "a", "b")
		for i, l := range p.r.got("ann") {
			if l.place != uint64(i+1) || l.flags != codec.MsgDurable {
				t.Errorf("%q came with place %d and flags %x", l.text, l.place, l.flags)
			}
			if want := sessionOf([]string{"ann", "bob", "ann"}[i]); l.sender != want {
				t.Errorf("%q came with the wrong sender's session", l.text)
			}
		}
		refs, _, err := p.current().Inbox("bob", 0, 10, nil)
		if err != nil || len(refs) != 2 || refs[1].Pos != 2 || refs[1].Seq != 2 {
			t.Errorf("bob's inbox: %v, %v", refs, err)
		}
	})
}

func TestLogChannels(t *testing.T) {
	p := newPost(t, inMemory)
	got := p.send(note("ann", 1, codec.KindTopic, "news", "a"), note("bob", 1, codec.KindAll, codec.AllName, "b"), note("ann", 2, codec.KindTopic, "news", "c"))
	wantCodes(t, got, 0, 0, 0)
	for _, a := range got {
		if a.Pos != 0 {
			t.Errorf("an answer has place %d, but topics have no inbox", a.Pos)
		}
	}
	room := fmt.Sprintf("%v/news", codec.KindTopic)
	p.wantTexts(room, "a", "c")
	for i, l := range p.r.got(room) {
		if l.seq != uint64(i+1) || l.flags != codec.MsgDurable|codec.MsgLog {
			t.Errorf("%q came with seq %d and flags %x", l.text, l.seq, l.flags)
		}
		stored, _, _, _, err := p.current().Read(store.Channel{Kind: codec.KindTopic, Name: "news"}, l.seq, 1, 1, nil)
		if err != nil || !bytes.Equal(stored, l.frame) {
			t.Errorf("%q is stored as %x (%v), but went out as %x", l.text, stored, err, l.frame)
		}
	}
	p.wantTexts(fmt.Sprintf("%v/%s", codec.KindAll, codec.AllName), "b")
}

func TestRetriesAreDuplicates(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		p := newPost(t, open)
		p.send(note("ann", 5, codec.KindDirect, "bob", "a"))
		got := p.send(note("ann", 5, codec.KindDirect, "bob", "a"), note("ann", 6, codec.KindDirect, "bob", "b"), note("ann", 6, codec.KindDirect, "bob", "b"), note("ann", 1, codec.KindDirect, "bob", "old"))
		wantCodes(t, got, codec.CodeDuplicate, 0, codec.CodeDuplicate, codec.CodeDuplicate)
		for i, want := range []uint64{1, 2, 2, 0} {
			if got[i].Seq != want {
				t.Errorf("answer %d has seq %d, want %d", i, got[i].Seq, want)
			}
		}
		p.wantTexts("bob", "a", "b")
		if s := p.Stats(); s.Duplicates != 3 || s.Messages != 2 {
			t.Errorf("%d duplicates and %d messages were counted", s.Duplicates, s.Messages)
		}
	})
}

// world of the groups test: ann owns, bob and cat are members, dan is none.
func withGroup(t *testing.T, p *post, name string, post Role, users ...string) {
	t.Helper()
	if _, err := p.Change(t.Context(), Change{Op: ChangeCreate, Group: name, By: "test", User: "ann", Users: users, Post: post}); err != nil {
		t.Fatal(err)
	}
	p.r.mu.Lock()
	p.r.letters = nil
	p.r.mu.Unlock()
}

func TestSmallGroups(t *testing.T) {
	p := newPost(t, inMemory)
	withGroup(t, p, "team", RoleMember, "bob", "cat")
	withGroup(t, p, "board", RoleAdmin, "bob")
	got := p.send(
		note("bob", 1, codec.KindGroup, "team", "a"), passing("cat", codec.KindGroup, "team", "typing"), note("dan", 1, codec.KindGroup, "team", "no"),
		note("cat", 1, codec.KindGroup, "team", "b"), note("bob", 2, codec.KindGroup, "board", "no"), note("ann", 1, codec.KindGroup, "nowhere", "no"), note("ann", 2, codec.KindGroup, "board", "c"),
	)
	wantCodes(t, got, 0, 0, codec.CodeForbidden, 0, codec.CodeForbidden, codec.CodeNotFound, 0)
	if got[0].Pos == 0 || got[0].Seq == 0 || got[1].Seq != 0 {
		t.Errorf("answers %+v and %+v", got[0], got[1])
	}
	p.wantTexts("ann", "a", "typing", "b", "c")
	p.wantTexts("bob", "a", "typing", "b", "c")
	p.wantTexts("cat", "a", "typing", "b")
	p.wantTexts("dan")
	for _, l := range p.r.got("bob") {
		if l.sender != 0 {
			t.Errorf("the sender of %q does not get it, but all members do", l.text)
		}
	}
	if s := p.Stats(); s.Forbidden != 3 || s.Ephemeral != 1 {
		t.Errorf("%d forbidden and %d ephemeral were counted", s.Forbidden, s.Ephemeral)
	}
}

func TestLargeGroups(t *testing.T) {
	p := newPost(t, inMemory, option(func(o *Options) { o.InboxFanout = 2 }))
	withGroup(t, p, "crowd", RoleMember, "bob", "cat")
	got := p.send(note("bob", 1, codec.KindGroup, "crowd", "a"), passing("bob", codec.KindGroup, "crowd", "typing"))
	wantCodes(t, got, 0, 0)
	room := fmt.Sprintf("%v/crowd", codec.KindGroup)
	p.wantTexts(room, "a", "typing")
	p.wantTexts("cat")
	for i, flags := range []uint8{codec.MsgDurable | codec.MsgLog, codec.MsgLog} {
		if l := p.r.got(room)[i]; l.flags != flags {
			t.Errorf("%q has flags %x", l.text, l.flags)
		}
	}
}

func TestMessagesWithoutSession(t *testing.T) {
	p := newPost(t, inMemory)
	withGroup(t, p, "team", RoleOwner)
	done := make(chan shard.Answer, 2)
	for _, name := range []string{"team", "none"} {
		e := shard.NewEntry(codec.Msg{Kind: codec.KindGroup, Name: []byte(name), Sender: []byte("robot"), Flags: codec.MsgDurable, Time: postNow}, 1)
		e.Done = func(a shard.Answer) { done <- a }
		p.submit(e)
	}
	if a := <-done; a.Code != 0 || a.Seq == 0 {
		t.Errorf("answer %+v", a)
	}
	if a := <-done; a.Code != codec.CodeNotFound {
		t.Errorf("answer %+v", a)
	}
	if len(p.r.got("ann")) != 1 || len(p.r.answers) != 0 {
		t.Errorf("ann got %v, sessions %v", p.r.got("ann"), p.r.answers)
	}
}

// Whatever shards send at once, each channel's messages come in the order of their seqs, each session's in the order of its nonces,
// and what is stored is what was delivered.
func TestOrder(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		const users, each = 20, 200
		p := newPost(t, open)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var wg sync.WaitGroup
		for u := range users {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(u)))
				me := fmt.Sprintf("user-%d", u)
				for n := uint64(1); n <= each; {
					var some []shard.Entry
					for range 1 + rng.IntN(20) {
						to, kind := fmt.Sprintf("user-%d", rng.IntN(users)), codec.KindDirect
						if rng.IntN(3) == 0 {
							to, kind = "news", codec.KindTopic
						}
						some = append(some, note(me, n, kind, to, fmt.Sprint(n)))
						n++
					}
					for len(some) > 0 {
						some = some[p.Submit(some):]
					}
				}
			})
		}
		wg.Wait()
		within(t, "all answers", func() bool { d, _ := p.pending.depth(); return d == 0 })
		nonces := map[shard.SessionRef]uint64{}
		for _, a := range p.r.answers {
			if a.Code != 0 || a.Nonce != nonces[a.Ref]+1 {
				t.Fatalf("%+v came behind nonce %d", a, nonces[a.Ref])
			}
			nonces[a.Ref] = a.Nonce
		}
		places := map[string]uint64{}
		for _, l := range p.r.letters {
			if l.place > 0 && l.place <= places[l.to] {
				t.Fatalf("place %d came to %s behind place %d", l.place, l.to, places[l.to])
			}
			places[l.to] = l.place
		}
		room := p.r.got(fmt.Sprintf("%v/news", codec.KindTopic))
		for i, l := range room {
			if l.seq != uint64(i+1) {
				t.Fatalf("message %d of the topic has seq %d", i, l.seq)
			}
		}
		frames, _, _, n, err := p.current().Read(store.Channel{Kind: codec.KindTopic, Name: "news"}, 1, users*each, 1<<30, nil)
		var sent []byte
		for _, l := range room {
			sent = append(sent, l.frame...)
		}
		if err != nil || n != len(room) || !bytes.Equal(frames, sent) {
			t.Errorf("%d messages are stored (%v), %d were delivered, or they differ", n, err, len(room))
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	biggest, bytesIn := 0, 0
	open := func() (store.Store, error) {
		s, err := inMemory()
		return &brittle{Store: s, onAppend: func(s store.Store, batch []store.Message, results []store.Result) error {
			size := 0
			for _, m := range batch {
				size += len(m.Frame)
			}
			biggest, bytesIn = max(biggest, len(batch)), max(bytesIn, size)
			return s.Append(batch, results)
		}}, err
	}
	p := newPost(t, open)
	p.r.gate = make(chan struct{})
	p.submit(note("ann", 1, codec.KindTopic, "first", "holds the committer"))
	within(t, "the first round", func() bool { p.r.mu.Lock(); defer p.r.mu.Unlock(); return p.r.sends > 0 })
	var all []shard.Entry
	for n := range uint64(maxBatch + 100) {
		all = append(all, note("ann", n+2, codec.KindTopic, "news", "x"))
	}
	long := string(make([]byte, 60_000))
	for n := range uint64(200) {
		all = append(all, note("bob", n+1, codec.KindTopic, "long", long))
	}
	p.submit(all...)
	close(p.r.gate)
	p.wait(len(all) + 1)
	if biggest != maxBatch || bytesIn > maxBatchBytes+61_000 || bytesIn < maxBatchBytes {
		t.Errorf("batches of up to %d messages and %d bytes, want %d and about %d", biggest, bytesIn, maxBatch, maxBatchBytes)
	}
	if n, b := p.pending.depth(); n != 0 || b != 0 {
		t.Errorf("%d entries and %d bytes wait when all are answered", n, b)
	}
}

func TestSubmitIsBounded(t *testing.T) {
	one := note("ann", 1, codec.KindTopic, "news", "x")
	for _, c := range []struct {
		name        string
		count, size int
		want        int
	}{
		{"messages", 3, 1 << 20, 3},
		{"bytes", 100, 3*len(one.Buf) + 5, 3},
		{"one larger than all the room", 100, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPost(t, inMemory, option(func(o *Options) { o.Pending, o.PendingBytes = c.count, c.size }))
			p.r.gate = make(chan struct{})
			p.submit(note("ann", 1, codec.KindTopic, "news", "x"))
			within(t, "the first round", func() bool { p.r.mu.Lock(); defer p.r.mu.Unlock(); return p.r.sends > 0 })
			var all []shard.Entry
			for n := range uint64(5) {
				all = append(all, note("ann", n+2, codec.KindTopic, "news", "x"))
			}
			if n := p.Submit(all); n != c.want-1 { // what is being committed counts
				t.Errorf("%d entries were taken, want %d", n, c.want-1)
			}
			if s := p.Stats(); s.Busy != uint64(len(all)-c.want+1) || s.Pending != c.want {
				t.Errorf("%d busy and %d pending were counted", s.Busy, s.Pending)
			}
			close(p.r.gate)
			p.wait(c.want)
			within(t, "room again", func() bool { return p.Submit(all[4:]) == 1 })
		})
	}
}

func TestCommitsBeginApart(t *testing.T) {
	var begins []time.Time
	open := func() (store.Store, error) {
		s, err := inMemory()
		return &brittle{Store: s, onAppend: func(s store.Store, batch []store.Message, results []store.Result) error {
			begins = append(begins, time.Now())
			return s.Append(batch, results)
		}}, err
	}
	const apart = 20 * time.Millisecond
	p := newPost(t, open, option(func(o *Options) { o.CommitEvery = apart }))
	start := time.Now()
	p.send(note("ann", 1, codec.KindTopic, "news", "x"))
	first := time.Since(start)
	for n := range uint64(4) {
		p.send(note("ann", n+2, codec.KindTopic, "news", "x"))
	}
	for i := range begins[1:] {
		if d := begins[i+1].Sub(begins[i]); d < apart-time.Millisecond {
			t.Errorf("commits %d and %d began %v apart, want %v", i, i+1, d, apart)
		}
	}
	if total := time.Since(start); first > total/2 {
		t.Errorf("the first message waited %v of %v", first, total)
	}
}

func TestCallsRunBetweenBatches(t *testing.T) {
	p := newPost(t, inMemory)
	boom := errors.New("boom")
	if err := p.do(t.Context(), func(*committer) error { return boom }); err != boom {
		t.Errorf("do returned %v", err)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	go func() { _ = p.do(t.Context(), func(*committer) error { close(held); <-hold; return nil }) }()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	if err := p.do(ctx, func(*committer) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("do returned %v", err)
	}
	close(hold)
	if err := p.do(t.Context(), func(c *committer) error {
		m := codec.Msg{Flags: codec.MsgDurable, Kind: codec.KindGroup, Name: []byte("g"), Sender: []byte("x"), Time: postNow}
		batch := []store.Message{{Kind: m.Kind, Name: m.Name, Time: m.Time, Frame: codec.AppendMsg(nil, m)}}
		results := make([]store.Result, 1)
		if err := c.commit(batch, results); err != nil || results[0].Seq != 1 {
			return fmt.Errorf("commit: %v %+v", err, results)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if ran {
		t.Error("a call ran whose caller had given up")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.do(t.Context(), func(*committer) error { return nil }); err != errClosed {
		t.Errorf("do returned %v after Close", err)
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	open := onDisk(t)
	p := newPost(t, open, option(func(o *Options) { o.CommitEvery = time.Hour }))
	var all []shard.Entry
	for n := range uint64(500) {
		all = append(all, note("ann", n+1, codec.KindDirect, "bob", fmt.Sprint(n)))
	}
	p.submit(all[:1]...)
	p.wait(1)
	p.submit(all[1:]...)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := p.Submit(all); n != 0 {
		t.Errorf("%d entries were taken after Close", n)
	}
	if err := p.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	wantCodes(t, p.wait(len(all)), make([]codec.Code, len(all))...)
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	refs, _, err := s.Inbox("bob", 0, 1000, nil)
	if err != nil || len(refs) != len(all) {
		t.Errorf("%d references are stored (%v), want %d", len(refs), err, len(all))
	}
	rec, err := s.Get(convOwner("ann"), convKey(codec.KindDirect, pairOf("ann", "bob")))
	if c, e := readConv(rec); err != nil || e != nil || c.Read != uint64(len(all)) {
		t.Errorf("ann's side of the conversation: %+v (%v, %v), want read %d", c, err, e, len(all))
	}
}

// Shards that do not take what they are given hold Close up for a bounded time.
func TestCloseDoesNotWaitForShards(t *testing.T) {
	p := newPost(t, inMemory, before(func(l *Log) { l.timing.close = 20 * time.Millisecond }))
	p.r.gate = make(chan struct{})
	p.submit(note("ann", 1, codec.KindTopic, "news", "x"), note("ann", 2, codec.KindTopic, "news", "y"))
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for ever")
	}
}

func TestFirstMessageMakesConversations(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		puts := 0
		p := newPost(t, func() (store.Store, error) {
			s, err := open()
			b := &brittle{Store: s}
			b.onPut = func(store.Store, []store.Record) error { puts++; return nil }
			b.onAppend = func(s store.Store, batch []store.Message, results []store.Result) error {
				for _, m := range batch {
					for _, user := range m.Inbox { // a crash behind this batch must not lose them
						if v, err := s.Get(convOwner(string(user)), convKey(m.Kind, string(m.Name))); v == nil || err != nil {
							t.Errorf("%s has no record of %q yet (%v)", user, m.Name, err)
						}
					}
				}
				return s.Append(batch, results)
			}
			return b, err
		}, before(unhurried))
		p.send(note("ann", 1, codec.KindDirect, "bob", "a"), note("ann", 2, codec.KindDirect, "ann", "self"), note("ann", 3, codec.KindTopic, "news", "x"))
		p.send(note("ann", 4, codec.KindDirect, "bob", "a"))
		if puts != 1 {
			t.Errorf("records were written %d times, want once", puts)
		}
		for user, want := range map[string][]string{"ann": {pairOf("ann", "ann"), pairOf("ann", "bob")}, "bob": {pairOf("ann", "bob")}} {
			found, err := p.current().Scan(convOwner(user), "", 10)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range found {
				ch, ok := splitConvKey(r.Key)
				if !ok || ch.Kind != codec.KindDirect {
					t.Errorf("key %q", r.Key)
				}
				names = append(names, ch.Name)
			}
			if !slices.Equal(names, want) {
				t.Errorf("%s has conversations %q, want %q", user, names, want)
			}
		}
	})
}

// A conversation that was there keeps its positions when the process sees its channel for the first time.
func TestConversationsAreNotOverwritten(t *testing.T) {
	open := onDisk(t)
	p := newPost(t, open)
	p.send(note("ann", 1, codec.KindDirect, "bob", "a"), note("ann", 2, codec.KindDirect, "bob", "b"))
	p.Mark([]shard.Mark{{User: "bob", Device: "phone", Mode: codec.AckRead, Kind: codec.KindDirect, Name: pairOf("ann", "bob"), Seq: 2}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = newPost(t, open)
	p.send(note("ann", 3, codec.KindDirect, "bob", "c"))
	if c, known, err := p.conv("bob", codec.KindDirect, pairOf("ann", "bob")); c.Read != 2 || !known || err != nil {
		t.Errorf("bob's side: %+v, %v, %v", c, known, err)
	}
}

func TestInvalidMessagesAreAnswered(t *testing.T) {
	p := newPost(t, inMemory)
	broken := note("ann", 1, codec.KindTopic, "news", "x")
	broken.Buf[3] = byte(codec.TypePing)
	alone := shard.NewEntry(codec.Msg{Kind: codec.KindDirect, Name: []byte("bob"), Sender: []byte("ann"), Flags: codec.MsgDurable, Time: postNow}, 1)
	alone.Ref = sessionOf("ann")
	got := p.send(broken, passing("ann", codec.KindTopic, "news", "needs no log"), alone, note("ann", 2, codec.KindTopic, "news", "y"))
	wantCodes(t, got, codec.CodeInvalid, codec.CodeInvalid, codec.CodeInvalid, 0)
	p.wantTexts(fmt.Sprintf("%v/news", codec.KindTopic), "y")
}
