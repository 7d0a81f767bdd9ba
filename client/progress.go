package client

import (
	"slices"
	"strings"
	"time"

	"gannet/codec"
)

// progress is what the handlers are done with: what may be acknowledged and saved. Guarded by tracker.mu.
type progress struct {
	epoch uint64 // of pos
	pos   uint64 // of the inbox; 0: none
	told  uint64 // of pos, by ACK or HELLO on this connection
	due   map[*place]bool
	reads map[Channel]readMark
	moved bool // since the last snapshot
}

// readMark is how far the user has read a channel. It is told again on the next connection if it is young: an ACK has no answer.
type readMark struct {
	seq  uint64
	told time.Time // zero: not yet
}

const (
	maxMarks = 1024            // readMarks that are remembered
	readAge  = 2 * time.Minute // after this they are taken for told
)

// mark is a seq of a channel on its way through the handlers' queue: when it is at its end the handlers are done with all up to there.
type mark struct {
	place *place
	epoch uint64
	seq   uint64
	guess bool // the next one of the place counts, even if it is lower
}

func (d *progress) init() {
	d.due, d.reads = make(map[*place]bool), make(map[Channel]readMark)
}

// reset voids what belongs to another log.
func (d *progress) reset(epoch uint64) {
	d.epoch, d.pos, d.told = epoch, 0, 0
	clear(d.due)
	clear(d.reads)
}

// finished takes a mark that the handlers are done with. Called by the dispatcher.
func (t *tracker) finished(m mark) {
	p := m.place
	if p == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.inEpoch == m.epoch && p.finished >= m.seq && !p.guess && !m.guess {
		return
	}
	p.finished, p.inEpoch, p.guess = m.seq, m.epoch, m.guess
	if p.log {
		t.done.due[p] = true
		wake(t.pulse)
	}
	t.done.moved = true
	wake(t.save)
}

// reached takes a position of the inbox that the handlers are done with.
func (t *tracker) reached(pos, epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := &t.done
	if epoch != t.epoch || pos <= d.pos && d.epoch == epoch {
		return
	}
	d.epoch, d.pos, d.moved = epoch, pos, true
	wake(t.pulse)
	wake(t.save)
}

// read notes how far the user has read a channel.
func (t *tracker) read(ch Channel, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	reads := t.done.reads
	if old, ok := reads[ch]; ok && old.seq >= seq {
		return
	}
	if len(reads) >= maxMarks {
		t.done.forgetRead()
	}
	reads[ch] = readMark{seq: seq}
	wake(t.pulse)
}

// forgetRead makes room: for what was told first, else for any.
func (d *progress) forgetRead() {
	var victim Channel
	told := false
	for ch, r := range d.reads {
		if !r.told.IsZero() && (!told || r.told.Before(d.reads[victim].told)) {
			victim, told = ch, true
		} else if !told {
			victim = ch
		}
	}
	delete(d.reads, victim)
}

// retell has young read marks told again on a new connection.
func (d *progress) retell(now time.Time) {
	for ch, r := range d.reads {
		if now.Sub(r.told) > readAge && !r.told.IsZero() {
			delete(d.reads, ch)
			continue
		}
		d.reads[ch] = readMark{seq: r.seq}
	}
}

