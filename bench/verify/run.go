package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
)

// Run is one run. Make it with Start.
type Run struct {
	// Static after Start.
	o         Options
	id        uint32 // stands in every payload
	h         *History
	began     time.Time
	terminals []*terminal
	followers map[ChannelID][]follower // of groups: the first members, the owner first
	groups    []*group                 // the coordinator's
	over      <-chan struct{}          // closed when the terminals are told to end
	stopAll   context.CancelFunc
	alive     sync.WaitGroup // terminals
	ready     chan struct{}
	halt      chan struct{} // closed: send no more
	haltOnce  sync.Once
	ended     chan struct{} // closed when report and err are there
	report    Report
	err       error

	n          counters
	cutting    atomic.Bool  // connections are cut
	lastHanded atomic.Int64 // ns since began

	mu       sync.Mutex
	failed   error
	failedCh chan struct{}
	byes     map[codec.Code]int
	notes    []string // the first complaints
	noted    map[string]bool
}

// follower is a terminal that follows a channel from the beginning. What f points to is the terminal's.
type follower struct {
	t *terminal
	f *following
}

// counters are what the terminals count together.
type counters struct {
	sent, stored, refused, busy, retries, unsent             atomic.Int64
	handed, repeated, gaps                                   atomic.Int64
	logins, cuts, dialErrors, writeErrors, timeouts, changes atomic.Int64
	malformed, strange                                       atomic.Int64
	sendingSince, sendingUntil                               atomic.Int64 // ns since began
}

// Start begins a run; it ends by itself, or when ctx does. Errors are invalid options, or groups that could not be made.
func Start(ctx context.Context, o Options) (*Run, error) {
	o = o.fill()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	or(&o.Seed, rand.Uint64()|1)
	r := &Run{
		o: o, id: rand.Uint32(), h: NewHistory(o.MaxEvents), began: time.Now(),
		ready: make(chan struct{}), halt: make(chan struct{}), ended: make(chan struct{}), failedCh: make(chan struct{}),
		byes: make(map[codec.Code]int), noted: make(map[string]bool), followers: make(map[ChannelID][]follower),
	}
	or(&r.o.UserPrefix, fmt.Sprintf("verify-%08x-", r.id))
	if err := r.plan(ctx); err != nil {
		return nil, err
	}
	// The terminals outlive ctx for the time it takes to settle.
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stopAll, r.over = stop, live.Done()
	for _, t := range r.terminals {
		run := t.run
		if o.SDK {
			run = t.runSDK
		}
		r.alive.Go(func() { run(live) })
	}
	go r.phases(ctx) // ends in any case; Wait waits for it
	return r, nil
}

// Ready is closed when every device is logged in and sending begins, or the run has failed.
func (r *Run) Ready() <-chan struct{} { return r.ready }

// Mark notes what happened to the server, such as a crash.
func (r *Run) Mark(what string) { r.h.Mark(what) }

// Halt ends the sending before its time; the run goes on to settle.
func (r *Run) Halt() { r.haltOnce.Do(func() { close(r.halt) }) }

// Wait returns the report when the run is over. The error says that it could not be made: no login, a refused subscription. What the
// server did wrong stands in the report.
func (r *Run) Wait() (Report, error) {
	<-r.ended
	return r.report, r.err
}

// Phases, as Snapshot names them.
const (
	PhaseLogin  = "login"
	PhaseSend   = "send"
	PhaseSettle = "settle"
	PhasePull   = "pull"
	PhaseCheck  = "check"
)

const lookEvery = 20 * time.Millisecond

// phases takes the run from the first login to the verdict.
func (r *Run) phases(ctx context.Context) {
	defer close(r.ended)
	p := &phase{r: r}
	p.name.Store(PhaseLogin)
	stopProgress := p.progress()
	defer stopProgress()
	err := p.login(ctx)
	close(r.ready)
	var jobs []*pullJob
	if err == nil {
		p.name.Store(PhaseSend)
		r.cutting.Store(true)
		p.send(ctx)
		p.name.Store(PhaseSettle)
		r.cutting.Store(false)
		p.settle()
		p.name.Store(PhasePull)
		jobs = p.pullAll()
	}
	p.name.Store(PhaseCheck)
	r.stopAll()
	r.alive.Wait()
	for _, j := range jobs {
		j.giveUp()
	}
	r.mu.Lock()
	err = errors.Join(err, r.failed)
	r.mu.Unlock()
	r.report, r.err = r.build(Check(r.h)), err
}

// phase is the coordinator's side.
type phase struct {
	r    *Run
	name atomic.Value // string
}

// Errors of Wait, when there was nothing to check.
var (
	ErrNoServer = errors.New("nobody could log in")
	errReady    = errors.New("not all devices could log in and subscribe in time")
)

func (p *phase) login(ctx context.Context) error {
	err := p.until(ctx, p.r.o.Settle, p.allSettled)
	if errors.Is(err, context.DeadlineExceeded) {
		if p.r.n.logins.Load() == 0 {
			return fmt.Errorf("%s: %w%s", p.r.o.Addr, ErrNoServer, p.r.noteText())
		}
		err = fmt.Errorf("%s: %w%s", p.r.o.Addr, errReady, p.r.noteText())
	}
	return err
}

