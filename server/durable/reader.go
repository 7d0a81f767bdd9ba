package durable

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// Sizes of a worker's turn.
const (
	turnMax   = 32        // reads taken at once, all of one shard: one wake-up of it for all of them
	turnMin   = 8         // reads for which it does not pay to have one more worker
	turnSlow  = 4         // PULLs and LISTs taken at once, which cost more each
	turnBytes = 256 << 10 // of answers, after which they go back before the turn is over
	slowEvery = 8         // the turns of which one begins with PULLs and LISTs, however many others wait
)

// readers answer reads: a few workers over two bounded queues. Logins and those who catch up go first; PULL and
// LIST, which a client repeats at will, get what is left, one turn in slowEvery, and half of the places.
type readers struct {
	// Static after construction.
	l      *Log
	pool   *ants.Pool
	served func([]*shard.Read) // brings answers of one shard back
	places int

	mu     sync.Mutex // guards all below
	fast   readQueue
	slow   readQueue
	idle   []*reader
	turns  int
	closed bool
	parked sync.Cond // a worker became idle

	workers int
	counts  readCounts
	lastLog atomic.Int64 // Unix nanoseconds, of the last complaint
}

// readCounts are what the readers count.
type readCounts struct {
	served  [shard.ReadList + 1]atomic.Uint64 // by operation, failed ones too
	refused atomic.Uint64                     // the queue was full, or closed
	busy    atomic.Uint64                     // PULLs and LISTs answered BUSY: their half was full
	failed  atomic.Uint64                     // answered UNAVAILABLE
	panics  atomic.Uint64
	damaged atomic.Uint64 // times that damaged data was left out of an answer
	cut     atomic.Uint64 // LISTs of a user with more than maxConversations
}

// ReadStats are what the readers of a Log have done since it was started, and how they are now.
type ReadStats struct {
	Served  [shard.ReadList + 1]uint64 // reads by operation, failed ones too
	Refused uint64                     // reads that found no room
	Busy    uint64                     // PULLs and LISTs answered BUSY, for too many of them waited
	Failed  uint64                     // reads answered UNAVAILABLE
	Panics  uint64
	Damaged uint64 // times that damaged data was left out of an answer
	Cut     uint64 // LISTs of a user with more conversations than LIST looks at
	Waiting int
}

// ReadStats returns the counters of now. Any goroutine may call it.
func (l *Log) ReadStats() (s ReadStats) {
	r := l.readers
	if r == nil {
		return s // not started
	}
	c := &r.counts
	for i := range c.served {
		s.Served[i] = c.served[i].Load()
	}
	s.Refused, s.Busy, s.Failed = c.refused.Load(), c.busy.Load(), c.failed.Load()
	s.Panics, s.Damaged, s.Cut = c.panics.Load(), c.damaged.Load(), c.cut.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Waiting = r.fast.n + r.slow.n
	return s
}

func newReaders(l *Log) *readers {
	r := &readers{l: l, places: l.opts.ReadQueue, workers: l.opts.ReadWorkers}
	r.served = func(reads []*shard.Read) { l.node.Served(reads...) }
	r.parked.L = &r.mu
	for range r.workers {
		w := &reader{r: r, l: l}
		w.run = w.work
		r.idle = append(r.idle, w)
	}
	// idle bounds the workers, not the pool: one that is just ending still counts there.
	var err error
	if r.pool, err = ants.NewPool(-1, ants.WithNonblocking(true), ants.WithPanicHandler(r.panicked)); err != nil {
		panic("durable: making the pool of readers: " + err.Error()) // only options that are wrong make it fail
	}
	return r
}

