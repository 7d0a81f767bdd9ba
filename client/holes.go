package client

import (
	"slices"

	"gannet/codec"
)

const (
	maxOwn    = 256     // ranges of own messages that are remembered, a channel
	maxHeld   = 64      // messages that wait for those before them, a channel
	heldBytes = 1 << 20 // of these, a channel
	maxHole   = PullMax // messages that are pulled without being asked for; of a larger hole only the newest
	maxMends  = 8       // times in a row that a PULL may fail
)

// hole is what is missing in a channel: from place.last+1 on. It is explained by own messages, of which no MSG comes, or pulled. What comes
// meanwhile waits, if there is room; otherwise it is left out up to target and pulled as well.
type hole struct {
	open   bool
	await  int    // own SENDs whose answers may explain it
	held   []item // ascending, above last
	bytes  int    // of held
	target uint64 // the newest message that came and is not held; 0: none
	queued bool   // in tracker.mend, or being pulled
	from   uint64 // being pulled from here
	failed int    // PULLs in a row
}

// echoes says whether own messages come back to the session that sent them, so that they explain no hole.
func (t *tracker) echoes(ch Channel) bool {
	return ch.Kind != codec.KindDirect && (ch.Kind != codec.KindGroup || t.keepEcho)
}

// sending counts an own SEND that is on its way.
func (t *tracker) sending(ch Channel) {
	t.mu.Lock()
	t.flying[ch]++
	t.mu.Unlock()
}

// sent takes the answer to an own SEND; seq is 0 when it got none. Then next says what has its turn in the place, if there is one.
func (t *tracker) sent(ch Channel, seq uint64) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flying[ch]--; t.flying[ch] <= 0 {
		delete(t.flying, ch)
	}
	if t.echoes(ch) {
		return nil
	}
	p := t.places[ch]
	if p == nil && seq != 0 {
		p = t.at(ch)
	}
	if p == nil {
		return nil
	}
	if seq > p.last || !p.known && seq != 0 {
		p.addOwn(seq)
	}
	if p.hole.await > 0 {
		p.hole.await--
	}
	return p
}

// addOwn notes the seq of an own message. When there are too many ranges the newest is forgotten: then it is pulled.
func (p *place) addOwn(seq uint64) {
	i, found := slices.BinarySearchFunc(p.own, seq, func(r seqRange, seq uint64) int {
		switch {
		case r.to < seq:
			return -1
		case r.from > seq:
			return 1
		}
		return 0
	})
	before := i > 0 && p.own[i-1].to+1 == seq
	behind := i < len(p.own) && p.own[i].from == seq+1
	switch {
	case found:
	case before && behind:
		p.own[i-1].to = p.own[i].to
		p.own = slices.Delete(p.own, i, i+1)
	case before:
		p.own[i-1].to = seq
	case behind:
		p.own[i].from = seq
	default:
		p.own = slices.Insert(p.own, i, seqRange{seq, seq})
		p.own = p.own[:min(len(p.own), maxOwn)]
	}
}

// skip leaves out what is too much of a new hole that ends with seq to; nil: nothing.
func (p *place) skip(to uint64) *event {
	if p.hole.open || to-p.last <= maxHole {
		return nil
	}
	return p.gapTo(to-maxHole, codec.GapNotSent)
}

// gapTo gives up what is missing up to a seq, and tells it.
func (p *place) gapTo(to uint64, reason uint8) *event {
	g := Gap{Channel: p.ch, From: p.last + 1, To: to, Reason: reason}
	p.last, p.posted = to, to
	return &event{kind: eventGap, gap: g, mark: mark{place: p, epoch: p.epoch, seq: to}}
}

// hold keeps what came too early and sees to the hole before it. Called with mu.
func (t *tracker) hold(p *place, it *item) {
	h := &p.hole
	n, size := len(h.held), it.size()
	switch {
	case n > 0 && it.to <= h.held[n-1].to, it.to <= h.target: // it came again
	case h.target > 0 || n >= maxHeld || h.bytes+size > heldBytes:
		h.target = it.to
	default:
		h.held = append(h.held, *it)
		h.bytes += size
	}
	t.open(p)
}

