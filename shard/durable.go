package shard

import "gannet/codec"

// submit takes a durable SEND, or one to a group. It is answered when the log has it, or at once when it is refused.
func (sh *Shard) submit(s *Session, m *codec.Send) {
	code, why := sh.admitDurable(s, m)
	if code == codec.CodeOK {
		sh.stats.MessagesIn++
		return
	}
	sh.stats.drop(why, 1)
	if m.Flags&codec.MsgDurable != 0 {
		sh.refuseAbove(s, m.Nonce, code)
	} else if m.Req == 0 {
		return
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendSendAck(ob.buf, codec.SendAck{Req: m.Req, Code: code, Time: sh.nowMilli})
}

// admitDurable judges a SEND and gives it to the log.
func (sh *Shard) admitDurable(s *Session, m *codec.Send) (codec.Code, Drop) {
	durable := m.Flags&codec.MsgDurable != 0
	if !validSend(m) || durable && m.Nonce == 0 {
		return codec.CodeInvalid, DropInvalid
	}
	if !sh.mayPublish(s, m.Kind, m.Name) {
		return codec.CodeForbidden, DropForbidden
	}
	f := sh.flowOf(s, 0)
	if durable && f.blocked != 0 && m.Nonce > f.blocked {
		return codec.Code(f.refusal), DropBlocked
	}
	if f.unanswered >= sh.cfg.Window {
		return codec.CodeBusy, DropWindow
	}
	if !sh.allow(s) {
		return codec.CodeRateLimited, DropRateLimited
	}
	if m.Kind != codec.KindDirect {
		if t := sh.node.topic(m.Kind, m.Name); t != nil && !t.admit(len(m.Payload), sh.cfg.RoomLimit) {
			return codec.CodeBusy, DropRoomFull
		}
	}
	if durable && m.Nonce == f.blocked {
		f.blocked = 0
	}
	f.unanswered++
	sh.entries = append(sh.entries, sh.entry(s, m))
	sh.schedule()
	return codec.CodeOK, 0
}

// entry encodes a message for the log: the frame, which all receivers share, and behind it the sender's device.
func (sh *Shard) entry(s *Session, m *codec.Send) Entry {
	var pair [codec.MaxPair]byte
	name := m.Name
	if m.Kind == codec.KindDirect {
		name = codec.AppendPair(pair[:0], sh.user(s), name)
	}
	msg := sh.message(s, m, name)
	device := sh.device(s)
	n := codec.MsgLen(msg)
	buf := append(codec.AppendMsg(sh.cut(n+len(device)), msg), device...)
	if sh.cfg.Events&EventMessage != 0 {
		sh.messageEvent(s, append([]byte(nil), buf[:n]...)) // a copy: the log writes the seq into the frame
	}
	e := Entry{
		Ref: sh.ref(s), Born: sh.now, Buf: buf, Size: uint32(n), Head: nameAt(msg), Req: m.Req, Kind: m.Kind, Flags: m.Flags,
	}
	if m.Flags&codec.MsgDurable != 0 {
		e.Nonce = m.Nonce
	}
	return e
}

// refuseAbove refuses the higher nonces from now on, as the order of a device's messages asks for. Only refusals that may be followed by
// another try do.
func (sh *Shard) refuseAbove(s *Session, nonce uint64, code codec.Code) {
	if nonce == 0 || s.flow == 0 {
		return
	}
	f := sh.flows.at(s.flow - 1)
	switch final := code < 1 || code > 99; {
	case final && nonce == f.blocked:
		f.blocked = 0 // it came again; that it is refused for good now concerns it alone
	case !final && (f.blocked == 0 || nonce <= f.blocked):
		f.blocked, f.refusal = nonce, uint16(code)
	}
}

// sendAnswer tells a sender what became of its message.
func (sh *Shard) sendAnswer(a *Answer) {
	s := sh.resolve(a.Ref)
	if s == nil || s.flow == 0 {
		return
	}
	f := sh.flows.at(s.flow - 1)
	f.unanswered--
	switch a.Code {
	case codec.CodeOK, codec.CodeDuplicate:
		if a.Code == codec.CodeOK && a.Nonce != 0 {
			sh.stats.Durable++
		}
		if a.Nonce == f.blocked { // it had come again before its refusal was known
			f.blocked = 0
		}
	default:
		sh.stats.drop(dropOf(a.Code), 1)
		sh.refuseAbove(s, a.Nonce, a.Code)
	}
	if a.Req != 0 || a.Nonce != 0 {
		ob := sh.outOf(s)
		ob.buf = codec.AppendSendAck(ob.buf, codec.SendAck{Req: a.Req, Code: a.Code, Seq: a.Seq, Time: a.Time})
	}
	sh.rest(s)
}

// dropOf is the reason behind a code with which the log refuses a message.
func dropOf(code codec.Code) Drop {
	switch code {
	case codec.CodeBusy:
		return DropLogFull
	case codec.CodeForbidden:
		return DropForbidden
	case codec.CodeInvalid, codec.CodeNotFound, codec.CodeTooLarge:
		return DropInvalid
	}
	return DropStore
}
