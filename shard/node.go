package shard

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"gannet/codec"
)

var be = binary.BigEndian

// Node is what the shards of one process share. Its methods may be called from any goroutine.
type Node struct {
	cfg         Config
	clock       Clock
	host        Host
	dir         *Directory
	topics      topics
	groups      topics // large groups, read from their own log
	all         *topic // the one channel of KindAll; every shard is always in it
	shards      []*Shard
	nextSession atomic.Uint64
	draining    atomic.Bool
	publishes   atomic.Uint64 // messages from outside that were admitted
	refused     atomic.Uint64 // and those that found an inbox or a topic full
}

// NewNode makes a node and its shards. Session ids start from the wall clock, so that those of a later start
// of the same node are higher.
func NewNode(cfg Config, clock Clock, host Host) *Node {
	cfg.defaults()
	n := &Node{cfg: cfg, clock: clock, host: host, dir: NewDirectory()}
	n.nextSession.Store(clock.UnixMilli() << 20)
	n.topics.init(cfg.Shards)
	n.groups.init(cfg.Shards)
	n.all = newTopic(codec.KindAll, codec.AllName, cfg.Shards)
	for i := range cfg.Shards {
		n.shards = append(n.shards, newShard(n, i))
		n.all.setMember(i, true)
	}
	return n
}

// Shard returns shard i.
func (n *Node) Shard(i int) *Shard { return n.shards[i] }

// Shards is the number of shards.
func (n *Node) Shards() int { return len(n.shards) }

// Stats returns the sum of what the shards last published (every tenth of a second).
func (n *Node) Stats() Stats {
	var sum Stats
	for _, sh := range n.shards {
		st := sh.Published()
		sum.Add(&st)
	}
	sum.SessionBytes += int64(n.dir.Bytes())
	sum.Publishes += n.publishes.Load()
	sum.Dropped[DropAdminInbox] += n.refused.Load()
	return sum
}

// Answer brings the verdict on an AuthRequest back to its shard. It never blocks; the place in the
// inbox was reserved when the request was made.
func (n *Node) Answer(ref SessionRef, a AuthAnswer) {
	n.shards[ref.Shard()].pushReserved(item{op: opAnswer, ref: ref, cmd: &command{answer: &a}})
}

// Publication is a message from outside the connections.
type Publication struct {
	Kind    codec.Kind // KindDirect, KindTopic or KindAll
	Name    string     // the receiving user, the topic, or "all"
	Sender  string     // an identifier
	Ext     codec.TLVs
	Flags   uint8
	Content uint8
	Payload []byte
}

// Publish sends a message to every session of a user, a topic or to all. targets is the number of sessions of
// the user, or of shards with subscribers; code is CodeOK, CodeInvalid, CodeTooLarge, CodeNotFound (groups) or CodeBusy (an inbox is
// full; part of the targets may have got it).
func (n *Node) Publish(p Publication) (targets int, code codec.Code) {
	switch targets, code = n.publish(p); code {
	case codec.CodeOK:
		n.publishes.Add(1)
	case codec.CodeBusy:
		n.refused.Add(1)
	}
	return targets, code
}

// message judges a publication and makes its MSG; the name of a direct one is still the receiver's.
func (n *Node) message(p Publication, flags uint8) (codec.Msg, codec.Code) {
	name, sender := []byte(p.Name), []byte(p.Sender)
	m := codec.Msg{Ext: p.Ext, Flags: p.Flags, Kind: p.Kind, Name: name, Time: n.clock.UnixMilli(),
		Sender: sender, Content: p.Content, Payload: p.Payload}
	if !p.Kind.Valid() || !codec.ValidID(name) || !codec.ValidID(sender) || !validTags(p.Ext) || p.Flags&^flags != 0 ||
		p.Kind == codec.KindAll && p.Name != codec.AllName {
		return m, codec.CodeInvalid
	}
	if codec.MsgLen(m)-codec.HeaderLen > n.cfg.MaxFrame {
		return m, codec.CodeTooLarge
	}
	return m, codec.CodeOK
}

// Entry makes a publication for Log.Submit: a durable one, or one to a group.
func (n *Node) Entry(p Publication) (Entry, codec.Code) {
	m, code := n.message(p, codec.MsgUrgent|codec.MsgDurable|codec.MsgReceipt)
	if code != codec.CodeOK {
		return Entry{}, code
	}
	if p.Kind == codec.KindDirect {
		m.Name = codec.AppendPair(nil, m.Sender, m.Name)
	}
	return NewEntry(m, n.clock.Now()), codec.CodeOK
}

