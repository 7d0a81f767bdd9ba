package durable

import (
	"sync"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// Bounds of what is kept of devices and conversations between two flushes. The committer and logins, which cannot offer again what
// finds no room, get twice of it.
const (
	maxDeviceMarks = 65536
	maxConvMarks   = 65536
	maxLogMarks    = 1_100 // of a device: groups a user can be in, and all
	maxReceiptsFor = 100   // senders that wait for the receipts of one reader in one channel
)

// marks are the positions of devices and users that move. Shards, the committer and readers only note them; the goroutine of marks
// then looks whether they are right, which reads the store, tells who wants to know, and writes them from time to time, without
// a sync: a device whose position is lost in a crash gets some messages twice, and knows them.
type marks struct {
	// Static after construction.
	l     *Log
	wake  chan struct{} // holds a token when something waits to be looked at, or there is no room left
	ended chan struct{} // closed with the goroutine

	looked []*convMark // empty, to become waiting; owned by the goroutine

	mu      sync.Mutex // guards all below, entries too
	devices map[deviceID]*deviceMark
	convs   map[convID]*convMark
	waiting []*convMark   // to be looked at
	activeD []*deviceMark // all of devices
	activeC []*convMark   // all of convs
}

type deviceID struct{ user, device string }

type convID struct {
	user string
	ch   store.Channel
}

// deviceMark is a device whose positions moved lately.
type deviceMark struct {
	id     deviceID
	rec    deviceRecord // with loaded: what is to be written; without: what is new in it
	asked  []logMark    // delivered positions that were not looked at
	loaded bool         // only the goroutine of marks sets it
	exists bool         // it has a record, or shall have one
	dirty  bool
	used   bool // since the last flush
}

// convMark is a conversation in which a user's positions moved lately.
type convMark struct {
	id              convID
	delivered, read uint64 // said by devices and not looked at
	sent            uint64 // the user's last message
	answered        uint64 // the last message of the peer below sent that asks for receipts
	receipts        []receiptFor
	rec             convRecord // with loaded: what is to be written
	told            uint64     // read position that others were told of, or need not be
	head            uint64     // of the channel, at least
	loaded          bool       // only the goroutine of marks sets it
	queued          bool       // in waiting
	dirty           bool
	used            bool // since the last flush
}

// receiptFor is a message whose sender wants to know that it was delivered.
type receiptFor struct {
	sender string
	seq    uint64
}

func (m *marks) init(l *Log) {
	m.l = l
	m.wake, m.ended = make(chan struct{}, 1), make(chan struct{})
	m.devices, m.convs = map[deviceID]*deviceMark{}, map[convID]*convMark{}
}

func (m *marks) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// depth is how many devices and conversations are kept, because they are not written or were a moment ago.
func (m *marks) depth() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.devices) + len(m.convs)
}

// add notes marks up to the first that finds no room.
func (m *marks) add(all []shard.Mark) (taken int) {
	place, now := m.l.place.Load(), m.l.now()
	m.mu.Lock()
	for taken < len(all) && m.addOne(&all[taken], place, now) {
		taken++
	}
	poke := len(m.waiting) > 0 || taken < len(all)
	m.mu.Unlock()
	if n := len(all) - taken; n > 0 {
		m.l.stats.marksRefused.Add(uint64(n))
	}
	if poke {
		m.poke()
	}
	return taken
}

// addOne says whether there was room. mu is held.
func (m *marks) addOne(k *shard.Mark, place, now uint64) bool {
	ownLog := k.Kind == codec.KindGroup || k.Kind == codec.KindAll
	if k.Gone || k.Kind == codec.KindInbox || ownLog && k.Mode == codec.AckDelivered {
		d := m.deviceOf(deviceID{k.User, k.Device}, maxDeviceMarks)
		if d == nil {
			return false
		}
		m.moveDevice(d, k, place, now)
	}
	if k.Seq == 0 || k.Kind == codec.KindInbox || k.Kind == codec.KindTopic { // topics: the client keeps its position
		return true
	}
	if k.Mode != codec.AckDelivered && k.Mode != codec.AckRead || !mayConcern(k.User, k.Kind, k.Name) {
		m.l.stats.marksIgnored.Add(1)
		return true
	}
	c := m.convOf(convID{k.User, store.Channel{Kind: k.Kind, Name: k.Name}}, maxConvMarks)
	if c == nil {
		return false
	}
	if k.Mode == codec.AckRead {
		c.read = max(c.read, k.Seq)
	} else {
		c.delivered = max(c.delivered, k.Seq)
	}
	if k.Receipt != "" {
		c.wants(k.Receipt, k.Seq)
	}
	m.queue(c)
	return true
}

