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
	room    uint32
	sub     uint32 // subscription, +1; 0: the room of all
	at      uint32 // in the room's readers
	last    uint64 // seq up to which the log is on its way
	turn    uint32 // counts changes of position and filter; a read that was asked for before is void
	state   cursorState
	dead    bool
	next    *cursor // of the session
}

type cursorState uint8

const (
	cursorWaiting cursorState = iota // for the answer to a SUB or a login that says where it begins
	cursorReading
	cursorBehind  // the reader does not take more now, or another of its logs is read first
	cursorJoining // has everything that the room does not have, and waits for the end of a run or for the next one
)

// stayAway makes subscription i a member of group g that reads the log itself; where it begins is not known yet.
func (sh *Shard) stayAway(s *Session, i, g uint32) *cursor {
	sub := sh.subs.at(i)
	sub.where, sub.pos = where(sub.room(), g), noPos
	sh.rooms[sub.room()].groups[g].away++
	return sh.newCursor(s, sub.room(), i+1)
}

// fallOut has subscription i, which gets the room's runs, read the log itself.
func (sh *Shard) fallOut(s *Session, i uint32) *cursor {
	sub := sh.subs.at(i)
	g := sub.group()
	rm := &sh.rooms[sub.room()]
	rm.groups[g].away++ // first, so that exit does not forget the filter
	sh.exit(i)
	rm.groups[g].away--
	return sh.stayAway(s, i, g)
}

// awayFromAll has a session read the log of all itself.
func (sh *Shard) awayFromAll(s *Session) *cursor {
	s.flags |= flagAllAway
	return sh.newCursor(s, 0, 0)
}