func (p *phase) allSettled() bool {
	for _, t := range p.r.terminals {
		if !t.settled.Load() {
			return false
		}
	}
	return true
}

// until polls a condition.
func (p *phase) until(ctx context.Context, most time.Duration, holds func() bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	over := time.NewTimer(most)
	defer over.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-over.C:
			return context.DeadlineExceeded
		case <-p.r.failedCh:
			return errFailed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var errFailed = errors.New("the run cannot go on")

// send gives orders at the rate until it is over. What a full outbox refuses is not made up for.
func (p *phase) send(ctx context.Context) {
	r := p.r
	if len(r.groups) > 0 && r.o.Members > 0 {
		changing, stop := context.WithCancel(ctx)
		var left sync.WaitGroup
		left.Go(func() { r.changeMembers(changing) })
		defer left.Wait()
		defer stop()
	}
	rng := rand.New(rand.NewPCG(r.o.Seed, 1))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(r.o.For)
	defer over.Stop()
	start := time.Now()
	r.n.sendingSince.Store(int64(start.Sub(r.began)))
	defer func() { r.n.sendingUntil.Store(int64(time.Since(r.began))) }()
	for given := 0.0; ; {
		select {
		case now := <-tick.C:
			due := now.Sub(start).Seconds() * r.o.Rate
			for ; given < due; given++ {
				select {
				case r.terminals[rng.IntN(len(r.terminals))].orders <- struct{}{}:
				default:
					r.n.unsent.Add(1)
				}
			}
			if r.h.Full() {
				r.complain("the history is full (--max-events): sending ended early")
				return
			}
		case <-over.C:
			return
		case <-r.halt:
			return
		case <-r.failedCh:
			return
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until everything is answered and nothing comes any more, and then, while something is still owed, as long as it may.
func (p *phase) settle() {
	r := p.r
	end := time.Now().Add(r.o.Settle)
	for time.Now().Before(end) {
		err := p.until(context.Background(), time.Until(end), func() bool {
			for _, t := range r.terminals {
				if len(t.orders) > 0 {
					return false
				}
			}
			return p.allSettled() && int64(time.Since(r.began))-r.lastHanded.Load() > int64(r.o.Quiet)
		})
		if err != nil {
			return
		}
		if v := Check(r.h); v.Counts[Lost]+v.Counts[Unanswered] == 0 {
			return
		}
		r.heard() // once more
	}
}

// pullAll has every channel's log read to its end.
func (p *phase) pullAll() (jobs []*pullJob) {
	r := p.r
	var left sync.WaitGroup
	byTerminal := make(map[*terminal]*pullJob)
	for id, all := range r.followers {
		who := all[int(id)%len(all)]
		if r.h.kind(id) == codec.KindGroup {
			who = all[0] // the one who stays
		}
		j := byTerminal[who.t]
		if j == nil {
			j = &pullJob{t: who.t}
			byTerminal[who.t] = j
			jobs = append(jobs, j)
		}
		j.left = append(j.left, who.f)
	}
	over := make(chan struct{})
	left.Add(len(jobs))
	for _, j := range jobs {
		j.done = left.Done
		j.t.pulls <- j // room for the one of a run
	}
	go func() { left.Wait(); close(over) }() // if not before, it ends when giveUp has said done for all
	_ = p.until(context.Background(), r.o.Settle, func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	})
	return jobs
}

// fail ends the run: it could not check anything.
func (r *Run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
		close(r.failedCh)
	}
}

const maxNotes = 20

// complain notes something for the report, each text once, the first ones.
func (r *Run) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) == maxNotes {
		return
	}
	if text := fmt.Sprintf(format, args...); !r.noted[text] {
		r.noted[text] = true
		r.notes = append(r.notes, text)
	}
}

func (r *Run) noteText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	for _, n := range r.notes {
		text += "; " + n
	}
	return text
}

// bye counts how the server ended a connection. What will not be better next time fails the run. REPLACED is one of these at first,
// when somebody else has the same devices; later a connection that was cut may meet the next one of its device.
func (r *Run) bye(b codec.Bye) {
	r.mu.Lock()
	r.byes[b.Code]++
	r.mu.Unlock()
	r.complain("BYE %v: %s", b.Code, b.Reason)
	if !b.Code.Reconnect() && (b.Code != codec.CodeReplaced || r.n.sendingSince.Load() == 0) {
		r.fail(fmt.Errorf("the server ended a connection with %v: %s", b.Code, b.Reason))
	}
}

// identify names a payload. altered says that it is not what was sent, or not by that sender.
func (r *Run) identify(payload []byte, sender string) (id ID, altered bool) {
	id, altered = readPayload(payload, r.id)
	if altered || id.foreign() {
		return id, altered
	}
	return id, int(id.device()) >= len(r.terminals) || r.terminals[id.device()].user != sender
}

// sizeOf is the length of a message's payload, the same at every try.
func (r *Run) sizeOf(id ID) int {
	return MinSize + int(uint64(id)*0x9e3779b97f4a7c15>>33)%(r.o.Size-MinSize+1)
}

// heard notes that something came.
func (r *Run) heard() { r.lastHanded.Store(int64(time.Since(r.began))) }
