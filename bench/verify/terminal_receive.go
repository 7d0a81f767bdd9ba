package verify

import (
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

// take handles what was read; false ends the connection.
func (t *terminal) take(chunk []byte) bool {
	t.in = append(t.in, chunk...)
	t.link.giveBack(chunk)
	b := t.in
	for {
		f, n, err := codec.ConsumeFrame(b, t.limit)
		if err == nil && n == 0 {
			break
		}
		if err == nil {
			err = t.handle(f)
		}
		if errors.Is(err, errEnded) {
			return false
		}
		if err != nil {
			t.r.n.malformed.Add(1)
			t.r.complain("%v got a frame that is none: %v: %v", t.h, f.Type, err)
			return false
		}
		b = b[n:]
	}
	t.in = t.in[:copy(t.in, b)]
	return true
}

var (
	errEnded      = errors.New("the server ended the connection")
	errUnexpected = errors.New("not expected now")
)

// handle acts on one frame.
func (t *terminal) handle(f codec.Frame) error {
	switch f.Type {
	case codec.TypeWelcome:
		return consumed(f, codec.ConsumeWelcome, t.welcome)
	case codec.TypeSendAck:
		return consumed(f, codec.ConsumeSendAck, func(a codec.SendAck) error { t.sendAck(a); return nil })
	case codec.TypeMsg:
		return consumed(f, codec.ConsumeMsg, t.message)
	case codec.TypeGap:
		return consumed(f, codec.ConsumeGap, t.gap)
	case codec.TypePos:
		return consumed(f, codec.ConsumePos, t.position)
	case codec.TypeSubAck:
		return consumed(f, codec.ConsumeSubAck, t.subAck)
	case codec.TypeRange:
		return consumed(f, codec.ConsumeRange, t.ranged)
	case codec.TypePing:
		return consumed(f, codec.ConsumePing, func(p codec.Ping) error {
			t.out = codec.AppendPong(t.out, codec.Ping{Data: p.Data})
			return nil
		})
	case codec.TypeBye:
		return consumed(f, codec.ConsumeBye, t.bye)
	case codec.TypeErr:
		return consumed(f, codec.ConsumeErr, func(e codec.Err) error {
			t.r.complain("%v got ERR %v %q", t.h, e.Code, e.Text)
			return nil
		})
	}
	return nil // legal, and nothing to check
}

func consumed[T any](f codec.Frame, consume func(codec.Frame) (T, error), then func(T) error) error {
	v, err := consume(f)
	if err != nil {
		return err
	}
	return then(v)
}

func (t *terminal) bye(b codec.Bye) error {
	t.r.bye(b)
	return errEnded
}

// welcome is the login: everything without an answer goes again, then what is new.
func (t *terminal) welcome(w codec.Welcome) error {
	if t.greeted {
		return errUnexpected
	}
	now := time.Now()
	t.greeted, t.fails = true, 0
	t.r.n.logins.Add(1)
	t.limit = min(int(w.MaxFrame)+134, codec.MaxBody) // a MSG is so much longer than its SEND
	if highest, ok := w.Ext.Uint64(codec.TagNonce); ok {
		t.nonce = max(t.nonce, highest)
	}
	if w.InboxEpoch != t.epoch {
		if t.epoch != 0 {
			t.h.InboxReset(true, t.pos, w.InboxHead)
		}
		t.epoch, t.pos = w.InboxEpoch, 0
	} else if w.InboxState == codec.StateReset {
		t.h.InboxReset(false, t.pos, w.InboxHead)
		t.pos = 0
	}
	i := 0
	for s := range w.States.All() {
		if i == len(t.asked) {
			return errUnexpected
		}
		t.follows[t.lookup(t.asked[i].kind, t.asked[i].name)].subbed = true
		t.goesOn(t.asked[i], s.State, s.Epoch, s.Head)
		i++
	}
	t.subscribe()
	t.heard, t.hold = now, time.Time{}
	if t.pull != nil {
		t.askPull()
	}
	return nil
}

// goesOn takes what the server says of a position.
func (t *terminal) goesOn(f *following, state uint8, epoch, head uint64) {
	switch state {
	case codec.StateReset:
		t.h.Reset(f.id, epoch != f.epoch, f.seen.upTo(), head)
		if epoch != f.epoch {
			f.seen = seqSet{}
		}
		f.epoch = epoch
	case codec.StateRefused:
		t.r.n.refused.Add(1)
		t.r.complain("%v may not follow %v %q any more", t.h, f.kind, f.name)
	}
}

// subscribe asks for what HELLO did not.
func (t *terminal) subscribe() {
	for _, f := range t.logs {
		if !f.sub || contains(t.asked, f) {
			continue
		}
		s := codec.Sub{Mode: codec.SubFromNow, Kind: f.kind, Name: []byte(f.name)}
		if f.subbed {
			s.Mode, s.Epoch, s.Seq = codec.SubFromPosition, f.epoch, f.seen.upTo()
		}
		t.subReq++
		s.Req = t.subReq
		t.subs[s.Req] = f
		t.out = codec.AppendSub(t.out, s)
		t.asked = append(t.asked, f)
	}
}

func contains(list []*following, f *following) bool {
	for _, x := range list {
		if x == f {
			return true
		}
	}
	return false
}

// subRetry is when a SUB that was refused for now is tried again.
const subRetry = 50 * time.Millisecond

func (t *terminal) subAck(a codec.SubAck) error {
	f := t.subs[a.Req]
	if f == nil {
		return errUnexpected
	}
	delete(t.subs, a.Req)
	switch {
	case a.Code.Temporary():
		for i, x := range t.asked {
			if x == f {
				t.asked = append(t.asked[:i], t.asked[i+1:]...)
				break
			}
		}
		t.subAt = time.Now().Add(subRetry)
		return nil
	case a.Code != codec.CodeOK:
		t.r.fail(fmt.Errorf("SUB to %v %q refused: %v", f.kind, f.name, a.Code))
		return nil
	case f.subbed:
		t.goesOn(f, a.State, a.Epoch, a.Head)
		return nil
	}
	f.subbed, f.epoch, f.base = true, a.Epoch, a.Head
	f.seen.add(1, a.Head)
	t.h.From(f.id, a.Head)
	return nil
}

// lookup makes the key of a channel.
func (t *terminal) lookup(kind codec.Kind, name string) string { return string(byte(kind)) + name }

// follow finds a channel by the name in a frame. One that this terminal does not know is none of its business: the History will
// tell.
func (t *terminal) follow(kind codec.Kind, name []byte) *following {
	t.key = append(append(t.key[:0], byte(kind)), name...)
	f := t.follows[string(t.key)]
	if f == nil {
		f = &following{id: t.r.h.Channel(kind, string(name)), kind: kind, name: string(name)}
		t.follows[string(t.key)] = f
	}
	return f
}

func (t *terminal) message(m codec.Msg) error {
	if !t.greeted {
		return errUnexpected
	}
	if m.Seq == 0 || m.Flags&codec.MsgDurable == 0 {
		t.r.n.strange.Add(1)
		return nil
	}
	id, altered := t.r.identify(m.Payload, string(m.Sender))
	if t.pull != nil && t.pull.take(m, id, altered) {
		t.pageEnd()
		return nil
	}
	f := t.follow(m.Kind, m.Name)
	if m.Flags&codec.MsgLog != 0 && !f.inLogs {
		f.inLogs = true // a group that has a log of its own readers
		t.logs = append(t.logs, f)
		f.epoch = t.epoch
	}
	t.current(f)
	how := Handed
	switch {
	case f.seen.has(m.Seq) && !t.r.o.keepRepetitions:
		how = Again
		t.r.n.repeated.Add(1)
	case altered:
		how = Altered
	}
	t.h.Receive(f.id, t.epochOf(f), m.Seq, id, how)
	if how != Again {
		f.seen.add(m.Seq, m.Seq)
		t.r.n.handed.Add(1)
		t.r.heard()
	}
	if f.inLogs {
		f.dirty = true
		t.ackSoon()
	}
	return nil
}

func (t *terminal) gap(g codec.Gap) error {
	t.r.n.gaps.Add(1)
	if g.Kind == codec.KindInbox {
		t.h.InboxGap(t.epoch, g.From, g.To, g.Reason)
		return nil
	}
	f := t.current(t.follow(g.Kind, g.Name))
	if t.pull != nil && t.pull.f == f {
		t.pull.told(g)
	}
	t.h.Gap(f.id, t.epochOf(f), g.From, g.To, g.Reason)
	f.seen.add(g.From, g.To)
	if f.inLogs {
		f.dirty = true
		t.ackSoon()
	}
	return nil
}

func (t *terminal) position(p codec.Pos) error {
	if p.InboxPos > t.pos {
		t.pos, t.posNew = p.InboxPos, true
		t.ackSoon()
	}
	return nil
}
