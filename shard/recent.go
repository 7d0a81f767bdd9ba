package shard

import "gannet/codec"

// recent is the end of a channel's log as its room has brought it, kept while members read the log themselves. Who has read up to it
// comes in from there: while it read once more, a room that never rests would have gone on again.
type recent struct {
	buf  []byte // frames
	low  uint64 // seq of the first; 0: there is none
	high uint64 // and of the last; there is no hole between them
}

// Bounds of what is kept.
const (
	recentRoom  = 256 << 10 // bytes of a room
	recentShard = 16 << 20  // and of a shard
)

// keepRecent adds the run that begins.
func (sh *Shard) keepRecent(rm *room) {
	rc := &rm.recent
	for frame := range rm.running.all() {
		seq := msgSeq(frame)
		if seq <= rc.high {
			continue // ephemeral, or here already
		}
		if rc.low != 0 && (seq != rc.high+1 || sh.recentBytes+len(frame) > recentShard) {
			sh.dropRecent(rm)
		}
		if len(rc.buf)+len(frame) > recentRoom {
			sh.forgetOldest(rc)
		}
		if rc.low == 0 {
			rc.low = seq
		}
		rc.buf, rc.high = append(rc.buf, frame...), seq
		sh.recentBytes += len(frame)
	}
}

// forgetOldest drops half of what is kept of a room, or all, if that is one message.
func (sh *Shard) forgetOldest(rc *recent) {
	at := 0
	for at < len(rc.buf)/2 {
		at += frameLen(rc.buf[at:])
		rc.low++
	}
	sh.recentBytes -= at
	if rc.buf = append(rc.buf[:0], rc.buf[at:]...); len(rc.buf) == 0 {
		rc.low = 0
	}
}

func (sh *Shard) dropRecent(rm *room) {
	sh.recentBytes -= len(rm.recent.buf)
	rm.recent = recent{}
}

// touches says whether the end of the log begins no later than behind last, and is longer.
func (rc *recent) touches(last uint64) bool {
	return rc.low != 0 && rc.low <= last+1 && rc.high > last
}

// giveRecent brings a session that has read up to what is kept to the end of it.
func (sh *Shard) giveRecent(s *Session, c *cursor) {
	rc := sh.rooms[c.room].recent
	if !rc.touches(c.last) {
		return
	}
	rest := rc.buf
	for seq := rc.low; seq <= c.last; seq++ {
		rest = rest[frameLen(rest):]
	}
	if len(rest) > 2*sh.readChunk() || sh.overLimit(s, len(rest)) || sh.crowded(s, len(rest)) {
		return // more than it is given at once
	}
	gen, tags := s.gen, sh.tags(c)
	for len(rest) > 0 {
		frame := rest[:frameLen(rest)]
		rest = rest[len(frame):]
		if tags != nil && !matches(frame, tags) {
			continue
		}
		if sh.deliverCopy(s, frame, sh.now); !s.alive(gen) {
			return
		}
	}
	c.last = rc.high
}

// frameLen is the length of the frame at the front of b.
func frameLen(b []byte) int {
	n, _, _, _ := codec.ConsumeHeader(b)
	return codec.HeaderLen + n
}
