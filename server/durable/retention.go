package durable

import (
	"errors"
	"sync"
	"time"

	"gannet/codec"
	"gannet/store"
)

// Keep says how long messages of one kind of channel are kept.
type Keep struct {
	Age   time.Duration // counted from the message's time; 0: for ever
	Count uint64        // of a channel, the latest ones; 0: all
}

// Retention says how long messages are kept, by kind of channel. Heads of channels, conversations and memberships stay whatever it
// says.
type Retention struct {
	Direct, Group, Topic, All Keep
}

// Bounds of one turn of the retention. Trims share a lock with who appends.
const (
	trimsPerTurn  = 64     // channels of which something is removed
	framesPerTurn = 16_384 // messages that are looked at before they are removed
	walkPage      = 256    // channels of a kind that are looked at
	maxLong       = 4096   // channels that wait since they grew too long
	longSteps     = 16     // a channel may be longer than Keep.Count by one part of so many
)

// walkEvery is the longest time between two walks through the channels of a kind; for a short Keep.Age it is one part in walkParts of it.
const (
	walkEvery = 12 * time.Hour
	walkParts = 16
)

// retention removes what is not kept any more, and sees to it that what nobody got does not go unseen (undelivered.go).
//
//	every turn ──▶ direct messages whose time to live ran out ──▶ dead letters
//	           ──▶ channels that the committer found too long ──▶ Trim
//	           ──▶ some of the channels of each kind (kept.go) ─▶ Trim what is too old or too much
//	           ──▶ Expire what is older than every Keep.Age, with its references in inboxes
//
// Trim works on one channel and needs to find it, Expire removes a day of all kinds at once: where all kinds have an Age, the longest is
// left to Expire. Both forget what they did when the power goes, and then do it again.
type retention struct {
	// Static after construction.
	l     *Log
	keep  [codec.KindAll + 1]Keep // by kind
	ended chan struct{}           // closed with the goroutine

	mu   sync.Mutex
	long map[store.Channel]struct{} // guarded by mu; channels that the committer found too long
	due  uint64                     // guarded by mu; Unix milliseconds, not after the first of the records "expiring"

	// Owned by the goroutine, by Start before there is one.
	clock   believedClock
	now     uint64 // the turn's time, as clock has it, Unix milliseconds
	wall    uint64 // and as readers have it, who decide by it whether a time to live ran out
	saved   uint64 // what is written of it
	trims   int    // that are left to this turn
	frames  int    // the same
	walks   [codec.KindAll + 1]walk
	empty   []store.Channel // channels to be struck off the list of those that have messages
	expired uint64          // Unix milliseconds: Expire was called with it last
	after   string          // key of the record "expiring" that was done last
	done    uint64          // when that one was due
	raw     []byte

	stats retentionCounters
}

// walk is how far the retention is in looking at all channels of a kind.
type walk struct {
	under bool   // it is under way
	after string // key of the channel that was looked at last
	began uint64 // Unix milliseconds
	whole uint64 // when the last one began that came to its end; 0: none did
}

func newRetention(l *Log) *retention {
	r := &retention{l: l, ended: make(chan struct{}), long: map[store.Channel]struct{}{}}
	o := &l.opts.Retention
	r.keep = [...]Keep{codec.KindDirect: o.Direct, codec.KindGroup: o.Group, codec.KindTopic: o.Topic, codec.KindAll: o.All}
	return r
}

// open reads what the retention has written down and judges what ran out while nothing ran: later those who come back acknowledge what
// came behind it.
func (r *retention) open() {
	if err := r.loadClock(); err != nil {
		r.l.complain("reading the time of the retention", err)
	}
	r.l.dead.load()
	r.wall = r.l.now()
	r.now = r.clock.look(r.wall, r.l.clock())
	r.dueAt(1)
	r.judgeExpired()
}

// run ends when the committer has.
func (r *retention) run() {
	defer close(r.ended)
	tick := time.NewTicker(r.l.timing.retain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.turn()
		case <-r.l.closing:
			return
		}
	}
}

// turn does a bounded part of what is to be done. While the store is failed it does nothing.
func (r *retention) turn() {
	if r.l.failed.Load() != nil {
		return
	}
	r.wall = r.l.now()
	r.now = r.clock.look(r.wall, r.l.clock())
	r.saveClock()
	r.trims, r.frames = trimsPerTurn, framesPerTurn
	direct := r.judgeExpired() // first, for removing takes their messages away
	r.trimLong(direct)
	for kind := codec.KindDirect; kind <= codec.KindAll; kind++ {
		if direct || kind != codec.KindDirect {
			r.walk(kind)
		}
	}
	r.strike()
	r.expire()
}

