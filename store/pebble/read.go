package pebble

import (
	"errors"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"gannet/codec"
	"gannet/store"
)

// Head is store.Store's. What the batch in progress has is not in it.
func (d *DB) Head(c store.Channel) (store.Head, error) {
	if err := d.enter(); err != nil {
		return store.Head{}, err
	}
	defer d.leave()
	channel, ok := channelOf(c)
	if !ok {
		return store.Head{First: 1}, nil
	}
	for {
		h, again, err := d.headOnce(channel)
		if err != nil || !again {
			return h, err
		}
	}
}

// headOnce reads a head. again: what the record tells of was removed meanwhile.
func (d *DB) headOnce(channel []byte) (h store.Head, again bool, err error) {
	place := d.place.Load()
	rec, err := d.record(channel)
	if err != nil {
		return h, false, err
	}
	h = store.Head{First: rec.first, Seq: rec.head}
	for i := len(rec.buckets) - 1; i >= 0; i-- {
		it, err := d.iter(appendMsgPrefix(nil, rec.buckets[i].bucket, channel))
		if err != nil {
			return h, false, err
		}
		found, any, err := lastBelow(it, place, &h)
		if e := closeIter(it); err == nil {
			err = e
		}
		if err != nil || found {
			return clamp(h), false, err
		}
		if !any {
			again, err = d.changed(channel, &rec)
			return h, again, err
		}
	}
	return clamp(h), false, nil
}

// changed tells whether a channel's record is another one by now; if it is not, what it tells of ought to have been found.
func (d *DB) changed(channel []byte, rec *headRecord) (bool, error) {
	now, err := d.record(channel)
	if err != nil {
		return false, err
	}
	if now.first == rec.first {
		return false, damaged("messages are missing")
	}
	return true, nil
}

// channelOf is a channel as keys have it; ok is false for a name that no channel can have.
func channelOf(c store.Channel) (channel []byte, ok bool) {
	if len(c.Name) == 0 || len(c.Name) > codec.MaxPair {
		return nil, false
	}
	return appendChannel(nil, c.Kind, []byte(c.Name)), true
}

// lastBelow finds the last chunk at or below a place; any tells whether there are chunks at all.
func lastBelow(it *pebble.Iterator, place uint64, h *store.Head) (found, any bool, err error) {
	for ok := it.Last(); ok; ok = it.Prev() {
		any = true
		at, n, _, err := msgHeader(it.Value())
		if err != nil {
			return false, true, err
		}
		if at <= place {
			h.Seq = max(h.Seq, lastU64(it.Key())+uint64(n)-1)
			return true, true, nil
		}
	}
	return false, any, nil
}

func clamp(h store.Head) store.Head {
	h.First = min(h.First, h.Seq+1)
	return h
}

// record reads what is written about a channel; a channel that never was has first 1 and nothing else.
func (d *DB) record(channel []byte) (rec headRecord, err error) {
	v, done, err := d.db.Get(appendHeadKey(nil, channel))
	if errors.Is(err, pebble.ErrNotFound) {
		return headRecord{first: 1}, nil
	}
	if err != nil {
		return rec, wrapRead(err)
	}
	defer done.Close()
	return rec, rec.read(v)
}

// Read is store.Store's.
func (d *DB) Read(c store.Channel, from uint64, limit, maxBytes int, dst []byte) (frames []byte, first, next uint64, n int, err error) {
	if err := d.enter(); err != nil {
		return dst, 0, from, 0, err
	}
	defer d.leave()
	r := reading{place: d.place.Load(), limit: limit, room: maxBytes, dst: dst, next: max(from, 1)}
	if channel, ok := channelOf(c); ok {
		err = d.read(&r, channel)
	}
	return r.dst, r.first, r.next, r.n, err
}

func (d *DB) read(r *reading, channel []byte) error {
	for {
		rec, err := d.record(channel)
		if err != nil {
			return err
		}
		r.next = max(r.next, rec.first)
		if r.limit <= 0 {
			return nil
		}
		for i, b := range rec.buckets {
			if i+1 < len(rec.buckets) && rec.buckets[i+1].seq <= r.next {
				continue // all of it is below
			}
			if err := d.readBucket(r, b.bucket, channel); err != nil || r.full {
				return err
			}
			if i+1 < len(rec.buckets) && rec.buckets[i+1].seq > r.next {
				r.hole = true
				break
			}
		}
		if !r.hole || r.n > 0 {
			return nil // the end, or what removed the rest is told of in the next call
		}
		r.hole = false
		if _, err := d.changed(channel, &rec); err != nil {
			return err
		}
	}
}

