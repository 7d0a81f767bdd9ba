package verify

import (
	"maps"
	"slices"
)

// How a number's message became known, beside How.
const (
	answered How = 16 + iota
	pulled
)

// entry is one number of a channel's log and the message that it holds, as it was first seen.
type entry struct {
	place
	id    ID
	by    uint32 // device that saw it
	at    stamp
	how   How
	clash bool // another message was seen under the number
	again bool // the message was seen under another number
}

// channelLog is what everybody together saw of one channel's log.
type channelLog struct {
	id      ChannelID
	ch      *channel
	entries []entry       // sorted by place once all are there
	index   map[place]int // in entries
}

// channel judges everything about one channel but the order of its senders.
func (c *checker) channel(id ChannelID) {
	l := &channelLog{id: id, ch: c.h.channels[id], index: make(map[place]int)}
	c.gather(l)
	if len(l.entries) == 0 && len(c.sentTo[id]) == 0 {
		return
	}
	c.v.Channels++
	slices.SortFunc(l.entries, func(a, b entry) int { return comparePlaces(a.place, b.place) })
	for i := range l.entries {
		l.index[l.entries[i].place] = i
	}
	c.againstLog(l)
	spans := make(map[uint32][]reader)
	for _, r := range l.ch.readers {
		spans[r.device] = append(spans[r.device], r)
	}
	for _, s := range l.ch.streams {
		c.reader(l, s, spans[s.device.index])
		delete(spans, s.device.index)
	}
	for _, device := range slices.Sorted(maps.Keys(spans)) { // those that got nothing at all
		c.reader(l, &stream{device: c.h.devices[device], channel: id}, spans[device])
	}
}

// gather brings together who saw which message under which number, and tells where they disagree.
func (c *checker) gather(l *channelLog) {
	for _, id := range c.sentTo[l.id] {
		if s := c.sent(id); s.seq != 0 {
			c.see(l, entry{place: place{s.seq, s.epoch}, id: id, by: id.device(), at: s.acked, how: answered})
		}
	}
	for _, e := range c.conflicts[l.id] {
		c.see(l, e)
	}
	for _, s := range l.ch.streams {
		for _, r := range s.receipts {
			c.see(l, entry{place: place{r.seq, r.epoch}, id: r.id, by: s.device.index, at: r.at, how: r.how})
		}
	}
	for _, p := range l.ch.pulls {
		for _, r := range p.receipts {
			how := pulled
			if r.how == Altered {
				how = Altered
			}
			c.see(l, entry{place: place{r.seq, r.epoch}, id: r.id, by: p.device.index, at: r.at, how: how})
		}
		c.v.InLogs += len(p.receipts)
	}
}

// see adds one sighting.
func (c *checker) see(l *channelLog, e entry) {
	if e.how == Altered {
		c.find(Corrupted, l.id, e.place, foreignBit, c.h.devices[e.by], e.at, "%v got number %d at %s with a broken checksum or another sender%s",
			c.h.devices[e.by], e.seq, c.clock(e.at), c.shouldBe(l, e.place))
		return
	}
	if c.exists(e.id) && c.sent(e.id).channel != l.id {
		c.find(Misdirected, l.id, e.place, e.id, c.h.devices[e.by], e.at, "%v got %s, which was sent to %v",
			c.h.devices[e.by], c.message(e.id), c.h.channels[c.sent(e.id).channel])
		return
	}
	if i, known := l.index[e.place]; !known {
		l.index[e.place] = len(l.entries)
		l.entries = append(l.entries, e)
	} else if was := &l.entries[i]; was.id != e.id && !was.clash {
		was.clash = true
		c.clash(l, was, &e)
	}
	if !c.exists(e.id) {
		return
	}
	at := &c.places[e.id.device()][e.id.number()]
	switch {
	case at.seq == 0:
		*at = e.place
	case at.epoch == e.epoch && at.seq != e.seq:
		i := l.index[e.place]
		if was := &l.entries[i]; !was.again {
			was.again = true
			c.find(StoredTwice, l.id, e.place, e.id, c.h.devices[e.by], e.at, "%s also has number %d, %s", c.message(e.id), e.seq, c.seen(&e))
		}
	}
}

