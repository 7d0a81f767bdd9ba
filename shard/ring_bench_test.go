//go:build !race

package shard

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

func TestNoRaceRingAllocations(t *testing.T) {
	r := NewRing[*int](64)
	item := new(int)
	run := make([]*int, 32)
	drained := 0
	f := func(items []*int) { drained += len(items) }
	if n := testing.AllocsPerRun(1000, func() {
		r.Push(run[:r.Reserve(32)])
		r.TryPush(item, item)
		r.Disarm()
		r.Drain(64, f)
	}); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if drained < 34*1000 {
		t.Errorf("drained %d", drained)
	}
}

type ringLine [8]uint64 // an item of 64 bytes

const benchRing = 4096

// Each ring benchmark moves b.N items from its producers to one consumer; the channel beside it has
// as many slots and moves the same items.
func BenchmarkRing(b *testing.B) {
	b.Run("item=8B", benchRingItems[uint64])
	b.Run("item=64B", benchRingItems[ringLine])
}

func benchRingItems[T any](b *testing.B) {
	for _, c := range []struct {
		name           string
		producers, run int
	}{{"SPSC/run=32", 1, 32}, {"MPSC=4/run=32", 4, 32}, {"MPSC=4/run=1", 4, 1}} {
		b.Run(c.name+"/ring", func(b *testing.B) { benchRingMove[T](b, c.producers, c.run) })
		b.Run(c.name+"/chan", func(b *testing.B) { benchChanMove[T](b, c.producers) })
	}
}

// ringShare is what producer p of n has to push of the b.N items.
func ringShare(total, p, n int) int { return total*(p+1)/n - total*p/n }

func benchRingMove[T any](b *testing.B, producers, run int) {
	r := NewRing[T](benchRing)
	b.ReportAllocs()
	var wg sync.WaitGroup
	taken := make([]T, benchRing) // the consumer reads every item
	f := func(items []T) { copy(taken, items) }
	b.ResetTimer()
	for p := range producers {
		wg.Go(func() {
			items := make([]T, run)
			for left := ringShare(b.N, p, producers); left > 0; {
				got := r.Reserve(min(run, left))
				if got == 0 {
					runtime.Gosched()
					continue
				}
				r.Push(items[:got])
				left -= got
			}
		})
	}
	for seen := 0; seen < b.N; {
		r.Disarm()
		n := r.Drain(b.N, f)
		if seen += n; n == 0 {
			runtime.Gosched()
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mitems/s")
}

func benchChanMove[T any](b *testing.B, producers int) {
	c := make(chan T, benchRing)
	b.ReportAllocs()
	var wg sync.WaitGroup
	b.ResetTimer()
	for p := range producers {
		wg.Go(func() {
			var item T
			for range ringShare(b.N, p, producers) {
				c <- item
			}
		})
	}
	taken := make([]T, benchRing)
	for i := range b.N {
		taken[i%benchRing] = <-c
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mitems/s")
}

// One goroutine pushes and drains by turns: the instructions without the traffic between cores.
func BenchmarkRingAlone(b *testing.B) {
	for _, run := range []int{1, 32} {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) {
			r := NewRing[uint64](benchRing)
			items := make([]uint64, run)
			f := func([]uint64) {}
			b.ReportAllocs()
			for i := 0; i < b.N; i += run {
				r.Push(items[:r.Reserve(run)])
				r.Disarm()
				r.Drain(run, f)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mitems/s")
		})
	}
}
