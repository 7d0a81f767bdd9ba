package durable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

var errGone = errors.New("the disk is gone")

// shelved is a store that outlives its closings, as a disk does.
type shelved struct {
	store.Store
	closed atomic.Int32
}

func (s *shelved) Close() error { s.closed.Add(1); return nil }

// failing opens brittle stores over one that lasts; the first opened are made by first, in their order, others work.
type failing struct {
	under  shelved
	first  []func(*brittle) error
	opened int
}

func newFailing(t *testing.T, first ...func(*brittle) error) *failing {
	t.Helper()
	s, err := inMemory()
	if err != nil {
		t.Fatal(err)
	}
	return &failing{under: shelved{Store: s}, first: first}
}

func (f *failing) open() (store.Store, error) {
	b := &brittle{Store: &f.under}
	f.opened++
	if f.opened <= len(f.first) {
		if err := f.first[f.opened-1](b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// works is a store with which nothing is wrong; cannotOpen one that is not there.
func works(*brittle) error      { return nil }
func cannotOpen(*brittle) error { return errGone }

// failingAfter makes Append fail from its n-th call on; with keep what it was given is stored all the same, the first time.
func failingAfter(n int, keep bool) func(*brittle) error {
	return func(b *brittle) error {
		calls, failed := 0, false
		b.onAppend = func(s store.Store, batch []store.Message, results []store.Result) error {
			if calls++; calls < n {
				return s.Append(batch, results)
			}
			if keep && !failed {
				_ = s.Append(batch, results)
			}
			failed = true
			return fmt.Errorf("%w: %w", store.ErrFailed, errGone)
		}
		return nil
	}
}

// healthy waits until the log stores again.
func (p *post) healthy() {
	p.t.Helper()
	within(p.t, "a store that works", func() bool { return p.Status() == nil })
}

func TestFailedStoreIsReopened(t *testing.T) {
	f := newFailing(t, failingAfter(2, false), cannotOpen, cannotOpen)
	p := newPost(t, f.open, before(func(l *Log) { l.timing.backoff = func(int) time.Duration { return 20 * time.Millisecond } }))
	wantCodes(t, p.send(note("ann", 1, codec.KindDirect, "bob", "a")), 0)
	wantCodes(t, p.send(note("ann", 2, codec.KindDirect, "bob", "b"), note("bob", 1, codec.KindDirect, "ann", "c")), 3, 3)
	if err := p.Status(); !errors.Is(err, errGone) {
		t.Errorf("status %v does not say why", err)
	}
	wantCodes(t, p.send(note("cat", 1, codec.KindTopic, "news", "x")), 3) // at once
	p.healthy()
	p.wantTexts("bob", "a")
	wantCodes(t, p.send(note("ann", 2, codec.KindDirect, "bob", "b"), note("bob", 1, codec.KindDirect, "ann", "c")), 0, 0)
	p.wantTexts("bob", "a", "b", "c")
	s := p.Stats()
	if s.Failures != 1 || s.Reopens != 1 || s.Recovered != 0 || s.Failed || f.opened != 4 || f.under.closed.Load() != 1 {
		t.Errorf("stats %+v after %d openings and %d closings", s, f.opened, f.under.closed.Load())
	}
}

func TestStatusSaysWhyTheStoreCannotBeOpened(t *testing.T) {
	damaged := func(*brittle) error { return store.ErrCorrupt }
	all := []func(*brittle) error{failingAfter(1, false)}
	for range 1000 {
		all = append(all, damaged)
	}
	p := newPost(t, newFailing(t, all...).open)
	p.send(note("ann", 1, codec.KindDirect, "bob", "a"))
	within(t, "the reason", func() bool { return errors.Is(p.Status(), store.ErrCorrupt) })
	if err := p.Close(); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Close returned %v", err)
	}
}

// What a failed commit left in the store has its numbers: who follows live gets it, in order and before anything new.
func TestSurvivorsOfAFailedCommit(t *testing.T) {
	f := newFailing(t, failingAfter(3, true))
	p := newPost(t, f.open, option(func(o *Options) { o.InboxFanout = 3 }))
	p.send(note("ann", 1, codec.KindDirect, "bob", "a"), note("ann", 2, codec.KindTopic, "news", "n1"), note("ann", 3, codec.KindTopic, "other", "o1"))
	p.send(note("ann", 4, codec.KindTopic, "news", "n2"))
	lost := []shard.Entry{
		note("ann", 5, codec.KindDirect, "bob", "b"), note("bob", 1, codec.KindDirect, "ann", "c"), note("ann", 6, codec.KindTopic, "news", "n3"),
		note("ann", 7, codec.KindDirect, "cat", "first"), note("ann", 8, codec.KindTopic, "new", "w1"), note("bob", 2, codec.KindTopic, "news", "n4"),
	}
	wantCodes(t, p.send(lost...), 3, 3, 3, 3, 3, 3)
	p.healthy()
	topic := func(name string) string { return fmt.Sprintf("%v/%s", codec.KindTopic, name) }
	p.wantTexts(topic("news"), "n1", "n2", "n3", "n4")
	p.wantTexts(topic("new"), "w1")
	p.wantTexts(topic("other"), "o1")
	p.wantTexts("bob", "a", "b", "c")
	p.wantTexts("ann", "a", "b", "c", "first")
	p.wantTexts("cat", "first")
	places := uint64(0)
	for _, l := range p.r.got("ann") {
		if l.place <= places {
			t.Errorf("%q came with place %d behind place %d", l.text, l.place, places)
		}
		places = l.place
	}
	for name, from := range map[string]uint64{"news": 3, "new": 1, "other": 2} { // what memory says must not have a hole either
		ch := store.Channel{Kind: codec.KindTopic, Name: name}
		head, _ := p.current().Head(ch)
		if _, next, _, ok := p.recentFrom(ch, from, 10, 1000, nil); ok && next <= head.Seq {
			t.Errorf("memory says that %v ends at %d, the head is %d", ch, next-1, head.Seq)
		}
	}
	again := p.send(note("ann", 5, codec.KindDirect, "bob", "b"), note("bob", 1, codec.KindDirect, "ann", "c"), note("ann", 9, codec.KindTopic, "news", "n5"))
	wantCodes(t, again, codec.CodeDuplicate, codec.CodeDuplicate, 0)
	if again[0].Seq != 2 || again[1].Seq != 3 || again[2].Seq != 5 {
		t.Errorf("answers %+v", again)
	}
	p.wantTexts(topic("news"), "n1", "n2", "n3", "n4", "n5")
	if s := p.Stats(); s.Recovered != 9 {
		t.Errorf("%d recovered deliveries were counted, want 9", s.Recovered)
	}
}

// A group's change is appended by a call; it must not fall into a hole either.
func TestSurvivorsOfACall(t *testing.T) {
	f := newFailing(t, failingAfter(1, true))
	p := newPost(t, f.open)
	err := p.do(t.Context(), func(c *committer) error {
		m := codec.Msg{Flags: codec.MsgDurable, Kind: codec.KindGroup, Name: []byte("g"), Sender: []byte("x"), Time: postNow, Payload: []byte("entry")}
		batch := []store.Message{{Kind: m.Kind, Name: m.Name, Time: m.Time, Frame: codec.AppendMsg(nil, m), Inbox: [][]byte{[]byte("ann")}}}
		return c.commit(batch, make([]store.Result, 1))
	})
	if !errors.Is(err, errGone) {
		t.Errorf("commit returned %v", err)
	}
	p.healthy()
	p.wantTexts("ann", "entry")
}

// When reading what a failed commit left fails too, it is tried again, and nobody gets a part twice.
func TestSurvivorsAreReadAgain(t *testing.T) {
	reads := 0
	unreadable := func(b *brittle) error {
		b.onRead = func() error {
			if reads++; reads == 2 {
				return errGone
			}
			return nil
		}
		return nil
	}
	f := newFailing(t, failingAfter(1, true), unreadable)
	p := newPost(t, f.open)
	wantCodes(t, p.send(note("ann", 1, codec.KindDirect, "bob", "a"), note("ann", 2, codec.KindTopic, "news", "n")), 3, 3)
	p.healthy()
	p.wantTexts("ann", "a")
	p.wantTexts("bob", "a")
	p.wantTexts(fmt.Sprintf("%v/news", codec.KindTopic), "n")
	if f.opened != 3 || f.under.closed.Load() != 2 {
		t.Errorf("%d openings and %d closings", f.opened, f.under.closed.Load())
	}
}

// pretender is a store that says something else of itself.
type pretender struct {
	store.Store
	epoch, place uint64
}

func (p *pretender) Epoch() uint64 { return p.Store.Epoch() + p.epoch }
func (p *pretender) Place() uint64 { return p.Store.Place() - p.place }

func TestAnotherStoreIsNotAdopted(t *testing.T) {
	for _, c := range []struct {
		name  string
		other pretender
		want  error
	}{{"epoch", pretender{epoch: 1}, errEpoch}, {"older", pretender{place: 1}, errOlder}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFailing(t, failingAfter(2, false), works)
			p := newPost(t, func() (store.Store, error) {
				s, err := f.open()
				if f.opened > 1 {
					other := c.other
					other.Store = s
					s = &other
				}
				return s, err
			})
			wantCodes(t, p.send(note("ann", 1, codec.KindTopic, "news", "a")), 0)
			wantCodes(t, p.send(note("ann", 2, codec.KindTopic, "news", "b")), 3)
			within(t, "the refusal", func() bool { return errors.Is(p.Status(), c.want) })
			wantCodes(t, p.send(note("ann", 2, codec.KindTopic, "news", "b")), 3)
			if f.opened != 2 || f.under.closed.Load() != 2 {
				t.Errorf("%d openings and %d closings", f.opened, f.under.closed.Load())
			}
			if err := p.Close(); !errors.Is(err, c.want) {
				t.Errorf("Close returned %v", err)
			}
		})
	}
}

