package shard

// maxTestFrame is longer than any frame of these tests but a few.
const maxTestFrame = 128 << 10

// checkFlows verifies what must hold of a shard's durable part whenever it is at rest.
func (sh *Shard) checkFlows(t tb) {
	t.Helper()
	free := map[uint32]bool{}
	for i := sh.freeFlow; i != 0; i = sh.flows.at(i - 1).next {
		if free[i-1] {
			t.Fatalf("shard %d: the list of free flows is a circle", sh.index)
		}
		free[i-1] = true
	}
	used := map[uint32]bool{}
	readers, tailed := 0, 0
	for i := range sh.sessions.n {
		s := sh.sessions.at(i)
		live := s.phase == phaseLive || s.phase == phaseResume
		if s.flow != 0 {
			f := sh.flows.at(s.flow - 1)
			if free[s.flow-1] || used[s.flow-1] || !live {
				t.Errorf("shard %d: flow %d of session %d is free, another's, or of no session", sh.index, s.flow-1, i)
			}
			if used[s.flow-1] = true; f.acked > f.high || f.sent > f.high {
				t.Errorf("shard %d: session %d has a flow of %+v", sh.index, i, *f)
			}
		}
		readers += sh.checkCursors(t, s, live)
		if tl := sh.tails[i]; tl != nil {
			if tailed += len(tl.items); !live || s.phase == phaseLive && (s.flow == 0 || sh.flows.at(s.flow-1).state != inboxReading) {
				t.Errorf("shard %d: session %d has a tail and reads nothing", sh.index, i)
			}
		}
		if len(sh.changes[i]) > 0 && s.phase != phaseResume || len(sh.wanted[i]) > 0 && s.flow == 0 || s.flags&flagPos != 0 {
			t.Errorf("shard %d: session %d has %d changes, %d receipts wanted, flags %b", sh.index, i, len(sh.changes[i]), len(sh.wanted[i]), s.flags)
		}
	}
	if len(used) != sh.nflows || len(used)+len(free) != int(sh.flows.n) {
		t.Errorf("shard %d: %d flows used, %d free, of %d; counted %d", sh.index, len(used), len(free), sh.flows.n, sh.nflows)
	}
	if tailed != sh.tailed {
		t.Errorf("shard %d: %d messages in tails, counted %d", sh.index, tailed, sh.tailed)
	}
	recent := 0
	for r := range sh.rooms {
		rm := &sh.rooms[r]
		readers -= len(rm.readers)
		if recent += len(rm.recent.buf); len(rm.readers) == 0 && cap(rm.recent.buf) > 0 || len(rm.recent.buf) > recentRoom+maxTestFrame {
			t.Errorf("shard %d: room %d has %d readers and keeps %d bytes for them", sh.index, r, len(rm.readers), len(rm.recent.buf))
		}
	}
	if recent != sh.recentBytes {
		t.Errorf("shard %d: rooms keep %d bytes, counted %d", sh.index, recent, sh.recentBytes)
	}
	if readers != 0 {
		t.Errorf("shard %d: sessions have %d cursors more than rooms have readers", sh.index, readers)
	}
	if n := len(sh.entries) + len(sh.reads) + len(sh.posDue); n != 0 {
		t.Errorf("shard %d rests with %d entries, %d reads and %d positions to be told", sh.index, len(sh.entries), len(sh.reads), len(sh.posDue))
	}
}

// checkCursors verifies the cursors of one session, and returns their number.
func (sh *Shard) checkCursors(t tb, s *Session, live bool) (n int) {
	t.Helper()
	all := false
	if first, ok := sh.cursors[s.index]; ok && (first == nil || !live) {
		t.Errorf("shard %d: session %d has an entry for cursors: %v", sh.index, s.index, first)
	}
	for c := sh.cursors[s.index]; c != nil; c = c.next {
		rm := &sh.rooms[c.room]
		if c.dead || c.session != s.index || int(c.at) >= len(rm.readers) || rm.readers[c.at] != c {
			t.Errorf("shard %d: session %d has a cursor %+v that its room does not know", sh.index, s.index, *c)
		}
		if c.state == cursorJoining && !rm.queued && rm.level(c.last) {
			t.Errorf("shard %d: session %d waits to join a room that has nothing to do: %+v", sh.index, s.index, *c)
		}
		if all = all || c.sub == 0; c.sub != 0 && sh.subs.at(c.sub-1).pos != noPos {
			t.Errorf("shard %d: session %d reads a log and is in its room", sh.index, s.index)
		}
		if n++; n > 1<<20 {
			t.Fatalf("shard %d: the cursors of session %d are a circle", sh.index, s.index)
		}
	}
	if all != (s.flags&flagAllAway != 0) {
		t.Errorf("shard %d: session %d is away from all: %v, cursor: %v", sh.index, s.index, !all, all)
	}
	return n
}

// wantRest verifies that a shard keeps nothing for the durable messages of its sessions.
func (w *world) wantRest() {
	w.t.Helper()
	for _, l := range w.loops {
		sh := l.sh
		if n := sh.nflows + len(sh.cursors) + len(sh.tails) + len(sh.wanted) + len(sh.changes) + len(sh.dirty) + len(sh.retry) + len(sh.marks); n != 0 {
			w.t.Errorf("shard %d keeps %d flows, %d cursors, %d tails, %d lists of receipts, %d of changes, %d dirty, %d to try again, %d marks", sh.index,
				sh.nflows, len(sh.cursors), len(sh.tails), len(sh.wanted), len(sh.changes), len(sh.dirty), len(sh.retry), len(sh.marks))
		}
	}
}
