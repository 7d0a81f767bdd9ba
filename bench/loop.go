package bench

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"gannet/codec"
)

// clock gives Unix nanoseconds that never step: the wall clock at the start of the run plus what a monotonic one
// says since. Receivers of the same run compare them.
type clock struct {
	wall int64
	base time.Time
}

func newClock() clock { t := time.Now(); return clock{t.UnixNano(), t} }

func (c clock) now() int64 { return c.wall + int64(time.Since(c.base)) }

const (
	maxConnecting = 512 // logins under way, over all loops
	turnBudget    = 64  // connects and PINGs a turn, so that reading goes on between them
	leaveTimeout  = time.Second
	idleWait      = time.Second
)

// opcode says what the coordinator wants of a loop.
type opcode uint8

const (
	opLook  opcode = iota // tell the counters
	opJoin                // freeze who takes part, tell how many in each group
	opArm                 // with the groups of all loops known, list the senders, tell how many
	opStart               // send by a schedule
	opHalt                // send no more
	opStop                // say BYE, close all, end
)

// command is an order of the coordinator. Every command is answered with one report.
type command struct {
	op     opcode
	second bool     // opLook: hand over the histograms of the last second
	joined []int64  // opArm: receivers in each group
	sched  schedule // opStart
}

// schedule is a loop's part of the load.
type schedule struct {
	pace         pacer
	measure, end int64 // counted from, sent until; ns
}

// counted is how many events of the schedule are due while messages count.
func (s *schedule) counted() int64 {
	return max(0, int64(s.pace.before(s.end))-int64(s.pace.before(s.measure)))
}

// report answers a command.
type report struct {
	n       counters
	second  [quantities]*hdrhistogram.Histogram // opLook with second
	joined  []int64                             // opJoin
	senders int                                 // opArm
}

// driver is what a scenario may do in its own way. A loop drives itself unless its scenario brings a driver.
type driver interface {
	execute(cmd command) report
	turn(now int64)
	nextWake(now int64) int64
	event(c *conn, events uint32, now int64)
	handle(c *conn, f codec.Frame, now int64) error
	send(k uint64, due int64)
	greet(c *conn, h *codec.Hello)
}

// loop is one goroutine and the connections it owns.
type loop struct {
	// static after construction
	o    *Options
	sc   scenario
	src  *sources
	clk  clock
	salt uint32 // see stamp
	id   int
	self driver
	cmds chan command
	reps chan report
	over chan struct{} // closed when run returned
	err  error         // valid once over is closed

	// owned by the loop; after its end by the coordinator
	poll   *poller
	conns  []conn
	tracks []tracker // sc.streams() for each of conns
	meters [quantities]meter
	n      counters

	// owned by the loop
	buf     []byte
	spare   [][]byte
	name    []byte  // scratch for names
	payload []byte  // scratch, stamp first
	dirty   []*conn // their buffers hold frames of this batch
	dues    []int64 // when the counted sends of this batch were due

	start   int64
	ramp    pacer
	opened  int // conns[:opened] were opened
	oldest  int // conns[:oldest] are past their login
	pending int // logins under way
	room    int // most of them

	beat  time.Duration // own PINGs of a connection are that far apart
	pings pacer
	step  uint64 // see pingSlot

	senders      []uint32 // slots
	joined       []int64  // receivers by group
	sched        schedule
	last         uint64 // number of our events in the schedule
	measure, end int64  // PINGs due in between count
	leaving      int
	leaveBy      int64 // 0: not stopping
	fatal        error
}

// newLoop makes loop id of n. The indices of its connections are those whose home it is.
func newLoop(o *Options, sc scenario, src *sources, clk clock, salt uint32, id, n int) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{
		o: o, sc: sc, src: src, clk: clk, salt: salt, id: id, poll: p,
		cmds: make(chan command, 1), reps: make(chan report, 1), over: make(chan struct{}),
		buf: make([]byte, readSize), payload: make([]byte, max(o.Size, stampLen)),
		room: max(16, maxConnecting/n), measure: math.MaxInt64, end: math.MaxInt64,
		start: clk.now(),
	}
	for i := range sc.total() {
		if sc.home(i, n) == id {
			l.conns = append(l.conns, conn{index: uint32(i), slot: uint32(len(l.conns)), fd: -1})
		}
	}
	l.conns = append([]conn(nil), l.conns...) // without the room that append kept for more
	l.tracks = make([]tracker, len(l.conns)*sc.streams())
	for q := range l.meters {
		l.meters[q] = newMeter()
	}
	for i := range l.payload {
		l.payload[i] = 'a' + byte(i%26)
	}
	if o.Ramp > 0 {
		l.ramp = newPacer(l.start, o.Ramp).share(id, 1, n)
	}
	if sc.measuresPings() {
		l.measure = 0
	}
	l.setBeat(o.Heartbeat)
	l.self = l
	if s, ok := sc.(interface{ drive(l *loop) driver }); ok {
		l.self = s.drive(l)
	}
	return l, nil
}