func (sh *Shard) newCursor(s *Session, room, sub uint32) *cursor {
	rm := &sh.rooms[room]
	c := &cursor{session: s.index, room: room, sub: sub, at: uint32(len(rm.readers)), next: sh.cursors[s.index]}
	rm.readers = append(rm.readers, c)
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

// unlink ends a cursor.
func (sh *Shard) unlink(s *Session, c *cursor) {
	c.dead = true
	if c.sub == 0 {
		s.flags &^= flagAllAway
	}
	rm := &sh.rooms[c.room]
	last := len(rm.readers) - 1
	rm.readers[c.at] = rm.readers[last]
	rm.readers[c.at].at = c.at
	rm.readers[last] = nil
	if rm.readers = rm.readers[:last]; last == 0 {
		rm.readers = nil
		sh.dropRecent(rm)
	}
	first := sh.cursors[s.index]
	switch {
	case first != c:
		for first.next != c {
			first = first.next
		}
		first.next = c.next
	case c.next == nil:
		delete(sh.cursors, s.index)
	default:
		sh.cursors[s.index] = c.next
	}
}

// toBack has the session's other logs come first.
func (sh *Shard) toBack(s *Session, c *cursor) {
	if c.next == nil {
		return
	}
	p := sh.cursors[s.index]
	if p == c {
		sh.cursors[s.index] = c.next
	} else {
		for p.next != c {
			p = p.next
		}
		p.next = c.next
	}
	for p = c.next; p.next != nil; p = p.next {
	}
	p.next, c.next = c, nil
}

// tags is the cursor's filter; nil: everything.
func (sh *Shard) tags(c *cursor) []string {
	if c.sub == 0 {
		return nil
	}
	return sh.rooms[c.room].groups[sh.subs.at(c.sub-1).group()].tags
}

// startAt has a cursor go on behind seq last, of a log whose head is known to be head.
func (sh *Shard) startAt(s *Session, c *cursor, last, head uint64) {
	c.turn++
	if c.last = last; c.state == cursorReading {
		return // what is being read is void; logRead goes on from here
	}
	if last < head {
		c.state = cursorBehind
		sh.goOn(s)
		return
	}
	sh.comeIn(s, c)
}

// readLog asks for what the log has above what was sent. A session reads one of its logs at a time: many at once would be more than
// its connection is allowed to have waiting.
func (sh *Shard) readLog(s *Session, c *cursor) {
	t := sh.rooms[c.room].topic
	c.state = cursorReading
	s.flags |= flagReading
	sh.ask(&Read{
		Op: ReadLog, Ref: sh.ref(s), Key: c.turn, User: string(sh.user(s)), Kind: t.kind, Name: t.name,
		After: c.last, MaxBytes: sh.readChunk(), Tags: sh.tags(c), cursor: c,
	})
}

// logRead takes what was read of a log.
func (sh *Shard) logRead(s *Session, r *Read) {
	s.flags &^= flagReading
	c, gen := r.cursor, s.gen
	switch {
	case c.dead:
	case r.Code == codec.CodeForbidden:
		sh.expel(s, c)
	case r.Code == codec.CodeOK && r.Key != c.turn:
		c.state = cursorBehind // it goes on from elsewhere, or with another filter
	case r.Code != codec.CodeOK || r.More && r.Covered <= r.After || sh.crowded(s, len(r.Frames)):
		c.state = cursorBehind
		sh.later(s)
		return
	default:
		sh.feedLog(s, c, r)
	}
	if s.alive(gen) {
		sh.goOn(s)
	}
}

// feedLog sends a chunk of a log.
func (sh *Shard) feedLog(s *Session, c *cursor, r *Read) {
	gen := s.gen
	c.last = max(c.last, r.Covered)
	if len(r.Frames) > 0 {
		if sh.feed(s, r); !s.alive(gen) {
			return
		}
	}
	if !r.More || sh.rooms[c.room].recent.touches(c.last) {
		sh.comeIn(s, c)
		return
	}
	c.state = cursorBehind
	sh.toBack(s, c)
	if !sh.canTake(s) {
		sh.stats.Behind++
	}
}

// ahead says that a room has brought its members something above last, or is about to without all that is between.
func (rm *room) ahead(last uint64) bool {
	switch {
	case rm.running.high > last:
		return true
	case rm.pending.low != 0:
		return rm.pending.low > last+1
	}
	return rm.head > last
}

// level says that a room is going to bring everything above last, and nothing else.
func (rm *room) level(last uint64) bool {
	return (rm.head == 0 || last <= rm.head) && (rm.pending.low == 0 || rm.pending.low > last)
}

// comeIn makes a session a member of the room that has its log up to c.last; or has it read on, if the room is ahead.
func (sh *Shard) comeIn(s *Session, c *cursor) {
	rm, gen := &sh.rooms[c.room], s.gen
	if rm.ahead(c.last) {
		if sh.giveRecent(s, c); !s.alive(gen) {
			return
		}
	}
	switch {
	case rm.ahead(c.last):
		c.state = cursorBehind
		sh.goOn(s)
	case rm.queued || !rm.level(c.last):
		c.state = cursorJoining
	default:
		sh.enterRoom(s, c)
	}
}

// enterRoom ends a cursor: from the next run on the session gets what the room gets.
func (sh *Shard) enterRoom(s *Session, c *cursor) {
	rm := &sh.rooms[c.room]
	rm.head = max(rm.head, c.last)
	if c.sub != 0 {
		g := sh.subs.at(c.sub - 1).group()
		rm.groups[g].away--
		sh.enter(c.sub-1, g)
	}
	sh.unlink(s, c)
}

// meetReaders lets those in who wait for the run that has just begun. Who reads the log itself gets the run's STATEs, but not its
// ephemeral messages.
func (sh *Shard) meetReaders(r uint32) {
	rm := &sh.rooms[r]
	if len(rm.readers) == 0 {
		return
	}
	brief := rm.running.brief
	readers := append(sh.readers[:0], rm.readers...) // those who end in a write leave the room's
	for _, c := range readers {
		s := sh.sessions.at(c.session)
		switch {
		case c.dead:
		case c.state == cursorJoining:
			sh.join(s, c)
		case brief:
			sh.passBy(s, c)
		}
	}
	clear(readers)
	if sh.readers = readers[:0]; cap(readers) > keepOuts {
		sh.readers = nil
	}
}

// join brings a session into its room with the run that has just begun: it gets of the run what it does not have.
func (sh *Shard) join(s *Session, c *cursor) {
	rm := &sh.rooms[c.room]
	low, bytes, last := rm.running.low, rm.running.bytes(), max(c.last, rm.running.high)
	if low > c.last+1 || sh.overLimit(s, bytes) {
		c.state = cursorBehind
		gen := s.gen
		if sh.passBy(s, c); s.alive(gen) {
			sh.goOn(s)
		}
		return
	}
	enters := rm.level(last)
	if rm.all && enters && (low == 0 || low > c.last) {
		sh.enterRoom(s, c) // it is served with all others
		return
	}
	gen, tags, born := s.gen, sh.tags(c), rm.running.born
	for frame := range rm.running.all() {
		if seq := msgSeq(frame); seq != 0 && seq <= c.last || tags != nil && !matches(frame, tags) {
			continue
		}
		if sh.deliverCopy(s, frame, born); !s.alive(gen) {
			return
		}
	}
	if c.last = last; enters && !rm.all {
		sh.enterRoom(s, c) // of all it is a member when the run is over: the run would be served to it
	}
}

// letIn lets those in who wait for nothing but the end of a run.
func (sh *Shard) letIn(r uint32) {
	rm := &sh.rooms[r]
	for i := len(rm.readers) - 1; i >= 0; i-- {
		if c := rm.readers[i]; c.state == cursorJoining && rm.level(c.last) {
			sh.enterRoom(sh.sessions.at(c.session), c)
		}
	}
}

// passBy takes what is in no log past a session that reads the log.
func (sh *Shard) passBy(s *Session, c *cursor) {
	rm := &sh.rooms[c.room]
	gen, tags, born := s.gen, sh.tags(c), rm.running.born
	for frame := range rm.running.all() {
		switch {
		case msgSeq(frame) != 0 || tags != nil && !matches(frame, tags):
		case codec.Type(frame[3]&0x1f) != codec.TypeState:
			sh.stats.drop(DropCatchingUp, 1)
		case c.state != cursorWaiting: // else it is asked for what is kept
			if sh.deliverCopy(s, frame, born); !s.alive(gen) {
				return
			}
		}
	}
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
		c = sh.awayFromAll(s)
	} else {
		c = sh.fallOut(s, rm.groups[i].members[at])
	}
	c.state, c.last = cursorBehind, rm.running.low-1
	sh.stats.Behind++
	sh.passBy(s, c)
	return true
}
