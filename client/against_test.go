package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server/servertest"
)

// against is a client of a real server with everything that its handlers heard.
type against struct {
	*Client
	t        *testing.T
	result   chan error // what Run returned
	welcomes chan Welcome
	messages chan Message
	states   chan State
	errs     chan error
	retries  chan Retry

	mu sync.Mutex
	nc net.Conn // the latest; guarded by mu
}

// connect runs a client with the server at addr until the test ends. It comes back as soon as it may.
func connect(t *testing.T, addr string, opt Options) *against {
	t.Helper()
	a := start(t, addr, opt)
	a.welcome()
	return a
}

// start is connect that does not wait for the login.
func start(t *testing.T, addr string, opt Options, topics ...string) *against {
	t.Helper()
	a := &against{
		t: t, result: make(chan error, 1), welcomes: make(chan Welcome, 64), messages: make(chan Message, 1<<14),
		states: make(chan State, 1<<10), errs: make(chan error, 64), retries: make(chan Retry, 64),
	}
	opt.Addrs = []string{addr}
	opt.OnConnect = func(w Welcome) { a.welcomes <- w }
	opt.OnMessage = func(m Message) { a.messages <- m }
	opt.OnState = func(s State) { a.states <- s }
	opt.OnError = func(err error) { a.errs <- err }
	opt.OnRetry = func(r Retry) { a.retries <- r }
	opt.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		a.nc = nc
		return nc, err
	}
	if opt.uniform == nil {
		opt.uniform = func(min, _ time.Duration) time.Duration { return max(min, 10*time.Millisecond) }
	}
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	a.Client = c
	for _, topic := range topics {
		if err := c.Subscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	go func() { a.result <- c.Run(context.Background()) }()
	t.Cleanup(func() { c.Close() })
	return a
}

// cut ends the connection as a network does, and the client comes back once the server n has noticed. No other client
// has subscriptions.
func (a *against) cut(n *servertest.Node) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nc.Close()
	eventually(a.t, "the server notices", func() bool {
		s, err := n.Sessions(a.t.Context(), []string{a.opt.User})
		return err == nil && len(s) == 0 && n.Stats().Subscriptions == 0
	})
}

func take[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(servertest.Patience):
		t.Fatalf("no %s comes", what)
		panic("not reached")
	}
}

func (a *against) welcome() Welcome { a.t.Helper(); return take(a.t, "WELCOME", a.welcomes) }

// hears wants the next message to be text.
func (a *against) hears(text string) Message {
	a.t.Helper()
	m := take(a.t, "message", a.messages)
	if string(m.Payload) != text {
		a.t.Fatalf("heard %q, want %q", m.Payload, text)
	}
	return m
}

func (a *against) says(to Channel, text string, tags ...string) {
	a.t.Helper()
	m := Text(to, text)
	m.Tags = tags
	ctx, cancel := context.WithTimeout(a.t.Context(), servertest.Patience)
	defer cancel()
	if _, err := a.Send(ctx, m); err != nil {
		a.t.Fatal(err)
	}
}

func (a *against) subscribes(topic string, tags ...string) {
	a.t.Helper()
	if err := a.Subscribe(a.t.Context(), topic, tags...); err != nil {
		a.t.Fatal(err)
	}
}

// ends wants Run to return a ByeError with this code.
func (a *against) ends(code codec.Code) *ByeError {
	a.t.Helper()
	err := take(a.t, "end of Run", a.result)
	var bye *ByeError
	if !errors.As(err, &bye) || bye.Code != code {
		a.t.Fatalf("Run returned %v, want BYE %v", err, code)
	}
	if !errors.Is(a.Err(), error(bye)) {
		a.t.Errorf("Err says %v", a.Err())
	}
	return bye
}

// remains wants everything to go on as before: the same connection and no complaint.
func (a *against) remains() {
	a.t.Helper()
	if _, err := a.Ping(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	select {
	case w := <-a.welcomes:
		a.t.Fatalf("it logged in again: %+v", w)
	case err := <-a.errs:
		a.t.Fatalf("it complains: %v", err)
	default:
	}
}

// eventually waits until a condition holds that the server brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(servertest.Patience); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}