// A conversation record that cannot be written fails the store like a message.
func TestFailedRecords(t *testing.T) {
	fails := func(b *brittle) error {
		b.onPut = func(store.Store, []store.Record) error { return errGone }
		return nil
	}
	p := newPost(t, newFailing(t, fails).open)
	wantCodes(t, p.send(note("ann", 1, codec.KindDirect, "bob", "a")), 3)
	p.healthy()
	wantCodes(t, p.send(note("ann", 1, codec.KindDirect, "bob", "a")), 0)
	if v, err := p.current().Get(convOwner("bob"), convKey(codec.KindDirect, pairOf("ann", "bob"))); v == nil || err != nil {
		t.Errorf("bob's conversation: %v, %v", v, err)
	}
}

func TestTooLongRecordsDoNotFailTheStore(t *testing.T) {
	p := newPost(t, inMemory)
	err := p.put([]store.Record{{Owner: "x", Key: strings.Repeat("k", store.MaxKey+1), Value: []byte{1}}}, true)
	if !errors.Is(err, store.ErrLimit) || p.Status() != nil {
		t.Errorf("put returned %v, status %v", err, p.Status())
	}
}

// Behind a message that was refused for now nothing of its session is stored, until it comes again, whatever was on its way.
func TestNothingOvertakesARefusedMessage(t *testing.T) {
	f := newFailing(t, failingAfter(1, false))
	p := newPost(t, f.open)
	wantCodes(t, p.send(note("ann", 5, codec.KindTopic, "news", "a"), note("bob", 5, codec.KindTopic, "news", "b")), 3, 3)
	p.healthy()
	wantCodes(t, p.send(note("ann", 6, codec.KindTopic, "news", "late"), note("cat", 1, codec.KindTopic, "news", "c")), 3, 0)
	wantCodes(t, p.send(note("ann", 5, codec.KindTopic, "news", "a"), note("ann", 6, codec.KindTopic, "news", "late"), note("bob", 9, codec.KindTopic, "news", "z")), 0, 0, 3)
	p.wantTexts(fmt.Sprintf("%v/news", codec.KindTopic), "c", "a", "late")
	p.now.Add(1 << 40) // the wall clock is set: that says nothing
	wantCodes(t, p.send(note("bob", 9, codec.KindTopic, "news", "z")), 3)
	late := note("bob", 9, codec.KindTopic, "news", "z")
	late.Born += refusalTime + 10 // by now the shard knows
	wantCodes(t, p.send(late), 0)
}

