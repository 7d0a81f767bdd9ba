package durable

import (
	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// pullMax is how many messages one PULL gets, at most.
const pullMax = 1000

// pull answers a PULL: GAPs for what of the range cannot be had, RANGE, its messages, and the receipts in force.
func (w *reader) pull(q *shard.Read) error {
	ch := store.Channel{Kind: q.Kind, Name: q.Name}
	v, err := w.view(q.User, ch)
	if err != nil {
		return err
	}
	if v.broken {
		return errRecord
	}
	if code := mayPull(q, &v); code != codec.CodeOK {
		refuse(q, code)
		return nil
	}
	head, err := w.store.Head(ch)
	if err != nil {
		return err
	}
	msgs, gaps := w.page.open(q.MaxBytes), w.gaps.open(q.MaxBytes)
	from := q.After
	switch {
	case from == 0:
		from = max(head.First, v.from)
	case from < v.from:
		gaps.gap(ch, from, v.from-1, codec.GapNoRight)
		from = v.from
	}
	next := head.Seq + 1
	if from < next {
		if next, err = w.pullFrom(ch, from, min(q.Limit, pullMax), q.MaxBytes); err != nil {
			return err
		}
	}
	gaps.endGap()
	answer := codec.Range{Req: q.Req, Count: uint16(msgs.n), Next: next, Epoch: w.store.Epoch()}
	frames := codec.AppendRange(append(make([]byte, 0, len(gaps.buf)+len(msgs.buf)+64), gaps.buf...), answer)
	frames = append(frames, msgs.buf...)
	if ch.Kind == codec.KindDirect || ch.Kind == codec.KindGroup {
		for _, r := range w.l.receipts(ch, q.User) {
			frames = codec.AppendReceipt(frames, r)
		}
	}
	q.Frames, q.N, q.Head, q.Next = frames, msgs.n, head.Seq, next
	return nil
}

// mayPull judges who may have a channel's history. Who is not in a group does not learn whether there is one.
func mayPull(q *shard.Read, v *view) codec.Code {
	switch {
	case !codec.ValidName(q.Kind, []byte(q.Name)), !q.Kind.Valid(), q.Limit <= 0:
		return codec.CodeInvalid
	case q.Kind == codec.KindGroup && !v.ok:
		return codec.CodeNotFound
	case !v.ok:
		return codec.CodeInvalid // kind all under another name
	case q.Kind == codec.KindDirect:
		if a, b, _ := codec.SplitPair([]byte(q.Name)); string(a) != q.User && string(b) != q.User {
			return codec.CodeForbidden
		}
	}
	return codec.CodeOK
}

// pullFrom puts messages on w.page, and on w.gaps what of them cannot be had; next is the seq to go on with.
func (w *reader) pullFrom(ch store.Channel, from uint64, limit, maxBytes int) (next uint64, err error) {
	low, n, err := w.read(ch, from, limit, maxBytes)
	if err != nil {
		return 0, err
	}
	if low > from {
		w.gaps.gap(ch, from, low-1, codec.GapExpired)
	}
	next = low
	now := w.l.now()
	for rest := w.raw; n > 0; n-- {
		f := rest[:frameLen(rest)]
		rest = rest[len(f):]
		if ttlOver(f, now) {
			w.gaps.gap(ch, next, next, codec.GapExpired)
		} else {
			w.page.message(f)
		}
		next++
	}
	return next, nil
}
