package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

// windows records what the client drew from and draws the upper bound.
type windows struct {
	mu  sync.Mutex
	all [][2]time.Duration
}

func (w *windows) draw(min, max time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, [2]time.Duration{min, max})
	return max
}

func (w *windows) drawn() [][2]time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func TestBackoffGrowsAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var w windows
		opt.uniform = w.draw
		retries := make(chan Retry, 64)
		opt.OnRetry = func(r Retry) { retries <- r }
		h.refuse.Store(true)
		begin := time.Now()
		h.run(opt)
		for i := range 8 {
			if r := <-retries; !errors.Is(r.Err, errRefused) || r.Attempt != i+1 {
				t.Errorf("retry %d: %+v", i, r)
			}
		}
		h.refuse.Store(false)
		p := h.peer()
		var got []time.Duration
		var sum time.Duration
		for _, d := range w.drawn() {
			if d[0] != 0 {
				t.Errorf("a window begins at %v", d[0])
			}
			got = append(got, d[1]/time.Second)
			sum += d[1]
		}
		if want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}; !slices.Equal(got, want) {
			t.Errorf("windows %v s, want %v s", got, want)
		}
		if d := time.Since(begin); d != sum {
			t.Errorf("connected after %v, want %v", d, sum)
		}

		// A connection that does not last goes on from there, one that lasts begins anew.
		for _, tc := range []struct{ stay, want time.Duration }{
			{settled - time.Second, maxBackoff}, {settled, time.Second}, {0, 2 * time.Second},
		} {
			p.login(welcome())
			synctest.Wait()
			time.Sleep(tc.stay)
			p.nc.Close()
			p = h.peer()
			if d := w.drawn(); d[len(d)-1][1] != tc.want {
				t.Errorf("after a stay of %v the window is %v, want %v", tc.stay, d[len(d)-1][1], tc.want)
			}
		}
	})
}

func TestByeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var w windows
		opt.uniform = w.draw
		down := make(chan error, 8)
		opt.OnDisconnect = func(err error) { down <- err }
		_, p := h.connected(opt)
		for _, tc := range []struct {
			bye  codec.Bye
			want [2]time.Duration
		}{
			{codec.Bye{Code: codec.CodeDraining, Retry: 1, MinMs: 5000, MaxMs: 9000}, [2]time.Duration{5 * time.Second, 9 * time.Second}},
			{codec.Bye{Code: codec.CodeOverloaded, Retry: 1, MinMs: 3000, MaxMs: 1000}, [2]time.Duration{3 * time.Second, 3 * time.Second}},
			{codec.Bye{Code: codec.CodeSlow, Retry: 1}, [2]time.Duration{0, 4 * time.Second}}, // none: the backoff, which counts all three
		} {
			begin := time.Now()
			p.sayBye(tc.bye)
			var bye *ByeError
			if err := <-down; !errors.As(err, &bye) || bye.Code != tc.bye.Code {
				t.Errorf("disconnected by %v, want %v", err, tc.bye.Code)
			}
			p = h.peer()
			d := w.drawn()
			if last := d[len(d)-1]; last != tc.want {
				t.Errorf("%v: drawn from %v, want %v", tc.bye.Code, last, tc.want)
			}
			if d := time.Since(begin); d != tc.want[1] {
				t.Errorf("%v: back after %v, want %v", tc.bye.Code, d, tc.want[1])
			}
			p.login(welcome())
		}
	})
}

// The real draw stays inside the window and fills it.
func TestUniform(t *testing.T) {
	const min, max = 5 * time.Second, 9 * time.Second
	var tenths [10]int
	for range 2000 {
		d := uniform(min, max)
		if d < min || d > max {
			t.Fatalf("%v is outside %v..%v", d, min, max)
		}
		tenths[(d-min)*10/(max-min+1)]++
	}
	for i, n := range tenths {
		if n < 100 { // expected 200; below 100 is more than 7 standard deviations away
			t.Errorf("tenth %d of the window was drawn %d times in 2000", i, n)
		}
	}
	if d := uniform(max, min); d != max {
		t.Errorf("an empty window gives %v", d)
	}
}