func (d *DB) readBucket(r *reading, bucket uint32, channel []byte) error {
	it, err := d.iter(appendMsgPrefix(nil, bucket, channel))
	if err != nil {
		return err
	}
	err = r.bucket(it, appendMsgKey(nil, bucket, channel, r.next))
	if e := closeIter(it); err == nil {
		err = e
	}
	return err
}

// reading is the state of one Read.
type reading struct {
	place       uint64
	limit, room int
	dst         []byte
	first, next uint64
	n           int
	full        bool
	hole        bool // something between next and what was found is not there: removed, or lost
}

// bucket reads chunks from the one that holds next.
func (r *reading) bucket(it *pebble.Iterator, key []byte) error {
	ok := it.SeekLT(append(key, 0)) // the chunk that begins at or below next
	if !ok {
		ok = it.First()
	}
	for ; ok && !r.full; ok = it.Next() {
		place, count, frames, err := msgHeader(it.Value())
		if err != nil {
			return err
		}
		if place > r.place {
			r.full = true // not synced yet
			return nil
		}
		seq := lastU64(it.Key())
		if seq > r.next {
			r.hole = true
			return nil
		}
		if err := r.chunk(seq, count, frames); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) chunk(seq uint64, count int, frames []byte) error {
	for range count {
		l := frameLen(frames)
		if l == 0 {
			return damaged("message chunk")
		}
		if seq >= r.next {
			if r.n >= r.limit || r.n > 0 && l > r.room {
				r.full = true
				return nil
			}
			if r.n == 0 {
				r.first = seq
			}
			r.dst = append(r.dst, frames[:l]...)
			r.room -= l
			r.n++
			r.next = seq + 1
		}
		frames = frames[l:]
		seq++
	}
	return nil
}

// Inbox is store.Store's.
func (d *DB) Inbox(user string, after uint64, limit int, dst []store.Ref) ([]store.Ref, uint64, error) {
	if err := d.enter(); err != nil {
		return dst, after, err
	}
	defer d.leave()
	place := d.place.Load()
	if limit <= 0 || after >= place || len(user) > codec.MaxID {
		return dst, after, nil
	}
	end := len(dst) + limit
	for _, b := range d.bucketsFrom(after + 1) {
		var err error
		if dst, after, err = d.inboxBucket(b.bucket, user, after, place, end, dst); err != nil || len(dst) == end {
			return dst, after, err
		}
	}
	return dst, place, nil
}

// inboxBucket reads references until dst has end of them.
func (d *DB) inboxBucket(bucket uint32, user string, after, place uint64, end int, dst []store.Ref) (_ []store.Ref, _ uint64, err error) {
	it, err := d.iter(appendInboxPrefix(nil, bucket, []byte(user)))
	if err != nil {
		return dst, after, err
	}
	defer func() {
		if e := closeIter(it); err == nil {
			err = e
		}
	}()
	ok := it.SeekLT(appendInboxKey(nil, bucket, []byte(user), after+1))
	if !ok {
		ok = it.First()
	}
	for ; ok; ok = it.Next() {
		c := refs{b: it.Value(), pos: lastU64(it.Key())}
		for {
			ref, more, err := c.next()
			if err != nil {
				return dst, after, err
			}
			if !more || ref.Pos > place {
				break
			}
			if ref.Pos <= after {
				continue
			}
			if dst, after = append(dst, ref), ref.Pos; len(dst) == end {
				return dst, after, nil
			}
		}
	}
	return dst, after, nil
}

// bucketsFrom are the buckets that may hold a place or one above it, in order.
func (d *DB) bucketsFrom(place uint64) []bucketStart {
	d.bucketsMu.RLock()
	defer d.bucketsMu.RUnlock()
	i := sort.Search(len(d.buckets), func(i int) bool { return d.buckets[i].seq > place })
	return append([]bucketStart(nil), d.buckets[max(0, i-1):]...)
}

// InboxFirst is store.Store's: everything since the first bucket that is kept is there.
func (d *DB) InboxFirst(string) (uint64, error) {
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.leave()
	place := d.place.Load() // before the buckets: a new one's first place is above it
	d.bucketsMu.RLock()
	defer d.bucketsMu.RUnlock()
	if len(d.buckets) == 0 {
		return place, nil
	}
	return d.buckets[0].seq - 1, nil
}
