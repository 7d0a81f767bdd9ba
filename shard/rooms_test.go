package shard

import (
	"fmt"
	"strings"
	"testing"

	"gannet/codec"
)

func TestTopic(t *testing.T) {
	w := newWorld(t, 3)
	defer w.end()
	a, b, c := w.login(0, "anna", "d", "news"), w.login(1, "bob", "d", "news"), w.login(1, "carl", "d")
	c.ask(sub(1, codec.KindTopic, "news"), sub(2, codec.KindTopic, "sport"))
	c.want("SUBACK 1 OK", "SUBACK 2 OK")
	a.ask(message(1, codec.KindTopic, "news", "hi"), toTopic("sport", "goal"))
	a.want("SENDACK 1 OK", "MSG topic news anna: hi") // the sender's own session too
	b.want("MSG topic news anna: hi")
	got := c.take()
	if len(got) != 2 {
		t.Errorf("got %q", got)
	}
	c.ask(unsub(3, codec.KindTopic, "news"))
	c.want("SUBACK 3 OK")
	b.ask(toTopic("news", "again"))
	c.want()
	a.want("MSG topic news bob: again")
	b.want("MSG topic news bob: again")
}

func TestAll(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b, c := w.login(0, "anna", "d"), w.login(1, "bob", "d"), w.login(0, "carl", "d")
	early := w.open(0)
	a.ask(message(1, codec.KindAll, "all", "hear"))
	a.want("SENDACK 1 OK", "MSG all all anna: hear")
	b.want("MSG all all anna: hear")
	c.want("MSG all all anna: hear")
	early.want() // not logged in
	b.ask(sub(1, codec.KindAll, "all"), sub(2, codec.KindAll, "others"), sub(3, codec.KindAll, "all", "tag"), unsub(4, codec.KindAll, "all"))
	b.want("SUBACK 1 OK", "SUBACK 2 INVALID", "SUBACK 3 INVALID", "SUBACK 4 INVALID")
	c.ask(message(0, codec.KindAll, "all", "once"))
	b.want("MSG all all carl: once")
	c.want("MSG all all carl: once")
}

func TestNobodyListens(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	a.ask(message(1, codec.KindTopic, "void", ""))
	a.want("SENDACK 1 OK")
	w.wantDrops(DropNoSubscribers, 1)
}

func TestSubRefusals(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.login1(AuthAnswer{Rights: &testRights{sub: "mine"}}, "anna", "d")
	nine := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	for _, x := range []struct {
		name string
		in   []byte
		want codec.Code
	}{
		{"allowed", sub(1, codec.KindTopic, "mine"), codec.CodeOK},
		{"forbidden", sub(1, codec.KindTopic, "yours"), codec.CodeForbidden},
		{"direct", sub(1, codec.KindDirect, "bob"), codec.CodeInvalid},
		{"group", sub(1, codec.KindGroup, "g"), codec.CodeNotFound},
		{"kind 0", sub(1, 0, "x"), codec.CodeInvalid},
		{"kind 9", sub(1, 9, "x"), codec.CodeInvalid},
		{"no name", sub(1, codec.KindTopic, ""), codec.CodeInvalid},
		{"bad name", sub(1, codec.KindTopic, "a\nb"), codec.CodeInvalid},
		{"mode 1", codec.AppendSub(nil, codec.Sub{Req: 1, Mode: 1, Kind: codec.KindTopic, Name: []byte("mine"), Epoch: 3, Seq: 4}), codec.CodeOK},
		{"mode 2", codec.AppendSub(nil, codec.Sub{Req: 1, Mode: 2, Kind: codec.KindTopic, Name: []byte("mine")}), codec.CodeInvalid},
		{"8 tags", sub(1, codec.KindTopic, "mine", nine[:8]...), codec.CodeOK},
		{"9 tags", sub(1, codec.KindTopic, "mine", nine...), codec.CodeInvalid},
		{"empty tag", sub(1, codec.KindTopic, "mine", ""), codec.CodeInvalid},
		{"tag of 65", sub(1, codec.KindTopic, "mine", strings.Repeat("t", 65)), codec.CodeInvalid},
		{"unsub", unsub(1, codec.KindTopic, "mine"), codec.CodeOK},
		{"unsub twice", unsub(1, codec.KindTopic, "mine"), codec.CodeNotFound},
		{"unsub of nothing", unsub(1, codec.KindTopic, "never"), codec.CodeNotFound},
		{"unsub direct", unsub(1, codec.KindDirect, "bob"), codec.CodeInvalid},
		{"unsub bad name", unsub(1, codec.KindTopic, "\x7f"), codec.CodeInvalid},
	} {
		c.ask(x.in)
		if got := c.take(); len(got) != 1 || got[0] != "SUBACK 1 "+x.want.String() {
			t.Errorf("%s: got %q, want %v", x.name, got, x.want)
		}
	}
}

