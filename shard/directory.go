package shard

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"unsafe"
)

// Widths of the fields of a SessionRef, from the highest bit down.
const (
	RefShardBits = 10
	RefSlotBits  = 26
	RefGenBits   = 28
)

// SessionRef names one session of the node: shard 10 bits | slot 26 bits | generation 28 bits.
// Generations begin at 1, so no valid ref is 0. A ref outlives its session: the shard compares the
// generation with the slot's before it believes it.
type SessionRef uint64

// MakeRef packs a ref. It panics when a part does not fit or gen is 0, because a cut part would name
// somebody else's session.
func MakeRef(shard, slot, gen uint32) SessionRef {
	if shard>>RefShardBits != 0 || slot>>RefSlotBits != 0 || gen>>RefGenBits != 0 || gen == 0 {
		panic("shard: session ref out of range")
	}
	return SessionRef(shard)<<(RefSlotBits+RefGenBits) | SessionRef(slot)<<RefGenBits | SessionRef(gen)
}

// Shard is the number of the shard that owns the session.
func (r SessionRef) Shard() uint32 { return uint32(r >> (RefSlotBits + RefGenBits)) }

// Slot is the session's place in its shard's slab.
func (r SessionRef) Slot() uint32 { return uint32(r>>RefGenBits) & (1<<RefSlotBits - 1) }

// Gen is the generation of the slot that the ref speaks of.
func (r SessionRef) Gen() uint32 { return uint32(r) & (1<<RefGenBits - 1) }

const (
	dirStripeBits  = 8
	dirStripes     = 1 << dirStripeBits
	dirMinCapacity = 8
	dirCacheLine   = 64
)

// Directory is the node's table of who is here: hash of the user's name → the sessions of that user,
// one entry a device. All shards share it; every method may be called from any goroutine.
//
// It keeps no names. Two users can have the same 64-bit hash, so a ref found here is a candidate: the
// shard that owns it compares the user's name before it delivers.
//
// There are 256 stripes, picked by the high bits of the hash, each a mutex and an open-addressing
// table without pointers: 16 bytes an entry, 19 to 24 with the room to grow, nothing for the garbage
// collector to follow. A stripe grows by a quarter, so growing never doubles the node's memory, and
// what a caller waits for is one stripe's copy (1/256 of the entries; about 1 ms at 10 million).
type Directory struct {
	seed    maphash.Seed // static after construction
	stripes [dirStripes]dirStripe
}

// dirStripe is padded to a cache line, so that two loops in different stripes do not meet.
type dirStripe struct {
	mu    sync.Mutex
	table dirTable // guarded by mu
	_     [dirCacheLine - (unsafe.Sizeof(sync.Mutex{})+unsafe.Sizeof(dirTable{}))%dirCacheLine]byte
}

// NewDirectory makes an empty directory whose hash is keyed by a random seed: nobody can choose names
// that collide.
func NewDirectory() *Directory { return &Directory{seed: maphash.MakeSeed()} }

// Hash is the key of a user in this directory, and in this one only. It does not allocate.
func (d *Directory) Hash(user []byte) uint64 { return maphash.Bytes(d.seed, user) }

// Add enters a session. A pair that is there already stays there once. It takes time in proportion to
// the sessions of that hash: bound the devices of a user (Count). Ref must not be 0.
func (d *Directory) Add(hash uint64, ref SessionRef) {
	if ref == 0 {
		panic("shard: session ref 0 in the directory")
	}
	s := d.stripe(hash)
	s.mu.Lock()
	s.table.add(dirEntry{hash, ref})
	s.mu.Unlock()
}

// Remove takes a session out and reports whether it was there.
func (d *Directory) Remove(hash uint64, ref SessionRef) bool {
	s := d.stripe(hash)
	s.mu.Lock()
	ok := s.table.remove(dirEntry{hash, ref})
	s.mu.Unlock()
	return ok
}

// Lookup appends the refs of all sessions with this hash to buf, in no particular order. It does not
// allocate when buf has room.
func (d *Directory) Lookup(hash uint64, buf []SessionRef) []SessionRef {
	s := d.stripe(hash)
	s.mu.Lock()
	buf = s.table.lookup(hash, buf)
	s.mu.Unlock()
	return buf
}

// Count is the number of sessions with this hash; it stops counting at max.
func (d *Directory) Count(hash uint64, max int) int {
	s := d.stripe(hash)
	s.mu.Lock()
	n := s.table.count(hash, max)
	s.mu.Unlock()
	return n
}

// Len is the number of entries. It visits every stripe (a few microseconds): for metrics.
func (d *Directory) Len() int {
	n := 0
	for i := range d.stripes {
		s := &d.stripes[i]
		s.mu.Lock()
		n += s.table.n
		s.mu.Unlock()
	}
	return n
}

