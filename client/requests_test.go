package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

type outcome struct {
	res SendResult
	err error
}

func sendIn(ctx context.Context, c *Client, m Message) chan outcome {
	ch := make(chan outcome, 1)
	go func() {
		res, err := c.Send(ctx, m)
		ch <- outcome{res, err}
	}()
	synctest.Wait()
	return ch
}

func TestSendFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Origin = []byte("me")
		c, p := h.connected(opt)
		for _, ch := range []Channel{User("bob"), Topic("news"), Group("g"), All()} {
			m := Message{Channel: ch, Content: JSON, Payload: []byte(`{}`), Tags: []string{"a", "b"}, TTL: 1500 * time.Millisecond, Urgent: true}
			result := sendIn(t.Context(), c, m)
			s := p.sent()
			p.ack(s.Req, codec.CodeOK, 0)
			if r := <-result; r.err != nil || r.res.Time.UnixMilli() != 1000 {
				t.Fatalf("result %+v", r)
			}
			ttl, _ := s.Ext.Uint32(codec.TagTTL)
			origin, _ := s.Ext.Get(codec.TagOrigin)
			var tags []string
			for tag, v := range s.Ext.All() {
				if tag == codec.TagRoute {
					tags = append(tags, string(v))
				}
			}
			if s.Req == 0 || s.Nonce != 0 || s.Kind != ch.Kind || string(s.Name) != ch.Name || s.Content != codec.ContentJSON ||
				s.Flags != codec.MsgUrgent || string(s.Payload) != `{}` || ttl != 2 || string(origin) != "me" || fmt.Sprint(tags) != "[a b]" {
				t.Errorf("%v: SEND %+v, ttl %d, origin %q, tags %v", ch, s, ttl, origin, tags)
			}
		}
	})
}

func TestAnswersOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		var results []chan outcome
		var reqs []uint32
		for i := range 5 {
			results = append(results, sendIn(t.Context(), c, Text(User("bob"), fmt.Sprint(i))))
			reqs = append(reqs, p.sent().Req)
		}
		for _, i := range []int{3, 0, 4, 2, 1} {
			p.ack(99999, codec.CodeInvalid, 0) // answers nobody
			p.ack(reqs[i], codec.CodeOK, uint64(100+i))
		}
		for i, ch := range results {
			if r := <-ch; r.err != nil || r.res.Seq != uint64(100+i) {
				t.Errorf("send %d: %+v", i, r)
			}
		}
	})
}

func TestSendRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		for code, temporary := range map[codec.Code]bool{codec.CodeBusy: true, codec.CodeForbidden: false} {
			result := sendIn(t.Context(), c, Text(User("bob"), "x"))
			p.ack(p.sent().Req, code, 0)
			r := <-result
			wantCode(t, r.err, code)
			if ce := r.err.(*CodeError); ce.Temporary() != temporary {
				t.Errorf("%v: Temporary %v", code, ce.Temporary())
			}
		}
		result := sendIn(t.Context(), c, Text(User("bob"), "x"))
		p.send(codec.AppendErr(nil, codec.Err{Req: p.sent().Req, Code: codec.CodeInvalid, Text: []byte("why")}))
		if r := <-result; r.err == nil || r.err.Error() != "send: INVALID: why" {
			t.Errorf("error %v", r.err)
		}
	})
}

// The window counts what the server has not answered, also when the caller no longer waits.
func TestSendWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, _ := h.run(h.options())
		p := h.peer()
		w := welcome()
		w.Window = 2
		p.login(w)
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		given := sendIn(ctx, c, Text(User("bob"), "1"))
		second := sendIn(t.Context(), c, Text(User("bob"), "2"))
		one, two := p.sent(), p.sent()
		cancel()
		if r := <-given; !errors.Is(r.err, context.Canceled) {
			t.Fatalf("given up: %+v", r)
		}
		third := sendIn(t.Context(), c, Text(User("bob"), "3"))
		if n := len(p.frames); n != 0 {
			t.Fatalf("%d frames went beyond the window", n)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Send(short, Text(User("bob"), "4")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a send without a slot: %v", err)
		}
		p.ack(one.Req, codec.CodeOK, 0)
		three := p.sent()
		if string(three.Payload) != "3" {
			t.Errorf("payload %q", three.Payload)
		}
		p.ack(three.Req, codec.CodeOK, 0)
		p.ack(two.Req, codec.CodeOK, 0)
		for _, ch := range []chan outcome{second, third} {
			if r := <-ch; r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

func TestSendAsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Queue = 4
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SendAsync(Text(User("bob"), "x")); !errors.Is(err, ErrNotConnected) {
			t.Errorf("before Run: %v", err)
		}
		go c.Run(context.Background())
		defer c.Close()
		p := h.peer()
		p.login(welcome())
		synctest.Wait()
		if err := c.SendAsync(Text(User("bob"), "x")); err != nil {
			t.Fatal(err)
		}
		if s := p.sent(); s.Req != 0 {
			t.Errorf("req %d, want 0", s.Req)
		}
	})
}

