package shard

import (
	"time"

	"gannet/codec"
)

// askResume has the log say where a device goes on. The session is in the directory and in the rooms of its topics before, so
// whatever is committed from now on finds it.
func (sh *Shard) askResume(s *Session, h codec.Hello, expires time.Time) {
	s.phase, s.seen = phaseResume, sh.nowTick
	sh.setDue(s)
	r := &Read{
		Op: ReadResume, Ref: sh.ref(s), User: string(sh.user(s)), Device: string(sh.device(s)),
		Epoch: h.InboxEpoch, After: h.InboxPos, MaxBytes: sh.readChunk(),
	}
	if !expires.IsZero() {
		r.expires = uint64(expires.UnixMilli())
	}
	for p := range h.Positions.All() {
		pos := LogPosition{Kind: p.Kind, Name: string(p.Name), Epoch: p.Epoch, Seq: p.Seq}
		if !sh.resumable(s, p) {
			pos.Kind = codec.KindInbox // refused
		}
		r.Positions = append(r.Positions, pos)
	}
	sh.ask(r)
}

// resumable says whether a position of HELLO may be followed, and enters the room of a topic.
func (sh *Shard) resumable(s *Session, p codec.Position) bool {
	switch p.Kind {
	case codec.KindTopic:
		_, code := sh.subscribe(s, p.Kind, p.Name, nil)
		return code == codec.CodeOK
	case codec.KindGroup:
		return codec.ValidID(p.Name)
	case codec.KindAll:
		return string(p.Name) == codec.AllName
	}
	return false
}

// resumed ends a login: the log has said where the device goes on.
func (sh *Shard) resumed(s *Session, r *Read) {
	if r.Code != codec.CodeOK {
		sh.bye(s, codec.CodeOverloaded, "what is kept for you cannot be read now")
		return
	}
	c, gen := sh.conn(s), s.gen
	s.phase, s.seen = phaseLive, sh.nowTick
	sh.setDue(s)
	sh.welcomeBack(s, r)
	if s.alive(gen) && s.flags&flagHalf == 0 {
		sh.replaceOthers(s)
	}
	if !s.alive(gen) {
		return
	}
	if c.InboundBuffered() > 0 {
		sh.read(s, c)
	}
}

// welcomeBack sends WELCOME and begins to feed the session.
func (sh *Shard) welcomeBack(s *Session, r *Read) {
	w := sh.welcomeOf(s)
	w.InboxState, w.InboxEpoch, w.InboxHead = r.State, sh.cfg.Log.Epoch(), r.Head
	for _, st := range r.States {
		w.States.Append(st)
	}
	var tlv [10]byte
	if r.Nonce != 0 {
		w.Ext = codec.TLVs(tlv[:0]).AppendUint64(codec.TagNonce, r.Nonce)
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendWelcome(ob.buf, w)
	if r.expires != 0 {
		ob.buf = codec.AppendAuthResult(ob.buf, codec.AuthResult{Expires: r.expires})
	}
	sh.askStates(s, sh.node.all)
	gen := s.gen
	for i := s.subs; i != 0; i = sh.subs.at(i - 1).next {
		sh.askStates(s, sh.rooms[sh.subs.at(i-1).room()].topic)
	}
	sh.resumeInbox(s, r)
	for i := range r.Logs {
		if !s.alive(gen) {
			return
		}
		sh.resumeLog(s, &r.Logs[i])
	}
	if s.alive(gen) {
		sh.endWaiting(s)
		sh.takeChanges(s)
	}
}

// endWaiting ends the subscriptions of a login that the log has refused: it did not say where they begin.
func (sh *Shard) endWaiting(s *Session) {
	for c := sh.cursors[s.index]; c != nil; {
		refused := c
		if c = c.next; refused.state == cursorWaiting {
			sh.leave(s, refused.sub-1)
		}
	}
}

// resumeInbox sends what the inbox has for the device, or leaves the session as it is when there is nothing.
func (sh *Shard) resumeInbox(s *Session, r *Read) {
	sh.heard = max(sh.heard, r.Head, r.Covered)
	if len(r.Frames) == 0 && !r.More && sh.tails[s.index] == nil {
		if r.Covered != r.After || r.State == codec.StateReset {
			ob := sh.outOf(s) // its position moves over what was for others
			ob.buf = codec.AppendPos(ob.buf, codec.Pos{InboxPos: r.Covered})
		}
		return
	}
	f := sh.flowOf(s, r.Next)
	f.state = inboxReading
	r.After = r.Next
	sh.feedInbox(s, f, r)
}

// resumeLog begins to feed a channel that is read from its own log.
func (sh *Shard) resumeLog(s *Session, p *LogPosition) {
	switch p.Kind {
	case codec.KindAll:
		rm := &sh.rooms[0]
		if p.Seq >= p.Head && !rm.queued && !rm.ahead(p.Seq) && rm.level(p.Seq) {
			rm.head = max(rm.head, p.Seq)
			return // nothing is missing and nothing on its way
		}
		sh.startAt(s, sh.awayFromAll(s), p.Seq, p.Head)
	case codec.KindGroup:
		sh.joinLog(s, p.Kind, []byte(p.Name), p.Seq)
	case codec.KindTopic:
		if i, ok := sh.find(s, p.Kind, []byte(p.Name)); ok {
			if c := sh.cursorOf(s, i+1); c != nil && c.state == cursorWaiting {
				sh.startAt(s, c, p.Seq, p.Head)
			}
		}
	}
}
