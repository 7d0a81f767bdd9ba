package durable

import (
	"math"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// logChunk is how many messages one read of a channel's log goes over, at most.
const logChunk = 1024

// view is what a user may see of a channel now.
type view struct {
	ok     bool
	broken bool   // the group's records are damaged: nobody knows
	from   uint64 // the lowest seq
	joined uint64 // seq with which the user became a member of the group
	group  *group // of a group
	moving bool   // a change of the group is being written: what is said here may be over in a moment
}

// view asks for the right to read. For topics the shard has judged it.
func (w *reader) view(user string, ch store.Channel) (view, error) {
	switch ch.Kind {
	case codec.KindGroup:
	case codec.KindAll:
		return view{ok: ch.Name == codec.AllName, from: 1}, nil
	default:
		return view{ok: ch.Kind.Valid(), from: 1}, nil
	}
	moving := w.l.groups.changing(ch.Name)
	g, err := w.l.groups.get(ch.Name)
	if err != nil && lasting(err) {
		w.damaged(ch, err)
		return view{broken: true}, nil
	}
	if g == nil || err != nil {
		return view{moving: moving}, err
	}
	m, _ := g.member(user)
	from, ok := g.readableFrom(user)
	return view{ok: ok, from: max(1, from), joined: m.Joined, group: g, moving: moving}, nil
}

// damaged tells of data that will not be better when it is read again.
func (w *reader) damaged(ch store.Channel, err error) {
	w.r.counts.damaged.Add(1)
	w.r.complain("damaged data was left out of an answer; check the store and restore a backup", "channel", ch, "error", err)
}

// channelLog continues a channel's own log.
func (w *reader) channelLog(q *shard.Read) error {
	ch := store.Channel{Kind: q.Kind, Name: q.Name}
	v, err := w.view(q.User, ch)
	if err != nil {
		return err
	}
	switch {
	case v.broken:
		return errRecord
	case !v.ok, v.group != nil && !v.group.Large:
		q.Code = codec.CodeForbidden
		return nil
	}
	if q.Covered = q.After; q.After == math.MaxUint64 {
		return nil // nothing is above it, and no seq either
	}
	p, from := w.page.open(q.MaxBytes), q.After+1
	if from < v.from {
		p.gap(ch, from, v.from-1, codec.GapNoRight)
		from = v.from
	}
	low, n, err := w.read(ch, from, logChunk, q.MaxBytes)
	if err != nil {
		return err
	}
	if low > from {
		p.gap(ch, from, low-1, codec.GapExpired)
	}
	head, err := w.store.Head(ch) // behind Read, so that nothing between the two is taken for the end
	if err != nil {
		return err
	}
	told, covered := low-1, low-1
	now := w.l.now()
	for rest := w.raw; n > 0; n-- {
		f := rest[:frameLen(rest)]
		rest = rest[len(f):]
		seq := covered + 1
		switch {
		case len(q.Tags) > 0 && !tagged(f, q.Tags):
		case ttlOver(f, now):
			p.gap(ch, seq, seq, codec.GapExpired)
			told = seq
		default:
			p.message(f)
			told = seq
		}
		covered = seq
	}
	if told < covered {
		p.gap(ch, told+1, covered, codec.GapFiltered)
	}
	q.Frames, q.N = p.done()
	q.Covered, q.More = covered, covered < head.Seq
	return nil
}

// read reads messages into w.raw, from memory if they are there. low is the seq of the first; when there are none, the seq
// to go on with. It is above from when what lies between is gone.
func (w *reader) read(ch store.Channel, from uint64, limit, maxBytes int) (low uint64, n int, err error) {
	var first, next uint64
	w.raw, first, next, n, err = w.readOnto(w.raw[:0], ch, from, limit, maxBytes)
	if n > 0 {
		return first, n, err
	}
	return next, 0, err
}

// readOnto is store.Store's Read, from memory if the messages are there.
func (w *reader) readOnto(dst []byte, ch store.Channel, from uint64, limit, maxBytes int) (_ []byte, first, next uint64, n int, err error) {
	at := len(dst)
	dst, next, n, ok := w.l.recentFrom(ch, from, limit, maxBytes, dst)
	switch {
	case !ok || n == 0: // memory may be a commit behind the store
		return w.store.Read(ch, from, limit, maxBytes, dst[:at])
	case n > 0:
		first = from
	}
	return dst, first, next, n, nil
}

// frameLen is the length of the frame at the front of b.
func frameLen(b []byte) int {
	n, _, _, _ := codec.ConsumeHeader(b)
	return codec.HeaderLen + n
}

// ttlOver says whether a message's time to live has run out at a time in Unix milliseconds.
func ttlOver(frame []byte, now uint64) bool {
	if frame[codec.HeaderLen-1]&codec.FlagExt == 0 {
		return false
	}
	f, _, _ := codec.ConsumeFrame(frame, codec.MaxBody)
	ttl, ok := f.Ext.Uint32(codec.TagTTL)
	if !ok {
		return false
	}
	m, err := codec.ConsumeMsg(f)
	return err == nil && now >= m.Time && now-m.Time >= uint64(ttl)*1000
}

// tagged says whether a message carries one of the tags.
func tagged(frame []byte, tags []string) bool {
	if frame[codec.HeaderLen-1]&codec.FlagExt == 0 {
		return false
	}
	f, _, _ := codec.ConsumeFrame(frame, codec.MaxBody)
	for tag, v := range f.Ext.All() {
		if tag != codec.TagRoute {
			continue
		}
		for _, t := range tags {
			if t == string(v) {
				return true
			}
		}
	}
	return false
}

// page collects the frames of an answer: messages, and GAPs where some are left out. GAPs that continue one another
// are joined.
type page struct {
	buf    []byte
	max    int // bytes, about
	n      int // messages
	ch     store.Channel
	from   uint64 // of the GAP that is not in buf yet; 0: none
	to     uint64
	reason uint8
}

// open empties the page.
func (p *page) open(max int) *page {
	if cap(p.buf) > keepRaw {
		p.buf = nil
	}
	*p = page{buf: p.buf[:0], max: max}
	return p
}

// full says whether a message of n bytes has to wait for the next page. The first one never does.
func (p *page) full(n int) bool { return p.n > 0 && len(p.buf)+n > p.max }

func (p *page) message(frame []byte) {
	p.endGap()
	p.buf = append(p.buf, frame...)
	p.n++
}

// gap tells that from…to are left out.
func (p *page) gap(ch store.Channel, from, to uint64, reason uint8) {
	if p.from != 0 && p.to+1 == from && p.reason == reason && p.ch == ch {
		p.to = to
		return
	}
	p.endGap()
	p.ch, p.from, p.to, p.reason = ch, from, to, reason
}

func (p *page) endGap() {
	if p.from != 0 {
		p.buf = codec.AppendGap(p.buf, codec.Gap{Kind: p.ch.Kind, Name: []byte(p.ch.Name), From: p.from, To: p.to, Reason: p.reason})
		p.from = 0
	}
}

// done returns the frames, in memory of their own, and the number of messages.
func (p *page) done() (frames []byte, n int) {
	p.endGap()
	if len(p.buf) == 0 {
		return nil, 0
	}
	return append(make([]byte, 0, len(p.buf)), p.buf...), p.n
}