// stalled is a connection whose server has stopped reading.
func stalled(t *testing.T, queue int) (*Client, *peer) {
	h := newHarness(t)
	opt := h.options()
	opt.Queue = queue
	c, p := h.connected(opt)
	for len(p.frames) < cap(p.frames) { // then pump stands still
		p.frames <- codec.Frame{}
	}
	return c, p
}

func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := stalled(t, 4)
		big := Message{Channel: Topic("news"), Payload: make([]byte, 40<<10)}
		var err error
		taken := 0
		for ; err == nil && taken < 100; taken++ {
			err = c.SendAsync(big)
			synctest.Wait()
		}
		if !errors.Is(err, ErrBusy) || taken < 4 {
			t.Fatalf("after %d: %v", taken, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Send(ctx, Text(User("bob"), "x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send: %v", err)
		}
		if err := c.SetState(ctx, Topic("news"), "typing", 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("SetState: %v", err)
		}
		cn, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		if len(cn.window) != 0 || len(cn.pending) != 0 { // it was never sent
			t.Errorf("%d slots and %d requests are held", len(cn.window), len(cn.pending))
		}
		c.Close()
		p.nc.Close()
		for range cap(p.frames) + 8 { // let pump go
			select {
			case <-p.frames:
			case <-time.After(time.Second):
			}
		}
	})
}

func TestLostRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		result := sendIn(t.Context(), c, Text(User("bob"), "x"))
		pinged := make(chan error, 1)
		go func() { _, err := c.Ping(t.Context()); pinged <- err }()
		synctest.Wait()
		p.nc.Close()
		if r := <-result; !errors.Is(r.err, ErrLost) || !errors.Is(r.err, ErrNotConnected) {
			t.Errorf("Send: %v", r.err)
		}
		if err := <-pinged; !errors.Is(err, ErrLost) {
			t.Errorf("Ping: %v", err)
		}
		if _, err := c.Send(t.Context(), Text(User("bob"), "x")); !errors.Is(err, ErrNotConnected) || errors.Is(err, ErrLost) {
			t.Errorf("Send without a connection: %v", err)
		}
		if err := c.SetState(t.Context(), Topic("news"), "k", 0, nil); !errors.Is(err, ErrNotConnected) {
			t.Errorf("SetState without a connection: %v", err)
		}
	})
}

// What the server would take for malformed never leaves the client.
func TestRefusedBeforeSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		long := strings.Repeat("x", 65)
		for name, m := range map[string]Message{
			"no kind":    {Channel: Channel{Name: "x"}},
			"no name":    {Channel: User("")},
			"long name":  {Channel: Topic(long)},
			"control":    {Channel: Topic("a\nb")},
			"long tag":   {Channel: Topic("x"), Tags: []string{long}},
			"empty tag":  {Channel: Topic("x"), Tags: []string{""}},
			"many tags":  {Channel: Topic("x"), Tags: make([]string, 9)},
			"bad ttl":    {Channel: Topic("x"), TTL: -1},
			"longer ttl": {Channel: Topic("x"), TTL: 200 * 365 * 24 * time.Hour},
		} {
			_, err := c.Send(t.Context(), m)
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			wantCode(t, err, codec.CodeInvalid)
		}
		_, err := c.Send(t.Context(), Message{Channel: Topic("x"), Payload: make([]byte, codec.DefaultLimit)})
		wantCode(t, err, codec.CodeTooLarge)
		wantCode(t, c.SendAsync(Message{Channel: Topic("x"), Payload: make([]byte, codec.DefaultLimit)}), codec.CodeTooLarge)
		wantCode(t, c.SetState(t.Context(), Topic("x"), "k", 0, make([]byte, codec.DefaultLimit)), codec.CodeTooLarge)
		wantCode(t, c.SetState(t.Context(), Topic("x"), strings.Repeat("k", 256), 0, nil), codec.CodeInvalid)
		wantCode(t, c.SetState(t.Context(), Topic("x"), "k", 100*time.Hour, nil), codec.CodeInvalid)
		wantCode(t, c.Subscribe(t.Context(), ""), codec.CodeInvalid)
		wantCode(t, c.Unsubscribe(t.Context(), ""), codec.CodeInvalid)
		if len(p.frames) != 0 {
			t.Error("something was sent")
		}
	})
}

