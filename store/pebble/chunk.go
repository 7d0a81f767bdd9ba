package pebble

import (
	"encoding/binary"
	"fmt"

	"gannet/codec"
	"gannet/store"
)

// A message chunk is `place uvarint, count uvarint`, then count MSG frames. place is the place of its first
// message: readers skip chunks above the last synced place.

func appendMsgHeader(dst []byte, place uint64, count int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, place), uint64(count))
}

func msgHeader(v []byte) (place uint64, count int, frames []byte, err error) {
	place, a := binary.Uvarint(v)
	if a <= 0 {
		return 0, 0, nil, damaged("message chunk")
	}
	n, b := binary.Uvarint(v[a:])
	if b <= 0 || n == 0 || n > uint64(len(v)) {
		return 0, 0, nil, damaged("message chunk")
	}
	return place, int(n), v[a+b:], nil
}

// frameLen is the length of the first frame of v, header included; 0 when it is not whole.
func frameLen(v []byte) int {
	n, _, _, ok := codec.ConsumeHeader(v)
	if !ok || codec.HeaderLen+n > len(v) {
		return 0
	}
	return codec.HeaderLen + n
}

// An inbox chunk is a sequence of `delta uvarint, kind u8, [len u8, name,] seq uvarint`: delta to the position before (the
// first to the key's), kind 0 for the channel of the entry before.

func appendRef(dst []byte, delta uint64, same bool, kind codec.Kind, name []byte, seq uint64) []byte {
	dst = binary.AppendUvarint(dst, delta)
	if same {
		dst = append(dst, 0)
	} else {
		dst = appendChannel(dst, kind, name)
	}
	return binary.AppendUvarint(dst, seq)
}

// refs reads an inbox chunk, beginning at the position of its key.
type refs struct {
	b    []byte
	pos  uint64
	last store.Channel
}

func (r *refs) next() (ref store.Ref, ok bool, err error) {
	if len(r.b) == 0 {
		return ref, false, nil
	}
	delta, n := binary.Uvarint(r.b)
	if n <= 0 || len(r.b) < n+1 {
		return ref, false, damaged("inbox chunk")
	}
	kind := codec.Kind(r.b[n])
	r.b = r.b[n+1:]
	if kind != 0 {
		if len(r.b) < 1 || len(r.b) < 1+int(r.b[0]) {
			return ref, false, damaged("inbox chunk")
		}
		l := 1 + int(r.b[0])
		r.last = store.Channel{Kind: kind, Name: string(r.b[1:l])}
		r.b = r.b[l:]
	}
	seq, n := binary.Uvarint(r.b)
	if n <= 0 || r.last.Kind == 0 {
		return ref, false, damaged("inbox chunk")
	}
	r.b = r.b[n:]
	r.pos += delta
	return store.Ref{Pos: r.pos, Channel: r.last, Seq: seq}, true, nil
}

// A nonce chunk is `flags u8, place uvarint, since uvarint`, then a sequence of `delta uvarint, seq uvarint`: delta to the
// nonce before, the first to the key's. place is at or below the commit's: readers skip chunks above the last synced
// place. since counts the device's nonces since they were last trimmed, up to this chunk.
//
// Chunks of nonces that grew are in order and do not overlap; a nonce below the highest that was never stored gets an
// unordered chunk of its own, which may lie within another's range.
const nonceUnordered = 1

func appendNonceHeader(dst []byte, flags byte, place, since uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(dst, flags), place), since)
}

func appendNonce(dst []byte, delta, seq uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, delta), seq)
}

// openNonces begins to read the nonce chunk of a key.
func openNonces(key, v []byte) (c nonces, err error) {
	if len(v) < 3 || len(key) < 8 {
		return c, damaged("nonce chunk")
	}
	c.nonce, c.ordered = lastU64(key), v[0]&nonceUnordered == 0
	v = v[1:]
	var n int
	for _, f := range []*uint64{&c.place, &c.since} {
		if *f, n = binary.Uvarint(v); n <= 0 {
			return c, damaged("nonce chunk")
		}
		v = v[n:]
	}
	c.b = v
	return c, nil
}

// nonces reads a nonce chunk.
type nonces struct {
	place, since uint64
	ordered      bool

	b     []byte
	nonce uint64
}

func (c *nonces) next() (nonce, seq uint64, ok bool, err error) {
	if len(c.b) == 0 {
		return 0, 0, false, nil
	}
	delta, n := binary.Uvarint(c.b)
	if n <= 0 {
		return 0, 0, false, damaged("nonce chunk")
	}
	seq, m := binary.Uvarint(c.b[n:])
	if m <= 0 {
		return 0, 0, false, damaged("nonce chunk")
	}
	c.b = c.b[n+m:]
	c.nonce += delta
	return c.nonce, seq, true, nil
}

// headRecord is what is written about a channel's log: seldom, when it gets its first message in a bucket, is
// trimmed or loses its last bucket. The head itself is in the last chunk.
type headRecord struct {
	first   uint64 // lowest seq kept
	head    uint64 // at least this; exact when no bucket is left
	buckets []bucketStart
}

type bucketStart struct {
	bucket uint32
	seq    uint64
}

// last is the last bucket; −1 when there is none.
func (h *headRecord) last() int64 {
	if n := len(h.buckets); n > 0 {
		return int64(h.buckets[n-1].bucket)
	}
	return -1
}

func (h *headRecord) append(dst []byte) []byte {
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, h.first), h.head)
	for _, b := range h.buckets {
		dst = binary.AppendUvarint(be.AppendUint32(dst, b.bucket), b.seq)
	}
	return dst
}

func (h *headRecord) read(v []byte) error {
	var n int
	*h = headRecord{}
	if h.first, n = binary.Uvarint(v); n <= 0 {
		return damaged("head")
	}
	v = v[n:]
	if h.head, n = binary.Uvarint(v); n <= 0 {
		return damaged("head")
	}
	for v = v[n:]; len(v) > 0; v = v[n:] {
		if len(v) < 5 {
			return damaged("head")
		}
		b := bucketStart{bucket: be.Uint32(v)}
		if b.seq, n = binary.Uvarint(v[4:]); n <= 0 {
			return damaged("head")
		}
		h.buckets = append(h.buckets, b)
		n += 4
	}
	return nil
}

func damaged(what string) error { return fmt.Errorf("%w: %s", store.ErrCorrupt, what) }
