package shard

import "gannet/codec"

// membership takes a change of a large group.
func (sh *Shard) membership(m *Membership) {
	s := sh.receiver(m.Ref, m.User)
	switch {
	case s == nil:
	case s.phase == phaseResume:
		sh.keepChange(s, m)
	default:
		sh.change(s, m)
	}
}

// keepChange keeps a change for a session whose login is under way: the log may have looked at the user's groups before.
func (sh *Shard) keepChange(s *Session, m *Membership) {
	if len(sh.changes[s.index]) >= tailMax {
		sh.bye(s, codec.CodeOverloaded, "your groups change too fast")
		return
	}
	sh.changes[s.index] = append(sh.changes[s.index], m)
}

// takeChanges makes the changes that came while the log was asked.
func (sh *Shard) takeChanges(s *Session) {
	kept, gen := sh.changes[s.index], s.gen
	delete(sh.changes, s.index)
	for _, m := range kept {
		if s.alive(gen) {
			sh.change(s, m)
		}
	}
}

func (sh *Shard) change(s *Session, m *Membership) {
	name := []byte(m.Group)
	i, ok := sh.find(s, codec.KindGroup, name)
	switch {
	case m.Leave && ok:
		sh.leaveAfterRun(s, i)
	case !m.Leave && !ok:
		sh.joinLog(s, codec.KindGroup, name, m.Next)
	}
}

// leaveAfterRun ends a subscription to a group. What the room has got so far was sent while the user belonged to it; who reads the log
// itself has no right to the rest.
func (sh *Shard) leaveAfterRun(s *Session, i uint32) {
	sub, gen := sh.subs.at(i), s.gen
	if sub.pos != noPos {
		rm := &sh.rooms[sub.room()]
		if g := &rm.groups[sub.group()]; sub.pos < uint32(g.todo) && g.n > 0 {
			sh.deliverN(s, append([]byte(nil), g.data...), g.n, rm.running.born)
		}
		for frame := range rm.pending.all() {
			if !s.alive(gen) {
				return
			}
			sh.deliverCopy(s, frame, rm.pending.born)
		}
	}
	if s.alive(gen) {
		sh.leave(s, i)
	}
}

// joinLog makes a session a member of a channel that is read from its own log, from behind seq last. It reads first:
// what came before this shard heard of the room is only there, and the right is looked at again.
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
	sh.enterRoom(s, c) // everybody may read all
}

// msgSeq is the seq of a MSG; 0 for an ephemeral one and for any other frame.
func msgSeq(frame []byte) uint64 {
	if at := msgAt(frame); at != 0 {
		return be.Uint64(frame[at+3+int(frame[at+2]):])
	}
	return 0
}

// msgFlags are the flags of a MSG.
func msgFlags(frame []byte) uint8 {
	if at := msgAt(frame); at != 0 {
		return frame[at]
	}
	return 0
}

// msgAt is where the fields of a MSG begin; 0 for any other frame.
func msgAt(frame []byte) int {
	at := codec.HeaderLen
	switch {
	case codec.Type(frame[3]&0x1f) != codec.TypeMsg:
		return 0
	case frame[3]&codec.FlagExt != 0:
		at += 2 + int(be.Uint16(frame[at:]))
	}
	return at
}
