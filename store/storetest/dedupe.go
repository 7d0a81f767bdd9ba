package storetest

import (
	"fmt"
	"testing"

	"gannet/codec"
	"gannet/store"
)

// send appends one message a nonce as one batch.
func send(t testing.TB, s store.Store, from string, nonces ...uint64) []store.Result {
	t.Helper()
	var list []msg
	for _, n := range nonces {
		list = append(list, msg{name: "a", from: from, nonce: n, payload: fmt.Sprint(n), inbox: []string{"bob"}})
	}
	return put(t, s, list...)
}

func duplicate(seq uint64) store.Result { return store.Result{Code: codec.CodeDuplicate, Seq: seq} }

func stored(seq, pos uint64) store.Result { return store.Result{Seq: seq, Pos: pos} }

func testDedupe(t *testing.T, x suite) {
	s := x.open(t)
	want(t, "in one batch", send(t, s, "ann/phone", 5, 6, 5, 6, 6, 7),
		[]store.Result{stored(1, 1), stored(2, 2), duplicate(1), duplicate(2), duplicate(2), stored(3, 3)})
	want(t, "in a later batch", send(t, s, "ann/phone", 7, 5, 8, 6, 8),
		[]store.Result{duplicate(3), duplicate(1), stored(4, 4), duplicate(2), duplicate(4)})
	want(t, "of another device", send(t, s, "ann/web", 5), []store.Result{stored(5, 5)})
	want(t, "of another user", send(t, s, "anna/phone", 5, 6), []store.Result{stored(6, 6), stored(7, 7)})
	want(t, "of no device", send(t, s, "ann", 5, 5, 0), []store.Result{stored(8, 8), stored(9, 9), stored(10, 10)})
	want(t, "the greatest", send(t, s, "ann/web", 1<<64-1, 1<<64-1, 6), []store.Result{stored(11, 11), duplicate(11), stored(12, 12)})
	want(t, "highest", highest(t, s, "ann", "phone"), 8)
	want(t, "highest", highest(t, s, "ann", "web"), uint64(1<<64-1))
	want(t, "highest", highest(t, s, "anna", "phone"), 6)
	for _, d := range []string{"phon", "phonee", "", "p"} {
		want(t, "highest of "+d, highest(t, s, "ann", d), 0)
	}
	want(t, "messages", len(payloads(t, s, topic("a"), 0, 100)), 12)
	refs, _ := inbox(t, s, "bob", 0, 100)
	want(t, "references", len(refs), 12)
	want(t, "a batch of nothing new", send(t, s, "ann/phone", 5, 8), []store.Result{duplicate(1), duplicate(4)})
	want(t, "place", s.Place(), 12)

	if x.reopen == nil {
		return
	}
	s = x.reopen(s)
	want(t, "reopened", send(t, s, "ann/phone", 7, 5, 8, 9, 9), []store.Result{duplicate(3), duplicate(1), duplicate(4), stored(13, 13), duplicate(13)})
	want(t, "highest", highest(t, s, "ann", "phone"), 9)
}

// A nonce below the highest that was never stored is stored, whatever lies around it; below all there are it is not.
func testDedupeOdd(t *testing.T, x suite) {
	s := x.open(t)
	send(t, s, "ann/phone", 10, 20, 30)
	send(t, s, "ann/phone", 40, 50)
	want(t, "between", send(t, s, "ann/phone", 25, 15, 45, 25, 35), []store.Result{stored(6, 6), stored(7, 7), stored(8, 8), duplicate(6), stored(9, 9)})
	want(t, "again", send(t, s, "ann/phone", 10, 15, 20, 25, 30, 35, 40, 45, 50),
		[]store.Result{duplicate(1), duplicate(7), duplicate(2), duplicate(6), duplicate(3), duplicate(9), duplicate(4), duplicate(8), duplicate(5)})
	want(t, "below all", send(t, s, "ann/phone", 9, 1), []store.Result{duplicate(0), duplicate(0)})
	want(t, "between the odd", send(t, s, "ann/phone", 26, 24, 46, 60, 55), []store.Result{stored(10, 10), stored(11, 11), stored(12, 12), stored(13, 13), stored(14, 14)})
	want(t, "below all of the batch", send(t, s, "ann/web", 7, 3, 9, 8), []store.Result{stored(15, 15), duplicate(0), stored(16, 16), stored(17, 17)})
	if x.reopen != nil {
		s = x.reopen(s)
	}
	want(t, "again", send(t, s, "ann/phone", 26, 24, 46, 60, 55, 25, 9, 11),
		[]store.Result{duplicate(10), duplicate(11), duplicate(12), duplicate(13), duplicate(14), duplicate(6), duplicate(0), stored(18, 18)})
	want(t, "highest", highest(t, s, "ann", "phone"), 60)
}

