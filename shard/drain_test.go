package shard

import (
	"fmt"
	"testing"
	"time"

	"gannet/codec"
)

func TestDrain(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	var all []*client
	for i := range 600 {
		all = append(all, w.login(i%2, fmt.Sprint("user", i), "d"))
	}
	w.node.Drain(10 * time.Second)
	if !w.node.Draining() {
		t.Error("not draining")
	}
	late := w.open(0)
	late.ask(hello("late", "d"))
	late.want("BYE DRAINING 1000..15000")
	gone := 0
	for second := range 10 {
		w.pass(time.Second)
		before := gone
		gone = 0
		for _, c := range all {
			if c.closed {
				gone++
			} else if c.shut {
				c.want("BYE DRAINING 1000..15000")
				c.disconnect()
				gone++
			}
		}
		if n := gone - before; n < 30 || n > 90 {
			t.Errorf("%d of 600 ended in second %d of 10", n, second)
		}
	}
	w.pass(200 * time.Millisecond)
	if w.node.Online() != 0 {
		t.Errorf("%d are left", w.node.Online())
	}
}

func TestDrainAtOnce(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	live, fresh, asked := w.login1(AuthAnswer{}, "anna", "d"), w.open(0), w.open(0)
	asked.ask(hello("bob", "d"))
	w.node.Drain(0)
	w.tick()
	for _, c := range []*client{live, fresh, asked} {
		c.want("BYE DRAINING 1000..15000")
	}
	w.answer(AuthAnswer{})
	asked.want()
}

func TestKick(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	phone, tablet, bob := w.login(0, "anna", "phone"), w.login(1, "anna", "tablet"), w.login(0, "bob", "phone")
	if asked, code := w.node.Kick("anna", "phone", "lost"); asked != 2 || code != codec.CodeOK {
		t.Errorf("asked %d, %v", asked, code)
	}
	w.run()
	phone.want("BYE KICKED")
	tablet.alive()
	w.node.Kick("anna", "", string(make([]byte, 300)))
	w.run()
	tablet.want("BYE KICKED")
	bob.alive()
	if asked, _ := w.node.Kick("nobody", "", ""); asked != 0 {
		t.Errorf("asked %d", asked)
	}
}

func TestLookup(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a := w.login(0, "anna", "phone", "t", "u")
	w.login(1, "anna", "tablet")
	w.login(1, "bob", "phone")
	a.room = 0
	a.ask(ping())
	w.pass(3 * time.Second)
	found := map[string]SessionInfo{}
	calls, code := w.node.Lookup([]string{"anna", "bob", "nobody"}, func(s []SessionInfo) {
		for _, i := range s {
			found[i.User+"/"+i.Device] = i
		}
	})
	w.run()
	if calls != 2 || code != codec.CodeOK || len(found) != 3 {
		t.Fatalf("%d calls, %v, %v", calls, code, found)
	}
	got := found["anna/phone"]
	want := SessionInfo{
		Session: a.session.id, User: "anna", Device: "phone", Shard: 0, Remote: fakeRemote.String(), Heartbeat: 60,
		Subscriptions: 2, LastFrame: w.at(-3 * time.Second), Outbound: 4,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	a.read(-1)
	a.want("PONG")
}

// TestMoreThanOnePass: what is too much for one pass of the loop goes on after the sockets.
func TestMoreThanOnePass(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.InboxCapacity = 4 * drainMax })
	defer w.end()
	a := w.login(1, "anna", "d")
	l := w.loops[1]
	slices := l.slices
	for range 3 * drainMax {
		if _, code := w.node.Publish(Publication{Kind: codec.KindDirect, Name: "anna", Sender: "bot"}); code != codec.CodeOK {
			t.Fatal(code)
		}
	}
	w.run()
	if got := len(a.take()); got != 3*drainMax {
		t.Errorf("got %d of %d", got, 3*drainMax)
	}
	if l.slices < slices+2 {
		t.Errorf("%d slices", l.slices-slices)
	}
}

func TestStatsAreSummed(t *testing.T) {
	w := newWorld(t, 3)
	defer w.end()
	for i := range 6 {
		c := w.login(i%3, fmt.Sprint("user", i), "d", "t")
		c.ask(toTopic("t", ""), toUser("nobody", ""))
	}
	w.tick()
	st := w.node.Stats()
	if st.Connections != 6 || st.Sessions != 6 || st.Logins != 6 || st.Subscriptions != 6 || st.Rooms != 3 || st.MessagesIn != 12 ||
		st.Deliveries != 1+2+3+4+5+6 || st.FramesIn != 18 || st.InboxDepth != 0 || st.InboxCapacity != 3*1024 || st.SessionBytes == 0 ||
		st.BytesIn == 0 || st.BytesOut == 0 || st.Writes == 0 || st.Runs == 0 {
		t.Errorf("%+v", st)
	}
	var latency uint64
	for _, n := range st.Latency {
		latency += n
	}
	if latency != st.Deliveries {
		t.Errorf("%d latencies of %d deliveries", latency, st.Deliveries)
	}
	seen := map[string]bool{}
	for _, d := range Drops() {
		if name := d.String(); name == "" || seen[name] {
			t.Errorf("drop %d is called %q", d, name)
		} else {
			seen[name] = true
		}
	}
	for _, c := range w.conns {
		(&client{fakeConn: c, w: w}).take()
	}
}

func TestTrim(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "anna", "d", "t"), w.login(1, "bob", "d", "t")
	a.send(toTopic("t", "1"), ping())
	w.node.Trim()
	w.run()
	a.ask(toTopic("t", "2"))
	b.want("MSG topic t anna: 1", "MSG topic t anna: 2")
	if got := a.take(); len(got) != 3 {
		t.Errorf("got %q", got)
	}
}
