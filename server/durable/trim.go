package durable

import (
	"math"

	"gannet/codec"
	"gannet/store"
)

// look removes from a channel what is not kept any more; false: a part of it, the turn has done enough.
func (r *retention) look(s store.Store, ch store.Channel) (done bool, err error) {
	head, err := s.Head(ch)
	if err != nil {
		return false, err
	}
	if head.First > head.Seq {
		r.empty = append(r.empty, ch)
		return true, nil
	}
	k := r.keep[ch.Kind]
	many := head.First // below are more than are kept
	if k.Count > 0 && head.Seq-head.First >= k.Count {
		many = head.Seq - k.Count + 1
	}
	old := many // below are too many, or too old
	if k.Age > 0 {
		if old, err = r.firstSince(s, ch, many, head.Seq, r.before(k.Age)); err != nil {
			return false, err
		}
	}
	if old == head.First {
		return true, nil
	}
	below, trim := old, many > head.First || r.trimmed(ch.Kind)
	if ch.Kind == codec.KindDirect {
		var dead bool
		if below, dead, err = r.bury(s, ch, head.First, many, old); err != nil {
			return false, err
		}
		trim = trim || dead // who reads it now would get what is said to be dead
	}
	if trim && below > head.First {
		if err := r.trim(s, ch, head.First, below); err != nil {
			return false, err
		}
	}
	return below == old, nil
}

// trim removes messages of a channel from the store and from memory.
func (r *retention) trim(s store.Store, ch store.Channel, first, below uint64) error {
	r.trims--
	if err := s.Trim(ch, below); err != nil {
		return err
	}
	r.l.recents.forget(ch, below)
	r.stats.trims.Add(1)
	r.stats.trimmed.Add(below - first)
	return nil
}

// firstSince finds the first of a channel's messages from…to that is not from before a time, to+1 if all are. It halves the span, so it looks
// at a few messages only: where a clock was wrong, what was stored before a message that is old counts as old too.
func (r *retention) firstSince(s store.Store, ch store.Channel, from, to, time uint64) (uint64, error) {
	t, err := r.timeOf(s, ch, from)
	if err != nil || t >= time {
		return from, err
	}
	low, high := from, to+1 // low is old, high is not
	for low+1 < high {
		mid := low + (high-low)/2
		t, err := r.timeOf(s, ch, mid)
		if err != nil {
			return from, err
		}
		if t < time {
			low = mid
		} else {
			high = mid
		}
	}
	return high, nil
}

// timeOf is a message's time in Unix milliseconds.
func (r *retention) timeOf(s store.Store, ch store.Channel, seq uint64) (uint64, error) {
	raw, _, _, n, err := s.Read(ch, seq, 1, 0, r.raw[:0])
	r.raw = raw[:0]
	if cap(r.raw) > keepRaw {
		r.raw = nil
	}
	if err != nil || n == 0 {
		return math.MaxUint64, err
	}
	m, err := message(raw)
	return m.Time, err
}

// message reads a stored frame.
func message(frame []byte) (codec.Msg, error) {
	f, _, err := codec.ConsumeFrame(frame, codec.MaxBody)
	if err != nil {
		return codec.Msg{}, err
	}
	return codec.ConsumeMsg(f)
}

// forget drops what lies below seq below, and with it what shares a block with it.
func (rs *recents) forget(ch store.Channel, below uint64) {
	key := convKey(ch.Kind, ch.Name)
	st := rs.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if r := st.rings[key]; r != nil {
		st.dropBelow(r, below)
	}
}

// dropBelow drops a ring's blocks that have something below a seq in them. The stripe's lock is held.
func (st *recentStripe) dropBelow(r *ring, below uint64) {
	for len(r.blocks) > 0 && r.first < below {
		st.dropFirst(r)
	}
	if len(r.blocks) == 0 {
		st.remove(r)
	}
}

// expire drops what expired: of channels that have messages from before a time in memory, what lies below the first that is still stored.
func (rs *recents) expire(before uint64, first func(store.Channel) uint64) {
	for i := range rs.stripes {
		st := &rs.stripes[i]
		var old []store.Channel
		st.mu.Lock()
		for key, r := range st.rings {
			if ch, ok := splitConvKey(key); ok && st.oldest(r) < before {
				old = append(old, ch)
			}
		}
		st.mu.Unlock()
		for _, ch := range old {
			rs.forget(ch, first(ch))
		}
	}
}

// oldest is the time of a ring's first message. The stripe's lock is held.
func (st *recentStripe) oldest(r *ring) uint64 {
	if len(r.blocks) == 0 {
		return math.MaxUint64
	}
	p := frameReader{st: st, r: r, at: int(r.blocks[0].at)}
	m, err := message(p.copy(nil, p.size()))
	if err != nil {
		return 0
	}
	return m.Time
}
