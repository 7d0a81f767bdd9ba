package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

func (p *peer) subAck(req uint32, code codec.Code) {
	p.t.Helper()
	p.send(codec.AppendSubAck(nil, codec.SubAck{Req: req, Code: code}))
}

func tagsOf(ext codec.TLVs) (tags []string) {
	for tag, v := range ext.All() {
		if tag == codec.TagRoute {
			tags = append(tags, string(v))
		}
	}
	return tags
}

func subscribeIn(c *Client, topic string, tags ...string) chan error {
	ch := make(chan error, 1)
	go func() { ch <- c.Subscribe(context.Background(), topic, tags...) }()
	return ch
}

func topics(h codec.Hello) (names []string) {
	for p := range h.Positions.All() {
		names = append(names, string(p.Name))
	}
	return names
}

func TestSubscriptionsSurviveReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		for _, topic := range []string{"a", "b", "gone"} {
			result := subscribeIn(c, topic)
			s := p.sub()
			if s.Kind != codec.KindTopic || string(s.Name) != topic || s.Mode != codec.SubFromNow {
				t.Errorf("SUB %+v", s)
			}
			p.subAck(s.Req, codec.CodeOK)
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		filtered := subscribeIn(c, "f", "x", "y")
		s := p.sub()
		if !slices.Equal(tagsOf(s.Ext), []string{"x", "y"}) {
			t.Errorf("filter %v", tagsOf(s.Ext))
		}
		p.subAck(s.Req, codec.CodeOK)
		if err := <-filtered; err != nil {
			t.Fatal(err)
		}
		unsubscribed := make(chan error, 1)
		go func() { unsubscribed <- c.Unsubscribe(t.Context(), "gone") }()
		u := expect(p, codec.TypeUnsub, codec.ConsumeUnsub)
		p.subAck(u.Req, codec.CodeOK)
		if err := <-unsubscribed; err != nil || string(u.Name) != "gone" {
			t.Fatalf("UNSUB %+v: %v", u, err)
		}

		p.nc.Close()
		q := h.peer()
		if got := topics(q.login(welcome())); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("HELLO asks for %v", got)
		}
		s = q.sub()
		if string(s.Name) != "f" || !slices.Equal(tagsOf(s.Ext), []string{"x", "y"}) {
			t.Errorf("SUB %+v", s)
		}
		q.subAck(s.Req, codec.CodeOK)
	})
}

func TestSubscribeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		for _, ack := range []codec.SubAck{{Code: codec.CodeForbidden}, {Code: codec.CodeRateLimited}, {State: codec.StateRefused}} {
			result := subscribeIn(c, "a")
			ack.Req = p.sub().Req
			p.send(codec.AppendSubAck(nil, ack))
			var refused *CodeError
			if err := <-result; !errors.As(err, &refused) {
				t.Errorf("%+v: %v", ack, err)
			}
		}
		p.nc.Close()
		if got := topics(h.peer().hello()); len(got) != 0 {
			t.Errorf("HELLO asks for %v", got)
		}
	})
}

// HELLO holds what fits into its 4 KiB, the rest follows as pipelined SUBs.
func TestManySubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 1000
		h := newHarness(t)
		c, err := New(h.options())
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]bool)
		for i := range total {
			topic := fmt.Sprintf("topic-with-a-name-%04d", i)
			want[topic] = true
			if err := c.Subscribe(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
		}
		go c.Run(context.Background())
		defer c.Close()
		p := h.peer()
		hello := p.login(welcome())
		inHello := hello.Positions.Len()
		if size := len(codec.AppendHello(nil, hello)) - codec.HeaderLen; size > codec.LoginLimit || size < codec.LoginLimit-64 {
			t.Errorf("HELLO has %d bytes with %d positions", size, inHello)
		}
		for _, topic := range topics(hello) {
			delete(want, topic)
		}
		synctest.Wait()
		if n := len(p.frames); n != maxReads {
			t.Errorf("%d SUBs without an answer, want %d", n, maxReads)
		}
		for range total - inHello {
			s := p.sub()
			delete(want, string(s.Name))
			p.subAck(s.Req, codec.CodeOK)
		}
		if len(want) != 0 {
			t.Errorf("%d topics were not asked for", len(want))
		}
	})
}

func TestRefusedRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		failed := make(chan error, 8)
		opt.OnError = func(err error) { failed <- err }
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"a", "forbidden"} {
			c.Subscribe(t.Context(), topic)
		}
		c.Subscribe(t.Context(), "later", "tag")
		c.Subscribe(t.Context(), "never", "tag")
		go c.Run(context.Background())
		defer c.Close()
		p := h.peer()
		w := welcome()
		w.States.Append(codec.State{})
		w.States.Append(codec.State{State: codec.StateRefused})
		p.login(w)
		later, never := p.sub(), p.sub()
		p.subAck(later.Req, codec.CodeBusy)
		p.subAck(never.Req, codec.CodeForbidden)
		lost := map[string]bool{}
		for range 2 {
			var se *SubscriptionError
			err := <-failed
			if !errors.As(err, &se) {
				t.Fatalf("OnError(%v)", err)
			}
			wantCode(t, err, codec.CodeForbidden)
			lost[se.Topic] = true
		}
		if !lost["forbidden"] || !lost["never"] {
			t.Errorf("lost %v", lost)
		}
		again := p.sub()
		if string(again.Name) != "later" {
			t.Errorf("SUB %q", again.Name)
		}
		p.subAck(again.Req, codec.CodeOK)
		synctest.Wait()
		p.nc.Close()
		q := h.peer()
		if got := topics(q.login(welcome())); !slices.Equal(got, []string{"a"}) {
			t.Errorf("HELLO asks for %v", got)
		}
		if s := q.sub(); string(s.Name) != "later" {
			t.Errorf("SUB %q", s.Name)
		}
	})
}

// Wishes that change between HELLO and WELCOME are not lost.
func TestSubscribeDuringLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, err := New(h.options())
		if err != nil {
			t.Fatal(err)
		}
		c.Subscribe(t.Context(), "old")
		c.Subscribe(t.Context(), "changed")
		go c.Run(context.Background())
		defer c.Close()
		p := h.peer()
		hello := p.hello()
		c.Subscribe(t.Context(), "new")
		c.Subscribe(t.Context(), "changed", "tag")
		c.Unsubscribe(t.Context(), "old")
		if _, err := c.SetHeartbeat(t.Context(), 100*time.Second); err != nil {
			t.Fatal(err)
		}
		w := welcome()
		for range hello.Positions.Len() {
			w.States.Append(codec.State{})
		}
		p.send(codec.AppendWelcome(nil, w))
		got := map[string]bool{}
		for range 4 {
			f, ok := p.next()
			if !ok {
				t.Fatal("the connection ended")
			}
			switch f.Type {
			case codec.TypePing:
				ping, _ := codec.ConsumePing(f)
				secs, _ := ping.Ext.Uint16(codec.TagHeartbeat)
				got[fmt.Sprint("heartbeat ", secs)] = true
			case codec.TypeUnsub:
				u, _ := codec.ConsumeUnsub(f)
				got["un "+string(u.Name)] = true
				p.subAck(u.Req, codec.CodeOK)
			case codec.TypeSub:
				s, _ := codec.ConsumeSub(f)
				got[fmt.Sprint("sub ", string(s.Name), tagsOf(s.Ext))] = true
				p.subAck(s.Req, codec.CodeOK)
			}
		}
		for _, want := range []string{"un old", "sub new[]", "sub changed[tag]", "heartbeat 100"} {
			if !got[want] {
				t.Errorf("no %q in %v", want, got)
			}
		}
	})
}

func TestSubscribeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.connected(h.options())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Subscribe(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Subscribe: %v", err)
		}
		p.sub()
		lost := subscribeIn(c, "b")
		p.sub()
		p.nc.Close()
		if err := <-lost; err != nil { // the next login asks for it
			t.Errorf("Subscribe: %v", err)
		}
		if got := topics(h.peer().hello()); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("HELLO asks for %v", got)
		}
	})
}
