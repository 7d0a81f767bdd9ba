package pebble

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"gannet/codec"
	"gannet/store"
)

// Bounds of what a check keeps in memory.
const (
	maxCheckedHeads   = 100_000
	maxCheckedInboxes = 4_000_000
)

// progressStep is how many keys are looked at between two reports of progress.
const progressStep = 1 << 16

// contents looks at all that the database holds: tables first, then what is written in them, and whether one thing fits another.
func (c *checker) contents() error {
	if err := c.tables(); err != nil {
		return err
	}
	more := false
	if err := c.part("meta data", func() (err error) { more, err = c.meta(); return err }); err != nil || !more {
		return err
	}
	for _, part := range []struct {
		name string
		look func() error
	}{
		{"days", c.days}, {"messages", c.messages}, {"heads", c.headRecords}, {"inboxes", c.inboxes}, {"nonces", c.nonces},
		{"records", c.records}, {"keys", c.unknown},
	} {
		if err := c.part(part.name, part.look); err != nil {
			return err
		}
	}
	return nil
}

// part looks at one part; damage ends that part alone.
func (c *checker) part(name string, look func() error) error {
	err := look()
	switch {
	case !isCorrupt(err):
		return err
	case c.rep.Sound():
		c.rep.find(Finding{"the " + name, err.Error(), "they cannot be read", doRestore})
	default:
		c.rep.note("the %s could not be looked at to their end, for what is damaged", name)
	}
	return nil
}

// wrong tells of data that can be read and does not fit.
func (c *checker) wrong(key []byte, means, format string, args ...any) {
	c.rep.find(Finding{describeKey(key), fmt.Sprintf(format, args...), means, doRestore})
}