func TestRefusalsAreBounded(t *testing.T) {
	l := &Log{clock: func() int64 { return 10 * refusalTime }}
	var r refusals
	r.init(8)
	entry := func(i int, nonce uint64) *shard.Entry {
		return &shard.Entry{Ref: shard.MakeRef(0, uint32(i), 1), Nonce: nonce}
	}
	for i := range 8 {
		r.note(l, entry(i, 5), codec.CodeUnavailable)
	}
	r.note(l, entry(3, 9), codec.CodeUnavailable)
	r.note(l, entry(3, 4), codec.CodeBusy)
	if got := r.judge(entry(3, 5)); got != codec.CodeBusy || len(r.of) != 8 {
		t.Errorf("%v, %d sessions", got, len(r.of))
	}
	r.note(l, entry(9, 1), codec.CodeForbidden) // for good: later ones may pass
	r.note(l, entry(10, 0), codec.CodeUnavailable)
	if len(r.of) != 8 || l.stats.refusalsDropped.Load() != 0 {
		t.Errorf("%d sessions, %d dropped", len(r.of), l.stats.refusalsDropped.Load())
	}
	for i := range 100 {
		r.note(l, entry(100+i, 1), codec.CodeUnavailable)
	}
	if len(r.of) != 8 || l.stats.refusalsDropped.Load() != 100 {
		t.Errorf("%d sessions, %d dropped", len(r.of), l.stats.refusalsDropped.Load())
	}
}

