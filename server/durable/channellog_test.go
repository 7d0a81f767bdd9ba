package durable

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

func TestChannelLog(t *testing.T) {
	const topic, inGroupLog, all = codec.KindTopic, codec.KindGroup, codec.KindAll
	large := group{Name: "g", Large: true}
	short := func(m line) line { m.ttl = 10; return m }
	for _, c := range []struct {
		name    string
		fill    func(s *shelf)
		q       shard.Read
		code    codec.Code
		want    string
		covered uint64
	}{
		{name: "a topic", q: shard.Read{Kind: topic, Name: "t"},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1"), posted(topic, "other", "x"), posted(topic, "t", "2"))
			},
			want: "t:1 1, t:2 2", covered: 2},
		{name: "above a position", q: shard.Read{Kind: topic, Name: "t", After: 1},
			fill: func(s *shelf) { s.say(posted(topic, "t", "1"), posted(topic, "t", "2")) }, want: "t:2 2", covered: 2},
		{name: "at the head", q: shard.Read{Kind: topic, Name: "t", After: 1}, fill: func(s *shelf) { s.say(posted(topic, "t", "1")) }, covered: 1},
		{name: "beyond the head", q: shard.Read{Kind: topic, Name: "t", After: 9}, fill: func(s *shelf) { s.say(posted(topic, "t", "1")) }, covered: 9},
		{name: "as far as numbers go", q: shard.Read{Kind: topic, Name: "t", After: 1<<64 - 1}, fill: func(s *shelf) { s.say(posted(topic, "t", "1")) }, covered: 1<<64 - 1},
		{name: "a topic that never was", q: shard.Read{Kind: topic, Name: "t"}, fill: func(*shelf) {}},
		{name: "all", q: shard.Read{Kind: all, Name: "all"}, fill: func(s *shelf) { s.say(posted(all, "all", "1")) }, want: "all:1 1", covered: 1},
		{name: "all under another name", q: shard.Read{Kind: all, Name: "some"}, fill: func(*shelf) {}, code: codec.CodeForbidden},
		{name: "trimmed", q: shard.Read{Kind: topic, Name: "t"},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1"), posted(topic, "t", "2"), posted(topic, "t", "3"))
				s.trim(topic, "t", 3)
			}, want: "GAP t:1-2 expired, t:3 3", covered: 3},
		{name: "all trimmed", q: shard.Read{Kind: topic, Name: "t"},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1"), posted(topic, "t", "2"))
				s.trim(topic, "t", 3)
			}, want: "GAP t:1-2 expired", covered: 2},
		{name: "time to live", q: shard.Read{Kind: topic, Name: "t"},
			fill: func(s *shelf) {
				s.say(short(posted(topic, "t", "1")), short(posted(topic, "t", "2")), posted(topic, "t", "3"), short(posted(topic, "t", "4")))
				s.now.Add(10_000)
			}, want: "GAP t:1-2 expired, t:3 3, GAP t:4-4 expired", covered: 4},
		{name: "trimmed and over are one gap", q: shard.Read{Kind: topic, Name: "t"},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1"), short(posted(topic, "t", "2")), posted(topic, "t", "3"))
				s.trim(topic, "t", 2)
				s.now.Add(10_000)
			}, want: "GAP t:1-2 expired, t:3 3", covered: 3},
		{name: "a filter", q: shard.Read{Kind: topic, Name: "t", Tags: []string{"red", "blue"}},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1", "green"), posted(topic, "t", "2", "green", "blue"), posted(topic, "t", "3"), posted(topic, "t", "4", "red"))
			},
			want: "t:2 2, t:4 4", covered: 4},
		{name: "a filter that lets nothing through at the end", q: shard.Read{Kind: topic, Name: "t", Tags: []string{"red"}},
			fill: func(s *shelf) {
				s.say(posted(topic, "t", "1", "red"), posted(topic, "t", "2"), posted(topic, "t", "3"))
			},
			want: "t:1 1, GAP t:2-3 filtered", covered: 3},
		{name: "a filter that lets nothing through", q: shard.Read{Kind: topic, Name: "t", Tags: []string{"red"}, After: 1},
			fill: func(s *shelf) { s.say(posted(topic, "t", "1"), posted(topic, "t", "2"), posted(topic, "t", "3")) },
			want: "GAP t:2-3 filtered", covered: 3},
		{name: "what is filtered out and over is filtered out", q: shard.Read{Kind: topic, Name: "t", Tags: []string{"red"}},
			fill: func(s *shelf) {
				s.say(short(posted(topic, "t", "1")), short(posted(topic, "t", "2", "red")), posted(topic, "t", "3"))
				s.now.Add(10_000)
			}, want: "GAP t:2-2 expired, GAP t:3-3 filtered", covered: 3},
		{name: "a large group", q: shard.Read{Kind: inGroupLog, Name: "g", After: 1},
			fill: func(s *shelf) {
				s.say(inGroup("g", "1"), inGroup("g", "2"))
				s.group(large, map[string]uint64{"bob": 1})
			}, want: "g:2 2", covered: 2},
		{name: "before it joined", q: shard.Read{Kind: inGroupLog, Name: "g"},
			fill: func(s *shelf) {
				s.say(inGroup("g", "1"), inGroup("g", "2"), inGroup("g", "joined"))
				s.group(large, map[string]uint64{"bob": 3})
			}, want: "GAP g:1-2 no right, g:3 joined", covered: 3},
		{name: "before it joined, trimmed further", q: shard.Read{Kind: inGroupLog, Name: "g"},
			fill: func(s *shelf) {
				s.say(inGroup("g", "1"), inGroup("g", "joined"), inGroup("g", "3"), inGroup("g", "4"))
				s.group(large, map[string]uint64{"bob": 2})
				s.trim(inGroupLog, "g", 4)
			}, want: "GAP g:1-1 no right, GAP g:2-3 expired, g:4 4", covered: 4},
		{name: "no member", q: shard.Read{Kind: inGroupLog, Name: "g"}, code: codec.CodeForbidden,
			fill: func(s *shelf) { s.say(inGroup("g", "1")); s.group(large, map[string]uint64{"carl": 1}) }},
		{name: "a small group", q: shard.Read{Kind: inGroupLog, Name: "g"}, code: codec.CodeForbidden,
			fill: func(s *shelf) { s.say(inGroup("g", "1")); s.group(group{Name: "g"}, map[string]uint64{"bob": 1}) }},
		{name: "no group", q: shard.Read{Kind: inGroupLog, Name: "g"}, fill: func(*shelf) {}, code: codec.CodeForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *shelf) {
				c.fill(s)
				q := c.q
				q.Op, q.User = shard.ReadLog, "bob"
				a := s.ask(q)
				if got := show(t, a.Frames); a.Code != c.code || got != c.want || a.Covered != c.covered || a.More {
					t.Errorf("%v, covered %d, more %v, frames\n %s, want %v, %d\n %s", a.Code, a.Covered, a.More, got, c.code, c.covered, c.want)
				}
			})
		})
	}
}

