package pebble

import (
	"bytes"
	"slices"

	"gannet/codec"
	"gannet/store"
)

// run is the chunks of one channel in one bucket, as a check reads them.
type run struct {
	bucket   uint32
	channel  []byte // as keys have it
	name     store.Channel
	key      []byte // of the first chunk
	rec      headRecord
	at       int // index of the bucket in rec; −1: the record does not know it
	next     uint64
	place    uint64
	reported bool
}

const meansMissing = "messages of this channel are missing or cannot be read; its readers get an error there"

// messages reads every chunk: frame by frame, and whether one follows the other without a hole.
func (c *checker) messages() error {
	var r *run
	err := c.each([]byte{prefixMsg}, func(key, value []byte) error {
		bucket, channel, seq, ok := splitMsgKey(key)
		if !ok {
			c.wrong(key, meansMissing, "its key is none of a message")
			return nil
		}
		if r == nil || r.bucket != bucket || !bytes.Equal(r.channel, channel) {
			if r != nil {
				c.endRun(r)
			}
			var err error
			if r, err = c.beginRun(key, bucket, channel, seq); err != nil {
				return err
			}
		}
		if !r.reported {
			r.reported = !c.chunk(r, key, seq, value)
		}
		return nil
	})
	if r != nil && err == nil {
		c.endRun(r)
	}
	return err
}

func (c *checker) beginRun(key []byte, bucket uint32, channel []byte, seq uint64) (*run, error) {
	r := &run{bucket: bucket, channel: slices.Clone(channel), key: slices.Clone(key), next: seq}
	r.name, _, _ = splitChannel(r.channel)
	rec, err := c.d.record(r.channel)
	if err != nil {
		if !isCorrupt(err) {
			return nil, err
		}
		r.reported = true // with the heads
		return r, nil
	}
	r.rec = rec
	r.at = slices.IndexFunc(rec.buckets, func(b bucketStart) bool { return b.bucket == bucket })
	_, known := c.buckets[bucket]
	older := len(rec.buckets) == 0 || bucket < rec.buckets[0].bucket
	switch {
	case !known, r.at < 0 && !older:
		c.wrong(key, meansMissing, "the channel's head does not know of it")
		r.reported = true
	case r.at >= 0 && (seq < rec.buckets[r.at].seq || seq > max(rec.buckets[r.at].seq, rec.first)):
		c.wrong(key, meansMissing, "the messages of that day begin at %d, not at %d", seq, max(rec.buckets[r.at].seq, rec.first))
		r.reported = true
	}
	return r, nil
}

// chunk reads one chunk; false when it was told that something is wrong with it.
func (c *checker) chunk(r *run, key []byte, seq uint64, value []byte) bool {
	place, count, frames, err := msgHeader(value)
	switch {
	case err != nil:
		c.wrong(key, meansMissing, "it cannot be read")
		return false
	case seq != r.next:
		c.wrong(key, meansMissing, "messages %d to %d are not there", r.next, seq-1)
		return false
	case place <= r.place || !c.within(r.bucket, place):
		c.wrong(key, meansMissing, "its place %d is not where it belongs", place)
		return false
	}
	r.place = place
	for range count {
		f, n, err := codec.ConsumeFrame(frames, codec.MaxBody)
		var m codec.Msg
		if err == nil && n > 0 {
			m, err = codec.ConsumeMsg(f)
		}
		if err != nil || n == 0 || m.Seq != r.next || m.Kind != r.name.Kind || string(m.Name) != r.name.Name {
			c.wrong(key, meansMissing, "message %d is not what is there", r.next)
			return false
		}
		if r.at >= 0 && r.next >= r.rec.first {
			c.rep.Messages++
			c.rep.Bytes += uint64(n)
		}
		frames = frames[n:]
		r.next++
	}
	if len(frames) > 0 {
		c.wrong(key, meansMissing, "%d bytes follow its last message", len(frames))
		return false
	}
	return true
}

// endRun compares where the chunks end with where the channel goes on.
func (c *checker) endRun(r *run) {
	if r.reported {
		return
	}
	c.maxSeq = max(c.maxSeq, r.next-1)
	switch {
	case r.at < 0: // an expiry that a crash interrupted
		if r.next > r.rec.first {
			c.wrong(r.key, meansMissing, "the channel's head does not know of it")
		}
	case r.at+1 < len(r.rec.buckets) && r.next != r.rec.buckets[r.at+1].seq:
		c.wrong(r.key, meansMissing, "messages %d to %d are not there", r.next, r.rec.buckets[r.at+1].seq-1)
	case r.next <= r.rec.head || r.next < r.rec.first:
		c.wrong(r.key, meansMissing, "messages from %d on are not there", r.next)
	}
}

// headRecords reads what is written about the channels, and whether there is a chunk for each bucket in it.
func (c *checker) headRecords() error {
	it, err := c.d.iter([]byte{prefixMsg})
	if err != nil {
		return err
	}
	err = c.each([]byte{prefixHead}, func(key, value []byte) error {
		channel := key[1:]
		_, rest, ok := splitChannel(channel)
		var rec headRecord
		if !ok || len(rest) > 0 || rec.read(value) != nil || rec.first == 0 {
			c.wrong(key, meansMissing, "it cannot be read")
			return nil
		}
		c.rep.Channels++
		c.maxSeq = max(c.maxSeq, rec.head)
		if len(rec.buckets) == 0 && rec.first != rec.head+1 {
			c.wrong(key, meansMissing, "it keeps messages from %d on, and there are none", rec.first)
			return nil
		}
		for i, b := range rec.buckets {
			if i > 0 && (b.bucket <= rec.buckets[i-1].bucket || b.seq <= rec.buckets[i-1].seq) {
				c.wrong(key, meansMissing, "its days are not in order")
				return nil
			}
			prefix := appendMsgPrefix(nil, b.bucket, channel)
			if ok := it.SeekGE(prefix); it.Error() == nil && (!ok || !bytes.HasPrefix(it.Key(), prefix)) {
				c.wrong(key, meansMissing, "the messages of day %d, from %d on, are not there", b.bucket, b.seq)
			}
		}
		return nil
	})
	if e := closeIter(it); err == nil {
		err = e
	}
	return err
}