// submit takes requests, the first ones, as many as there are places. It does not block.
func (r *readers) submit(reqs []*shard.Read) (taken int) {
	var busy []*shard.Read
	var few [4]*reader
	woken := few[:0]
	r.mu.Lock()
	for _, q := range reqs {
		if r.closed || r.fast.n+r.slow.n >= r.places {
			break
		}
		switch {
		case !slow(q.Op):
			r.fast.push(q)
		case r.slow.n < max(1, r.places/2):
			r.slow.push(q)
		default:
			busy = append(busy, q)
		}
		taken++
	}
	for len(r.idle) > 0 && len(woken)*turnMin < r.fast.n+r.slow.n {
		last := len(r.idle) - 1
		woken = append(woken, r.idle[last])
		r.idle = r.idle[:last]
	}
	r.mu.Unlock()
	r.counts.refused.Add(uint64(len(reqs) - taken))
	for _, w := range woken {
		if r.pool.Submit(w.run) != nil { // cannot be: the pool has no limit, and close waits for who is not idle
			r.mu.Lock()
			r.park(w)
			r.mu.Unlock()
		}
	}
	if len(busy) > 0 {
		r.counts.busy.Add(uint64(len(busy)))
		r.giveBack(busy, codec.CodeBusy)
	}
	return taken
}

// park makes a worker idle. mu is held.
func (r *readers) park(w *reader) {
	r.idle = append(r.idle, w)
	r.parked.Signal()
}

// slow says which operations go second.
func slow(op shard.ReadOp) bool { return op == shard.ReadPull || op == shard.ReadList }

// giveBack answers reads with a code that needs no store.
func (r *readers) giveBack(reads []*shard.Read, code codec.Code) {
	for _, q := range reads {
		refuse(q, code)
	}
	for len(reads) > 0 {
		n := 1
		for n < len(reads) && reads[n].Ref.Shard() == reads[0].Ref.Shard() {
			n++
		}
		r.served(reads[:n])
		reads = reads[n:]
	}
}

// close answers what waits with UNAVAILABLE and ends when no worker is at work any more.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	var left []*shard.Read
	for r.fast.n+r.slow.n > 0 {
		left = r.slow.pop(r.fast.pop(left, r.fast.n), r.slow.n)
	}
	r.mu.Unlock()
	r.giveBack(left, codec.CodeUnavailable)
	r.mu.Lock()
	for len(r.idle) < r.workers {
		r.parked.Wait()
	}
	r.mu.Unlock()
	r.pool.Release()
}

// complain writes one line a second about what went wrong; all of it is counted.
func (r *readers) complain(text string, args ...any) {
	now := time.Now().UnixNano()
	if last := r.lastLog.Load(); now-last >= int64(time.Second) && r.lastLog.CompareAndSwap(last, now) {
		r.l.opts.Logger.Error(text, args...)
	}
}

