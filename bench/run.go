package bench

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Phases of a run, as Second and Snapshot name them.
const (
	PhaseRamp    = "ramp"    // connections log in
	PhaseWarmup  = "warmup"  // messages flow, uncounted
	PhaseMeasure = "measure" // what the report is about
	PhaseDrain   = "drain"   // nothing is sent, what is under way is waited for
)

const (
	lookEvery = 20 * time.Millisecond // how often the coordinator looks whether a phase is over
	leadTime  = 20 * time.Millisecond // from the order to send until the schedule starts
	hopeless  = 64                    // that many failed logins and no good one: end
)

// errInterrupted ends the phases when the caller's context does; the report is made all the same.
var errInterrupted = errors.New("interrupted")

// Run puts load on o.Addr until it is done or ctx ends, and reports. progress, if not nil, is called once a second on the
// caller's goroutine. A run that ctx ended early has a Report with Interrupted and no error. Errors are invalid options
// (see Options.Validate), *FileLimitError, *ConnectError when no connection came to be, *RefusedError when the
// server sent every one away; with the last two the Report holds what was counted.
func Run(ctx context.Context, o Options, progress func(Snapshot)) (Report, error) {
	o = o.fill()
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	sc := newScenario(&o)
	src, err := newSources(ctx, o.Addr, o.Sources, sc.total())
	if err != nil {
		return Report{}, err
	}
	if err := raiseFileLimit(sc.total()); err != nil {
		return Report{}, err
	}
	c, err := newCoordinator(&o, sc, &src, progress)
	if err != nil {
		return Report{}, err
	}
	err = c.phases(ctx)
	err = errors.Join(err, c.stop())
	rep, buildErr := c.build()
	return rep, errors.Join(err, buildErr)
}

// coordinator is the caller's side of a run. All of it belongs to the caller's goroutine.
type coordinator struct {
	o        *Options
	sc       scenario
	clk      clock
	progress func(Snapshot)
	loops    []*loop

	began      time.Time
	start      int64 // ns, as clk tells it
	phase      string
	seconds    int64    // looks of a whole second so far
	lastSecond counters // at the last of them
	series     []Second
	window     window
	target     schedule // of all senders together
	final      counters
	halted     bool
}

// window is the time that the report speaks of, with what the generator used in it.
type window struct {
	from, to int64
	cpu      time.Duration // used from from to to
	busy     []int64       // by loop
}

func newCoordinator(o *Options, sc scenario, src *sources, progress func(Snapshot)) (*coordinator, error) {
	c := &coordinator{o: o, sc: sc, clk: newClock(), progress: progress, began: time.Now(), phase: PhaseRamp}
	c.start = c.clk.now()
	n := sc.loops(o.Loops)
	salt := rand.Uint32()
	for id := range n {
		l, err := newLoop(o, sc, src, c.clk, salt, id, n)
		if err != nil {
			for _, l := range c.loops {
				l.closeAll()
			}
			return nil, err
		}
		c.loops = append(c.loops, l)
	}
	for _, l := range c.loops {
		go l.run() // ended by stop, which waits for it
	}
	return c, nil
}

// phases takes the run from the first connect to the last message.
func (c *coordinator) phases(ctx context.Context) error {
	err := c.rampUp(ctx)
	if err == nil {
		if c.o.Scenario == ScenarioConn {
			err = c.hold(ctx)
		} else {
			err = c.load(ctx)
		}
	}
	if errors.Is(err, errInterrupted) {
		c.halted = true
		return nil
	}
	return err
}

func (c *coordinator) rampUp(ctx context.Context) error {
	var last counters
	err := c.wait(ctx, math.MaxInt64, func(t *counters) bool {
		last = *t
		return t.settled() == int64(c.sc.total()) || (t.logins == 0 && t.failed >= hopeless)
	})
	if err == nil && last.logins == 0 {
		err = loginError(c.o.Addr, &last)
	}
	return err
}

func (c *coordinator) hold(ctx context.Context) error {
	c.phase = PhaseMeasure
	return c.measure(ctx, c.clk.now()+int64(c.o.For), func(t *counters) bool { return t.up == 0 })
}

// load sends by the schedule, then waits for what is still under way.
func (c *coordinator) load(ctx context.Context) error {
	if err := c.beginLoad(); err != nil {
		return err
	}
	c.phase = PhaseWarmup
	if err := c.wait(ctx, c.target.measure, nil); err != nil {
		return err
	}
	c.phase = PhaseMeasure
	interrupted := c.measure(ctx, c.target.end, nil)
	if interrupted != nil && !errors.Is(interrupted, errInterrupted) {
		return interrupted
	}
	if interrupted != nil {
		c.target.end = min(c.target.end, c.clk.now())
		if _, err := c.ask(command{op: opHalt}); err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx) // the drain is short and makes the counts true
	}
	c.phase = PhaseDrain
	err := c.wait(ctx, c.clk.now()+int64(c.o.Drain), func(t *counters) bool {
		past := c.clk.now() > c.target.end+int64(overrun) // what was due may still be made up for until then
		return past && t.received >= t.expected && (!c.o.Acks || t.acked+t.refused.sum() >= t.sent)
	})
	return errors.Join(interrupted, err)
}

