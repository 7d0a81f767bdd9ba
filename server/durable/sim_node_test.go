package durable

import (
	"log/slog"
	"slices"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// Bounds of a simulated node.
const (
	simPending  = 60       // messages that wait for the committer
	simOutLimit = 64 << 10 // bytes for a reader that does not read
	simLongest  = 9 << 10  // of a message
)

// boot starts a node over what is on disk.
func (s *sim) boot() {
	l, err := New(Options{
		Open:   func() (store.Store, error) { return s.disk.open(true) },
		Logger: slog.New(slog.DiscardHandler), Now: s.clock.UnixMilli, Pending: simPending, ReadQueue: 40, ReadWorkers: 1, InboxFanout: 3,
		RecentBytes: 64 << 10, RecentChannel: 8 << 10,
	})
	if err != nil {
		s.fail("opening: %v", err)
	}
	s.log = l
	s.node = shard.NewNode(shard.Config{
		Shards: 3, InboxCapacity: 256, OpenRights: simRights{}, OutLimit: simOutLimit, SlowTimeout: time.Hour, Window: 16, Log: l,
		HeartbeatMin: 100 * time.Second, AckTimeout: 5 * time.Second, AckRetries: 6, RoomLimit: 128 << 10,
	}, s.clock, simHost{})
	l.node, l.clock = s.node, s.node.Now
	l.readers = newReaders(l)
	s.reader, l.readers.idle = l.readers.idle[0], nil // nobody works but the simulation
	l.readers.served = func(reads []*shard.Read) { s.answers = append(s.answers, slices.Clone(reads)) }
	s.courier = &simCourier{Courier: s.node.NewCourier(), s: s}
	s.c = newCommitter(l, s.courier)
	s.loops, s.answers = nil, nil
	for i := range s.node.Shards() {
		loop := &simLoop{sh: s.node.Shard(i)}
		s.loops = append(s.loops, loop)
		loop.sh.Attach(loop)
	}
}

// halt ends a node as a crash does.
func (s *sim) halt() {
	for _, d := range s.devices {
		d.conn = nil
	}
	r := s.log.readers
	r.idle = []*reader{s.reader}
	r.close()
}

// afterCommit lets the others go on between the end of a commit on disk and its delivery.
func (s *sim) afterCommit() {
	for range s.rng.IntN(4) {
		switch s.rng.IntN(3) {
		case 0:
			s.turnLoop()
		case 1:
			s.serveReads()
		default:
			s.bringAnswers()
		}
	}
}

func (s *sim) turnLoop() bool {
	first, second := s.rng.IntN(len(s.loops)), s.rng.IntN(2) == 0
	for i := range s.loops {
		if s.loops[(first+i)%len(s.loops)].turn(second) {
			return true
		}
	}
	return false
}

// commit is a round of the committer.
func (s *sim) commit() bool {
	if s.log.failed.Load() != nil {
		if s.rng.IntN(4) > 0 || !s.c.more() {
			return false
		}
	}
	s.c.notify()
	if !s.c.more() {
		return false
	}
	s.c.turn()
	return true
}

func (s *sim) serveReads() bool {
	some := s.reader.take()
	s.log.readers.idle = nil // it stays the simulation's
	if some {
		s.reader.serve()
	}
	return some
}

func (s *sim) bringAnswers() bool {
	if len(s.answers) == 0 {
		return false
	}
	i := s.rng.IntN(len(s.answers)) // two workers may overtake each other
	s.node.Served(s.answers[i]...)
	s.answers = append(s.answers[:i], s.answers[i+1:]...)
	return true
}

// mend opens a failed store again.
func (s *sim) mend() bool {
	if s.log.failed.Load() == nil {
		return false
	}
	_ = s.log.current().Close()
	again, err := s.disk.open(s.rng.IntN(2) == 0)
	if err != nil {
		s.fail("opening again: %v", err)
	}
	s.disk.unread = false
	s.c.adopt(again, true)
	if err := s.log.Status(); err != nil {
		s.fail("after opening again: %v", err)
	}
	s.followGroups()
	return true
}

// restart is a crash of the node.
func (s *sim) restart() {
	s.halt()
	s.disk.unread = false
	s.boot()
	s.followGroups()
	s.counts["restarts"]++
}

func (s *sim) followGroups() {
	for _, name := range s.groupNames {
		g, err := s.log.groups.get(name)
		if err != nil {
			s.fail("group %q: %v", name, err)
		}
		s.truth.follow(name, g, s.steps)
	}
}

// change changes a group, as Log.Change does.
func (s *sim) change() bool {
	if s.log.Status() != nil || s.disk.unread {
		return false
	}
	user := func() string { return s.devices[s.rng.IntN(len(s.devices))].user }
	ch := Change{Op: ChangeAdd, Group: s.groupNames[s.rng.IntN(len(s.groupNames))], User: user()}
	g, _ := s.log.groups.get(ch.Group)
	switch n := s.rng.IntN(20); {
	case g == nil:
		ch.Op, ch.Users = ChangeCreate, []string{user(), user()}
	case n < 9:
		ch.Op = ChangeRemove
	case n == 9:
		ch.Op, ch.User = ChangeDelete, ""
	}
	if s.rng.IntN(10) == 0 && s.disk.failing == diskWorks {
		s.disk.failing = recordsFailAfter
	}
	s.carryOut(ch)
	if s.disk.failing == recordsFailAfter && s.log.Status() == nil {
		s.disk.failing = diskWorks
	}
	s.followGroups()
	return true
}

func (s *sim) carryOut(ch Change) {
	users, err := ch.check()
	if err != nil {
		s.fail("%+v: %v", ch, err)
	}
	p, err := s.log.plan(ch, users)
	if err != nil || len(p.events) == 0 {
		return // the last owner, or no change
	}
	s.note("change %d of %s, %v, large before %v after %v", ch.Op, ch.Group, users, p.before != nil && p.before.Large, p.after != nil && p.after.Large)
	log := store.Channel{Kind: codec.KindGroup, Name: ch.Group}
	before := uint64(len(s.truth.channels[log]))
	s.c.round++
	if err := p.carryOut(s.c); err != nil {
		s.counts["changes that failed"]++
		for before++; before <= uint64(len(s.truth.channels[log])); before++ {
			s.truth.void(log, before)
		}
	}
	s.courier.Send(nil)
}

// pass lets a tenth of a second pass, and verifies that nothing grows beyond its bounds.
func (s *sim) pass() bool {
	s.clock.ns += int64(100 * time.Millisecond)
	for _, l := range s.loops {
		l.sh.Tick()
	}
	online, st := 0, s.node.Stats()
	for _, d := range s.devices {
		if d.conn != nil {
			online++
			if n := len(d.conn.pending); n > simOutLimit+2*simLongest {
				s.fail("%s: %d bytes wait for it", d.name(), n)
			}
		}
	}
	if n, _ := s.log.pending.depth(); n > simPending || st.Flows > st.Sessions || st.Cursors > st.Sessions || st.Sessions > st.Connections {
		s.fail("%d entries wait, %d flows and sessions with cursors %d, of %d sessions, %d connections", n, st.Flows, st.Cursors, st.Sessions, st.Connections)
	}
	return true
}
