package verify

import (
	"sync"

	"gannet/codec"
)

// Device is one device's part of a History. The methods are called in the order in which things happened to it.
type Device struct {
	h     *History
	index uint32

	User string
	Name string

	mu        sync.Mutex // taken before the History's
	sent      []sent     // by number
	streams   map[ChannelID]*stream
	gaps      []gap
	resets    []reset
	links     []linkChange
	refused   uint64      // lowest nonce that was refused with 1–99 and not sent again; 0: none
	overtaken []overtaken // answers that were not allowed meanwhile
	conflicts []conflict
	repeats   int64 // received again and not kept

	epoch      uint64 // the last one that was looked up
	epochIndex uint16
}

// sent is a message that a device sent.
type sent struct {
	nonce   uint64
	seq     uint64 // 0: not known
	channel ChannelID
	at      stamp // of the first try
	acked   stamp
	code    codec.Code // of the last answer
	epoch   uint16
}

// unanswered is the code of a message without an answer; no server sends it.
const unanswered codec.Code = 0xffff

// stored says that the server promised to keep it.
func (s *sent) stored() bool { return s.code == codec.CodeOK || s.code == codec.CodeDuplicate }

// stream is what a device got of a channel, in the order in which it came.
type stream struct {
	device   *Device
	channel  ChannelID
	receipts []receipt
	from     uint64 // the device began behind this seq
	known    bool   // it does know from
}

type receipt struct {
	seq   uint64
	id    ID
	at    stamp
	epoch uint16
	how   How
}

// How a message came.
type How uint8

const (
	Handed  How = iota // to the application: the receiver did not know it
	Again              // the receiver knew the seq and dropped it
	Altered            // handed to the application, but its bytes are not those that were sent
)

type gap struct {
	from, to uint64
	channel  ChannelID // or inboxChannel
	at       stamp
	epoch    uint16
	reason   uint8
}

type reset struct {
	channel ChannelID // or inboxChannel
	at      stamp
	changed bool   // the epoch did; else the position lay beyond the head
	pos     uint64 // that the device had
	head    uint64 // that the server has
}

type linkChange struct {
	at stamp
	up bool
}

// overtaken is an answer to a message while an earlier one was refused and had not been sent again.
type overtaken struct {
	number  uint32
	refused uint64 // nonce
	at      stamp
}

// conflict is a second answer with another seq than the first.
type conflict struct {
	number uint32
	seq    uint64
	at     stamp
	epoch  uint16
}

func (d *Device) String() string { return d.User + "/" + d.Name }

// indexOf is the History's index of an epoch.
func (d *Device) indexOf(epoch uint64) uint16 {
	if d.epoch != epoch || epoch == 0 {
		d.epoch, d.epochIndex = epoch, d.h.epoch(epoch)
	}
	return d.epochIndex
}

// kind is the kind of channel that a message of the device went to.
func (d *Device) kind(id ID) codec.Kind {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.h.kind(d.sent[id.number()].channel)
}

// Send notes that a message is about to be sent for the first time.
func (d *Device) Send(c ChannelID, nonce uint64) ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.h.events.Add(1)
	d.sent = append(d.sent, sent{nonce: nonce, channel: c, at: d.h.stamp(), code: unanswered})
	return newID(d.index, uint32(len(d.sent)-1))
}

// Retry notes that a message is about to be sent again.
func (d *Device) Retry(id ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sent[id.number()].nonce <= d.refused {
		d.refused = 0
	}
}

// Ack notes an answer; epoch is the one in force on the connection.
func (d *Device) Ack(id ID, epoch uint64, code codec.Code, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.indexOf(epoch)
	n, at := id.number(), d.h.stamp()
	s := &d.sent[n]
	switch {
	case code.Temporary():
		if d.refused == 0 || s.nonce < d.refused {
			d.refused = s.nonce
		}
		if s.code == unanswered {
			s.code = code
		}
		return
	case code == codec.CodeOK && d.refused != 0 && s.nonce > d.refused:
		d.overtaken = append(d.overtaken, overtaken{number: n, refused: d.refused, at: at})
	}
	if !s.stored() {
		s.code, s.acked = code, at
	}
	if seq == 0 || (code != codec.CodeOK && code != codec.CodeDuplicate) {
		return
	}
	switch {
	case s.seq == 0:
		s.seq, s.epoch = seq, e
	case s.seq != seq && s.epoch == e:
		d.conflicts = append(d.conflicts, conflict{number: n, seq: seq, at: at, epoch: e})
	}
}