// mayConcern says whether the user can have a part in the channel; of groups that is looked at later.
func mayConcern(user string, kind codec.Kind, name string) bool {
	switch kind {
	case codec.KindDirect:
		a, b, ok := codec.SplitPair([]byte(name))
		return ok && (string(a) == user || string(b) == user)
	case codec.KindGroup:
		return codec.ValidID([]byte(name))
	}
	return kind == codec.KindAll && name == codec.AllName
}

// moveDevice takes over what of a mark is the device's own. mu is held.
func (m *marks) moveDevice(d *deviceMark, k *shard.Mark, place, now uint64) {
	if k.Gone {
		d.rec.Seen, d.dirty = max(d.rec.Seen, now), true
	}
	switch {
	case k.Seq == 0 || k.Mode != codec.AckDelivered:
	case k.Kind != codec.KindInbox:
		if raise(&d.asked, logMark{k.Kind, k.Name, k.Seq}) {
			d.dirty = true
		} else {
			m.l.stats.marksIgnored.Add(1)
		}
	case k.Seq > place:
		m.l.stats.marksIgnored.Add(1)
	case k.Seq > d.rec.Pos:
		m.l.stats.marks.Add(1)
		d.rec.Pos, d.rec.Seen, d.exists, d.dirty = k.Seq, max(d.rec.Seen, now), true, true
	}
}

// raise moves a position in a list up, or adds it; false: the list is full.
func raise(list *[]logMark, to logMark) bool {
	for i := range *list {
		if at := &(*list)[i]; at.Kind == to.Kind && at.Name == to.Name {
			at.Seq = max(at.Seq, to.Seq)
			return true
		}
	}
	if len(*list) >= maxLogMarks {
		return false
	}
	*list = append(*list, to)
	return true
}

// wants notes that a sender is to be told when the mark is found right.
func (c *convMark) wants(sender string, seq uint64) {
	for i := range c.receipts {
		if r := &c.receipts[i]; r.sender == sender {
			r.seq = max(r.seq, seq)
			return
		}
	}
	if len(c.receipts) < maxReceiptsFor {
		c.receipts = append(c.receipts, receiptFor{sender, seq})
	}
}

// queue has a conversation looked at. mu is held.
func (m *marks) queue(c *convMark) {
	if !c.queued {
		c.queued = true
		m.waiting = append(m.waiting, c)
	}
}

// deviceOf finds or makes a device's mark; nil: there is no room. mu is held.
func (m *marks) deviceOf(id deviceID, room int) *deviceMark {
	d := m.devices[id]
	if d == nil {
		if len(m.devices) >= room {
			return nil
		}
		d = &deviceMark{id: id}
		m.devices[id] = d
		m.activeD = append(m.activeD, d)
	}
	d.used = true
	return d
}

// convOf is the same for a conversation.
func (m *marks) convOf(id convID, room int) *convMark {
	c := m.convs[id]
	if c == nil {
		if len(m.convs) >= room {
			return nil
		}
		c = &convMark{id: id}
		m.convs[id] = c
		m.activeC = append(m.activeC, c)
	}
	c.used = true
	return c
}

// sent moves the read position of a user to a message of its own. answered is the last message of the peer below it that asks for
// receipts, 0 when there is none or the channel is not a direct one.
func (m *marks) sent(user string, ch store.Channel, seq, answered uint64) {
	if seq == 0 || user == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.convOf(convID{user, ch}, 2*maxConvMarks)
	if c == nil {
		m.l.stats.marksRefused.Add(1)
		m.poke()
		return
	}
	c.sent, c.head, c.dirty = max(c.sent, seq), max(c.head, seq), true
	if answered > c.answered {
		c.answered = answered
		m.queue(c)
		m.poke()
	}
}

// seen notes that a device logged in and where it starts: its record is made or changed soon.
func (l *Log) seen(user, device string, pos uint64, logs []logMark) {
	m := &l.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.deviceOf(deviceID{user, device}, 2*maxDeviceMarks)
	if d == nil {
		l.stats.marksRefused.Add(1)
		return
	}
	d.rec.Seen, d.rec.Pos = max(d.rec.Seen, l.now()), max(d.rec.Pos, pos)
	for _, mark := range logs {
		raise(&d.asked, mark)
	}
	d.exists, d.dirty = true, true
}

// rewrite has everything that is still known written again: what was written before a failure without a sync may be lost.
func (m *marks) rewrite() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.activeD {
		d.dirty = true
	}
	for _, c := range m.activeC {
		c.dirty = true
	}
}
