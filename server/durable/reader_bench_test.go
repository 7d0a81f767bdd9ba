package durable

import (
	"fmt"
	"log/slog"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/pebble"
)

// sayMany stores messages as one commit.
func (s *shelf) sayMany(lines []line) {
	batch := make([]store.Message, len(lines))
	for i, m := range lines {
		e := store.Message{Kind: m.kind, Name: []byte(m.name), User: []byte(m.from), Time: s.now.Load()}
		e.Frame = codec.AppendMsg(nil, codec.Msg{Flags: codec.MsgDurable, Kind: m.kind, Name: e.Name, Time: e.Time, Sender: e.User, Payload: []byte(m.text)})
		for _, u := range m.inbox {
			e.Inbox = append(e.Inbox, []byte(u))
		}
		batch[i] = e
	}
	if err := s.l.current().Append(batch, make([]store.Result, len(batch))); err != nil {
		s.Fatal(err)
	}
}

// withDefaults opens a store as a node does.
func withDefaults(b *testing.B) func() (store.Store, error) {
	dir := b.TempDir()
	return func() (store.Store, error) {
		return pebble.Open(dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	}
}

// benchPage is the MaxBytes that shards ask for.
const benchPage = 128 << 10

const benchText = "a message of two hundred bytes, which is what people say at most when they write to each other, and it is what the figures " +
	"of this project are for, whatever they say and to whom, now and ever"

// benchShelf has 10,000 users who wrote to each other, and the places where their devices are.
func benchShelf(b *testing.B, open func() (store.Store, error), groupsOfAUser int) *shelf {
	const users = 10_000
	s := newShelf(b, open)
	for round := range 10 {
		var lines []line
		for i := range users {
			lines = append(lines, direct(fmt.Sprint("user", i), fmt.Sprint("user", (i+round+1)%users), benchText))
		}
		s.sayMany(lines)
	}
	s.say(posted(codec.KindAll, "all", "hello"))
	members := make([]map[string]uint64, 100)
	for i := range users {
		user := fmt.Sprint("user", i)
		s.device(user, "phone", s.l.current().Place(), logMark{codec.KindAll, "all", 1})
		for g := range groupsOfAUser {
			m := &members[(i+g*7)%len(members)]
			if *m == nil {
				*m = map[string]uint64{}
			}
			(*m)[user] = 1
		}
	}
	for i, m := range members {
		if m != nil {
			s.say(inGroup(fmt.Sprint("group", i), "made"))
			s.group(group{Name: fmt.Sprint("group", i)}, m)
		}
	}
	var lines []line
	for i := range 1000 { // of others: the places above are not everybody's
		lines = append(lines, direct(fmt.Sprint("other", i), "another", benchText))
	}
	s.sayMany(lines)
	return s
}

func benchResume(b *testing.B, s *shelf, q shard.Read) {
	users := make([]string, 10_000)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		one := q
		one.User = users[i*7%len(users)]
		if s.w.answer(&one); one.Code != codec.CodeOK || one.N != 0 {
			b.Fatalf("%+v", one)
		}
	}
}

// A login of a device that misses nothing, by what was stored and by a position.
func BenchmarkResumeCaughtUp(b *testing.B) {
	b.Run("memory", func(b *testing.B) { // what it costs beside the store
		benchResume(b, benchShelf(b, inMemory, 0), shard.Read{Op: shard.ReadResume, Device: "phone", MaxBytes: benchPage})
	})
	for _, groups := range []int{0, 5} {
		s := benchShelf(b, withDefaults(b), groups)
		b.Run(fmt.Sprintf("stored/groups=%d", groups), func(b *testing.B) {
			benchResume(b, s, shard.Read{Op: shard.ReadResume, Device: "phone", MaxBytes: benchPage})
		})
		b.Run(fmt.Sprintf("position/groups=%d", groups), func(b *testing.B) {
			benchResume(b, s, shard.Read{Op: shard.ReadResume, Device: "phone", MaxBytes: benchPage, Epoch: s.l.current().Epoch(), After: s.l.current().Place() - 900})
		})
		b.Run(fmt.Sprintf("head/groups=%d", groups), func(b *testing.B) {
			benchResume(b, s, shard.Read{Op: shard.ReadResume, Device: "phone", MaxBytes: benchPage, Epoch: s.l.current().Epoch(), After: s.l.current().Place()})
		})
	}
}

// A device that is 10,000 messages behind, in one conversation or in many.
func BenchmarkInboxCatchUp(b *testing.B) {
	for _, peers := range []int{1, 100} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			s := newShelf(b, withDefaults(b))
			for round := range 100 {
				var lines []line
				for i := range 100 {
					lines = append(lines, direct(fmt.Sprint("peer", (round*100+i)%peers), "bob", benchText))
				}
				s.sayMany(lines)
			}
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for q := (shard.Read{Op: shard.ReadInbox, User: "bob", More: true, MaxBytes: benchPage}); q.More; {
					q.After = q.Covered
					s.w.answer(&q)
					n += q.N
				}
				if n != 10_000 {
					b.Fatalf("%d messages", n)
				}
			}
		})
	}
}

// Many conversations, of which one page is wanted.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(fmt.Sprintf("conversations=%d", n), func(b *testing.B) {
			s := newShelf(b, withDefaults(b))
			for i := range n {
				peer := fmt.Sprint("peer", i)
				s.knows("bob", peer)
				s.sayMany([]line{direct(peer, "bob", benchText)})
			}
			b.ReportAllocs()
			for b.Loop() {
				if q := s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 20}); q.N != 20 {
					b.Fatalf("%+v", q)
				}
			}
		})
	}
}
