package bench

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Orders that only loops of the scenario offline know.
const (
	opMeet   opcode = opStop + 1 + iota // log everybody in, devices leave again
	opWrite                             // write what the devices miss
	opReturn                            // devices come back, by the pacer of sched, from sched.measure on
	opOver                              // nobody catches up any more, live traffic ends at sched.end
)

// stage is what the connections of a loop are at.
type stage uint8

const (
	stageIdle stage = iota
	stageMeet
	stageWrite
	stageReturn
	stageOver
)

const (
	never         = math.MaxInt64
	sweepEvery    = 10 * time.Millisecond // how often timeouts and retries are looked at, for up to sweepConns connections
	sweepConns    = 5000
	maxTries      = 8 // logins in a row that may fail
	firstBackoff  = 100 * time.Millisecond
	longBackoff   = 5 * time.Second
	longestWindow = 30 * time.Second      // that a BYE's min_ms..max_ms is believed
	busyPause     = 20 * time.Millisecond // before a refused SEND is tried again
)

// party is what a connection has beside conn in this scenario.
type party struct {
	out   *outbox // writers and live connections
	got   ledger  // devices
	due   int64   // when it was to connect first in this stage, ns; while it leaves, since when
	again int64   // when to connect again, ns; 0: not
	epoch uint64  // position of its inbox
	pos   uint64
	told  int64 // when to connect again by the BYE that is being handled, ns; 0: it did not say
	tries uint8 // logins in a row that failed
	final bool  // the server said not to come back
	met   bool  // a device: it was logged in once
	done  bool  // it has done what the stage is about, or gave up
}

// offlineLoop is a loop of the scenario offline. But for the atomic counters all of it is the loop's goroutine's while that
// runs, and the coordinator's afterwards.
type offlineLoop struct {
	*loop

	plan    *offline // static
	nonce   uint64   // static: message n of a connection has nonce+n, more than in any run before
	devices int      // static: they have the slots 0 … devices-1

	parties []party
	stage   stage
	dialing int // connects under way

	toOpen   int // slots below are opened in this stage, from the next of ramp on
	nextOpen int
	sweepAt  int64
	restless int   // parties with again or a retryAt that is still to come
	comeback int64 // live messages due from here on are sent while devices catch up,
	until    int64 // and until here

	missed     missedCounts
	states     tally[uint8] // inbox_state in the WELCOMEs of devices that came back
	gaps       tally[uint8] // GAPs to them, by reason
	lastCaught int64        // ns
	caughtUp   int64

	left    atomic.Int64 // parties that are not done with the stage
	written atomic.Int64 // missed messages acknowledged
	caught  atomic.Int64 // missed messages received

	gaveUp      atomic.Int64  // parties that did, in any stage
	refusedCode atomic.Uint32 // of a missed message that was refused for good; 0: none was
}

// execute carries out the orders of the scenario.
func (l *offlineLoop) execute(cmd command) report {
	switch cmd.op {
	case opMeet:
		l.enter(stageMeet, func(role) bool { return true })
		l.openSlots(len(l.conns), cmd.sched.pace)
	case opWrite:
		l.enter(stageWrite, func(r role) bool { return r == roleWriter })
		l.startWriters()
	case opReturn:
		l.comeback = cmd.sched.measure
		l.enter(stageReturn, func(r role) bool { return r == roleDevice })
		l.openSlots(l.devices, cmd.sched.pace)
	case opOver:
		l.stage, l.until, l.sched.end = stageOver, cmd.sched.end, cmd.sched.end
		if l.sending() {
			l.last = min(l.last, max(l.sched.pace.k, l.sched.pace.before(cmd.sched.end)))
		}
	default:
		return l.loop.execute(cmd)
	}
	return report{n: l.n.clone()}
}

// enter starts a stage in which parties of some roles have something to do.
func (l *offlineLoop) enter(s stage, concerns func(r role) bool) {
	l.stage = s
	n := 0
	for i := range l.parties {
		if p := &l.parties[i]; concerns(l.plan.role(l.conns[i].index)) {
			p.done, p.tries = false, 0
			n++
		}
	}
	l.left.Store(int64(n))
}

// finish says that a party is done with the stage.
func (l *offlineLoop) finish(p *party) {
	if !p.done {
		p.done = true
		l.left.Add(-1)
	}
}

// openSlots opens the first n connections by a pacer; at once when it is the zero one.
func (l *offlineLoop) openSlots(n int, p pacer) { l.toOpen, l.nextOpen, l.ramp = n, 0, p }

func (l *offlineLoop) turn(now int64) {
	if l.leaveBy != 0 {
		return
	}
	l.openNext(now)
	l.sweep(now)
	l.sendDue(now)
}

// crowded says that enough logins are under way. Who comes back comes at once: then only connects count.
func (l *offlineLoop) crowded() bool {
	if l.stage == stageMeet {
		return l.pending >= l.room
	}
	return l.dialing >= l.room
}

