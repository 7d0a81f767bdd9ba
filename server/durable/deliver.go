package durable

import (
	"encoding/binary"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// gather makes the round's items and batch of the entries that wait, and returns the bytes of their buffers. With refuse all of them
// are refused.
func (c *committer) gather(refuse bool) (bytes int) {
	size := 0
	for len(c.items) < maxBatch && size < maxBatchBytes {
		at := c.next + len(c.items)
		if at == len(c.queue) {
			break
		}
		e := &c.queue[at]
		bytes += len(e.Buf)
		it := item{e: e, msg: -1, code: codec.CodeUnavailable}
		if !refuse {
			it.ch, it.code = c.judge(e)
		}
		if it.code != codec.CodeOK {
			c.refusals.note(c.log, e, it.code)
		} else if e.Flags&codec.MsgDurable != 0 {
			it.msg = int32(len(c.batch))
			c.plan(&it)
			size += int(e.Size)
		}
		c.items = append(c.items, it)
	}
	if n := len(c.batch); cap(c.results) < n {
		c.results = make([]store.Result, max(n, 2*cap(c.results)))
	} else {
		c.results = c.results[:cap(c.results)]
	}
	return bytes
}

// judge finds an entry's channel, or says why it is not stored.
func (c *committer) judge(e *shard.Entry) (*channel, codec.Code) {
	if code := c.refusals.judge(e); code != codec.CodeOK {
		return nil, code
	}
	if e.Kind != codec.KindGroup {
		if e.Flags&codec.MsgDurable == 0 {
			return nil, codec.CodeInvalid // it needs no log
		}
		ch, err := c.channel(e.Kind, e.Name())
		if err != nil {
			c.log.complain("reading the head of a channel", err)
			return nil, codec.CodeUnavailable
		}
		if e.Kind == codec.KindDirect && ch.pair[0] == "" {
			return nil, codec.CodeInvalid // no pair: nobody would find it
		}
		return ch, codec.CodeOK
	}
	return c.judgeGroup(e)
}

func (c *committer) judgeGroup(e *shard.Entry) (*channel, codec.Code) {
	ch := c.channels.get(codec.KindGroup, e.Name())
	if ch == nil || ch.round != c.round {
		g, err := c.log.groups.get(string(e.Name()))
		if err != nil {
			c.log.complain("reading a group", err)
			return nil, codec.CodeUnavailable
		}
		if g == nil {
			return nil, codec.CodeNotFound
		}
		if ch, err = c.channel(codec.KindGroup, e.Name()); err != nil {
			c.log.complain("reading the head of a group", err)
			return nil, codec.CodeUnavailable
		}
		if ch.group != g {
			c.members += len(g.all())
		}
		ch.group, ch.round = g, c.round
	}
	if e.Ref != 0 && !ch.group.mayPost(string(e.Sender())) {
		return nil, codec.CodeForbidden
	}
	return ch, codec.CodeOK
}

// plan puts a message into the batch.
func (c *committer) plan(it *item) {
	e := it.e
	at := e.SeqAt()
	m := store.Message{
		Kind: e.Kind, Name: e.Name(), User: e.Sender(), Device: e.Device(), Nonce: e.Nonce,
		Time: binary.BigEndian.Uint64(e.Buf[at+8:]), Frame: e.Frame(),
	}
	switch {
	case e.Kind == codec.KindDirect:
		from := len(c.inboxes)
		if a, b, ok := codec.SplitPair(m.Name); ok {
			if c.inboxes = append(c.inboxes, a); it.ch.pair[0] != it.ch.pair[1] {
				c.inboxes = append(c.inboxes, b)
			}
		}
		m.Inbox = c.inboxes[from:len(c.inboxes):len(c.inboxes)]
		c.watch(it.ch, e)
	case e.Kind == codec.KindGroup && !it.ch.group.Large:
		m.Inbox = it.ch.inboxes(it.ch.group)
	default:
		m.Frame[e.FlagsAt()] |= codec.MsgLog
	}
	c.batch = append(c.batch, m)
	c.of = append(c.of, it.ch)
}

// deliver brings an item to its receivers, if it was stored or need not be, and answers it. err is why the batch was not stored.
func (c *committer) deliver(it *item, err error) {
	e, s := it.e, &c.log.stats
	a := shard.Answer{
		Ref: e.Ref, Nonce: e.Nonce, Req: e.Req, Code: it.code, Time: binary.BigEndian.Uint64(e.Buf[e.SeqAt()+8:]),
	}
	switch {
	case it.code != codec.CodeOK:
	case err != nil:
		a.Code = codec.CodeUnavailable
		c.refusals.note(c.log, e, a.Code)
	case it.msg < 0:
		s.ephemeral.Add(1)
		c.pass(it)
	default:
		r := c.results[it.msg]
		a.Code, a.Seq = r.Code, r.Seq
		switch r.Code {
		case codec.CodeOK:
			a.Pos = c.deliverStored(it, r)
		case codec.CodeUnavailable:
			c.refusals.note(c.log, e, r.Code)
		}
	}
	s.refused(a.Code)
	if e.Ref != 0 {
		c.courier.Answer(a)
	} else if e.Done != nil {
		e.Done(a)
	}
}

// deliverStored returns the message's place in the sender's inbox, 0 when it has none there.
func (c *committer) deliverStored(it *item, r store.Result) (place uint64) {
	e, m := it.e, &c.batch[it.msg]
	if len(m.Inbox) == 0 {
		c.courier.Room(e.Kind, m.Name, r.Seq, m.Frame, e.Born)
	}
	sender := e.Ref
	if e.Kind == codec.KindGroup {
		sender = 0 // gets it as everyone does
	}
	for _, user := range m.Inbox {
		c.courier.Inbox(user, r.Pos, m.Frame, e.Born, sender)
	}
	if len(m.Device) > 0 {
		if len(m.Inbox) > 0 {
			place = r.Pos
		}
		c.sent(it.ch, e, r.Seq)
	}
	return place
}

// pass brings an ephemeral message to a group's members.
func (c *committer) pass(it *item) {
	e, g := it.e, it.ch.group
	if g.Large {
		e.Buf[e.FlagsAt()] |= codec.MsgLog
		c.courier.Room(e.Kind, e.Name(), 0, e.Frame(), e.Born)
		return
	}
	for _, user := range it.ch.inboxes(g) {
		c.courier.User(user, e.Frame(), e.Born, 0)
	}
}

// sent notes that a message moves its sender's read position. What a round has of it is handed over at its end, for most senders
// have more than one message in it.
func (c *committer) sent(ch *channel, e *shard.Entry, seq uint64) {
	if ch.id.Kind == codec.KindTopic {
		return
	}
	if !ch.touched {
		ch.touched = true
		c.touched = append(c.touched, ch)
	}
	user := e.Sender()
	if ch.id.Kind != codec.KindDirect {
		if ch.sender != string(user) {
			c.log.marks.sent(ch.sender, ch.id, ch.sent[0], 0)
			ch.sender = string(user)
		}
		ch.sent[0] = seq
		return
	}
	i := ch.side(user)
	if i < 0 {
		return
	}
	ch.sent[i] = seq
	ch.answers[i] = ch.asks[1-i]
	if e.Flags&codec.MsgReceipt != 0 {
		ch.asks[i] = seq
	}
}

// moveReaders hands over what sent has noted.
func (c *committer) moveReaders() {
	for i, ch := range c.touched {
		if ch.id.Kind == codec.KindDirect {
			for side, user := range ch.pair {
				c.log.marks.sent(user, ch.id, ch.sent[side], ch.answers[side])
			}
		} else {
			c.log.marks.sent(ch.sender, ch.id, ch.sent[0], 0)
		}
		ch.touched, ch.sender, ch.sent, ch.answers = false, "", [2]uint64{}, [2]uint64{}
		c.touched[i] = nil
	}
	c.touched = c.touched[:0]
}
