package client

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

func TestServerHeartbeat(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Limits: server.Limits{HeartbeatMin: 2 * time.Second, HeartbeatMax: time.Minute}})
	a := start(t, n.Addr(), Options{User: "alice", Device: "phone", Class: ClassMobile})
	if w := a.welcome(); w.Heartbeat != 30*time.Second || w.User != "alice" || w.Node != "gannet" || w.MaxFrame != codec.DefaultLimit {
		t.Errorf("%+v, want the heartbeat of a mobile", w)
	}
	for _, c := range []struct{ wish, want time.Duration }{
		{20 * time.Second, 20 * time.Second}, {time.Second, 2 * time.Second}, {time.Hour, time.Minute}, {3 * time.Second, 3 * time.Second},
	} {
		if got, err := a.SetHeartbeat(t.Context(), c.wish); err != nil || got != c.want {
			t.Errorf("a wish of %v puts %v in force (%v), want %v", c.wish, got, err, c.want)
		}
	}
	a.cut(n)
	if w := a.welcome(); w.Heartbeat != 3*time.Second {
		t.Errorf("after a reconnect a heartbeat of %v, want the last wish", w.Heartbeat)
	}
}

// A client that says nothing by itself is kept alive by its heartbeats; the server would end it after 12 s.
func TestServerIdleConnection(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 14 s")
	}
	n := servertest.Start(t, server.Options{Limits: server.Limits{HeartbeatMin: 2 * time.Second}})
	a := connect(t, n.Addr(), Options{User: "alice", Heartbeat: 2 * time.Second})
	mute := servertest.Dial(t, n.Addr())
	mute.Send(codec.AppendHello(nil, codec.Hello{Version: codec.Version, User: []byte("mute"), Device: []byte("d"), Heartbeat: 2}))
	mute.Welcome()
	servertest.Expect(mute, codec.TypePing, codec.ConsumePing)
	mute.Bye(codec.CodeIdle)
	a.remains()
}

func TestServerFilteredSubscription(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	a := connect(t, n.Addr(), Options{User: "alice"})
	b := connect(t, n.Addr(), Options{User: "bob"})
	news := Topic("news")
	a.subscribes("news", "sport", "weather")
	round := func() {
		t.Helper()
		b.says(news, "untagged")
		b.says(news, "1", "politics")
		b.says(news, "2", "politics", "sport")
		b.says(news, "3", "weather")
		a.hears("2")
		m := a.hears("3")
		if m.Sender != "bob" || m.Channel != news || len(m.Tags) != 1 || m.Tags[0] != "weather" || m.Seq != 0 || m.Echo {
			t.Errorf("%+v", m)
		}
	}
	round()
	a.cut(n) // the filter is not in HELLO, it follows
	a.welcome()
	eventually(t, "the subscription is back", func() bool { return n.Stats().Subscriptions == 1 })
	round()
	a.subscribes("news") // replaces the filter
	b.says(news, "untagged")
	a.hears("untagged")
	if err := a.Unsubscribe(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	b.says(news, "unheard")
	b.says(User("alice"), "last")
	a.hears("last")
}

// 500 subscriptions do not fit into HELLO; the rest follows, at the first login and at the next.
func TestServerManySubscriptions(t *testing.T) {
	t.Parallel()
	const many = 500
	n := servertest.Start(t, server.Options{})
	var names []string
	for i := range many {
		names = append(names, fmt.Sprintf("topic-%03d", i))
	}
	a := start(t, n.Addr(), Options{User: "alice"}, names...)
	b := connect(t, n.Addr(), Options{User: "bob"})
	for round := range 2 {
		a.welcome()
		eventually(t, "all subscriptions are there", func() bool { return n.Stats().Subscriptions == many })
		want := map[Channel]bool{}
		for _, name := range names {
			b.says(Topic(name), name)
			want[Topic(name)] = true
		}
		for range many {
			m := take(t, "message", a.messages)
			if !want[m.Channel] || m.Channel.Name != string(m.Payload) {
				t.Fatalf("%v came twice or is wrong: %q", m.Channel, m.Payload)
			}
			delete(want, m.Channel)
		}
		if round == 0 {
			a.cut(n)
		}
	}
	a.remains()
}

// More subscriptions than the server allows: the caller hears it, at a login OnError does.
func TestServerLimitsSubscriptions(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Limits: server.Limits{Subscriptions: 3}})
	a := start(t, n.Addr(), Options{User: "alice"}, "t0", "t1", "t2", "t3")
	a.welcome()
	var lost *SubscriptionError
	if err := take(t, "error", a.errs); !errors.As(err, &lost) || lost.Topic != "t3" {
		t.Errorf("got %v, want the one subscription too many", err)
	}
	wantCode(t, a.Subscribe(t.Context(), "t4"), codec.CodeRateLimited)
	a.remains()
	if err := a.Unsubscribe(t.Context(), "t0"); err != nil {
		t.Fatal(err)
	}
	a.subscribes("t4")
	a.cut(n)
	a.welcome()
	eventually(t, "three are back", func() bool { return n.Stats().Subscriptions == 3 })
	a.remains()
}

