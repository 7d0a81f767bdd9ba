package durable

import (
	"sync"

	"gannet/codec"
	"gannet/store"
)

// Bounds of RECEIPT frames.
const (
	receiptMembers = 100     // members up to which a group has them
	receiptSpan    = 100     // messages that are looked at for who wants to know that they were read
	receiptBytes   = 1 << 20 // and their bytes
	maxNotices     = 65536   // frames that wait for the committer
)

// notices are RECEIPTs on their way to the committer, who alone talks to the shards.
type notices struct {
	mu  sync.Mutex
	all []notice // guarded by mu
}

type notice struct {
	user  []byte
	frame []byte
}

// notify hands over what waits.
func (c *committer) notify() {
	n := &c.log.notices
	n.mu.Lock()
	all := n.all
	n.all = nil
	n.mu.Unlock()
	if len(all) == 0 {
		return
	}
	now := c.log.clock()
	for _, x := range all {
		c.courier.User(x.user, x.frame, now, 0)
	}
	c.log.stats.receipts.Add(uint64(len(all)))
	c.courier.Send(c.log.stop)
}

// tell has a user told how far another one is.
func (l *Log) tell(user string, mode uint8, ch store.Channel, seq uint64, who string) {
	frame := codec.AppendReceipt(nil, codec.Receipt{
		Mode: mode, Kind: ch.Kind, Name: []byte(ch.Name), Seq: seq, User: []byte(who), Time: l.now(),
	})
	n := &l.notices
	n.mu.Lock()
	full := len(n.all) >= maxNotices
	if !full {
		n.all = append(n.all, notice{[]byte(user), frame})
	}
	n.mu.Unlock()
	if full {
		l.stats.receiptsDropped.Add(1)
		return
	}
	l.pending.poke()
}

// lookAt judges what is said of a conversation. Only the goroutine of marks calls it.
func (m *marks) lookAt(c *convMark) error {
	if err := m.load(c); err != nil {
		return err
	}
	l, id := m.l, c.id
	m.mu.Lock()
	said, head := *c, c.head
	c.receipts, c.queued, c.answered = nil, false, 0
	m.mu.Unlock()
	keep := func(err error) error { // for the next time
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, r := range said.receipts {
			c.wants(r.sender, r.seq)
		}
		c.answered = max(c.answered, said.answered)
		return err
	}
	to, part, err := l.receivers(id)
	if err != nil {
		return keep(err)
	}
	if most := max(said.delivered, said.read); most > head && part {
		if head, err = l.headOf(id.ch); err != nil {
			return keep(err)
		}
	}
	ignored := uint64(0)
	judge := func(seq uint64) uint64 {
		if seq > 0 && (seq > head || !part) {
			ignored++
			return 0
		}
		return seq
	}
	delivered, read := judge(said.delivered), judge(said.read)
	delivered = max(delivered, read)
	var senders []string
	if to != nil && read > said.told {
		if senders, err = l.wantRead(id, to, said.told+1, read); err != nil {
			return keep(err)
		}
	}
	m.move(c, &said, delivered, read, head)
	l.stats.marksIgnored.Add(ignored)
	if to == nil {
		return nil
	}
	for _, r := range said.receipts {
		if r.seq > said.rec.Delivered && r.seq <= delivered && r.sender != id.user && to.has(r.sender) {
			l.tell(r.sender, codec.AckDelivered, id.ch, r.seq, id.user)
		}
	}
	for _, user := range senders {
		l.tell(user, codec.AckRead, id.ch, read, id.user)
	}
	if read > said.told {
		l.tell(id.user, codec.AckRead, id.ch, read, id.user)
	}
	if peer, ok := to.peer(id.user); ok && said.answered > max(said.told, read) {
		l.tell(peer, codec.AckRead, id.ch, said.sent, id.user)
	}
	return nil
}

// move takes over what was found right.
func (m *marks) move(c, said *convMark, delivered, read, head uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.head = max(c.head, head)
	if delivered > c.rec.Delivered || read > c.rec.Read {
		m.l.stats.marks.Add(1)
		c.dirty = true
	}
	c.rec.Delivered = max(c.rec.Delivered, delivered)
	c.rec.Read = max(c.rec.Read, read)
	if c.told = max(c.told, read); said.answered > c.told {
		c.told = said.sent
	}
	if c.delivered == said.delivered { // nothing new was said meanwhile
		c.delivered = 0
	}
	if c.read == said.read {
		c.read = 0
	}
}

// audience are the users that hear of each other's positions in a channel: a pair, or a group's members.
type audience struct {
	pair  [2]string
	group *group
}

