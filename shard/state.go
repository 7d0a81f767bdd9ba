package shard

import (
	"container/heap"
	"slices"

	"gannet/codec"
)

// STATE values of a topic are kept by one shard, its owner, so that their order is the same for everyone: the
// owner changes the value and passes the frame on, and answers who asks for what is kept. Inboxes are first in, first out,
// so a late subscriber never ends with an older value than the rest.

// stateKey says whose value it is, within a topic.
type stateKey struct{ key, user string }

// stateValue is a value kept by the owner.
type stateValue struct {
	topic   *topic
	id      stateKey
	frame   []byte     // STATE, as receivers get it
	setter  SessionRef // with ttl 0: the session whose end removes it
	expires uint32     // ticks; 0: with its setter
	heap    int        // place in the heap; -1: not there
}

// stateSet is a change on its way to the owner.
type stateSet struct {
	id     stateKey
	frame  []byte
	setter SessionRef
	ttl    uint16
	remove bool // the payload is empty
	ended  bool // the setter's session ended: only its own value is removed
}

// ownedState is a value with ttl 0 that a session of this shard has set.
type ownedState struct {
	topic *topic
	id    stateKey
}

// equal compares names: a topic that ended meanwhile may be known by another pointer now.
func (o ownedState) equal(p ownedState) bool {
	return o.id == p.id && o.topic.name == p.topic.name && o.topic.kind == p.topic.kind
}

// stateTable is what a shard keeps as owner.
type stateTable struct {
	channels map[*topic]map[stateKey]*stateValue
	byExpiry expiryHeap
	n        int
	bytes    int // of their frames
}

func (t *stateTable) init() { t.channels = make(map[*topic]map[stateKey]*stateValue) }

// state takes a STATE from a client. It has no req; what is wrong is told with an ERR of req 0.
func (sh *Shard) state(s *Session, f codec.Frame) error {
	m, err := codec.ConsumeState(f)
	if err != nil {
		return err
	}
	code, why := sh.routeState(s, &m)
	if code == codec.CodeOK {
		sh.stats.MessagesIn++
		return nil
	}
	sh.stats.drop(why, 1)
	ob := sh.outOf(s)
	ob.buf = codec.AppendErr(ob.buf, codec.Err{Code: code, Text: []byte("STATE refused: " + why.String())})
	return nil
}

func (sh *Shard) routeState(s *Session, m *codec.StateUpdate) (codec.Code, Drop) {
	switch {
	case !m.Kind.Valid(), !codec.ValidID(m.Name), !codec.ValidID(m.Key),
		m.Kind == codec.KindAll && string(m.Name) != codec.AllName:
		return codec.CodeInvalid, DropInvalid
	case m.Kind == codec.KindGroup:
		return codec.CodeNotFound, DropUnsupported
	case len(m.User) > 0 && string(m.User) != string(sh.user(s)), !sh.mayPublish(s, m.Kind, m.Name):
		return codec.CodeForbidden, DropForbidden
	case !sh.allow(s):
		return codec.CodeRateLimited, DropRateLimited
	}
	m.User = sh.user(s)
	if m.Kind == codec.KindDirect {
		return sh.stateDirect(s, m)
	}
	return sh.stateRoom(s, m)
}

// stateDirect passes a STATE on to the peer; nothing is kept of it.
func (sh *Shard) stateDirect(s *Session, m *codec.StateUpdate) (codec.Code, Drop) {
	peer := m.Name
	m.Name = codec.AppendPair(nil, m.User, peer)
	frame := codec.AppendState(nil, *m)
	at := uint32(codec.HeaderLen + 2)
	if len(m.Ext) > 0 {
		at += 2 + uint32(len(m.Ext))
	}
	it := item{op: opDirect, born: sh.now, frame: frame}
	place := func(user []byte) {
		it.off, it.n = at, uint8(len(user))
		if string(m.Name[:len(user)]) != string(user) || m.Name[len(user)] != codec.PairSeparator {
			it.off += uint32(len(m.Name) - len(user))
		}
	}
	place(peer)
	code, why := sh.sendUser(s, peer, it)
	if code == codec.CodeOK && s.phase == phaseLive && string(peer) != string(m.User) {
		place(m.User)
		code, why = sh.sendUser(s, m.User, it)
	}
	return code, why
}

