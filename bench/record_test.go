package bench

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTracker(t *testing.T) {
	type step struct {
		n    uint32
		want arrival
	}
	in := func(ns ...uint32) (steps []step) {
		for _, n := range ns {
			steps = append(steps, step{n, arrivedInOrder})
		}
		return steps
	}
	for name, tc := range map[string]struct {
		steps []step
		got   uint32
	}{
		"in order":                {in(1, 2, 3), 3},
		"a hole":                  {in(1, 4, 5), 3},
		"a duplicate":             {append(in(1, 2), step{2, arrivedAgain}, step{1, arrivedAgain}), 2},
		"late":                    {append(in(1, 3), step{2, arrivedLate}, step{2, arrivedAgain}), 3},
		"first comes last":        {append(in(2), step{1, arrivedLate}), 2},
		"edge of the window":      {append(in(1, 65), step{2, arrivedLate}, step{2, arrivedAgain}), 3},
		"behind the window":       {append(in(1, 66, 67), step{2, arrivedLate}), 4},
		"known behind the window": {append(append(in(1, 2, 3), in(100)...), step{35, arrivedLate}), 5},
		"a far jump":              {append(in(1, 1_000_000), step{999_999, arrivedLate}), 3},
	} {
		t.Run(name, func(t *testing.T) {
			var tr tracker
			for i, s := range tc.steps {
				if got := tr.observe(s.n); got != s.want {
					t.Errorf("step %d, number %d: %d, want %d", i, s.n, got, s.want)
				}
			}
			if tr.got != tc.got {
				t.Errorf("%d different numbers, want %d", tr.got, tc.got)
			}
		})
	}
}

// All of 1..200 came in order: whatever comes again is a duplicate, however old.
func TestTrackerOldDuplicates(t *testing.T) {
	var tr tracker
	for n := range uint32(200) {
		tr.observe(n + 1)
	}
	for n := range uint32(200) {
		if got := tr.observe(n + 1); got != arrivedAgain {
			t.Fatalf("number %d again: %d", n+1, got)
		}
	}
	if tr.got != 200 {
		t.Errorf("%d different numbers, want 200", tr.got)
	}
}

// Within the window the tracker is exact: the same as a set of all numbers.
func TestTrackerAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		set := map[uint32]bool{}
		top := uint32(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			n := top + rapid.Uint32Range(1, 20).Draw(t, "ahead")
			if top > 0 && rapid.Bool().Draw(t, "old") {
				n = top - rapid.Uint32Range(0, min(63, top-1)).Draw(t, "behind")
			}
			want := arrivedInOrder
			switch {
			case set[n]:
				want = arrivedAgain
			case n < top:
				want = arrivedLate
			}
			if got := tr.observe(n); got != want {
				t.Fatalf("number %d with top %d: %d, want %d", n, top, got, want)
			}
			set[n], top = true, max(top, n)
			if int(tr.got) != len(set) {
				t.Fatalf("%d different numbers, want %d", tr.got, len(set))
			}
		}
	})
}

func TestStamp(t *testing.T) {
	b := make([]byte, stampLen)
	want := stamp{due: 1_700_000_000_123_456_789, stream: 0xdeadbeef, number: 42}
	want.put(b)
	if got, ok := readStamp(b); !ok || got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if _, ok := readStamp(b[:stampLen-1]); ok {
		t.Error("a short payload has a stamp")
	}
}
