package storetest

import (
	"fmt"
	"slices"
	"testing"

	"gannet/codec"
	"gannet/store"
)

func testTrim(t *testing.T, x suite) {
	s := x.open(t)
	fill(t, s, 100, 7, 3)
	put(t, s, msg{name: "aa", payload: "neighbour"}, msg{name: "b", payload: "neighbour"})
	last := 1
	for _, below := range []int{0, 1, 2, 7, 8, 9, 5, 22, 43, 44, 64, 99, 99, 100} {
		must(t, s.Trim(topic("a"), uint64(below)))
		last = max(last, below)
		want(t, "head", head(t, s, topic("a")), store.Head{First: uint64(last), Seq: 100})
		if got := payloads(t, s, topic("a"), 0, 9); !slices.Equal(got, numbers(last, 100)) {
			t.Fatalf("below %d: %v", below, got)
		}
		p := read(t, s, topic("a"), 3, 2, 1<<30)
		want(t, "first", p.first, max(last, 3))
		want(t, "limit 0", read(t, s, topic("a"), 0, 0, 0), page{next: uint64(last)})
		if x.reopen != nil && below%2 == 1 {
			s = x.reopen(s)
		}
	}
	want(t, "neighbours", fmt.Sprint(payloads(t, s, topic("aa"), 0, 9), payloads(t, s, topic("b"), 0, 9)), "[neighbour] [neighbour]")
	refs, _ := inbox(t, s, "ann", 0, 1000)
	want(t, "references", len(refs), 100)
	want(t, "complete from", inboxFirst(t, s, "ann"), 0)
}

// A channel with nothing left goes on counting.
func testTrimAll(t *testing.T, x suite) {
	s := x.open(t)
	fill(t, s, 10, 4, 1)
	for round, below := range []uint64{11, 1 << 60, 1<<64 - 1} {
		n := uint64(10 + round)
		must(t, s.Trim(topic("a"), below))
		want(t, "head", head(t, s, topic("a")), store.Head{First: n + 1, Seq: n})
		want(t, "page", read(t, s, topic("a"), 1, 9, 1<<30), page{next: n + 1})
		if x.reopen != nil {
			s = x.reopen(s)
			want(t, "head", head(t, s, topic("a")), store.Head{First: n + 1, Seq: n})
		}
		want(t, "seq", put(t, s, msg{name: "a", payload: "new", time: Day + 2*Bucket})[0].Seq, n+1)
		want(t, "head", head(t, s, topic("a")), store.Head{First: n + 1, Seq: n + 1})
		want(t, "messages", payloads(t, s, topic("a"), 1, 9), []string{"new"})
	}
}

func testExpire(t *testing.T, x suite) {
	s := x.open(t)
	fill(t, s, 100, 10, 2) // 20 messages a bucket
	put(t, s, msg{name: "late", time: Day + 4*Bucket}, msg{name: "late", from: "ann/phone", nonce: 7, time: Day + 4*Bucket})
	for _, c := range []struct {
		before uint64
		first  int
	}{
		{0, 1}, {Day, 1}, {Day + Bucket - 1, 1}, {Day + Bucket, 21}, {Day, 21}, {Day + 2*Bucket - 1, 21}, {Day + 4*Bucket, 81}, {Day + 4*Bucket, 81},
	} {
		must(t, s.Expire(c.before))
		want(t, "head", head(t, s, topic("a")), store.Head{First: uint64(c.first), Seq: 100})
		if got := payloads(t, s, topic("a"), 0, 9); !slices.Equal(got, numbers(c.first, 100)) {
			t.Fatalf("before %d: %v", c.before, got)
		}
		refs, _ := inbox(t, s, "ann", 0, 1000)
		want(t, "references", len(refs), 101-c.first)
		want(t, "complete from", inboxFirst(t, s, "ann"), c.first-1)
		if x.reopen != nil {
			s = x.reopen(s)
			want(t, "head", head(t, s, topic("a")), store.Head{First: uint64(c.first), Seq: 100})
			want(t, "complete from", inboxFirst(t, s, "ann"), c.first-1)
		}
	}
	want(t, "late", head(t, s, topic("late")), store.Head{First: 1, Seq: 2})
	want(t, "nonce", highest(t, s, "ann", "phone"), 7)
}

