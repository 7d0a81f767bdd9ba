package durable

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
)

const hours = 24 * time.Hour

// attic is a log whose time and whose turns of the retention are the test's.
type attic struct {
	*post
	mono  atomic.Int64 // nanoseconds
	open  func() (store.Store, error)
	set   func(*Options)
	nonce map[string]uint64
}

func newAttic(t testing.TB, open func() (store.Store, error), set func(*Options)) *attic {
	t.Helper()
	a := &attic{open: open, set: set, nonce: map[string]uint64{}}
	a.post = &post{t: t}
	a.now.Store(postNow)
	a.start()
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func (a *attic) start() {
	a.t.Helper()
	o := Options{Open: a.open, Logger: slog.New(slog.DiscardHandler), Now: a.now.Load, RecentBytes: 1 << 20}
	a.set(&o)
	l, err := New(o)
	if err != nil {
		a.t.Fatal(err)
	}
	l.timing.backoff = func(int) time.Duration { return time.Millisecond }
	l.timing.flush, l.timing.resolve, l.timing.retain = 2*time.Millisecond, time.Millisecond, time.Hour
	a.Log, a.r = l, &recorder{}
	l.start(a.r, a.mono.Load)
}

// reopen ends the log and starts another one on what is stored.
func (a *attic) reopen() {
	a.t.Helper()
	if err := a.Close(); err != nil {
		a.t.Fatal(err)
	}
	a.start()
}

// pass lets time pass.
func (a *attic) pass(d time.Duration) {
	a.now.Add(uint64(d.Milliseconds()))
	a.mono.Add(int64(d))
}

// turns lets the retention go on until it has done what is to be done now.
func (a *attic) turns() {
	a.t.Helper()
	for n := 0; ; n++ {
		a.healthy()
		a.retention.turn()
		under := false
		for kind := range a.retention.walks {
			under = under || a.retention.walks[kind].under
		}
		a.retention.mu.Lock()
		under = under || len(a.retention.long) > 0 || a.retention.due > 0 && a.retention.due <= a.now.Load()
		a.retention.mu.Unlock()
		if !under {
			return
		}
		if n > 10_000 {
			a.t.Fatal("the retention comes to no end")
		}
	}
}

// say sends messages of a channel, one commit for all; a text is "text", "text ttl seconds", and flags count for all.
func (a *attic) say(from string, kind codec.Kind, to string, flags uint8, ttl uint32, texts ...string) []shard.Answer {
	a.t.Helper()
	var all []shard.Entry
	for _, text := range texts {
		a.nonce[from]++
		all = append(all, said(from, a.nonce[from], kind, to, text, flags, ttl, a.now.Load()))
	}
	got := a.send(all...)
	for _, x := range got {
		if x.Code != codec.CodeOK {
			a.t.Fatalf("%s to %s: %v", from, to, x.Code)
		}
	}
	return got
}

// said is note with a time to live in seconds, 0 for none, and a time in Unix milliseconds.
func said(from string, nonce uint64, kind codec.Kind, to, text string, flags uint8, ttl uint32, now uint64) shard.Entry {
	m := codec.Msg{
		Kind: kind, Name: []byte(to), Sender: []byte(from), Time: now, Flags: codec.MsgDurable | flags, Content: codec.ContentText,
		Payload: []byte(text),
	}
	if kind == codec.KindDirect {
		m.Name = []byte(pairOf(from, to))
	}
	if ttl > 0 {
		m.Ext = m.Ext.AppendUint32(codec.TagTTL, ttl)
	}
	e := shard.NewEntry(m, 5)
	e.Ref, e.Nonce, e.Req, e.Buf = sessionOf(from), nonce, uint32(nonce), append(e.Buf, "phone"...)
	return e
}

// texts are the messages that a channel has in the store.
func (a *attic) texts(kind codec.Kind, name string) (all []string) {
	a.t.Helper()
	frames, _, _, n, err := a.current().Read(store.Channel{Kind: kind, Name: name}, 0, 1<<20, 1<<30, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for ; n > 0; n-- {
		m, err := message(frames)
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, string(m.Payload))
		frames = frames[frameLen(frames):]
	}
	return all
}

func (a *attic) wantStored(kind codec.Kind, name string, want ...string) {
	a.t.Helper()
	if got := a.texts(kind, name); !slices.Equal(got, want) {
		a.t.Errorf("%v %q has %q, want %q", kind, name, got, want)
	}
}

func (a *attic) head(kind codec.Kind, name string) store.Head {
	a.t.Helper()
	h, err := a.current().Head(store.Channel{Kind: kind, Name: name})
	if err != nil {
		a.t.Fatal(err)
	}
	return h
}

// ask has a reader answer.
func (a *attic) ask(q shard.Read) *shard.Read {
	(&reader{r: &readers{l: a.Log}, l: a.Log}).answer(&q)
	return &q
}

// listed are the channels on the list of those that have messages.
func (a *attic) listed() (all []string) {
	a.t.Helper()
	records, err := a.current().Scan(ownerKept, "", 1000)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, r := range records {
		ch, _ := splitConvKey(r.Key)
		all = append(all, fmt.Sprint(ch.Kind, "/", ch.Name))
	}
	return all
}

func eachAttic(t *testing.T, r Retention, test func(t *testing.T, a *attic)) {
	set := func(o *Options) { o.Retention = r }
	t.Run("memory", func(t *testing.T) {
		s := memory.New(memory.Options{})
		test(t, newAttic(t, func() (store.Store, error) { return &shelved{Store: s}, nil }, set))
	})
	t.Run("pebble", func(t *testing.T) { test(t, newAttic(t, onDisk(t), set)) })
}

func TestKeepByAge(t *testing.T) {
	eachAttic(t, Retention{Topic: Keep{Age: 3 * hours}, All: Keep{Age: 6 * hours}}, func(t *testing.T, a *attic) {
		for day := range 10 {
			text := fmt.Sprint(day)
			a.say("ann", codec.KindTopic, "news", 0, 0, text+"a", text+"b")
			a.say("ann", codec.KindAll, codec.AllName, 0, 0, text)
			a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 0, text)
			if day == 2 {
				a.say("ann", codec.KindTopic, "once", 0, 0, "x")
			}
			if day == 5 {
				a.reopen()
			}
			a.turns()
			a.pass(hours)
		}
		a.turns() // it is day 10
		a.wantStored(codec.KindTopic, "news", "7a", "7b", "8a", "8b", "9a", "9b")
		a.wantStored(codec.KindAll, codec.AllName, "4", "5", "6", "7", "8", "9")
		a.wantStored(codec.KindDirect, pairOf("ann", "bob"), "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		a.wantStored(codec.KindTopic, "once")
		if h := a.head(codec.KindTopic, "once"); h != (store.Head{First: 2, Seq: 1}) {
			t.Errorf("head of what has nothing left: %+v", h)
		}
		if got := a.say("ann", codec.KindTopic, "once", 0, 0, "again"); got[0].Seq != 2 {
			t.Errorf("it goes on with %d, want 2", got[0].Seq)
		}
	})
}

// Where all kinds have an age, what is older than the longest goes by whole days, and with it the references in inboxes.
func TestExpireByLongestAge(t *testing.T) {
	age := Keep{Age: 3 * hours}
	eachAttic(t, Retention{Direct: age, Group: age, Topic: Keep{Age: 2 * hours}, All: age}, func(t *testing.T, a *attic) {
		for day := range 8 {
			a.say("ann", codec.KindDirect, "bob", 0, 0, fmt.Sprint(day))
			a.say("ann", codec.KindTopic, "news", 0, 0, fmt.Sprint(day))
			a.pass(hours)
			a.turns()
		}
		if trims := a.RetentionStats(); trims.Expires == 0 {
			t.Error("Expire was not used")
		}
		a.wantStored(codec.KindDirect, pairOf("ann", "bob"), "5", "6", "7")
		a.wantStored(codec.KindTopic, "news", "6", "7")
		first, err := a.current().InboxFirst("bob")
		if err != nil || first == 0 {
			t.Errorf("bob's inbox is complete from %d (%v), want its beginning gone", first, err)
		}
	})
}

func TestKeepByCount(t *testing.T) {
	eachAttic(t, Retention{Topic: Keep{Count: 32}, Direct: Keep{Count: 5}}, func(t *testing.T, a *attic) {
		var all []string
		for i := range 100 {
			all = append(all, fmt.Sprint(i))
			a.say("ann", codec.KindTopic, "news", 0, 0, all[i])
			a.say("ann", codec.KindDirect, "bob", 0, 0, all[i])
			a.say("ann", codec.KindAll, codec.AllName, 0, 0, all[i])
			a.retention.turn()
			if most := len(a.texts(codec.KindTopic, "news")); most > 32+32/longSteps {
				t.Fatalf("%d messages are kept, want 32 and a sixteenth at most", most)
			}
		}
		a.turns()
		a.wantStored(codec.KindTopic, "news", all[68:]...)
		a.wantStored(codec.KindDirect, pairOf("ann", "bob"), all[95:]...)
		a.wantStored(codec.KindAll, codec.AllName, all...)
	})
}

// A lower limit counts for channels that say nothing more, too.
func TestLowerLimitsAfterRestart(t *testing.T) {
	eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
		for i := range 300 { // more than a page
			a.say("ann", codec.KindTopic, fmt.Sprintf("t%03d", i), 0, 0, "1", "2", "3")
		}
		a.set = func(o *Options) { o.Retention.Topic.Count = 2 }
		a.reopen()
		a.turns()
		for i := range 300 {
			a.wantStored(codec.KindTopic, fmt.Sprintf("t%03d", i), "2", "3")
		}
		a.set = func(o *Options) { o.Retention.Topic.Age = hours }
		a.reopen()
		a.pass(2 * hours)
		a.turns()
		if got := len(a.listed()); got != 300 {
			t.Errorf("%d channels are listed, want 300 until the next walk", got)
		}
		a.pass(2 * hours)
		a.turns()
		if got := a.listed(); len(got) != 0 {
			t.Errorf("channels without messages are still listed: %d", len(got))
		}
		a.say("ann", codec.KindTopic, "t007", 0, 0, "4")
		if got := a.listed(); !slices.Equal(got, []string{"topic/t007"}) {
			t.Errorf("listed are %q", got)
		}
	})
}

