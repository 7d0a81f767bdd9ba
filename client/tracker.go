package client

import (
	"cmp"
	"slices"
	"sync"

	"gannet/codec"
)

// maxPlaces is how many channels a client knows its place in. Beyond it those that were silent for longest are forgotten: what the
// server sends again of them is no longer known.
const maxPlaces = 1 << 14

// tracker knows how far this client is: in the inbox, and in each channel what came, what the handlers are done with, and what the
// server was told. It drops what came twice and finds what is missing (holes.go). It outlives connections.
type tracker struct {
	// static after init
	keepEcho bool
	pulse    chan struct{} // to tend: there is something to acknowledge or to pull
	save     chan struct{} // to keep: positions have moved

	mu     sync.Mutex
	places map[Channel]*place // guarded by mu, bounded
	most   int                // guarded by mu: places after which room is made
	uses   uint64             // guarded by mu: counts, to find what was silent
	epoch  uint64             // guarded by mu: of the server's store, as told at the last login; 0: it has none
	holes  int                // guarded by mu: channels with a hole
	came   uint64             // guarded by mu: the position of the inbox that came last on this connection
	later  uint64             // guarded by mu: a position that waits for holes to be filled; 0: none
	flying map[Channel]int    // guarded by mu: own durable SENDs without an answer, on this connection
	mend   []*place           // guarded by mu: holes to be pulled, each once
	// mending: somebody pulls; guarded by mu.
	mending bool
	done    progress // guarded by mu: what the handlers are done with
}

// place is where this client is in one channel. Guarded by tracker.mu.
type place struct {
	ch       Channel
	used     uint64 // tracker.uses of the last time
	epoch    uint64
	known    bool       // last is
	last     uint64     // everything up to here came, is gone, or is this client's own
	posted   uint64     // the handlers' queue knows of everything up to here
	own      []seqRange // acknowledged own messages above last, ascending, with others between
	log      bool       // read from its own log
	wanted   bool       // subscribed to, or was in a process before
	filtered bool       // only some of its messages come
	hole     hole

	finished uint64 // the handlers are done up to here,
	inEpoch  uint64 // in this epoch
	guess    bool   // finished is what the server is taken to go on from
}

// seqRange is a range of seqs, both ends included.
type seqRange struct{ from, to uint64 }

// item is something that came: a message, or a GAP.
type item struct {
	seqRange
	ev event
}

// verdict is what to do with something that came.
type verdict uint8

const (
	pass verdict = iota // hand it on
	drop                // it is known
	hold                // something before it is missing
)

func (t *tracker) init(keepEcho bool) {
	t.keepEcho, t.most = keepEcho, maxPlaces
	t.pulse, t.save = make(chan struct{}, 1), make(chan struct{}, 1)
	t.places, t.flying = make(map[Channel]*place), make(map[Channel]int)
	t.done.init()
}

// wake leaves a note in a channel of one place.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// at returns the place of a channel and makes it. Called with mu.
func (t *tracker) at(ch Channel) *place {
	p := t.places[ch]
	if p == nil {
		if len(t.places) >= t.most {
			t.forgetSilent()
		}
		p = &place{ch: ch, epoch: t.epoch}
		t.places[ch] = p
	}
	t.uses++
	p.used = t.uses
	return p
}

// forgetSilent makes room. What is subscribed to, read from a log or incomplete is kept: its positions are needed.
func (t *tracker) forgetSilent() {
	var silent []*place
	for _, p := range t.places {
		if !p.wanted && !p.log && !p.hole.open {
			silent = append(silent, p)
		}
	}
	slices.SortFunc(silent, func(a, b *place) int { return cmp.Compare(a.used, b.used) })
	for _, p := range silent[:min(len(silent), maxPlaces/8)] {
		delete(t.places, p.ch)
	}
	t.most = max(maxPlaces, len(t.places)+maxPlaces/8) // more than that are needed
}

