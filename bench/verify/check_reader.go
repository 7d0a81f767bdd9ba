package verify

import "slices"

// reader judges what one device got of a channel. spans say what it must get; none: nothing.
func (c *checker) reader(l *channelLog, s *stream, spans []reader) {
	r := &reading{checker: c, l: l, s: s, spans: spans, got: make([]bool, len(l.entries))}
	for _, g := range s.device.gaps {
		if g.channel == l.id {
			r.gaps = append(r.gaps, g)
		}
	}
	for _, x := range s.receipts {
		if x.how == Again {
			c.v.Repeated++
			continue
		}
		c.v.Handed++
		r.handed(x)
	}
	r.lost()
}

// reading is one device's way through one channel.
type reading struct {
	*checker
	l     *channelLog
	s     *stream
	spans []reader
	got   []bool // by entry
	gaps  []gap  // of this channel
	last  place  // highest number handed to the application in the latest epoch
}

// owed says that the device must get a number, may that it is not forbidden.
func (r *reading) owed(seq uint64) bool {
	return slices.ContainsFunc(r.spans, func(x reader) bool { return x.until == 0 && seq >= x.from })
}

func (r *reading) may(seq uint64) bool {
	return slices.ContainsFunc(r.spans, func(x reader) bool { return seq >= x.from && (x.until == 0 || seq <= x.until) })
}

// left says that the device was a member at seq and stopped being one with the entry at last, which it got first: that entry has no
// place in the inbox, so it does not wait for what is being read from there.
func (r *reading) left(seq, last uint64) bool {
	return slices.ContainsFunc(r.spans, func(x reader) bool { return x.until == last && seq >= x.from && seq < last })
}

// handed judges one message against those before it.
func (r *reading) handed(x receipt) {
	at := place{x.seq, x.epoch}
	i, known := r.l.index[at] // not, when nobody saw its bytes as they were sent
	if !r.may(x.seq) && r.exists(x.id) {
		r.find(Misdirected, r.l.id, at, x.id, r.s.device, x.at, "%v got %s at %s and is none of its readers", r.s.device, r.message(x.id), r.clock(x.at))
	}
	switch {
	case known && r.got[i]:
		r.find(Duplicated, r.l.id, at, x.id, r.s.device, x.at, "%v got %s a second time at %s", r.s.device, r.message(x.id), r.clock(x.at))
	case at.epoch == r.last.epoch && at.seq < r.last.seq && known && r.mine(&r.l.entries[i]):
		// Its own message, of which another connection than the one that sent it learns at a resume: behind what came since.
	case at.epoch == r.last.epoch && at.seq < r.last.seq && r.left(x.seq, r.last.seq):
		r.v.Overtaken++
	case at.epoch == r.last.epoch && at.seq < r.last.seq:
		r.find(OutOfOrder, r.l.id, at, x.id, r.s.device, x.at, "%v got %s at %s, behind number %d", r.s.device, r.message(x.id), r.clock(x.at), r.last.seq)
	case at.epoch != r.last.epoch || r.last.seq == 0:
		if r.last.seq == 0 && r.s.known && at.seq > r.s.from+1 {
			r.passed(place{r.s.from, at.epoch}, x)
		}
		r.last = at
	default:
		if at.seq > r.last.seq+1 {
			r.passed(r.last, x)
		}
		r.last = at
	}
	if known {
		r.got[i] = true
	}
}

// passed judges the numbers between after and x: each must be the device's own or have been told.
func (r *reading) passed(after place, x receipt) {
	after.seq++
	i, _ := slices.BinarySearchFunc(r.l.entries, after, func(e entry, p place) int { return comparePlaces(e.place, p) })
	for ; i < len(r.l.entries); i++ {
		e := &r.l.entries[i]
		if e.epoch != x.epoch || e.seq >= x.seq {
			return
		}
		if r.got[i] || r.mine(e) || !r.owed(e.seq) || r.toldBy(e, x.at) {
			continue
		}
		r.find(Hole, r.l.id, e.place, e.id, r.s.device, x.at, "%v got number %d at %s without having got %s, and no GAP told it",
			r.s.device, x.seq, r.clock(x.at), r.message(e.id))
	}
}

func (r *reading) mine(e *entry) bool {
	return !r.l.ch.echo && e.id.device() == r.s.device.index && !e.id.foreign()
}

// toldBy says that the server had said until then that the device would not get e.
func (r *reading) toldBy(e *entry, until stamp) bool {
	for _, g := range r.gaps {
		if g.at <= until && g.epoch == e.epoch && g.from <= e.seq && e.seq <= g.to {
			return true
		}
	}
	// A gap of the inbox speaks of positions, which nobody but the server can match with numbers. It speaks of the past.
	for _, g := range r.s.device.gaps {
		if g.channel == inboxChannel && g.at <= until && g.at >= e.at {
			return true
		}
	}
	for _, x := range r.s.device.resets {
		if x.changed && x.at <= until && x.at >= e.at && (x.channel == r.l.id || x.channel == inboxChannel) {
			return true
		}
	}
	return false
}

// lost finds what was acknowledged and never came.
func (r *reading) lost() {
	end := r.h.stamp()
	for i := range r.l.entries {
		e := &r.l.entries[i]
		if !r.exists(e.id) || r.mine(e) || !r.owed(e.seq) || r.s.known && e.seq <= r.s.from && e.epoch == r.l.entries[0].epoch {
			continue
		}
		s := r.sent(e.id)
		if !s.stored() {
			continue
		}
		r.v.Owed++
		switch {
		case r.got[i]:
		case r.toldBy(e, end):
			r.v.Excused++
		default:
			r.find(Lost, r.l.id, e.place, e.id, r.s.device, s.acked, "%v never got %s; it %s", r.s.device, r.message(e.id), r.linkText(r.s.device, s.acked))
		}
	}
}
