package shard

import (
	"slices"

	"gannet/codec"
)

// courierDepth is how many commits may wait for a shard before the log waits for it.
const courierDepth = 8

// Courier brings commits to the shards: it finds out which sessions are concerned, now, and what each of
// their shards gets. One goroutine uses it. What a commit wrote must be readable before its messages are given to the Courier: a
// session is in the directory before its reads begin, so it finds a message by the one way or by the other.
type Courier struct {
	node    *Node
	commits []*Commit // by shard; nil: nothing for it yet
	refs    []SessionRef
}

// NewCourier makes a courier.
func (n *Node) NewCourier() *Courier {
	return &Courier{node: n, commits: make([]*Commit, len(n.shards))}
}

func (c *Courier) to(shard uint32) *Commit {
	if c.commits[shard] == nil {
		c.commits[shard] = c.node.shards[shard].mail.spare()
	}
	return c.commits[shard]
}

// sessions finds a user's sessions, in an order that does not depend on chance.
func (c *Courier) sessions(user []byte) []SessionRef {
	c.refs = c.node.dir.Lookup(c.node.dir.Hash(user), c.refs[:0])
	slices.Sort(c.refs)
	return c.refs
}

// Answer brings an answer to the sender's session.
func (c *Courier) Answer(a Answer) {
	if int(a.Ref.Shard()) < len(c.commits) {
		m := c.to(a.Ref.Shard())
		m.Answers = append(m.Answers, a)
	}
}

// Inbox brings a message that has a place in a user's inbox to all sessions of the user. For the session that sent
// it only its position moves. User must stay as it is until the message is delivered.
func (c *Courier) Inbox(user []byte, place uint64, frame []byte, born int64, sender SessionRef) {
	for _, ref := range c.sessions(user) {
		d := Delivery{Ref: ref, Place: place, Frame: frame, User: user, Born: born}
		if ref == sender {
			d.Frame = nil
		}
		m := c.to(ref.Shard())
		m.Steps = append(m.Steps, step{Delivery: d})
	}
}

// User brings a frame that has no place in an inbox (a RECEIPT, an ephemeral message of a group) to the user's sessions, but for one.
func (c *Courier) User(user []byte, frame []byte, born int64, but SessionRef) {
	for _, ref := range c.sessions(user) {
		if ref != but {
			m := c.to(ref.Shard())
			m.Steps = append(m.Steps, step{Delivery: Delivery{Ref: ref, Frame: frame, User: user, Born: born}})
		}
	}
}

// Room brings a message to the members of a topic, a large group or all. seq 0: it is ephemeral.
func (c *Courier) Room(kind codec.Kind, name []byte, seq uint64, frame []byte, born int64) {
	t := c.node.topic(kind, name)
	if t == nil {
		return
	}
	if seq != 0 {
		t.told.Store(seq) // before the look at the members, see joinRoom
	}
	for i := range t.rooms {
		if t.hasMember(i) {
			t.queued.Add(int64(len(frame)))
			m := c.to(uint32(i))
			m.Steps = append(m.Steps, step{Delivery: Delivery{Frame: frame, Born: born}, room: t})
		}
	}
}

// Join makes the sessions of a user members of a large group; they know its log up to seq after.
func (c *Courier) Join(user []byte, group string, after uint64) {
	c.member(Membership{User: user, Group: group, Next: after})
}

// Leave takes the sessions of a user out of a large group.
func (c *Courier) Leave(user []byte, group string) {
	c.member(Membership{User: user, Group: group, Leave: true})
}

func (c *Courier) member(m Membership) {
	for _, ref := range c.sessions(m.User) {
		one := m
		one.Ref = ref
		to := c.to(ref.Shard())
		to.Steps = append(to.Steps, step{member: &one})
	}
}

// Send hands the commits over. It waits for shards that have courierDepth of them to take; false: stop was closed meanwhile.
func (c *Courier) Send(stop <-chan struct{}) bool {
	for i, m := range c.commits {
		if m == nil {
			continue
		}
		c.commits[i] = nil
		if !c.node.shards[i].mail.put(m, c.node.shards[i], stop) {
			return false
		}
	}
	return true
}
