package durable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// inGroup is a message of ann in a small group.
func inGroup(name, text string, members ...string) line {
	return line{kind: codec.KindGroup, name: name, from: "ann", text: text, inbox: members}
}

func (s *shelf) trim(kind codec.Kind, name string, below uint64) {
	s.Helper()
	if err := s.l.current().Trim(store.Channel{Kind: kind, Name: name}, below); err != nil {
		s.Fatal(err)
	}
}

func TestInbox(t *testing.T) {
	short := func(m line) line { m.ttl = 10; return m }
	for _, c := range []struct {
		name string
		fill func(s *shelf)
		want string
	}{
		{"empty", func(s *shelf) { s.say(direct("ann", "carl", "x")) }, ""},
		{"in the order of places, not of channels", func(s *shelf) {
			s.say(direct("ann", "bob", "1"), direct("bob", "carl", "2"), direct("ann", "carl", "x"), direct("bob", "ann", "3"), direct("carl", "bob", "4"))
		}, "ann+bob:1 1, bob+carl:1 2, ann+bob:2 3, bob+carl:2 4"},
		{"with oneself", func(s *shelf) { s.say(direct("bob", "bob", "note")) }, "bob+bob:1 note"},
		{"trimmed", func(s *shelf) {
			s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"), direct("ann", "bob", "3"))
			s.trim(codec.KindDirect, pairOf("ann", "bob"), 3)
		}, "GAP ann+bob:1-2 expired, ann+bob:3 3"},
		{"all trimmed", func(s *shelf) {
			s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"))
			s.trim(codec.KindDirect, pairOf("ann", "bob"), 9)
			s.say(direct("bob", "carl", "3"))
		}, "GAP ann+bob:1-2 expired, bob+carl:1 3"},
		{"gaps are joined only where they are neighbours", func(s *shelf) {
			s.say(direct("ann", "bob", "1"), direct("bob", "carl", "2"), direct("ann", "bob", "3"), direct("ann", "bob", "4"))
			s.trim(codec.KindDirect, pairOf("ann", "bob"), 3)
		}, "GAP ann+bob:1-1 expired, bob+carl:1 2, GAP ann+bob:2-2 expired, ann+bob:3 4"},
		{"time to live", func(s *shelf) {
			s.say(short(direct("ann", "bob", "1")), direct("ann", "bob", "2"), short(direct("ann", "bob", "3")), short(direct("ann", "bob", "4")))
			s.now.Add(10_000)
			s.say(short(direct("ann", "bob", "5")))
			s.now.Add(9_999)
		}, "GAP ann+bob:1-1 expired, ann+bob:2 2, GAP ann+bob:3-4 expired, ann+bob:5 5"},
		{"a clock that went back", func(s *shelf) {
			s.say(short(direct("ann", "bob", "1")))
			s.now.Store(s.now.Load() - 3_600_000)
		}, "ann+bob:1 1"},
		{"no member any more", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "2", "bob"), direct("ann", "bob", "3"), inGroup("g", "4", "bob"))
			s.group(group{Name: "g"}, map[string]uint64{"carl": 1})
		}, "GAP g:1-2 no right, ann+bob:1 3, GAP g:3-3 no right"},
		{"a group that is no more", func(s *shelf) { s.say(inGroup("g", "1", "bob")) }, "GAP g:1-1 no right"},
		{"before it joined again", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "2", "bob"), inGroup("g", "3"), inGroup("g", "joined", "bob"), inGroup("g", "5", "bob"))
			s.group(group{Name: "g"}, map[string]uint64{"bob": 4})
		}, "GAP g:1-2 no right, g:4 joined, g:5 5"},
		{"before it joined again, but the history is open", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "2", "bob"), inGroup("g", "3"), inGroup("g", "joined", "bob"), inGroup("g", "5", "bob"))
			s.group(group{Name: "g", Open: true}, map[string]uint64{"bob": 4})
		}, "g:1 1, g:2 2, g:4 joined, g:5 5"},
		{"an open group made anew under the name", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "2", "bob"), inGroup("g", "made", "bob"))
			s.group(group{Name: "g", Open: true, Since: 3}, map[string]uint64{"bob": 3})
		}, "GAP g:1-2 no right, g:3 made"},
		{"references from before a group grew", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "grown", "bob"), inGroup("g", "3"))
			s.group(group{Name: "g", Large: true, LargeFrom: 2}, map[string]uint64{"bob": 1})
		}, "g:1 1, g:2 grown"},
		{"messages between that are not in the inbox", func(s *shelf) {
			s.say(inGroup("g", "1", "bob"), inGroup("g", "2"), inGroup("g", "3"), inGroup("g", "4", "bob"))
			s.group(group{Name: "g"}, map[string]uint64{"bob": 1})
		}, "g:1 1, g:4 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *shelf) {
				c.fill(s)
				q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob"})
				if got := show(t, q.Frames); got != c.want {
					t.Errorf("frames\n %s, want\n %s", got, c.want)
				}
				if n := strings.Count(", "+c.want, ", ") - strings.Count(c.want, "GAP"); c.want != "" && q.N != n {
					t.Errorf("N is %d, want %d", q.N, n)
				}
				if q.Code != codec.CodeOK || q.More || q.Covered != s.l.current().Place() {
					t.Errorf("%v, more %v, covered %d, place %d", q.Code, q.More, q.Covered, s.l.current().Place())
				}
			})
		})
	}
}

