package shard

import (
	"math/bits"
	"sync/atomic"
)

const (
	ringMinCapacity = 16
	ringMaxCapacity = 1 << 30
	ringMaxBatch    = 256 // items handed out, and credits given back, at a time
	ringPad         = 128 // two cache lines: the prefetcher fetches lines in pairs
)

// Ring is a bounded queue with many producers and one consumer: the inbox of a shard.
//
// Room is handed out before it is used. A credit is the right to one slot: Reserve takes
// credits, Push spends them, and the consumer gives them back as it drains. So whoever holds a
// credit can push whenever it likes and never finds the ring full, which is how the answer to an
// admitted request always has a place. Only Reserve and TryPush can fail.
//
// A Push is one run: it claims its positions with a single add on the tail, copies its items with
// plain stores and publishes all of them by storing the run's length into the header of its first
// slot. The consumer finds the length there and takes the run without further atomics:
//
//	slots    a a a b b b b b c c . .      a, b published; c claimed, still being copied
//	headers  3 0 0 5 0 0 0 0 0 0 0 0      (0 = nothing begins here yet)
//	         ^head                ^tail
//
// The consumer cannot pass a run that is claimed and not yet published: what stands behind it
// waits. Items of one producer stay in order; runs never interleave.
//
// # Waking the consumer
//
// The consumer's turn is
//
//	r.Disarm()
//	for r.Drain(max, f) > 0 { ... }
//
// and whoever gets wake == true from a Push must cause one more turn. After each Disarm exactly
// one Push gets true. No item is left behind asleep: a Push publishes and then looks at the flag, the
// consumer clears the flag and then looks at the headers, and Go's atomics are sequentially
// consistent, so at least one of the two sees the other. A turn that ends with Drain having
// returned its max, or that sees Empty false, must arrange its next turn by itself: no Push
// will wake it for items that were there before.
type Ring[T any] struct {
	// Static after construction.
	slots   []T
	headers []atomic.Uint32 // length of the published run that begins at this slot, or 0
	mask    uint64
	batch   int

	_    [ringPad]byte
	tail atomic.Uint64 // next position to claim; producers

	_       [ringPad]byte
	credits atomic.Int64 // slots that nobody has reserved; everybody

	_     [ringPad]byte
	armed atomic.Uint32 // 1: a wake is on its way since the last Disarm; everybody

	_ [ringPad]byte
	// Owned by the consumer; others read only drained.
	head    uint64        // next position to hand out
	ready   int           // items from head on that are known to be published
	outAt   int           // slot of the first item that f holds now,
	outN    int           // and how many it holds
	owed    int           // slots cleared whose credits are not given back yet
	drained atomic.Uint64 // head as of the last time credits were given back, for Len

	_ [ringPad]byte
}

// NewRing makes a ring of at least capacity items, rounded up to a power of two and to 16. It
// panics above 2^30. The first Push asks for a wake.
func NewRing[T any](capacity int) *Ring[T] {
	if capacity > ringMaxCapacity {
		panic("shard: ring capacity above 2^30")
	}
	size := ringMinCapacity
	if capacity > size {
		size = 1 << bits.Len(uint(capacity-1))
	}
	r := &Ring[T]{
		slots:   make([]T, size),
		headers: make([]atomic.Uint32, size),
		mask:    uint64(size - 1),
		batch:   min(size/4, ringMaxBatch),
	}
	r.credits.Store(int64(size))
	return r
}

// Cap is the number of slots.
func (r *Ring[T]) Cap() int { return len(r.slots) }

// Len is about the number of items pushed, or being pushed, and not yet drained. Any goroutine;
// for metrics. Credits reserved and not used do not count.
func (r *Ring[T]) Len() int {
	drained := r.drained.Load() // first, so that the difference is never negative
	return int(min(r.tail.Load()-drained, uint64(len(r.slots))))
}

