package shard

import (
	"bytes"
	"slices"

	"gannet/codec"
)

// wantedReceipt is a message on its way to a session whose sender wants to know when it was delivered.
type wantedReceipt struct {
	place  uint64 // acknowledged with this position of the inbox
	kind   codec.Kind
	name   string
	seq    uint64
	sender string
}

// maxWanted is how many of them are kept for a session; older ones are given up and counted.
const maxWanted = 1024

// want notes that the sender of a message wants a RECEIPT.
func (sh *Shard) want(s *Session, frame []byte, place uint64) {
	if msgFlags(frame)&codec.MsgReceipt == 0 {
		return
	}
	f, _, err := codec.ConsumeFrame(frame, codec.MaxBody)
	if err != nil || f.Type != codec.TypeMsg {
		return
	}
	m, err := codec.ConsumeMsg(f)
	if err != nil || m.Seq == 0 || bytes.Equal(m.Sender, sh.user(s)) {
		return
	}
	list := sh.wanted[s.index]
	if len(list) >= maxWanted {
		const most = maxWanted / 8
		sh.stats.drop(DropReceipt, most)
		list = slices.Delete(list, 0, most)
	}
	sh.wanted[s.index] = append(list, wantedReceipt{place, m.Kind, string(m.Name), m.Seq, string(m.Sender)})
}

// wantAll is want for a chunk of the log: its messages count as delivered with the position behind it.
func (sh *Shard) wantAll(s *Session, frames []byte, place uint64) {
	for len(frames) >= codec.HeaderLen {
		length, _, _, _ := codec.ConsumeHeader(frames)
		n := codec.HeaderLen + length
		if n > len(frames) {
			return
		}
		sh.want(s, frames[:n], place)
		frames = frames[n:]
	}
}

// ack takes an ACK. It has no answer; what cannot be true is told by an ERR with req 0.
func (sh *Shard) ack(s *Session, f codec.Frame) error {
	a, err := codec.ConsumeAck(f)
	if err != nil || sh.cfg.Log == nil {
		return err
	}
	if a.Mode == codec.AckDelivered && a.InboxPos != 0 {
		sh.ackInbox(s, a.InboxPos)
	}
	for m := range a.Marks.All() {
		switch code, why := sh.judgeMark(s, a.Mode, m); {
		case code != codec.CodeOK:
			sh.stats.drop(DropMark, 1)
			ob := sh.outOf(s)
			ob.buf = codec.AppendErr(ob.buf, codec.Err{Code: code, Text: []byte(why)})
		case a.Mode == codec.AckDelivered && m.Kind == codec.KindTopic: // the client keeps it
		default:
			sh.mark(Mark{
				User: string(sh.user(s)), Device: string(sh.device(s)), Mode: a.Mode,
				Kind: m.Kind, Name: string(m.Name), Seq: m.Seq,
			})
		}
	}
	return nil
}

// judgeMark says whether a channel may be acknowledged by this session, as far as the shard knows.
func (sh *Shard) judgeMark(s *Session, _ uint8, m codec.Mark) (codec.Code, string) {
	if !m.Kind.Valid() || !codec.ValidName(m.Kind, m.Name) || m.Seq == 0 {
		return codec.CodeInvalid, "ACK of no valid channel"
	}
	if m.Kind == codec.KindDirect && !sh.inPair(s, m.Name) {
		return codec.CodeForbidden, "ACK of somebody else's channel"
	}
	return codec.CodeOK, ""
}

func (sh *Shard) inPair(s *Session, pair []byte) bool {
	a, b, ok := codec.SplitPair(pair)
	user := sh.user(s)
	return ok && (bytes.Equal(a, user) || bytes.Equal(b, user))
}

// ackInbox moves the device's position, never back and never beyond what was sent.
func (sh *Shard) ackInbox(s *Session, pos uint64) {
	if s.flow == 0 {
		if pos > sh.heard {
			sh.falseAck(s)
		}
		return // everything is acknowledged already
	}
	f := sh.flows.at(s.flow - 1)
	if pos > max(f.high, sh.heard) {
		sh.falseAck(s)
		return
	}
	// What the session was told when it had no flow may lie above high: there was nothing for it.
	if pos = min(pos, f.high); pos <= f.acked {
		return
	}
	f.acked = pos
	if f.state == inboxBehind && pos > f.sent {
		f.sent = pos // it is being sent again and need not be
	}
	f.retries, f.retryAt = 0, 0
	if f.acked < f.sent {
		sh.expectAck(s, f)
	}
	sh.touchDirty(s, f)
	if list := sh.wanted[s.index]; len(list) > 0 {
		sh.tellReceipts(s, list, pos)
	}
}

