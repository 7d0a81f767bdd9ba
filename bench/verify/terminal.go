package verify

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gannet/codec"
)

// terminal is a device at work: it connects, sends what it is ordered to, tells its History what comes, and comes back whenever the
// connection ends. One goroutine runs it and owns everything but the parts that say otherwise.
type terminal struct {
	// Static after construction.
	r      *Run
	h      *Device
	user   string
	device string
	every  time.Duration // between two ACKs
	orders chan struct{} // one message each
	pulls  chan *pullJob
	told   chan func(*terminal) // done on the terminal's goroutine

	// Written by the terminal, read by anybody.
	settled atomic.Bool // logged in, subscribed, nothing left to send or to be answered

	rng     *rand.Rand
	targets []target // by kind
	link    *link    // nil: not connected
	in      []byte
	out     []byte
	limit   int // longest body accepted
	greeted bool
	nonce   uint64
	box     outbox
	hold    time.Time // nothing is sent before: something was refused
	refused int       // in a row
	fails   int       // connections that failed in a row

	follows map[string]*following // by kind and name
	logs    []*following          // of these, those whose position HELLO tells
	asked   []*following          // whose positions HELLO told, in its order
	subs    map[uint32]*following // SUBs without an answer
	subReq  uint32
	subAt   time.Time // when to try SUBs again that were refused; zero: never

	epoch  uint64 // of the inbox
	pos    uint64 // in the inbox, handled up to here; 0: not known
	ackAt  time.Time
	cutAt  time.Time
	heard  time.Time // the last answer to a SEND, or when there was nothing to be answered
	pull   *pullJob  // under way
	key    []byte
	posNew bool
}

// target is where a terminal sends to.
type target struct{ to *following }

// following is a channel as a terminal sees it.
type following struct {
	id     ChannelID
	kind   codec.Kind
	name   string // in MSG
	seen   seqSet // numbers that were handed, are the device's own, or will not come
	epoch  uint64 // 0: none known
	base   uint64 // where this terminal began to follow it
	inLogs bool   // its messages come from its own log
	sub    bool   // a SUB is needed
	subbed bool   // one was granted, in this connection or another
	dirty  bool   // its position is to be acknowledged
}

// Times after which a connection is given up: for a SEND without an answer, and a HELLO.
const (
	answerTimeout = 5 * time.Second
	loginTimeout  = 10 * time.Second
)

// run lives until the context ends.
func (t *terminal) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := t.connect(ctx)
		if err == nil {
			t.h.Link(true)
			t.live(ctx)
			t.h.Link(false)
		}
		t.offline(ctx, err != nil)
	}
}

// connect dials and says HELLO; WELCOME comes like any other frame.
func (t *terminal) connect(ctx context.Context) error {
	l, err := dialLink(ctx, t.r.o.Addr)
	if err != nil {
		t.r.n.dialErrors.Add(1)
		return err
	}
	t.link, t.limit, t.greeted = l, codec.LoginLimit, false
	t.in, t.out = t.in[:0], t.out[:0]
	clear(t.subs)
	t.subAt, t.ackAt, t.cutAt = time.Time{}, time.Time{}, time.Time{}
	t.heard = time.Now()
	t.box.rewind()
	t.hello()
	t.flush()
	return nil
}

// hello says who this is and how far it has got. One login in four leaves the inbox position out, as a device does that keeps none.
func (t *terminal) hello() {
	h := codec.Hello{Version: codec.Version, Heartbeat: 60, User: []byte(t.user), Device: []byte(t.device)}
	if t.r.o.Token != nil {
		h.Token = []byte(t.r.o.Token(t.user))
	}
	if t.pos != 0 && t.rng.IntN(4) > 0 {
		h.InboxEpoch, h.InboxPos = t.epoch, t.pos
	}
	t.asked = t.asked[:0]
	for _, f := range t.logs {
		// A topic that is not in HELLO is subscribed to behind it; both ways are tried. For the others a position left out means
		// the one that the server has.
		if f.epoch != 0 && len(t.asked) < maxAsked && (f.kind != codec.KindTopic || f.subbed && t.rng.IntN(4) > 0) {
			h.Positions.Append(codec.Position{Kind: f.kind, Name: []byte(f.name), Epoch: f.epoch, Seq: f.seen.upTo()})
			t.asked = append(t.asked, f)
		}
	}
	t.out = codec.AppendHello(t.out, h)
}