// Readers behind what was removed are told, also when what was removed was in memory.
func TestReadersBehindGetGaps(t *testing.T) {
	age := Keep{Age: 2 * hours}
	for name, r := range map[string]Retention{
		"trimmed": {Direct: Keep{Age: 2 * hours}, Topic: Keep{Age: 2 * hours}},
		"count":   {Direct: Keep{Count: 2}, Topic: Keep{Count: 2}},
		"expired": {Direct: age, Group: age, Topic: age, All: age},
	} {
		t.Run(name, func(t *testing.T) {
			eachAttic(t, r, func(t *testing.T, a *attic) {
				a.say("ann", codec.KindDirect, "bob", 0, 0, "1", "2", "3")
				a.say("ann", codec.KindTopic, "news", 0, 0, "1", "2", "3")
				a.pass(4 * hours)
				a.say("ann", codec.KindDirect, "bob", 0, 0, "4", "5")
				a.say("ann", codec.KindTopic, "news", 0, 0, "4", "5")
				a.turns()
				for _, c := range []struct {
					q    shard.Read
					want string
				}{
					{shard.Read{Op: shard.ReadLog, User: "bob", Kind: codec.KindTopic, Name: "news"}, "GAP news:1-3 expired, news:4 4, news:5 5"},
					{shard.Read{Op: shard.ReadLog, User: "bob", Kind: codec.KindTopic, Name: "news", After: 2}, "GAP news:3-3 expired, news:4 4, news:5 5"},
					{shard.Read{Op: shard.ReadPull, User: "bob", Kind: codec.KindDirect, Name: pairOf("ann", "bob"), After: 1, Limit: 9},
						"GAP ann+bob:1-3 expired, RANGE 0 OK n=2 next=6, ann+bob:4 4, ann+bob:5 5, RECEIPT ann+bob:5 mode=2 ann"},
				} {
					q := a.ask(c.q)
					if got := show(t, q.Frames); got != c.want {
						t.Errorf("%v behind %d: %s\nwant %s", c.q.Op, c.q.After, got, c.want)
					}
				}
				inbox := "GAP ann+bob:1-3 expired, ann+bob:4 4, ann+bob:5 5"
				if name == "expired" {
					inbox = "GAP :1-6 expired, ann+bob:4 4, ann+bob:5 5"
				}
				q := a.ask(shard.Read{Op: shard.ReadInbox, User: "bob"})
				if got := show(t, q.Frames); got != inbox {
					t.Errorf("inbox: %s\nwant %s", got, inbox)
				}
				r := a.ask(shard.Read{Op: shard.ReadResume, User: "bob", Device: "phone", Positions: []shard.LogPosition{
					{Kind: codec.KindTopic, Name: "news", Epoch: a.Epoch(), Seq: 1},
				}})
				if r.States[0].State != codec.StateGap {
					t.Errorf("a topic resumed from before what is kept: state %d, want gap", r.States[0].State)
				}
			})
		})
	}
}

