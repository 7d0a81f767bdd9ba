package bench

import (
	"math/rand/v2"
	"testing"
)

func TestMissedIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		of    uint32   // messages that are missed
		came  []uint32 // numbers
		want  missedCounts
		fresh []bool // for each, whether it came for the first time; nil: all did
	}{
		"in order":               {3, []uint32{1, 2, 3}, missedCounts{3, 0, 0}, nil},
		"nothing":                {3, nil, missedCounts{}, nil},
		"the last is lost":       {3, []uint32{1, 2}, missedCounts{2, 0, 0}, nil},
		"the first is lost":      {3, []uint32{2, 3}, missedCounts{2, 0, 0}, nil},
		"one in between is lost": {3, []uint32{1, 3}, missedCounts{2, 0, 0}, nil},
		"twice at once":          {2, []uint32{1, 1, 2}, missedCounts{2, 1, 0}, []bool{true, false, true}},
		"all of it twice":        {2, []uint32{1, 2, 1, 2}, missedCounts{2, 2, 0}, []bool{true, true, false, false}},
		"two change places":      {3, []uint32{1, 3, 2}, missedCounts{3, 0, 1}, nil},
		"backwards":              {3, []uint32{3, 2, 1}, missedCounts{3, 0, 2}, nil},
		"late and again":         {3, []uint32{2, 1, 1, 2, 3}, missedCounts{3, 2, 1}, []bool{true, true, false, false, true}},
		"again far below":        {200, []uint32{1, 2, 200, 1, 199, 199}, missedCounts{4, 2, 1}, []bool{true, true, true, false, true, false}},
		"over the edge of words": {130, []uint32{64, 65, 63, 128, 129, 130, 64}, missedCounts{6, 1, 1}, []bool{true, true, true, true, true, true, false}},
	} {
		var l ledger
		var got missedCounts
		for i, n := range c.came {
			if fresh := got.take(&l, n, c.of); fresh != (c.fresh == nil || c.fresh[i]) {
				t.Errorf("%s: number %d, the %d-th to come, is fresh: %v", name, n, i+1, fresh)
			}
		}
		if got != c.want || int64(l.got) != c.want.received {
			t.Errorf("%s: counted %+v, the ledger %d; want %+v", name, got, l.got, c.want)
		}
	}
}

// Whatever comes, the counts are those of who writes everything down.
func TestLedgerAgainstAList(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		n := 1 + r.Uint32N(300)
		var l ledger
		var got, want missedCounts
		seen, top := map[uint32]bool{}, uint32(0)
		for next := uint32(1); next <= n; next++ {
			for _, x := range someNumbers(r, next, n) {
				got.take(&l, x, n)
				switch {
				case seen[x]:
					want.duplicated++
					continue
				case x < top:
					want.reordered++
				}
				seen[x], top = true, max(top, x)
				want.received++
			}
		}
		if got != want || int(l.got) != len(seen) || l.top != top {
			t.Fatalf("seed %d: of %d numbers counted %+v, want %+v; ledger %d up to %d, want %d up to %d", seed, n, got, want, l.got, l.top, len(seen), top)
		}
	}
}

// someNumbers is mostly the next one: sometimes none, again an old one, or one from anywhere.
func someNumbers(r *rand.Rand, next, n uint32) []uint32 {
	switch r.IntN(20) {
	case 0:
		return nil
	case 1:
		return []uint32{next, 1 + r.Uint32N(next)}
	case 2:
		return []uint32{1 + r.Uint32N(n), next}
	}
	return []uint32{next}
}

func TestLedgerOfWhoIsServedWellTakesNoMemory(t *testing.T) {
	var m missedCounts
	var l ledger
	if n := testing.AllocsPerRun(10, func() {
		l = ledger{}
		for x := uint32(1); x <= 10_000; x++ {
			m.take(&l, x, 10_000)
		}
		m.take(&l, 1, 10_000)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