// arrived judges a message with a seq, or a GAP. After one that passes next says what else has its turn. When the hole before
// it is too large to be pulled, skipped tells what of it is left out.
func (t *tracker) arrived(ch Channel, log bool, it *item) (p *place, v verdict, skipped *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p = t.at(ch)
	p.log = p.log || log
	it.ev.mark = mark{place: p, epoch: p.epoch, seq: it.to}
	if it.ev.kind == eventMessage {
		it.ev.message.Epoch = p.epoch
	}
	switch {
	case !p.known:
		p.known, p.last = true, it.from-1
	case it.to <= p.last:
		return p, drop, nil
	case it.from > p.last+1 && !p.filtered:
		if p.absorb(); it.to <= p.last {
			return p, drop, nil
		}
		if it.from > p.last+1 {
			skipped = p.skip(it.from - 1)
			t.hold(p, it)
			return p, hold, skipped
		}
	}
	p.last = it.to
	p.posted = p.last
	return p, pass, nil
}

// absorb moves last over own messages that follow it.
func (p *place) absorb() {
	for len(p.own) > 0 && p.own[0].from <= p.last+1 {
		p.last = max(p.last, p.own[0].to)
		p.own = p.own[1:]
	}
}

// position takes a position of the inbox; post is the one that the handlers are to hear of, 0 for none.
func (t *tracker) position(pos uint64) (post, epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pos <= t.came {
		return 0, 0 // what is sent again has positions again
	}
	t.came = pos
	if t.holes > 0 {
		t.later = pos
		return 0, 0
	}
	return pos, t.epoch
}

// filled returns the position that waited for holes, once there are none; 0 otherwise.
func (t *tracker) filled() (pos, epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holes > 0 || t.later == 0 {
		return 0, 0
	}
	pos, t.later = t.later, 0
	return pos, t.epoch
}

// login begins a connection: what was not filled comes again, from where the handlers are done. With void the server's log is not the
// one that was known, or has been set back.
func (t *tracker) login(epoch uint64, void bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.flying)
	t.mend, t.mending, t.later, t.came = nil, false, 0, 0
	for _, p := range t.places {
		if p.hole.open {
			t.closed(p)
		}
	}
	if epoch == 0 || epoch == t.epoch && !void {
		return
	}
	if t.epoch != 0 {
		t.done.reset(epoch)
	}
	t.epoch = epoch
	for _, p := range t.places {
		if p.ch.Kind != codec.KindTopic && (p.epoch != epoch || void) {
			p.reset(epoch)
		}
	}
}

// reset voids what is known of a channel: seqs of another epoch mean other messages.
func (p *place) reset(epoch uint64) {
	p.epoch, p.known, p.last, p.posted, p.own = epoch, false, 0, 0, nil
}

// subscribed takes what the server said about a topic that was asked for. The mark is for the handlers' queue, if ok: from
// there the topic goes on after a reconnect, even if no message comes.
func (t *tracker) subscribed(topic string, filtered bool, state ResumeState, epoch, head uint64) (m mark, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state == Refused {
		return m, false
	}
	p := t.at(Topic(topic))
	p.wanted, p.filtered = true, filtered
	if epoch == 0 {
		return m, false
	}
	if p.epoch != epoch || state == Reset {
		p.reset(epoch)
	}
	switch state {
	case Live:
		p.known, p.last = true, max(p.last, head)
		p.posted = p.last
		return mark{place: p, epoch: epoch, seq: p.last}, true
	case Reset: // the server goes on at the head or below it: the first message tells
		return mark{place: p, epoch: epoch, seq: head, guess: true}, true
	}
	return m, false
}

// drop forgets a topic that is no longer wanted.
func (t *tracker) drop(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := Topic(topic)
	if p := t.places[ch]; p != nil {
		if p.hole.open {
			t.closed(p)
		}
		delete(t.places, ch)
		delete(t.done.due, p)
		wake(t.save)
	}
}