func TestFinalByes(t *testing.T) {
	for _, bye := range []codec.Bye{
		{Code: codec.CodeUnauthorized}, {Code: codec.CodeExpired}, {Code: codec.CodeReplaced}, {Code: codec.CodeKicked},
		{Code: codec.CodeMalformed}, {Code: codec.CodeVersion}, {Code: codec.CodeTimeout},
		{Code: codec.CodeKicked, Retry: 1, MaxMs: 1000},  // the code counts more
		{Code: codec.CodeDraining, Retry: 0, MaxMs: 500}, // the server does not want it back
	} {
		t.Run(bye.Code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				c, result := h.run(h.options())
				p := h.peer()
				p.login(welcome())
				bye.Reason = []byte("because")
				p.sayBye(bye)
				var got *ByeError
				if err := <-result; !errors.As(err, &got) || got.Code != bye.Code || got.Reason != "because" {
					t.Fatalf("Run returned %v", err)
				}
				if n := len(h.dialled()); n != 1 {
					t.Errorf("%d connections", n)
				}
				<-c.Done()
				if !errors.As(c.Err(), &got) {
					t.Errorf("Err: %v", c.Err())
				}
				if _, err := c.Send(t.Context(), Text(User("bob"), "x")); !errors.Is(err, ErrClosed) {
					t.Errorf("Send afterwards: %v", err)
				}
			})
		})
	}
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		down := make(chan error, 1)
		opt.OnDisconnect = func(err error) { down <- err }
		c, p := h.connected(opt)
		begin := time.Now()
		p.pinged()
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("the first PING came after %v", d)
		}
		p.send(codec.AppendPong(nil, codec.Ping{}))
		time.Sleep(20 * time.Second)
		if err := c.SendAsync(Text(User("bob"), "x")); err != nil {
			t.Fatal(err)
		}
		p.sent()
		begin = time.Now()
		p.pinged()
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("PING %v after a SEND", d)
		}

		// A PING is answered at once with what it held.
		p.send(codec.AppendPing(nil, codec.Ping{Data: []byte("12345678")}))
		begin = time.Now()
		if pong := expect(p, codec.TypePong, codec.ConsumePing); string(pong.Data) != "12345678" || time.Since(begin) != 0 {
			t.Errorf("PONG %q after %v", pong.Data, time.Since(begin))
		}

		// Silence: 2 × heartbeat + 10 s.
		if err := <-down; err == nil || time.Since(begin) != 70*time.Second {
			t.Errorf("%v after %v of silence", err, time.Since(begin))
		}
		h.peer()
	})
}

func TestMalformedFromServer(t *testing.T) {
	for name, frame := range map[string][]byte{
		"reserved flag": {0, 0, 0, byte(codec.TypeMsg) | codec.FlagSealed},
		"too long":      {0xff, 0xff, 0xff, byte(codec.TypeMsg)},
		"truncated":     {0, 0, 1, byte(codec.TypeSendAck), 0},
		"not for us":    codec.AppendSend(nil, codec.Send{}),
		"unknown":       {0, 0, 0, 31},
		"ping":          {0, 0, 1, byte(codec.TypePing), 0},
		"second login":  codec.AppendWelcome(nil, codec.Welcome{}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				opt := h.options()
				down := make(chan error, 1)
				opt.OnDisconnect = func(err error) { down <- err }
				_, p := h.connected(opt)
				p.send(frame)
				if b := p.bye(); b.Code != codec.CodeMalformed {
					t.Errorf("BYE %v", b.Code)
				}
				if err := <-down; !errors.Is(err, codec.ErrMalformed) {
					t.Errorf("disconnected by %v", err)
				}
				h.peer().login(welcome())
			})
		})
	}
}

func TestSkippedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		for _, typ := range []codec.Type{24, 25, 26, 27} {
			p.send(codec.AppendFrame(nil, codec.Frame{Type: typ, Body: []byte{0, 0, 0, 0, 0, 0, 0, 0}}))
		}
		p.send(codec.AppendListed(nil, codec.Listed{Req: 99})) // answers nobody
		result := sendIn(t.Context(), c, Text(User("bob"), "x"))
		p.ack(p.sent().Req, codec.CodeOK, 0)
		if r := <-result; r.err != nil {
			t.Error(r.err)
		}
	})
}

func TestMigrate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var w windows
		opt.uniform = w.draw
		opt.StaticToken = "secret"
		c, p := h.connected(opt)
		order := codec.Migrate{Addr: []byte("node-2:7000"), Ticket: []byte("ticket"), MinMs: 2000, MaxMs: 8000}
		p.send(codec.AppendMigrate(nil, order))
		begin := time.Now()

		// Until then the connection is used, and what is under way at the end is still answered.
		time.Sleep(7999 * time.Millisecond)
		result := sendIn(t.Context(), c, Text(User("bob"), "x"))
		s := p.sent()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if _, err := c.Send(t.Context(), Text(User("bob"), "late")); !errors.Is(err, ErrNotConnected) {
			t.Errorf("a send while moving: %v", err)
		}
		f, _ := p.next()
		if f.Type != codec.TypeBye {
			t.Errorf("%v, want BYE", f.Type)
		}
		if r := <-result; !errors.Is(r.err, ErrLost) { // the peer closes at BYE without an answer
			t.Errorf("send %d: %+v", s.Req, r)
		}
		q := h.peer()
		if hello := q.login(welcome()); string(hello.Token) != "ticket" {
			t.Errorf("HELLO's token is %q", hello.Token)
		}
		if d := q.begun.Sub(begin); d != 8*time.Second || w.drawn()[0] != [2]time.Duration{2 * time.Second, 8 * time.Second} {
			t.Errorf("moved after %v, drawn from %v", d, w.drawn()[0])
		}
		if a := h.dialled(); a[len(a)-1] != "node-2:7000" {
			t.Errorf("dialled %v", a)
		}

		// The next one is an ordinary one.
		synctest.Wait()
		q.nc.Close()
		if hello := h.peer().hello(); string(hello.Token) != "secret" {
			t.Errorf("HELLO's token is %q", hello.Token)
		}
		if a := h.dialled(); a[len(a)-1] != "node-1:7000" {
			t.Errorf("dialled %v", a)
		}
	})
}

// A ticket that is refused is not the end: the usual address and token still count.
func TestMigrateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		_, p := h.connected(h.options())
		p.send(codec.AppendMigrate(nil, codec.Migrate{Addr: []byte("node-2:7000"), Ticket: []byte("ticket")}))
		p.bye()
		q := h.peer()
		q.hello()
		q.sayBye(codec.Bye{Code: codec.CodeUnauthorized})
		r := h.peer()
		if hello := r.login(welcome()); len(hello.Token) != 0 {
			t.Errorf("HELLO's token is %q", hello.Token)
		}
	})
}

// A server that migrates all the time is not followed in a tight loop.
func TestMigrateLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.uniform = func(_, max time.Duration) time.Duration { return max }
		h.run(opt)
		begin := time.Now()
		for range 10 {
			p := h.peer()
			p.login(welcome())
			p.send(codec.AppendMigrate(nil, codec.Migrate{Addr: []byte("node-1:7000"), Ticket: []byte("ticket")}))
		}
		if d := time.Since(begin); d < 10*time.Second {
			t.Errorf("10 connections in %v", d)
		}
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		for range 100 {
			if err := c.SendAsync(Text(User("bob"), "x")); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		for range 100 {
			p.sent()
		}
		if b := p.bye(); b.Code != codec.CodeOK {
			t.Errorf("BYE %v", b.Code)
		}
		if _, err := p.nc.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.EOF) {
			t.Errorf("the connection is open: %v", err)
		}
		c.Close() // again is nothing
	})
}

func TestCloseBeforeRun(t *testing.T) {
	c, err := New(Options{Addrs: []string{"127.0.0.1:1"}, User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := c.Run(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}
