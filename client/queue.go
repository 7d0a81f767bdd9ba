package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
)

// queue is what waits for the server's answer: the working copy of the Outbox, in order of ID. Callers add, one pump a
// connection sends, the reader takes answers.
type queue struct {
	// static after open
	store    Outbox
	messages int           // bound
	bytes    int           // bound
	wake     chan struct{} // to the pump: something has changed

	failing atomic.Bool // the store's last Done failed

	adding sync.Mutex // so that IDs reach the store in their order, and not while they are settled; taken before mu

	mu      sync.Mutex
	list    []*parcel     // guarded by mu; the first one is not done
	n, held int           // guarded by mu: messages that are not done, and their bytes
	kept    uint64        // guarded by mu: IDs up to here may be sent
	last    uint64        // guarded by mu: the last ID given out
	shift   uint64        // guarded by mu: nonce − ID of the next one
	settled bool          // guarded by mu: since this process began
	was     bool          // guarded by mu: settled by the outbox itself, by this process or one before
	flying  int           // guarded by mu: sent and not answered on this connection
	refused codec.Code    // guarded by mu: the pump has to begin anew; OK: it has not
	passed  bool          // guarded by mu: one was stored since the pump last looked
	freed   chan struct{} // guarded by mu: closed and replaced when something has gone
}

// parcel is one message.
type parcel struct {
	id      uint64
	channel Channel
	data    []byte // the SEND frame with req and nonce 0

	// Guarded by queue.mu.
	nonce  uint64
	sent   bool // may have been sent, perhaps by a process before
	done   bool
	waiter chan fate // one place; nil: nobody waits
}

// fate is what became of a durable message.
type fate struct {
	res SendResult
	err error // *CodeError: refused for good
}

func (q *queue) open(store Outbox, messages, bytes int) error {
	state, err := store.Load()
	if err != nil {
		return err
	}
	q.store, q.messages, q.bytes = store, messages, bytes
	q.wake, q.freed = make(chan struct{}, 1), make(chan struct{})
	q.last, q.kept, q.shift, q.was = state.Last, state.Last, state.Shift, state.Settled
	for _, e := range state.Entries {
		s, err := readParcel(e.Data)
		if err != nil {
			return fmt.Errorf("message %d is none: %w", e.ID, err)
		}
		q.last, q.kept = max(q.last, e.ID), max(q.kept, e.ID)
		q.put(&parcel{id: e.ID, nonce: e.Nonce, sent: state.Settled, channel: Channel{s.Kind, string(s.Name)}, data: e.Data})
	}
	return nil
}

func readParcel(data []byte) (codec.Send, error) {
	f, n, err := codec.ConsumeFrame(data, codec.MaxBody)
	if err == nil && (n != len(data) || f.Type != codec.TypeSend) {
		err = errors.New("no SEND frame")
	}
	if err != nil {
		return codec.Send{}, err
	}
	return codec.ConsumeSend(f)
}

// put appends to the list. Called with mu, or before anybody else knows q.
func (q *queue) put(p *parcel) {
	q.list = append(q.list, p)
	q.n++
	q.held += len(p.data)
}

// room says whether a message of so many bytes may be added, and what is closed when that may have changed. One that is larger than the
// bound goes alone.
func (q *queue) room(size int) (ok bool, changed chan struct{}) {
	return q.n == 0 || q.n < q.messages && q.held+size <= q.bytes, q.freed
}

// add keeps a message. When the outbox is full and somebody waits for the answer it waits until ctx ends, otherwise it returns ErrBusy.
func (q *queue) add(ctx context.Context, ch Channel, data []byte, waiter chan fate) (*parcel, error) {
	p, err := q.take(ctx, ch, data, waiter)
	if err != nil {
		return nil, err
	}
	if err := q.store.Sync(); err != nil {
		q.remove(p)
		_ = q.store.Done(p.id) // it will hardly take this; then the message is sent after a restart
		return nil, err
	}
	q.mu.Lock()
	q.kept = max(q.kept, p.id)
	q.mu.Unlock()
	q.notify()
	return p, nil
}

