package durable

import (
	"hash/maphash"
	"sync"

	"gannet/codec"
	"gannet/store"
)

// Recent messages lie in blocks of equal size that the channels of a stripe share: no garbage is made, and a channel takes no more
// than it has said. A channel's frames follow each other through its blocks; frames tell their own length.
const (
	recentBlock   = 1 << 10
	recentSlab    = 1 << 10 // blocks that are allocated at once
	recentStripes = 16
)

// recents keeps the last messages of the channels that spoke last. The committer adds, any goroutine reads.
type recents struct {
	seed    maphash.Seed
	stripes []recentStripe
}

type recentStripe struct {
	perChannel int // blocks
	limit      int // blocks

	mu    sync.Mutex // guards all below, the rings too
	rings map[string]*ring
	slabs [][]byte
	free  []uint32
	spare []*ring // removed
	made  int     // blocks
	front *ring
	back  *ring
	_     [64]byte
}

// ring is a channel's recent messages, first…last without a hole. Guarded by its stripe's lock.
type ring struct {
	stripe      *recentStripe // static
	key         string        // empty: removed
	first, last uint64
	blocks      []blockRef // oldest first
	end         int        // bytes in the last block
	newer       *ring
	older       *ring
}

// blockRef is a block and the first frame that begins in it.
type blockRef struct {
	block uint32
	at    uint16
	seq   uint64 // 0: no frame begins in it
}

func (rs *recents) init(total, channel int) {
	blocks := max(total/recentBlock, 1)
	n := min(max(blocks/(4*max(channel/recentBlock, 1)), 1), recentStripes)
	rs.seed = maphash.MakeSeed()
	rs.stripes = make([]recentStripe, n)
	for i := range rs.stripes {
		st := &rs.stripes[i]
		st.limit = max(blocks/n, 4)
		st.perChannel = max(min(channel/recentBlock, st.limit/2), 2)
		st.rings = map[string]*ring{}
	}
}

func (rs *recents) stripe(key string) *recentStripe {
	return &rs.stripes[maphash.String(rs.seed, key)%uint64(len(rs.stripes))]
}

// drop forgets everything.
func (rs *recents) drop() {
	for i := range rs.stripes {
		st := &rs.stripes[i]
		st.mu.Lock()
		for st.back != nil {
			st.remove(st.back)
		}
		st.mu.Unlock()
	}
}

// bytes is the memory taken.
func (rs *recents) bytes() (n int) {
	for i := range rs.stripes {
		st := &rs.stripes[i]
		st.mu.Lock()
		n += st.made * recentBlock
		st.mu.Unlock()
	}
	return n
}

// add keeps a message of the channel with this convKey. hint is what the channel's last add returned, or nil. A message longer than half
// of what a channel may take is not kept, nor is anything before it.
func (rs *recents) add(hint *ring, key string, seq uint64, frame []byte) *ring {
	if hint != nil {
		st := hint.stripe
		st.mu.Lock()
		if hint.key == key { // else it is another channel's by now
			st.add(hint, seq, frame)
			st.mu.Unlock()
			return hint
		}
		st.mu.Unlock()
	}
	st := rs.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.rings[key]
	if r == nil {
		r = st.ring()
		r.key = key
		st.rings[key] = r
		st.toFront(r)
	}
	st.add(r, seq, frame)
	return r
}

// ring is a new one, or one that was removed.
func (st *recentStripe) ring() *ring {
	if n := len(st.spare); n > 0 {
		r := st.spare[n-1]
		st.spare = st.spare[:n-1]
		return r
	}
	return &ring{stripe: st}
}

func (st *recentStripe) add(r *ring, seq uint64, frame []byte) {
	if len(frame) > st.perChannel*recentBlock/2 {
		st.remove(r)
		return
	}
	if st.front != r {
		st.unlink(r)
		st.toFront(r)
	}
	if seq != r.last+1 {
		st.empty(r)
	}
	for left, begins := frame, true; len(left) > 0; begins = false {
		if len(r.blocks) == 0 || r.end == recentBlock {
			if len(r.blocks) >= st.perChannel {
				st.dropFirst(r)
			}
			r.blocks = append(r.blocks, blockRef{block: st.get()})
			r.end = 0
		}
		b := &r.blocks[len(r.blocks)-1]
		if begins && b.seq == 0 {
			b.seq, b.at = seq, uint16(r.end)
		}
		n := copy(st.bytes(b.block)[r.end:], left)
		r.end += n
		left = left[n:]
	}
	if r.last = seq; r.first == 0 {
		r.first = seq
	}
}

