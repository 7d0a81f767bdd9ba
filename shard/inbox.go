package shard

import (
	"slices"

	"gannet/codec"
)

// op is what an inbox item asks for.
type op uint8

const (
	opDirect  op = iota // deliver frame to ref, if it is still the user named in the frame
	opRoom              // deliver frame to this shard's members of topic
	opAnswer            // the verdict on a credential
	opReplace           // the same device logged in again elsewhere
	opKick
	opLookup
	opState  // set a STATE value; for its owner shard
	opStates // the values kept of a topic are wanted by ref; for the owner shard
	opFrames // frames for ref: kept STATE values, an ERR
	opTrim   // let go of buffers that a burst left
)

// item is an entry of an inbox: 64 bytes. What the rare kinds need beyond it is behind cmd.
type item struct {
	op    op
	n     uint8  // opDirect: length of the user's name
	off   uint32 // opDirect: where in frame it stands
	ref   SessionRef
	born  int64 // when the message was received, for latency
	frame []byte
	topic *topic
	cmd   *command
}

// command is the part of rare items that does not fit into item; which fields are set depends on the op.
type command struct {
	answer  *AuthAnswer           // opAnswer
	user    string                // opReplace, opKick
	device  string                // opReplace, opKick (empty: every device)
	session uint64                // opReplace: the id of the session that was opened
	from    SessionRef            // opReplace: and where it is
	reason  string                // opKick
	wanted  []wanted              // opLookup
	reply   func(s []SessionInfo) // opLookup
	state   *stateSet             // opState
}

type wanted struct {
	ref  SessionRef
	user string
}

const (
	creditRun = 64   // inbox places reserved at a time in another shard's ring, at most
	outboxRun = 256  // items collected before they are pushed without waiting for the end of the pass
	drainMax  = 8192 // items taken in one pass, so that sockets are served in between
)

// post puts an item on its way to another shard; false when that shard's inbox is full. Nothing overtakes what is
// owed: the order of STATE values depends on it.
func (sh *Shard) post(dst uint32, it item) bool {
	if len(sh.outboxes[dst].owed) > 0 && !sh.payOwed(dst) {
		return false
	}
	return sh.place(dst, it)
}

func (sh *Shard) place(dst uint32, it item) bool {
	box := &sh.outboxes[dst]
	if box.credits == 0 {
		if box.credits = sh.node.shards[dst].inbox.Reserve(sh.creditRun); box.credits == 0 {
			return false
		}
	}
	box.credits--
	box.items = append(box.items, it)
	if len(box.items) >= outboxRun {
		sh.push(dst)
	} else {
		sh.schedule()
	}
	return true
}

// owe is post for what must not be lost: without a place it waits here. What is owed is bounded by what sessions
// hold (their states, their replacement), not by traffic.
func (sh *Shard) owe(dst uint32, it item) {
	if !sh.post(dst, it) {
		sh.outboxes[dst].owed = append(sh.outboxes[dst].owed, it)
	}
}

// payOwed sends what is owed, as far as there are places; true when nothing is owed any more.
func (sh *Shard) payOwed(dst uint32) bool {
	box := &sh.outboxes[dst]
	for len(box.owed) > 0 && sh.place(dst, box.owed[0]) {
		box.owed = box.owed[1:]
	}
	if len(box.owed) > 0 {
		return false
	}
	box.owed = nil
	return true
}

// outbox collects what goes to one other shard in a turn.
type outbox struct {
	items   []item
	owed    []item
	credits int // places reserved in the other shard's inbox
}

func (sh *Shard) push(dst uint32) {
	box := &sh.outboxes[dst]
	other := sh.node.shards[dst]
	if other.inbox.Push(box.items) {
		other.wake()
	}
	clear(box.items)
	box.items = box.items[:0]
}

func (sh *Shard) pushAll() {
	for dst := range sh.outboxes {
		box := &sh.outboxes[dst]
		sh.payOwed(uint32(dst))
		if len(box.items) > 0 {
			sh.push(uint32(dst))
		}
	}
}

// tryPush hands one item to the shard from any goroutine; false when the inbox is full.
func (sh *Shard) tryPush(it item) bool {
	ok, wake := sh.inbox.TryPush(it)
	if wake {
		sh.wake()
	}
	return ok
}

// pushReserved is tryPush for who holds a place.
func (sh *Shard) pushReserved(it item) {
	if sh.inbox.Push([]item{it}) {
		sh.wake()
	}
}