func (q *queue) take(ctx context.Context, ch Channel, data []byte, waiter chan fate) (*parcel, error) {
	for {
		q.adding.Lock()
		q.mu.Lock()
		ok, changed := q.room(len(data))
		if ok {
			q.last++
		}
		p := &parcel{id: q.last, channel: ch, data: data, nonce: q.last + q.shift, waiter: waiter}
		q.mu.Unlock()
		if ok {
			err := q.store.Add(p.id, data)
			if err == nil {
				q.mu.Lock()
				q.put(p)
				q.mu.Unlock()
			}
			q.adding.Unlock()
			return p, err
		}
		q.adding.Unlock()
		if waiter == nil {
			return nil, ErrBusy
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the outbox is full: %w", ctx.Err())
		}
	}
}

// notify wakes the pump.
func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// remove takes a parcel out, the first time only.
func (q *queue) remove(p *parcel) (first bool) {
	q.mu.Lock()
	first = !p.done
	if first {
		p.done = true
		q.n--
		q.held -= len(p.data)
		for len(q.list) > 0 && q.list[0].done {
			q.list[0] = nil
			q.list = q.list[1:]
		}
		close(q.freed)
		q.freed = make(chan struct{})
	}
	q.mu.Unlock()
	return first
}

// settle begins a connection: nothing is on its way, and what was never sent gets nonces above all that may have been stored. stored
// is the highest nonce that the server has of this device.
//
// A new outbox has no memory of nonces that another one gave out on this device, whose messages may even still be on
// their way into the store. So the first time in a process nonces go on above the clock in microseconds as well, and above
// what may have been given out and lost in a crash.
func (q *queue) settle(stored uint64, now time.Time) error {
	q.adding.Lock()
	defer q.adding.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying, q.refused, q.passed = 0, codec.CodeOK, false
	from := q.last + 1
	if i := slices.IndexFunc(q.list, func(p *parcel) bool { return !p.sent && !p.done }); i >= 0 {
		from = q.list[i].id
	}
	floor := stored
	if !q.settled {
		floor = max(floor, uint64(max(0, now.UnixMicro())))
		if q.was {
			floor = max(floor, from-1+q.shift+nonceLeap)
		}
	}
	if floor >= lastNonce {
		return fmt.Errorf("nonces of this device are used up: the server has stored %d; take another device name", stored)
	}
	shift := max(q.shift, max(floor+1, from)-from)
	if q.settled && shift == q.shift {
		return nil
	}
	if err := q.store.Settle(from, shift); err != nil {
		return err
	}
	q.shift, q.settled, q.was = shift, true, true
	for _, p := range q.list {
		if p.id >= from {
			p.nonce = p.id + shift
		}
	}
	return nil
}

const (
	nonceLeap = 1 << 24 // more than can be added and lost in a crash without Sync
	lastNonce = 1 << 63 // beyond it a device gets no new ones
)

// next returns the first message above an ID that is to be sent; nil when there is none, or when something was refused.
func (q *queue) next(above uint64) *parcel {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused != codec.CodeOK {
		return nil
	}
	i, _ := slices.BinarySearchFunc(q.list, above+1, func(p *parcel, id uint64) int { return cmp.Compare(p.id, id) })
	for ; i < len(q.list) && q.list[i].id <= q.kept; i++ {
		if p := q.list[i]; !p.done {
			p.sent = true
			q.flying++
			return p
		}
	}
	return nil
}

// notSent takes back what next counted.
func (q *queue) notSent() {
	q.mu.Lock()
	q.flying--
	q.mu.Unlock()
}

// turn is what the pump has to know before it sends: how many are unanswered, whether it was refused, and whether anything was stored
// since it last asked.
func (q *queue) turn() (flying int, refused codec.Code, passed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	passed, q.passed = q.passed, false
	return q.flying, q.refused, passed
}

// again lets the pump begin anew.
func (q *queue) again() {
	q.mu.Lock()
	q.refused = codec.CodeOK
	q.mu.Unlock()
}

// answered takes an answer into account; over is false when the message has to be sent again.
func (q *queue) answered(code codec.Code) (over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying--
	switch {
	case code == codec.CodeOK || code == codec.CodeDuplicate:
		q.passed = true
	case code.Temporary() || code.Reconnect():
		q.refused = code
		return false
	}
	return true
}