// stateRoom sends a STATE to the topic's owner.
func (sh *Shard) stateRoom(s *Session, m *codec.StateUpdate) (codec.Code, Drop) {
	set := &stateSet{
		id: stateKey{string(m.Key), string(m.User)}, frame: codec.AppendState(nil, *m),
		setter: sh.ref(s), ttl: m.TTL, remove: len(m.Payload) == 0,
	}
	t := sh.node.all
	if m.Kind == codec.KindTopic {
		t = sh.node.topics.acquire(codec.KindTopic, m.Name) // until the owner has it
	}
	o, lasts := ownedState{t, set.id}, set.remove || m.TTL > 0
	if !lasts && !sh.own(s, o) {
		sh.node.topics.release(t)
		return codec.CodeRateLimited, DropStateLimit
	}
	if t.owner == sh.index {
		sh.setState(t, set)
	} else if !sh.post(uint32(t.owner), item{op: opState, topic: t, cmd: &command{state: set}}) {
		sh.node.topics.release(t)
		return codec.CodeBusy, DropInboxFull
	}
	if lasts { // only now: had this been refused, the value before it would still end with the session
		sh.disown(s, o)
	}
	return codec.CodeOK, 0
}

// own notes a value that ends with the session; false when the session has too many.
func (sh *Shard) own(s *Session, o ownedState) bool {
	list := sh.owned[s.index]
	switch {
	case slices.ContainsFunc(list, o.equal):
		return true
	case len(list) >= sh.cfg.MaxSessionStates:
		return false
	}
	sh.owned[s.index] = append(list, o)
	s.flags |= flagStates
	return true
}

// disown notes that a value no longer ends with the session: it was removed, or has a ttl now.
func (sh *Shard) disown(s *Session, o ownedState) {
	if s.flags&flagStates != 0 {
		sh.owned[s.index] = slices.DeleteFunc(sh.owned[s.index], o.equal)
	}
}

// endStates removes what the session has set without ttl.
func (sh *Shard) endStates(s *Session) {
	for _, o := range sh.owned[s.index] {
		var t *topic
		if t = sh.node.all; o.topic.kind == codec.KindTopic {
			if t = sh.node.topics.get([]byte(o.topic.name)); t == nil {
				continue
			}
			t = sh.node.topics.acquire(codec.KindTopic, []byte(o.topic.name))
		}
		frame := codec.AppendState(nil, codec.StateUpdate{
			Kind: t.kind, Name: []byte(t.name), Key: []byte(o.id.key), User: []byte(o.id.user),
		})
		set := &stateSet{id: o.id, frame: frame, setter: sh.ref(s), remove: true, ended: true}
		if t.owner == sh.index {
			sh.setState(t, set)
		} else {
			sh.owe(uint32(t.owner), item{op: opState, topic: t, cmd: &command{state: set}})
		}
	}
	delete(sh.owned, s.index)
	s.flags &^= flagStates
}

// setState changes a value as the owner and passes the frame on. The topic was acquired by who asked.
func (sh *Shard) setState(t *topic, set *stateSet) {
	defer sh.node.topics.release(t)
	values := sh.states.channels[t]
	v := values[set.id]
	if set.ended && (v == nil || v.setter != set.setter) {
		return // another session has set it since
	}
	grown := len(set.frame)
	if v != nil {
		grown -= len(v.frame)
	}
	switch {
	case set.remove:
		if v != nil {
			sh.forget(v)
		}
	case v == nil && (sh.states.n >= sh.cfg.MaxStates || len(values) >= sh.cfg.MaxChannelStates),
		sh.states.bytes+grown > sh.cfg.MaxStateBytes && grown > 0:
		sh.stats.drop(DropStateLimit, 1)
		sh.refuseState(set.setter)
		return
	default:
		sh.remember(t, v, set)
	}
	if code, why := sh.publishRoom(t, set.frame); code != codec.CodeOK {
		sh.stats.drop(why, 1)
	}
}

