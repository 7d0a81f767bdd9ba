package main

import (
	"bufio"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"gannet/codec"
)

// hub is just enough of a server for the commands that talk to one: logins, direct messages, topics and their states. Each
// frame is handled under one lock.
type hub struct {
	t    *testing.T
	addr string
	ln   net.Listener

	mu       sync.Mutex
	sessions map[*hubSession]bool
	kept     []codec.StateUpdate // latest values of topics
	refuse   codec.Code          // for SENDs
	bye      *codec.Bye          // instead of WELCOME
}

type hubSession struct {
	nc     net.Conn
	user   string
	topics map[string]bool
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t, sessions: map[*hubSession]bool{}}
	for range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(20000+mathrand.IntN(12000)))
		if err == nil {
			h.ln, h.addr = ln, ln.Addr().String()
			break
		}
	}
	if h.ln == nil {
		t.Fatal("no free port")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := h.ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.serve(nc) })
		}
	})
	t.Cleanup(func() {
		h.ln.Close()
		h.drop()
		wg.Wait()
	})
	return h
}

// drop cuts every connection.
func (h *hub) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sessions {
		s.nc.Close()
	}
}

func (h *hub) serve(nc net.Conn) {
	s := &hubSession{nc: nc, topics: map[string]bool{}}
	h.mu.Lock()
	h.sessions[s] = true
	h.mu.Unlock()
	defer func() {
		nc.Close()
		h.mu.Lock()
		delete(h.sessions, s)
		h.mu.Unlock()
	}()
	in := bufio.NewReader(nc)
	for {
		head := make([]byte, codec.HeaderLen)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		n, _, _, _ := codec.ConsumeHeader(head)
		b := append(head, make([]byte, n)...)
		if _, err := io.ReadFull(in, b[codec.HeaderLen:]); err != nil {
			return
		}
		f, _, err := codec.ConsumeFrame(b, codec.MaxBody)
		if err != nil || f.Type == codec.TypeBye {
			return
		}
		h.mu.Lock()
		over := h.frame(s, f)
		h.mu.Unlock()
		if over {
			return
		}
	}
}

func (h *hub) frame(s *hubSession, f codec.Frame) (over bool) {
	switch f.Type {
	case codec.TypeHello:
		hello, _ := codec.ConsumeHello(f)
		s.user = string(hello.User)
		if h.bye != nil {
			s.nc.Write(codec.AppendBye(nil, *h.bye))
			return true
		}
		w := codec.Welcome{Version: 1, Heartbeat: 60, MaxFrame: codec.DefaultLimit, Window: 16, Node: []byte("hub"), User: hello.User}
		for p := range hello.Positions.All() {
			w.States.Append(codec.State{})
			s.topics[string(p.Name)] = true
		}
		s.nc.Write(codec.AppendWelcome(nil, w))
		for topic := range s.topics {
			h.subscribed(s, topic)
		}
	case codec.TypeSub:
		sub, _ := codec.ConsumeSub(f)
		s.topics[string(sub.Name)] = true
		s.nc.Write(codec.AppendSubAck(nil, codec.SubAck{Req: sub.Req}))
		h.subscribed(s, string(sub.Name))
	case codec.TypeUnsub:
		u, _ := codec.ConsumeUnsub(f)
		delete(s.topics, string(u.Name))
		s.nc.Write(codec.AppendSubAck(nil, codec.SubAck{Req: u.Req}))
	case codec.TypePing:
		s.nc.Write(codec.AppendPong(nil, codec.Ping{Data: f.Body}))
	case codec.TypeSend:
		h.sent(s, f)
	case codec.TypeState:
		h.state(s, f)
	}
	return false
}

func (h *hub) subscribed(s *hubSession, topic string) {
	for _, st := range h.kept {
		if string(st.Name) == topic {
			s.nc.Write(codec.AppendState(nil, st))
		}
	}
}

func (h *hub) sent(s *hubSession, f codec.Frame) {
	m, _ := codec.ConsumeSend(f)
	ack := codec.SendAck{Req: m.Req, Code: h.refuse, Time: 1}
	if m.Req != 0 {
		s.nc.Write(codec.AppendSendAck(nil, ack))
	}
	if h.refuse != codec.CodeOK {
		return
	}
	out := codec.Msg{
		Ext: m.Ext, Kind: m.Kind, Name: m.Name, Time: uint64(time.Date(2030, 1, 2, 15, 4, 5, 0, time.UTC).UnixMilli()),
		Sender: []byte(s.user), Content: m.Content, Payload: m.Payload,
	}
	peer := string(m.Name)
	if m.Kind == codec.KindDirect {
		out.Name = codec.AppendPair(nil, []byte(s.user), m.Name)
	}
	for r := range h.sessions {
		if m.Kind == codec.KindTopic && r.topics[peer] || m.Kind == codec.KindDirect && r != s && (r.user == peer || r.user == s.user) {
			r.nc.Write(codec.AppendMsg(nil, out))
		}
	}
}

func (h *hub) state(s *hubSession, f codec.Frame) {
	st, _ := codec.ConsumeState(f)
	if st.Kind != codec.KindTopic {
		return
	}
	st.User = []byte(s.user)
	h.kept = append(h.kept, st)
	for r := range h.sessions {
		if r.topics[string(st.Name)] {
			r.nc.Write(codec.AppendState(nil, st))
		}
	}
}

// awaitUsers waits until so many sessions have logged in.
func (h *hub) awaitUsers(want int) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		h.mu.Lock()
		n := 0
		for s := range h.sessions {
			if s.user != "" {
				n++
			}
		}
		h.mu.Unlock()
		if n == want {
			return
		}
	}
	h.t.Fatalf("%d users did not log in", want)
}
