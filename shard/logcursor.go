package shard

import "gannet/codec"

// cursor is a session's place in the log of a topic, of a large group or of all while it does not get the room's runs: since it is
// behind, or since it has just come. It exists for that time only.
//
//	subscribe, login ──▶ reading ──▶ joining ──▶ in the room, the cursor ends
//	                      ▲   │                    │ the reader is too slow
//	                      │   ▼                    │
//	                     behind ◀──────────────────┘
type cursor struct {
	session uint32
	gen     uint32
	room    uint32
	sub     uint32 // subscription, +1; 0: the room of all
	last    uint64 // seq up to which the log is on its way
	state   cursorState
	dead    bool
	next    *cursor // of the session
}

type cursorState uint8

const (
	cursorWaiting cursorState = iota // for the answer to a SUB or a login that says where it begins
	cursorReading
	cursorBehind  // the reader does not take more now
	cursorJoining // has everything up to what waits for the next run
)

// stayAway makes subscription i a member of group g that reads the log itself; where it begins is not known yet.
func (sh *Shard) stayAway(s *Session, i, g uint32) *cursor {
	sub := sh.subs.at(i)
	rm := &sh.rooms[sub.room()]
	sub.where, sub.pos = where(sub.room(), g), noPos
	rm.groups[g].away++
	rm.away++
	return sh.newCursor(s, sub.room(), i+1)
}

func (sh *Shard) newCursor(s *Session, room, sub uint32) *cursor {
	c := &cursor{session: s.index, gen: s.gen, room: room, sub: sub, next: sh.cursors[s.index]}
	sh.cursors[s.index] = c
	return c
}

// cursorOf finds the cursor of a subscription, or of all; nil when the session gets the room's runs.
func (sh *Shard) cursorOf(s *Session, sub uint32) *cursor {
	for c := sh.cursors[s.index]; c != nil; c = c.next {
		if c.sub == sub {
			return c
		}
	}
	return nil
}

// dropCursor ends the cursor of a subscription that ends.
func (sh *Shard) dropCursor(s *Session, sub uint32) {
	if c := sh.cursorOf(s, sub); c != nil {
		sh.unwait(c)
		sh.unlink(s, c)
	}
}

func (sh *Shard) unlink(s *Session, c *cursor) {
	c.dead = true
	first := sh.cursors[s.index]
	if first == c {
		if c.next == nil {
			delete(sh.cursors, s.index)
		} else {
			sh.cursors[s.index] = c.next
		}
		return
	}
	for p := first; p != nil; p = p.next {
		if p.next == c {
			p.next = c.next
			return
		}
	}
}

// unwait takes a cursor out of its room's list.
func (sh *Shard) unwait(c *cursor) {
	if c.state != cursorJoining {
		return
	}
	rm := &sh.rooms[c.room]
	for i, x := range rm.joining {
		if x == c {
			last := len(rm.joining) - 1
			rm.joining[i] = rm.joining[last]
			rm.joining[last] = nil
			rm.joining = rm.joining[:last]
			return
		}
	}
}

// startAt has a cursor go on behind seq last, of a log whose head is known to be head.
func (sh *Shard) startAt(s *Session, c *cursor, last, head uint64) {
	c.last = last
	if last < head {
		c.state = cursorBehind
		sh.goOn(s)
		return
	}
	sh.comeIn(s, c)
}

// readLog asks for what the log has above what was sent.
func (sh *Shard) readLog(c *cursor) {
	s := sh.sessions.at(c.session)
	rm := &sh.rooms[c.room]
	c.state = cursorReading
	r := &Read{
		Op: ReadLog, Ref: sh.ref(s), User: string(sh.user(s)), Kind: rm.topic.kind, Name: rm.topic.name,
		After: c.last, MaxBytes: sh.readChunk(), cursor: c,
	}
	if c.sub != 0 {
		r.Tags = rm.groups[sh.subs.at(c.sub-1).group()].tags
	}
	sh.ask(r)
}