// The server drains, goes away and comes back on the same port: the client knows why, is back, has its subscriptions, and messages flow.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	addr := servertest.Addr()
	first := servertest.Start(t, server.Options{Listen: addr, Drain: 500 * time.Millisecond})
	var mu sync.Mutex
	var windows [][2]time.Duration
	uniform := func(min, max time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		windows = append(windows, [2]time.Duration{min, max})
		return 20 * time.Millisecond
	}
	a := connect(t, addr, Options{User: "alice", uniform: uniform})
	b := connect(t, addr, Options{User: "bob"})
	a.subscribes("news")
	a.subscribes("filtered", "x")

	first.Drain()
	r := take(t, "retry", a.retries)
	var bye *ByeError
	if !errors.As(r.Err, &bye) || bye.Code != codec.CodeDraining || !bye.Retry || bye.Final() || r.Attempt != 1 {
		t.Errorf("%+v (%v), want DRAINING", r, r.Err)
	}
	mu.Lock()
	if w := windows[0]; bye != nil && (w != [2]time.Duration{bye.Min, bye.Max} || w[1] <= w[0] || w[0] < time.Second) {
		t.Errorf("the pause was drawn from %v, BYE says %v to %v", w, bye.Min, bye.Max)
	}
	mu.Unlock()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Send(t.Context(), Text(Topic("news"), "lost")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("without a server: %v, want ErrNotConnected", err)
	}
	take(t, "another retry", a.retries)

	second := servertest.Start(t, server.Options{Listen: addr})
	a.welcome()
	b.welcome()
	eventually(t, "the subscriptions are back", func() bool { return second.Stats().Subscriptions == 2 })
	b.says(Topic("news"), "we are back")
	a.hears("we are back")
	b.says(Topic("filtered"), "with a tag", "x")
	a.hears("with a tag")
	a.says(User("bob"), "so are we")
	b.hears("so are we")
}

// Who dials a server that is draining is told so and may come back.
func TestServerDrainingAtLogin(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Drain: time.Minute})
	connect(t, n.Addr(), Options{User: "alice"})
	n.Drain()
	var err error
	eventually(t, "the server drains", func() bool {
		var c *Client
		c, err = Dial(t.Context(), Options{Addrs: []string{n.Addr()}, User: "bob"})
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	var bye *ByeError
	if !errors.As(err, &bye) || bye.Code != codec.CodeDraining || bye.Final() {
		t.Errorf("got %v, want DRAINING", err)
	}
}

func TestServerReplaced(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	older := connect(t, n.Addr(), Options{User: "alice", Device: "phone"})
	other := connect(t, n.Addr(), Options{User: "alice", Device: "laptop"})
	newer := connect(t, n.Addr(), Options{User: "alice", Device: "phone"})
	if bye := older.ends(codec.CodeReplaced); !bye.Final() || !strings.Contains(bye.Error(), "its own device name") {
		t.Errorf("%v, want what to do", bye)
	}
	if _, err := older.Send(t.Context(), Text(User("bob"), "?")); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v, want ErrClosed", err)
	}
	newer.remains()
	other.remains()
}

func TestServerKick(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	a := connect(t, n.Addr(), Options{User: "alice", Device: "phone"})
	b := connect(t, n.Addr(), Options{User: "alice", Device: "laptop"})
	if _, code := n.Kick("alice", "phone", "lost and found"); code != codec.CodeOK {
		t.Fatal(code)
	}
	if bye := a.ends(codec.CodeKicked); bye.Reason != "lost and found" {
		t.Errorf("the reason is %q", bye.Reason)
	}
	b.remains()
}

