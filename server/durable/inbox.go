package durable

import (
	"errors"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

const (
	inboxChunk = 512     // references taken at once
	minRefs    = 16      // and at least, however small the answer may be
	refBytes   = 128     // bytes of an answer for which one reference is looked up
	firstAhead = 4 << 10 // bytes read ahead in a channel at first, doubled each time
)

// inboxChannel is the channel in a GAP that speaks of positions of the inbox.
var inboxChannel = store.Channel{Kind: codec.KindInbox}

// inbox continues an inbox.
func (w *reader) inbox(q *shard.Read) error {
	_, err := w.inboxFrom(q, q.After, true)
	return err
}

// inboxFrom answers with what a user's inbox has above after. When older things expired it begins above them: first is
// where, and tell says whether a GAP tells it.
func (w *reader) inboxFrom(q *shard.Read, after uint64, tell bool) (first uint64, err error) {
	limit := min(inboxChunk, max(minRefs, q.MaxBytes/refBytes))
	refs, next, err := w.store.Inbox(q.User, after, limit, w.refs[:0])
	if err != nil {
		return after, err
	}
	w.refs, q.More = refs, len(refs) == limit && next < w.store.Place()
	if first, err = w.store.InboxFirst(q.User); err != nil {
		return after, err
	}
	p := w.page.open(q.MaxBytes)
	if after >= first {
		first = after
	} else if tell {
		p.gap(inboxChannel, after+1, first, codec.GapExpired)
	}
	for len(refs) > 0 && refs[0].Pos <= first {
		refs = refs[1:]
	}
	n, err := w.emit(p, q.User, refs)
	if err != nil {
		return after, err
	}
	if q.Covered = max(first, next); n < len(refs) {
		q.Covered, q.More = refs[n].Pos-1, true
	}
	q.Frames, q.N = p.done()
	return first, nil
}

// emit puts the messages of references on the page, in their order, until it is full; n is how many references it got through.
func (w *reader) emit(p *page, user string, refs []store.Ref) (n int, err error) {
	w.raw = w.raw[:0]
	if err := w.heads.count(w, user, refs); err != nil {
		return 0, err
	}
	now := w.l.now()
	for i, ref := range refs {
		a := w.heads.of(i)
		f, why, err := w.message(a, ref, p.max)
		if err != nil {
			return i, err
		}
		if why == codec.GapNoRight && a.view.moving {
			return i, nil // the entry with which the user joins is there already; what it refers to will be
		}
		if why == 0 && ttlOver(f, now) {
			why = codec.GapExpired
		}
		if why != 0 {
			p.gap(ref.Channel, ref.Seq, ref.Seq, why)
			continue
		}
		if p.full(len(f)) {
			return i, nil
		}
		p.message(f)
	}
	return len(refs), nil
}

// ahead is what was read ahead of one channel. The references of a conversation lie scattered among others in the inbox, but
// in the channel they are neighbours.
type ahead struct {
	view     view
	refs     int    // that are not got through yet
	next     uint64 // seq of the first frame that is left
	left     int    // frames
	from, to int    // where in reader.raw they are
	bytes    int    // to be read next time
}

// aheads are the channels of a chunk of references.
type aheads struct {
	list  []ahead
	by    map[store.Channel]int
	place []int // by reference: its channel in list
}

func (h *aheads) of(ref int) *ahead { return &h.list[h.place[ref]] }

// count finds the channels of references, and what the user may see of them.
func (h *aheads) count(w *reader, user string, refs []store.Ref) error {
	if h.by == nil {
		h.by = make(map[store.Channel]int)
	}
	clear(h.by)
	h.list, h.place = h.list[:0], h.place[:0]
	for i := range refs {
		at, known := 0, false
		if i > 0 && refs[i].Channel == refs[i-1].Channel {
			at, known = h.place[i-1], true
		} else {
			at, known = h.by[refs[i].Channel]
		}
		if !known {
			v, err := w.view(user, refs[i].Channel)
			if err != nil {
				return err
			}
			at = len(h.list)
			h.by[refs[i].Channel] = at
			h.list = append(h.list, ahead{view: v, bytes: firstAhead})
		}
		h.list[at].refs++
		h.place = append(h.place, at)
	}
	return nil
}

// message returns the frame of a reference, valid until the next one is asked for, or the reason of a GAP. What is damaged
// does not stop an inbox: PULL of it will fail, and says so.
func (w *reader) message(a *ahead, ref store.Ref, most int) (frame []byte, why uint8, err error) {
	left := a.refs
	a.refs--
	switch {
	case a.view.broken:
		return nil, codec.GapNotSent, nil
	case !a.view.ok || ref.Seq < a.view.from:
		return nil, codec.GapNoRight, nil
	}
	for a.left > 0 && a.next < ref.Seq { // not in the inbox: from a time when the user was no member
		a.skip(w.raw)
	}
	if a.left == 0 && a.next <= ref.Seq {
		err := w.readAhead(a, ref, left, min(a.bytes, most))
		if errors.Is(err, store.ErrCorrupt) {
			w.damaged(ref.Channel, err)
			return nil, codec.GapNotSent, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if a.left == 0 || a.next != ref.Seq {
		return nil, codec.GapExpired, nil
	}
	return a.skip(w.raw), 0, nil
}

// readAhead reads messages from a reference on.
func (w *reader) readAhead(a *ahead, ref store.Ref, limit, maxBytes int) error {
	at := len(w.raw)
	raw, first, next, n, err := w.readOnto(w.raw, ref.Channel, ref.Seq, limit, maxBytes)
	if err != nil {
		a.left, a.next = 0, ref.Seq // what was read before the damage is not known to be whole
		return err
	}
	w.raw = raw
	a.from, a.to, a.left, a.next = at, len(raw), n, next
	a.bytes *= 2
	if n > 0 {
		a.next = first
	}
	return nil
}

// skip takes the first frame that is left.
func (a *ahead) skip(raw []byte) []byte {
	f := raw[a.from : a.from+frameLen(raw[a.from:a.to])]
	a.from += len(f)
	a.next++
	a.left--
	return f
}
