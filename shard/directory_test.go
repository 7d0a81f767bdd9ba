package shard

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

func TestSessionRefFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shard := rapid.Uint32Range(0, 1<<RefShardBits-1).Draw(t, "shard")
		slot := rapid.Uint32Range(0, 1<<RefSlotBits-1).Draw(t, "slot")
		gen := rapid.Uint32Range(1, 1<<RefGenBits-1).Draw(t, "gen")
		r := MakeRef(shard, slot, gen)
		if r.Shard() != shard || r.Slot() != slot || r.Gen() != gen || r == 0 {
			t.Fatalf("%#x: shard %d, slot %d, gen %d", uint64(r), r.Shard(), r.Slot(), r.Gen())
		}
	})
	if r := MakeRef(1<<10-1, 1<<26-1, 1<<28-1); uint64(r) != 1<<64-1 {
		t.Fatalf("all ones: %#x", uint64(r))
	}
	for _, p := range [][3]uint32{{1 << 10, 0, 1}, {0, 1 << 26, 1}, {0, 0, 1 << 28}, {0, 0, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("MakeRef%v did not panic", p)
				}
			}()
			MakeRef(p[0], p[1], p[2])
		}()
	}
}

// What the garbage collector and the cache see.
func TestDirectoryLayout(t *testing.T) {
	if n := unsafe.Sizeof(dirEntry{}); n != 16 {
		t.Errorf("an entry takes %d bytes", n)
	}
	if n := unsafe.Sizeof(dirStripe{}); n != dirCacheLine {
		t.Errorf("a stripe takes %d bytes", n)
	}
	for i := range reflect.TypeFor[dirEntry]().NumField() {
		if k := reflect.TypeFor[dirEntry]().Field(i).Type.Kind(); k != reflect.Uint64 {
			t.Errorf("field %d of an entry is a %v", i, k)
		}
	}
}

func TestDirectoryHash(t *testing.T) {
	d, other := NewDirectory(), NewDirectory()
	h, copied := d.Hash([]byte("anna")), append([]byte("an"), "na"...)
	if d.Hash(copied) != h {
		t.Error("the hash of a name changes")
	}
	if d.Hash([]byte("annb")) == h {
		t.Error("two names, one hash")
	}
	if other.Hash(copied) == h {
		t.Error("the hash is not keyed: two directories agree")
	}
}

func TestDirectoryBasics(t *testing.T) {
	d := NewDirectory()
	h := d.Hash([]byte("anna"))
	phone, tablet := MakeRef(0, 0, 1), MakeRef(3, 77, 9)
	if got := d.Lookup(h, nil); got != nil || d.Remove(h, phone) || d.Count(h, 5) != 0 {
		t.Fatalf("an empty directory has %v", got)
	}
	d.Add(h, phone)
	d.Add(h, tablet)
	d.Add(h, phone) // twice is once
	got := d.Lookup(h, []SessionRef{42})
	slices.Sort(got[1:])
	if !slices.Equal(got, []SessionRef{42, phone, tablet}) {
		t.Fatalf("Lookup appended %v", got)
	}
	if d.Len() != 2 || d.Count(h, 10) != 2 || d.Count(h, 1) != 1 || d.Count(h, 0) != 0 {
		t.Fatalf("Len %d, Count %d", d.Len(), d.Count(h, 10))
	}
	if !d.Remove(h, phone) || d.Remove(h, phone) {
		t.Fatal("Remove of what is there, then of what is not")
	}
	if got := d.Lookup(h, nil); !slices.Equal(got, []SessionRef{tablet}) || d.Len() != 1 {
		t.Fatalf("left %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("ref 0 went in")
		}
	}()
	d.Add(h, 0)
}