func (sh *Shard) falseAck(s *Session) {
	sh.stats.drop(DropMark, 1)
	ob := sh.outOf(s)
	ob.buf = codec.AppendErr(ob.buf, codec.Err{Code: codec.CodeInvalid, Text: []byte("ACK beyond what was sent")})
}

// tellReceipts tells the senders of what is acknowledged now.
func (sh *Shard) tellReceipts(s *Session, list []wantedReceipt, pos uint64) {
	n := 0
	for n < len(list) && list[n].place <= pos {
		n++
	}
	for i, w := range list[:n] {
		if i+1 < n && list[i+1].name == w.name && list[i+1].kind == w.kind && list[i+1].sender == w.sender {
			continue // cumulative
		}
		sh.mark(Mark{
			User: string(sh.user(s)), Device: string(sh.device(s)), Mode: codec.AckDelivered,
			Kind: w.kind, Name: w.name, Seq: w.seq, Receipt: w.sender,
		})
	}
	if n == len(list) {
		delete(sh.wanted, s.index)
	} else {
		sh.wanted[s.index] = slices.Delete(list, 0, n)
	}
}

// touchDirty has the device's position handed to the log within a second.
func (sh *Shard) touchDirty(s *Session, f *flow) {
	if f.dirty == clean {
		sh.dirty = append(sh.dirty, closer{s.index, s.gen})
	}
	f.dirty = moved
}

// mark collects what devices acknowledged; false: the log takes none and too many wait.
func (sh *Shard) mark(m Mark) bool {
	if len(sh.marks) >= sh.cfg.MaxMarks {
		sh.stats.drop(DropMarksFull, 1)
		return false
	}
	sh.marks = append(sh.marks, m)
	sh.schedule()
	return true
}

// markEnd hands over where a session ended.
func (sh *Shard) markEnd(s *Session) {
	if sh.cfg.Log == nil || s.phase != phaseLive {
		return
	}
	m := Mark{User: string(sh.user(s)), Device: string(sh.device(s)), Mode: codec.AckDelivered, Kind: codec.KindInbox, Gone: true}
	if s.flow != 0 {
		m.Seq = sh.flows.at(s.flow - 1).acked
	}
	sh.mark(m)
}

// sweepLog is the log's part of a tick: reads that were refused, and once a second the positions of devices.
func (sh *Shard) sweepLog() {
	if sh.cfg.Log == nil {
		return
	}
	sh.sweepBehind()
	if sh.nowTick < sh.marksAt {
		return
	}
	sh.marksAt = sh.nowTick + sweeps
	kept := sh.dirty[:0]
	for _, x := range sh.dirty {
		if s := sh.sessions.at(x.index); s.alive(x.gen) && s.flow != 0 && sh.sweepFlow(s) {
			kept = append(kept, x)
		}
	}
	if sh.dirty = kept; len(kept) == 0 && cap(kept) > keepOuts {
		sh.dirty = nil
	}
}

// sweepFlow hands over a position that moved; once it has stayed for a second the flow may go. True: it is looked at again.
func (sh *Shard) sweepFlow(s *Session) bool {
	f := sh.flows.at(s.flow - 1)
	if f.dirty == moved {
		if sh.mark(Mark{
			User: string(sh.user(s)), Device: string(sh.device(s)), Mode: codec.AckDelivered, Kind: codec.KindInbox, Seq: f.acked,
		}) {
			f.dirty, f.quiet = handed, 0
		}
		return true
	}
	if f.quiet++; f.acked >= f.sent && !sh.settled(f) {
		return true
	}
	f.dirty = clean
	sh.rest(s)
	return false
}

// handMarks gives the log what it takes of the acknowledgements.
func (sh *Shard) handMarks() {
	if len(sh.marks) == 0 {
		return
	}
	n := sh.cfg.Log.Mark(sh.marks)
	left := copy(sh.marks, sh.marks[n:])
	clear(sh.marks[left:])
	if sh.marks = sh.marks[:left]; left == 0 && cap(sh.marks) > 1024 {
		sh.marks = nil
	}
}
