package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOutbox(t *testing.T) {
	o := newOutbox(4)
	sent := func() (all []uint64) {
		for {
			n, due, ok := o.take()
			if !ok {
				return all
			}
			if due != int64(100+n) {
				t.Errorf("message %d was due at %d", n, due)
			}
			all = append(all, n)
		}
	}
	want := func(what string, got []uint64, want ...uint64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: sent %v, want %v", what, got, want)
		}
	}
	want("empty", sent())
	for n := int64(1); !o.full(); n++ {
		o.add(100 + n)
	}
	want("a full window", sent(), 1, 2, 3, 4)
	if n, ok := o.find(2); !ok || n != 2 || o.answer(n) != 102 {
		t.Errorf("an answer out of order: %d, %v", n, ok)
	}
	if _, ok := o.find(2); ok {
		t.Error("answered twice")
	}
	if o.full() != true {
		t.Error("room, although the lowest message is unanswered")
	}
	o.rewind(7)
	if _, ok := o.find(3); ok || o.retryAt != 7 {
		t.Error("an answer to what is to be sent again")
	}
	want("again, but for what was answered", sent(), 1, 3, 4)
	o.answer(1)
	o.add(105)
	o.add(106)
	want("the window moves over both", sent(), 5, 6)
	o.limit = 3
	o.rewind(0)
	want("as many as may be unanswered", sent(), 3, 4, 5)
	n, _, ok := o.take()
	if ok {
		t.Errorf("took %d beyond the limit", n)
	}
	o.answer(3)
	if n, _, ok = o.take(); !ok || n != 6 {
		t.Errorf("took %d, %v; want 6", n, ok)
	}
	o.untake()
	want("what was given back", sent(), 6)
}

// strict is a receiver that keeps rule 3: after a refusal it takes nothing of a sender until the refused number comes again.
type strict struct {
	r       *rand.Rand
	stored  []uint64
	blocked uint64
}

func (s *strict) take(n uint64) (code refusal) {
	switch {
	case len(s.stored) > 0 && n <= s.stored[len(s.stored)-1]:
		return again
	case s.blocked != 0 && n != s.blocked:
		return busy
	case s.r.IntN(10) == 0:
		s.blocked = n
		return busy
	}
	s.blocked = 0
	s.stored = append(s.stored, n)
	return stored
}

type refusal int

const (
	stored refusal = iota
	again
	busy
)

// However often the receiver refuses, answers are lost and connections end, everything is stored once and in order.
func TestOutboxUnderRefusals(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		const all = 500
		o := newOutbox(1 + r.IntN(40))
		o.limit = 1 + r.Uint64N(uint64(len(o.dues)))
		to := &strict{r: r}
		type answer struct {
			req  uint32
			code refusal
		}
		var wire []answer // answers on their way
		rounds := 0
		for ; o.low <= all; rounds++ {
			for !o.full() && o.high <= all {
				o.add(1)
			}
			for {
				n, _, ok := o.take()
				if !ok {
					break
				}
				wire = append(wire, answer{uint32(n), to.take(n)})
			}
			if r.IntN(20) == 0 { // the connection ends
				wire = wire[:0]
				o.rewind(0)
			}
			for k := r.IntN(len(wire) + 1); k > 0; k-- {
				n, ok := o.find(wire[0].req)
				switch code := wire[0].code; {
				case !ok:
				case code == busy:
					o.rewind(0)
				default:
					o.answer(n)
				}
				wire = wire[1:]
			}
			if rounds > 100*all {
				t.Fatalf("seed %d: stuck at %d, %d, %d", seed, o.low, o.next, o.high)
			}
		}
		if len(to.stored) != all || to.stored[0] != 1 || to.stored[all-1] != all {
			t.Fatalf("seed %d: stored %v", seed, to.stored)
		}
	}
}
