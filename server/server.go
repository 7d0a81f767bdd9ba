package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server/auth"
	"gannet/server/durable"
	"gannet/shard"
)

// Server is one gannet node. Make it with New, start it with Run.
type Server struct {
	// Static after construction.
	opts          Options
	log           *limitedLog
	clock         shard.Clock
	node          *shard.Node
	judge         *judge // nil with open logins
	lanes         *lanes // nil without handlers
	durableLog    *durable.Log
	admin         *admin // nil when off
	byeDraining   []byte // encoded once: sent to who connects while draining
	byeOverloaded []byte // and to who connects when full
	addr          netip.AddrPort

	engine     gnet.Engine // set in OnBoot
	bootResult chan error
	booted     atomic.Bool
	ready      chan struct{}
	started    atomic.Bool
	state      atomic.Int32 // readiness, see admin.go

	loopsMu  sync.Mutex
	loops    atomic.Pointer[[]*loop] // by shard; replaced, never changed
	open     atomic.Int64            // connections of clients, but for those that were refused
	refusals atomic.Int64            // refused connections that wait for their peer to read why
	counters counters
}

// counters are what the server counts beside the shards.
type counters struct {
	refusedFull     atomic.Uint64
	refusedDraining atomic.Uint64
	panics          atomic.Uint64
	wakeErrors      atomic.Uint64
	trims           atomic.Uint64
}

// steadyClock is the real time; the monotonic part counts from the server's start.
type steadyClock struct{ start time.Time }

func (c steadyClock) Now() int64        { return int64(time.Since(c.start)) }
func (c steadyClock) UnixMilli() uint64 { return uint64(time.Now().UnixMilli()) }

// New makes a server. Nothing runs and no client can connect until Run, but an address with port 0 is resolved here,
// and the admin port is taken. The error names the option that is wrong.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, log: &limitedLog{Logger: o.Logger, lines: make(chan func(), queued)}, clock: steadyClock{time.Now()},
		bootResult: make(chan error, 1), ready: make(chan struct{}),
		byeDraining:   shard.AppendBye(nil, codec.CodeDraining, "the server is stopping"),
		byeOverloaded: shard.AppendBye(nil, codec.CodeOverloaded, "too many connections"),
	}
	var err error
	if s.addr, err = reservePort(o.Listen); err != nil {
		return nil, err
	}
	s.loops.Store(&[]*loop{})
	cfg := shardConfig(&o)
	if o.Auth != nil {
		s.judge = newJudge(s, o.Auth)
	} else {
		cfg.OpenRights = auth.Everything
	}
	if cfg.Events = o.Handlers.events(); cfg.Events != 0 {
		s.lanes = newLanes(o.Handlers, o.Limits.HandlerQueue, s.panicked)
	}
	if s.durableLog, err = durable.New(durableOptions(&o, s.log.Logger)); err != nil {
		return nil, err
	}
	cfg.Log = s.durableLog
	s.node = shard.NewNode(cfg, s.clock, s)
	if o.Admin != "off" {
		if s.admin, err = newAdmin(s); err != nil {
			_ = s.durableLog.Close()
			return nil, err
		}
	}
	return s, nil
}

func shardConfig(o *Options) shard.Config {
	l := &o.Limits
	return shard.Config{
		Shards: o.Loops, Node: o.Node, InboxCapacity: l.Inbox, MaxFrame: l.MaxFrame,
		HeartbeatMin: l.HeartbeatMin, HeartbeatMax: l.HeartbeatMax,
		LoginTimeout: l.LoginTimeout, FrameTimeout: l.FrameTimeout,
		MaxSubscriptions: l.Subscriptions, MaxSessionsPerUser: l.SessionsPerUser,
		OutLimit: l.OutBytes, OutBudget: l.OutTotal / o.Loops, SlowTimeout: l.SlowReader,
		RoomLimit: l.TopicBytes, SendRate: l.SendsPerSecond,
		MaxStates: l.States, MaxChannelStates: l.StatesPerChannel,
	}
}

// Errors of Run.
var (
	ErrStarted = errors.New("server: Run was called before")
	ErrEngine  = errors.New("server: the event loops ended by themselves")
)

// Run serves until ctx ends, then drains: no new logins, every session is told DRAINING, spread over Options.Drain,
// and what is buffered is written. The error is nil after a drain; ErrEngine when the loops ended by
// themselves, which is a crash.
func (s *Server) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return ErrStarted
	}
	defer s.log.start()()
	defer s.closeParts()
	// Again, since New let the port go: another server that has it since would share it with this one.
	if _, err := reservePort(s.addr.String()); err != nil {
		return err
	}
	if err := s.startParts(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.runEngine() }()
	select {
	case err := <-s.bootResult:
		if err != nil {
			_ = s.stopEngine()
			<-ended
			return fmt.Errorf("server: starting the event loops: %w", err)
		}
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("server: starting the event loops: %w", err)
		}
		return ErrEngine
	}
	s.state.Store(stateReady)
	close(s.ready)
	stopTrim := s.startTrimmer()
	defer stopTrim()

	select {
	case err := <-ended:
		return crashed(err)
	case <-ctx.Done():
	}
	s.state.Store(stateDraining)
	s.drain(ended)
	if s.admin != nil {
		s.admin.stop() // before the loops: what it asks them is answered
	}
	if err := s.stopEngine(); err != nil {
		return fmt.Errorf("server: stopping the event loops: %w", err)
	}
	<-ended
	return nil
}

