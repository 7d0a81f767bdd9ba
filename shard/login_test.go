package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

func TestWelcomeFields(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.Node, c.MaxFrame, c.Window = "n1", 70000, 77 })
	defer w.end()
	c := w.open(1)
	h := codec.Hello{Version: 9, Heartbeat: 40, Class: codec.ClassIoT, Device: []byte("d"), User: []byte("anna")}
	h.Positions.Append(codec.Position{Kind: codec.KindTopic, Name: []byte("news"), Epoch: 5, Seq: 6})
	h.Positions.Append(codec.Position{Kind: codec.KindGroup, Name: []byte("g")})
	h.Positions.Append(codec.Position{Kind: codec.KindAll, Name: []byte("all")})
	c.ask(codec.AppendHello(nil, h))
	f, n, err := codec.ConsumeFrame(c.out, codec.LoginLimit)
	if err != nil || n != len(c.out) {
		t.Fatalf("%v, %d of %d bytes", err, n, len(c.out))
	}
	got, err := codec.ConsumeWelcome(f)
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || got.Features != 0 || got.Heartbeat != 40 || got.Time != w.clock.UnixMilli() ||
		got.MaxFrame != 70000 || got.Window != 77 || string(got.Node) != "n1" || string(got.User) != "anna" ||
		got.InboxState != codec.StateLive || got.Session != c.session.id || got.Session == 0 {
		t.Errorf("%+v", got)
	}
	var states []uint8
	for s := range got.States.All() {
		states = append(states, s.State)
	}
	if !slices.Equal(states, []uint8{codec.StateLive, codec.StateRefused, codec.StateLive}) {
		t.Errorf("states %v", states)
	}
	later := w.login(0, "anna", "other")
	if later.session.id <= c.session.id {
		t.Errorf("session %d opened after %d", later.session.id, c.session.id)
	}
	if restarted := NewNode(Config{}, &fakeClock{ns: w.clock.ns + int64(time.Millisecond)}, w.host); restarted.nextSession.Load() <= later.session.id {
		t.Error("a node that starts later begins with older session ids")
	}
}

func TestHelloRules(t *testing.T) {
	id64, id65 := strings.Repeat("x", 64), strings.Repeat("x", 65)
	valid := codec.Hello{Version: 1, Device: []byte("d"), User: []byte("u")}
	with := func(f func(*codec.Hello)) []byte {
		h := valid
		f(&h)
		return codec.AppendHello(nil, h)
	}
	good := codec.AppendHello(nil, valid)
	badMagic := slices.Clone(good)
	badMagic[codec.HeaderLen] = 'X'
	for _, c := range []struct {
		name string
		in   []byte
		want string // "" for WELCOME
	}{
		{"valid", good, ""},
		{"later version", with(func(h *codec.Hello) { h.Version = 255 }), ""},
		{"longest names", with(func(h *codec.Hello) { h.Device, h.User = []byte(id64), []byte(id64) }), ""},
		{"unknown class", with(func(h *codec.Hello) { h.Class = 99 }), ""},
		{"with a TLV", with(func(h *codec.Hello) { h.Ext = h.Ext.Append(200, []byte("x")) }), ""},
		{"version 0", with(func(h *codec.Hello) { h.Version = 0 }), "BYE VERSION"},
		{"no device", with(func(h *codec.Hello) { h.Device = nil }), "BYE MALFORMED"},
		{"control character in device", with(func(h *codec.Hello) { h.Device = []byte("a\x1fb") }), "BYE MALFORMED"},
		{"device too long", with(func(h *codec.Hello) { h.Device = []byte(id65) }), "BYE MALFORMED"},
		{"no user", with(func(h *codec.Hello) { h.User = nil }), "BYE MALFORMED"},
		{"user not UTF-8", with(func(h *codec.Hello) { h.User = []byte{0xff} }), "BYE MALFORMED"},
		{"user too long", with(func(h *codec.Hello) { h.User = []byte(id65) }), "BYE MALFORMED"},
		{"wrong magic", badMagic, "BYE MALFORMED"},
		{"trailing byte", append(slices.Concat([]byte{0, 0, good[2] + 1}, good[3:]), 0), "BYE MALFORMED"},
		{"cut body", slices.Concat([]byte{0, 0, good[2] - 1}, good[3:len(good)-1]), "BYE MALFORMED"},
		{"PING first", ping(), "BYE MALFORMED"},
		{"AUTH first", codec.AppendAuthToken(nil, codec.AuthToken{}), "BYE MALFORMED"},
		{"too long, from its header", []byte{0, 16, 1, 1}, "BYE MALFORMED"},
		{"reserved flag, from its header", []byte{0, 0, 200, 0x41}, "BYE MALFORMED"},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), "BYE MALFORMED"},
		{"TLS", []byte{0x16, 3, 1, 2, 0, 1, 0, 1}, "BYE MALFORMED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			defer w.end()
			cl := w.open(0)
			cl.ask(c.in)
			got := cl.take()
			if len(got) != 1 || c.want == "" && !strings.HasPrefix(got[0], "WELCOME") || c.want != "" && got[0] != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if c.want == "" {
				cl.alive()
			} else if !cl.shut || len(w.host.refused) != 1 {
				t.Errorf("shut %v, refused %v", cl.shut, w.host.refused)
			}
		})
	}
}

