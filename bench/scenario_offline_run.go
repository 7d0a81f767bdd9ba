package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

// Phases of RunOffline beside PhaseRamp, in which everybody logs in once, and PhaseDrain.
const (
	PhaseWrite  = "write"    // what the devices miss is written
	PhaseRest   = "rest"     // nothing
	PhaseLive   = "live"     // live traffic alone
	PhaseReturn = "catch-up" // the devices come back
)

// RunOffline has devices fall behind and come back, and reports how long they take to catch up:
//
//  1. Every device logs in once, notes its position and leaves.
//  2. Writers send durable direct messages, o.Missed to each device, until all are acknowledged.
//  3. If o.Live says so, other users talk by a schedule, from o.Before ahead of the next step until its end.
//  4. All devices come back with their positions and acknowledge every POS. One is caught up when it has all its messages.
//
// progress, ctx and errors are as with Run. A server that is gone ends the run after a while, with what was counted.
func RunOffline(ctx context.Context, o OfflineOptions, progress func(Snapshot)) (Report, error) {
	o = o.fill()
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	common := o.common()
	sc := newOffline(&common, &o)
	// Twice the devices: what they leave lingers in the kernel while they come back.
	src, err := newSources(ctx, o.Addr, o.Sources, sc.total()+o.Devices)
	if err != nil {
		return Report{}, err
	}
	if err := raiseFileLimit(sc.total()); err != nil {
		return Report{}, err
	}
	c, err := newCoordinator(&common, sc, &src, nil)
	if err != nil {
		return Report{}, err
	}
	r := &offlineRun{coordinator: c, off: &o, plan: sc, show: progress}
	for _, l := range c.loops {
		r.parts = append(r.parts, l.self.(*offlineLoop))
	}
	c.progress = r.note
	err = r.phases(ctx)
	err = errors.Join(err, c.stop())
	rep, buildErr := r.build()
	return rep, errors.Join(err, buildErr)
}

// offlineRun is the coordinator of RunOffline; all of it belongs to the caller's goroutine.
type offlineRun struct {
	*coordinator

	off   *OfflineOptions
	plan  *offline
	parts []*offlineLoop
	show  func(Snapshot)

	writeTook time.Duration
	noted     noted
}

// noted is how far things were at the last line of progress.
type noted struct {
	at              float64
	written, caught int64
}

func (r *offlineRun) phases(ctx context.Context) error {
	err := r.meet(ctx)
	if err == nil {
		err = r.write(ctx)
	}
	if err == nil && r.off.Rest > 0 {
		r.phase = PhaseRest
		err = r.wait(ctx, r.clk.now()+int64(r.off.Rest), nil)
	}
	if err == nil && r.off.Live > 0 {
		err = r.talk(ctx)
	}
	if err == nil {
		err = r.comeBack(ctx)
	}
	if err == nil || errors.Is(err, errInterrupted) {
		err = errors.Join(err, r.drain(context.WithoutCancel(ctx)))
	}
	if errors.Is(err, errInterrupted) {
		r.halted = true
		return nil
	}
	return err
}

// sum adds up what all loops tell while they run.
func (r *offlineRun) sum() (left, written, caught int64) {
	for _, l := range r.parts {
		left += l.left.Load()
		written += l.written.Load()
		caught += l.caught.Load()
	}
	return left, written, caught
}

// settled returns what a wait asks: whether nobody has anything left to do in this stage, or nothing has happened for too long.
func (r *offlineRun) settled() func(*counters) bool {
	last, since := [3]int64{-1}, r.clk.now()
	return func(*counters) bool {
		left, written, caught := r.sum()
		if left == 0 {
			return true
		}
		if is := [3]int64{left, written, caught}; is != last {
			last, since = is, r.clk.now()
		}
		return r.clk.now()-since >= int64(r.off.Quiet)
	}
}