// A page ends before the message that does not fit; the first one always does.
func TestInboxPages(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		big := strings.Repeat("x", 5000)
		s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"), direct("ann", "bob", big), direct("ann", "bob", "4"))
		s.say(direct("ann", "carl", "for others"))
		after, got := uint64(0), []int{}
		for more := true; more; {
			q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob", After: after, MaxBytes: 300})
			got = append(got, q.N, int(q.Covered))
			after, more = q.Covered, q.More
		}
		if want := []int{2, 2, 1, 3, 1, 5}; !slices.Equal(got, want) {
			t.Errorf("messages and places covered, page by page: %v, want %v", got, want)
		}
		q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob", After: 1 << 62})
		if q.Code != codec.CodeOK || q.N != 0 || q.More || q.Covered != 1<<62 {
			t.Errorf("above the head: %+v", q)
		}
	})
}

// More than one chunk of references, and more than a chunk of them without a message.
func TestInboxOfManyChunks(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		const n = 3 * inboxChunk
		for i := range n {
			s.say(direct("ann", "bob", fmt.Sprint(i)))
		}
		s.trim(codec.KindDirect, pairOf("ann", "bob"), n)
		after, gone, reads := uint64(0), uint64(0), 0
		for more := true; more; reads++ {
			q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob", After: after})
			for _, e := range events(t, q.Frames) {
				if e.gap == codec.GapExpired {
					gone++
				} else if e.text != fmt.Sprint(n-1) {
					t.Fatalf("message %+v", e)
				}
			}
			if q.Covered <= after || reads > 5 {
				t.Fatalf("covered %d behind %d in read %d", q.Covered, after, reads)
			}
			after, more = q.Covered, q.More
		}
		if gone != n-1 {
			t.Errorf("%d told gone, want %d", gone, n-1)
		}
	})
}

// Damage in one channel leaves the others readable, and is said.
func TestDamagedChannelDoesNotStopAnInbox(t *testing.T) {
	bad := fmt.Errorf("%w: planted", store.ErrCorrupt)
	s := illShelf(t, func(call string) error {
		if call == "Read "+pairOf("ann", "bob") {
			return bad
		}
		return nil
	})
	s.say(direct("ann", "bob", "1"), direct("bob", "carl", "2"), direct("ann", "bob", "3"), direct("ann", "bob", "4"))
	q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob"})
	if got, want := show(t, q.Frames), "GAP ann+bob:1-1 not sent, bob+carl:1 2, GAP ann+bob:2-3 not sent"; got != want || q.Code != codec.CodeOK {
		t.Errorf("%v, frames %s, want %s", q.Code, got, want)
	}
	if s.w.r.counts.damaged.Load() != 3 {
		t.Errorf("%d counted as damaged, want 3", s.w.r.counts.damaged.Load())
	}
	if bad = errors.New("the disk does not answer"); s.ask(*q).Code != codec.CodeUnavailable {
		t.Error("an error that may pass is taken for damage")
	}
}