func (d *Device) stream(c ChannelID) *stream {
	s := d.streams[c]
	if s == nil {
		s = &stream{device: d, channel: c}
		d.streams[c] = s
		d.h.mu.Lock()
		d.h.channels[c].streams = append(d.h.channels[c].streams, s)
		d.h.mu.Unlock()
	}
	return s
}

// From notes that the device begins to follow a channel behind seq: it is not owed what was there before.
func (d *Device) From(c ChannelID, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stream(c)
	if !s.known {
		s.from, s.known = seq, true
	}
}

// Receive notes a message. Of those that came again what is beyond the History's limit is only counted.
func (d *Device) Receive(c ChannelID, epoch, seq uint64, id ID, how How) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.indexOf(epoch)
	if how == Again && d.h.Full() {
		d.repeats++
		return
	}
	d.h.events.Add(1)
	s := d.stream(c)
	s.receipts = append(s.receipts, receipt{seq: seq, id: id, at: d.h.stamp(), epoch: e, how: how})
}

// Gap notes that the server says that messages from to to will not come.
func (d *Device) Gap(c ChannelID, epoch, from, to uint64, reason uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.indexOf(epoch)
	d.h.events.Add(1)
	d.gaps = append(d.gaps, gap{from: from, to: to, channel: c, at: d.h.stamp(), epoch: e, reason: reason})
}

// InboxGap is Gap for positions of the inbox.
func (d *Device) InboxGap(epoch, from, to uint64, reason uint8) {
	d.Gap(inboxChannel, epoch, from, to, reason)
}

// Reset notes that the server says that the device's position in a channel, pos, is void. changed says that the epoch is another
// one; otherwise the position lies beyond head.
func (d *Device) Reset(c ChannelID, changed bool, pos, head uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resets = append(d.resets, reset{channel: c, at: d.h.stamp(), changed: changed, pos: pos, head: head})
}

// InboxReset is Reset for the inbox.
func (d *Device) InboxReset(changed bool, pos, head uint64) {
	d.Reset(inboxChannel, changed, pos, head)
}

// Link notes that the device is connected now, or no longer is.
func (d *Device) Link(up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links = append(d.links, linkChange{at: d.h.stamp(), up: up})
}

// Pull is a channel's log as it was read at the end.
type Pull struct {
	device   *Device
	epoch    uint16
	from     uint64
	complete bool
	receipts []receipt
	gaps     []gap
}

// Pull begins to note the log of a channel, read from seq from on.
func (d *Device) Pull(c ChannelID, epoch, from uint64) *Pull {
	p := &Pull{device: d, epoch: d.h.epoch(epoch), from: from}
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.channels[c].pulls = append(d.h.channels[c].pulls, p)
	return p
}

// Message notes a message of the log.
func (p *Pull) Message(seq uint64, id ID, altered bool) {
	p.device.mu.Lock()
	defer p.device.mu.Unlock()
	r := receipt{seq: seq, id: id, at: p.device.h.stamp(), epoch: p.epoch}
	if altered {
		r.how = Altered
	}
	p.receipts = append(p.receipts, r)
}

// Gap notes that the log says that messages are not there any more.
func (p *Pull) Gap(from, to uint64, reason uint8) {
	p.device.mu.Lock()
	defer p.device.mu.Unlock()
	p.gaps = append(p.gaps, gap{from: from, to: to, epoch: p.epoch, reason: reason})
}

// Complete notes that the log's end was reached.
func (p *Pull) Complete() {
	p.device.mu.Lock()
	defer p.device.mu.Unlock()
	p.complete = true
}