// What has no message left goes on counting, places and nonces as well.
func testExpireAll(t *testing.T, x suite) {
	s := x.open(t)
	place := uint64(0)
	for round := range uint64(4) {
		time := Day + round*Bucket/2 // twice in the same bucket
		r := put(t, s, msg{name: "a", time: time, inbox: []string{"ann"}}, msg{name: "a", time: time, from: "ann/phone", nonce: round + 1})
		want(t, "results", r, []store.Result{stored(2*round+1, place+1), stored(2*round+2, place+2)})
		place += 2
		must(t, s.Expire(Day+9*Bucket))
		want(t, "head", head(t, s, topic("a")), store.Head{First: 2*round + 3, Seq: 2*round + 2})
		want(t, "messages", len(payloads(t, s, topic("a"), 0, 9)), 0)
		refs, next := inbox(t, s, "ann", 0, 9)
		want(t, "inbox", fmt.Sprint(refs, next), fmt.Sprint("[] ", place))
		want(t, "complete from", inboxFirst(t, s, "ann"), place)
		want(t, "place", s.Place(), place)
		if x.reopen != nil && round%2 == 0 {
			s = x.reopen(s)
			want(t, "complete from", inboxFirst(t, s, "ann"), place)
		}
		want(t, "retry", put(t, s, msg{name: "a", from: "ann/phone", nonce: round + 1}), []store.Result{duplicate(2*round + 2)})
		must(t, s.Trim(topic("a"), 1<<40))
	}
}

func testExpireManyChannels(t *testing.T, x suite) {
	s := x.open(t)
	const channels = 300
	for day := range uint64(3) {
		var list []msg
		for i := range channels {
			if uint64(i)%3 <= day {
				list = append(list, msg{kind: codec.KindGroup, name: fmt.Sprint("g", i), time: Day + day*Bucket, payload: fmt.Sprint(day)})
			}
		}
		put(t, s, list...)
	}
	for day := range uint64(4) {
		must(t, s.Expire(Day+day*Bucket))
		for i := range uint64(channels) {
			begin := i % 3 // the day of its first message
			n := 3 - begin
			gone := max(day, begin) - begin
			c := store.Channel{Kind: codec.KindGroup, Name: fmt.Sprint("g", i)}
			want(t, fmt.Sprint("head of ", c, " on day ", day), head(t, s, c), store.Head{First: gone + 1, Seq: n})
			want(t, "messages", len(payloads(t, s, c, 0, 9)), n-gone)
		}
	}
	r := put(t, s, msg{kind: codec.KindGroup, name: "g0", time: Day + 4*Bucket}, msg{kind: codec.KindGroup, name: "g2", time: Day + 4*Bucket})
	want(t, "seqs", fmt.Sprint(r[0].Seq, r[1].Seq), "4 2")
}

// Buckets never go back: what is stored while a clock is wrong stays at least as long as it should.
func testTimeGoesBack(t *testing.T, x suite) {
	s := x.open(t)
	times := []uint64{Day, Day - 5*Bucket, Day + 3*Bucket, Day + Bucket, 1, Day + 3*Bucket, Day + 4*Bucket}
	for i, at := range times {
		put(t, s, msg{name: "a", payload: fmt.Sprint(i + 1), time: at, inbox: []string{"ann"}})
	}
	put(t, s, msg{name: "a", payload: "8", time: Day + 5*Bucket}, msg{name: "b", time: Day}) // the batch's latest counts
	for _, c := range []struct {
		before uint64
		kept   []string
	}{
		{Day - Bucket, numbers(1, 8)}, {Day + Bucket, numbers(3, 8)}, {Day + 3*Bucket, numbers(3, 8)},
		{Day + 4*Bucket, numbers(7, 8)}, {Day, numbers(7, 8)}, {Day + 5*Bucket, numbers(8, 8)},
	} {
		must(t, s.Expire(c.before))
		want(t, fmt.Sprint("messages at ", c.before), payloads(t, s, topic("a"), 0, 9), c.kept)
		want(t, "b", len(payloads(t, s, topic("b"), 0, 9)), 1)
	}
	must(t, s.Expire(Day+6*Bucket))
	want(t, "head", head(t, s, topic("a")), store.Head{First: 9, Seq: 8})
	put(t, s, msg{name: "a", payload: "9", time: Day})
	must(t, s.Expire(Day))
	want(t, "messages", payloads(t, s, topic("a"), 0, 9), []string{"9"})
}
