package server_test

import (
	"context"
	"fmt"
	"testing"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/shard"
)

// onBothLoops logs devices of a user in until two of them are on different loops, and returns these.
func onBothLoops(t *testing.T, n *servertest.Node, user string) (a, b *servertest.Conn) {
	t.Helper()
	byShard := map[int]*servertest.Conn{}
	for i := range 60 {
		device := fmt.Sprint("d", i)
		c := servertest.Login(t, n.Addr(), user, device)
		on := session(t, n, user, device).Shard
		if byShard[on] != nil {
			c.Close()
			continue
		}
		if byShard[on] = c; len(byShard) == 2 {
			eventually(t, "the other devices are gone", func() bool { return len(sessions(t, n, user)) == 2 })
			return byShard[0], byShard[1]
		}
	}
	t.Fatal("all connections came to the same loop")
	return nil, nil
}

func sessions(t *testing.T, n *servertest.Node, users ...string) []shard.SessionInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Patience)
	defer cancel()
	infos, err := n.Sessions(ctx, users)
	if err != nil {
		t.Fatal(err)
	}
	return infos
}

func session(t *testing.T, n *servertest.Node, user, device string) shard.SessionInfo {
	t.Helper()
	for _, i := range sessions(t, n, user) {
		if i.Device == device {
			return i
		}
	}
	t.Fatalf("no session of %s on %s", user, device)
	return shard.SessionInfo{}
}

func TestPing(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	c.Ping()
	c.Send(codec.AppendPing(nil, codec.Ping{}))
	if p := servertest.Expect(c, codec.TypePong, codec.ConsumePing); len(p.Data) != 0 {
		t.Errorf("PONG holds %q, want nothing", p.Data)
	}
	for wish, want := range map[uint16]uint16{20: 20, 1: 15, 60000: 590, 0: 60} {
		c.Send(codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, wish)}))
		p := servertest.Expect(c, codec.TypePong, codec.ConsumePing)
		if got, ok := p.Ext.Uint16(codec.TagHeartbeat); !ok || got != want {
			t.Errorf("wished for a heartbeat of %d s, got %d, want %d", wish, got, want)
		}
	}
}

// The server asks after one heartbeat of silence and gives up some time later.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, limits(server.Limits{HeartbeatMin: 1e9, HeartbeatMax: 1e9}))
	silent := servertest.Login(t, n.Addr(), "silent", "d")
	alive := servertest.Login(t, n.Addr(), "alive", "d")
	for range 2 {
		servertest.Expect(alive, codec.TypePing, codec.ConsumePing)
		alive.Send(codec.AppendPong(nil, codec.Ping{}))
	}
	servertest.Expect(silent, codec.TypePing, codec.ConsumePing)
	if b := silent.Bye(codec.CodeIdle); b.Retry != 1 {
		t.Errorf("BYE %+v, want to come back", b)
	}
	if got := n.Stats().Pings; got < 3 {
		t.Errorf("%d pings were counted, want at least 3", got)
	}
}

func TestWelcome(t *testing.T) {
	n := servertest.Start(t, server.Options{Node: "n1", Loops: 2, Limits: server.Limits{MaxFrame: 100_000}})
	h := codec.Hello{Version: 9, Class: codec.ClassMobile, User: []byte("alice"), Device: []byte("d")}
	h.Positions.Append(codec.Position{Kind: codec.KindTopic, Name: []byte("news")})
	h.Positions.Append(codec.Position{Kind: codec.KindGroup, Name: []byte("g")})
	c := servertest.Dial(t, n.Addr())
	c.Send(codec.AppendHello(nil, h))
	w := c.Welcome()
	if w.Version != 1 || w.Heartbeat != 30 || w.MaxFrame != 100_000 || string(w.Node) != "n1" || string(w.User) != "alice" || w.Session == 0 || w.Window == 0 {
		t.Errorf("WELCOME %+v", w)
	}
	var states []uint8
	for s := range w.States.All() {
		states = append(states, s.State)
	}
	if fmt.Sprint(states) != fmt.Sprint([]uint8{codec.StateLive, codec.StateRefused}) {
		t.Errorf("states %v, want live and refused", states)
	}
	if targets, code := n.Publish(shard.Publication{Kind: codec.KindTopic, Name: "news", Sender: "desk"}); targets != 1 || code != codec.CodeOK {
		t.Errorf("published to %d shards: %v", targets, code)
	}
	if m := c.Msg(); string(m.Name) != "news" {
		t.Errorf("MSG %+v", m)
	}
}

