//go:build !race

package shard

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

var directoryHuge = flag.Bool("directory.huge", false, "measure the directory at 10 million entries as well")

func TestNoRaceDirectoryAllocations(t *testing.T) {
	d := NewDirectory()
	user := []byte("anna")
	for i := range 1000 {
		d.Add(rand.Uint64(), SessionRef(i+1))
	}
	buf := make([]SessionRef, 0, 8)
	phone, tablet := MakeRef(1, 2, 3), MakeRef(4, 5, 6)
	if n := testing.AllocsPerRun(1000, func() {
		h := d.Hash(user)
		d.Add(h, phone)
		d.Add(h, tablet)
		buf = d.Lookup(h, buf[:0])
		if len(buf) != 2 || d.Count(h, 9) != 2 || !d.Remove(h, phone) || !d.Remove(h, tablet) {
			t.Error("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
}

// dirRival is what the directory is measured against.
type dirRival interface {
	Add(hash uint64, ref SessionRef)
	Remove(hash uint64, ref SessionRef) bool
	Lookup(hash uint64, buf []SessionRef) []SessionRef
}

// dirLockedMap is the plain way: one map under one mutex.
type dirLockedMap struct {
	mu sync.Mutex
	m  map[uint64][]SessionRef
}

func (l *dirLockedMap) Add(hash uint64, ref SessionRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m[hash] = append(l.m[hash], ref)
}

func (l *dirLockedMap) Remove(hash uint64, ref SessionRef) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	refs := l.m[hash]
	i := slices.Index(refs, ref)
	if i < 0 {
		return false
	}
	if len(refs) == 1 {
		delete(l.m, hash)
	} else {
		l.m[hash] = slices.Delete(refs, i, i+1)
	}
	return true
}

func (l *dirLockedMap) Lookup(hash uint64, buf []SessionRef) []SessionRef {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(buf, l.m[hash]...)
}

// dirSyncMap holds one ref a hash, which is all that a sync.Map can do without a lock around it.
type dirSyncMap struct{ m sync.Map }

func (s *dirSyncMap) Add(hash uint64, ref SessionRef)         { s.m.Store(hash, ref) }
func (s *dirSyncMap) Remove(hash uint64, ref SessionRef) bool { return s.m.CompareAndDelete(hash, ref) }
func (s *dirSyncMap) Lookup(hash uint64, buf []SessionRef) []SessionRef {
	if v, ok := s.m.Load(hash); ok {
		buf = append(buf, v.(SessionRef))
	}
	return buf
}

const dirBenchUsers = 1_000_000

// On every core: a session comes, is looked up, and goes, in a table of a million others. One op is one call.
func BenchmarkDirectory(b *testing.B) {
	hashes := dirHashes(dirBenchUsers)
	for _, c := range []struct {
		name string
		make func() dirRival
	}{
		{"directory", func() dirRival { return NewDirectory() }},
		{"sync.Map", func() dirRival { return new(dirSyncMap) }},
		{"mutex+map", func() dirRival { return &dirLockedMap{m: map[uint64][]SessionRef{}} }},
	} {
		t := c.make()
		for i, h := range hashes {
			t.Add(h, SessionRef(i+1))
		}
		b.Run("write/"+c.name, func(b *testing.B) { benchDirWrites(b, t) })
		b.Run("lookup/"+c.name, func(b *testing.B) { benchDirLookups(b, t, hashes) })
	}
}

func dirHashes(n int) []uint64 {
	rng := rand.New(rand.NewPCG(1, 1))
	hashes := make([]uint64, n)
	for i := range hashes {
		hashes[i] = rng.Uint64()
	}
	return hashes
}

func benchDirWrites(b *testing.B, t dirRival) {
	b.ReportAllocs()
	var worker atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		w := worker.Add(1)
		rng := rand.New(rand.NewPCG(2, w))
		buf := make([]SessionRef, 0, 8)
		ref := MakeRef(uint32(w), 1, 1)
		for h, step := uint64(0), 0; pb.Next(); step++ {
			switch step % 3 {
			case 0:
				h = rng.Uint64()
				t.Add(h, ref)
			case 1:
				buf = t.Lookup(h, buf[:0])
			case 2:
				if !t.Remove(h, ref) {
					b.Error("lost")
				}
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mops/s")
}

func benchDirLookups(b *testing.B, t dirRival, hashes []uint64) {
	b.ReportAllocs()
	var worker atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(3, worker.Add(1)))
		buf := make([]SessionRef, 0, 8)
		for pb.Next() {
			if buf = t.Lookup(hashes[rng.IntN(len(hashes))], buf[:0]); len(buf) == 0 {
				b.Error("lost")
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mops/s")
}

// Memory an entry and time an Add while the directory fills. "heap" is what the runtime says, "tables" is Bytes.
func BenchmarkDirectoryFill(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 1_000_000 && !*directoryHuge {
				b.Skip("give -directory.huge")
			}
			hashes := dirHashes(n)
			var d *Directory
			var heap uint64
			b.ResetTimer()
			for range b.N {
				d = nil
				before := dirHeap(b)
				d = NewDirectory()
				for i, h := range hashes {
					d.Add(h, SessionRef(i+1))
				}
				heap = dirHeap(b) - before
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/add")
			b.ReportMetric(float64(d.Bytes())/float64(n), "tables-B/entry")
			b.ReportMetric(float64(heap)/float64(n), "heap-B/entry")
			runtime.KeepAlive(hashes)
		})
	}
}

// dirHeap is the live heap after a collection; the clock stands still meanwhile.
func dirHeap(b *testing.B) uint64 {
	b.StopTimer()
	defer b.StartTimer()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
