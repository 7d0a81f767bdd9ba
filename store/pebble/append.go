package pebble

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"gannet/codec"
	"gannet/store"
)

// chunkBytes is the size from which a channel's chunk is closed and the next one begun.
const chunkBytes = 64 << 10

// Append is store.Store's. It numbers and dedupes, writes one batch and syncs it.
func (d *DB) Append(batch []store.Message, results []store.Result) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure(); err != nil {
		return err
	}
	before := d.next
	d.now.last = d.lastBucket()
	d.now.link = slices.Grow(d.now.link, len(batch))[:len(batch)]
	for i := range batch {
		results[i] = d.add(&batch[i], int32(i))
	}
	if d.next > before {
		if err := d.store(batch, results); err != nil {
			d.fail(err)
		}
	}
	if err := d.failure(); err != nil { // whatever Pebble said
		d.forget(before)
		return err
	}
	d.place.Store(d.next)
	d.now.reset()
	d.heads.age()
	d.devices.age()
	d.users.age()
	return nil
}

// store writes what add has numbered, and syncs it.
func (d *DB) store(batch []store.Message, results []store.Result) error {
	w := d.batch
	w.Reset()
	bucket := d.bucketAt(w, d.now.latest)
	d.now.sort()
	for _, h := range d.now.heads {
		if err := d.writeHead(w, bucket, h, batch, results); err != nil {
			return err
		}
	}
	for _, u := range d.now.users {
		d.writeInbox(w, bucket, u, results)
	}
	for _, dev := range d.now.devices {
		d.writeDevice(w, dev)
	}
	_ = w.Set(keyPlace, be.AppendUint64(d.scratch[:0], d.next), nil)
	if err := d.room(w.Len()); err != nil {
		return err
	}
	return w.Commit(pebble.Sync)
}

// bucketOf is the bucket of a time in Unix milliseconds.
func (d *DB) bucketOf(time uint64) uint32 {
	return uint32(min(time/uint64(d.opts.Bucket.Milliseconds()), 1<<32-1))
}

// lastBucket is the one that the last commit went to; 0 when none is kept.
func (d *DB) lastBucket() uint32 {
	d.bucketsMu.RLock()
	defer d.bucketsMu.RUnlock()
	if l := len(d.buckets); l > 0 {
		return d.buckets[l-1].bucket
	}
	return 0
}

// bucketAt is the bucket of this commit: that of its latest time, but never one before the last. A new one is noted with
// the first place of the commit.
func (d *DB) bucketAt(w *pebble.Batch, latest uint64) uint32 {
	bucket, first := d.bucketOf(latest), d.place.Load()+1
	d.bucketsMu.Lock()
	defer d.bucketsMu.Unlock()
	if l := len(d.buckets); l > 0 && d.buckets[l-1].bucket >= bucket {
		return d.buckets[l-1].bucket
	}
	d.buckets = append(d.buckets, bucketStart{bucket, first})
	_ = w.Set(bucketKey(bucket), be.AppendUint64(nil, first), nil)
	return bucket
}

// add numbers one message and links it to those of its channel, its device and its inboxes.
func (d *DB) add(m *store.Message, i int32) store.Result {
	at, ok := m.SeqAt()
	if !ok {
		return store.Result{Code: codec.CodeInvalid}
	}
	h, err := d.head(m.Kind, m.Name, d.bucketOf(m.Time))
	if err != nil {
		return d.refuse(m, err)
	}
	if len(m.Device) > 0 {
		known, seq, err := d.stamp(m, h.seq+1)
		switch {
		case err != nil:
			return d.refuse(m, err)
		case known:
			return store.Result{Code: codec.CodeDuplicate, Seq: seq}
		}
	}
	d.next++
	h.seq++
	store.SetSeq(m.Frame, at, h.seq)
	d.now.latest = max(d.now.latest, m.Time)
	d.now.link[i] = -1
	if h.count == 0 {
		h.from = i
		d.now.heads = append(d.now.heads, h)
	} else {
		d.now.link[h.to] = i
	}
	h.to = i
	h.count++
	for _, user := range m.Inbox {
		d.refer(user, h, i)
	}
	return store.Result{Seq: h.seq, Pos: d.next}
}

// errOvertaking is why a device's message is refused behind one that could not be stored.
var errOvertaking = errors.New("behind a message that could not be stored")

// refuse answers a message for which something could not be read. Damage to one channel or device must not stop the others.
func (d *DB) refuse(m *store.Message, err error) store.Result {
	if !errors.Is(err, errOvertaking) {
		d.complain("a message could not be stored", err)
	}
	if len(m.Device) > 0 {
		if d.now.refused == nil {
			d.now.refused = make(map[string]struct{})
		}
		d.now.refused[string(appendDevice(nil, m.User, m.Device))] = struct{}{}
	}
	return store.Result{Code: codec.CodeUnavailable}
}

