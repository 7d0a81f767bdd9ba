package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

func TestHelloAndWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Class, opt.Heartbeat, opt.StaticToken = ClassMobile, 45*time.Second, "secret"
		got := make(chan Welcome, 1)
		opt.OnConnect = func(w Welcome) { got <- w }
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Subscribe(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
		go c.Run(context.Background())
		defer c.Close()
		p := h.peer()
		hello := p.hello()
		if hello.Version != codec.Version || hello.Heartbeat != 45 || hello.Class != codec.ClassMobile ||
			string(hello.Device) != "phone" || string(hello.User) != "alice" || string(hello.Token) != "secret" ||
			hello.InboxEpoch != 0 || hello.InboxPos != 0 || hello.Features != 0 {
			t.Errorf("HELLO %+v", hello)
		}
		for pos := range hello.Positions.All() {
			if pos.Kind != codec.KindTopic || string(pos.Name) != "news" || pos.Epoch != 0 || pos.Seq != 0 {
				t.Errorf("position %+v", pos)
			}
		}
		if hello.Positions.Len() != 1 {
			t.Errorf("%d positions, want 1", hello.Positions.Len())
		}
		w := welcome()
		w.States.Append(codec.State{})
		p.send(codec.AppendWelcome(nil, w))
		welcomed := <-got
		want := Welcome{User: "alice", Node: "node-1", Session: 7, Heartbeat: 30 * time.Second,
			Time: time.UnixMilli(int64(w.Time)), MaxFrame: codec.DefaultLimit, Window: 1024, Addr: "node-1:7000"}
		if welcomed != want {
			t.Errorf("welcome %+v, want %+v", welcomed, want)
		}
	})
}

func TestOptionsNameTheWrongField(t *testing.T) {
	good := Options{Addrs: []string{"127.0.0.1:7000"}, User: "alice"}
	for field, spoil := range map[string]func(*Options){
		"Addrs":     func(o *Options) { o.Addrs = nil },
		"Addrs:":    func(o *Options) { o.Addrs = []string{"nowhere"} },
		"User":      func(o *Options) { o.User = "" },
		"Device":    func(o *Options) { o.Device = "a\x1fb" },
		"Heartbeat": func(o *Options) { o.Heartbeat = -1 },

		"Device is empty": func(o *Options) { o.Outbox = new(MemoryOutbox) },
		"Origin":          func(o *Options) { o.Origin = make([]byte, 17) },
	} {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: error %v", field, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	byToken := good
	byToken.User, byToken.StaticToken = "", "t"
	if _, err := New(byToken); err != nil {
		t.Errorf("no user, with a token: %v", err)
	}
}

func TestDialReturnsTheError(t *testing.T) {
	bye := codec.Bye{Code: codec.CodeUnauthorized, Reason: []byte("no such user")}
	for name, tc := range map[string]struct {
		serve func(h *harness)
		is    func(error) bool
	}{
		"refused": {
			func(h *harness) { h.refuse.Store(true) },
			func(err error) bool { return errors.Is(err, errRefused) },
		},
		"bye": {
			func(h *harness) { go func() { p := <-h.peers; p.hello(); p.sayBye(bye) }() },
			func(err error) bool {
				var b *ByeError
				return errors.As(err, &b) && b.Code == codec.CodeUnauthorized && b.Reason == "no such user"
			},
		},
		"silence": {
			func(h *harness) {},
			func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		},
		"version": {
			func(h *harness) {
				w := welcome()
				w.Version = 9
				go func() { p := <-h.peers; p.login(w) }()
			},
			func(err error) bool { return strings.Contains(err.Error(), "version 9") },
		},
		"another frame": {
			func(h *harness) {
				go func() { p := <-h.peers; p.hello(); p.ack(1, 0, 0) }()
			},
			func(err error) bool { return errors.Is(err, codec.ErrMalformed) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				tc.serve(h)
				c, err := Dial(t.Context(), h.options())
				if err == nil {
					c.Close()
				}
				if err == nil || !tc.is(err) {
					t.Fatalf("error %v", err)
				}
				if n := len(h.dialled()); n != 1 {
					t.Errorf("%d attempts, want 1", n)
				}
			})
		})
	}
}

func TestDialTriesEveryAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Addrs = []string{"node-1:7000", "node-2:7000"}
		opt.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			h.refuse.Store(addr == "node-1:7000")
			return h.dial(ctx, addr)
		}
		go func() { h.peer().login(welcome()) }()
		c, err := Dial(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := h.dialled(); len(got) != 2 || got[1] != "node-2:7000" {
			t.Errorf("dialled %v", got)
		}
		if c.Err() != nil {
			t.Errorf("Err of a running client: %v", c.Err())
		}
	})
}

func TestTokenThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.StaticToken = strings.Repeat("x", codec.LoginLimit)
		_, err := Dial(t.Context(), opt)
		if err == nil || !strings.Contains(err.Error(), "does not fit into HELLO") {
			t.Fatalf("error %v", err)
		}
	})
}

// Wherever Run is, the end of its context ends it.
func TestCancelEverywhere(t *testing.T) {
	block := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, prepare := range map[string]func(h *harness, o *Options){
		"token": func(h *harness, o *Options) {
			o.Token = func(ctx context.Context) (string, error) { return "", block(ctx) }
		},
		"dial": func(h *harness, o *Options) {
			o.Dialer = func(ctx context.Context, _ string) (net.Conn, error) { return nil, block(ctx) }
		},
		"login":  func(h *harness, o *Options) {},
		"pause":  func(h *harness, o *Options) { h.refuse.Store(true) },
		"online": func(h *harness, o *Options) { go func() { h.peer().login(welcome()) }() },
		"deaf server": func(h *harness, o *Options) {
			o.Dialer = func(context.Context, string) (net.Conn, error) {
				_, nc := net.Pipe() // nobody reads the other end
				return nc, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				opt := h.options()
				opt.uniform = func(_, max time.Duration) time.Duration { return max }
				prepare(h, &opt)
				c, err := New(opt)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				result := make(chan error, 1)
				go func() { result <- c.Run(ctx) }()
				synctest.Wait()
				begin := time.Now()
				cancel()
				if err := <-result; !errors.Is(err, context.Canceled) {
					t.Errorf("Run returned %v", err)
				}
				if d := time.Since(begin); d > linger {
					t.Errorf("it took %v", d)
				}
				if _, err := c.Send(t.Context(), Text(User("bob"), "x")); !errors.Is(err, ErrClosed) {
					t.Errorf("Send afterwards: %v", err)
				}
				if !errors.Is(c.Err(), ErrClosed) {
					t.Errorf("Err: %v", c.Err())
				}
				if err := c.Run(ctx); !errors.Is(err, ErrClosed) {
					t.Errorf("a second Run: %v", err)
				}
			})
		})
	}
}