// meet has everybody log in once.
func (r *offlineRun) meet(ctx context.Context) error {
	if _, err := r.ask(command{op: opMeet}); err != nil {
		return err
	}
	settled := r.settled()
	err := r.wait(ctx, never, func(t *counters) bool {
		return settled(t) || t.logins == 0 && t.failed >= min(hopeless, int64(r.plan.total()))
	})
	if err != nil {
		return err
	}
	t, err := r.look(false, r.clk.now()) // no older than what settled has seen
	if err != nil {
		return err
	}
	left, _, _ := r.sum()
	for _, l := range r.parts {
		left += l.gaveUp.Load()
	}
	switch {
	case t.logins == 0:
		return loginError(r.off.Addr, &t)
	case left > 0:
		return fmt.Errorf("%d of %d users could not log in, so nothing was measured: %w", left, r.plan.total(), loginError(r.off.Addr, &t))
	}
	return nil
}

// write has the writers write what is missed.
func (r *offlineRun) write(ctx context.Context) error {
	r.phase = PhaseWrite
	begun := r.clk.now()
	if _, err := r.ask(command{op: opWrite}); err != nil {
		return err
	}
	if err := r.wait(ctx, never, r.settled()); err != nil {
		return err
	}
	r.writeTook = time.Duration(r.clk.now() - begun)
	_, written, _ := r.sum()
	if all := r.missedInAll(); written < all {
		return fmt.Errorf("the server acknowledged %d of the %d messages that the devices are to miss: %w", written, all, r.whyUnwritten())
	}
	return nil
}

func (r *offlineRun) missedInAll() int64 { return int64(r.off.Devices) * int64(r.off.Missed) }

// whyUnwritten is what kept the writers from writing.
func (r *offlineRun) whyUnwritten() error {
	for _, l := range r.parts {
		if code := codec.Code(l.refusedCode.Load()); code != codec.CodeOK {
			return &RefusedError{Addr: r.off.Addr, Code: code, Reason: "a durable message", Count: 1}
		}
	}
	return fmt.Errorf("nothing more came for %v", r.off.Quiet)
}

// talk begins the live traffic and lets it go on alone for a while.
func (r *offlineRun) talk(ctx context.Context) error {
	r.phase = PhaseLive
	if err := r.beginLoad(); err != nil {
		return err
	}
	return r.wait(ctx, r.target.measure+int64(r.off.warmup()+r.off.Before), nil)
}

// comeBack has the devices come back and waits until they are caught up.
func (r *offlineRun) comeBack(ctx context.Context) error {
	r.phase = PhaseReturn
	from := r.clk.now() + int64(leadTime)
	n := len(r.loops) - r.plan.liveLoops()
	_, err := r.askEach(func(i int) command {
		cmd := command{op: opReturn, sched: schedule{measure: from}}
		if r.off.Pace > 0 && i < n {
			cmd.sched.pace = newPacer(from, r.off.Pace).share(i, 1, n)
		}
		return cmd
	})
	if err != nil {
		return err
	}
	return r.measure(ctx, never, r.settled())
}

// drain ends the live traffic and waits for what is under way.
func (r *offlineRun) drain(ctx context.Context) error {
	r.target.end = r.clk.now()
	if _, err := r.ask(command{op: opOver, sched: schedule{end: r.target.end}}); err != nil {
		return err
	}
	r.phase = PhaseDrain
	return r.wait(ctx, r.clk.now()+int64(r.o.Drain), func(t *counters) bool {
		return t.received >= t.expected && t.acked >= t.expected // what was refused for good is not expected
	})
}

// note tells progress, with what was written and caught up in the row.
func (r *offlineRun) note(s Snapshot) {
	_, written, caught := r.sum()
	span := max(s.At-r.noted.at, 1e-3)
	s.Sent += float64(written-r.noted.written) / span
	s.Received += float64(caught-r.noted.caught) / span
	r.noted = noted{s.At, written, caught}
	r.series[len(r.series)-1] = s.Second
	if r.show != nil {
		r.show(s)
	}
}
