package shard

import (
	"time"

	"gannet/codec"
)

// check verifies what must hold for every shard that is at rest.
func (w *world) check() {
	w.t.Helper()
	live := 0
	for _, l := range w.loops {
		live += l.sh.checkSessions(w.t)
		l.sh.checkRooms(w.t)
		l.sh.checkFlows(w.t)
		l.sh.checkOut(w.t)
	}
	if n := w.node.Online(); n != live {
		w.t.Errorf("the directory has %d sessions, the shards have %d", n, live)
	}
}

func (sh *Shard) checkSessions(t tb) (live int) {
	t.Helper()
	free := map[uint32]bool{}
	for i := sh.free; i != 0; i = sh.sessions.at(i - 1).out {
		if free[i-1] {
			t.Fatalf("shard %d: the list of free places is a circle", sh.index)
		}
		free[i-1] = true
		if p := sh.sessions.at(i - 1).phase; p != phaseFree {
			t.Errorf("shard %d: place %d is free and in phase %d", sh.index, i-1, p)
		}
	}
	open, rights := 0, make([]int, len(sh.rights))
	names := map[uint32]bool{}
	for i := range sh.sessions.n {
		s := sh.sessions.at(i)
		if s.index != i {
			t.Errorf("shard %d: the session in place %d says %d", sh.index, i, s.index)
		}
		if s.phase == phaseFree {
			if !free[i] || sh.conn(s) != nil || *sh.due.at(i) != 0 || s.subs != 0 || s.nsubs != 0 {
				t.Errorf("shard %d: place %d was not given back whole: %+v", sh.index, i, *s)
			}
			continue
		}
		open++
		if sh.conn(s) == nil || *sh.due.at(i) == 0 {
			t.Errorf("shard %d: session %d has conn %v, due %d", sh.index, i, sh.conn(s), *sh.due.at(i))
		}
		if s.phase == phaseLive || s.phase == phaseResume {
			live++
			rights[s.rights]++
			if names[s.name] {
				t.Errorf("shard %d: two sessions have one name", sh.index)
			}
			names[s.name] = true
		}
	}
	if int64(open) != sh.stats.Connections || int64(live) != sh.stats.Sessions {
		t.Errorf("shard %d: %d open, %d live; counted %d and %d", sh.index, open, live, sh.stats.Connections, sh.stats.Sessions)
	}
	for i, n := range rights {
		if sh.rights[i].refs != n {
			t.Errorf("shard %d: rights %d are held by %d sessions, counted %d", sh.index, i, n, sh.rights[i].refs)
		}
	}
	return live
}

func (sh *Shard) checkRooms(t tb) {
	t.Helper()
	listed := map[uint32]uint32{} // subscription → session
	for i := range sh.sessions.n {
		s := sh.sessions.at(i)
		n := 0
		for j := s.subs; j != 0; j = sh.subs.at(j - 1).next {
			if sub := sh.subs.at(j - 1); sub.session != i {
				t.Fatalf("shard %d: session %d lists a subscription of %d", sh.index, i, sub.session)
			}
			if listed[j-1] = i; n > int(sh.subs.n) {
				t.Fatalf("shard %d: the subscriptions of %d are a circle", sh.index, i)
			}
			n++
		}
		if n != int(s.nsubs) {
			t.Errorf("shard %d: session %d has %d subscriptions, counted %d", sh.index, i, n, s.nsubs)
		}
	}
	if n := int(sh.subs.n) - sh.freeSubs; n != len(listed) {
		t.Errorf("shard %d: %d subscriptions in use, %d listed", sh.index, n, len(listed))
	}
	for r := range sh.rooms {
		rm := &sh.rooms[r]
		if rm.topic == nil || rm.all {
			continue
		}
		if rm.topic.rooms[sh.index] != uint32(r)+1 || !rm.topic.hasMember(sh.index) || rm.members == 0 {
			t.Errorf("shard %d: room %d of %s: %d members, topic says %d", sh.index, r, rm.topic.name, rm.members, rm.topic.rooms[sh.index])
		}
		n := 0
		for g := range rm.groups {
			gr := &rm.groups[g]
			for pos, i := range gr.members {
				sub := sh.subs.at(i)
				if _, ok := listed[i]; !ok || sub.room() != uint32(r) || sub.group() != uint32(g) || sub.pos != uint32(pos) {
					t.Errorf("shard %d: member %d of room %d, group %d is %+v", sh.index, pos, r, g, *sub)
				}
			}
			if n += len(gr.members) + gr.away; g > 0 && (len(gr.members)+gr.away > 0) != (gr.tags != nil) {
				t.Errorf("shard %d: group %d of room %d has %d members, %d away, and tags %q", sh.index, g, r, len(gr.members), gr.away, gr.tags)
			}
		}
		if n != rm.members {
			t.Errorf("shard %d: room %d has %d members, counted %d", sh.index, r, n, rm.members)
		}
	}
}