// event is what a frame tells of one seq or, in GAPs of kind 0, of places.
type event struct {
	kind codec.Kind
	name string
	seq  uint64
	to   uint64 // of GAPs of kind 0
	text string
	gap  uint8 // the reason; 0: it is a message
}

// events takes GAPs apart.
func events(t testing.TB, frames []byte) (list []event) {
	t.Helper()
	for len(frames) > 0 {
		f, n, err := codec.ConsumeFrame(frames, codec.MaxBody)
		if err != nil || n == 0 {
			t.Fatalf("no frame: %x (%v)", frames, err)
		}
		frames = frames[n:]
		if m, err := codec.ConsumeMsg(f); f.Type == codec.TypeMsg && err == nil {
			list = append(list, event{kind: m.Kind, name: string(m.Name), seq: m.Seq, text: string(m.Payload)})
			continue
		}
		g, err := codec.ConsumeGap(f)
		if f.Type != codec.TypeGap || err != nil || g.From > g.To || g.From == 0 {
			t.Fatalf("%v: %+v, %v", f.Type, g, err)
		}
		if g.Kind == codec.KindInbox {
			list = append(list, event{seq: g.From, to: g.To, gap: g.Reason})
			continue
		}
		for seq := g.From; seq <= g.To; seq++ {
			list = append(list, event{kind: g.Kind, name: string(g.Name), seq: seq, gap: g.Reason})
		}
	}
	return list
}

// kept is a message of a random history.
type kept struct {
	line
	seq, place, time uint64
}

// history is a random past: messages of a few conversations, of which some were trimmed or expired.
type history struct {
	*shelf
	r   *rand.Rand
	all []kept
}

var (
	historyPeople = []string{"ann", "bob", "carl"}
	historyTags   = []string{"red", "blue"}
)

func newHistory(t *testing.T, s *shelf, r *rand.Rand) *history {
	h := &history{shelf: s, r: r}
	heads := map[string]uint64{}
	bucket := uint64(store.DefaultBucket)
	for range 20 + r.IntN(200) {
		var m line
		text := fmt.Sprint(len(h.all)) + strings.Repeat(".", r.IntN(10)*r.IntN(300))
		switch r.IntN(5) {
		case 0, 1:
			m = direct(historyPeople[r.IntN(3)], historyPeople[r.IntN(3)], text)
		case 2:
			m = inGroup("small", text, historyPeople[:1+r.IntN(3)]...)
		case 3:
			m = posted(codec.KindGroup, "large", text)
		default:
			m = posted(codec.KindTopic, "news", text, historyTags[:r.IntN(3)]...)
		}
		if r.IntN(6) == 0 {
			m.ttl = uint32(1 + r.IntN(100))
		}
		key := fmt.Sprint(m.kind, m.name)
		heads[key]++
		h.all = append(h.all, kept{line: m, seq: heads[key], place: s.say(m)[0], time: s.now.Load()})
		s.now.Add(uint64(r.IntN(2000)))
		switch r.IntN(60) {
		case 0:
			s.now.Add(bucket)
		case 1:
			if err := s.l.current().Expire(s.now.Load() - uint64(r.IntN(3))*bucket); err != nil {
				t.Fatal(err)
			}
		case 2, 3:
			any := h.all[r.IntN(len(h.all))]
			s.trim(any.kind, any.name, any.seq)
		}
	}
	s.group(group{Name: "small", Open: r.IntN(2) == 0}, h.joined("small"))
	s.group(group{Name: "large", Large: true, Open: r.IntN(2) == 0}, h.joined("large"))
	return h
}