// logRead sends what was read of a log.
func (sh *Shard) logRead(s *Session, r *Read) {
	c := r.cursor
	if c.dead || c.state != cursorReading {
		return
	}
	switch {
	case r.Code == codec.CodeForbidden:
		sh.expel(s, c)
		return
	case r.Code != codec.CodeOK || r.After != c.last:
		c.state = cursorBehind
		sh.later(s)
		return
	}
	gen := s.gen
	c.last = max(c.last, r.Covered)
	if len(r.Frames) > 0 {
		if sh.feed(s, r); s.gen != gen {
			return
		}
	}
	if r.More {
		c.state = cursorBehind
		if sh.canTake(s) {
			sh.readLog(c)
		} else {
			sh.stats.Behind++
		}
		return
	}
	sh.comeIn(s, c)
}

// comeIn makes a session a member of the room that has its log up to c.last; or has it read on, if the room is ahead.
func (sh *Shard) comeIn(s *Session, c *cursor) {
	rm := &sh.rooms[c.room]
	underway := rm.queued && rm.running.n > 0
	switch {
	case underway && rm.running.high > c.last, rm.pending.low > c.last+1, rm.pending.low == 0 && rm.head > c.last:
		c.state = cursorBehind
		if sh.canTake(s) {
			sh.readLog(c)
		}
	case rm.pending.low != 0 || underway && c.sub == 0:
		c.state = cursorJoining
		rm.joining = append(rm.joining, c)
	default:
		rm.head = max(rm.head, c.last)
		sh.enterRoom(s, c)
	}
}

// enterRoom ends a cursor: from the next run on the session gets what the room gets.
func (sh *Shard) enterRoom(s *Session, c *cursor) {
	if c.sub == 0 {
		s.flags &^= flagAllAway
	} else {
		rm := &sh.rooms[c.room]
		g := sh.subs.at(c.sub - 1).group()
		rm.groups[g].away--
		rm.away--
		sh.enter(c.sub-1, g)
	}
	sh.unlink(s, c)
}

// joinWaiting lets those in who wait for the run that has just begun: they get of it what they do not have.
func (sh *Shard) joinWaiting(r uint32) *room {
	rm := &sh.rooms[r]
	if rm.away > 0 {
		if n := rm.running.ephemeral(); n > 0 {
			sh.stats.drop(DropCatchingUp, n*(rm.away-len(rm.joining)))
		}
	}
	waiting := rm.joining
	rm.joining = nil
	for _, c := range waiting {
		s := sh.sessions.at(c.session)
		if c.dead || s.gen != c.gen || s.phase != phaseLive {
			continue
		}
		if rm = &sh.rooms[r]; rm.running.low > c.last+1 {
			c.state = cursorBehind
			sh.goOn(s)
			continue
		}
		sh.giveRest(s, c)
		if s.gen == c.gen && s.phase == phaseLive && !c.dead {
			sh.enterRoom(s, c)
		}
	}
	return &sh.rooms[r]
}

// giveRest delivers the run's messages that a joining session does not have.
func (sh *Shard) giveRest(s *Session, c *cursor) {
	rm := &sh.rooms[c.room]
	var tags []string
	if c.sub != 0 {
		tags = rm.groups[sh.subs.at(c.sub-1).group()].tags
	}
	born := rm.running.born
	for frame := range rm.running.all() {
		if seq := msgSeq(frame); seq != 0 && seq <= c.last || tags != nil && !matches(frame, tags) {
			continue
		}
		// Copied: the run's bytes are used again.
		if sh.deliverCopy(s, frame, born); s.gen != c.gen {
			return
		}
	}
	c.last = max(c.last, rm.running.high)
}

// deliverCopy is deliver for bytes that do not stay.
func (sh *Shard) deliverCopy(s *Session, frame []byte, born int64) {
	if len(frame) >= shareAbove {
		frame = append([]byte(nil), frame...)
	}
	sh.deliver(s, frame, born)
}