// checkDirTable verifies what the searches rely on.
func checkDirTable(t interface{ Fatalf(string, ...any) }, tab *dirTable) {
	size, n := len(tab.entries), 0
	for at, e := range tab.entries {
		if e.ref == 0 {
			if e.hash != 0 {
				t.Fatalf("place %d is empty and has a hash", at)
			}
			continue
		}
		n++
		if d := tab.dist(e.hash, at); d > 0 {
			before := (at + size - 1) % size
			if p := tab.entries[before]; p.ref == 0 || tab.dist(p.hash, before) < d-1 {
				t.Fatalf("place %d is %d behind its home, the one before it is %+v", at, d, p)
			}
		}
	}
	if n != tab.n {
		t.Fatalf("n %d, counted %d", tab.n, n)
	}
	if size > 0 && (n*20 > size*17 || size < dirMinCapacity || size > dirMinCapacity && n*20 < size*7) {
		t.Fatalf("%d entries in %d places", n, size)
	}
}

// One table against a map, with hashes that crowd: few homes, the last home of the table (stretches
// that wrap around), long runs of one hash, and any.
func TestDirectoryTableModel(t *testing.T) {
	hashes := rapid.OneOf(
		rapid.Uint64Range(0, 3),
		rapid.Custom(func(t *rapid.T) uint64 { // homes in the last and the first places
			return (rapid.Uint64Range(0, 7).Draw(t, "edge") - 4) << 46 >> 8
		}),
		rapid.Uint64Range(0, 1<<56-1),
	)
	rapid.Check(t, func(t *rapid.T) {
		var tab dirTable
		model := map[dirEntry]bool{}
		var in []dirEntry // keys of model, to remove what is there
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				h := hashes.Draw(t, "hash")
				for range rapid.IntRange(1, 30).Draw(t, "devices") {
					e := dirEntry{h, SessionRef(rapid.Uint64Range(1, 200).Draw(t, "ref"))}
					tab.add(e)
					if !model[e] {
						model[e] = true
						in = append(in, e)
					}
				}
			},
			"remove": func(t *rapid.T) {
				for range rapid.IntRange(0, min(40, len(in))).Draw(t, "n") {
					i := rapid.IntRange(0, len(in)-1).Draw(t, "which")
					if !tab.remove(in[i]) {
						t.Fatalf("%+v is gone", in[i])
					}
					delete(model, in[i])
					in[i] = in[len(in)-1]
					in = in[:len(in)-1]
					checkDirTable(t, &tab)
				}
			},
			"removeAny": func(t *rapid.T) {
				e := dirEntry{hashes.Draw(t, "hash"), SessionRef(rapid.Uint64Range(1, 200).Draw(t, "ref"))}
				if tab.remove(e) != model[e] {
					t.Fatalf("remove %+v: model %v", e, model[e])
				}
				delete(model, e)
				in = slices.DeleteFunc(in, func(x dirEntry) bool { return x == e })
			},
			"": func(t *rapid.T) {
				checkDirTable(t, &tab)
				compareDirTable(t, &tab, model)
			},
		})
	})
}

func compareDirTable(t *rapid.T, tab *dirTable, model map[dirEntry]bool) {
	if tab.n != len(model) {
		t.Fatalf("%d entries, model %d", tab.n, len(model))
	}
	want := map[uint64][]SessionRef{0: nil, 1<<56 - 1: nil}
	for e := range model {
		want[e.hash] = append(want[e.hash], e.ref)
	}
	for h, refs := range want {
		got := tab.lookup(h, nil)
		slices.Sort(got)
		slices.Sort(refs)
		if !slices.Equal(got, refs) {
			t.Fatalf("hash %#x: %v, model %v", h, got, refs)
		}
		for _, limit := range []int{0, 1, len(refs), len(refs) + 1} {
			if n := tab.count(h, limit); n != min(limit, len(refs)) {
				t.Fatalf("hash %#x: count up to %d is %d of %d", h, limit, n, len(refs))
			}
		}
	}
}