// fail ends the loop with err at the end of its turn: an error of the machine, not of the server.
func (l *loop) fail(err error) { l.fatal = errors.Join(l.fatal, err) }

// run is the goroutine. It returns after opStop, or on an error that leaves nothing to measure.
func (l *loop) run() {
	defer close(l.over)
	defer l.closeAll()
	woke := l.clk.now()
	for l.fatal == nil {
		now := l.clk.now()
		l.self.turn(now)
		if l.leaveBy != 0 && (l.leaving == 0 || now >= l.leaveBy) {
			return
		}
		before := l.clk.now()
		l.n.busy += before - woke
		events, err := l.poll.wait(time.Duration(l.self.nextWake(before) - before))
		woke = l.clk.now()
		if err != nil {
			l.fail(err)
		}
		l.serve(events)
	}
	l.err = fmt.Errorf("load loop %d: %w", l.id, l.fatal)
}

func (l *loop) closeAll() {
	for i := range l.conns {
		if c := &l.conns[i]; c.fd >= 0 {
			_ = unix.Close(int(c.fd))
			c.fd = -1
		}
	}
	l.poll.close()
}

// turn does what is due by the clock.
func (l *loop) turn(now int64) {
	if l.leaveBy != 0 {
		return
	}
	l.openDue(now)
	l.expireLogins(now)
	l.sendDue(now)
	l.pingDue(now)
}

// serve handles what the kernel reported, and sends that fall due meanwhile.
func (l *loop) serve(events []unix.EpollEvent) {
	for _, ev := range events {
		if ev.Fd == wakeSlot {
			l.poll.clearWake()
			l.obey()
			continue
		}
		c := &l.conns[ev.Fd]
		now := l.clk.now()
		l.sendDue(now)
		l.self.event(c, ev.Events, now)
	}
}

func (l *loop) event(c *conn, events uint32, now int64) {
	switch {
	case c.state == stateClosed: // ended by an earlier event of this turn
		return
	case c.state == stateConnecting:
		l.connected(c)
		return
	case events&unix.EPOLLOUT != 0:
		l.writable(c)
	}
	if events&^unix.EPOLLOUT != 0 {
		l.read(c, now)
	}
}

// nextWake is when the loop must look at the clock again, ns.
func (l *loop) nextWake(now int64) int64 {
	t := now + int64(idleWait)
	if l.leaveBy != 0 {
		return min(t, l.leaveBy)
	}
	if l.opened < len(l.conns) && l.pending < l.room {
		if l.o.Ramp <= 0 {
			return now
		}
		t = min(t, l.ramp.at(uint64(l.opened)))
	}
	if l.pings.all != 0 {
		t = min(t, l.pings.due())
	}
	if l.sending() {
		t = min(t, l.sched.pace.due())
	}
	return t
}

// obey carries out commands.
func (l *loop) obey() {
	for {
		select {
		case cmd := <-l.cmds:
			l.reps <- l.self.execute(cmd) // never blocks: the coordinator takes one answer before the next command
		default:
			return
		}
	}
}

func (l *loop) execute(cmd command) (r report) {
	r.n = l.n.clone()
	switch cmd.op {
	case opLook:
		if cmd.second {
			for q := range l.meters {
				r.second[q] = l.meters[q].takeSecond()
			}
		}
	case opJoin:
		r.joined = l.join()
	case opArm:
		r.senders = l.arm(cmd.joined)
	case opStart:
		l.begin(cmd.sched)
	case opHalt:
		l.last = l.sched.pace.k
	case opStop: // the report says how it was before everybody left
		l.leave()
	}
	return r
}

// leave says BYE on every connection that is up and closes the others. The server answers a BYE by closing.
func (l *loop) leave() {
	l.leaveBy = l.clk.now() + int64(leaveTimeout)
	l.last = l.sched.pace.k
	for i := range l.conns {
		c := &l.conns[i]
		switch c.state {
		case stateUp:
			c.state = stateLeaving
			l.leaving++
			l.sayBye(c)
		case stateConnecting, stateGreeting:
			l.drop(c)
		}
	}
}