// A store that fails at random, keeps what it was given or not, and clients that try again until they hear OK or DUPLICATE:
// in the end everything is stored once, in order, and everybody got all of it live.
func TestFailuresAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var first []func(*brittle) error
	for range 30 {
		switch rng.IntN(4) {
		case 0:
			first = append(first, cannotOpen)
		default:
			first = append(first, failingAfter(1+rng.IntN(6), rng.IntN(2) == 0))
		}
	}
	first[0] = failingAfter(3, true)
	p := newPost(t, newFailing(t, first...).open)
	const users, each = 5, 60
	next := [users]uint64{}
	for u := range users {
		next[u] = 1
	}
	name := func(u int) string { return fmt.Sprintf("user-%d", u) }
	for busy := true; busy; {
		busy = false
		var some []shard.Entry
		for u := range users { // a window of four messages each
			for n := next[u]; n < min(next[u]+4, each+1); n++ {
				busy = true
				e := note(name(u), n, codec.KindDirect, name((u+1)%users), fmt.Sprintf("%d.%d", u, n))
				if n%2 == 0 {
					e = note(name(u), n, codec.KindTopic, "news", fmt.Sprintf("%d.%d", u, n))
				}
				some = append(some, e)
			}
		}
		for i, a := range p.send(some...) {
			u := 0
			for name(u) != string(some[i].Sender()) {
				u++
			}
			if done := a.Code == 0 || a.Code == codec.CodeDuplicate; done && a.Nonce == next[u] {
				next[u]++
			} else if done {
				t.Fatalf("%s: nonce %d was stored before %d", name(u), a.Nonce, next[u])
			}
		}
	}
	p.healthy()
	for u := range users {
		var want []string
		for n := 1; n <= each; n += 2 {
			want = append(want, fmt.Sprintf("%d.%d", u, n))
		}
		var got []string
		for _, text := range p.r.texts(name((u + 1) % users)) {
			if strings.HasPrefix(text, fmt.Sprint(u)+".") {
				got = append(got, text)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("user-%d got %q", (u+1)%users, got)
		}
	}
	for i, l := range p.r.got(fmt.Sprintf("%v/news", codec.KindTopic)) {
		if l.seq != uint64(i+1) {
			t.Fatalf("message %d of the topic came with seq %d", i+1, l.seq)
		}
	}
	if n := len(p.r.got(fmt.Sprintf("%v/news", codec.KindTopic))); n != users*each/2 {
		t.Errorf("%d messages of the topic came, want %d", n, users*each/2)
	}
}
