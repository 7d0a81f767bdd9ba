//go:build !race

package durable

import (
	"testing"

	"gannet/codec"
	"gannet/store"
)

// numbering is a store that numbers and keeps nothing, and allocates nothing either.
type numbering struct {
	store.Store
	place uint64
}

func (s *numbering) Place() uint64 { return s.place }

func (s *numbering) Append(batch []store.Message, results []store.Result) error {
	for i := range batch {
		s.place++
		results[i] = store.Result{Seq: s.place, Pos: s.place}
	}
	return nil
}

func TestNoRaceMessagesDoNotAllocate(t *testing.T) {
	for _, kind := range []codec.Kind{codec.KindDirect, codec.KindTopic, codec.KindAll} {
		t.Run(kind.String(), func(t *testing.T) {
			l, err := New(Options{Open: func() (store.Store, error) { s, err := inMemory(); return &numbering{Store: s}, err }})
			if err != nil {
				t.Fatal(err)
			}
			c := newCommitter(l, &counting{})
			const users, window = 32, 4
			tr := newTraffic(users, window, kind)
			if kind == codec.KindAll {
				for i := range tr.entries {
					tr.entries[i] = note("ann", 1, kind, codec.AllName, "x")
				}
			}
			round := func() {
				if n := l.Submit(tr.next(0, users*window)); n != users*window || !c.more() {
					t.Fatalf("%d taken", n)
				}
				c.turn()
			}
			for range 20 { // until everything has its size
				round()
			}
			const runs = 100
			if got := testing.AllocsPerRun(runs, round); got > users*window/20 {
				t.Errorf("%.1f allocations in a round of %d messages", got, users*window)
			}
			if l.stats.messages.Load() == 0 || l.stats.messages.Load() != l.stats.commits.Load()*users*window {
				t.Errorf("%d messages in %d commits", l.stats.messages.Load(), l.stats.commits.Load())
			}
		})
	}
}
