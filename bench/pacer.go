package bench

import (
	"math"
	"math/bits"
	"time"
)

// pacer is a schedule of events at an even rate, `den` of them in `num` nanoseconds. It never looks at a clock: an
// event keeps its time however late it is served, which is what makes the load an open loop.
//
// Several loops share one schedule. Of every `all` events in a row this one owns `mine`, from the base-th on;
// its own events are counted by k from 0.
type pacer struct {
	start           int64 // time of the schedule's event 0, ns
	num, den        uint64
	base, mine, all uint64
	k               uint64 // the next event of ours
}

// newPacer makes a schedule of perSecond events a second (0.001 to 100 million), all of them ours.
func newPacer(start int64, perSecond float64) pacer {
	milli := max(1, uint64(math.Round(perSecond*1000)))
	return pacer{start: start, num: 1e12, den: milli, mine: 1, all: 1}
}

// newCycle makes a schedule in which n events fill one period, again and again.
func newCycle(start int64, period time.Duration, n int) pacer {
	return pacer{start: start, num: uint64(period), den: uint64(n), mine: 1, all: 1}
}

// share makes the part of p that owns mine of every all events, from the base-th on.
func (p pacer) share(base, mine, all int) pacer {
	p.base, p.mine, p.all = uint64(base), uint64(mine), uint64(all)
	return p
}

// at is when our event k is due, in ns; what lies beyond the end of time is due there.
func (p *pacer) at(k uint64) int64 {
	g := k
	if p.all != 1 {
		g = k/p.mine*p.all + p.base + k%p.mine
	}
	return p.start + min(int64(mulDiv(g, p.num, p.den, 0)), math.MaxInt64-p.start)
}

// due is the time of the next event.
func (p *pacer) due() int64 { return p.at(p.k) }

// before is how many of our events are due before t.
func (p *pacer) before(t int64) uint64 {
	if t <= p.start {
		return 0
	}
	g := mulDiv(uint64(t-p.start), p.den, p.num, p.num-1) // rounded up
	n := g / p.all * p.mine
	if rest := g % p.all; rest > p.base {
		n += min(rest-p.base, p.mine)
	}
	return n
}

// mulDiv is (a*b + c) / d without overflow between; a result beyond 64 bits becomes the largest int64.
func mulDiv(a, b, d, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c, 0)
	hi += carry
	if hi >= d {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, d)
	return min(q, math.MaxInt64)
}