func (sh *Shard) refuseState(ref SessionRef) {
	frame := codec.AppendErr(nil, codec.Err{Code: codec.CodeRateLimited, Text: []byte("no place for one more STATE value")})
	if ref.Shard() == uint32(sh.index) {
		if s := sh.resolve(ref); s != nil {
			sh.reply(s, frame)
		}
	} else {
		sh.post(ref.Shard(), item{op: opFrames, ref: ref, frame: frame})
	}
}

// remember keeps a value, new or changed.
func (sh *Shard) remember(t *topic, v *stateValue, set *stateSet) {
	if v == nil {
		v = &stateValue{topic: t, id: set.id, heap: -1}
		values := sh.states.channels[t]
		if values == nil {
			values = make(map[stateKey]*stateValue)
			sh.states.channels[t] = values
			if t.kind == codec.KindTopic {
				sh.node.topics.acquire(codec.KindTopic, []byte(t.name)) // while a value is kept
			}
		}
		values[set.id] = v
		sh.states.n++
		t.states.Add(1)
	}
	sh.states.bytes += len(set.frame) - len(v.frame)
	v.frame, v.setter, v.expires = set.frame, set.setter, 0
	if set.ttl > 0 {
		v.expires = sh.nowTick + uint32(set.ttl)*10
	}
	sh.states.byExpiry.update(v)
}

func (sh *Shard) forget(v *stateValue) {
	t := v.topic
	values := sh.states.channels[t]
	delete(values, v.id)
	sh.states.n--
	sh.states.bytes -= len(v.frame)
	t.states.Add(-1)
	v.expires = 0
	sh.states.byExpiry.update(v)
	if len(values) == 0 {
		delete(sh.states.channels, t)
		sh.node.topics.release(t)
	}
}

// expireStates removes the values whose time is over and tells the subscribers.
func (sh *Shard) expireStates() {
	h := &sh.states.byExpiry
	for len(*h) > 0 && (*h)[0].expires <= sh.nowTick {
		v := (*h)[0]
		frame := codec.AppendState(nil, codec.StateUpdate{
			Kind: v.topic.kind, Name: []byte(v.topic.name), Key: []byte(v.id.key), User: []byte(v.id.user),
		})
		if code, why := sh.publishRoom(v.topic, frame); code != codec.CodeOK {
			sh.stats.drop(why, 1)
		}
		sh.forget(v)
	}
}

// askStates has the values kept of a topic sent to s, behind what is in its out buffer.
func (sh *Shard) askStates(s *Session, t *topic) {
	if t.states.Load() == 0 {
		return
	}
	if t.owner == sh.index {
		sh.sendStates(t, sh.ref(s))
	} else {
		sh.owe(uint32(t.owner), item{op: opStates, ref: sh.ref(s), topic: t})
	}
}

// stateChunk is how many bytes of kept values go into one inbox item.
const stateChunk = 32 << 10

// sendStates answers, as the owner, what is kept of a topic.
func (sh *Shard) sendStates(t *topic, ref SessionRef) {
	var joined []byte
	send := func() {
		if len(joined) == 0 {
			return
		}
		if ref.Shard() == uint32(sh.index) {
			if s := sh.resolve(ref); s != nil {
				sh.deliver(s, joined, sh.now)
			}
		} else {
			sh.owe(ref.Shard(), item{op: opFrames, ref: ref, frame: joined})
		}
		joined = nil
	}
	for _, v := range sh.states.channels[t] {
		joined = append(joined, v.frame...)
		if len(joined) >= stateChunk {
			send()
		}
	}
	send()
}

// expiryHeap orders values by when they expire.
type expiryHeap []*stateValue

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires < h[j].expires }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

// Push is for container/heap.
func (h *expiryHeap) Push(x any) {
	v := x.(*stateValue)
	v.heap = len(*h)
	*h = append(*h, v)
}

// Pop is for container/heap.
func (h *expiryHeap) Pop() any {
	old := *h
	v := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	v.heap = -1
	return v
}

// update puts v where its expiry belongs: out of the heap when it has none.
func (h *expiryHeap) update(v *stateValue) {
	switch {
	case v.expires == 0 && v.heap >= 0:
		heap.Remove(h, v.heap)
	case v.expires != 0 && v.heap >= 0:
		heap.Fix(h, v.heap)
	case v.expires != 0:
		heap.Push(h, v)
	}
}