func TestFilters(t *testing.T) {
	for _, crowd := range []int{0, smallRoom + 1} { // both ways a run is served
		t.Run(fmt.Sprint(crowd), func(t *testing.T) {
			w := newWorld(t, 2)
			defer w.end()
			for i := range crowd {
				w.login(i%2, "crowd", fmt.Sprint(i), "t")
			}
			w.node.cfg.MaxSessionsPerUser = 1000
			everything, x := w.login(0, "e", "d", "t"), w.login(0, "x", "d")
			xy, xy2, yx := w.login(1, "xy", "d"), w.login(0, "xy", "e"), w.login(0, "yx", "d")
			x.ask(sub(1, codec.KindTopic, "t", "x"))
			xy.ask(sub(1, codec.KindTopic, "t", "x", "y"))
			xy2.ask(sub(1, codec.KindTopic, "t", "x", "y"))
			yx.ask(sub(1, codec.KindTopic, "t", "y", "x", "y"))
			for _, c := range []*client{x, xy, xy2, yx} {
				c.want("SUBACK 1 OK")
			}
			everything.ask(toTopic("t", "plain"), toTopic("t", "X", "x"), toTopic("t", "Y", "y"), toTopic("t", "ZY", "z", "y"), toTopic("t", "Z", "z"))
			everything.want("MSG topic t e: plain", `MSG topic t e: X <2:"x">`, `MSG topic t e: Y <2:"y">`, `MSG topic t e: ZY <2:"z"> <2:"y">`, `MSG topic t e: Z <2:"z">`)
			x.want(`MSG topic t e: X <2:"x">`)
			for _, c := range []*client{xy, xy2, yx} {
				c.want(`MSG topic t e: X <2:"x">`, `MSG topic t e: Y <2:"y">`, `MSG topic t e: ZY <2:"z"> <2:"y">`)
			}
			// A second SUB replaces the filter, also with none; a filter without members goes.
			x.ask(sub(2, codec.KindTopic, "t", "z"))
			yx.ask(sub(2, codec.KindTopic, "t"))
			xy2.disconnect()
			w.run()
			everything.ask(toTopic("t", "X", "x"), toTopic("t", "Z", "z"), toTopic("t", "plain"))
			x.want("SUBACK 2 OK", `MSG topic t e: Z <2:"z">`)
			yx.want("SUBACK 2 OK", `MSG topic t e: X <2:"x">`, `MSG topic t e: Z <2:"z">`, "MSG topic t e: plain")
			xy.want(`MSG topic t e: X <2:"x">`)
			rm := &w.node.Shard(0).rooms[w.node.topics.get([]byte("t")).rooms[0]-1]
			if len(rm.filters) != 1 {
				t.Errorf("filters %v", rm.filters)
			}
			everything.take()
		})
	}
}

// TestTagsWithAnyByte: filters that look alike when they are joined are different ones.
func TestTagsWithAnyByte(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a, b := w.login(0, "a", "d"), w.login(0, "b", "d")
	a.ask(sub(1, codec.KindTopic, "t", "x\x00y"))
	b.ask(sub(1, codec.KindTopic, "t", "x", "y"))
	a.ask(toTopic("t", "1", "x"), toTopic("t", "2", "x\x00y"))
	a.want("SUBACK 1 OK", `MSG topic t a: 2 <2:"x\x00y">`)
	b.want("SUBACK 1 OK", `MSG topic t a: 1 <2:"x">`)
}

func TestRoomsComeAndGo(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d")
	for i := range 100 {
		name := fmt.Sprint("t", i%7)
		a.ask(sub(1, codec.KindTopic, name))
		b.ask(sub(1, codec.KindTopic, name), toTopic(name, "hi"))
		a.ask(unsub(2, codec.KindTopic, name))
		b.ask(unsub(2, codec.KindTopic, name))
		a.want("SUBACK 1 OK", fmt.Sprintf("MSG topic %s bob: hi", name), "SUBACK 2 OK")
		b.want("SUBACK 1 OK", fmt.Sprintf("MSG topic %s bob: hi", name), "SUBACK 2 OK")
	}
	if n := w.node.topics.len(); n != 0 {
		t.Errorf("%d topics", n)
	}
	if sh := w.node.Shard(0); len(sh.rooms) > 3 || sh.subs.n > 2 {
		t.Errorf("%d rooms, %d subscriptions were made for one at a time", len(sh.rooms), sh.subs.n)
	}
}