// acks returns the ACKs that are due, in frames of at most so many bytes of body.
func (t *tracker) acks(self string, maxFrame int, now time.Time) (frames [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := &t.done
	const fixed, entry = 1 + 8 + 2, 1 + 1 + codec.MaxPair + 8
	most := max(1, (maxFrame-fixed)/entry)
	delivered := codec.Ack{Mode: codec.AckDelivered}
	if d.pos > d.told && d.epoch == t.epoch {
		delivered.InboxPos, d.told = d.pos, d.pos
	}
	flush := func(a *codec.Ack, least int) {
		if a.Marks.Len() >= least || a.InboxPos != 0 {
			frames = append(frames, codec.AppendAck(nil, *a))
			*a = codec.Ack{Mode: a.Mode}
		}
	}
	for p := range d.due {
		if p.inEpoch == p.epoch && p.finished > 0 {
			delivered.Marks.Append(codec.Mark{Kind: p.ch.Kind, Name: p.ch.wireName(self), Seq: p.finished})
		}
		delete(d.due, p)
		if delivered.Marks.Len() >= most {
			flush(&delivered, 1)
		}
	}
	flush(&delivered, 1)
	read := codec.Ack{Mode: codec.AckRead}
	for ch, r := range d.reads {
		if r.told.IsZero() {
			read.Marks.Append(codec.Mark{Kind: ch.Kind, Name: ch.wireName(self), Seq: r.seq})
			d.reads[ch] = readMark{r.seq, now}
			if read.Marks.Len() >= most {
				flush(&read, 1)
			}
		}
	}
	flush(&read, 1)
	return frames
}

// atHello puts the position in the inbox into h.
func (t *tracker) atHello(h *codec.Hello, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.retell(now)
	if t.done.pos != 0 {
		h.InboxEpoch, h.InboxPos = t.done.epoch, t.done.pos
	}
	t.done.told = t.done.pos
}

// inHello puts the positions in channels that are read from their own log and need no SUB into h, as far as there is room; the
// others the server has by ACK.
func (t *tracker) inHello(h *codec.Hello) (channels []Channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := codec.LoginLimit - (len(codec.AppendHello(nil, *h)) - codec.HeaderLen)
	var logs []*place
	for _, p := range t.places {
		if p.log && p.ch.Kind != codec.KindTopic && p.finished > 0 {
			logs = append(logs, p)
		}
	}
	slices.SortFunc(logs, func(a, b *place) int { return strings.Compare(a.ch.Name, b.ch.Name) })
	for _, p := range logs {
		if room -= positionLen(p.ch.Name); room < 0 {
			break
		}
		h.Positions.Append(codec.Position{Kind: p.ch.Kind, Name: []byte(p.ch.Name), Epoch: p.inEpoch, Seq: p.finished})
		channels = append(channels, p.ch)
	}
	return channels
}

// positionLen is the length of an entry of HELLO: kind, length of the name, name, epoch, seq.
func positionLen(name string) int { return 1 + 1 + len(name) + 8 + 8 }

// from is where a topic goes on; epoch 0: from now.
func (t *tracker) from(topic string) (epoch, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.places[Topic(topic)]; p != nil && p.wanted {
		return p.inEpoch, p.finished
	}
	return 0, 0
}

// restore takes what a process before has saved.
func (t *tracker) restore(c Checkpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch = c.InboxEpoch
	t.done.epoch, t.done.pos = c.InboxEpoch, c.InboxPos
	for _, pos := range c.Channels {
		p := t.at(pos.Channel)
		p.epoch, p.known, p.last, p.posted = pos.Epoch, true, pos.Seq, pos.Seq
		p.inEpoch, p.finished = pos.Epoch, pos.Seq
		p.wanted, p.log = pos.Channel.Kind == codec.KindTopic, pos.Log
	}
}

// unsaved has the next checkpoint return what the last one did.
func (t *tracker) unsaved() {
	t.mu.Lock()
	t.done.moved = true
	t.mu.Unlock()
}

// checkpoint returns what there is to save; ok is false when nothing has moved since the last time.
func (t *tracker) checkpoint() (c Checkpoint, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.done.moved {
		return c, false
	}
	t.done.moved = false
	c.InboxEpoch, c.InboxPos = t.done.epoch, t.done.pos
	for _, p := range t.places {
		if p.inEpoch != 0 && (p.wanted || p.ch.Kind != codec.KindTopic) {
			c.Channels = append(c.Channels, Position{Channel: p.ch, Epoch: p.inEpoch, Seq: p.finished, Log: p.log})
		}
	}
	slices.SortFunc(c.Channels, Position.compare)
	return c, true
}