// A clock that is an hour ahead removes nothing that is more than an hour too young, one that is further ahead nothing until it was so
// for an hour, one that goes back nothing at all.
func TestClockJumps(t *testing.T) {
	const hour = 60 * 60 * 1000
	type step struct {
		wall, passed int64 // milliseconds by which the clocks move
		want         int64 // of the time believed, since the beginning
	}
	for name, steps := range map[string][]step{
		"as it should be": {{1000, 1000, 1000}, {1000, 1000, 2000}},
		"half an hour":    {{hour / 2, 0, hour / 2}},
		"an hour":         {{hour, 0, hour}, {1000, 1000, hour + 1000}},
		"more than an hour": {{hour + 1, 0, 0}, {1000, 1000, 1000}, {hour - 2000, hour - 2000, hour - 1000}, {999, 999, hour - 1},
			{1, 1, 2*hour + 1}, {1000, 1000, 2*hour + 1001}},
		"ahead and back":      {{30 * 24 * hour, 0, 0}, {hour / 2, hour / 2, hour / 2}, {-30 * 24 * hour, 0, hour / 2}, {hour, hour, 3 * hour / 2}},
		"ahead once more":     {{2 * hour, 0, 0}, {-2 * hour, 0, 0}, {2 * hour, 0, 0}, {hour - 1, hour - 1, hour - 1}},
		"back":                {{-hour, 0, -hour}, {1000, 1000, -hour + 1000}},
		"back and ahead":      {{-hour, 0, -hour}, {hour, 0, 0}},
		"asleep for a week":   {{7 * 24 * hour, 1000, 1000}, {hour, hour, 7*24*hour + hour}},
		"the other one stood": {{1000, -5, 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			b, wall, mono := believedClock{at: postNow}, int64(postNow), int64(0)
			for i, s := range steps {
				wall, mono = wall+s.wall, mono+s.passed*1e6
				if got := int64(b.look(uint64(wall), mono)) - postNow; got != s.want {
					t.Errorf("step %d: %d ms since the beginning, want %d", i, got, s.want)
				}
			}
		})
	}
}

