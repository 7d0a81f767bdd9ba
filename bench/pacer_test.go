package bench

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPacerIsEven(t *testing.T) {
	p := newPacer(1000, 1000)
	for k := range uint64(5000) {
		if got, want := p.at(k), 1000+int64(k)*int64(time.Millisecond); got != want {
			t.Fatalf("event %d is due at %d, want %d", k, got, want)
		}
	}
	odd := newPacer(0, 3)
	if got := odd.at(3_000_000); got != 1_000_000*int64(time.Second) {
		t.Errorf("after three million events at 3/s the time is %d: rounding added up", got)
	}
}

// An event keeps its time however late it is served.
func TestPacerDoesNotWaitForAnybody(t *testing.T) {
	p := newPacer(0, 100)
	served, now := 0, int64(time.Second) // the first second was slept through
	for p.due() <= now {
		if want := int64(served) * int64(10*time.Millisecond); p.due() != want {
			t.Fatalf("event %d is due at %d, want %d", served, p.due(), want)
		}
		p.k++
		served++
	}
	if served != 101 {
		t.Errorf("%d events were due in the first second, want 101", served)
	}
}

func TestPacerBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.IntRange(1, 50).Draw(t, "all")
		mine := rapid.IntRange(1, all).Draw(t, "mine")
		base := rapid.IntRange(0, all-mine).Draw(t, "base")
		start := rapid.Int64Range(0, 1<<61).Draw(t, "start")
		p := newPacer(start, rapid.Float64Range(0.001, maxRate).Draw(t, "rate")).share(base, mine, all)
		k := rapid.Uint64Range(0, 1<<20).Draw(t, "k")
		at := p.at(k)
		if at == math.MaxInt64 {
			return // beyond the end of time
		}
		if n := p.before(at + 1); n < k+1 {
			t.Fatalf("event %d is due at %d, but only %d are due before %d", k, at, n, at+1)
		}
		if n := p.before(at); n > k {
			t.Fatalf("event %d is due at %d, but %d are due before that", k, at, n)
		}
	})
}

// The shares of a schedule make up the whole, each event once and at its time.
func TestPacerShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 7), 1, 6).Draw(t, "sizes")
		all := 0
		for _, n := range sizes {
			all += n
		}
		if all == 0 {
			return
		}
		whole := newPacer(77, rapid.Float64Range(1, 1e6).Draw(t, "rate"))
		events := rapid.Uint64Range(1, 300).Draw(t, "events")
		end := whole.at(events)
		left := map[int64]int{}
		for k := range whole.before(end) {
			left[whole.at(k)]++
		}
		base := 0
		for _, mine := range sizes {
			if mine == 0 {
				continue
			}
			p := whole.share(base, mine, all)
			base += mine
			for k := range p.before(end) {
				left[p.at(k)]--
			}
		}
		for at, n := range left {
			if n != 0 {
				t.Fatalf("the time %d is left over %d times", at, n)
			}
		}
	})
}

func TestPacerFarAhead(t *testing.T) {
	p := newPacer(0, 0.001)
	if got, want := p.at(1_000_000), int64(1_000_000_000)*int64(time.Second); got != want {
		t.Errorf("a million events at 0.001/s end at %d, want %d", got, want)
	}
	late := newPacer(1<<62, 0.001)
	if got := late.at(1 << 40); got != math.MaxInt64 {
		t.Errorf("beyond the end of time the schedule goes on at %d", got)
	}
	if p.before(0) != 0 || p.before(-5) != 0 {
		t.Error("something was due before the start")
	}
	if got := mulDiv(math.MaxUint64, math.MaxUint64, 3, 0); got != math.MaxInt64 {
		t.Errorf("an overflow became %d", got)
	}
}
