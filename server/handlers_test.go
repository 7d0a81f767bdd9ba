package server_test

import (
	"fmt"
	"sync"
	"testing"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// record is what handlers were told, by user.
type record struct {
	mu     sync.Mutex
	events map[string][]string
}

func (r *record) add(user, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = map[string][]string{}
	}
	r.events[user] = append(r.events[user], fmt.Sprintf(format, args...))
}

func (r *record) of(user string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events[user]...)
}

func (r *record) handlers() server.Handlers {
	return server.Handlers{
		Online:  func(s server.Session) { r.add(s.User, "online %s", s.Device) },
		Offline: func(s server.Session, c codec.Code) { r.add(s.User, "offline %s %v", s.Device, c) },
		Message: func(m server.Message) { r.add(m.From.User, "%v %q %s", m.Kind, m.Name, m.Payload) },
	}
}

func TestHandlersAreCalledInOrder(t *testing.T) {
	var r record
	n := servertest.Start(t, server.Options{Loops: 2, Handlers: r.handlers()})
	const users, messages = 8, 50
	var wg sync.WaitGroup
	for u := range users {
		c := servertest.Login(t, n.Addr(), fmt.Sprint("u", u), "d")
		wg.Go(func() {
			for i := range messages {
				_, _ = c.Write(topicSend(0, "t", fmt.Sprint(i)))
			}
			_, _ = c.Write(codec.AppendBye(nil, codec.Bye{}))
		})
	}
	wg.Wait()
	for u := range users {
		user := fmt.Sprint("u", u)
		eventually(t, "all was told of "+user, func() bool { return len(r.of(user)) == messages+2 })
		got := r.of(user)
		if got[0] != "online d" || got[messages+1] != "offline d OK" {
			t.Errorf("%s: first %q, last %q", user, got[0], got[messages+1])
		}
		for i := range messages {
			if want := fmt.Sprintf("topic %q %d", "t", i); got[i+1] != want {
				t.Fatalf("%s: event %d is %q, want %q", user, i+1, got[i+1], want)
			}
		}
	}
}

func TestHandlersLearnWhy(t *testing.T) {
	var r record
	n := servertest.Start(t, server.Options{Handlers: r.handlers()})
	c := servertest.Login(t, n.Addr(), "mallory", "d")
	c.Send(frame(31, ""))
	c.Bye(codec.CodeMalformed)
	k := servertest.Login(t, n.Addr(), "kim", "d")
	n.Kick("kim", "", "")
	k.Bye(codec.CodeKicked)
	b := servertest.Login(t, n.Addr(), "bob", "d")
	b.Send(directSend(1, "ann", "hi"))
	b.SendAck()
	if err := n.Stop(); err != nil { // what waits is told before Run returns
		t.Fatal(err)
	}
	for user, want := range map[string][]string{
		"mallory": {"online d", "offline d MALFORMED"}, "kim": {"online d", "offline d KICKED"},
		"bob": {"online d", `direct "ann\x1fbob" hi`, "offline d DRAINING"},
	} {
		if got := r.of(user); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", user, got, want)
		}
	}
}

// A handler that is too slow loses events, which are counted; the connections do not wait for it.
func TestSlowHandler(t *testing.T) {
	const sends = 500
	free := make(chan struct{})
	var called sync.WaitGroup
	called.Add(1)
	var once sync.Once
	handled := 0
	n := servertest.Start(t, server.Options{
		Limits:   server.Limits{HandlerQueue: 80},
		Handlers: server.Handlers{Message: func(server.Message) { once.Do(called.Done); <-free; handled++ }},
	})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	c.Send(topicSend(1, "t", "x"))
	c.SendAck()
	called.Wait()
	for range sends - 1 {
		c.Send(topicSend(1, "t", "x"))
		if a := c.SendAck(); a.Code != codec.CodeOK {
			t.Fatalf("SENDACK %+v", a)
		}
	}
	m := metricsOf(t, n)
	dropped, waiting := m["gannet_handler_dropped_total"], m["gannet_handler_waiting"]
	if waiting != 10 || dropped != sends-1-10 { // a user's lane has an eighth of the queue
		t.Errorf("%v dropped, %v waiting, want %d and 10", dropped, waiting, sends-11)
	}
	close(free)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if handled != 11 {
		t.Errorf("%d messages were handled, want 11", handled)
	}
}

// A handler that panics loses the event, not the process.
func TestHandlerThatPanics(t *testing.T) {
	got := make(chan string, 10)
	n := servertest.Start(t, server.Options{Handlers: server.Handlers{Message: func(m server.Message) {
		if string(m.Payload) == "boom" {
			panic("a bug")
		}
		got <- string(m.Payload)
	}}})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	c.Send(topicSend(0, "t", "boom"), topicSend(0, "t", "after"))
	if text := <-got; text != "after" {
		t.Errorf("handled %q", text)
	}
	if p := metricsOf(t, n)["gannet_panics_total"]; p != 1 {
		t.Errorf("%v panics were counted, want 1", p)
	}
}
