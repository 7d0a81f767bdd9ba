package durable

import (
	"fmt"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

func TestPull(t *testing.T) {
	pair := pairOf("ann", "bob")
	five := func(s *shelf) {
		for i := range 5 {
			s.say(direct("ann", "bob", fmt.Sprint("m", i+1)))
		}
	}
	groupOf := func(open bool, members map[string]uint64) func(s *shelf) {
		return func(s *shelf) {
			for i := range 5 {
				s.say(inGroup("g", fmt.Sprint("m", i+1)))
			}
			s.group(group{Name: "g", Open: open}, members)
		}
	}
	const d, g = codec.KindDirect, codec.KindGroup
	for _, c := range []struct {
		name string
		fill func(s *shelf)
		q    shard.Read
		code codec.Code
		want string // RANGE begins every one
	}{
		{"from the first", five, shard.Read{Kind: d, Name: pair, Limit: 2}, 0, "OK n=2 next=3, ann+bob:1 m1, ann+bob:2 m2"},
		{"the middle", five, shard.Read{Kind: d, Name: pair, After: 3, Limit: 2}, 0, "OK n=2 next=5, ann+bob:3 m3, ann+bob:4 m4"},
		{"to the end", five, shard.Read{Kind: d, Name: pair, After: 4, Limit: 65535}, 0, "OK n=2 next=6, ann+bob:4 m4, ann+bob:5 m5"},
		{"above the end", five, shard.Read{Kind: d, Name: pair, After: 6, Limit: 5}, 0, "OK n=0 next=6"},
		{"far above the end", five, shard.Read{Kind: d, Name: pair, After: 1<<64 - 1, Limit: 5}, 0, "OK n=0 next=6"},
		{"limit 0", five, shard.Read{Kind: d, Name: pair}, codec.CodeInvalid, "INVALID n=0 next=0"},
		{"as many bytes as fit", five, shard.Read{Kind: d, Name: pair, Limit: 65535, MaxBytes: 110}, 0, "OK n=2 next=3, ann+bob:1 m1, ann+bob:2 m2"},
		{"one message is longer than what fits", five, shard.Read{Kind: d, Name: pair, Limit: 5, MaxBytes: 1}, 0, "OK n=1 next=2, ann+bob:1 m1"},
		{"nothing was ever said", func(*shelf) {}, shard.Read{Kind: d, Name: pair, Limit: 5}, 0, "OK n=0 next=1"},
		{"a topic that never was", func(*shelf) {}, shard.Read{Kind: codec.KindTopic, Name: "t", After: 7, Limit: 5}, 0, "OK n=0 next=1"},
		{"a topic", func(s *shelf) { s.say(posted(codec.KindTopic, "t", "x")) }, shard.Read{Kind: codec.KindTopic, Name: "t", Limit: 5}, 0, "OK n=1 next=2, t:1 x"},
		{"all", func(s *shelf) { s.say(posted(codec.KindAll, "all", "x")) }, shard.Read{Kind: codec.KindAll, Name: "all", Limit: 5}, 0, "OK n=1 next=2, all:1 x"},
		{"all under another name", func(*shelf) {}, shard.Read{Kind: codec.KindAll, Name: "some", Limit: 5}, codec.CodeInvalid, "INVALID n=0 next=0"},
		{"a conversation of others", func(s *shelf) { s.say(direct("ann", "carl", "x")) }, shard.Read{Kind: d, Name: pairOf("ann", "carl"), Limit: 5}, codec.CodeForbidden, "FORBIDDEN n=0 next=0"},
		{"the peer's name in place of the pair", five, shard.Read{Kind: d, Name: "ann", Limit: 5}, codec.CodeInvalid, "INVALID n=0 next=0"},
		{"a pair in the wrong order", five, shard.Read{Kind: d, Name: "bob\x1fann", Limit: 5}, codec.CodeInvalid, "INVALID n=0 next=0"},
		{"no kind", five, shard.Read{Name: "x", Limit: 5}, codec.CodeInvalid, "INVALID n=0 next=0"},
		{"trimmed, from the first", func(s *shelf) { five(s); s.trim(d, pair, 4) }, shard.Read{Kind: d, Name: pair, Limit: 1}, 0, "OK n=1 next=5, ann+bob:4 m4"},
		{"trimmed, from there", func(s *shelf) { five(s); s.trim(d, pair, 4) }, shard.Read{Kind: d, Name: pair, After: 2, Limit: 1}, 0,
			"GAP ann+bob:2-3 expired, OK n=1 next=5, ann+bob:4 m4"},
		{"all trimmed", func(s *shelf) { five(s); s.trim(d, pair, 6) }, shard.Read{Kind: d, Name: pair, After: 2, Limit: 1}, 0,
			"GAP ann+bob:2-5 expired, OK n=0 next=6"},
		{"all trimmed, from the first", func(s *shelf) { five(s); s.trim(d, pair, 6) }, shard.Read{Kind: d, Name: pair, Limit: 1}, 0, "OK n=0 next=6"},
		{"time to live", func(s *shelf) {
			for i := range uint32(4) {
				m := direct("ann", "bob", fmt.Sprint("m", i+1))
				m.ttl = 10 * (i % 2)
				s.say(m)
			}
			s.now.Add(10_000)
		}, shard.Read{Kind: d, Name: pair, Limit: 9}, 0, "GAP ann+bob:2-2 expired, GAP ann+bob:4-4 expired, OK n=2 next=5, ann+bob:1 m1, ann+bob:3 m3"},
		{"a member", groupOf(false, map[string]uint64{"bob": 1}), shard.Read{Kind: g, Name: "g", After: 4, Limit: 9}, 0, "OK n=2 next=6, g:4 m4, g:5 m5"},
		{"a member, from the first", groupOf(false, map[string]uint64{"bob": 4}), shard.Read{Kind: g, Name: "g", Limit: 9}, 0, "OK n=2 next=6, g:4 m4, g:5 m5"},
		{"a member, before it joined", groupOf(false, map[string]uint64{"bob": 4}), shard.Read{Kind: g, Name: "g", After: 2, Limit: 9}, 0,
			"GAP g:2-3 no right, OK n=2 next=6, g:4 m4, g:5 m5"},
		{"a member, before it joined, history open", groupOf(true, map[string]uint64{"bob": 4}), shard.Read{Kind: g, Name: "g", After: 2, Limit: 2}, 0,
			"OK n=2 next=4, g:2 m2, g:3 m3"},
		{"no member", groupOf(true, map[string]uint64{"carl": 4}), shard.Read{Kind: g, Name: "g", Limit: 2}, codec.CodeNotFound, "NOT_FOUND n=0 next=0"},
		{"no group", func(*shelf) {}, shard.Read{Kind: g, Name: "g", Limit: 2}, codec.CodeNotFound, "NOT_FOUND n=0 next=0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *shelf) {
				c.fill(s)
				q := c.q
				q.Op, q.User, q.Req = shard.ReadPull, "bob", 77
				a := s.ask(q)
				if got := strings.Replace(show(t, a.Frames), "RANGE 77 ", "", 1); a.Code != c.code || got != c.want {
					t.Errorf("%v, frames\n %s, want %v\n %s", a.Code, got, c.code, c.want)
				}
			})
		})
	}
}

