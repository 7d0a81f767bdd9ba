package shard

import (
	"math"
	"slices"

	"gannet/codec"
	"gannet/store"
)

// serve answers the n oldest reads, −1 all.
func (l *modelLog) serve(n int) {
	if n < 0 || n > len(l.reads) {
		n = len(l.reads)
	}
	reads := l.reads[:n]
	l.reads = l.reads[n:]
	for _, r := range reads {
		if r.Code = l.broken; r.Code == codec.CodeOK {
			l.answer(r)
		}
		l.w.node.Served(r)
	}
}

func (l *modelLog) answer(r *Read) {
	switch r.Op {
	case ReadResume:
		l.resume(r)
	case ReadInbox:
		l.inbox(r)
	case ReadLog:
		l.channel(r)
	case ReadSub:
		l.sub(r)
	case ReadPull:
		frames, _, next, n, _ := l.store.Read(store.Channel{Kind: r.Kind, Name: r.Name}, max(r.After, 1), r.Limit, r.MaxBytes, nil)
		r.Frames = append(codec.AppendRange(nil, codec.Range{Req: r.Req, Count: uint16(n), Next: next, Epoch: l.Epoch()}), frames...)
	case ReadList:
		r.Frames = codec.AppendListed(nil, codec.Listed{Req: r.Req})
	}
}

// position is where a device is by the marks that were taken.
func (l *modelLog) position(user, device string, kind codec.Kind, name string) (pos uint64) {
	for _, m := range l.marks {
		if m.User == user && m.Device == device && m.Kind == kind && m.Name == name {
			pos = max(pos, m.Seq)
		}
	}
	return pos
}

func (l *modelLog) resume(r *Read) {
	place, given := l.store.Place(), r.After
	r.Head = place
	switch stored := l.position(r.User, r.Device, codec.KindInbox, ""); {
	case r.Epoch == l.Epoch() && given <= place:
		r.State, r.Next = codec.StateResumed, given
	case r.Epoch == 0 && given == 0:
		r.State, r.Next = codec.StateLive, min(stored, place)
	default:
		r.State, r.Next = codec.StateReset, min(stored, place)
	}
	r.After = r.Next
	l.inbox(r)
	r.After = given
	r.Nonce, _ = l.store.Nonce(r.User, r.Device)
	for _, p := range r.Positions {
		st, pos, _ := l.log(r.User, r.Device, p)
		r.States = append(r.States, st)
		r.Logs = addLog(r.Logs, pos)
	}
	names := []string{}
	for name := range l.groups {
		names = append(names, name)
	}
	slices.Sort(names)
	_, pos, _ := l.log(r.User, r.Device, LogPosition{Kind: codec.KindAll, Name: codec.AllName})
	r.Logs = addLog(r.Logs, pos)
	for _, name := range names {
		_, pos, _ := l.log(r.User, r.Device, LogPosition{Kind: codec.KindGroup, Name: name})
		r.Logs = addLog(r.Logs, pos)
	}
}

func addLog(logs []LogPosition, p LogPosition) []LogPosition {
	if p.Kind == 0 || slices.ContainsFunc(logs, func(o LogPosition) bool { return o.Kind == p.Kind && o.Name == p.Name }) {
		return logs
	}
	return append(logs, p)
}