// clash tells of two messages under one number.
func (c *checker) clash(l *channelLog, was, now *entry) {
	kind := NumberTwice
	if was.how == pulled || now.how == pulled {
		kind = Gone // one of the two is not in its place any more
	}
	c.find(kind, l.id, now.place, now.id, c.h.devices[now.by], now.at, "number %d is %s, %s, and also %s, %s%s",
		now.seq, c.message(was.id), c.seen(was), c.message(now.id), c.seen(now), c.markText(was.at, now.at))
}

func (c *checker) seen(e *entry) string {
	d, at := c.h.devices[e.by], c.clock(e.at)
	switch e.how {
	case answered:
		return "as the answer to " + d.String() + " said at " + at
	case pulled:
		return "as the log said to " + d.String() + " at " + at
	}
	return "as " + d.String() + " got it at " + at
}

func (c *checker) shouldBe(l *channelLog, at place) string {
	if i, ok := l.index[at]; ok {
		return "; it was " + c.message(l.entries[i].id)
	}
	return ""
}

// againstLog holds what was seen against the log as it was read at the end.
func (c *checker) againstLog(l *channelLog) {
	if len(l.ch.pulls) == 0 {
		return
	}
	var whole *Pull
	for _, p := range l.ch.pulls {
		for i := 1; i < len(p.receipts); i++ {
			if r := p.receipts[i]; r.seq <= p.receipts[i-1].seq {
				c.find(OutOfOrder, l.id, place{r.seq, r.epoch}, r.id, p.device, r.at, "the log has number %d behind %d", r.seq, p.receipts[i-1].seq)
			}
		}
		if p.complete {
			whole = p
			c.goneFrom(l, p)
		}
	}
	if whole == nil {
		p := l.ch.pulls[0]
		c.find(Unanswered, l.id, place{}, foreignBit, p.device, c.h.stamp(), "its log could not be read to the end by %v", p.device)
		return
	}
	c.missingNumbers(l, whole)
}

// goneFrom finds what was seen and is not in a log that was read to its end.
func (c *checker) goneFrom(l *channelLog, p *Pull) {
	there := make([]bool, len(l.entries))
	for _, r := range p.receipts {
		if i, ok := l.index[place{r.seq, r.epoch}]; ok {
			there[i] = true
		}
	}
	for i := range l.entries {
		e := &l.entries[i]
		if there[i] || e.epoch != p.epoch || e.seq < p.from || told(p.gaps, e.seq) {
			continue
		}
		end := c.h.stamp()
		c.find(Gone, l.id, e.place, e.id, c.h.devices[e.by], e.at, "number %d was %s, %s, and is not in the log any more%s",
			e.seq, c.message(e.id), c.seen(e), c.markText(e.at, end))
	}
}

// missingNumbers finds numbers that no message has, although higher ones have.
func (c *checker) missingNumbers(l *channelLog, p *Pull) {
	for i := 1; i < len(l.entries); i++ {
		a, b := &l.entries[i-1], &l.entries[i]
		if a.epoch != b.epoch || a.epoch != p.epoch || b.seq == a.seq+1 || a.seq < p.from || told(p.gaps, a.seq+1) {
			continue
		}
		c.find(Hole, l.id, place{a.seq + 1, a.epoch}, foreignBit, p.device, b.at, "nobody has number %d to %d, between %s and %s",
			a.seq+1, b.seq-1, c.message(a.id), c.message(b.id))
	}
}

// told says that one of the gaps holds seq.
func told(gaps []gap, seq uint64) bool {
	return slices.ContainsFunc(gaps, func(g gap) bool { return g.from <= seq && seq <= g.to })
}