// refer links a reference to the message just numbered to a user's inbox.
func (d *DB) refer(user []byte, h *headState, i int32) {
	u := d.users.get(user)
	if u == nil {
		u = &userState{user: slices.Clone(user), to: -1}
		d.users.put(string(u.user), u)
	}
	n := int32(len(d.now.refs))
	switch {
	case u.to < 0:
		u.from = n
		d.now.users = append(d.now.users, u)
	case d.now.refs[u.to].msg == i:
		return // named twice
	default:
		d.now.refs[u.to].next = n
	}
	u.to = n
	d.now.refs = append(d.now.refs, refEntry{head: h, msg: i, next: -1})
}

// head finds a channel's state, or loads it. When a message of a bucket may be its first there, its record is loaded as well:
// what cannot be read has to be known before anything is numbered.
func (d *DB) head(kind codec.Kind, name []byte, bucket uint32) (*headState, error) {
	d.scratch = appendChannel(d.scratch[:0], kind, name)
	h := d.heads.get(d.scratch)
	if h != nil && (h.count > 0 || h.bucket >= int64(max(bucket, d.now.last))) {
		return h, nil
	}
	channel := slices.Clone(d.scratch)
	rec, err := d.record(channel)
	if err != nil {
		return nil, err
	}
	if h == nil {
		h = &headState{channel: channel, bucket: rec.last()}
		if h.seq, err = d.lastSeq(channel, &rec); err != nil {
			return nil, err
		}
		d.heads.put(string(channel), h)
	}
	h.rec = &rec
	return h, nil
}

// lastSeq is a channel's head: that of the last chunk, or the record's when all have expired.
func (d *DB) lastSeq(channel []byte, rec *headRecord) (uint64, error) {
	if len(rec.buckets) == 0 {
		return rec.head, nil
	}
	it, err := d.iter(appendMsgPrefix(nil, rec.buckets[len(rec.buckets)-1].bucket, channel))
	if err != nil {
		return 0, err
	}
	if !it.Last() {
		if err := closeIter(it); err != nil {
			return 0, err
		}
		return 0, damaged("a channel's last chunk is missing")
	}
	_, n, _, err := msgHeader(it.Value())
	seq := lastU64(it.Key()) + uint64(n) - 1
	if e := closeIter(it); err == nil {
		err = e
	}
	return max(rec.head, seq), err
}

// writeHead writes a channel's messages in chunks, and its record when these are its first in the bucket.
func (d *DB) writeHead(w *pebble.Batch, bucket uint32, h *headState, batch []store.Message, results []store.Result) error {
	if h.bucket != int64(bucket) {
		if h.rec == nil { // a later message moved the whole batch to a new bucket
			rec, err := d.record(h.channel)
			if err != nil {
				return err
			}
			h.rec = &rec
		}
		h.rec.buckets = append(h.rec.buckets, bucketStart{bucket, results[h.from].Seq})
		h.bucket = int64(bucket)
		_ = w.Set(appendHeadKey(nil, h.channel), h.rec.append(nil), nil)
	}
	for i := h.from; i >= 0; {
		first, count, size := i, 0, 0
		for ; i >= 0 && size < chunkBytes; i = d.now.link[i] {
			count++
			size += len(batch[i].Frame)
		}
		var head [2 * binary.MaxVarintLen64]byte
		n := len(appendMsgHeader(head[:0], results[first].Pos, count))
		d.scratch = appendMsgKey(d.scratch[:0], bucket, h.channel, results[first].Seq)
		op := w.SetDeferred(len(d.scratch), n+size)
		copy(op.Key, d.scratch)
		v := op.Value[copy(op.Value, head[:n]):]
		for j := first; count > 0; j, count = d.now.link[j], count-1 {
			v = v[copy(v, batch[j].Frame):]
		}
		_ = op.Finish()
	}
	return nil
}

// writeInbox writes a user's references as one chunk.
func (d *DB) writeInbox(w *pebble.Batch, bucket uint32, u *userState, results []store.Result) {
	first := results[d.now.refs[u.from].msg].Pos
	v, last := d.value[:0], first
	var channel *headState
	for i := u.from; i >= 0; {
		r := &d.now.refs[i]
		pos := results[r.msg].Pos
		c := r.head.channel
		v = appendRef(v, pos-last, r.head == channel, codec.Kind(c[0]), c[2:], results[r.msg].Seq)
		last, channel, i = pos, r.head, r.next
	}
	d.value = v
	d.scratch = appendInboxKey(d.scratch[:0], bucket, u.user, first)
	_ = w.Set(d.scratch, v, nil)
}

// forget ends a batch that was not stored: what memory says of heads and devices is void.
func (d *DB) forget(place uint64) {
	d.next = place
	d.now.reset()
	d.heads.drop()
	d.devices.drop()
	d.bucketsMu.Lock()
	if n := len(d.buckets); n > 0 && d.buckets[n-1].seq > place {
		d.buckets = d.buckets[:n-1]
	}
	d.bucketsMu.Unlock()
}