func TestHelloAtTheLoginLimit(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	h := codec.Hello{Version: 1, Device: []byte("d"), User: []byte("u")}
	h.Token = make([]byte, codec.LoginLimit-len(codec.AppendHello(nil, h))+codec.HeaderLen)
	c := w.open(0)
	c.ask(codec.AppendHello(nil, h))
	c.want("WELCOME u 60s")
	h.Token = append(h.Token, 0)
	c = w.open(0)
	c.ask(codec.AppendHello(nil, h))
	c.wantBye(codec.CodeMalformed)
}

func TestHelloByteByByte(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.open(0)
	for _, b := range slices.Concat(hello("anna", "d", "news"), ping()) {
		c.ask([]byte{b})
	}
	c.want("WELCOME anna 60s 0", "PONG")
}

func TestHeartbeatInForce(t *testing.T) {
	for _, c := range []struct {
		class      uint8
		wish, want uint16
	}{
		{codec.ClassOther, 0, 60}, {codec.ClassMobile, 0, 30}, {codec.ClassDesktop, 0, 60}, {codec.ClassWeb, 0, 15},
		{codec.ClassIoT, 0, 300}, {codec.ClassService, 0, 60}, {200, 0, 60},
		{codec.ClassWeb, 1, 15}, {codec.ClassWeb, 15, 15}, {codec.ClassIoT, 77, 77}, {codec.ClassIoT, 590, 590}, {0, 65535, 590},
	} {
		t.Run(fmt.Sprintf("class %d wish %d", c.class, c.wish), func(t *testing.T) {
			w := newWorld(t, 1)
			defer w.end()
			cl := w.open(0)
			cl.ask(codec.AppendHello(nil, codec.Hello{Version: 1, Device: []byte("d"), User: []byte("u"), Class: c.class, Heartbeat: c.wish}))
			cl.want(fmt.Sprintf("WELCOME u %ds", c.want))
			// The same wish in a PING has the same answer.
			cl.ask(codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, c.wish), Data: []byte("abcdefgh")}))
			cl.want(fmt.Sprintf("PONG abcdefgh <4:%q>", []byte{byte(c.want >> 8), byte(c.want)}))
		})
	}
}

func TestPositionsSubscribe(t *testing.T) {
	w := newWorld(t, 2, judged)
	defer w.end()
	c := w.open(0)
	c.ask(hello("anna", "d", "open", "secret", "open", "bad\x01name"))
	w.answer(AuthAnswer{Rights: &testRights{sub: "open", pub: "*"}})
	c.want("WELCOME anna 60s 0 4 0 4")
	c.ask(toTopic("open", "hi"), toTopic("secret", "psst"))
	c.want("MSG topic open anna: hi")
}

func TestSecondHelloIsMalformed(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	c.ask(hello("anna", "d"))
	c.wantBye(codec.CodeMalformed)
	if w.node.Online() != 0 {
		t.Error("the session is still in the directory")
	}
}

func TestTooManySessionsOfAUser(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.MaxSessionsPerUser = 3 })
	defer w.end()
	for i := range 3 {
		w.login(i%2, "anna", fmt.Sprint("d", i))
	}
	c := w.open(0)
	c.ask(hello("anna", "d3"))
	c.want("BYE OVERLOADED 2000..30000")
	w.login(0, "bob", "d3")
}

func TestOnlineAndOfflineAreTold(t *testing.T) {
	w := newWorld(t, 1)
	a := w.login(0, "anna", "d")
	b := w.login(0, "bob", "e")
	id := a.session.id
	a.disconnect()
	b.ask(codec.AppendFrame(nil, codec.Frame{Type: 31}))
	w.end()
	var got []string
	for _, e := range w.host.events {
		got = append(got, fmt.Sprint(e.Kind, e.User, e.Device, e.Code))
	}
	want := []string{"1annadOK", "1bobeOK", "2annadOK", "2bobeMALFORMED"}
	if !slices.Equal(got, want) || w.host.events[0].Session != id || w.host.events[2].Session != id {
		t.Errorf("events %v, want %v", got, want)
	}
}
