package durable

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// sim is a node with everything but sockets: shards, log, store and devices that come and go, driven by one goroutine in an order that is
// drawn from a seed. The log's goroutines do not run: the simulation takes their steps.
type sim struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	steps int
	trace interface {
		io.Writer
		Sum64() uint64
	} // of all that happened, so that two runs can be compared

	clock   *simClock
	truth   *simTruth
	disk    *simDisk
	log     *Log
	c       *committer
	reader  *reader
	answers [][]*shard.Read // served, and not yet with the shards
	courier *simCourier
	node    *shard.Node
	loops   []*simLoop

	devices    []*simDevice
	groupNames []string
	acked      int
	notes      map[string]int
	byes       map[codec.Code]int
	failures   int
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), trace: fnv.New64a(), clock: &simClock{ns: int64(10 * time.Second)},
		groupNames: []string{"g0", "g1", "g2"}, notes: map[string]int{}, byes: map[codec.Code]int{},
	}
	s.truth = newSimTruth(s.fail)
	s.truth.debug = s.debug
	s.disk = newSimDisk(s.truth)
	s.disk.after = s.afterCommit
	s.boot()
	for i := range 6 {
		for _, device := range []string{"d", "e"}[:1+i%2] {
			topics := []simTopic{{name: "t0"}}
			if i%3 == 0 {
				topics = append(topics, simTopic{name: "t1", tag: "red"})
			} else {
				topics = append(topics, simTopic{name: "t2"})
			}
			s.addDevice(fmt.Sprint("u", i), device, topics...)
		}
	}
	for _, d := range s.devices { // they are known before anything is said
		d.connect()
	}
	s.settle()
	return s
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d, step %d: %s", s.seed, s.steps, fmt.Sprintf(format, args...))
}