// Bytes is the memory of the directory and its tables, in bytes. As dear as Len.
func (d *Directory) Bytes() int {
	n := int(unsafe.Sizeof(*d))
	for i := range d.stripes {
		s := &d.stripes[i]
		s.mu.Lock()
		n += len(s.table.entries) * int(unsafe.Sizeof(dirEntry{}))
		s.mu.Unlock()
	}
	return n
}

func (d *Directory) stripe(hash uint64) *dirStripe {
	return &d.stripes[hash>>(64-dirStripeBits)]
}

// dirEntry is one session; ref 0 marks an empty place.
type dirEntry struct {
	hash uint64
	ref  SessionRef
}

// dirTable is a linear-probing table of any capacity in Robin Hood order: along a stretch without
// empty places the homes of the entries never decrease (Celis, Larson, Munro: Robin Hood hashing,
// 1985). So a search ends at the first entry that is nearer to its home than the searcher would be,
// not at the end of the stretch, and entries with one hash stand together. A removal moves the rest of the
// stretch back by one; there are no tombstones. Load stays at or below 0.85, so some place is always empty.
type dirTable struct {
	entries []dirEntry
	n       int
}

// home is the place where an entry would like to stand: the bits of the hash below the stripe's
// number, scaled to the capacity (Lemire, Fast random integer generation in an interval, 2019).
func (t *dirTable) home(hash uint64) int {
	hi, _ := bits.Mul64(hash<<dirStripeBits, uint64(len(t.entries)))
	return int(hi)
}

// dist is how far place at lies behind the home of hash.
func (t *dirTable) dist(hash uint64, at int) int {
	d := at - t.home(hash)
	if d < 0 {
		d += len(t.entries)
	}
	return d
}

// next is the place behind at; the table is a circle.
func (t *dirTable) next(at int) int {
	if at++; at == len(t.entries) {
		return 0
	}
	return at
}

// past reports that an entry dist places behind its home cannot stand at place at or behind it.
func (t *dirTable) past(at, dist int) bool {
	e := &t.entries[at]
	return e.ref == 0 || t.dist(e.hash, at) < dist
}

func (t *dirTable) lookup(hash uint64, buf []SessionRef) []SessionRef {
	if t.n == 0 {
		return buf
	}
	for at, dist := t.home(hash), 0; !t.past(at, dist); at, dist = t.next(at), dist+1 {
		if e := &t.entries[at]; e.hash == hash {
			buf = append(buf, e.ref)
		}
	}
	return buf
}

func (t *dirTable) count(hash uint64, max int) int {
	if t.n == 0 {
		return 0
	}
	n := 0
	for at, dist := t.home(hash), 0; n < max && !t.past(at, dist); at, dist = t.next(at), dist+1 {
		if t.entries[at].hash == hash {
			n++
		}
	}
	return n
}

// find returns the place of e, or, when it is not there, the place where it belongs.
func (t *dirTable) find(e dirEntry) (at int, found bool) {
	at = t.home(e.hash)
	for dist := 0; !t.past(at, dist); at, dist = t.next(at), dist+1 {
		if t.entries[at] == e {
			return at, true
		}
	}
	return at, false
}

func (t *dirTable) add(e dirEntry) {
	if t.n > 0 {
		if _, found := t.find(e); found {
			return
		}
	}
	if size := len(t.entries); (t.n+1)*20 > size*17 { // load above 0.85
		t.resize(max(dirMinCapacity, size+size/4))
	}
	t.insert(e)
}

// insert puts e, which is not in the table, where it belongs and moves what follows up to the next
// empty place by one.
func (t *dirTable) insert(e dirEntry) {
	at, _ := t.find(e)
	for ; e.ref != 0; at = t.next(at) {
		e, t.entries[at] = t.entries[at], e
	}
	t.n++
}

func (t *dirTable) remove(e dirEntry) bool {
	if t.n == 0 {
		return false
	}
	at, found := t.find(e)
	if !found {
		return false
	}
	for {
		from := t.next(at)
		if t.past(from, 1) { // empty, or at home already
			break
		}
		t.entries[at] = t.entries[from]
		at = from
	}
	t.entries[at] = dirEntry{}
	t.n--
	if size := len(t.entries); size > dirMinCapacity && t.n*20 < size*7 { // load below 0.35
		t.resize(max(dirMinCapacity, t.n*5/3)) // to 0.6: far from both limits
	}
	return true
}

// resize moves all entries to a table of another size.
func (t *dirTable) resize(size int) {
	old := t.entries
	t.entries, t.n = make([]dirEntry, size), 0
	for _, e := range old {
		if e.ref != 0 {
			t.insert(e)
		}
	}
}