// bytes is a block's.
func (st *recentStripe) bytes(block uint32) []byte {
	at := int(block%recentSlab) * recentBlock
	return st.slabs[block/recentSlab][at : at+recentBlock]
}

// get returns a free block; when there is none, the oldest one of the channel that was silent for longest. The channel that asks is
// in front, and has less than half of all.
func (st *recentStripe) get() uint32 {
	if len(st.free) == 0 && st.made < st.limit {
		n := min(recentSlab, st.limit-st.made)
		st.slabs = append(st.slabs, make([]byte, n*recentBlock))
		for i := n - 1; i >= 0; i-- {
			st.free = append(st.free, uint32(st.made+i))
		}
		st.made += n
	}
	for len(st.free) == 0 {
		r := st.back
		if st.dropFirst(r); len(r.blocks) == 0 {
			st.remove(r)
		}
	}
	b := st.free[len(st.free)-1]
	st.free = st.free[:len(st.free)-1]
	return b
}

// dropFirst gives a ring's oldest block back, and those behind it that hold nothing but the rest of a frame.
func (st *recentStripe) dropFirst(r *ring) {
	n := 0
	for n < len(r.blocks) && (n == 0 || r.blocks[n].seq == 0) {
		st.free = append(st.free, r.blocks[n].block)
		n++
	}
	r.blocks = r.blocks[:copy(r.blocks, r.blocks[n:])]
	if len(r.blocks) > 0 {
		r.first = r.blocks[0].seq
	} else {
		r.first = 0
	}
}

func (st *recentStripe) empty(r *ring) {
	for len(r.blocks) > 0 {
		st.dropFirst(r)
	}
}

func (st *recentStripe) remove(r *ring) {
	st.empty(r)
	st.unlink(r)
	delete(st.rings, r.key)
	r.key, r.last = "", 0
	st.spare = append(st.spare, r)
}

func (st *recentStripe) toFront(r *ring) {
	r.newer, r.older = nil, st.front
	if st.front != nil {
		st.front.newer = r
	} else {
		st.back = r
	}
	st.front = r
}

func (st *recentStripe) unlink(r *ring) {
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		st.front = r.older
	}
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		st.back = r.newer
	}
}

// recentFrom appends to dst the frames of a channel from seq from on that are kept in memory, at most limit and, beyond the
// first, at most maxBytes. ok false: they are not all there, read the store. Above the newest n is 0 and ok true.
func (l *Log) recentFrom(ch store.Channel, from uint64, limit, maxBytes int, dst []byte) (frames []byte, next uint64, n int, ok bool) {
	key := convKey(ch.Kind, ch.Name)
	st := l.recents.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.rings[key]
	if from = max(from, 1); r == nil || from < r.first {
		return dst, from, 0, false
	}
	if from > r.last || limit <= 0 {
		return dst, from, 0, true
	}
	i := len(r.blocks) - 1
	for r.blocks[i].seq == 0 || r.blocks[i].seq > from {
		i--
	}
	p := frameReader{st: st, r: r, block: i, at: int(r.blocks[i].at)}
	for seq := r.blocks[i].seq; seq < from; seq++ {
		p.skip(p.size())
	}
	begin := len(dst)
	for ; n < limit && from <= r.last; n++ {
		size := p.size()
		if n > 0 && len(dst)-begin+size > maxBytes {
			break
		}
		dst = p.copy(dst, size)
		from++
	}
	return dst, from, n, true
}

// recentHead is the last seq of a channel, 0 when none of its messages is in memory.
func (l *Log) recentHead(ch store.Channel) uint64 {
	key := convKey(ch.Kind, ch.Name)
	st := l.recents.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if r := st.rings[key]; r != nil {
		return r.last
	}
	return 0
}

// frameReader walks the frames of a ring. The stripe's lock is held.
type frameReader struct {
	st    *recentStripe
	r     *ring
	block int // in r.blocks
	at    int
}

// size is that of the frame which begins here, header included.
func (p frameReader) size() int {
	var head [codec.HeaderLen]byte
	n, _, _, _ := codec.ConsumeHeader(p.copy(head[:0], len(head)))
	return codec.HeaderLen + n
}

func (p *frameReader) skip(n int) {
	p.at += n
	p.block += p.at / recentBlock
	p.at %= recentBlock
}

func (p *frameReader) copy(dst []byte, n int) []byte {
	for n > 0 {
		b := p.st.bytes(p.r.blocks[p.block].block)[p.at:]
		b = b[:min(n, len(b))]
		dst = append(dst, b...)
		p.skip(len(b))
		n -= len(b)
	}
	return dst
}
