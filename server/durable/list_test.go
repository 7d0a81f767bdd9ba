package durable

import (
	"fmt"
	"slices"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// knows gives both users of a direct channel their record.
func (s *shelf) knows(a, b string) {
	for _, user := range []string{a, b} {
		s.put(convOwner(user), convKey(codec.KindDirect, pairOf(a, b)), convRecord{}.append(nil))
	}
}

func TestList(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		tick := func() { s.now.Add(1000) }
		s.knows("ann", "bob")
		s.knows("bob", "carl")
		s.knows("ann", "carl")
		s.knows("bob", "dora") // who never said anything
		s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"), direct("ann", "bob", "3"), direct("ann", "carl", "x"))
		tick()
		s.say(inGroup("g", "1"), inGroup("g", "2"), inGroup("left", "1"), inGroup("none", "1"))
		tick()
		s.say(direct("bob", "carl", "1"), posted(codec.KindAll, "all", "1"), posted(codec.KindTopic, "t", "1"))
		tick()
		s.say(direct("ann", "bob", "4"))
		s.group(group{Name: "g"}, map[string]uint64{"bob": 2})
		s.group(group{Name: "left"}, map[string]uint64{"carl": 1})
		s.put(convOwner("bob"), convKey(codec.KindDirect, pairOf("ann", "bob")), convRecord{Delivered: 3, Read: 2}.append(nil))
		s.put(convOwner("bob"), convKey(codec.KindGroup, "left"), convRecord{Delivered: 1, Read: 1}.append(nil))
		s.put(convOwner("bob"), convKey(codec.KindTopic, "t"), convRecord{Read: 1}.append(nil))
		s.put(convOwner("bob"), convKey(codec.KindGroup, "gone"), convRecord{Read: 1}.append(nil))
		s.put(convOwner("bob"), convKey(codec.KindDirect, pairOf("bob", "carl")), convRecord{Delivered: 99, Read: 99}.append(nil))

		want := "LISTED 7 OK ann+bob=4/3/2 bob+carl=1/1/1 g=2/2/2"
		if got := show(t, s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 10, Req: 7}).Frames); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if a := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 2, Req: 7}); show(t, a.Frames) != "LISTED 7 OK ann+bob=4/3/2 bob+carl=1/1/1" || !a.More {
			t.Errorf("two of them: %s, more %v", show(t, a.Frames), a.More)
		}
		s.put(convOwner("bob"), convKey(codec.KindAll, "all"), convRecord{Read: 1}.append(nil))
		s.trim(codec.KindDirect, pairOf("ann", "bob"), 5) // nobody knows its time any more: it comes last
		a := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 65535, Req: 7})
		want = "LISTED 7 OK bob+carl=1/1/1 all=1/1/1 g=2/2/2 ann+bob=4/3/2"
		other := "LISTED 7 OK all=1/1/1 bob+carl=1/1/1 g=2/2/2 ann+bob=4/3/2"
		if got := show(t, a.Frames); got != want && got != other || a.Next != 0 {
			t.Errorf("%s, next %d, want %s", got, a.Next, want)
		}
		if a := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Req: 7}); a.Code != codec.CodeInvalid || show(t, a.Frames) != "LISTED 7 INVALID" {
			t.Errorf("limit 0: %v, %s", a.Code, show(t, a.Frames))
		}
		if got := show(t, s.ask(shard.Read{Op: shard.ReadList, User: "nobody", Limit: 5, Req: 7}).Frames); got != "LISTED 7 OK" {
			t.Errorf("of nobody: %s", got)
		}
		if got := show(t, s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 5, Req: 7, After: 1}).Frames); got != "LISTED 7 OK" {
			t.Errorf("behind the end: %s", got)
		}
	})
}

// LISTED tells the time of the head.
func TestListTellsTimes(t *testing.T) {
	s := newShelf(t, inMemory)
	s.knows("ann", "bob")
	s.say(direct("ann", "bob", "1"))
	s.now.Add(5)
	s.say(direct("ann", "bob", "2"))
	f, _, _ := codec.ConsumeFrame(s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 5}).Frames, codec.MaxBody)
	l, err := codec.ConsumeListed(f)
	if err != nil {
		t.Fatal(err)
	}
	for c := range l.Conversations.All() {
		if c.Time != day+5 || c.Kind != codec.KindDirect {
			t.Errorf("%+v, want time %d", c, uint64(day+5))
		}
	}
}

