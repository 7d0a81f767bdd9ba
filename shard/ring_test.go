package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRingCapacity(t *testing.T) {
	for _, c := range []struct{ ask, want int }{
		{-1, 16}, {0, 16}, {1, 16}, {16, 16}, {17, 32}, {1000, 1024}, {1024, 1024}, {1025, 2048},
	} {
		r := NewRing[int](c.ask)
		if r.Cap() != c.want || r.Reserve(1<<20) != c.want {
			t.Errorf("NewRing(%d): capacity %d, want %d", c.ask, r.Cap(), c.want)
		}
	}
}

// ringCollect is a consumer's f that keeps copies.
func ringCollect[T any](into *[]T) func([]T) {
	return func(items []T) { *into = append(*into, items...) }
}

func TestRingCredits(t *testing.T) {
	r := NewRing[int](16)
	if got := r.Reserve(10); got != 10 {
		t.Fatalf("Reserve(10) = %d", got)
	}
	if got := r.Reserve(10); got != 6 {
		t.Fatalf("Reserve(10) of 6 free = %d", got)
	}
	if got := r.Reserve(1); got != 0 {
		t.Fatalf("Reserve(1) of none = %d", got)
	}
	if ok, wake := r.TryPush(1); ok || wake {
		t.Fatalf("TryPush into a full ring = %v, %v", ok, wake)
	}
	r.Release(3)
	if ok, _ := r.TryPush(1, 2, 3, 4); ok {
		t.Fatal("TryPush of 4 with 3 free")
	}
	if ok, wake := r.TryPush(1, 2, 3); !ok || !wake {
		t.Fatalf("TryPush of 3 with 3 free = %v, %v", ok, wake)
	}
	if r.Len() != 3 {
		t.Fatalf("Len = %d with 3 pushed and 13 reserved", r.Len())
	}
	for i := range 13 { // what is reserved always fits
		r.Push([]int{4 + i})
	}
	var got []int
	if n := r.Drain(100, ringCollect(&got)); n != 16 || r.Reserve(100) != 16 {
		t.Fatalf("drained %d", n)
	}
	for i, v := range got {
		if v != i+1 {
			t.Fatalf("out of order: %v", got)
		}
	}
}

func TestRingMisusePanics(t *testing.T) {
	mustPanic := func(what string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", what)
			}
		}()
		f()
	}
	mustPanic("Release of what was not held", func() { NewRing[int](16).Release(1) })
	mustPanic("negative Release", func() { NewRing[int](16).Release(-1) })
	mustPanic("a run above the capacity", func() { NewRing[int](16).Push(make([]int, 17)) })
	mustPanic("a huge ring", func() { NewRing[byte](1<<30 + 1) })
}

// Nothing to push asks for no wake and leaves no header behind.
func TestRingPushNothing(t *testing.T) {
	r := NewRing[int](16)
	if ok, wake := r.TryPush(); !ok || wake {
		t.Fatalf("TryPush() = %v, %v", ok, wake)
	}
	if r.Push(nil) || !r.Empty() || r.Len() != 0 {
		t.Fatal("pushing nothing changed the ring")
	}
}

// A run that wraps around the end of the storage is taken in pieces smaller than itself.
func TestRingPartialDrain(t *testing.T) {
	r := NewRing[int](16)
	var got []int
	r.TryPush(make([]int, 11)...)
	r.Drain(11, func([]int) {})

	run := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	if ok, _ := r.TryPush(run...); !ok {
		t.Fatal("no room")
	}
	for left := 16; left > 0; {
		n := r.Drain(3, ringCollect(&got))
		if n != min(3, left) {
			t.Fatalf("Drain(3) = %d with %d left", n, left)
		}
		left -= n
		if free := r.Reserve(100); free != 16-left || r.Len() != left || r.Empty() != (left == 0) {
			t.Fatalf("%d left: %d credits, Len %d, Empty %v", left, free, r.Len(), r.Empty())
		} else {
			r.Release(free)
		}
	}
	if !slices.Equal(got, run) {
		t.Fatalf("got %v", got)
	}
	if n := r.Drain(0, ringCollect(&got)); n != 0 {
		t.Fatalf("Drain(0) = %d", n)
	}
}

// A run that is claimed and not yet published holds back what was published behind it, and its own
// publication asks for the wake.
func TestRingUnpublishedRunHoldsBack(t *testing.T) {
	r := NewRing[string](16)
	if r.Reserve(3) != 3 {
		t.Fatal("no room")
	}
	at := r.tail.Add(1) - 1 // a producer that was preempted in the middle of Push
	if !r.Push([]string{"b", "c"}) {
		t.Fatal("the first push did not ask for a wake")
	}
	var got []string
	r.Disarm()
	if n := r.Drain(10, ringCollect(&got)); n != 0 || !r.Empty() {
		t.Fatalf("passed a run that is not published: %q", got)
	}
	r.slots[at] = "a"
	r.headers[at].Store(1)
	if !r.armed.CompareAndSwap(0, 1) {
		t.Fatal("the late producer found the ring armed: its run would sleep")
	}
	r.Disarm()
	if n := r.Drain(10, ringCollect(&got)); n != 3 || got[0] != "a" || got[2] != "c" {
		t.Fatalf("got %q", got)
	}
}