const maxAsked = 32 // positions of a HELLO: they fit with the longest names

// offline waits a moment before the next attempt. Orders are taken meanwhile: what is written then is sent first.
func (t *terminal) offline(ctx context.Context, failed bool) {
	t.settled.Store(false)
	wait := time.Duration(t.rng.Int64N(int64(t.r.o.Away) + 1))
	if failed {
		t.fails++
		wait = time.Duration(t.rng.Int64N(int64(min(t.fails, 10)) * int64(20*time.Millisecond)))
	} else {
		t.fails = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-t.orders:
			t.write()
		case do := <-t.told:
			do(t)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// live handles one connection until it ends.
func (t *terminal) live(ctx context.Context) {
	defer func() {
		t.link.end(t.rng.IntN(2) == 0)
		t.link = nil
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		t.settled.Store(t.greeted && len(t.subs) == 0 && t.subAt.IsZero() && t.box.open() == 0)
		select {
		case chunk, ok := <-t.link.chunks:
			if !ok || !t.take(chunk) {
				return
			}
		case <-t.orders:
			t.write()
			for range len(t.orders) {
				<-t.orders
				t.write()
			}
		case job := <-t.pulls:
			t.pull = job
			if t.greeted {
				t.askPull()
			}
		case do := <-t.told:
			do(t)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if !t.timers(now) {
			return
		}
		t.pump(now)
		if !t.flush() {
			return
		}
		timer.Reset(max(0, t.deadline().Sub(now)))
	}
}

// timers does what is due; false ends the connection.
func (t *terminal) timers(now time.Time) bool {
	if !t.greeted {
		return now.Sub(t.heard) < loginTimeout
	}
	if due(t.ackAt, now) {
		t.acknowledge()
	}
	if due(t.subAt, now) {
		t.subAt = time.Time{}
		t.subscribe()
	}
	if t.pull != nil && due(t.pull.retryAt, now) {
		t.askPull()
	}
	if t.box.flying() == 0 {
		t.heard = now
	}
	if now.Sub(t.heard) > answerTimeout {
		t.r.n.timeouts.Add(1)
		return false
	}
	if t.r.o.Churn <= 0 || !t.r.cutting.Load() {
		t.cutAt = time.Time{}
	} else if t.cutAt.IsZero() {
		t.cutAt = t.nextCut(now)
	}
	if due(t.cutAt, now) {
		t.r.n.cuts.Add(1)
		return false
	}
	return true
}

func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// deadline is when timers has something to do.
func (t *terminal) deadline() time.Time {
	d := t.heard.Add(answerTimeout)
	for _, at := range []time.Time{t.ackAt, t.subAt, t.cutAt, t.hold} {
		if !at.IsZero() && at.Before(d) {
			d = at
		}
	}
	if t.pull != nil && !t.pull.retryAt.IsZero() && t.pull.retryAt.Before(d) {
		d = t.pull.retryAt
	}
	return d
}

// nextCut draws when this connection will be cut.
func (t *terminal) nextCut(now time.Time) time.Time {
	mean := float64(len(t.r.terminals)) / t.r.o.Churn // seconds between two cuts of one device
	return now.Add(time.Duration(min(mean*t.rng.ExpFloat64(), math.MaxInt32) * float64(time.Second)))
}

// flush writes what is there; false when the connection has failed.
func (t *terminal) flush() bool {
	if len(t.out) == 0 {
		return true
	}
	err := t.link.write(t.out)
	if t.out = t.out[:0]; err != nil {
		t.r.n.writeErrors.Add(1)
		return false
	}
	return true
}
