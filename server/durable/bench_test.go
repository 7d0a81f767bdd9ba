package durable

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
	"gannet/store/pebble"
)

// counting is a carrier that only counts, as shards with nobody online would.
type counting struct {
	recorder
	answers   uint64
	delivered uint64
	answered  atomic.Uint64
}

func (c *counting) Answer(shard.Answer)                                            { c.answers++ }
func (c *counting) Inbox([]byte, uint64, []byte, int64, shard.SessionRef)          { c.delivered++ }
func (c *counting) Room(codec.Kind, []byte, uint64, []byte, int64)                 { c.delivered++ }
func (c *counting) User(user []byte, frame []byte, born int64, _ shard.SessionRef) { c.delivered++ }
func (c *counting) Send(<-chan struct{}) bool                                      { c.answered.Store(c.answers); return true }

// traffic makes messages of many users, each with its own nonces, in buffers that are used again.
type traffic struct {
	entries []shard.Entry
	nonces  []uint64
}

func newTraffic(users, window int, kind codec.Kind) *traffic {
	tr := &traffic{nonces: make([]uint64, users)}
	for range window {
		for u := range users {
			to := fmt.Sprintf("user-%05d", u^1)
			if kind != codec.KindDirect {
				to = "news"
			}
			tr.entries = append(tr.entries, note(fmt.Sprintf("user-%05d", u), 1, kind, to, string(make([]byte, 64))))
		}
	}
	return tr
}

// next is messages i to i+n of the traffic, new ones.
func (tr *traffic) next(i, n int) []shard.Entry {
	some := tr.entries[i : i+n]
	for k := range some {
		e := &some[k]
		u := (i + k) % len(tr.nonces)
		tr.nonces[u]++
		e.Nonce = tr.nonces[u]
		clear(e.Buf[e.SeqAt() : e.SeqAt()+8])
	}
	return some
}

func quietLog(b testing.TB, open func() (store.Store, error), c carrier, change ...func(*Options)) *Log {
	o := Options{Open: open, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	l, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	l.start(c, func() int64 { return 1 })
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// BenchmarkSubmit is messages from Submit to the answer, with the windows of all users full all the time.
func BenchmarkSubmit(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) func() (store.Store, error)
	}{
		{"memory", func(*testing.B) func() (store.Store, error) {
			return func() (store.Store, error) { return memory.New(memory.Options{}), nil }
		}},
		{"pebble", func(b *testing.B) func() (store.Store, error) {
			dir := b.TempDir()
			return func() (store.Store, error) {
				return pebble.Open(dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
			}
		}},
	}
	for _, s := range stores {
		for _, c := range []struct {
			name          string
			users, window int
			kind          codec.Kind
		}{{"64 users", 64, 64, codec.KindDirect}, {"4000 users", 4000, 2, codec.KindDirect}, {"one topic", 64, 64, codec.KindTopic}} {
			b.Run(s.name+"/"+c.name, func(b *testing.B) {
				ear := &counting{}
				l := quietLog(b, s.open(b), ear)
				tr := newTraffic(c.users, c.window, c.kind)
				const step = 64
				sent := 0
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					for sent+step-int(ear.answered.Load()) > len(tr.entries) {
						time.Sleep(20 * time.Microsecond)
					}
					if n := l.Submit(tr.next(sent%len(tr.entries), step)); n != step {
						b.Fatalf("%d of %d taken", n, step)
					}
					sent += step
				}
				for int(ear.answered.Load()) < sent {
					time.Sleep(20 * time.Microsecond)
				}
				b.StopTimer()
				b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msgs/s")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/msg")
				st := l.Stats()
				b.ReportMetric(float64(st.Messages)/float64(st.Commits), "msgs/commit")
			})
		}
	}
}
