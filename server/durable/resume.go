package durable

import (
	"errors"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// login is what is known about a device that logs in or subscribes.
type login struct {
	w       *reader
	q       *shard.Read
	epoch   uint64
	device  deviceRecord
	known   bool           // the device was here before
	devices []deviceRecord // of the user; for a device that was not
	marks   []logMark      // where logs begin that no position was stored of
}

func (w *reader) login(q *shard.Read) (x login, err error) {
	x = login{w: w, q: q, epoch: w.store.Epoch()}
	if x.device, x.known, err = w.l.device(q.User, q.Device); err == nil && !x.known {
		x.devices, err = w.l.devicesOf(q.User)
	}
	return x, err
}

// resume is a login.
func (w *reader) resume(q *shard.Read) error {
	place := w.store.Place()
	x, err := w.login(q)
	if err != nil {
		return err
	}
	start, state := x.inboxStart(place)
	q.State, q.Next, q.Covered = state, start, start
	if start < place { // else everything above is on its way to the session, which is in the directory since before
		tell := state == codec.StateResumed || x.known || len(x.devices) > 0
		if q.Next, err = w.inboxFrom(q, start, tell); err != nil {
			return err
		}
		if q.Next > start && state == codec.StateResumed {
			q.State = codec.StateGap
		}
	}
	q.Head = max(place, q.Covered)
	if q.Nonce, err = w.store.Nonce(q.User, q.Device); err != nil {
		return err
	}
	if err := x.logs(); err != nil {
		return err
	}
	w.l.seen(q.User, q.Device, q.Next, x.marks)
	if !x.known {
		rec := deviceRecord{Seen: w.l.now(), Pos: q.Next, Logs: x.marks}
		w.news = append(w.news, store.Record{Owner: ownerDevices, Key: deviceKey(q.User, q.Device), Value: rec.append(nil)})
	}
	return nil
}

// inboxStart says where the inbox goes on.
func (x *login) inboxStart(place uint64) (start uint64, state uint8) {
	given := x.q.After
	if x.q.Epoch == x.epoch && given <= place {
		return given, codec.StateResumed
	}
	stored := x.device.Pos
	for _, d := range x.devices {
		stored = max(stored, d.Pos)
	}
	if x.q.Epoch == 0 && given == 0 {
		return min(stored, place), codec.StateLive
	}
	return min(stored, place), codec.StateReset
}

// logs answers for the positions of HELLO, and for all and the large groups of the user, which need none.
func (x *login) logs() error {
	names, err := x.w.l.groups.of(x.q.User)
	if err != nil {
		return err
	}
	x.q.Logs = make([]shard.LogPosition, 0, 1+len(x.q.Positions))
	if len(x.q.Positions) > 0 {
		x.q.States = make([]codec.State, 0, len(x.q.Positions))
	}
	for _, p := range x.q.Positions {
		state, log, err := x.position(p)
		if err != nil {
			return err
		}
		x.q.States = append(x.q.States, state)
		x.add(log)
	}
	if err := x.unasked(codec.KindAll, codec.AllName); err != nil {
		return err
	}
	for _, name := range names {
		if g, _ := x.w.l.groups.get(name); g != nil && !g.Large {
			continue
		}
		if err := x.unasked(codec.KindGroup, name); err != nil {
			return err
		}
	}
	return nil
}

// unasked adds a log that a session reads without having asked for it.
func (x *login) unasked(kind codec.Kind, name string) error {
	if x.has(kind, name) {
		return nil
	}
	_, log, err := x.position(shard.LogPosition{Kind: kind, Name: name})
	if err == nil {
		x.add(log)
	}
	return err
}

func (x *login) has(kind codec.Kind, name string) bool {
	for i := range x.q.Logs {
		if x.q.Logs[i].Kind == kind && x.q.Logs[i].Name == name {
			return true
		}
	}
	return false
}

// add adds a log to the answer, unless it is there, or is none that a session reads.
func (x *login) add(log shard.LogPosition) {
	if log.Kind != 0 && !x.has(log.Kind, log.Name) {
		x.q.Logs = append(x.q.Logs, log)
	}
}

var refused = codec.State{State: codec.StateRefused}

// position says where a reader of a channel's own log goes on, by what it gave. The log's Kind is 0 when there is nothing to read
// there: no right, or the messages come through the inbox.
func (x *login) position(p shard.LogPosition) (codec.State, shard.LogPosition, error) {
	ch := store.Channel{Kind: p.Kind, Name: p.Name}
	if p.Kind == codec.KindDirect || !codec.ValidID([]byte(p.Name)) {
		return refused, shard.LogPosition{}, nil
	}
	v, err := x.w.view(x.q.User, ch)
	if err != nil || !v.ok {
		return refused, shard.LogPosition{}, err
	}
	head, err := x.head(ch, p.Epoch == x.epoch)
	if errors.Is(err, store.ErrCorrupt) && p.Kind != codec.KindAll {
		x.w.damaged(ch, err)
		return refused, shard.LogPosition{}, nil
	}
	if err != nil {
		return refused, shard.LogPosition{}, err
	}
	state := codec.State{State: codec.StateLive, Epoch: x.epoch, Head: head.Seq}
	if v.group != nil && !v.group.Large {
		return state, shard.LogPosition{}, nil
	}
	stored, found := x.stored(ch, &v, head.Seq)
	seq := stored
	switch {
	case p.Epoch == 0 && p.Kind == codec.KindTopic:
		seq = head.Seq
	case p.Epoch == 0:
	case p.Epoch != x.epoch, p.Seq > head.Seq:
		state.State = codec.StateReset
	case p.Seq+1 < head.First:
		state.State, seq = codec.StateGap, p.Seq
	default:
		state.State, seq = codec.StateResumed, p.Seq
	}
	if v.group != nil {
		seq = max(seq, v.group.LargeFrom) // what is below comes through the inbox
	}
	seq = min(seq, head.Seq)
	if !found && p.Kind != codec.KindTopic {
		x.marks = append(x.marks, logMark{p.Kind, p.Name, seq})
	}
	return state, shard.LogPosition{Kind: p.Kind, Name: p.Name, Epoch: x.epoch, Seq: seq, Head: head.Seq}, nil
}

// head is a log's head; with first also its First, for which the store has to be asked.
func (x *login) head(ch store.Channel, first bool) (store.Head, error) {
	if !first {
		if seq := x.w.l.recentHead(ch); seq > 0 {
			return store.Head{Seq: seq}, nil
		}
	}
	return x.w.store.Head(ch)
}

// stored is where a log goes on when the device gave no valid position; found says that one is stored for the device.
//
// A large group goes on where its inbox references ended or the user joined, so that who was away while it grew misses nothing; for a
// device that was never here, where any device of the user is. All and topics go on at the head.
func (x *login) stored(ch store.Channel, v *view, head uint64) (seq uint64, found bool) {
	if seq, ok := x.device.mark(ch); ok {
		return seq, true
	}
	if v.group == nil {
		return head, false
	}
	for i := range x.devices {
		if s, ok := x.devices[i].mark(ch); ok {
			seq, found = max(seq, s), true
		}
	}
	if !found {
		m, _ := v.group.member(x.q.User)
		seq = max(v.group.LargeFrom, m.Joined-1)
	}
	return seq, false
}

// mark is the position stored for a log.
func (d *deviceRecord) mark(ch store.Channel) (seq uint64, ok bool) {
	for i := range d.Logs {
		if d.Logs[i].Kind == ch.Kind && d.Logs[i].Name == ch.Name {
			return d.Logs[i].Seq, true
		}
	}
	return 0, false
}

// sub is a SUB.
func (w *reader) sub(q *shard.Read) error {
	p := shard.LogPosition{Kind: q.Kind, Name: q.Name, Epoch: q.Epoch, Seq: q.After}
	ch := store.Channel{Kind: q.Kind, Name: q.Name}
	switch v, err := w.view(q.User, ch); {
	case err != nil:
		return err
	case v.broken:
		return errRecord
	case q.Kind == codec.KindGroup && !v.ok:
		q.Code = codec.CodeNotFound
		return nil
	case q.Kind == codec.KindDirect || !v.ok || !codec.ValidID([]byte(q.Name)):
		q.Code = codec.CodeInvalid
		return nil
	case v.group != nil && !v.group.Large:
		q.Small = true
		fallthrough
	case q.Mode == codec.SubFromNow:
		head, err := w.store.Head(ch)
		q.State, q.Head, q.Next = codec.StateLive, head.Seq, head.Seq
		return err
	}
	x, err := w.login(q)
	if err != nil {
		return err
	}
	state, log, err := x.position(p)
	if state.State == codec.StateRefused && err == nil { // it was removed from the group since
		q.Code = codec.CodeNotFound
		return nil
	}
	q.State, q.Head, q.Next = state.State, state.Head, log.Seq
	return err
}