// openAt is when the next connection is to be opened.
func (l *offlineLoop) openAt(now int64) int64 {
	switch {
	case l.ramp.all != 0:
		return l.ramp.at(uint64(l.nextOpen))
	case l.stage == stageReturn:
		return l.comeback
	}
	return now
}

// openNext opens the connections whose time has come.
func (l *offlineLoop) openNext(now int64) {
	for range turnBudget {
		if l.nextOpen == l.toOpen || l.crowded() {
			return
		}
		due := l.openAt(now)
		if due > now {
			return
		}
		c := &l.conns[l.nextOpen]
		l.nextOpen++
		if c.state == stateLeaving {
			l.drop(c) // the server has not closed it
		}
		l.parties[c.slot].due = due
		l.dial(c, now)
	}
}

// dial connects, in this stage for the first time or once more.
func (l *offlineLoop) dial(c *conn, now int64) {
	p := &l.parties[c.slot]
	c.broken = false
	l.open(c, p.due, now)
	if c.state == stateConnecting {
		l.dialing++
		return
	}
	l.closed(c, now)
}

// event is the loop's, and sees to what became of the connection.
func (l *offlineLoop) event(c *conn, events uint32, now int64) {
	if c.state == stateClosed {
		return // by an earlier event of this turn
	}
	if c.state == stateConnecting {
		l.dialing--
	}
	l.loop.event(c, events, now)
	switch {
	case c.state == stateClosed:
		l.closed(c, now)
	case events&unix.EPOLLOUT != 0:
		l.pump(c, now)
		l.flush(c)
	}
}

// closed decides what becomes of a party whose connection ended or did not come to be.
func (l *offlineLoop) closed(c *conn, now int64) {
	if l.leaveBy != 0 {
		return
	}
	p := &l.parties[c.slot]
	told := p.told
	p.told = 0
	if p.out != nil {
		l.calm(&p.out.retryAt)
		p.out.rewind(0)
	}
	switch r := l.plan.role(c.index); {
	case r == roleDevice && l.stage == stageMeet && p.met:
		l.finish(p) // as it was to be
	case r == roleDevice && (p.done || l.stage != stageMeet && l.stage != stageReturn):
	case r == roleWriter && l.stage > stageWrite:
	case p.final || p.tries >= maxTries:
		if !p.done {
			l.gaveUp.Add(1)
		}
		l.finish(p)
	default:
		if p.again = told; told == 0 {
			p.again = now + int64(backoff(p.tries))
		}
		p.tries++
		l.restless++
	}
}

// backoff is how long to wait after so many failures when the server did not say.
func backoff(tries uint8) time.Duration {
	d := min(firstBackoff<<tries, longBackoff)
	return d/2 + rand.N(d/2)
}

// calm clears a time at which something was to be tried again.
func (l *offlineLoop) calm(at *int64) {
	if *at != 0 {
		*at = 0
		l.restless--
	}
}

// sweep looks after what waits for its time: logins that take too long, connections to be tried again, refused SENDs.
func (l *offlineLoop) sweep(now int64) {
	if now < l.sweepAt || !l.sweeps() {
		return
	}
	for i := range l.conns {
		c, p := &l.conns[i], &l.parties[i]
		switch {
		case c.state == stateConnecting || c.state == stateGreeting:
			if now-l.start-int64(c.opened)*1e6 >= int64(l.o.LoginTimeout) {
				l.expire(c, now)
			}
		case c.state == stateLeaving:
			if now-p.due >= int64(leaveTimeout) {
				l.drop(c)
				l.closed(c, now)
			}
		case c.state == stateClosed && p.again != 0 && now >= p.again && !l.crowded():
			l.calm(&p.again)
			l.dial(c, now)
		case c.state == stateUp && p.out != nil && p.out.retryAt != 0 && now >= p.out.retryAt:
			l.calm(&p.out.retryAt)
			l.pump(c, now)
			l.flush(c)
		}
	}
	l.sweepAt = l.clk.now() + int64(sweepEvery)*int64(1+len(l.conns)/sweepConns)
}

// sweeps says that something waits for its time.
func (l *offlineLoop) sweeps() bool { return l.pending > 0 || l.leaving > 0 || l.restless > 0 }

func (l *offlineLoop) expire(c *conn, now int64) {
	if c.state == stateConnecting {
		l.dialing--
	}
	l.n.connectErrs.add(unix.ETIMEDOUT)
	l.drop(c)
	l.closed(c, now)
}

func (l *offlineLoop) nextWake(now int64) int64 {
	t := l.loop.nextWake(now)
	if l.leaveBy != 0 {
		return t
	}
	if l.nextOpen < l.toOpen && !l.crowded() {
		t = min(t, l.openAt(now))
	}
	if l.sweeps() {
		t = min(t, l.sweepAt)
	}
	return t
}
