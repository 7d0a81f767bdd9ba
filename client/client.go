package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gannet/codec"
)

// Client is one device of one user. All methods may be called from any goroutine.
type Client struct {
	// static after New
	opt    Options
	log    *slog.Logger
	events chan event // to the dispatcher, bounded

	subs   subscriptions
	queue  queue
	track  tracker
	counts counters
	life   context.Context // ends with Run; set by start, before anything that uses it

	// expiry of the credential in use, zero if unknown: owned by connect, then by the connection's refresher.
	expiry time.Time

	ended chan struct{} // closed when Run is over, behind err
	err   error

	mu        sync.Mutex
	started   bool               // guarded by mu
	closed    bool               // guarded by mu: no further connection
	cancel    context.CancelFunc // guarded by mu: ends Run
	current   *conn              // guarded by mu: nil without a welcomed connection
	heartbeat time.Duration      // guarded by mu: the wish

	first firstOutcome
}

// New checks the options and returns a Client that does nothing until Run.
func New(opt Options) (*Client, error) {
	opt.Addrs = append([]string(nil), opt.Addrs...)
	opt.Origin = append([]byte(nil), opt.Origin...)
	if err := opt.validate(); err != nil {
		return nil, err
	}
	c := &Client{opt: opt, log: opt.Logger, heartbeat: opt.Heartbeat, ended: make(chan struct{})}
	c.events = make(chan event, opt.Queue)
	c.first.result = make(chan error, 1)
	c.first.left = len(opt.Addrs)
	if err := c.queue.open(opt.Outbox, opt.OutboxMessages, opt.OutboxBytes); err != nil {
		return nil, fmt.Errorf("client: Options.Outbox: %w", err)
	}
	c.track.init(opt.KeepEcho)
	if opt.Positions != nil {
		at, err := opt.Positions.Load()
		if err != nil {
			return nil, fmt.Errorf("client: Options.Positions: %w", err)
		}
		c.track.restore(at)
	}
	return c, nil
}