func (a *audience) has(user string) bool {
	if a.group == nil {
		return a.pair[0] == user || a.pair[1] == user
	}
	_, ok := a.group.member(user)
	return ok
}

// peer is the other one of a pair; false: there is none.
func (a *audience) peer(user string) (string, bool) {
	switch {
	case a.group != nil || a.pair[0] == a.pair[1]:
		return "", false
	case a.pair[0] == user:
		return a.pair[1], true
	}
	return a.pair[0], true
}

// receivers are who hears of positions in a conversation, nil when nobody does; part says whether the user has a part in it.
func (l *Log) receivers(id convID) (to *audience, part bool, err error) {
	switch id.ch.Kind {
	case codec.KindDirect:
		a, b, ok := codec.SplitPair([]byte(id.ch.Name))
		return &audience{pair: [2]string{string(a), string(b)}}, ok, nil
	case codec.KindGroup:
		g, err := l.groups.get(id.ch.Name)
		if g == nil || err != nil {
			return nil, false, err
		}
		if _, ok := g.member(id.user); !ok {
			return nil, false, nil
		}
		if len(g.all()) > receiptMembers {
			return nil, true, nil
		}
		return &audience{group: g}, true, nil
	}
	return nil, id.ch.Kind == codec.KindAll, nil
}

// wantRead are the senders that want to know that messages of a span, at most the last receiptSpan of it, were read.
func (l *Log) wantRead(id convID, to *audience, from, read uint64) (senders []string, err error) {
	want := func(frame []byte) {
		f, n, err := codec.ConsumeFrame(frame, codec.MaxBody)
		if err != nil || n == 0 || f.Type != codec.TypeMsg {
			return
		}
		m, err := codec.ConsumeMsg(f)
		if err != nil || m.Flags&codec.MsgReceipt == 0 || string(m.Sender) == id.user || !to.has(string(m.Sender)) {
			return
		}
		for _, s := range senders {
			if s == string(m.Sender) {
				return
			}
		}
		senders = append(senders, string(m.Sender))
	}
	from = max(from, read+1-min(read, receiptSpan))
	if _, one := to.peer(id.user); one { // mostly the last message is one of the peer's
		if err := l.eachFrame(id.ch, read, read, want); len(senders) > 0 || err != nil {
			return senders, err
		}
		read--
	}
	return senders, l.eachFrame(id.ch, from, read, want)
}

// eachFrame calls f with the messages of a span that are still there, up to receiptBytes of them.
func (l *Log) eachFrame(ch store.Channel, from, to uint64, f func(frame []byte)) error {
	for size := 0; from <= to && size < receiptBytes; {
		frames, next, n, ok := l.recentFrom(ch, from, int(to-from)+1, receiptBytes, nil)
		if !ok || n == 0 { // the recent ones may be a commit behind
			var err error
			var first uint64
			frames, first, next, n, err = l.current().Read(ch, from, int(to-from)+1, receiptBytes, nil)
			if err != nil {
				return err
			}
			if first > to {
				return nil
			}
		}
		if n == 0 {
			return nil
		}
		size += len(frames)
		for from = next; n > 0; n-- {
			length, _, _, _ := codec.ConsumeHeader(frames)
			f(frames[:codec.HeaderLen+length])
			frames = frames[codec.HeaderLen+length:]
		}
	}
	return nil
}

// receipts are how far the others are in a channel, and how far its reader's own devices have read; nil for a channel without receipts or one
// that is not the reader's. Their time is not kept: it is 0.
func (l *Log) receipts(ch store.Channel, reader string) []codec.Receipt {
	to, part, err := l.receivers(convID{reader, ch})
	if err != nil {
		l.complain("reading receipts", err)
	}
	if to == nil || !part || !to.has(reader) {
		return nil
	}
	users := to.pair[:]
	if to.group != nil {
		users = nil
		for _, m := range to.group.all() {
			users = append(users, m.User)
		}
	} else if to.pair[0] == to.pair[1] {
		users = users[:1]
	}
	head, err := l.headOf(ch)
	if err != nil {
		l.complain("reading receipts", err)
		return nil
	}
	var all []codec.Receipt
	for _, user := range users {
		rec, _, err := l.conv(user, ch.Kind, ch.Name)
		if err != nil {
			l.complain("reading receipts", err)
			continue
		}
		x := codec.Receipt{Mode: codec.AckDelivered, Kind: ch.Kind, Name: []byte(ch.Name), User: []byte(user)}
		if x.Seq = min(rec.Delivered, head); x.Seq > 0 && user != reader {
			all = append(all, x)
		}
		x.Mode = codec.AckRead
		if x.Seq = min(rec.Read, head); x.Seq > 0 {
			all = append(all, x)
		}
	}
	return all
}