// The largest payload that passes makes a frame of exactly max_frame.
func TestLargestPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		m := Message{Channel: Topic("x"), Tags: []string{"tag"}}
		n := codec.DefaultLimit
		for ; n > 0; n-- {
			m.Payload = make([]byte, n)
			if c.SendAsync(m) == nil {
				break
			}
		}
		f, _ := p.next()
		if got := len(codec.AppendFrame(nil, f)) - codec.HeaderLen; got != codec.DefaultLimit {
			t.Errorf("the largest frame has a body of %d bytes, want %d", got, codec.DefaultLimit)
		}
		err := c.SetState(t.Context(), Topic("x"), "key", 0, make([]byte, codec.DefaultLimit-1-2-4-1-2))
		if err != nil {
			t.Fatal(err)
		}
		if f, _ := p.next(); len(f.Body) != codec.DefaultLimit {
			t.Errorf("the largest STATE has a body of %d bytes", len(f.Body))
		}
	})
}

func TestSetState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		failed := make(chan error, 1)
		opt.OnError = func(err error) { failed <- err }
		c, p := h.connected(opt)
		if err := c.SetState(t.Context(), User("bob"), "typing", 4500*time.Millisecond, []byte("1")); err != nil {
			t.Fatal(err)
		}
		s := p.state()
		if s.Kind != codec.KindDirect || string(s.Name) != "bob" || string(s.Key) != "typing" || len(s.User) != 0 || s.TTL != 5 || string(s.Payload) != "1" {
			t.Errorf("STATE %+v", s)
		}
		p.send(codec.AppendErr(nil, codec.Err{Code: codec.CodeForbidden, Text: []byte("not here")}))
		wantCode(t, <-failed, codec.CodeForbidden)
	})
}

func TestPingAndSetHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		rtt := make(chan time.Duration, 1)
		go func() {
			d, err := c.Ping(t.Context())
			if err != nil {
				t.Error(err)
			}
			rtt <- d
		}()
		ping := p.pinged()
		time.Sleep(120 * time.Millisecond)
		p.send(codec.AppendPong(nil, codec.Ping{Data: []byte("stranger")}))
		p.send(codec.AppendPong(nil, ping))
		if d := <-rtt; d != 120*time.Millisecond {
			t.Errorf("round trip %v", d)
		}

		inForce := make(chan time.Duration, 1)
		go func() {
			d, err := c.SetHeartbeat(t.Context(), 300*time.Second)
			if err != nil {
				t.Error(err)
			}
			inForce <- d
		}()
		wish := p.pinged()
		if secs, _ := wish.Ext.Uint16(codec.TagHeartbeat); secs != 300 {
			t.Errorf("wish %d", secs)
		}
		p.send(codec.AppendPong(nil, codec.Ping{Data: wish.Data, Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, 240)}))
		if d := <-inForce; d != 240*time.Second {
			t.Errorf("in force %v", d)
		}
		begin := time.Now()
		p.pinged()
		if d := time.Since(begin); d != 240*time.Second {
			t.Errorf("the next heartbeat came after %v", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping without an answer: %v", err)
		}
		_, err := c.SetHeartbeat(t.Context(), 0)
		wantCode(t, err, codec.CodeInvalid)

		// The wish outlives the connection.
		p.nc.Close()
		if hello := h.peer().hello(); hello.Heartbeat != 300 {
			t.Errorf("HELLO asks for %d", hello.Heartbeat)
		}
	})
}