// boot starts a node over what is on disk.
func (s *sim) boot() {
	l, err := New(Options{
		Open:   func() (store.Store, error) { return s.disk.open(true) },
		Logger: slog.New(slog.DiscardHandler), Now: s.clock.UnixMilli, Pending: 60, ReadQueue: 40, ReadWorkers: 1, InboxFanout: 3,
		RecentBytes: 64 << 10, RecentChannel: 8 << 10,
	})
	if err != nil {
		s.fail("opening: %v", err)
	}
	s.log = l
	s.node = shard.NewNode(shard.Config{
		Shards: 3, InboxCapacity: 256, OpenRights: simRights{}, OutLimit: 64 << 10, SlowTimeout: time.Hour, Window: 16, Log: l,
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
	s.notes["restarts"]++
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
	s.debug("change %+v, large before %v after %v", ch, p.before != nil && p.before.Large, p.after != nil && p.after.Large)
	log := store.Channel{Kind: codec.KindGroup, Name: ch.Group}
	before := uint64(len(s.truth.channels[log]))
	s.c.round++
	if err := p.carryOut(s.c); err != nil {
		s.notes["changes that failed"]++
		for before++; before <= uint64(len(s.truth.channels[log])); before++ {
			s.truth.void(log, before)
		}
	}
	s.courier.Send(nil)
}

// pass lets time pass.
func (s *sim) pass() {
	s.clock.ns += int64(100 * time.Millisecond)
	for _, l := range s.loops {
		l.sh.Tick()
	}
}

func (s *sim) someone() *simDevice { return s.devices[s.rng.IntN(len(s.devices))] }

// step does one thing; false when there was nothing of that kind to do.
func (s *sim) step() bool {
	d := s.someone()
	switch n := s.rng.IntN(1000); {
	case n < 300:
		return s.turnLoop()
	case n < 400:
		return s.commit()
	case n < 500:
		return s.serveReads()
	case n < 600:
		return s.bringAnswers()
	case n < 640:
		if !s.courier.unsent {
			return false
		}
		s.courier.send()
	case n < 740:
		if d.conn == nil || len(d.conn.wire) == 0 || d.conn.closed {
			return false
		}
		d.conn.arrive(1 + s.rng.IntN(len(d.conn.wire)))
	case n < 880:
		if d.conn == nil || d.stalled > s.steps {
			return false
		}
		d.read()
		d.post()
	case n < 925:
		if len(d.outbox) > 30 {
			return false
		}
		d.compose()
		d.post()
	case n < 940:
		d.acknowledge()
	case n < 950:
		d.saved = d.now.clone()
	case n < 960:
		return s.pass10()
	default:
		return s.upset(d)
	}
	return true
}

func (s *sim) pass10() bool {
	s.pass()
	return true
}

// upset does what happens seldom.
func (s *sim) upset(d *simDevice) bool {
	switch n := s.rng.IntN(700); {
	case n < 100:
		if d.conn != nil {
			return false
		}
		d.connect()
	case n < 115:
		d.drop()
	case n < 140:
		d.stalled = s.steps + s.rng.IntN(3000)
	case n < 160:
		d.browse()
	case n < 175:
		return s.change()
	case n < 178:
		if s.rng.IntN(3) > 0 {
			return false
		}
		s.disk.failing = []diskFailure{failsBefore, failsAfter}[s.rng.IntN(2)]
		s.failures++
	case n < 182:
		s.disk.unread = s.log.failed.Load() == nil
	case n < 220:
		s.disk.unread = false
		return s.mend()
	case n < 260:
		s.log.marks.look()
		if n < 245 {
			s.log.marks.flush(false)
		}
	case n < 263:
		s.clock.wall += int64([]time.Duration{time.Hour, -time.Hour}[s.rng.IntN(2)].Milliseconds())
	case n < 266:
		s.node.Kick(d.user, "", "")
	case n == 266:
		if s.rng.IntN(5) > 0 {
			return false
		}
		s.restart()
	case n < 270:
		for range 200 {
			s.pass()
		}
	default:
		return false
	}
	return true
}

func (s *sim) run(steps int) {
	for s.steps < steps {
		if s.step() {
			s.steps++
			s.debugState()
		}
	}
}

// settle heals everything and goes on until nothing happens any more.
func (s *sim) settle() {
	s.disk.failing, s.disk.unread = diskWorks, false
	s.mend()
	for quiet, rounds := 0, 0; quiet < 15; rounds++ {
		if rounds > 20_000 {
			s.fail("it never comes to rest: %v", s.notes)
		}
		moved := false
		for _, d := range s.devices {
			if d.stalled = 0; d.conn == nil || d.conn.closed {
				d.connect()
			}
			if d.post(); quiet == 5 && d.told != d.now.inbox {
				d.acknowledge()
			}
			moved = s.move(d) || moved
		}
		for s.courier.unsent || s.turnLoop() || s.commit() || s.serveReads() || s.bringAnswers() {
			if moved = true; s.courier.unsent {
				s.courier.send()
			}
		}
		s.log.marks.flush(false)
		s.pass()
		if quiet++; moved {
			quiet = 0
		}
	}
}

// move brings everything that is on its way between a device and its shard there.
func (s *sim) move(d *simDevice) (moved bool) {
	for d.conn != nil && !d.conn.closed {
		c := d.conn
		before := len(c.wire) + len(c.out) + len(c.pending)
		if len(c.wire) > 0 {
			c.arrive(len(c.wire))
		}
		if d.read(); d.conn != c || len(c.wire)+len(c.out)+len(c.pending) == before {
			break
		}
		moved = true
	}
	return moved || len(d.outbox) > 0
}

// finish verifies what must hold when everything is quiet: nothing is missing anywhere, and when all have gone nothing is left of them.
func (s *sim) finish() {
	s.settle()
	for _, d := range s.devices {
		if len(d.outbox) > 0 || !d.live {
			s.fail("%s: %d messages are not acknowledged, live %v", d.name(), len(d.outbox), d.live)
		}
		for ch, stored := range s.truth.channels {
			if ch.Kind == codec.KindDirect && !slices.Contains(strings.Split(ch.Name, "\x1f"), d.user) {
				continue
			}
			if seq := d.missing(ch, uint64(len(stored))); seq != 0 {
				s.fail("%s: #%d of %v never came, of %d", d.name(), seq, ch, len(stored))
			}
		}
		d.drop()
	}
	for range 700 {
		s.pass()
		for s.turnLoop() || s.serveReads() || s.bringAnswers() {
		}
	}
	for _, l := range s.loops {
		l.sh.Tick()
	}
	if st := s.node.Stats(); st.Sessions+st.Connections+st.Flows+st.Cursors+st.Subscriptions+st.Rooms+st.Backlogged != 0 {
		s.fail("left over: %+v", st)
	}
	s.halt()
}

// TestSimulation runs a node for a while under each of some seeds. -sim.seed runs one of them alone, -sim.steps longer.
func TestSimulation(t *testing.T) {
	for i := range uint64(*simSeeds) {
		seed := *simSeed + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newSim(t, seed)
			s.run(*simSteps)
			s.finish()
			t.Logf("%d messages acknowledged, %d failures of the disk, %v, BYEs %v", s.acked, s.failures, s.notes, s.byes)
		})
	}
}

var (
	simSeed  = flag.Uint64("sim.seed", 1, "first seed of the simulation")
	simSeeds = flag.Int("sim.seeds", 10, "how many seeds")
	simSteps = flag.Int("sim.steps", 20_000, "steps of each")
)