func crashed(err error) error {
	if err == nil {
		return ErrEngine
	}
	return fmt.Errorf("%w: %w", ErrEngine, err)
}

func (s *Server) runEngine() error {
	return gnet.Run(&handler{s: s}, "tcp://"+s.addr.String(),
		gnet.WithReusePort(true), gnet.WithReuseAddr(true), gnet.WithNumEventLoop(s.opts.Loops), gnet.WithTicker(true),
		gnet.WithLogger(gnetLog{s.opts.Logger}), gnet.WithTCPNoDelay(gnet.TCPNoDelay))
}

// drain ends the sessions and waits until they are gone, at most Options.Drain.
func (s *Server) drain(ended <-chan error) {
	// A tenth of the time is left for the last ones to read their BYE.
	s.node.Drain(s.opts.Drain * 9 / 10)
	deadline := time.NewTimer(s.opts.Drain)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s.open.Load() > 0 {
		select {
		case <-look.C:
		case <-deadline.C:
			return
		case <-ended:
			return
		}
	}
}

// stopEngine asks the loops to end. Engine.Stop looks only twice a second whether they have; who calls this waits
// for Run's end instead.
func (s *Server) stopEngine() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.engine.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// startParts starts what runs beside the event loops.
func (s *Server) startParts() error {
	if s.judge != nil {
		if err := s.judge.start(); err != nil {
			return err
		}
	}
	s.durableLog.Start(s.node)
	if s.lanes != nil {
		s.lanes.start()
	}
	if s.admin != nil {
		s.admin.start()
	}
	return nil
}

func (s *Server) closeParts() {
	if s.admin != nil {
		s.admin.stop()
	}
	if s.judge != nil {
		s.judge.stop()
	}
	if err := s.durableLog.Close(); err != nil {
		s.log.Error("closing the store", "error", err)
	}
	if s.lanes != nil {
		s.lanes.stop()
	}
}

// Ready is closed when clients can connect.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where clients connect.
func (s *Server) Addr() string { return s.addr.String() }

// AdminAddr is where the admin HTTP interface listens; "" when it is off.
func (s *Server) AdminAddr() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.addr
}

// Stats are the counters of all shards, at most a tenth of a second old.
func (s *Server) Stats() shard.Stats { return s.node.Stats() }

// Publish sends a message from outside the connections; see shard.Node.Publish.
func (s *Server) Publish(p shard.Publication) (targets int, code codec.Code) {
	return s.node.Publish(p)
}

// Kick ends the sessions of a user, or only those of one device; asked is how many.
func (s *Server) Kick(user, device, reason string) (asked int, code codec.Code) {
	return s.node.Kick(user, device, reason)
}

// Sessions finds the live sessions of users.
func (s *Server) Sessions(ctx context.Context, users []string) ([]shard.SessionInfo, error) {
	answers := make(chan []shard.SessionInfo, s.node.Shards())
	calls, code := s.node.Lookup(users, func(i []shard.SessionInfo) { answers <- i })
	if code != codec.CodeOK {
		return nil, fmt.Errorf("server: looking up sessions: %v: an inbox is full, try again", code)
	}
	all := []shard.SessionInfo{}
	for range calls {
		select {
		case a := <-answers:
			all = append(all, a...)
		case <-ctx.Done():
			return nil, fmt.Errorf("server: looking up sessions: %w", ctx.Err())
		}
	}
	return all, nil
}

func (s *Server) panicked(p any, stack []byte) {
	s.counters.panics.Add(1)
	s.log.panicked(p, stack)
}

// reservePort resolves port 0: every loop listens on the same port, so it must be known before gnet starts. The
// port is bound with SO_REUSEPORT and let go at once; also an address that cannot be bound is told here.
func reservePort(listen string) (netip.AddrPort, error) {
	a, err := splitAddr(listen)
	if err != nil {
		return a, fmt.Errorf("listen: %w", err)
	}
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(a.Port()), Addr: as4(a)})
	if a.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return a, fmt.Errorf("listen: %w", err)
	}
	defer unix.Close(fd)
	// Without SO_REUSEPORT first: a port that another server has must be an error, not shared with it.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sa); err != nil {
		return a, fmt.Errorf("listen: %s: %w%s", listen, err, bindHint(err))
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return a, fmt.Errorf("listen: %w", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		a = netip.AddrPortFrom(a.Addr(), uint16(b.Port))
	case *unix.SockaddrInet6:
		a = netip.AddrPortFrom(a.Addr(), uint16(b.Port))
	}
	return a, nil
}

// bindHint says what a person can do about an address that cannot be had.
func bindHint(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return "; is another server running there?"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "; this machine does not have that address"
	case errors.Is(err, unix.EACCES):
		return "; ports below 1024 need a privilege, take a higher one"
	}
	return ""
}

func as4(a netip.AddrPort) (b [4]byte) {
	if a.Addr().Is4() {
		b = a.Addr().As4()
	}
	return b
}