// At least the last Window nonces are known with their seq; one of those before is never stored again.
func testDedupeWindow(t *testing.T, x suite) {
	s := x.open(t)
	const n = 20 * Window
	next := uint64(1)
	for next <= n {
		var batch []uint64
		for range next%7 + 1 {
			batch = append(batch, next)
			next++
		}
		send(t, s, "ann/phone", batch...)
		if x.reopen != nil && next%31 == 0 {
			s = x.reopen(s)
		}
		if next%5 == 0 {
			checkWindow(t, s, next-1)
		}
	}
	if r := send(t, s, "ann/phone", 1)[0]; r != duplicate(0) {
		t.Errorf("%d nonces later the first is still kept: %+v", n, r)
	}
}

// checkWindow retries all nonces up to n, which is also how many were stored.
func checkWindow(t *testing.T, s store.Store, n uint64) {
	t.Helper()
	want(t, "highest", highest(t, s, "ann", "phone"), n)
	var all []uint64
	for i := range n {
		all = append(all, i+1)
	}
	for i, r := range send(t, s, "ann/phone", all...) {
		nonce := uint64(i + 1)
		if known := r == duplicate(nonce); !known && (r != duplicate(0) || nonce+Window > n) {
			t.Fatalf("nonce %d of %d: %+v", nonce, n, r)
		}
	}
}

// Trimming must not leave an odd nonce as the lowest: those above it that were stored would look as if they had not been.
func testDedupeOddWindow(t *testing.T, x suite) {
	for gap := range uint64(11) {
		s := x.open(t)
		var given []uint64
		next := uint64(100)
		for range 20 {
			var batch []uint64
			for i := range 5 + gap {
				batch = append(batch, next+2*i)
			}
			batch = append(batch, next+3, next+2*gap+1) // odd ones, within
			for i, r := range send(t, s, "ann/phone", batch...) {
				if r.Code == codec.CodeOK {
					given = append(given, batch[i])
				}
			}
			next += 2 * (5 + gap)
			for i, r := range send(t, s, "ann/phone", given...) {
				if r.Code != codec.CodeDuplicate {
					t.Fatalf("gap %d: nonce %d of those up to %d was stored twice: %+v", gap, given[i], next, r)
				}
			}
		}
		must(t, s.Close())
	}
}

// More devices than any cache keeps: what is known of them does not depend on it, and trimming happens all the same.
func testDedupeManyDevices(t *testing.T, x suite) {
	s := x.open(t)
	const devices, rounds = 50, 4 * Window
	for round := uint64(1); round <= rounds; round++ {
		var list []msg
		for d := range devices {
			list = append(list, msg{name: "a", from: fmt.Sprint("u/", d), nonce: round})
		}
		for i := 0; i < devices; i += 10 {
			put(t, s, list[i:i+10]...)
		}
	}
	for d := range devices {
		from := fmt.Sprint("u/", d)
		want(t, "highest", highest(t, s, "u", fmt.Sprint(d)), rounds)
		r := send(t, s, from, 1, rounds, rounds-Window+1)
		want(t, "the first", r[0], duplicate(0))
		want(t, "the last", r[1], duplicate(uint64((rounds-1)*devices+d+1)))
		want(t, "the last of the window", r[2], duplicate(uint64((rounds-Window)*devices+d+1)))
	}
}