// Drain ends a pass of the loop: it takes what waits in the inbox, sends what this shard has for others, writes
// each connection that something is for once and begins fan-outs.
func (sh *Shard) Drain() {
	sh.begin()
	sh.inTurn, sh.scheduled = true, false
	sh.submitAll()
	sh.pushAll() // before the writes below, which take longest: the other loops need not wait for them
	sh.inbox.Disarm()
	sh.inbox.Drain(drainMax, sh.take)
	sh.takeMail()
	more := !sh.inbox.Empty()
	sh.finish()
	if more && !sh.continuing {
		// Not through a task: gnet would run it before any socket.
		sh.continuing = true
		sh.loop.Continue()
	}
}

// joinWithin is the time between two turns below which the loop counts as busy, in nanoseconds.
const joinWithin = 50_000

// settle ends a turn that began with a socket. On a busy loop what it has collected waits for the end of the pass,
// where it is joined with what the other sockets bring: one write a connection, one push an inbox. When nothing came just before,
// nothing is likely to come with it, and waiting would only cost a wake-up (two allocations in gnet, and a
// system call).
func (sh *Shard) settle() {
	quiet := sh.now-sh.lastTurn > joinWithin
	sh.lastTurn = sh.now
	if quiet && !sh.scheduled {
		sh.finish()
		return
	}
	sh.inTurn = false
	if sh.unfinished {
		sh.schedule()
	}
}

// finish sends what the turn has collected.
func (sh *Shard) finish() {
	if !sh.unfinished {
		sh.inTurn = false
		return
	}
	sh.unfinished = false
	sh.submitAll() // first: while connections are written the log works
	sh.startRuns()
	sh.pushAll()
	sh.flushAll()
	if len(sh.active) > 0 && !sh.continuing {
		sh.slice()
	}
	sh.pushAll() // what sessions that ended in a write left to say
	sh.inTurn = false
	if len(sh.outs) > 0 || len(sh.ready) > 0 || len(sh.entries) > 0 || len(sh.reads) > 0 {
		sh.schedule()
	}
}

func (sh *Shard) takeItems(items []item) {
	sh.items += uint64(len(items))
	for i := range items {
		sh.takeItem(&items[i])
	}
}

func (sh *Shard) takeItem(it *item) {
	switch it.op {
	case opDirect:
		user := it.frame[it.off : it.off+uint32(it.n)]
		if s := sh.resolve(it.ref); s != nil && string(sh.user(s)) == string(user) {
			sh.deliver(s, it.frame, it.born)
		} else {
			sh.stats.drop(DropStaleSession, 1)
		}
	case opRoom:
		sh.enqueue(it.topic, it.frame, it.born)
	case opAnswer:
		sh.answered(it.ref, it.cmd.answer)
	case opReplace:
		sh.replaceIfOlder(it.ref, it.cmd)
	case opKick:
		if s := sh.resolveAny(it.ref); s != nil && sh.isUser(s, it.cmd.user, it.cmd.device) {
			sh.bye(s, codec.CodeKicked, it.cmd.reason)
		}
	case opLookup:
		sh.lookup(it.cmd)
	case opState:
		sh.setState(it.topic, it.cmd.state)
	case opStates:
		sh.sendStates(it.topic, it.ref)
	case opFrames:
		if s := sh.resolve(it.ref); s != nil {
			sh.deliver(s, it.frame, sh.now)
		}
	case opTrim:
		sh.trim()
	}
}

// trim lets go of scratch memory; the next turn makes what it needs.
func (sh *Shard) trim() {
	sh.flushAll()
	sh.outs, sh.block, sh.refs = nil, nil, nil
	sh.ready, sh.closing = slices.Clip(sh.ready), slices.Clip(sh.closing)
	sh.posDue, sh.dirty, sh.commits, sh.served, sh.readers = nil, slices.Clone(sh.dirty), nil, nil, nil
	sh.mail.trim()
	for i := range sh.outboxes {
		if box := &sh.outboxes[i]; len(box.items) == 0 {
			box.items = nil
		}
	}
}

// isUser says whether s belongs to user and, unless empty, device.
func (sh *Shard) isUser(s *Session, user, device string) bool {
	return string(sh.user(s)) == user && (device == "" || string(sh.device(s)) == device)
}

func (sh *Shard) lookup(c *command) {
	infos := make([]SessionInfo, 0, len(c.wanted))
	for _, w := range c.wanted {
		if s := sh.resolve(w.ref); s != nil && string(sh.user(s)) == w.user {
			infos = append(infos, sh.info(s))
		}
	}
	c.reply(infos)
}