// Direct messages reach every device of the peer and the sender's others, on whatever loop.
func TestDirect(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	alice0, alice1 := onBothLoops(t, n, "alice")
	bob0, bob1 := onBothLoops(t, n, "bob")
	eve := servertest.Login(t, n.Addr(), "eve", "d")
	alice0.Send(directSend(5, "bob", "hi"))
	if a := alice0.SendAck(); a.Req != 5 || a.Code != codec.CodeOK || a.Seq != 0 || a.Time == 0 {
		t.Errorf("SENDACK %+v", a)
	}
	pair := string(codec.AppendPair(nil, []byte("alice"), []byte("bob")))
	for _, c := range []*servertest.Conn{bob0, bob1, alice1} {
		if m := c.Msg(); m.Kind != codec.KindDirect || string(m.Name) != pair || string(m.Sender) != "alice" || string(m.Payload) != "hi" || m.Seq != 0 {
			t.Errorf("MSG %+v", m)
		}
	}
	alice0.Send(directSend(6, "alice", "note to myself"))
	alice0.SendAck()
	if m := alice1.Msg(); string(m.Payload) != "note to myself" {
		t.Errorf("MSG %+v", m)
	}
	alice0.Send(directSend(7, "nobody", "hello?"))
	if a := alice0.SendAck(); a.Code != codec.CodeOK {
		t.Errorf("SENDACK %+v", a)
	}
	if m := alice1.Msg(); string(m.Payload) != "hello?" { // the sender's other device has it all the same
		t.Errorf("MSG %+v", m)
	}
	for _, c := range []*servertest.Conn{alice0, alice1, bob0, bob1, eve} {
		c.Ping() // nothing else came
	}
}

// Topic messages reach the subscribers on all loops, the sender's session too, in order, and filters choose.
func TestTopic(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a, b := onBothLoops(t, n, "alice")
	c := servertest.Login(t, n.Addr(), "carol", "d")
	a.Sub("news")
	b.Sub("news", "red", "blue")
	tagged := func(text, tag string) []byte {
		s := codec.Send{Kind: codec.KindTopic, Name: []byte("news"), Payload: []byte(text)}
		if tag != "" {
			s.Ext = s.Ext.Append(codec.TagRoute, []byte(tag))
		}
		s.Ext = s.Ext.Append(codec.TagOrigin, []byte("me"))
		return codec.AppendSend(nil, s)
	}
	const rounds = 100
	for i := range rounds {
		a.Send(tagged(fmt.Sprint("plain", i), ""), tagged(fmt.Sprint("red", i), "red"), tagged(fmt.Sprint("green", i), "green"))
	}
	want := func(c *servertest.Conn, text string) {
		t.Helper()
		m := c.Msg()
		if string(m.Payload) != text {
			t.Fatalf("got %q, want %q", m.Payload, text)
		}
		if o, ok := m.Ext.Get(codec.TagOrigin); !ok || string(o) != "me" {
			t.Fatalf("origin %q", o)
		}
	}
	for i := range rounds {
		want(a, fmt.Sprint("plain", i))
		want(a, fmt.Sprint("red", i))
		want(a, fmt.Sprint("green", i))
		want(b, fmt.Sprint("red", i))
	}
	a.Send(codec.AppendUnsub(nil, codec.Unsub{Req: 2, Kind: codec.KindTopic, Name: []byte("news")}))
	if r := a.SubAck(); r.Req != 2 || r.Code != codec.CodeOK {
		t.Errorf("SUBACK %+v", r)
	}
	c.Send(tagged("last", "blue"))
	want(b, "last")
	for _, c := range []*servertest.Conn{a, b, c} {
		c.Ping()
	}
}

func TestAll(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a, b := onBothLoops(t, n, "alice")
	c := servertest.Login(t, n.Addr(), "carol", "d")
	a.Send(allSend(3, "fire"))
	acked, got := false, false
	for range 2 { // the own copy and the acknowledgement come in any order
		switch f := a.Next(); f.Type {
		case codec.TypeSendAck:
			acked = true
		case codec.TypeMsg:
			got = true
		}
	}
	if !acked || !got {
		t.Errorf("acknowledged %v, got its own %v", acked, got)
	}
	for _, c := range []*servertest.Conn{b, c} {
		if m := c.Msg(); m.Kind != codec.KindAll || string(m.Name) != codec.AllName || string(m.Sender) != "alice" || string(m.Payload) != "fire" {
			t.Errorf("MSG %+v", m)
		}
	}
}