// broken notes an error; when it is that of a failed store, the committer has it opened again.
func (r *retention) broken(s store.Store, what string, err error) {
	switch {
	case errors.Is(err, store.ErrFailed):
		r.l.fail(s, err)
	case errors.Is(err, store.ErrClosed):
		return // another one takes its place
	}
	r.stats.errors.Add(1)
	r.l.complain(what, err)
}

// tooLong notes that a channel may have more messages than are kept. What finds no room waits for the next walk.
func (r *retention) tooLong(ch store.Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.long[ch]; ok || len(r.long) < maxLong {
		r.long[ch] = struct{}{}
	} else {
		r.stats.notesDropped.Add(1)
	}
}

// grown says whether a channel that has got as far as seq is to be looked at.
func (r *retention) grown(kind codec.Kind, seq uint64) bool {
	most := r.keep[kind].Count
	return most > 0 && seq > most && seq%max(1, most/longSteps) == 0
}

// trimLong looks at the channels that the committer found too long.
func (r *retention) trimLong(direct bool) {
	for r.trims > 0 && r.frames > 0 {
		r.mu.Lock()
		var ch store.Channel
		found := false
		for ch = range r.long {
			if found = direct || ch.Kind != codec.KindDirect; found {
				delete(r.long, ch)
				break
			}
		}
		r.mu.Unlock()
		if !found {
			return
		}
		if !r.lookAt(r.l.current(), ch) {
			r.tooLong(ch)
			return
		}
	}
}

// lookAt is look; false: the channel must be looked at again. Damage to one must not stop the others.
func (r *retention) lookAt(s store.Store, ch store.Channel) bool {
	done, err := r.look(s, ch)
	if err != nil {
		r.broken(s, "removing old messages", err)
		return lasting(err)
	}
	return done
}

// longest is the longest Age. ok: every kind has one, so that Expire can be used.
func (r *retention) longest() (age time.Duration, ok bool) {
	for _, k := range r.keep[codec.KindDirect:] {
		if k.Age == 0 {
			return 0, false
		}
		age = max(age, k.Age)
	}
	return age, true
}

// trimmed says whether the channels of a kind are trimmed by age; else Expire does it.
func (r *retention) trimmed(kind codec.Kind) bool {
	longest, ok := r.longest()
	age := r.keep[kind].Age
	return age > 0 && (!ok || age < longest)
}

// before is the time below which messages are older than age.
func (r *retention) before(age time.Duration) uint64 {
	ms := uint64(max(age.Milliseconds(), 1))
	return r.now - min(ms, r.now)
}

// walk looks at some of the channels of a kind, if that is to be done now.
func (r *retention) walk(kind codec.Kind) {
	w, k := &r.walks[kind], r.keep[kind]
	if k.Count == 0 && !r.trimmed(kind) && (kind != codec.KindDirect || k.Age == 0) {
		return
	}
	if !w.under {
		every := walkEvery
		if k.Age > 0 {
			every = min(every, k.Age/walkParts)
		}
		if w.began > 0 && r.now >= w.began && r.now-w.began < uint64(every.Milliseconds()) {
			return
		}
		*w = walk{under: true, after: string([]byte{byte(kind)}), began: r.now, whole: w.whole}
	}
	s := r.l.current()
	page, err := s.Scan(ownerKept, w.after, walkPage)
	if err != nil {
		r.broken(s, "looking for channels with old messages", err)
		return
	}
	for _, rec := range page {
		ch, ok := splitConvKey(rec.Key)
		if ok && ch.Kind != kind {
			page = nil
			break
		}
		if r.trims <= 0 || r.frames <= 0 || r.l.isClosing() {
			return
		}
		if ok && !r.lookAt(s, ch) {
			return
		}
		w.after = rec.Key
	}
	if len(page) < walkPage {
		w.under, w.whole = false, w.began
		r.stats.walks.Add(1)
	}
}

// expire removes what is older than every Age. Direct messages must have been judged before.
func (r *retention) expire() {
	longest, ok := r.longest()
	direct := &r.walks[codec.KindDirect]
	if !ok || direct.whole == 0 {
		return
	}
	age := uint64(r.keep[codec.KindDirect].Age.Milliseconds())
	before := min(r.before(longest), direct.whole-min(age, direct.whole))
	if before < r.expired+uint64(min(longest/walkParts, time.Hour).Milliseconds()) {
		return
	}
	s := r.l.current()
	if err := s.Expire(before); err != nil {
		r.broken(s, "removing old messages", err)
		return
	}
	r.expired = before
	r.stats.expires.Add(1)
	r.l.recents.expire(before, func(ch store.Channel) uint64 {
		head, err := s.Head(ch)
		if err != nil {
			return 1<<64 - 1
		}
		return head.First
	})
}

// isClosing says that Close was called.
func (l *Log) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}