func TestPullIsCappedAtPullMax(t *testing.T) {
	s := newShelf(t, inMemory)
	for range pullMax + 5 {
		s.say(posted(codec.KindTopic, "t", ""))
	}
	a := s.ask(shard.Read{Op: shard.ReadPull, User: "bob", Kind: codec.KindTopic, Name: "t", Limit: 65535, MaxBytes: 1 << 20})
	if a.N != pullMax || !strings.HasPrefix(show(t, a.Frames), "RANGE 0 OK n=1000 next=1001, ") {
		t.Errorf("%d messages", a.N)
	}
}

// The receipts in force follow for those that have them.
func TestPullTellsReceipts(t *testing.T) {
	s := newShelf(t, inMemory)
	pair := pairOf("ann", "bob")
	s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"), inGroup("g", "x"), inGroup("large", "y"))
	s.put(convOwner("bob"), convKey(codec.KindDirect, pair), convRecord{Delivered: 2, Read: 1}.append(nil))
	s.put(convOwner("ann"), convKey(codec.KindGroup, "g"), convRecord{Delivered: 1}.append(nil))
	s.group(group{Name: "g"}, map[string]uint64{"ann": 1, "bob": 1})
	many := map[string]uint64{"ann": 1, "bob": 1}
	for i := range receiptMembers {
		many[fmt.Sprint("u", i)] = 1
	}
	s.put(convOwner("ann"), convKey(codec.KindGroup, "large"), convRecord{Delivered: 1}.append(nil))
	s.group(group{Name: "large"}, many)
	for _, c := range []struct {
		user, name string
		kind       codec.Kind
		want       string
	}{
		{"ann", pair, codec.KindDirect, "RANGE 0 OK n=1 next=3, ann+bob:2 2, RECEIPT ann+bob:2 mode=1 bob, RECEIPT ann+bob:1 mode=2 bob"},
		{"bob", pair, codec.KindDirect, "RANGE 0 OK n=1 next=3, ann+bob:2 2, RECEIPT ann+bob:1 mode=2 bob"},
		{"bob", "g", codec.KindGroup, "RANGE 0 OK n=0 next=2, RECEIPT g:1 mode=1 ann"},
		{"bob", "large", codec.KindGroup, "RANGE 0 OK n=0 next=2"},
	} {
		a := s.ask(shard.Read{Op: shard.ReadPull, User: c.user, Kind: c.kind, Name: c.name, After: 2, Limit: 9})
		if got := show(t, a.Frames); got != c.want {
			t.Errorf("%s pulls %s: %s, want %s", c.user, c.name, got, c.want)
		}
	}
}