// The same over a log: a jump by a month removes nothing at first, nor does one while nothing ran.
func TestClockJumpsRemoveNothing(t *testing.T) {
	eachAttic(t, Retention{Topic: Keep{Age: 7 * hours}}, func(t *testing.T, a *attic) {
		a.turns()
		a.say("ann", codec.KindTopic, "news", 0, 0, "1")
		jump := uint64(30 * hours / time.Millisecond)
		for _, again := range []func(){func() {}, a.reopen} {
			a.now.Add(jump)
			again()
			a.turns()
			a.pass(59 * time.Minute)
			a.turns()
			a.wantStored(codec.KindTopic, "news", "1")
			a.now.Add(-jump)
			again()
			a.pass(12 * time.Hour)
			a.turns()
			a.wantStored(codec.KindTopic, "news", "1")
		}
		a.now.Add(jump)
		a.turns()
		a.pass(time.Hour)
		a.turns()
		a.wantStored(codec.KindTopic, "news")
	})
}

func TestDamagedChannelStopsNoOther(t *testing.T) {
	s := memory.New(memory.Options{})
	sick := ill{&shelved{Store: s}, func(call string) error {
		if call == "Head bad" {
			return fmt.Errorf("%w: for a test", store.ErrCorrupt)
		}
		return nil
	}}
	healthy := true
	a := newAttic(t, func() (store.Store, error) {
		if healthy {
			return &shelved{Store: s}, nil
		}
		return sick, nil
	}, func(o *Options) { o.Retention.Topic.Count = 1 })
	for _, name := range []string{"a", "bad", "c"} {
		a.say("ann", codec.KindTopic, name, 0, 0, "1", "2")
	}
	healthy = false
	a.reopen()
	a.turns()
	a.wantStored(codec.KindTopic, "a", "2")
	a.wantStored(codec.KindTopic, "bad", "1", "2")
	a.wantStored(codec.KindTopic, "c", "2")
	if a.RetentionStats().Errors == 0 {
		t.Error("the damage is not counted")
	}
}

