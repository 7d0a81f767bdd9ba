package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gannet/codec"
)

// Check judges a History as if the run had ended now. Its work grows with the events; it keeps the places of one channel's
// messages at a time, and 16 bytes a message for all.
//
// What it takes for granted: numbers of one epoch only are compared; a device need not get what it sent itself to a direct channel,
// and may get it late; what an unanswered SEND became of is open until somebody sees the message.
func Check(h *History) Verdict {
	unlock := h.lock()
	defer unlock()
	c := &checker{
		h: h, places: make([][]place, len(h.devices)), sentTo: make([][]ID, len(h.channels)), conflicts: make(map[ChannelID][]entry),
	}
	for i, d := range h.devices {
		c.places[i] = make([]place, len(d.sent))
		for n := range d.sent {
			ch := d.sent[n].channel
			c.sentTo[ch] = append(c.sentTo[ch], newID(d.index, uint32(n)))
		}
		for _, x := range d.conflicts {
			ch := d.sent[x.number].channel
			c.conflicts[ch] = append(c.conflicts[ch], entry{
				place: place{x.seq, x.epoch}, id: newID(d.index, x.number), by: d.index, at: x.at, how: answered,
			})
		}
	}
	for id := range h.channels {
		c.channel(ChannelID(id))
	}
	for _, d := range h.devices {
		c.sender(d)
	}
	c.v.sort()
	return c.v
}

// checker is one Check at work.
type checker struct {
	h         *History
	v         Verdict
	places    [][]place // by device and number: where a message is stored, as far as anybody saw
	sentTo    [][]ID    // by channel
	conflicts map[ChannelID][]entry
}

// place is a number of a channel's log.
type place struct {
	seq   uint64 // 0: not known
	epoch uint16
}

func (c *checker) sent(id ID) *sent { return &c.h.devices[id.device()].sent[id.number()] }

// exists says that a device of this History sent a message; a payload can claim anything.
func (c *checker) exists(id ID) bool {
	return !id.foreign() && int(id.device()) < len(c.h.devices) && int(id.number()) < len(c.h.devices[id.device()].sent)
}

// sender judges what one device sent: every answer, and the order of what it sent to each channel.
func (c *checker) sender(d *Device) {
	last := make(map[ChannelID]uint32) // the latest stored one by number
	for n := range d.sent {
		s, id := &d.sent[n], newID(d.index, uint32(n))
		c.v.Sent++
		switch {
		case s.stored():
			c.v.Stored++
		case s.code == unanswered || s.code.Temporary():
			c.find(Unanswered, s.channel, place{}, id, d, s.at, "%s has no final answer; the last one was %s", c.message(id), codeText(s.code))
		default:
			c.v.Refused++
		}
		at := c.places[d.index][n]
		if at.seq == 0 {
			if s.stored() {
				c.find(Lost, s.channel, place{}, id, d, s.acked, "%s was answered %v, and nobody has it", c.message(id), s.code)
			}
			continue
		}
		if before, ok := last[s.channel]; ok {
			was := c.places[d.index][before]
			if was.epoch == at.epoch && was.seq > at.seq {
				c.find(OutOfOrder, s.channel, at, id, d, s.at, "%s is stored before %s, which was sent before it",
					c.message(id), c.message(newID(d.index, before)))
			}
			if was.epoch == at.epoch && was.seq >= at.seq {
				continue // the highest one stays the measure
			}
		}
		last[s.channel] = uint32(n)
	}
	for _, o := range d.overtaken {
		id := newID(d.index, o.number)
		c.find(OutOfOrder, c.sent(id).channel, c.places[d.index][o.number], id, d, o.at,
			"%s was stored while nonce %d before it stood refused and had not been sent again", c.message(id), o.refused)
	}
	for _, g := range d.gaps {
		if g.reason == codec.GapNoRight || g.reason == codec.GapFiltered {
			c.v.NoRight++
			continue
		}
		c.told("%s %v: %s: GAP %d to %d, reason %d", c.clock(g.at), d, c.channelText(g.channel, d), g.from, g.to, g.reason)
	}
	for _, r := range d.resets {
		c.told("%s %v: %s: RESET, position %d, head %d, another epoch: %v", c.clock(r.at), d, c.channelText(r.channel, d), r.pos, r.head, r.changed)
		if !r.changed {
			c.find(Gone, r.channel, place{}, foreignBit, d, r.at, "%v knew position %d, and the server, in the same epoch, has only %d", d, r.pos, r.head)
		}
	}
	c.v.Repeated += d.repeats
}

// told counts a gap or a reset that says that something is gone.
func (c *checker) told(format string, args ...any) {
	if c.v.Gaps++; c.v.Gaps <= MaxFindings {
		c.v.Told = append(c.v.Told, fmt.Sprintf(format, args...))
	}
}

func (c *checker) channelText(ch ChannelID, d *Device) string {
	if ch == inboxChannel {
		return "inbox of " + d.User
	}
	return c.h.channels[ch].String()
}

func codeText(code codec.Code) string {
	if code == unanswered {
		return "none"
	}
	return code.String()
}

// find adds a finding. foreignBit as the id says that it is about no message.
func (c *checker) find(k Kind, ch ChannelID, at place, id ID, d *Device, when stamp, format string, args ...any) {
	f := Finding{Kind: k, Channel: c.channelText(ch, d), Seq: at.seq, Device: d.String(), At: c.h.time(when)}
	if at.seq != 0 {
		f.Epoch = c.h.epochs[at.epoch]
	}
	if id != foreignBit {
		f.Message = id.String()
	}
	if c.v.Counts[k] < MaxFindings {
		f.Text = f.Channel + ": " + fmt.Sprintf(format, args...)
	}
	c.v.add(f)
}

// message describes a message for people.
func (c *checker) message(id ID) string {
	if !c.exists(id) {
		return "a message that is not of this run (" + id.String() + ")"
	}
	s := c.sent(id)
	text := fmt.Sprintf("message %v of %v (nonce %d, sent %s", id, c.h.devices[id.device()], s.nonce, c.clock(s.at))
	if s.stored() {
		text += fmt.Sprintf(", %v after %d ms", s.code, s.acked-s.at)
	}
	if at := c.places[id.device()][id.number()]; at.seq != 0 {
		text += fmt.Sprintf(", number %d", at.seq)
	}
	return text + ")"
}

func (c *checker) clock(s stamp) string { return c.h.time(s).Format("15:04:05.000") }

// linkText says whether a device was connected at a time.
func (c *checker) linkText(d *Device, at stamp) string {
	i, _ := slices.BinarySearchFunc(d.links, at, func(l linkChange, at stamp) int {
		if l.at <= at {
			return -1
		}
		return 1
	})
	text := "was not yet connected then"
	if i > 0 {
		text = "was disconnected then, since "
		if d.links[i-1].up {
			text = "was connected then, since "
		}
		text += c.clock(d.links[i-1].at)
	}
	if i < len(d.links) {
		text += " until " + c.clock(d.links[i].at)
	}
	return text
}

// Marks are what Mark noted.
func (h *History) Marks() []Mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.marks)
}

// markText names the last mark before a time, such as a crash.
func (c *checker) markText(from, to stamp) string {
	for _, m := range c.h.marks {
		if at := stamp(m.At / time.Millisecond); at >= from && at <= to {
			return fmt.Sprintf("; meanwhile, %s: %s", c.clock(at), m.What)
		}
	}
	return ""
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.seq, b.seq))
}