// STATE reaches who is there, is kept for who comes, and ends with its setter.
func TestState(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a, b := onBothLoops(t, n, "alice")
	a.Sub("room")
	b.Sub("room")
	setter := servertest.Login(t, n.Addr(), "carol", "d")
	state := func(c *servertest.Conn) codec.StateUpdate {
		t.Helper()
		return servertest.Expect(c, codec.TypeState, codec.ConsumeState)
	}
	for _, topic := range []string{"room", "elsewhere", "x1", "x2"} { // owners on both loops
		setter.Send(codec.AppendState(nil, codec.StateUpdate{Kind: codec.KindTopic, Name: []byte(topic), Key: []byte("mood"), Payload: []byte("good")}))
	}
	for _, c := range []*servertest.Conn{a, b} {
		if s := state(c); string(s.User) != "carol" || string(s.Key) != "mood" || string(s.Payload) != "good" {
			t.Errorf("STATE %+v", s)
		}
	}
	for _, topic := range []string{"room", "elsewhere", "x1", "x2"} {
		late := servertest.Login(t, n.Addr(), "late", topic)
		late.Sub(topic)
		if s := state(late); string(s.Payload) != "good" || string(s.Name) != topic {
			t.Errorf("STATE %+v for who came late", s)
		}
		late.Close()
	}
	setter.Close()
	for _, c := range []*servertest.Conn{a, b} {
		if s := state(c); len(s.Payload) != 0 || string(s.User) != "carol" {
			t.Errorf("STATE %+v, want the value removed", s)
		}
	}
	a.Send(codec.AppendState(nil, codec.StateUpdate{Kind: codec.KindTopic, Name: []byte("room"), Key: []byte("k"), User: []byte("bob"), Payload: []byte("x")}))
	if e := servertest.Expect(a, codec.TypeErr, codec.ConsumeErr); e.Code != codec.CodeForbidden || e.Req != 0 {
		t.Errorf("ERR %+v, want FORBIDDEN for another user's state", e)
	}
	eventually(t, "no value is kept", func() bool { return n.Stats().States == 0 })
}

// The same device again: the newer session wins, wherever the two are.
func TestReplaced(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	old := servertest.Login(t, n.Addr(), "alice", "phone")
	other := servertest.Login(t, n.Addr(), "alice", "tablet")
	shards := map[[2]int]bool{}
	was := session(t, n, "alice", "phone").Shard
	for i := 0; i < 100 && len(shards) < 4; i++ {
		c := servertest.Login(t, n.Addr(), "alice", "phone")
		if b := old.Bye(codec.CodeReplaced); b.Retry != 0 {
			t.Fatalf("BYE %+v, want no retry", b)
		}
		old.Close()
		is := session(t, n, "alice", "phone").Shard
		shards[[2]int{was, is}] = true
		old, was = c, is
	}
	if len(shards) < 4 {
		t.Errorf("seen only %v of the ways between two loops", shards)
	}
	old.Ping()
	other.Ping()
	eventually(t, "two sessions are left", func() bool { return len(sessions(t, n, "alice")) == 2 })
}

func TestLatencyIsMeasured(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a, b := onBothLoops(t, n, "alice")
	for range 50 {
		a.Send(directSend(0, "alice", "x"))
		b.Msg()
	}
	eventually(t, "50 deliveries are counted", func() bool { return n.Stats().Deliveries >= 50 })
	m := metricsOf(t, n)
	count, sum, inf := m["gannet_delivery_seconds_count"], m["gannet_delivery_seconds_sum"], m[`gannet_delivery_seconds_bucket{le="+Inf"}`]
	if count < 50 || inf != count || sum <= 0 || sum/count > 1 {
		t.Errorf("count %v, +Inf %v, sum %v s", count, inf, sum)
	}
	last := 0.0
	for _, le := range shard.LatencyBounds {
		v, ok := m[fmt.Sprintf(`gannet_delivery_seconds_bucket{le="%g"}`, float64(le)/1e9)]
		if !ok || v < last || v > count {
			t.Errorf("bucket %v ns holds %v, the one before %v", le, v, last)
		}
		last = v
	}
}
