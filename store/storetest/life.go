package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"gannet/codec"
	"gannet/store"
)

func testReopen(t *testing.T, x suite) {
	if x.reopen == nil {
		t.Skip("nothing outlives Close")
	}
	s := x.open(t)
	epoch := s.Epoch()
	var list []string
	for round := range 5 {
		for i := range 3 {
			list = append(list, fmt.Sprint(round, i))
			put(t, s, msg{name: "a", payload: list[len(list)-1], time: Day + uint64(round)*Bucket, inbox: []string{"ann"}})
		}
		s = x.reopen(s)
		want(t, "epoch", s.Epoch(), epoch)
		want(t, "place", s.Place(), len(list))
		want(t, "head", head(t, s, topic("a")), store.Head{First: 1, Seq: uint64(len(list))})
		want(t, "messages", payloads(t, s, topic("a"), 0, 4), list)
		refs, next := inbox(t, s, "ann", 0, 100)
		want(t, "inbox", fmt.Sprint(len(refs), next), fmt.Sprint(len(list), len(list)))
	}
}

func testClosed(t *testing.T, x suite) {
	s := x.open(t)
	put(t, s, msg{name: "a"})
	epoch := s.Epoch()
	must(t, s.Close())
	m := msg{name: "a"}.message()
	results := make([]store.Result, 1)
	_, _, _, _, readErr := s.Read(topic("a"), 1, 1, 1, nil)
	_, _, inboxErr := s.Inbox("ann", 0, 1, nil)
	_, headErr := s.Head(topic("a"))
	_, firstErr := s.InboxFirst("ann")
	_, nonceErr := s.Nonce("ann", "phone")
	_, getErr := s.Get("ann", "a")
	_, scanErr := s.Scan("ann", "", 1)
	for what, err := range map[string]error{
		"Append": s.Append([]store.Message{m}, results), "Append of nothing": s.Append(nil, nil), "Head": headErr, "Read": readErr,
		"Inbox": inboxErr, "InboxFirst": firstErr, "Nonce": nonceErr, "Put": s.Put([]store.Record{{Owner: "o", Key: "k"}}, true),
		"Get": getErr, "Scan": scanErr, "Trim": s.Trim(topic("a"), 1), "Expire": s.Expire(1), "Close": s.Close(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s on a closed store: %v", what, err)
		}
	}
	want(t, "epoch", s.Epoch(), epoch)
	want(t, "place", s.Place(), 1)
}

// Readers never see anything above the place they ask for behind it, and no hole, while batches come in.
func testReaders(t *testing.T, x suite) {
	s := x.open(t)
	const batches = 60
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last := uint64(0); !done.Load() || last == 0; {
				last = max(last, readerTurn(t, s))
			}
		})
	}
	for b := range batches {
		var list []msg
		for i := range 20 {
			list = append(list, msg{
				name: fmt.Sprint("c", i%4), from: "ann/phone", nonce: uint64(b*20 + i + 1),
				time: Day + uint64(b/10)*Bucket, inbox: []string{"ann", fmt.Sprint("u", i%3)},
			})
		}
		put(t, s, list...)
	}
	done.Store(true)
	readers.Wait()
}

// readerTurn reads a bit of everything. Every message has a place and a nonce of the same number and goes to ann's inbox.
func readerTurn(t *testing.T, s store.Store) (place uint64) {
	before := s.Place()
	nonce, err := s.Nonce("ann", "phone")
	if after := s.Place(); err != nil || nonce < before || nonce > after {
		t.Errorf("nonce %d, %v between places %d and %d", nonce, err, before, after)
	}
	before = s.Place()
	refs, next, err := s.Inbox("ann", 0, 1<<30, nil)
	if after := s.Place(); err != nil || next < before || next > after || uint64(len(refs)) != next {
		t.Errorf("%d references up to %d, %v between places %d and %d", len(refs), next, err, before, after)
	}
	total := uint64(0)
	before = s.Place()
	for i := range 4 {
		c := topic(fmt.Sprint("c", i))
		h, err := s.Head(c)
		b, _, _, n, err2 := s.Read(c, 1, 1<<30, 1<<30, nil)
		if after := s.Place(); err != nil || err2 != nil || uint64(n) < h.Seq || uint64(n) > (after+3)/4 || h.Seq < before/4 {
			t.Errorf("%v: head %+v, %v, then %d frames, %v, between places %d and %d", c, h, err, n, err2, before, after)
		}
		for i, m := range frames(t, b) {
			if m.Seq != uint64(i+1) {
				t.Errorf("%v: seq %d at %d", c, m.Seq, i)
			}
		}
		total += h.Seq
	}
	return total
}

// While retention removes what is being read, pages still have no hole inside, and references that are missing are told of.
func testReadersAndRetention(t *testing.T, x suite) {
	s := x.open(t)
	var done atomic.Bool
	var readers sync.WaitGroup
	readers.Go(func() {
		for !done.Load() {
			b, first, _, _, err := s.Read(topic("a"), 1, 1<<30, 1<<30, nil)
			if err != nil {
				t.Errorf("Read: %v", err)
				return
			}
			for i, m := range frames(t, b) {
				if m.Seq != first+uint64(i) {
					t.Errorf("seq %d at %d of a page from %d", m.Seq, i, first)
				}
			}
			if h, err := s.Head(topic("a")); err != nil || h.First > h.Seq+1 {
				t.Errorf("head %+v, %v", h, err)
			}
		}
	})
	readers.Go(func() {
		for !done.Load() {
			refs, next, err := s.Inbox("ann", 0, 1<<30, nil)
			first, err2 := s.InboxFirst("ann")
			if err != nil || err2 != nil {
				t.Errorf("Inbox: %v, InboxFirst: %v", err, err2)
				return
			}
			refs = slices.DeleteFunc(refs, func(r store.Ref) bool { return r.Pos <= first })
			if uint64(len(refs)) != max(first, next)-first { // each place is in this inbox
				t.Errorf("%d references above %d up to %d", len(refs), first, next)
			}
		}
	})
	for b := range uint64(80) {
		for range 3 {
			put(t, s, msg{name: "a", time: Day + b*Bucket, inbox: []string{"ann"}}, msg{name: "a", time: Day, inbox: []string{"ann"}})
		}
		if b%3 == 0 {
			must(t, s.Trim(topic("a"), 6*b-3))
		}
		if b > 4 {
			must(t, s.Expire(Day+(b-b%7)*Bucket))
		}
	}
	done.Store(true)
	readers.Wait()
	want(t, "seq", put(t, s, msg{name: "a", time: Day + 99*Bucket})[0], store.Result{Code: codec.CodeOK, Seq: 481, Pos: 481})
}