// Pulled page by page, a channel is what was stored.
func TestPullIsWhatWasStored(t *testing.T) {
	eachHistory(t, func(t *testing.T, h *history) {
		for _, ch := range []store.Channel{{Kind: codec.KindDirect, Name: pairOf("ann", "bob")}, {Kind: codec.KindGroup, Name: "small"}, {Kind: codec.KindTopic, Name: "news"}} {
			v, err := h.w.view("bob", ch)
			head, err2 := h.l.current().Head(ch)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if !v.ok {
				continue
			}
			from := 1 + uint64(h.r.IntN(int(head.Seq)+1))
			want := map[uint64]event{}
			for _, m := range h.all {
				if m.kind == ch.Kind && m.name == ch.Name && m.seq >= from {
					want[m.seq] = h.of(t, "bob", m)
				}
			}
			for next := from; next <= head.Seq; {
				a := h.ask(shard.Read{Op: shard.ReadPull, User: "bob", Kind: ch.Kind, Name: ch.Name, After: next, Limit: 1 + h.r.IntN(20), MaxBytes: 1 + h.r.IntN(4000)})
				if a.Code != codec.CodeOK || a.Next <= next || a.Next > head.Seq+1 {
					t.Fatalf("%v from %d: %v, next %d", ch, next, a.Code, a.Next)
				}
				for _, e := range events(t, withoutRange(t, a.Frames, a.N)) {
					if e != want[e.seq] || e.seq < next || e.seq >= a.Next {
						t.Fatalf("%v from %d: got %.2v, want %.2v", ch, next, e, want[e.seq])
					}
					delete(want, e.seq)
				}
				next = a.Next
			}
			if len(want) > 0 {
				t.Fatalf("%v: %d messages were not told of: %v", ch, len(want), want)
			}
		}
	})
}

// withoutRange takes RANGE out; it must stand right before n messages.
func withoutRange(t *testing.T, frames []byte, n int) (rest []byte) {
	t.Helper()
	left := -1 // messages that must follow
	for len(frames) > 0 {
		f, size, err := codec.ConsumeFrame(frames, codec.MaxBody)
		if err != nil || size == 0 {
			t.Fatal("no frame", err)
		}
		switch {
		case f.Type == codec.TypeRange && left < 0:
			if r, err := codec.ConsumeRange(f); err != nil || int(r.Count) != n {
				t.Fatalf("RANGE %+v for %d messages, %v", r, n, err)
			}
			left = n
		case f.Type == codec.TypeMsg && left > 0, f.Type == codec.TypeGap && left < 0:
			left = max(left-1, -1)
			rest = append(rest, frames[:size]...)
		default:
			t.Fatalf("%v where %d messages must follow RANGE", f.Type, left)
		}
		frames = frames[size:]
	}
	if left != 0 {
		t.Fatalf("%d messages of RANGE are missing", left)
	}
	return rest
}