// A stretch that wraps around, taken out in many orders.
func TestDirectoryRemoveAcrossTheEnd(t *testing.T) {
	hashes := []uint64{6 << 53, 1<<56 - 1, 0} // homes 6, 7 and 0 of 8 places
	for first := range 6 {
		for _, step := range []int{1, 5} {
			var tab dirTable
			left := map[dirEntry]bool{}
			var in []dirEntry
			for i := range 6 {
				e := dirEntry{hashes[i%3], SessionRef(i + 1)}
				tab.add(e)
				in, left[e] = append(in, e), true
			}
			if len(tab.entries) != 8 || tab.dist(0, 3) != 3 || tab.entries[3].ref == 0 || tab.entries[6].ref == 0 {
				t.Fatalf("not in places 6 to 3: %v", tab.entries)
			}
			for i := range 6 {
				e := in[(first+i*step)%6]
				if !tab.remove(e) || tab.remove(e) {
					t.Fatalf("from %d by %d: remove %+v", first, step, e)
				}
				delete(left, e)
				checkDirTable(t, &tab)
				for _, e := range in {
					if _, found := tab.find(e); found != left[e] {
						t.Fatalf("from %d by %d: %+v found %v", first, step, e, found)
					}
				}
			}
		}
	}
}

// Grown by a quarter at a time and given back again.
func TestDirectoryGrowsAndShrinks(t *testing.T) {
	d := NewDirectory()
	empty := d.Bytes()
	rng := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, 100_000)
	for i := range hashes {
		hashes[i] = rng.Uint64()
		d.Add(hashes[i], SessionRef(i+1))
	}
	full := d.Bytes()
	if per := float64(full-empty) / float64(len(hashes)); per < 16 || per > 24 {
		t.Errorf("%.1f bytes an entry", per)
	}
	for i := range d.stripes {
		checkDirTable(t, &d.stripes[i].table)
	}
	for i, h := range hashes {
		if got := d.Lookup(h, nil); len(got) != 1 || got[0] != SessionRef(i+1) {
			t.Fatalf("hash %#x: %v", h, got)
		}
	}
	for i, h := range hashes {
		if !d.Remove(h, SessionRef(i+1)) {
			t.Fatalf("entry %d is gone", i)
		}
	}
	if d.Len() != 0 || d.Bytes() != empty+dirStripes*dirMinCapacity*16 {
		t.Errorf("empty again: Len %d, %d bytes", d.Len(), d.Bytes())
	}
}

// Goroutines with their own refs under shared hashes: each sees its own changes at once, and in the end
// there is what they left.
func TestDirectoryConcurrent(t *testing.T) {
	const workers, users, steps = 4, 50, 5000
	d := NewDirectory()
	hash := make([]uint64, users)
	for u := range hash {
		hash[u] = d.Hash([]byte{byte(u)})
	}
	kept := make([]map[dirEntry]bool, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			mine := map[dirEntry]bool{}
			kept[w] = mine
			var buf []SessionRef
			for range steps {
				e := dirEntry{hash[rng.IntN(users)], MakeRef(uint32(w), rng.Uint32N(8), 1)}
				if rng.IntN(2) == 0 {
					d.Add(e.hash, e.ref)
					mine[e] = true
				} else {
					if d.Remove(e.hash, e.ref) != mine[e] {
						t.Errorf("remove %+v: want %v", e, mine[e])
					}
					delete(mine, e)
				}
				buf = d.Lookup(e.hash, buf[:0])
				if slices.Contains(buf, e.ref) != mine[e] {
					t.Errorf("lookup %+v: want %v", e, mine[e])
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, mine := range kept {
		total += len(mine)
		for e := range mine {
			if !slices.Contains(d.Lookup(e.hash, nil), e.ref) {
				t.Errorf("%+v is lost", e)
			}
		}
	}
	if d.Len() != total {
		t.Errorf("Len %d, want %d", d.Len(), total)
	}
	for i := range d.stripes {
		checkDirTable(t, &d.stripes[i].table)
	}
}
