package durable

import (
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
)

// sim is a node with everything but sockets: shards, log, store and devices that come and go, driven by one goroutine in an order that is
// drawn from a seed. The log's goroutines do not run: the simulation takes their steps.
type sim struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	steps int
	trace hash.Hash64 // of all that happened

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
	counts     map[string]int
	byes       map[codec.Code]int
	failures   int
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), trace: fnv.New64a(), clock: &simClock{ns: int64(10 * time.Second)},
		groupNames: []string{"g0", "g1", "g2"}, counts: map[string]int{}, byes: map[codec.Code]int{},
	}
	s.truth = newSimTruth(s.fail)
	s.truth.note = s.note
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

// note tells what happened; -sim.trace prints it.
func (s *sim) note(format string, args ...any) {
	fmt.Fprintf(s.trace, format, args...)
	if *simTrace {
		s.t.Logf("%d: "+format, append([]any{s.steps}, args...)...)
	}
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d, step %d: %s", s.seed, s.steps, fmt.Sprintf(format, args...))
}

// settle heals everything and goes on until nothing happens any more.
func (s *sim) settle() {
	s.disk.failing, s.disk.unread = diskWorks, false
	s.mend()
	for quiet, rounds := 0, 0; quiet < 15; rounds++ {
		if rounds > 20_000 {
			s.fail("it never comes to rest: %v", s.counts)
		}
		moved := false
		for _, d := range s.devices {
			if d.stalled = 0; d.conn == nil || d.conn.closed {
				d.connect()
			}
			if d.away {
				d.turnAway()
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
	for range 5000 { // until the last connection that nobody told of has timed out
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

// simulate runs a node for a while under each of some seeds.
func simulate(t *testing.T, seeds, steps int) {
	if *simSeeds > 0 {
		seeds = *simSeeds
	}
	if *simSteps > 0 {
		steps = *simSteps
	}
	for i := range uint64(seeds) {
		seed := *simSeed + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newSim(t, seed)
			s.run(steps)
			s.finish()
			t.Logf("%d messages acknowledged, %d failures of the disk, %v, BYEs %v", s.acked, s.failures, s.counts, s.byes)
		})
	}
}

var (
	simSeed  = flag.Uint64("sim.seed", 1, "first seed of the simulation")
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds; 0: as the test says")
	simSteps = flag.Int("sim.steps", 0, "steps of each; 0: as the test says")
	simTrace = flag.Bool("sim.trace", false, "tell what happens")
)

func TestSimulation(t *testing.T) { simulate(t, 4, 5_000) }

// A seed is a story that can be told again.
func TestSimulationRepeats(t *testing.T) {
	var sums [2]uint64
	for i := range sums {
		s := newSim(t, *simSeed+7)
		s.run(3_000)
		s.finish()
		sums[i] = s.trace.Sum64()
	}
	if sums[0] != sums[1] {
		t.Error("the same seed went another way")
	}
}