func (n *Node) publish(p Publication) (targets int, code codec.Code) {
	m, code := n.message(p, codec.MsgUrgent)
	if code != codec.CodeOK {
		return 0, code
	}
	name, sender := m.Name, m.Sender
	born := n.clock.Now()
	switch p.Kind {
	case codec.KindDirect:
		m.Name = codec.AppendPair(nil, sender, name)
		frame := codec.AppendMsg(nil, m)
		it := item{op: opDirect, born: born, frame: frame}
		it.off, it.n = pairUser(frame, m, name)
		for _, ref := range n.dir.Lookup(n.dir.Hash(name), nil) {
			it.ref = ref
			if !n.shards[ref.Shard()].tryPush(it) {
				return targets, codec.CodeBusy
			}
			targets++
		}
		return targets, codec.CodeOK
	case codec.KindTopic, codec.KindAll:
		t := n.topic(p.Kind, name)
		if t == nil {
			return 0, codec.CodeOK
		}
		return n.publishRoom(t, item{op: opRoom, born: born, frame: codec.AppendMsg(nil, m), topic: t})
	case codec.KindGroup:
		return 0, codec.CodeNotFound
	}
	return 0, codec.CodeInvalid
}

func (n *Node) publishRoom(t *topic, it item) (targets int, code codec.Code) {
	if !t.admit(len(it.frame), n.cfg.RoomLimit) {
		return 0, codec.CodeBusy
	}
	for i, sh := range n.shards {
		if !t.hasMember(i) {
			continue
		}
		t.queued.Add(int64(len(it.frame)))
		if !sh.tryPush(it) {
			t.queued.Add(-int64(len(it.frame)))
			return targets, codec.CodeBusy
		}
		targets++
	}
	return targets, codec.CodeOK
}

// topic finds a channel that somebody listens to; nil when nobody does.
func (n *Node) topic(kind codec.Kind, name []byte) *topic {
	if kind == codec.KindAll {
		return n.all
	}
	return n.table(kind).get(name)
}

// table is where channels of a kind are found.
func (n *Node) table(kind codec.Kind) *topics {
	if kind == codec.KindGroup {
		return &n.groups
	}
	return &n.topics
}

// pairUser says where in a direct MSG's frame the name of user stands.
func pairUser(frame []byte, m codec.Msg, user []byte) (off uint32, length uint8) {
	at := codec.HeaderLen + 3 // flags, kind, length of the name
	if len(m.Ext) > 0 {
		at += 2 + len(m.Ext)
	}
	if string(frame[at:at+len(user)]) != string(user) || frame[at+len(user)] != codec.PairSeparator {
		at += len(m.Name) - len(user)
	}
	return uint32(at), uint8(len(user))
}

// SessionInfo describes a live session.
type SessionInfo struct {
	Session       uint64    `json:"session"`
	User          string    `json:"user"`
	Device        string    `json:"device"`
	Class         uint8     `json:"class"`
	Shard         int       `json:"shard"`
	Remote        string    `json:"remote"`
	Heartbeat     uint16    `json:"heartbeat_seconds"`
	Subscriptions uint16    `json:"subscriptions"`
	LastFrame     time.Time `json:"last_frame"`
	Outbound      int       `json:"outbound_bytes"`
}

// Lookup finds the live sessions of users. Answers come from the shards over reply, one call per shard that
// holds any; calls says how many to expect. reply is called on the shards' loops and must not block.
func (n *Node) Lookup(users []string, reply func([]SessionInfo)) (calls int, code codec.Code) {
	byShard := make(map[uint32][]wanted)
	var refs []SessionRef
	for _, u := range users {
		refs = n.dir.Lookup(n.dir.Hash([]byte(u)), refs[:0])
		for _, ref := range refs {
			byShard[ref.Shard()] = append(byShard[ref.Shard()], wanted{ref, u})
		}
	}
	for i, w := range byShard {
		if !n.shards[i].tryPush(item{op: opLookup, cmd: &command{wanted: w, reply: reply}}) {
			return calls, codec.CodeBusy
		}
		calls++
	}
	return calls, codec.CodeOK
}

// Kick ends the sessions of a user; with a device, only that device's. kicked is the number of sessions asked
// to end (those of another device are skipped on their shard).
func (n *Node) Kick(user, device, reason string) (asked int, code codec.Code) {
	for _, ref := range n.dir.Lookup(n.dir.Hash([]byte(user)), nil) {
		k := &command{user: user, device: device, reason: reason}
		if !n.shards[ref.Shard()].tryPush(item{op: opKick, ref: ref, cmd: k}) {
			return asked, codec.CodeBusy
		}
		asked++
	}
	return asked, codec.CodeOK
}

// Trim has the shards let go of buffers that a burst left. A shard whose inbox is full has no rest and is skipped.
func (n *Node) Trim() {
	for _, sh := range n.shards {
		sh.tryPush(item{op: opTrim})
	}
}

// Drain stops logins and ends all sessions with BYE DRAINING, spread over the given time.
func (n *Node) Drain(over time.Duration) {
	n.draining.Store(true)
	until := n.clock.Now() + int64(over)
	for _, sh := range n.shards {
		sh.drainUntil.Store(until)
	}
}

// Draining says whether Drain was called.
func (n *Node) Draining() bool { return n.draining.Load() }

// Online is the number of logged-in sessions.
func (n *Node) Online() int { return n.dir.Len() }

// Now is the time on the node's clock in nanoseconds, as in Entry.Born.
func (n *Node) Now() int64 { return n.clock.Now() }