// open notes a hole. Called with mu.
func (t *tracker) open(p *place) {
	if p.hole.open {
		return
	}
	p.hole.open = true
	t.holes++
	if !t.echoes(p.ch) {
		p.hole.await = t.flying[p.ch]
	}
	t.pull(p)
}

// pull has tend pull what is missing, unless own messages may explain it. Called with mu.
func (t *tracker) pull(p *place) {
	if h := &p.hole; h.open && !h.queued && h.await == 0 {
		h.queued = true
		t.mend = append(t.mend, p)
		wake(t.pulse)
	}
}

func (it *item) size() int { return len(it.ev.message.Payload) + 256 }

// missing takes a GAP that says that messages can be had by PULL; nil when this client does not follow the channel.
func (t *tracker) missing(ch Channel, r seqRange) (p *place, skipped *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p = t.places[ch]; p == nil || p.filtered {
		return nil, nil
	}
	if !p.known {
		p.known, p.last = true, r.from-1
		p.posted = p.last
	}
	if r.to <= p.last {
		return p, nil
	}
	skipped = p.skip(r.to)
	p.hole.target = max(p.hole.target, r.to)
	t.open(p)
	return p, skipped
}

// next hands out what has its turn in a place now: something held, or the news that own messages moved it. ok is false when there is
// nothing more.
func (t *tracker) next(p *place) (ev event, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &p.hole
	p.absorb()
	for len(h.held) > 0 && h.held[0].from <= p.last+1 {
		it := h.held[0]
		h.held = slices.Delete(h.held, 0, 1)
		h.bytes -= it.size()
		if it.to > p.last { // else it was pulled
			p.last, p.posted = it.to, it.to
			return it.ev, true
		}
	}
	if h.open && len(h.held) == 0 && p.last >= h.target {
		t.closed(p)
	}
	t.pull(p)
	if p.known && p.posted < p.last {
		p.posted = p.last
		return event{kind: eventMark, mark: mark{place: p, epoch: p.epoch, seq: p.last}}, true
	}
	return event{}, false
}

// closed ends a hole. Called with mu.
func (t *tracker) closed(p *place) {
	p.hole = hole{}
	t.holes--
}

// end is the last seq of a hole. Called with mu.
func (h *hole) end() uint64 {
	if len(h.held) > 0 {
		return h.held[0].from - 1
	}
	return h.target
}

// startMending says that somebody is needed to pull.
func (t *tracker) startMending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mending || len(t.mend) == 0 {
		return false
	}
	t.mending = true
	return true
}

// toMend returns the next hole to pull, from where, and how many messages; nil ends the mending.
func (t *tracker) toMend() (p *place, from uint64, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.mend) > 0 {
		p, t.mend = t.mend[0], t.mend[1:]
		if end := p.hole.end(); p.hole.open && end > p.last {
			p.hole.from = p.last + 1
			return p, p.hole.from, int(min(end-p.last, maxHole))
		}
		p.hole.queued = false // filled meanwhile
	}
	t.mending = false
	return nil, 0, 0
}

// giveUp ends the waiting for what is missing up to a seq, as far as there is a hole: it is gone.
func (t *tracker) giveUp(p *place, to uint64) *event {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.absorb()
	if to = min(to, p.hole.end()); !p.hole.queued || to <= p.last {
		return nil
	}
	return p.gapTo(to, codec.GapExpired)
}

// mended takes the end of a PULL; all that it brought has arrived. One that failed for now is queued again, one that failed for good, or
// got nowhere, ends the hole with a gap.
func (t *tracker) mended(p *place, code codec.Code) (gap *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &p.hole
	if !h.queued {
		return nil // of a topic that was dropped
	}
	if code.Temporary() && h.failed < maxMends {
		h.failed++
		t.mend = append(t.mend, p)
		return nil
	}
	h.queued, h.failed = false, 0
	if end := h.end(); end > p.last && (code != codec.CodeOK || p.last < h.from) {
		return p.gapTo(end, codec.GapNotSent)
	}
	return nil
}