// each calls look with the keys that begin with prefix; value is gone when look returns.
func (c *checker) each(prefix []byte, look func(key, value []byte) error) (err error) {
	it, err := c.d.iter(prefix)
	if err != nil {
		return err
	}
	defer func() {
		if e := closeIter(it); err == nil {
			err = e
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		if c.keys++; c.keys%progressStep == 0 {
			c.o.Progress("keys", c.keys, 0)
		}
		if err := look(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return nil
}

// meta reads what the store says of itself; false when the rest cannot be understood.
func (c *checker) meta() (bool, error) {
	version, found, err := c.d.readFormat()
	if err == nil {
		c.rep.Format = version
		if c.rep.Epoch, err = c.d.getU64(keyEpoch); err == nil {
			c.rep.Place, err = c.d.getU64(keyPlace)
		}
	}
	switch {
	case err != nil:
		return false, err
	case version > format:
		return false, newerFormat(version, format)
	case !found:
		return false, c.withoutFormat()
	case version < format:
		c.rep.note("the format is %d; gannetd upgrades it to %d when it starts. What the store holds was not looked at", version, format)
		return false, nil
	case c.rep.Epoch == 0:
		c.rep.find(Finding{"the store's epoch", "it is missing", "the store does not open", doRestore})
	}
	c.d.place.Store(c.rep.Place)
	return true, c.each([]byte{prefixMeta}, func(key, _ []byte) error {
		if !slices.ContainsFunc([][]byte{keyFormat, keyEpoch, keyPlace}, func(k []byte) bool { return bytes.Equal(k, key) }) {
			c.wrong(key, "this version does not know it", "it is an unknown entry")
		}
		return nil
	})
}

// withoutFormat judges a database that has no format: one whose making a crash interrupted is empty.
func (c *checker) withoutFormat() error {
	any := false
	err := c.each(nil, func([]byte, []byte) error { any = true; return nil })
	if err == nil && any {
		c.rep.find(Finding{"the store's format", "it is missing", "the store does not open", doRestore})
	} else if err == nil {
		c.rep.note("the store is empty: its making was interrupted, and gannetd makes it when it starts")
	}
	return err
}

// days reads the buckets and the places at which they begin.
func (c *checker) days() error {
	c.buckets = map[uint32]int{}
	if err := c.d.loadBuckets(); err != nil {
		return err
	}
	for i, b := range c.d.buckets {
		c.buckets[b.bucket] = i
		if b.seq == 0 || b.seq > c.rep.Place || i > 0 && b.seq <= c.d.buckets[i-1].seq {
			c.wrong(bucketKey(b.bucket), "inbox positions may be wrong", "it begins at place %d", b.seq)
		}
	}
	return nil
}

// within tells whether a place may be in a bucket.
func (c *checker) within(bucket uint32, place uint64) bool {
	i, known := c.buckets[bucket]
	return known && place >= c.d.buckets[i].seq && place <= c.rep.Place && (i+1 == len(c.d.buckets) || place < c.d.buckets[i+1].seq)
}

// head is a channel's head, for references to it.
func (c *checker) head(ch store.Channel) (store.Head, error) {
	channel, ok := channelOf(ch)
	if !ok {
		return store.Head{}, damaged("name of a channel")
	}
	if h, ok := c.heads[string(channel)]; ok {
		return h, nil
	}
	h, _, err := c.d.headOnce(channel)
	if err != nil && !isCorrupt(err) {
		return h, err
	}
	if err != nil {
		h.Seq = ^uint64(0) // it was told already
	}
	if len(c.heads) >= maxCheckedHeads || c.heads == nil {
		c.heads = map[string]store.Head{}
	}
	c.heads[string(channel)] = h
	return h, nil
}

func (c *checker) inboxes() error {
	users := map[uint64]struct{}{}
	var last []byte // prefix of the user before
	var pos uint64  // and the highest position there
	return c.each([]byte{prefixInbox}, func(key, value []byte) error {
		const means = "who has this inbox may miss messages"
		if len(key) < 6 || int(key[5]) == 0 || len(key) != 6+int(key[5])+8 {
			c.wrong(key, means, "its key is none of an inbox")
			return nil
		}
		bucket, prefix := be.Uint32(key[1:]), key[:len(key)-8]
		if !bytes.Equal(prefix, last) {
			last, pos = append(last[:0], prefix...), 0
			if len(users) < maxCheckedInboxes {
				users[xxhash.Sum64(key[6:len(key)-8])] = struct{}{}
				c.rep.Inboxes = uint64(len(users))
			} else {
				c.rep.InboxesMore = true
			}
		}
		r := refs{b: value, pos: lastU64(key)}
		for {
			ref, more, err := r.next()
			if err != nil {
				c.wrong(key, means, "its entries cannot be read")
				return nil
			}
			if !more {
				return nil
			}
			c.rep.Refs++
			if ref.Pos <= pos || !c.within(bucket, ref.Pos) {
				c.wrong(key, means, "position %d is not where it belongs", ref.Pos)
				return nil
			}
			pos = ref.Pos
			h, err := c.head(ref.Channel)
			if err != nil {
				return err
			}
			if ref.Seq == 0 || ref.Seq > h.Seq {
				c.wrong(key, means, "position %d refers to message %d of %v, which ends at %d", ref.Pos, ref.Seq, ref.Channel, h.Seq)
				return nil
			}
		}
	})
}

func (c *checker) nonces() error {
	var last []byte // device before
	var high uint64 // of its ordered chunks
	return c.each([]byte{prefixNonce}, func(key, value []byte) error {
		const means = "what this device sends again may be stored twice, or not at all"
		if _, _, ok := splitNonceKey(key); !ok {
			c.wrong(key, means, "its key is none of a device")
			return nil
		}
		if prefix := key[:len(key)-8]; !bytes.Equal(prefix, last) {
			last, high = append(last[:0], prefix...), 0
			c.rep.Devices++
		}
		n, err := openNonces(key, value)
		if err != nil || n.place > c.rep.Place || n.ordered && n.nonce <= high {
			c.wrong(key, means, "it is not in order, or cannot be read")
			return nil
		}
		for before := n.nonce - 1; ; before = n.nonce {
			nonce, seq, more, err := n.next()
			if err == nil && !more {
				break
			}
			if err != nil || nonce <= before && before != 0 || nonce == 0 || seq == 0 || seq > c.maxSeq {
				c.wrong(key, means, "nonce %d of message %d is not in order, or there is no such message", nonce, seq)
				return nil
			}
			c.rep.Nonces++
		}
		if n.ordered {
			high = n.nonce
		}
		return nil
	})
}

func (c *checker) records() error {
	return c.each([]byte{prefixRecord}, func(key, value []byte) error {
		const means = "what it says is not known"
		c.rep.Records++
		r, ok := splitRecordKey(key)
		r.Value = value
		if !ok || r.Check() != nil {
			c.wrong(key, means, "it is outside the limits of a record")
		} else if c.o.Record != nil {
			if err := c.o.Record(r); err != nil {
				c.wrong(key, means, "%v", err)
			}
		}
		return nil
	})
}

// unknown looks for keys that are none of ours.
func (c *checker) unknown() error {
	it, err := c.d.db.NewIter(nil)
	if err != nil {
		return wrapRead(err)
	}
	for ok := it.First(); ok; {
		if strings.IndexByte(allPrefixes, it.Key()[0]) < 0 {
			c.wrong(it.Key(), "this version does not know it", "it is an unknown entry")
		}
		next := successor(it.Key()[:1])
		ok = next != nil && it.SeekGE(next)
	}
	return closeIter(it)
}

const allPrefixes = string(rune(prefixMeta)) + string(rune(prefixHead)) + string(rune(prefixMsg)) + string(rune(prefixInbox)) +
	string(rune(prefixNonce)) + string(rune(prefixRecord)) + string(rune(prefixBucket))

// splitChannel takes a channel as keys have it from the front.
func splitChannel(b []byte) (ch store.Channel, rest []byte, ok bool) {
	if len(b) < 2 || b[1] == 0 || len(b) < 2+int(b[1]) || !codec.Kind(b[0]).Valid() {
		return ch, nil, false
	}
	end := 2 + int(b[1])
	return store.Channel{Kind: codec.Kind(b[0]), Name: string(b[2:end])}, b[end:], true
}

func splitMsgKey(key []byte) (bucket uint32, channel []byte, seq uint64, ok bool) {
	if len(key) < 1+4+2+8 {
		return 0, nil, 0, false
	}
	_, rest, ok := splitChannel(key[5:])
	return be.Uint32(key[1:]), key[5 : len(key)-8], lastU64(key), ok && len(rest) == 8
}

func splitNonceKey(key []byte) (user, device string, ok bool) {
	b := key[1:]
	for _, s := range []*string{&user, &device} {
		if len(b) < 1 || len(b) < 1+int(b[0]) || b[0] == 0 {
			return "", "", false
		}
		*s, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	return user, device, len(b) == 8
}

func splitRecordKey(key []byte) (r store.Record, ok bool) {
	if len(key) < 3 || len(key) < 3+int(be.Uint16(key[1:])) {
		return r, false
	}
	end := 3 + int(be.Uint16(key[1:]))
	return store.Record{Owner: string(key[3:end]), Key: string(key[end:])}, true
}

// describeKey says in a person's words what a key is for.
func describeKey(key []byte) string {
	if len(key) == 0 {
		return "the beginning"
	}
	switch key[0] {
	case prefixMeta:
		return fmt.Sprintf("the store's entry %q", key[1:])
	case prefixBucket:
		if len(key) == 5 {
			return fmt.Sprintf("day %d", be.Uint32(key[1:]))
		}
	case prefixHead:
		if ch, _, ok := splitChannel(key[1:]); ok {
			return fmt.Sprintf("the head of %v", ch)
		}
	case prefixMsg:
		if bucket, channel, seq, ok := splitMsgKey(key); ok {
			ch, _, _ := splitChannel(channel)
			return fmt.Sprintf("message %d of %v, day %d", seq, ch, bucket)
		}
	case prefixInbox:
		if len(key) >= 6 && len(key) >= 6+int(key[5]) {
			return fmt.Sprintf("the inbox of %q, day %d", key[6:6+int(key[5])], be.Uint32(key[1:]))
		}
	case prefixNonce:
		if user, device, ok := splitNonceKey(key); ok {
			return fmt.Sprintf("the nonces of %q's device %q", user, device)
		}
	case prefixRecord:
		if r, ok := splitRecordKey(key); ok {
			return fmt.Sprintf("the record %q of %q", r.Key, r.Owner)
		}
	}
	return fmt.Sprintf("the key %q", key)
}