// joined draws the members of a group.
func (h *history) joined(name string) map[string]uint64 {
	joined := map[string]uint64{}
	head, err := h.l.current().Head(store.Channel{Kind: codec.KindGroup, Name: name})
	if err != nil {
		h.Fatal(err)
	}
	for _, user := range historyPeople {
		if h.r.IntN(4) > 0 {
			joined[user] = 1 + uint64(h.r.IntN(max(1, min(10, int(head.Seq)))))
		}
	}
	return joined
}

// of is what a user must be told of a message.
func (h *history) of(t *testing.T, user string, m kept) event {
	e := event{kind: m.kind, name: m.name, seq: m.seq}
	if m.kind == codec.KindGroup {
		g, err := h.l.groups.get(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if who, ok := g.member(user); !ok || m.seq < who.Joined && !g.Open {
			e.gap = codec.GapNoRight
			return e
		}
	}
	head, err := h.l.current().Head(store.Channel{Kind: m.kind, Name: m.name})
	if err != nil {
		t.Fatal(err)
	}
	if m.seq < head.First || m.ttl > 0 && h.now.Load() >= m.time+uint64(m.ttl)*1000 {
		e.gap = codec.GapExpired
		return e
	}
	e.text = m.text
	return e
}

// eachHistory runs a test over random histories, in memory many, on disk some.
func eachHistory(t *testing.T, test func(t *testing.T, h *history)) {
	for _, x := range []struct {
		name string
		runs int
		open func() (store.Store, error)
	}{{"memory", 100, inMemory}, {"pebble", 10, nil}} {
		t.Run(x.name, func(t *testing.T) {
			first := rand.Uint64()
			for run := range x.runs {
				seed := first + uint64(run)
				open := x.open
				if open == nil {
					open = onDisk(t)
				}
				s := newShelf(t, open)
				test(t, newHistory(t, s, rand.New(rand.NewPCG(seed, 0))))
				_ = s.l.current().Close()
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// Read in pages of any size, an inbox is what was stored, in order, and GAPs for exactly the rest.
func TestInboxIsWhatWasStored(t *testing.T) {
	eachHistory(t, func(t *testing.T, h *history) {
		s := h.l.current()
		after := uint64(h.r.IntN(int(s.Place()) + 1))
		first, err := s.InboxFirst("bob")
		if err != nil {
			t.Fatal(err)
		}
		var want []event
		if after < first {
			want = append(want, event{seq: after + 1, to: first, gap: codec.GapExpired})
		}
		for _, m := range h.all {
			if m.place > max(after, first) && slices.Contains(m.inbox, "bob") {
				want = append(want, h.of(t, "bob", m))
			}
		}
		q := shard.Read{Op: shard.ReadInbox, User: "bob", After: after}
		if h.r.IntN(2) == 0 {
			q = shard.Read{Op: shard.ReadResume, User: "bob", Device: "d", Epoch: s.Epoch(), After: after}
		}
		var got []event
		for more := true; more; {
			q.MaxBytes = 1 + h.r.IntN(8000)
			a := h.ask(q)
			size := 0
			part := events(t, a.Frames)
			for _, e := range part {
				size += len(e.text)
			}
			if a.Code != codec.CodeOK || a.Covered < q.After || a.More && a.Covered == q.After || a.N > 1 && size > q.MaxBytes {
				t.Fatalf("read of at most %d bytes after %d: %v, covered %d, more %v, %d messages of %d bytes", q.MaxBytes, q.After, a.Code, a.Covered, a.More, a.N, size)
			}
			got = append(got, part...)
			q = shard.Read{Op: shard.ReadInbox, User: "bob", After: a.Covered}
			more = a.More
		}
		if q.After != s.Place() {
			t.Errorf("ends at %d, place is %d", q.After, s.Place())
		}
		compare(t, got, want)
	})
}

func compare(t *testing.T, got, want []event) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("event %d differs, of %d and %d wanted:\n got %.2v\nwant %.2v", i, len(got), len(want), got[min(i, len(got)):], want[min(i, len(want)):])
			return
		}
	}
}
