package shard

import (
	"testing"
	"time"

	"gannet/codec"
)

func TestIdle(t *testing.T) {
	for _, c := range []struct {
		heartbeat   uint16
		ping, close time.Duration // after the last frame
	}{
		{15, 15 * time.Second, 25 * time.Second}, // at least ten seconds later
		{20, 20 * time.Second, 30 * time.Second},
		{60, 60 * time.Second, 90 * time.Second},
		{590, 590 * time.Second, 885 * time.Second},
	} {
		w := newWorld(t, 1)
		cl := w.open(0)
		cl.ask(codec.AppendHello(nil, codec.Hello{Version: 1, Device: []byte("d"), User: []byte("u"), Heartbeat: c.heartbeat}))
		cl.take()
		w.pass(c.ping - 200*time.Millisecond)
		cl.want()
		w.pass(400 * time.Millisecond)
		cl.want("PING")
		w.pass(c.close - c.ping - 400*time.Millisecond)
		cl.want() // one PING is enough
		w.pass(400 * time.Millisecond)
		cl.want("BYE IDLE 0..5000")
		if w.stats().Pings != 1 {
			t.Errorf("%d PINGs", w.stats().Pings)
		}
		w.end()
	}
}

func TestAnyFrameCountsAsHeartbeat(t *testing.T) {
	frames := map[string][]byte{
		"PING": ping(), "PONG": codec.AppendPong(nil, codec.Ping{}), "SEND": toTopic("t", ""), "UNSUB": unsub(1, codec.KindTopic, "t"),
		"ACK": codec.AppendAck(nil, codec.Ack{Mode: codec.AckRead}), "unknown": codec.AppendFrame(nil, codec.Frame{Type: 26}),
	}
	for name, in := range frames {
		w := newWorld(t, 1)
		c := w.login(0, "anna", "d")
		for range 5 {
			w.pass(70 * time.Second) // the PING is out
			if c.take(); c.closed || c.shut {
				t.Fatalf("%s did not count", name)
			}
			c.ask(in)
			c.take()
			w.pass(59 * time.Second)
			c.want()
			c.ask(in)
			c.take()
		}
		w.end()
	}
}

func TestBytesAreNoHeartbeat(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.FrameTimeout = time.Hour })
	defer w.end()
	c := w.login(0, "anna", "d")
	c.ask([]byte{0, 1})
	for range 89 {
		w.pass(time.Second)
		c.ask([]byte{0})
	}
	c.want("PING")
	w.pass(1200 * time.Millisecond)
	c.wantBye(codec.CodeIdle)
}

func TestWritingIsNoHeartbeatOfThePeer(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c, o := w.login(0, "anna", "d", "t"), w.login(0, "bob", "d")
	for range 91 {
		w.pass(time.Second)
		o.ask(toTopic("t", "x"))
	}
	c.wantBye(codec.CodeIdle)
}

func TestUnfinishedFrame(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	whole := toTopic("t", "hello")
	for _, cut := range []int{1, 3, 4, 5, len(whole) - 1} {
		c := w.login(0, "anna", "d")
		c.ask(whole[:cut])
		w.pass(9500 * time.Millisecond)
		c.want()
		w.pass(time.Second)
		c.want("BYE TIMEOUT")
	}
	// More bytes do not help, the whole frame does.
	c := w.login(0, "anna", "e")
	c.ask(whole[:4])
	w.pass(5 * time.Second)
	c.ask(whole[4:5])
	w.pass(4500 * time.Millisecond)
	c.ask(whole[5:])
	w.pass(10 * time.Second)
	c.alive()
	// A frame that is whole and the beginning of the next: the time begins anew.
	c.ask(whole[:4])
	w.pass(9 * time.Second)
	c.ask(whole[4:], whole[:2])
	w.pass(9 * time.Second)
	c.want()
	w.pass(1500 * time.Millisecond)
	c.want("BYE TIMEOUT")
}

func TestNoHello(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c, slow := w.open(0), w.open(0)
	for range 24 {
		w.pass(200 * time.Millisecond)
		slow.ask(hello("anna", "d")[:1]) // keeps it busy
		slow.in = nil
	}
	c.want()
	w.pass(400 * time.Millisecond)
	c.want("BYE TIMEOUT")
	slow.want("BYE TIMEOUT")
}

func TestWishForAnotherHeartbeat(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	c.ask(codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, 300)}))
	c.want("PONG <4:\"\\x01,\">")
	w.pass(299 * time.Second)
	c.want()
	w.pass(1200 * time.Millisecond)
	c.want("PING")
	c.ask(codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, 15)}))
	c.take()
	w.pass(25200 * time.Millisecond)
	c.want("PING", "BYE IDLE 0..5000")
	// A TLV of another length is no wish.
	c = w.login(0, "anna", "e")
	c.ask(codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).Append(codec.TagHeartbeat, []byte("xyz")), Data: []byte("87654321")}))
	c.want("PONG 87654321")
	if c.session.heartbeat != 60 {
		t.Errorf("heartbeat %d", c.session.heartbeat)
	}
}

func TestLongerWishAfterAPing(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	w.pass(61 * time.Second)
	c.want("PING")
	c.ask(codec.AppendPong(nil, codec.Ping{}))
	w.pass(59 * time.Second)
	c.want()
	w.pass(2 * time.Second)
	c.want("PING")
}

// TestSweepReachesEverySession has more sessions than one tick looks at.
func TestSweepReachesEverySession(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.MaxSessionsPerUser = 1 << 20 })
	defer w.end()
	const n = 200*chunkLen + 7
	for range n {
		w.open(0)
	}
	sh := w.node.Shard(0)
	w.clock.ns += int64(6 * time.Second)
	sh.begin()
	sh.sweep()
	if len(sh.outs) > keepOuts {
		t.Errorf("%d out buffers are filled before any is written", len(sh.outs))
	}
	sh.schedule()
	w.pass(2 * time.Second)
	if byes := w.stats().Byes[codec.CodeTimeout]; byes != n {
		t.Errorf("%d of %d were ended for saying nothing", byes, n)
	}
}