// Dial makes a Client, runs it in a goroutine that Close ends, and returns once it is welcomed. It tries each address once and
// returns the last error when none works; a client that should keep trying from the start uses New and Run.
func Dial(ctx context.Context, opt Options) (*Client, error) {
	c, err := New(opt)
	if err != nil {
		return nil, err
	}
	run, err := c.start(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	go c.run(run) // Close waits for it
	select {
	case err = <-c.first.result:
	case <-ctx.Done():
		err = fmt.Errorf("client: dial: %w", ctx.Err())
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// firstOutcome tells Dial how the beginning went. Used by Run's goroutine alone, but for result.
type firstOutcome struct {
	left   int // attempts to make before giving up
	told   bool
	result chan error // one place
}

// attempt notes the outcome of one; final ends the waiting.
func (f *firstOutcome) attempt(err error, final bool) {
	f.left--
	if !f.told && (err == nil || final || f.left <= 0) {
		f.told = true
		f.result <- err
	}
}

// Run connects and stays connected until ctx ends or Close is called (it returns ctx.Err or ErrClosed), or until the server
// says that the client must not come back (*ByeError). It can be called once. Handlers have returned when it returns;
// messages that wait for them when ctx ends are not delivered.
func (c *Client) Run(ctx context.Context) error {
	run, err := c.start(ctx)
	if err != nil {
		return err
	}
	err = c.run(run)
	if ctx.Err() != nil && errors.Is(err, ErrClosed) {
		err = ctx.Err()
	}
	return err
}

// start makes the context of the one run.
func (c *Client) start(ctx context.Context) (context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.started {
		return nil, errors.New("client: Run can be called once; make a new Client")
	}
	c.started = true
	ctx, c.cancel = context.WithCancel(ctx)
	c.life = ctx
	return ctx, nil
}

// run returns ErrClosed when ctx has ended.
func (c *Client) run(ctx context.Context) error {
	dispatched := make(chan struct{})
	go func() {
		defer close(dispatched)
		c.dispatch(ctx)
	}()
	stopSaving := c.startSaving()
	err := c.loop(ctx)
	if ctx.Err() != nil {
		err = ErrClosed
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	stopSaving()
	close(c.events)
	<-dispatched
	if c.opt.Positions != nil {
		_ = c.saveOnce() // it is in the log, there is no handler left to tell
	}
	c.cancel()
	c.err = err
	c.first.attempt(err, true)
	close(c.ended)
	return err
}

// Close ends Run and waits until it has returned. Frames that are queued are still written, for up to a second. Handlers must not
// call it, they have Stop.
func (c *Client) Close() error {
	if c.stop() {
		<-c.ended
	}
	return nil
}

// Stop is Close that does not wait. Called by a handler, no handler is called any more when that one has returned, but for OnDisconnect, and
// what it was called with counts as done.
func (c *Client) Stop() { c.stop() }

func (c *Client) stop() (running bool) {
	c.mu.Lock()
	c.closed = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	return cancel != nil
}

// Done is closed when the client has ended for good; Err says why.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err is nil while the client runs, ErrClosed when it was told to end, otherwise the *ByeError that ended it.
func (c *Client) Err() error {
	select {
	case <-c.ended:
		return c.err
	default:
		return nil
	}
}

// loop makes one connection after the other.
func (c *Client) loop(ctx context.Context) error {
	b := backoff{uniform: c.opt.uniform}
	next, moves := target{}, 0
	for turn := 0; ; turn++ {
		t := next
		if t.addr == "" {
			t.addr = c.opt.Addrs[turn%len(c.opt.Addrs)]
		}
		end, moved := c.session(ctx, t)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		next = moved
		if end.lived >= settled {
			moves = 0
		}
		if next.addr != "" && moves < maxMoves {
			moves++
			continue
		}
		next = target{}
		renewed := b.renewed
		pause, again := b.next(end)
		if !end.welcomed && b.renewed == renewed {
			c.first.attempt(end.err, !again)
		}
		if !again {
			return end.err
		}
		c.log.Info("gannet: no connection", "addr", t.addr, "err", end.err, "retry_in", pause)
		c.post(ctx, event{kind: eventRetry, retry: &Retry{Err: end.err, After: pause, Attempt: b.n}})
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// maxMoves is how often in a row MIGRATE is followed by a connection that does not last.
const maxMoves = 3

// session makes one connection and stays with it. moved is where a MIGRATE sends the client; its pause is over then.
func (c *Client) session(ctx context.Context, t target) (end ending, moved target) {
	end = ending{ticket: t.ticket != nil, renew: c.opt.Token != nil}
	cn, err := c.connect(ctx, t)
	if err != nil {
		end.err = err
		return end, target{}
	}
	since := time.Now()
	end.welcomed = true
	c.track.login(cn.welcome.Epoch, cn.welcome.Inbox == Reset)
	c.attach(cn)
	c.first.attempt(nil, true)
	c.log.Info("gannet: connected", "addr", t.addr, "node", cn.welcome.Node, "session", cn.welcome.Session)
	c.post(ctx, event{kind: eventConnect, welcome: &cn.welcome})
	c.resumed(cn)
	cn.wg.Go(func() { c.read(cn) })

	m, migrating := c.serve(ctx, cn)
	cn.wg.Wait()
	end.err, end.lived = cn.cause, time.Since(since)
	c.events <- event{kind: eventDisconnect, err: end.err} // the dispatcher always goes on
	var bye *ByeError
	if !migrating || errors.As(end.err, &bye) && bye.Code >= 300 {
		return end, target{}
	}
	if left := time.Until(m.at); left > 0 && !sleep(ctx, left) {
		return end, target{}
	}
	return end, target{addr: m.addr, ticket: m.ticket}
}

// attach makes cn the client's connection and starts what belongs to it, but for the reader.
func (c *Client) attach(cn *conn) {
	c.mu.Lock()
	c.current = cn
	c.mu.Unlock()
	if c.heartbeatWish() != cn.wish { // SetHeartbeat came between HELLO and now
		cn.control <- codec.AppendPing(nil, codec.Ping{
			Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, seconds(c.heartbeatWish())),
		})
	}
	cn.wg.Go(cn.write)
	cn.wg.Go(func() { c.pump(cn) })
	cn.wg.Go(func() { c.tend(cn) })
	// Only after cn became current: a Subscribe that came before is in the list, a later one asks by itself.
	if subs, unsubs := c.subs.beyondHello(cn.told); len(subs)+len(unsubs) > 0 {
		cn.wg.Go(func() { c.renewOffLoop(cn, subs, unsubs) })
	}
	if c.opt.Token != nil {
		cn.wg.Go(func() { c.refreshOffLoop(cn) })
	}
}

func (c *Client) detach() {
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
}

// move is a MIGRATE whose time has been drawn.
type move struct {
	target
	at time.Time
}

var errMoving = errors.New("the server sent the client to another node")

// serve waits until cn has ended: by itself, because ctx ended, or because it is time to move on.
func (c *Client) serve(ctx context.Context, cn *conn) (m move, migrating bool) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	defer c.detach()
	for {
		select {
		case <-cn.ctx.Done():
			return m, migrating
		case <-ctx.Done():
			c.detach()
			c.lastAcks(cn)
			cn.leave(ErrClosed)
			return m, false
		case order := <-cn.migrate:
			pause := c.opt.uniform(time.Duration(order.MinMs)*time.Millisecond, time.Duration(max(order.MinMs, order.MaxMs))*time.Millisecond)
			m = move{target{string(order.Addr), order.Ticket}, time.Now().Add(pause)}
			migrating = m.addr != ""
			timer.Reset(pause)
		case <-timer.C:
			c.detach()
			c.lastAcks(cn)
			cn.leave(errMoving)
			return m, migrating
		}
	}
}

func (c *Client) heartbeatWish() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heartbeat
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
