package storetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/store"
)

// fill appends n messages to topic a in batches of size, a bucket every perBucket batches; payloads are "1", "2", ….
func fill(t *testing.T, s store.Store, n, size, perBucket int) {
	t.Helper()
	var list []msg
	batches := 0
	for i := 1; i <= n; i++ {
		list = append(list, msg{name: "a", payload: fmt.Sprint(i), time: Day + uint64(batches/perBucket)*Bucket, inbox: []string{"ann"}})
		if len(list) == size || i == n {
			put(t, s, list...)
			list = list[:0]
			batches++
		}
	}
}

func numbers(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func testRead(t *testing.T, x suite) {
	s := x.open(t)
	put(t, s, msg{name: "A", payload: "neighbour"}, msg{name: "aa", payload: "neighbour"}, msg{name: "b", payload: "neighbour"})
	fill(t, s, 100, 7, 3) // five buckets
	for from := uint64(0); from <= 103; from++ {
		for _, limit := range []int{1, 6, 7, 8, 40, 100, 65535} {
			p := read(t, s, topic("a"), from, limit, 1<<30)
			begin := max(int(from), 1)
			want(t, fmt.Sprint("messages from ", from), len(p.msgs), max(0, min(limit, 101-begin)))
			if len(p.msgs) > 0 {
				want(t, "first", p.first, begin)
				want(t, "payload", string(p.msgs[0].Payload), begin)
			} else {
				want(t, "next", p.next, begin)
			}
		}
	}
	want(t, "limit 0", read(t, s, topic("a"), 4, 0, 1<<30), page{next: 4})
	want(t, "limit 0 from 0", read(t, s, topic("a"), 0, 0, 1<<30), page{next: 1})
	want(t, "the end", read(t, s, topic("a"), math.MaxUint64, 9, 9), page{next: math.MaxUint64})
	for _, limit := range []int{1, 9, 65535} {
		if got := payloads(t, s, topic("a"), 0, limit); !slices.Equal(got, numbers(1, 100)) {
			t.Errorf("in pages of %d: %v", limit, got)
		}
	}
}

func testReadBytes(t *testing.T, x suite) {
	s := x.open(t)
	fill(t, s, 20, 4, 2)
	size := codec.MsgLen(codec.Msg{Name: []byte("a"), Payload: []byte("1")})
	for _, c := range []struct{ maxBytes, n int }{
		{-1, 1}, {0, 1}, {size - 1, 1}, {size, 1}, {2*size - 1, 1}, {2 * size, 2}, {9 * size, 9}, {9*size + size, 9}, {9*size + size + 1, 10}, {1 << 30, 20},
	} {
		want(t, fmt.Sprint("messages in ", c.maxBytes, " bytes"), len(read(t, s, topic("a"), 1, 100, c.maxBytes).msgs), c.n)
	}
	put(t, s, msg{name: "a", payload: strings.Repeat("x", 200_000)}, msg{name: "a", payload: "22"})
	want(t, "one that is too large", read(t, s, topic("a"), 21, 9, 5).next, 22)
	want(t, "behind it", read(t, s, topic("a"), 20, 9, 5000).next, 21)
}

// More channels than any cache keeps, returned to later: each goes on where it was.
func testManyChannels(t *testing.T, x suite) {
	s := x.open(t)
	const channels, rounds = 120, 4
	for round := range rounds {
		var list []msg
		for i := range channels {
			for range i%3 + 1 {
				list = append(list, msg{name: fmt.Sprint("c", i), payload: fmt.Sprint(round), time: Day + uint64(round/2)*Bucket})
			}
			if len(list) > 10 {
				put(t, s, list...)
				list = nil
			}
		}
		put(t, s, list...)
	}
	for i := range channels {
		c := topic(fmt.Sprint("c", i))
		n := i%3 + 1
		want(t, "head", head(t, s, c), store.Head{First: 1, Seq: uint64(n * rounds)})
		var wanted []string
		for round := range rounds {
			wanted = append(wanted, slices.Repeat([]string{fmt.Sprint(round)}, n)...)
		}
		want(t, "payloads", payloads(t, s, c, 0, 2), wanted)
	}
}

func testInbox(t *testing.T, x suite) {
	s := x.open(t)
	pair := string(codec.AppendPair(nil, []byte("ann"), []byte("bob")))
	direct := store.Channel{Kind: codec.KindDirect, Name: pair}
	r := put(t, s,
		msg{name: "a", inbox: []string{"ann"}},
		msg{name: "a", inbox: []string{"bob", "ann", "bob", "bob"}},
		msg{name: "a"},
		msg{kind: codec.KindDirect, name: pair, inbox: []string{"ann", "bob"}},
		msg{name: "a", inbox: []string{"ann", "ann"}},
	)
	r = append(r, put(t, s, msg{name: "b", inbox: []string{"bob"}}, msg{name: "b", inbox: []string{"ann"}})...)
	r = append(r, put(t, s, msg{name: "b", inbox: []string{"ann"}, time: Day + Bucket})...)
	ann := []store.Ref{
		{Pos: r[0].Pos, Channel: topic("a"), Seq: 1}, {Pos: r[1].Pos, Channel: topic("a"), Seq: 2},
		{Pos: r[3].Pos, Channel: direct, Seq: 1}, {Pos: r[4].Pos, Channel: topic("a"), Seq: 4},
		{Pos: r[6].Pos, Channel: topic("b"), Seq: 2}, {Pos: r[7].Pos, Channel: topic("b"), Seq: 3},
	}
	bob := []store.Ref{
		{Pos: r[1].Pos, Channel: topic("a"), Seq: 2}, {Pos: r[3].Pos, Channel: direct, Seq: 1},
		{Pos: r[5].Pos, Channel: topic("b"), Seq: 1},
	}
	for user, all := range map[string][]store.Ref{"ann": ann, "bob": bob, "an": nil, "annn": nil, "": nil} {
		for after := uint64(0); after <= s.Place()+2; after++ {
			var above []store.Ref
			for _, ref := range all {
				if ref.Pos > after {
					above = append(above, ref)
				}
			}
			for limit := range len(all) + 2 {
				got, next := inbox(t, s, user, after, limit)
				want(t, fmt.Sprint("inbox of ", user, " above ", after), got, above[:min(limit, len(above))])
				switch {
				case len(got) < limit:
					want(t, "next", next, max(after, s.Place()))
				case limit == 0:
					want(t, "next", next, after)
				default:
					want(t, "next", next, got[len(got)-1].Pos)
				}
			}
		}
	}
	refs, next := inbox(t, s, "ann", math.MaxUint64, 5)
	want(t, "inbox at the end", fmt.Sprint(refs, next), fmt.Sprint("[] ", uint64(math.MaxUint64)))
	want(t, "complete from", inboxFirst(t, s, "ann"), 0)
}

// Many users in one batch, and batches that most users are not in.
func testInboxMany(t *testing.T, x suite) {
	s := x.open(t)
	wanted := map[string][]store.Ref{}
	for batch := range 12 {
		var list []msg
		for i := range 60 {
			m := msg{kind: codec.KindGroup, name: fmt.Sprint("g", i%5), time: Day + uint64(batch/4)*Bucket}
			for u := range (i*7 + batch) % 90 {
				m.inbox = append(m.inbox, fmt.Sprint("u", u*(batch+1)))
			}
			list = append(list, m)
		}
		for i, r := range put(t, s, list...) {
			for _, u := range list[i].inbox {
				c := store.Channel{Kind: codec.KindGroup, Name: list[i].name}
				wanted[u] = append(wanted[u], store.Ref{Pos: r.Pos, Channel: c, Seq: r.Seq})
			}
		}
	}
	for user, refs := range wanted {
		var got []store.Ref
		for after := uint64(0); ; {
			page, next := inbox(t, s, user, after, 50)
			if got = append(got, page...); len(page) < 50 {
				break
			}
			after = next
		}
		want(t, "inbox of "+user, got, refs)
	}
}