func (r *readers) panicked(p any) {
	r.counts.panics.Add(1)
	r.complain("panic in a read; what can be answered is UNAVAILABLE", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// reader is a worker and what it uses again and again. One goroutine at a time has it.
type reader struct {
	r     *readers
	l     *Log
	run   func()
	batch [turnMax]*shard.Read
	n     int // of batch

	store store.Store // in use for the read under way
	raw   []byte      // what was read from it
	refs  []store.Ref
	heads aheads
	page  page
	gaps  page
	news  []store.Record // of devices that were never here; on disk before they are welcomed
}

// work serves until nothing waits.
func (w *reader) work() {
	for w.take() {
		w.serve()
	}
}

// take fills the batch with the oldest reads of one shard; when nothing waits the worker is idle from then on.
func (w *reader) take() bool {
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turns++
	from, most := &r.fast, min(turnMax, max(turnMin, r.fast.n/r.workers))
	if r.fast.n == 0 || r.slow.n > 0 && r.turns%slowEvery == 0 {
		from, most = &r.slow, turnSlow
	}
	if w.n = len(from.pop(w.batch[:0], most)); w.n == 0 {
		r.park(w)
		return false // it may be somebody else's already
	}
	return true
}

// serve answers the batch.
func (w *reader) serve() {
	from, bytes := 0, 0
	for i, q := range w.batch[:w.n] {
		w.answer(q)
		if bytes += len(q.Frames); bytes >= turnBytes || i == w.n-1 {
			w.giveBack(w.batch[from : i+1])
			from, bytes = i+1, 0
		}
	}
	clear(w.batch[:w.n])
	if cap(w.raw) > keepRaw {
		w.raw = nil
	}
}

// giveBack brings answers to their shard.
func (w *reader) giveBack(reads []*shard.Read) {
	defer func() {
		if p := recover(); p != nil {
			w.r.panicked(p)
		}
	}()
	if len(w.news) > 0 {
		// What is sent to a device after its first login is owed to it, whatever happens to this process. When nothing can be
		// written the login goes on all the same; /readyz says why.
		_ = w.l.put(w.news, true)
		clear(w.news)
		w.news = w.news[:0]
	}
	w.r.served(reads)
}

// keepRaw is the capacity up to which a worker's buffer is used again.
const keepRaw = 1 << 20

var errOp = errors.New("unknown operation")

// answer serves one read. Whatever happens, its Code is set.
func (w *reader) answer(q *shard.Read) {
	err := errors.New("panic")
	defer func() {
		if p := recover(); p != nil {
			w.r.panicked(p)
		} else if err != nil {
			w.r.complain("reading the store failed; what was asked for is answered UNAVAILABLE",
				"op", q.Op, "user", q.User, "channel", store.Channel{Kind: q.Kind, Name: q.Name}, "error", err)
		}
		if err != nil {
			w.r.counts.failed.Add(1)
			refuse(q, codec.CodeUnavailable)
		}
		w.store = nil
	}()
	w.r.counts.served[min(q.Op, shard.ReadList)].Add(1)
	clean(q)
	if q.MaxBytes <= 0 {
		q.MaxBytes = codec.DefaultLimit
	}
	if w.store = w.l.current(); w.store == nil {
		err = store.ErrClosed
		return
	}
	switch q.Op {
	case shard.ReadResume:
		err = w.resume(q)
	case shard.ReadInbox:
		err = w.inbox(q)
	case shard.ReadLog:
		err = w.channelLog(q)
	case shard.ReadSub:
		err = w.sub(q)
	case shard.ReadPull:
		err = w.pull(q)
	case shard.ReadList:
		err = w.list(q)
	default:
		err = errOp
	}
}

// clean empties the part of a read that is answer.
func clean(q *shard.Read) {
	q.Code, q.State, q.Head, q.Next, q.Nonce = codec.CodeOK, 0, 0, 0, 0
	q.States, q.Logs, q.Frames = nil, nil, nil
	q.N, q.Covered, q.More, q.Small = 0, 0, false, false
}

// refuse answers with a code, PULL and LIST also with the frame that says it.
func refuse(q *shard.Read, code codec.Code) {
	clean(q)
	q.Code = code
	switch q.Op {
	case shard.ReadPull:
		q.Frames = codec.AppendRange(nil, codec.Range{Req: q.Req, Code: code})
	case shard.ReadList:
		q.Frames = codec.AppendListed(nil, codec.Listed{Req: q.Req, Code: code})
	}
}

// readQueue is a queue of reads in a ring that grows.
type readQueue struct {
	ring []*shard.Read // its length is a power of two
	head int
	n    int
}

// keepRing is the length up to which a ring outlives a burst.
const keepRing = 4096

func (f *readQueue) push(q *shard.Read) {
	if f.n == len(f.ring) {
		ring := make([]*shard.Read, max(64, 2*f.n))
		k := copy(ring, f.ring[f.head:])
		copy(ring[k:], f.ring[:f.head])
		f.ring, f.head = ring, 0
	}
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = q
	f.n++
}

// pop moves the oldest reads to dst, at most as many as given, all of one shard.
func (f *readQueue) pop(dst []*shard.Read, most int) []*shard.Read {
	for i := 0; i < most && f.n > 0; i++ {
		q := f.ring[f.head]
		if i > 0 && q.Ref.Shard() != dst[len(dst)-1].Ref.Shard() {
			break
		}
		f.ring[f.head] = nil
		f.head = (f.head + 1) & (len(f.ring) - 1)
		f.n--
		dst = append(dst, q)
	}
	if f.n == 0 && len(f.ring) > keepRing {
		f.ring, f.head = nil, 0
	}
	return dst
}