// The largest payload goes through and comes out as it was; one byte more is refused here, with the number that would fit.
func TestServerLargePayloads(t *testing.T) {
	t.Parallel()
	for _, maxFrame := range []int{codec.LoginLimit, codec.DefaultLimit, 3 << 20} {
		t.Run(fmt.Sprint(maxFrame), func(t *testing.T) {
			t.Parallel()
			n := servertest.Start(t, server.Options{Limits: server.Limits{MaxFrame: maxFrame, OutBytes: 16 << 20, TopicBytes: 16 << 20}})
			a := connect(t, n.Addr(), Options{User: "alice"})
			b := connect(t, n.Addr(), Options{User: strings.Repeat("b", codec.MaxID)})
			b.subscribes("big")
			longest := Message{
				Channel: User(strings.Repeat("b", codec.MaxID)), Payload: make([]byte, maxFrame), TTL: time.Hour,
				Tags: []string{strings.Repeat("t", maxTag), "u", "v", "w", "x", "y", "z", strings.Repeat("s", maxTag)},
			}
			for _, m := range []Message{{Channel: Topic("big"), Payload: make([]byte, maxFrame)}, longest} {
				for i := range m.Payload {
					m.Payload[i] = byte(i % 251)
				}
				_, err := a.Send(t.Context(), m)
				wantCode(t, err, codec.CodeTooLarge)
				wantCode(t, a.SendAsync(m), codec.CodeTooLarge)
				var fits, whole int
				if i := strings.Index(err.Error(), "a payload of"); i < 0 {
					t.Fatal(err)
				} else if _, e := fmt.Sscanf(err.Error()[i:], "a payload of %d bytes; the server takes at most %d here", &whole, &fits); e != nil || fits < maxFrame-512 {
					t.Fatalf("%v", err)
				}
				m.Payload = m.Payload[:fits+1]
				_, err = a.Send(t.Context(), m)
				wantCode(t, err, codec.CodeTooLarge)
				m.Payload = m.Payload[:fits]
				if _, err := a.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				b.hears(string(m.Payload))
			}
			state := make([]byte, maxFrame-6-len("big")-len("key"))
			wantCode(t, a.SetState(t.Context(), Topic("big"), "key", 0, append(state, 0)), codec.CodeTooLarge)
			if err := a.SetState(t.Context(), Topic("big"), "key", 0, state); err != nil {
				t.Fatal(err)
			}
			if s := take(t, "state", b.states); len(s.Payload) != len(state) || s.User != "alice" {
				t.Errorf("a state of %d bytes from %q, want %d", len(s.Payload), s.User, len(state))
			}
			a.remains()
			b.remains()
		})
	}
}

// Many goroutines use one client at once: everything arrives once, and what one goroutine says stays in order.
func TestServerManyGoroutines(t *testing.T) {
	t.Parallel()
	const clients, goroutines, each = 4, 8, 50
	n := servertest.Start(t, server.Options{})
	sink := connect(t, n.Addr(), Options{User: "sink"})
	sink.subscribes("news")
	var async atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		a := connect(t, n.Addr(), Options{User: fmt.Sprint("user-", c)})
		for g := range goroutines {
			to := Topic("news")
			if g%2 == 1 {
				to = User("sink")
			}
			wg.Go(func() {
				topic := fmt.Sprintf("own-%d-%d", c, g)
				if err := a.Subscribe(t.Context(), topic); err != nil {
					t.Error(err)
				}
				for i := range each {
					if _, err := a.Send(t.Context(), Text(to, fmt.Sprintf("%d %d %d", c, g, i))); err != nil {
						t.Error(err)
					}
					if i%10 == 0 {
						switch err := a.SendAsync(Text(User("sink"), "async")); {
						case err == nil:
							async.Add(1)
						case !errors.Is(err, ErrBusy):
							t.Error(err)
						}
						if _, err := a.Ping(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
				if err := a.Unsubscribe(t.Context(), topic); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	next := map[[2]int]int{}
	for got, asyncGot := 0, int64(0); got < clients*goroutines*each || asyncGot < async.Load(); {
		m := take(t, "message", sink.messages)
		if string(m.Payload) == "async" {
			asyncGot++
			continue
		}
		got++
		var c, g, i int
		if _, err := fmt.Sscanf(string(m.Payload), "%d %d %d", &c, &g, &i); err != nil || next[[2]int{c, g}] != i {
			t.Fatalf("%q came, want %d of goroutine %d %d (%v)", m.Payload, next[[2]int{c, g}], c, g, err)
		}
		next[[2]int{c, g}]++
	}
	eventually(t, "one subscription is left", func() bool { return n.Stats().Subscriptions == 1 })
	sink.remains()
}

// What comes back to its sender is dropped by origin; with KeepEcho it is marked. Another client of the same user is no echo.
func TestServerEcho(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	a := connect(t, n.Addr(), Options{User: "alice", Device: "phone"})
	keeps := connect(t, n.Addr(), Options{User: "alice", Device: "laptop", KeepEcho: true})
	b := connect(t, n.Addr(), Options{User: "bob"})
	for _, x := range []*against{a, keeps, b} {
		x.subscribes("news")
	}
	a.says(Topic("news"), "from the phone")
	if m := keeps.hears("from the phone"); m.Echo {
		t.Error("another device's message is taken for an echo")
	}
	b.hears("from the phone")
	keeps.says(Topic("news"), "from the laptop")
	if m := keeps.hears("from the laptop"); !m.Echo {
		t.Error("the own message is no echo")
	}
	b.hears("from the laptop")
	a.hears("from the laptop") // and not its own before

	keeps.says(User("bob"), "direct")
	if m := a.hears("direct"); m.Channel != User("bob") || m.Sender != "alice" {
		t.Errorf("%+v, want what the other device said to bob", m)
	}
	if m := b.hears("direct"); m.Channel != User("alice") {
		t.Errorf("%+v", m)
	}
}