// What stands in one piece is handed out in one piece, a batch at a time, however it was pushed.
func TestRingJoinsRuns(t *testing.T) {
	r := NewRing[int](64) // batches of 16
	for i := range 40 {
		r.TryPush(i)
	}
	var sizes []int
	r.Drain(100, func(items []int) { sizes = append(sizes, len(items)) })
	if !slices.Equal(sizes, []int{16, 16, 8}) {
		t.Fatalf("slices of %v", sizes)
	}
}

func TestRingClearsSlots(t *testing.T) {
	r := NewRing[*int](16)
	for range 5 {
		r.TryPush(new(int), new(int), new(int), new(int), new(int), new(int), new(int))
		r.Drain(4, func(items []*int) {
			if slices.Contains(items, nil) {
				t.Fatal("handed out a cleared item")
			}
		})
		r.Drain(4, func([]*int) {})
	}
	for i := range r.slots {
		if r.slots[i] != nil || r.headers[i].Load() != 0 {
			t.Fatalf("slot %d: item %v, header %d after all was drained", i, r.slots[i], r.headers[i].Load())
		}
	}
}

// A panic in f takes the slice that f had with it, and nothing else.
func TestRingPanicInDrain(t *testing.T) {
	r := NewRing[*int](16)
	r.TryPush(new(int), new(int), new(int), new(int), new(int), new(int))
	func() {
		defer func() { _ = recover() }()
		r.Drain(2, func([]*int) { panic("bad item") })
	}()
	if r.Empty() {
		t.Fatal("the rest is gone")
	}
	seen := 0
	for r.Drain(10, func(items []*int) { seen += len(items) }) > 0 {
	}
	if seen != 4 || r.Reserve(100) != 16 {
		t.Fatalf("saw %d of the 4 items behind the panic", seen)
	}
	for i, p := range r.slots {
		if p != nil {
			t.Fatalf("slot %d not cleared", i)
		}
	}
}

// f may push to the ring that it drains: a shard writes to itself.
func TestRingPushInsideDrain(t *testing.T) {
	r := NewRing[int](64)
	r.TryPush(5)
	r.Disarm()
	var got []int
	n := r.Drain(1000, func(items []int) {
		for _, v := range items {
			got = append(got, v)
			if v > 0 {
				if ok, _ := r.TryPush(v-1, -v); !ok {
					t.Error("no room")
				}
			}
		}
	})
	if want := []int{5, 4, -5, 3, -4, 2, -3, 1, -2, 0, -1}; n != len(want) || !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
}

// The ring against a model: a queue, a number of free slots and a flag.
func TestRingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewRing[*int](rapid.IntRange(1, 70).Draw(t, "capacity"))
		free, held, armed, next := r.Cap(), 0, false, 0
		var queue []int
		run := func(n int) []*int {
			items := make([]*int, n)
			for i := range items {
				v := next
				items[i], next = &v, next+1
				queue = append(queue, v)
			}
			return items
		}
		wantWake := func(n int, wake bool) {
			if wake != (n > 0 && !armed) {
				t.Fatalf("push of %d: wake %v, armed %v", n, wake, armed)
			}
			armed = armed || n > 0
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				n := rapid.IntRange(0, 80).Draw(t, "n")
				if got := r.Reserve(n); got != min(n, free) {
					t.Fatalf("Reserve(%d) = %d with %d free", n, got, free)
				}
				free, held = free-min(n, free), held+min(n, free)
			},
			"release": func(t *rapid.T) {
				n := rapid.IntRange(0, held).Draw(t, "n")
				r.Release(n)
				free, held = free+n, held-n
			},
			"push": func(t *rapid.T) {
				n := rapid.IntRange(0, held).Draw(t, "n")
				wantWake(n, r.Push(run(n)))
				held -= n
			},
			"trypush": func(t *rapid.T) {
				n := rapid.IntRange(0, 20).Draw(t, "n")
				if n > free {
					if ok, wake := r.TryPush(make([]*int, n)...); ok || wake {
						t.Fatalf("TryPush of %d with %d free", n, free)
					}
					return
				}
				ok, wake := r.TryPush(run(n)...)
				if !ok {
					t.Fatalf("TryPush of %d failed with %d free", n, free)
				}
				wantWake(n, wake)
				free -= n
			},
			"disarm": func(*rapid.T) {
				r.Disarm()
				armed = false
			},
			"drain": func(t *rapid.T) {
				limit := rapid.IntRange(0, 100).Draw(t, "max")
				want := min(limit, len(queue))
				n := r.Drain(limit, func(items []*int) {
					if len(items) == 0 {
						t.Fatal("an empty slice")
					}
					for _, p := range items {
						if *p != queue[0] {
							t.Fatalf("got %d, want %d", *p, queue[0])
						}
						queue = queue[1:]
					}
				})
				if n != want {
					t.Fatalf("Drain(%d) = %d, want %d", limit, n, want)
				}
				free += n
			},
			"": func(t *rapid.T) {
				if r.Len() != len(queue) || r.Empty() != (len(queue) == 0) {
					t.Fatalf("Len %d, Empty %v, model %d", r.Len(), r.Empty(), len(queue))
				}
				if got := int(r.credits.Load()); got != free {
					t.Fatalf("%d credits, model %d", got, free)
				}
				used := 0
				for _, p := range r.slots {
					if p != nil {
						used++
					}
				}
				if used != len(queue) {
					t.Fatalf("%d slots in use for %d items", used, len(queue))
				}
			},
		})
	})
}