// checkOut verifies that a shard at rest has nothing left to do.
func (sh *Shard) checkOut(t tb) {
	t.Helper()
	if len(sh.outs) != 0 || sh.outBytes != 0 || len(sh.ready) != 0 || len(sh.active) != 0 {
		t.Errorf("shard %d rests with %d outs (%d bytes), %d ready and %d active rooms", sh.index, len(sh.outs), sh.outBytes, len(sh.ready), len(sh.active))
	}
	for dst, box := range sh.outboxes {
		if len(box.items) != 0 || len(box.owed) != 0 {
			t.Errorf("shard %d rests with %d items and %d owed for shard %d", sh.index, len(box.items), len(box.owed), dst)
		}
	}
	for r := range sh.rooms {
		if rm := &sh.rooms[r]; rm.topic != nil {
			if rm.queued || rm.pending.n != 0 || rm.running.n != 0 {
				t.Errorf("shard %d: room %d is queued: %v, with %d pending, %d running", sh.index, r, rm.queued, rm.pending.n, rm.running.n)
			}
			if q := rm.topic.queued.Load(); q != 0 {
				t.Errorf("%d bytes are still counted as queued for %s", q, rm.topic.name)
			}
		}
	}
}

// end closes every connection and verifies that nothing is left of them.
func (w *world) end() {
	w.t.Helper()
	w.run()
	w.check()
	for len(w.host.asked) > 0 {
		w.answer(AuthAnswer{Code: codec.CodeUnauthorized})
	}
	for _, c := range w.conns {
		c.disconnect()
	}
	w.run()
	w.pass(3 * time.Second)
	w.check()
	w.wantRest()
	for _, l := range w.loops {
		st := &l.sh.stats
		l.sh.publish()
		if st.Connections != 0 || st.Sessions != 0 || st.Subscriptions != 0 || st.Rooms != 0 || st.Backlogged != 0 {
			w.t.Errorf("shard %d: left over: %d connections, %d sessions, %d subscriptions, %d rooms, %d backlogged",
				l.sh.index, st.Connections, st.Sessions, st.Subscriptions, st.Rooms, st.Backlogged)
		}
		if len(l.sh.rightsBy) != 0 || len(l.sh.owned) != 0 || len(l.sh.closing) != 0 {
			w.t.Errorf("shard %d: left over: %d rights, states of %d sessions, %d closing", l.sh.index, len(l.sh.rightsBy), len(l.sh.owned), len(l.sh.closing))
		}
		held := 0 // credits that other shards keep for their next items
		for _, o := range w.loops {
			held += o.sh.outboxes[l.sh.index].credits
		}
		if free := l.sh.inbox.Reserve(1 << 30); free+held != l.sh.inbox.Cap() {
			w.t.Errorf("shard %d: %d places of the inbox free, %d held, of %d", l.sh.index, free, held, l.sh.inbox.Cap())
		} else {
			l.sh.inbox.Release(free)
		}
	}
	if n := w.node.groups.len(); n != 0 {
		w.t.Errorf("%d large groups are known", n)
	}
	if n := w.node.topics.len(); n != w.keptTopics() {
		w.t.Errorf("%d topics are known, %d have values", n, w.keptTopics())
	}
}

// keptTopics is the number of topics for which values are kept.
func (w *world) keptTopics() (n int) {
	for _, l := range w.loops {
		for t := range l.sh.states.channels {
			if t.kind == codec.KindTopic {
				n++
			}
		}
	}
	return n
}
