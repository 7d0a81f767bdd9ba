package shard

import "gannet/codec"

// MaxTags is the number of routing tags that a message or a SUB may carry.
const MaxTags = 8

// validTags judges the TLVs of a client, above all its routing tags.
func validTags(ext codec.TLVs) bool {
	n := 0
	for tag, v := range ext.All() {
		if tag == codec.TagEvent {
			return false // a change of a group's membership, which only the server tells
		}
		if tag == codec.TagRoute {
			if n++; n > MaxTags || len(v) == 0 || len(v) > codec.MaxID {
				return false
			}
		}
	}
	return true
}

// allow takes one token of the session's rate: SendRate a second, at most two seconds' worth at once.
func (sh *Shard) allow(s *Session) bool {
	rate := uint32(sh.cfg.SendRate)
	if rate == 0 {
		return true
	}
	if s.rateAt != sh.nowTick {
		// The difference of two roundings: fractions of a token are not lost, however often this is asked.
		gained := uint64(sh.nowTick)*uint64(rate)/10 - uint64(s.rateAt)*uint64(rate)/10
		s.rateTokens = uint16(min(uint64(s.rateTokens)+gained, uint64(2*rate)))
		s.rateAt = sh.nowTick
	}
	if s.rateTokens == 0 {
		return false
	}
	s.rateTokens--
	return true
}

// send takes a SEND. An error is fatal for the connection; everything else is told in SENDACK. An ephemeral SEND
// with req 0 is not answered, whatever becomes of it.
func (sh *Shard) send(s *Session, f codec.Frame) error {
	m, err := codec.ConsumeSend(f)
	if err != nil {
		return err
	}
	if sh.cfg.Log != nil && (m.Flags&codec.MsgDurable != 0 || m.Kind == codec.KindGroup) {
		sh.submit(s, &m)
		return nil
	}
	code, why := sh.route(s, &m)
	if code == codec.CodeOK {
		sh.stats.MessagesIn++
	} else {
		sh.stats.drop(why, 1)
	}
	if m.Req != 0 || m.Flags&codec.MsgDurable != 0 {
		ob := sh.outOf(s)
		ob.buf = codec.AppendSendAck(ob.buf, codec.SendAck{Req: m.Req, Code: code, Time: sh.nowMilli})
	}
	return nil
}

// validSend judges what does not depend on who sends.
func validSend(m *codec.Send) bool {
	return m.Kind.Valid() && codec.ValidID(m.Name) && (len(m.Ext) == 0 || validTags(m.Ext)) &&
		(m.Kind != codec.KindAll || string(m.Name) == codec.AllName)
}

// route brings an ephemeral message on its way.
func (sh *Shard) route(s *Session, m *codec.Send) (codec.Code, Drop) {
	if !validSend(m) {
		return codec.CodeInvalid, DropInvalid
	}
	if m.Flags&codec.MsgDurable != 0 {
		return codec.CodeInvalid, DropUnsupported
	}
	if m.Kind == codec.KindGroup {
		return codec.CodeNotFound, DropUnsupported
	}
	if !sh.mayPublish(s, m.Kind, m.Name) {
		return codec.CodeForbidden, DropForbidden
	}
	if !sh.allow(s) {
		return codec.CodeRateLimited, DropRateLimited
	}
	if m.Kind == codec.KindDirect {
		return sh.sendDirect(s, m)
	}
	return sh.sendRoom(s, m)
}

func (sh *Shard) mayPublish(s *Session, kind codec.Kind, name []byte) bool {
	r := sh.rights[s.rights].rights
	switch kind {
	case codec.KindTopic:
		return r.MayPublish(name)
	case codec.KindAll:
		return r.MayBroadcast()
	}
	return true
}

func (sh *Shard) message(s *Session, m *codec.Send, name []byte) codec.Msg {
	return codec.Msg{
		Ext: m.Ext, Flags: m.Flags, Kind: m.Kind, Name: name, Time: sh.nowMilli,
		Sender: sh.user(s), Content: m.Content, Payload: m.Payload,
	}
}

func (sh *Shard) sendDirect(s *Session, m *codec.Send) (codec.Code, Drop) {
	var pair [codec.MaxPair]byte
	msg := sh.message(s, m, codec.AppendPair(pair[:0], sh.user(s), m.Name))
	frame := sh.encode(msg)
	if sh.cfg.Events&EventMessage != 0 {
		sh.messageEvent(s, frame)
	}
	it := item{op: opDirect, born: sh.now, frame: frame}
	it.off, it.n = pairUser(frame, msg, m.Name)
	code, why := sh.sendUser(s, m.Name, it)
	if code == codec.CodeOK && s.phase == phaseLive && string(m.Name) != string(sh.user(s)) {
		it.off, it.n = pairUser(frame, msg, sh.user(s))
		code, why = sh.sendUser(s, sh.user(s), it)
	}
	return code, why
}

// sendUser delivers to every session of user but s itself.
func (sh *Shard) sendUser(s *Session, user []byte, it item) (codec.Code, Drop) {
	self := sh.ref(s)
	sh.refs = sh.node.dir.Lookup(sh.node.dir.Hash(user), sh.refs[:0])
	for _, ref := range sh.refs {
		if ref == self {
			continue
		}
		it.ref = ref
		if ref.Shard() == uint32(sh.index) {
			sh.takeItem(&it)
		} else if !sh.post(ref.Shard(), it) {
			return codec.CodeBusy, DropInboxFull
		}
	}
	return codec.CodeOK, 0
}

func (sh *Shard) sendRoom(s *Session, m *codec.Send) (codec.Code, Drop) {
	msg := sh.message(s, m, m.Name)
	t := sh.node.topic(m.Kind, m.Name)
	if t == nil && sh.cfg.Events&EventMessage == 0 {
		sh.stats.drop(DropNoSubscribers, 1)
		return codec.CodeOK, 0
	}
	frame := sh.encode(msg)
	if sh.cfg.Events&EventMessage != 0 {
		sh.messageEvent(s, frame)
	}
	if t == nil {
		return codec.CodeOK, 0
	}
	return sh.publishRoom(t, frame)
}

// publishRoom hands a frame to every shard that has members of t: to all of them or to none, unless an inbox is
// full.
func (sh *Shard) publishRoom(t *topic, frame []byte) (codec.Code, Drop) {
	if !t.admit(len(frame), sh.cfg.RoomLimit) {
		return codec.CodeBusy, DropRoomFull
	}
	for i := range t.rooms {
		if !t.hasMember(i) {
			continue
		}
		t.queued.Add(int64(len(frame)))
		if i == sh.index {
			sh.enqueue(t, frame, sh.now)
		} else if !sh.post(uint32(i), item{op: opRoom, born: sh.now, frame: frame, topic: t}) {
			t.queued.Add(-int64(len(frame)))
			return codec.CodeBusy, DropInboxFull
		}
	}
	return codec.CodeOK, 0
}

func (sh *Shard) messageEvent(s *Session, frame []byte) {
	sh.node.host.Event(Event{
		Kind: EventMessage, Session: s.id, User: string(sh.user(s)), Device: string(sh.device(s)),
		Class: s.class, Frame: frame,
	})
}