// listAll asks for page after page.
func (s *shelf) listAll(t *testing.T, user string, limit, maxBytes int, between func()) (names []string) {
	t.Helper()
	for after, pages := uint64(0), 0; ; pages++ {
		a := s.ask(shard.Read{Op: shard.ReadList, User: user, After: after, Limit: limit, MaxBytes: maxBytes})
		f, _, _ := codec.ConsumeFrame(a.Frames, codec.MaxBody)
		l, err := codec.ConsumeListed(f)
		if err != nil || a.Code != codec.CodeOK || l.Next != a.Next {
			t.Fatalf("page %d: %v %v", pages, a.Code, err)
		}
		for c := range l.Conversations.All() {
			names = append(names, string(c.Name))
		}
		if limit > 0 && l.Conversations.Len() > min(limit, listMax)+1 {
			t.Fatalf("%d conversations where %d were asked for", l.Conversations.Len(), limit)
		}
		if l.Next == 0 {
			return names
		}
		if pages > 5000 || after != 0 && l.Next >= after {
			t.Fatalf("page %d ends at %x, the one before at %x", pages, l.Next, after)
		}
		if after = l.Next; between != nil {
			between()
		}
	}
}

// However it is cut into pages, nothing is missing and nothing comes twice, also where all messages are of one millisecond or gone.
func TestListPages(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		const n = 230
		var want []string
		for i := range n {
			peer := fmt.Sprintf("u%03d", i)
			s.knows("bob", peer)
			s.say(direct(peer, "bob", "x"))
			if i%10 == 0 {
				s.now.Add(1)
			}
			if i%3 == 0 {
				s.trim(codec.KindDirect, pairOf("bob", peer), 2)
			}
			want = append(want, pairOf("bob", peer))
		}
		for _, c := range []struct{ limit, bytes int }{{5, 0}, {33, 0}, {65535, 0}, {65535, 400}, {1000, 1}} {
			got := s.listAll(t, "bob", c.limit, c.bytes, nil)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("limit %d, %d bytes: %d conversations, want each of %d once", c.limit, c.bytes, len(got), n)
			}
		}
		i := 0
		got := s.listAll(t, "bob", 20, 0, func() { // others move to the front meanwhile
			s.now.Add(1)
			s.say(direct(fmt.Sprintf("u%03d", i*17%n), "bob", "y"))
			i++
		})
		moved := map[string]bool{}
		for j := range i {
			moved[pairOf("bob", fmt.Sprintf("u%03d", j*17%n))] = true
		}
		seen := map[string]int{}
		for _, name := range got {
			seen[name]++
		}
		for _, name := range want {
			if seen[name] > 1 || seen[name] == 0 && !moved[name] {
				t.Errorf("%q was listed %d times", name, seen[name])
			}
		}
	})
}

// Where two conversations have the same place in the order, a page does not end between them.
func TestListKeepsTogetherWhatItCannotPart(t *testing.T) {
	s := newShelf(t, inMemory)
	s.w.store = s.l.current()
	by := map[uint64]string{}
	for i := 0; ; i++ {
		peer := fmt.Sprint("u", i)
		order := s.w.spread(store.Channel{Kind: codec.KindDirect, Name: pairOf("bob", peer)})
		other, ok := by[order]
		if by[order] = peer; !ok {
			continue
		}
		for _, u := range []string{peer, other} {
			s.knows("bob", u)
			s.say(direct(u, "bob", "x"))
		}
		break
	}
	s.knows("bob", "earlier")
	s.now.Store(day - 1)
	s.say(direct("earlier", "bob", "x"))
	a := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 1})
	b := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 1, After: a.Next})
	if a.N != 2 || b.N != 1 || b.Next != 0 {
		t.Errorf("pages of %d and %d, the end is %d", a.N, b.N, b.Next)
	}
}

func TestListIsBounded(t *testing.T) {
	s := newShelf(t, inMemory)
	for i := range maxConversations + 10 {
		peer := fmt.Sprintf("u%05d", i)
		s.knows("bob", peer)
		s.say(direct(peer, "bob", "x"))
	}
	s.say(inGroup("g", "x"))
	s.group(group{Name: "g"}, map[string]uint64{"bob": 1})
	if got := s.listAll(t, "bob", 200, 0, nil); len(got) != maxConversations || !slices.Contains(got, "g") {
		t.Errorf("%d conversations listed, want %d, the group among them", len(got), maxConversations)
	}
	if s.w.r.counts.cut.Load() == 0 {
		t.Error("not counted")
	}
}