// ringItem says who sent it and the how-manieth of that producer it is.
type ringItem struct{ from, n uint32 }

// ringProduce pushes count items in the way that rng says: short and long runs, with credits held for a
// while and partly given back.
func ringProduce(r *Ring[ringItem], rng *rand.Rand, from, count uint32, wake chan<- struct{}) {
	signal := func(yes bool) {
		if yes {
			wake <- struct{}{}
		}
	}
	for n := uint32(0); n < count; {
		want := min(1+rng.Uint32N(40), count-n)
		if rng.Uint32N(4) == 0 {
			if ok, yes := r.TryPush(ringItem{from, n}); ok {
				n++
				signal(yes)
			}
			continue
		}
		got := r.Reserve(int(want))
		if got == 0 {
			runtime.Gosched()
			continue
		}
		if spare := rng.IntN(got + 1); spare > 0 && spare < got {
			r.Release(spare)
			got -= spare
		}
		if rng.Uint32N(8) == 0 {
			runtime.Gosched() // others pass while the credits are held
		}
		run := make([]ringItem, got)
		for i := range run {
			run[i] = ringItem{from, n}
			n++
		}
		cut := rng.IntN(got + 1)
		signal(r.Push(run[:cut]))
		signal(r.Push(run[cut:]))
	}
}

// Several producers and a consumer that sleeps until it is woken: nothing is lost, doubled or out of
// order, and no wake is lost (the consumer would sleep for ever).
func TestRingConcurrent(t *testing.T) {
	for _, c := range []struct{ seed, producers, capacity, max int }{
		{1, 1, 16, 1 << 20}, {2, 2, 16, 5}, {3, 4, 64, 1 << 20}, {4, 8, 256, 100}, {5, 3, 4096, 1 << 20},
	} {
		t.Run(fmt.Sprintf("%dx%d", c.producers, c.capacity), func(t *testing.T) {
			runRingProducers(t, uint64(c.seed), c.producers, c.capacity, c.max)
		})
	}
}

func runRingProducers(t *testing.T, seed uint64, producers, capacity, limit int) {
	const each = 4000
	r := NewRing[ringItem](capacity)
	wake := make(chan struct{}, 2*producers*each)
	var wg sync.WaitGroup
	for p := range producers {
		rng := rand.New(rand.NewPCG(seed, uint64(p)))
		wg.Go(func() { ringProduce(r, rng, uint32(p), each, wake) })
	}
	deadline := time.After(60 * time.Second)
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	next := make([]uint32, producers)
	for total := 0; total < producers*each; {
		select {
		case <-wake:
		case <-deadline:
			t.Fatalf("asleep with %d of %d items seen, %d in the ring", total, producers*each, r.Len())
		}
		r.Disarm()
		for {
			n := r.Drain(1+rng.IntN(limit), func(items []ringItem) {
				for _, it := range items {
					if next[it.from] != it.n {
						t.Fatalf("producer %d: item %d, want %d", it.from, it.n, next[it.from])
					}
					next[it.from]++
				}
			})
			if c := r.credits.Load(); c < 0 || c > int64(r.Cap()) {
				t.Fatalf("%d credits in a ring of %d", c, r.Cap())
			}
			if total += n; n == 0 {
				break
			}
		}
	}
	wg.Wait()
	if !r.Empty() || r.Len() != 0 || r.Reserve(1<<20) != r.Cap() {
		t.Fatalf("left over: Len %d", r.Len())
	}
}

// After each Disarm exactly one of the pushes that race is told to wake.
func TestRingOneWakePerDisarm(t *testing.T) {
	const producers, rounds = 4, 500
	r := NewRing[int](64)
	var wakes atomic.Int32
	for round := range rounds {
		r.Disarm()
		wakes.Store(0)
		var start, done sync.WaitGroup
		start.Add(1)
		for p := range producers {
			done.Go(func() {
				start.Wait()
				for range 3 {
					ok, wake := r.TryPush(p)
					if !ok {
						t.Error("no room")
					}
					if wake {
						wakes.Add(1)
					}
				}
			})
		}
		start.Done()
		done.Wait()
		if n := wakes.Load(); n != 1 {
			t.Fatalf("round %d: %d wakes", round, n)
		}
		if n := r.Drain(100, func([]int) {}); n != 3*producers {
			t.Fatalf("round %d: drained %d", round, n)
		}
		if _, wake := r.TryPush(0); wake {
			t.Fatalf("round %d: a drain without Disarm armed the wake again", round)
		}
		r.Drain(1, func([]int) {})
	}
}