// fallBehind takes a member that does not keep up out of a run with durable messages: it will read them from the log. i and at are
// its group and its place in it.
func (sh *Shard) fallBehind(r uint32, i int, s *Session, at, n int) bool {
	rm := &sh.rooms[r]
	if rm.running.low == 0 || sh.cfg.Log == nil || !sh.overLimit(s, n) {
		return false
	}
	var c *cursor
	if rm.all {
		s.flags |= flagAllAway
		c = sh.newCursor(s, r, 0)
	} else {
		sub := rm.groups[i].members[at]
		sh.exit(sub)
		rm = &sh.rooms[r]
		c = sh.stayAway(s, sub, uint32(i))
	}
	c.state, c.last = cursorBehind, rm.running.low-1
	sh.stats.Behind++
	return true
}

// membership takes a change of a large group.
func (sh *Shard) membership(m *Membership) {
	s := sh.receiver(m.Ref, m.User)
	if s == nil || s.phase != phaseLive {
		return // a login under way reads its groups later
	}
	name := []byte(m.Group)
	i, ok := sh.find(s, codec.KindGroup, name)
	switch {
	case m.Leave && ok:
		sh.leaveAfterRun(s, i)
	case !m.Leave && !ok:
		sh.joinLog(s, codec.KindGroup, name, m.Next)
	}
}

// leaveAfterRun ends a subscription to a group; what waits for the room was sent while the user belonged to it.
func (sh *Shard) leaveAfterRun(s *Session, i uint32) {
	sub := sh.subs.at(i)
	rm := &sh.rooms[sub.room()]
	if sub.pos != noPos && rm.pending.n > 0 {
		g := &rm.groups[sub.group()]
		if sub.pos < uint32(g.todo) && g.n > 0 {
			sh.deliverN(s, append([]byte(nil), g.data...), g.n, rm.running.born)
		}
		gen := s.gen
		for frame := range rm.pending.all() {
			if sh.deliverCopy(s, frame, rm.pending.born); s.gen != gen {
				return
			}
		}
	}
	if s.phase == phaseLive {
		sh.leave(s, i)
	}
}

// joinLog makes a session a member of a channel that is read from its own log, from behind seq last. It reads first:
// what came before this shard heard of the room is only there.
func (sh *Shard) joinLog(s *Session, kind codec.Kind, name []byte, last uint64) {
	if len(sh.rooms) >= maxRooms && len(sh.freeRoom) == 0 {
		return
	}
	r := sh.joinRoom(kind, name)
	c := sh.stayAway(s, sh.attach(s, r, 0), 0)
	c.last, c.state = last, cursorBehind
	sh.goOn(s)
}

// expel ends the membership of a session whose user has no right any more.
func (sh *Shard) expel(s *Session, c *cursor) {
	if c.sub != 0 {
		sh.leave(s, c.sub-1)
		return
	}
	sh.enterRoom(s, c)
}

// msgSeq is the seq of a MSG; 0 for an ephemeral one and for any other frame.
func msgSeq(frame []byte) uint64 {
	if codec.Type(frame[3]&0x1f) != codec.TypeMsg {
		return 0
	}
	at := codec.HeaderLen
	if frame[3]&codec.FlagExt != 0 {
		at += 2 + int(be.Uint16(frame[at:]))
	}
	return be.Uint64(frame[at+3+int(frame[at+2]):])
}

// msgFlags are the flags of a MSG.
func msgFlags(frame []byte) uint8 {
	if codec.Type(frame[3]&0x1f) != codec.TypeMsg {
		return 0
	}
	at := codec.HeaderLen
	if frame[3]&codec.FlagExt != 0 {
		at += 2 + int(be.Uint16(frame[at:]))
	}
	return frame[at]
}

// ephemeral is how many messages of a batch are not in a log.
func (b *batch) ephemeral() (n int) {
	for frame := range b.all() {
		if msgSeq(frame) == 0 {
			n++
		}
	}
	return n
}