// log says where the reader of a channel's own log goes on; small: it has none.
func (l *modelLog) log(user, device string, p LogPosition) (st codec.State, pos LogPosition, small bool) {
	g := l.groups[p.Name]
	if p.Kind == codec.KindGroup {
		if g == nil {
			return codec.State{State: codec.StateRefused}, pos, false
		}
		if _, ok := g.users[user]; !ok {
			return codec.State{State: codec.StateRefused}, pos, false
		}
	}
	if !p.Kind.Valid() || p.Kind == codec.KindDirect {
		return codec.State{State: codec.StateRefused}, pos, false
	}
	head, _ := l.store.Head(store.Channel{Kind: p.Kind, Name: p.Name})
	st = codec.State{State: codec.StateLive, Epoch: l.Epoch(), Head: head.Seq}
	if p.Kind == codec.KindGroup && !g.large {
		return st, pos, true
	}
	seq := head.Seq
	if p.Kind == codec.KindGroup {
		seq = max(g.from, g.users[user]-1, l.position(user, device, p.Kind, p.Name))
	}
	switch {
	case p.Epoch == 0:
	case p.Epoch != l.Epoch() || p.Seq > head.Seq:
		st.State = codec.StateReset
	case p.Seq+1 < head.First:
		st.State, seq = codec.StateGap, p.Seq
	default:
		st.State, seq = codec.StateResumed, p.Seq
	}
	if p.Kind == codec.KindGroup {
		seq = max(seq, g.from)
	}
	return st, LogPosition{Kind: p.Kind, Name: p.Name, Epoch: l.Epoch(), Seq: min(seq, head.Seq), Head: head.Seq}, false
}

func (l *modelLog) inbox(r *Read) {
	const limit = 16
	refs, next, err := l.store.Inbox(r.User, r.After, limit, nil)
	if err != nil {
		r.Code = codec.CodeUnavailable
		return
	}
	r.Covered, r.More = next, len(refs) == limit
	for _, ref := range refs {
		if r.N > 0 && len(r.Frames) >= r.MaxBytes {
			r.Covered, r.More = ref.Pos-1, true
			return
		}
		g := l.groups[ref.Channel.Name]
		if ref.Channel.Kind == codec.KindGroup && (g == nil || g.users[r.User] == 0 || ref.Seq < g.users[r.User]) {
			gap := codec.Gap{Kind: ref.Channel.Kind, Name: []byte(ref.Channel.Name), From: ref.Seq, To: ref.Seq, Reason: codec.GapNoRight}
			r.Frames = codec.AppendGap(r.Frames, gap)
			continue
		}
		r.Frames, _, _, _, _ = l.store.Read(ref.Channel, ref.Seq, 1, 0, r.Frames)
		r.N++
	}
}

func (l *modelLog) channel(r *Read) {
	r.Covered = r.After
	from := r.After + 1
	if g := l.groups[r.Name]; r.Kind == codec.KindGroup {
		if g == nil || g.users[r.User] == 0 || !g.large {
			r.Code = codec.CodeForbidden
			return
		}
		from = max(from, g.users[r.User])
	}
	ch := store.Channel{Kind: r.Kind, Name: r.Name}
	frames, first, _, n, err := l.store.Read(ch, from, 16, r.MaxBytes, nil)
	if err != nil {
		r.Code = codec.CodeUnavailable
		return
	}
	if n > 0 && first > r.After+1 {
		gap := codec.Gap{Kind: r.Kind, Name: []byte(r.Name), From: r.After + 1, To: first - 1, Reason: codec.GapExpired}
		r.Frames = codec.AppendGap(r.Frames, gap)
	}
	for range n {
		_, size, _ := codec.ConsumeFrame(frames, math.MaxInt)
		if len(r.Tags) == 0 || matches(frames[:size], r.Tags) {
			r.Frames = append(r.Frames, frames[:size]...)
			r.N++
		}
		r.Covered = msgSeq(frames[:size])
		frames = frames[size:]
	}
	head, _ := l.store.Head(ch)
	r.More = r.Covered < head.Seq
}

func (l *modelLog) sub(r *Read) {
	st, pos, small := l.log(r.User, r.Device, LogPosition{Kind: r.Kind, Name: r.Name, Epoch: r.Epoch, Seq: r.After})
	if st.State == codec.StateRefused {
		r.Code = codec.CodeNotFound
		return
	}
	if r.State, r.Head, r.Next, r.Small = st.State, st.Head, pos.Seq, small; r.Mode == codec.SubFromNow {
		r.State, r.Next = codec.StateLive, st.Head
	}
}