// beginLoad finds out who takes part and gives every loop its share of the schedule.
func (c *coordinator) beginLoad() error {
	reports, err := c.ask(command{op: opJoin})
	if err != nil {
		return err
	}
	joined := make([]int64, c.sc.groups())
	for _, r := range reports {
		for g, n := range r.joined {
			joined[g] += n
		}
	}
	if reports, err = c.ask(command{op: opArm, joined: joined}); err != nil {
		return err
	}
	all := 0
	for _, r := range reports {
		all += r.senders
	}
	if all == 0 {
		return errors.New("nobody to send to: no sender and receiver that belong together are both logged in")
	}
	from := c.clk.now() + int64(leadTime)
	c.target = schedule{
		pace:    newPacer(from, c.o.Rate),
		measure: from + int64(c.o.Warmup),
		end:     from + int64(c.o.Warmup+c.o.For),
	}
	base := 0
	_, err = c.askEach(func(i int) command {
		s := c.target
		s.pace = s.pace.share(base, reports[i].senders, all)
		base += reports[i].senders
		return command{op: opStart, sched: s}
	})
	return err
}

// measure waits until end, or until over says so, and notes what the generator used meanwhile.
func (c *coordinator) measure(ctx context.Context, end int64, over func(*counters) bool) error {
	before, err := c.ask(command{op: opLook})
	if err != nil {
		return err
	}
	cpu := ownCPU()
	c.window.from = c.clk.now()
	waitErr := c.wait(ctx, end, over)
	after, err := c.ask(command{op: opLook})
	c.window.to = c.clk.now()
	c.window.cpu = ownCPU() - cpu
	for i := range after {
		c.window.busy = append(c.window.busy, after[i].n.busy-before[i].n.busy)
	}
	return errors.Join(waitErr, err)
}

// wait lets the run go on until the time until has come or done says so. It is where the seconds pass.
func (c *coordinator) wait(ctx context.Context, until int64, done func(*counters) bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		now := c.clk.now()
		second := now-c.start >= (c.seconds+1)*int64(time.Second)
		if second || done != nil {
			t, err := c.look(second, now)
			if err != nil {
				return err
			}
			if done != nil && done(&t) {
				return nil
			}
		}
		if now >= until {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errInterrupted
		}
	}
}

// look sums up the loops, and once a second notes how the run goes.
func (c *coordinator) look(second bool, now int64) (counters, error) {
	reports, err := c.ask(command{op: opLook, second: second})
	if err != nil {
		return counters{}, err
	}
	var t counters
	for i := range reports {
		t.add(&reports[i].n)
	}
	if second {
		c.seconds = (now - c.start) / int64(time.Second)
		c.noteSecond(&t, reports, now)
	}
	return t, nil
}

// noteSecond adds a row to the series and tells progress.
func (c *coordinator) noteSecond(t *counters, reports []report, now int64) {
	q := c.sc.primary()
	if c.phase == PhaseRamp {
		q = qLogin
	}
	h := newSecondHist()
	for _, r := range reports {
		h.Merge(r.second[q])
	}
	at := time.Duration(now - c.start).Seconds()
	span := at
	if n := len(c.series); n > 0 {
		span -= c.series[n-1].At
	}
	row := newSecond(&c.lastSecond, t, h, span)
	row.At, row.Phase, row.Quantity = at, c.phase, q.String()
	c.series = append(c.series, row)
	c.lastSecond = *t
	if c.progress != nil {
		c.progress(Snapshot{Second: row, Asked: c.sc.total(), LateShare: share(t.late, t.sent), Errors: t.errors()})
	}
}

func (c *coordinator) ask(cmd command) ([]report, error) {
	return c.askEach(func(int) command { return cmd })
}

// askEach gives every loop a command and collects the answers. It fails when a loop has ended.
func (c *coordinator) askEach(cmd func(i int) command) ([]report, error) {
	for i, l := range c.loops {
		l.cmds <- cmd(i) // never blocks: room for one, and the last one was answered or its loop is over
		l.poll.wake()
	}
	reports := make([]report, len(c.loops))
	var failed error
	for i, l := range c.loops {
		select {
		case reports[i] = <-l.reps:
		case <-l.over:
			failed = errors.Join(failed, l.err)
		}
	}
	return reports, failed
}

// stop ends all loops that still run and waits for them.
func (c *coordinator) stop() error {
	for _, l := range c.loops {
		select {
		case l.cmds <- command{op: opStop}:
			l.poll.wake()
		case <-l.over:
		}
	}
	var failed error
	for _, l := range c.loops {
		<-l.over
		failed = errors.Join(failed, l.err)
		select {
		case r := <-l.reps:
			c.final.add(&r.n)
		default: // it failed before it could answer
			c.final.add(&l.n)
		}
	}
	return failed
}

// merged is one quantity over all loops; call it after stop.
func (c *coordinator) merged(q quantity) *hdrhistogram.Histogram {
	h := newRunHist()
	for _, l := range c.loops {
		h.Merge(l.meters[q].run) // same geometry, so nothing is dropped
	}
	return h
}

// ownCPU is the CPU time this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