// Reserve takes up to n credits and returns how many it got; 0 means full. Each must come back by a
// Push of as many items or by Release. Any goroutine.
func (r *Ring[T]) Reserve(n int) int {
	for {
		free := r.credits.Load()
		got := min(int64(n), free)
		if got <= 0 {
			return 0
		}
		if r.credits.CompareAndSwap(free, free-got) {
			return int(got)
		}
	}
}

// Release gives n unused credits back. It panics when more come back than were ever taken. Any goroutine.
func (r *Ring[T]) Release(n int) {
	if n < 0 || r.credits.Add(int64(n)) > int64(len(r.slots)) {
		panic("shard: ring credits released that were not held")
	}
}

// Push publishes items, for which the caller holds len(items) credits, as one run; the items are
// copied and the slice stays the caller's. It never fails and never waits. When wake is true the
// caller must wake the consumer. Any goroutine.
func (r *Ring[T]) Push(items []T) (wake bool) {
	n := len(items)
	if n == 0 {
		return false
	}
	if n > len(r.slots) {
		panic("shard: run longer than the ring: more items than credits")
	}
	at := (r.tail.Add(uint64(n)) - uint64(n)) & r.mask
	if c := copy(r.slots[at:], items); c < n {
		copy(r.slots, items[c:]) // the run goes on at the start of the storage
	}
	r.headers[at].Store(uint32(n))
	return r.armed.Load() == 0 && r.armed.CompareAndSwap(0, 1)
}

// TryPush reserves room for all items and pushes them as one run, or does nothing and returns ok false.
// Any goroutine.
func (r *Ring[T]) TryPush(items ...T) (ok, wake bool) {
	need := int64(len(items))
	for {
		free := r.credits.Load()
		if free < need {
			return false, false
		}
		if r.credits.CompareAndSwap(free, free-need) {
			return true, r.Push(items)
		}
	}
}

// Disarm makes the next Push ask for a wake again. The consumer calls it at the start of a
// turn, before it looks at the ring.
func (r *Ring[T]) Disarm() { r.armed.Store(0) }

// Empty reports that nothing is published at the head. Consumer only.
func (r *Ring[T]) Empty() bool {
	return r.ready == 0 && r.headers[r.head&r.mask].Load() == 0
}

// Drain hands published items in their order to f, at most max in all, and returns how many. f gets
// slices of the ring's own storage that are cleared when it returns: it must not keep them. f may
// push to this ring, but not drain it. Should f panic, the items of that slice count as handed
// out, and their slots are freed by the next Drain. Consumer only.
func (r *Ring[T]) Drain(max int, f func(items []T)) int {
	if r.outN > 0 {
		r.settle() // f panicked in the Drain before this one
	}
	done := 0
	for done < max {
		n := r.take(max - done)
		if n == 0 {
			break
		}
		f(r.slots[r.outAt : r.outAt+n : r.outAt+n])
		r.settle()
		done += n
	}
	if r.owed > 0 {
		r.repay()
	}
	return done
}

// take moves the head over the next published items that lie in one piece, at most limit and at most a
// batch, and returns their number. It joins runs, so that many short ones cost f one call. Every
// header it reads it clears: the slot's credit is given back only later, so no producer is there yet.
func (r *Ring[T]) take(limit int) int {
	at := int(r.head & r.mask)
	limit = min(limit, r.batch, len(r.slots)-at)
	for r.ready < limit {
		h := &r.headers[(r.head+uint64(r.ready))&r.mask]
		run := h.Load()
		if run == 0 {
			break
		}
		h.Store(0)
		r.ready += int(run)
	}
	n := min(r.ready, limit)
	r.outAt, r.outN = at, n
	r.head += uint64(n)
	r.ready -= n
	return n
}

// settle clears the slots that f held, so that they keep nothing alive, and owes their credits.
func (r *Ring[T]) settle() {
	clear(r.slots[r.outAt : r.outAt+r.outN])
	r.owed += r.outN
	r.outN = 0
	if r.owed >= r.batch {
		r.repay()
	}
}

// repay gives the credits of cleared slots back, one add for all of them.
func (r *Ring[T]) repay() {
	r.drained.Store(r.head)
	n := r.owed
	r.owed = 0
	r.Release(n)
}
