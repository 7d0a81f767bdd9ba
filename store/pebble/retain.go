package pebble

import (
	"bytes"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"gannet/store"
)

// Trim is store.Store's. The chunk that holds below stays whole; readers begin at below.
func (d *DB) Trim(c store.Channel, below uint64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure(); err != nil {
		return err
	}
	channel, ok := channelOf(c)
	if !ok {
		return nil
	}
	old, err := d.record(channel)
	if err != nil {
		return err
	}
	seq, err := d.lastSeq(channel, &old)
	if err != nil {
		return err
	}
	if below = min(below, seq+1); below <= old.first {
		return nil
	}
	w := d.db.NewBatch()
	defer w.Close()
	rec := headRecord{first: below, head: max(old.head, below-1)}
	for i, b := range old.buckets {
		if i+1 < len(old.buckets) && old.buckets[i+1].seq <= below || below > seq {
			prefix := appendMsgPrefix(nil, b.bucket, channel)
			if err := d.remove(w, prefix, successor(prefix)); err != nil {
				return err
			}
			continue
		}
		rec.buckets = append(rec.buckets, b)
		if err := d.trimBucket(w, b.bucket, channel, below); err != nil {
			return err
		}
	}
	_ = w.Set(appendHeadKey(nil, channel), rec.append(nil), nil)
	d.moved(channel, &rec)
	return d.commit(w, pebble.NoSync)
}

// moved tells a cached head that its channel's record is changing.
func (d *DB) moved(channel []byte, rec *headRecord) {
	if h := d.heads.get(channel); h != nil {
		h.bucket, h.rec = rec.last(), nil
	}
}

// maxDeletes is up to how many keys are removed one by one. Pebble sorts the ranges that were removed since its last flush anew for
// every reader that comes behind another one; thousands of them would take longer than what they save.
const maxDeletes = 1024

// remove removes the keys from…to, without the last.
func (d *DB) remove(w *pebble.Batch, from, to []byte) error {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return wrapRead(err)
	}
	var keys [][]byte
	for ok := it.First(); ok && len(keys) <= maxDeletes; ok = it.Next() {
		keys = append(keys, slices.Clone(it.Key()))
	}
	if len(keys) > maxDeletes {
		_ = w.DeleteRange(from, to, nil)
		return closeIter(it)
	}
	for _, k := range keys {
		_ = w.Delete(k, nil)
	}
	return closeIter(it)
}

// trimBucket removes the chunks that end below a seq.
func (d *DB) trimBucket(w *pebble.Batch, bucket uint32, channel []byte, below uint64) error {
	prefix := appendMsgPrefix(nil, bucket, channel)
	it, err := d.iter(prefix)
	if err != nil {
		return err
	}
	var last []byte // the chunk that holds below
	if it.SeekLT(append(appendMsgKey(nil, bucket, channel, below), 0)) {
		last = slices.Clone(it.Key())
	}
	if err := closeIter(it); err != nil || last == nil {
		return err
	}
	return d.remove(w, prefix, last)
}

// Expire is store.Store's: whole buckets go. Before one goes, the heads of the channels that have nothing newer are written
// down, for a channel goes on counting.
func (d *DB) Expire(before uint64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	due := d.bucketOf(before) // the buckets below it end at or before the time
	for {
		d.bucketsMu.RLock()
		bucket, more := uint32(0), len(d.buckets) > 0 && d.buckets[0].bucket < due
		if more {
			bucket = d.buckets[0].bucket
		}
		d.bucketsMu.RUnlock()
		if !more {
			return d.failure()
		}
		if err := d.expire(bucket); err != nil {
			return err
		}
	}
}

// expireStep is how many channels are worked on before who appends gets a turn.
const expireStep = 64

// expire removes the first bucket.
func (d *DB) expire(bucket uint32) error {
	prefix := be.AppendUint32([]byte{prefixMsg}, bucket)
	at := prefix
	for at != nil {
		var err error
		if at, err = d.expireSome(bucket, prefix, at, false); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if bucket == d.lastBucket() {
		at = prefix // channels may have got messages in it meanwhile; no more from here on
	}
	for at != nil {
		var err error
		if at, err = d.expireSome(bucket, prefix, at, true); err != nil {
			return err
		}
	}
	d.bucketsMu.Lock()
	if len(d.buckets) > 0 && d.buckets[0].bucket == bucket {
		d.buckets = d.buckets[1:] // before anything is gone: who finds it gone asks InboxFirst behind it
	}
	d.bucketsMu.Unlock()
	w := d.db.NewBatch()
	defer w.Close()
	_ = w.DeleteRange(prefix, successor(prefix), nil)
	inbox := be.AppendUint32([]byte{prefixInbox}, bucket)
	_ = w.DeleteRange(inbox, successor(inbox), nil)
	_ = w.Delete(bucketKey(bucket), nil)
	return d.commit(w, pebble.NoSync)
}

// expireSome takes a bucket out of the records of some channels; next is where to go on, nil at the end. locked: mu is held.
func (d *DB) expireSome(bucket uint32, prefix, at []byte, locked bool) (next []byte, err error) {
	if !locked {
		d.mu.Lock()
		defer d.mu.Unlock()
	}
	if err := d.failure(); err != nil {
		return nil, err
	}
	it, err := d.iter(prefix)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := closeIter(it); err == nil {
			err = e
		}
	}()
	w := d.db.NewBatch()
	defer w.Close()
	ok := it.SeekGE(at)
	for n := 0; ok && n < expireStep; n++ {
		if len(it.Key()) < len(prefix)+2+8 {
			return nil, damaged("message key")
		}
		channel := slices.Clone(it.Key()[len(prefix) : len(it.Key())-8])
		if err := d.expireChannel(w, bucket, channel); err != nil {
			return nil, err
		}
		ok = it.SeekGE(successor(appendMsgPrefix(nil, bucket, channel)))
	}
	if ok {
		next = bytes.Clone(it.Key())
	}
	if w.Empty() {
		return next, nil
	}
	return next, d.commit(w, pebble.NoSync)
}

// expireChannel takes a bucket, the oldest there is, out of a channel's record.
func (d *DB) expireChannel(w *pebble.Batch, bucket uint32, channel []byte) error {
	old, err := d.record(channel)
	if err != nil {
		return err
	}
	if len(old.buckets) == 0 || old.buckets[0].bucket > bucket {
		return nil // done before
	}
	rec := headRecord{first: old.first, head: old.head}
	for i, b := range old.buckets {
		if b.bucket > bucket {
			rec.buckets = old.buckets[i:]
			break
		}
	}
	if len(rec.buckets) > 0 {
		rec.first = max(rec.first, rec.buckets[0].seq)
	} else {
		seq, err := d.lastSeq(channel, &old)
		if err != nil {
			return err
		}
		rec.first, rec.head = seq+1, seq
	}
	_ = w.Set(appendHeadKey(nil, channel), rec.append(nil), nil)
	d.moved(channel, &rec)
	return nil
}