// TestMessageForATopicThatEnded: the last member leaves while a message is on its way.
func TestMessageForATopicThatEnded(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d", "t")
	a.send(toTopic("t", "late"))
	w.loops[0].sh.Drain()
	b.send(unsub(1, codec.KindTopic, "t"))
	w.run()
	b.want("SUBACK 1 OK")
	// And with a new topic of the same name in between.
	b.ask(sub(2, codec.KindTopic, "t"))
	a.send(toTopic("t", "late"))
	w.loops[0].sh.Drain()
	b.send(unsub(3, codec.KindTopic, "t"), sub(4, codec.KindTopic, "t"))
	w.run()
	b.want("SUBACK 2 OK", "SUBACK 3 OK", "SUBACK 4 OK")
	a.ask(toTopic("t", "now"))
	b.want("MSG topic t anna: now")
}

func TestPublishFromOutside(t *testing.T) {
	w := newWorld(t, 3)
	defer w.end()
	a, b, c := w.login(0, "anna", "d", "t"), w.login(1, "anna", "e", "t"), w.login(1, "carl", "d")
	for _, x := range []struct {
		p       Publication
		targets int
		code    codec.Code
	}{
		{Publication{Kind: codec.KindDirect, Name: "anna", Sender: "bot", Payload: []byte("direct")}, 2, codec.CodeOK},
		{Publication{Kind: codec.KindTopic, Name: "t", Sender: "bot", Payload: []byte("topic")}, 2, codec.CodeOK},
		{Publication{Kind: codec.KindAll, Name: "all", Sender: "bot", Payload: []byte("all")}, 3, codec.CodeOK},
		{Publication{Kind: codec.KindAll, Name: "everybody", Sender: "bot"}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindDirect, Name: "nobody", Sender: "bot"}, 0, codec.CodeOK},
		{Publication{Kind: codec.KindTopic, Name: "void", Sender: "bot"}, 0, codec.CodeOK},
		{Publication{Kind: codec.KindGroup, Name: "g", Sender: "bot"}, 0, codec.CodeNotFound},
		{Publication{Kind: 0, Name: "x", Sender: "bot"}, 0, codec.CodeInvalid},
		{Publication{Kind: 5, Name: "x", Sender: "bot"}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindTopic, Name: "", Sender: "bot"}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindTopic, Name: "t", Sender: "b\x1fot"}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindTopic, Name: "t", Sender: "bot", Flags: codec.MsgDurable}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindTopic, Name: "t", Sender: "bot", Ext: routes("")}, 0, codec.CodeInvalid},
		{Publication{Kind: codec.KindTopic, Name: "t", Sender: "bot", Payload: make([]byte, codec.DefaultLimit)}, 0, codec.CodeTooLarge},
	} {
		if targets, code := w.node.Publish(x.p); targets != x.targets || code != x.code {
			t.Errorf("%v %q: %d, %v, want %d, %v", x.p.Kind, x.p.Name, targets, code, x.targets, x.code)
		}
		w.run()
	}
	for _, x := range []*client{a, b} {
		x.want("MSG direct anna+bot bot: direct", "MSG topic t bot: topic", "MSG all all bot: all")
	}
	c.want("MSG all all bot: all")
}

func TestMessagesAreToldToTheHost(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.Events = EventMessage })
	defer w.end()
	a := w.login(0, "anna", "d")
	a.ask(toTopic("void", "1"), toUser("nobody", "2"), message(0, codec.KindAll, "all", "3"), message(0, codec.KindGroup, "g", "4"))
	if len(w.host.events) != 3 {
		t.Fatalf("%d events", len(w.host.events))
	}
	for i, e := range w.host.events {
		f, _, err := codec.ConsumeFrame(e.Frame, codec.MaxBody)
		m, err2 := codec.ConsumeMsg(f)
		if err != nil || err2 != nil || string(m.Payload) != fmt.Sprint(i+1) || e.User != "anna" || e.Session != a.session.id {
			t.Errorf("%+v: %v, %v", e, err, err2)
		}
	}
	a.take()
}
