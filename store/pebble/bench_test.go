package pebble

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"gannet/codec"
	"gannet/store"
	"gannet/store/storetest"
)

// traffic makes batches as a committer would hand them over.
type traffic struct {
	batch   []store.Message
	results []store.Result
	nonces  []uint64 // by user
	pairs   []store.Message
	rng     *rand.Rand
	payload int
}

// newTraffic prepares direct messages of users in pairs, or messages of all to one topic; payload is in bytes.
func newTraffic(users, payload int, topic bool) *traffic {
	tr := &traffic{nonces: make([]uint64, users), rng: rand.New(rand.NewPCG(1, 1)), payload: payload}
	for u := range users {
		me, peer := fmt.Appendf(nil, "user-%05d", u), fmt.Appendf(nil, "user-%05d", u^1)
		m := store.Message{User: me, Device: []byte("phone"), Time: storetest.Day}
		if m.Kind, m.Name = codec.KindDirect, codec.AppendPair(nil, me, peer); topic {
			m.Kind, m.Name = codec.KindTopic, []byte("news")
		} else {
			m.Inbox = [][]byte{me, peer}
		}
		text := make([]byte, payload)
		m.Frame = codec.AppendMsg(nil, codec.Msg{Flags: codec.MsgDurable, Kind: m.Kind, Name: m.Name, Time: m.Time, Sender: me, Payload: text})
		tr.pairs = append(tr.pairs, m)
	}
	return tr
}

// next is a batch of n messages of users drawn at random, a few of each in a row.
func (tr *traffic) next(n, row int) ([]store.Message, []store.Result) {
	tr.batch = tr.batch[:0]
	for len(tr.batch) < n {
		u := tr.rng.IntN(len(tr.pairs))
		for range min(row, n-len(tr.batch)) {
			m := tr.pairs[u]
			tr.nonces[u]++
			m.Nonce = tr.nonces[u]
			i := len(tr.batch)
			if i == cap(tr.results) {
				tr.results = append(tr.results[:i], store.Result{})
			}
			if i < cap(tr.batch) {
				m.Frame = append(tr.batch[:i+1][i].Frame[:0], m.Frame...)
			} else {
				m.Frame = append([]byte(nil), m.Frame...)
			}
			text := m.Frame[len(m.Frame)-tr.payload:]
			for ; len(text) >= 8; text = text[8:] {
				be.PutUint64(text, tr.rng.Uint64()) // does not compress
			}
			tr.batch = append(tr.batch, m)
		}
	}
	return tr.batch, tr.results[:cap(tr.results)][:n]
}

func BenchmarkAppend(b *testing.B) {
	const size = 2000
	for _, c := range []struct {
		name  string
		users int
		row   int
		topic bool
	}{
		{"64 users", 64, 16, false}, {"4000 users", 4000, 1, false}, {"one topic", 64, 16, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			tr := newTraffic(c.users, 50, c.topic) // a frame of 110 bytes
			d, err := Open(b.TempDir(), Options{Logger: quiet})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			b.ReportAllocs()
			stored := 0
			for b.Loop() {
				b.StopTimer()
				batch, results := tr.next(size, c.row)
				b.StartTimer()
				if err := d.Append(batch, results); err != nil {
					b.Fatal(err)
				}
				stored += size
			}
			b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "messages/s")
			if d.Place() != uint64(stored) {
				b.Fatalf("place %d, want %d", d.Place(), stored)
			}
		})
	}
}

// BenchmarkSpace tells how many bytes are on disk after compaction per byte of payload, for direct messages of 200 bytes.
func BenchmarkSpace(b *testing.B) {
	for _, size := range []int{1, 10, 200, 2000} {
		b.Run(fmt.Sprint("batches of ", size), func(b *testing.B) {
			dir := b.TempDir()
			o := Options{Logger: quiet}
			d, err := Open(dir, o)
			if err != nil {
				b.Fatal(err)
			}
			tr := newTraffic(4000, 200, false)
			total := 0
			for b.Loop() {
				for range max(1, 2000/size) {
					batch, results := tr.next(size, 1)
					if err := d.Append(batch, results); err != nil {
						b.Fatal(err)
					}
					total += size * 200
				}
			}
			if err := d.db.Compact(b.Context(), []byte{0}, []byte{0xff}, false); err != nil {
				b.Fatal(err)
			}
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
			var bytes int64
			err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
				if err == nil && filepath.Ext(name) == ".sst" {
					info, err := e.Info()
					if err != nil {
						return err
					}
					bytes += info.Size()
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(bytes)/float64(total), "bytes/byte")
		})
	}
}