// A member who is removed between two chunks gets no further one, and one who is added again nothing from before.
func TestChannelLogOfARemovedMember(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		for i := range 9 {
			s.say(inGroup("g", fmt.Sprint(i+1)))
		}
		s.group(group{Name: "g", Large: true}, map[string]uint64{"bob": 1})
		q := shard.Read{Op: shard.ReadLog, User: "bob", Kind: codec.KindGroup, Name: "g", MaxBytes: 100}
		a := s.ask(q)
		if a.Code != codec.CodeOK || !a.More || a.N == 0 || a.Covered != uint64(a.N) {
			t.Fatalf("%+v", a)
		}
		s.group(group{Name: "g", Large: true}, nil)
		if q.After = a.Covered; s.ask(q).Code != codec.CodeForbidden {
			t.Error("a removed member reads on")
		}
		s.group(group{Name: "g", Large: true}, map[string]uint64{"bob": 9})
		want := fmt.Sprintf("GAP g:%d-8 no right, g:9 9", a.Covered+1)
		if got := show(t, s.ask(q).Frames); got != want {
			t.Errorf("joined again: %s, want %s", got, want)
		}
	})
}

// Read in pages of any size, a log is what was stored, in order, and GAPs for exactly the rest; a filter leaves out what does not carry its
// tags, and says where it ends.
func TestChannelLogIsWhatWasStored(t *testing.T) {
	eachHistory(t, func(t *testing.T, h *history) {
		for _, ch := range []store.Channel{{Kind: codec.KindTopic, Name: "news"}, {Kind: codec.KindGroup, Name: "large"}} {
			for _, tags := range [][]string{nil, {"blue"}, {"none", "red"}} {
				h.readLog(t, ch, tags)
			}
		}
	})
}

func (h *history) readLog(t *testing.T, ch store.Channel, tags []string) {
	head, err := h.l.current().Head(ch)
	if err != nil {
		t.Fatal(err)
	}
	q := shard.Read{Op: shard.ReadLog, User: "bob", Kind: ch.Kind, Name: ch.Name, Tags: tags, After: uint64(h.r.IntN(int(head.Seq) + 1))}
	if v, err := h.w.view("bob", ch); err != nil || !v.ok {
		if a := h.ask(q); a.Code != codec.CodeForbidden || len(a.Frames) > 0 {
			t.Fatalf("%v: no right, but %v", ch, a.Code)
		}
		return
	}
	var want []event
	for _, m := range h.all {
		if m.kind != ch.Kind || m.name != ch.Name || m.seq <= q.After {
			continue
		}
		e := h.of(t, "bob", m)
		passes := tags == nil || slices.ContainsFunc(m.tags, func(tag string) bool { return slices.Contains(tags, tag) })
		if !passes && e.gap != codec.GapNoRight && m.seq >= head.First {
			e.text, e.gap = "", codec.GapFiltered
		}
		want = append(want, e)
	}
	var got []event
	for more := true; more; {
		q.MaxBytes = 1 + h.r.IntN(8000)
		a := h.ask(q)
		if a.Code != codec.CodeOK || a.More && a.Covered == q.After || a.Covered < q.After {
			t.Fatalf("%v after %d: %v, covered %d, more %v", ch, q.After, a.Code, a.Covered, a.More)
		}
		seq := q.After + 1
		filtered := func(to uint64) {
			for ; seq < to; seq++ {
				got = append(got, event{kind: ch.Kind, name: ch.Name, seq: seq, gap: codec.GapFiltered})
			}
		}
		for _, e := range events(t, a.Frames) {
			filtered(e.seq) // holes in front of something told stand for what the filter leaves out
			got = append(got, e)
			seq = e.seq + 1
		}
		if seq != a.Covered+1 {
			t.Fatalf("%v: the last told is %d, covered is %d: the end of a page was not said", ch, seq-1, a.Covered)
		}
		if tags == nil && strings.Contains(show(t, a.Frames), "filtered") {
			t.Fatalf("%v: filtered without a filter", ch)
		}
		q.After, more = a.Covered, a.More
	}
	compare(t, got, want)
}