// The committer's notes are bounded; what is not noted the walk finds.
func TestNotesAreBounded(t *testing.T) {
	l := &Log{}
	r := newRetention(l)
	for i := range maxLong + 10 {
		r.tooLong(store.Channel{Kind: codec.KindTopic, Name: fmt.Sprint(i)})
	}
	r.tooLong(store.Channel{Kind: codec.KindTopic, Name: "0"}) // known
	if len(r.long) != maxLong || r.stats.notesDropped.Load() != 10 {
		t.Errorf("%d notes, %d dropped", len(r.long), r.stats.notesDropped.Load())
	}
}

// Memory forgets what is removed and nothing else that it need not.
func TestRecentMessagesAreForgotten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	l := &Log{}
	l.recents.init(1<<20, 64<<10)
	ch := store.Channel{Kind: codec.KindTopic, Name: "t"}
	key := convKey(ch.Kind, ch.Name)
	last := uint64(0)
	var hint *ring
	for range 200 {
		for range rnd.IntN(50) {
			last++
			m := codec.Msg{Kind: ch.Kind, Name: []byte(ch.Name), Seq: last, Payload: make([]byte, rnd.IntN(3000))}
			hint = l.recents.add(hint, key, last, codec.AppendMsg(nil, m))
		}
		below := uint64(rnd.IntN(int(last) + 3))
		l.recents.forget(ch, below)
		for range 5 {
			from := 1 + uint64(rnd.IntN(int(last)+1))
			frames, next, n, ok := l.recentFrom(ch, from, 10, 1<<20, nil)
			if !ok || n == 0 {
				continue
			}
			if from < below {
				t.Fatalf("message %d is in memory, forgotten is all below %d", from, below)
			}
			for seq := next - uint64(n); n > 0; seq, n = seq+1, n-1 {
				if m, err := message(frames); err != nil || m.Seq != seq {
					t.Fatalf("message %d is %+v, %v", seq, m.Seq, err)
				}
				frames = frames[frameLen(frames):]
			}
		}
	}
}
