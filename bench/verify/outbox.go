package verify

import (
	"slices"

	"gannet/codec"
)

// outgoing is a message on its way.
type outgoing struct {
	id    ID
	to    *following
	nonce uint64
	ttl   uint32 // seconds; 0: none
	req   uint32 // of the latest try
	tried bool
	done  bool
}

// outbox holds what has no final answer yet, in the order of the nonces, and says what is to be sent next: after a refusal all
// from there on again, after a reconnect all, so that nothing ever overtakes.
type outbox struct {
	queue []outgoing
	next  int               // in queue: the first one that is not on its way
	tries map[uint32]uint64 // of this connection, not answered: req to nonce
	req   uint32
}

// open is how many have no final answer.
func (b *outbox) open() int { return len(b.queue) }

// flying is how many tries of this connection have no answer.
func (b *outbox) flying() int { return len(b.tries) }

func (b *outbox) add(o outgoing) { b.queue = append(b.queue, o) }

// take returns the next message to send with a new req; nil when there is none, or window tries are unanswered. The pointer is
// good until the next call.
func (b *outbox) take(window int) (o *outgoing, again bool) {
	for b.next < len(b.queue) && b.queue[b.next].done {
		b.next++
	}
	if b.next == len(b.queue) || len(b.tries) >= window {
		return nil, false
	}
	if b.tries == nil {
		b.tries = make(map[uint32]uint64)
	}
	o = &b.queue[b.next]
	b.next++
	if b.req++; b.req == 0 {
		b.req++ // 0 asks for no answer
	}
	o.req, again, o.tried = b.req, o.tried, true
	b.tries[b.req] = o.nonce
	return o, again
}

// answer takes an answer. stale says that it was to a try that another one followed, so that a refusal means nothing. known is
// false for a req that nothing was sent with, or a message that has its final answer.
func (b *outbox) answer(req uint32, code codec.Code) (o outgoing, stale, known bool) {
	nonce, ok := b.tries[req]
	if !ok {
		return outgoing{}, false, false
	}
	delete(b.tries, req)
	i, ok := slices.BinarySearchFunc(b.queue, nonce, func(o outgoing, n uint64) int {
		if o.nonce < n {
			return -1
		}
		return int(min(o.nonce-n, 1))
	})
	if !ok {
		return outgoing{}, false, false
	}
	o = b.queue[i]
	if stale = o.req != req; code.Temporary() {
		if !stale {
			b.next = min(b.next, i)
		}
		return o, stale, true
	}
	if o.done {
		return o, stale, false
	}
	b.queue[i].done = true
	for len(b.queue) > 0 && b.queue[0].done {
		b.queue = b.queue[1:]
		b.next = max(b.next-1, 0)
	}
	return o, stale, true
}

// rewind begins anew on another connection.
func (b *outbox) rewind() {
	b.next = 0
	clear(b.tries)
}
