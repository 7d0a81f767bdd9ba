package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

func TestIllegalFrames(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	frame := func(typ codec.Type, body string) []byte {
		return codec.AppendFrame(nil, codec.Frame{Type: typ, Body: []byte(body)})
	}
	bad := map[string][]byte{
		"WELCOME":               codec.AppendWelcome(nil, codec.Welcome{}),
		"MIGRATE":               codec.AppendMigrate(nil, codec.Migrate{}),
		"SENDACK":               codec.AppendSendAck(nil, codec.SendAck{}),
		"MSG":                   codec.AppendMsg(nil, codec.Msg{}),
		"SUBACK":                codec.AppendSubAck(nil, codec.SubAck{}),
		"RANGE":                 codec.AppendRange(nil, codec.Range{}),
		"GAP":                   codec.AppendGap(nil, codec.Gap{}),
		"POS":                   codec.AppendPos(nil, codec.Pos{}),
		"RECEIPT":               codec.AppendReceipt(nil, codec.Receipt{Mode: 1}),
		"LISTED":                codec.AppendListed(nil, codec.Listed{}),
		"ERR":                   codec.AppendErr(nil, codec.Err{}),
		"type 0":                frame(0, ""),
		"type 28":               frame(28, ""),
		"type 31":               frame(31, "body"),
		"type 24 without a req": frame(24, "abc"),
		"ACK of mode 0":         codec.AppendAck(nil, codec.Ack{}),
		"ACK of mode 3":         codec.AppendAck(nil, codec.Ack{Mode: 3}),
		"PING of 7 bytes":       frame(codec.TypePing, "1234567"),
		"PONG of 9 bytes":       frame(codec.TypePong, "123456789"),
		"flag COMPRESSED":       {0, 0, 0, codec.FlagCompressed | byte(codec.TypePing)},
		"flag SEALED":           {0, 0, 0, codec.FlagSealed | byte(codec.TypePing)},
		"EXT without a length":  {0, 0, 1, codec.FlagExt | byte(codec.TypePing), 0},
		"a TLV past its area":   {0, 0, 4, codec.FlagExt | byte(codec.TypePing), 0, 2, 9, 1},
		"a frame of max+1":      {1, 0, 1, byte(codec.TypeSend)},
		"SEND flag LOG":         codec.AppendSend(nil, codec.Send{Flags: codec.MsgLog, Kind: 3, Name: []byte("t")}),
		"SEND flag 0x80":        codec.AppendSend(nil, codec.Send{Flags: 0x80, Kind: 3, Name: []byte("t")}),
	}
	for name, in := range bad {
		c := w.login(0, "anna", "d")
		c.ask(ping(), in, ping())
		if got := c.take(); len(got) != 2 || got[0] != "PONG" || got[1] != "BYE MALFORMED" || !c.shut {
			t.Errorf("%s: got %q, shut %v", name, got, c.shut)
		}
		if len(c.in) != 0 {
			t.Errorf("%s: %d bytes are kept", name, len(c.in))
		}
	}
}

// TestBrokenBodies cuts every body that a client may send after each of its bytes and adds a byte to it.
func TestBrokenBodies(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	whole := map[string][]byte{
		"AUTH":  token("tok"),
		"BYE":   codec.AppendBye(nil, codec.Bye{Reason: []byte("bye")}),
		"SEND":  toTopic("t", ""),
		"ACK":   codec.AppendAck(nil, codec.Ack{Mode: 1}),
		"SUB":   sub(1, codec.KindTopic, "t"),
		"UNSUB": unsub(1, codec.KindTopic, "t"),
		"PULL":  codec.AppendPull(nil, codec.Pull{Req: 1, Kind: codec.KindTopic, Name: []byte("t")}),
		"STATE": setState(codec.KindTopic, "t", "k", 1, ""),
		"LIST":  codec.AppendList(nil, codec.List{Req: 1}),
	}
	for name, in := range whole {
		body := in[codec.HeaderLen:]
		for n := range len(body) + 2 {
			if n == len(body) || n > len(body) && (name == "SEND" || name == "STATE") {
				continue // whole; or a payload, which may be longer
			}
			b := append(body[:min(n, len(body)):min(n, len(body))], make([]byte, max(0, n-len(body)))...)
			c := w.login(0, "anna", "d")
			c.ask(codec.AppendFrame(nil, codec.Frame{Type: codec.Type(in[3]), Body: b}))
			if got := c.take(); len(got) != 1 || got[0] != "BYE MALFORMED" {
				t.Errorf("%s with %d of %d bytes: got %q", name, n, len(body), got)
			}
		}
		c := w.login(0, "anna", "d")
		if c.ask(in); name != "BYE" {
			c.alive()
		}
	}
}

func TestRequestsOfLaterVersions(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	for typ := codec.Type(24); typ <= 27; typ++ {
		c.send(codec.AppendFrame(nil, codec.Frame{Type: typ, Body: []byte{0, 0, 0, byte(typ), 'x'}}))
	}
	c.ask(codec.AppendFrame(nil, codec.Frame{Type: 27}))
	c.want("ERR 24 INVALID", "ERR 25 INVALID")
	c.alive()
}

func TestRequestsThatNeedLogs(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	pull := func(req uint32, kind codec.Kind, name string) []byte {
		return codec.AppendPull(nil, codec.Pull{Req: req, Kind: kind, Name: []byte(name)})
	}
	ack := codec.Ack{Mode: codec.AckRead, InboxPos: 9}
	ack.Marks.Append(codec.Mark{Kind: codec.KindTopic, Name: []byte("t"), Seq: 3})
	c.ask(pull(1, codec.KindTopic, "t"), pull(2, codec.KindDirect, "a\x1fb"), pull(3, codec.KindDirect, "a"), pull(4, 0, "x"), pull(5, codec.KindTopic, ""),
		codec.AppendList(nil, codec.List{Req: 6}), codec.AppendAck(nil, ack))
	c.want("RANGE 1 NOT_FOUND", "RANGE 2 NOT_FOUND", "RANGE 3 INVALID", "RANGE 4 INVALID", "RANGE 5 INVALID", "LISTED 6 NOT_FOUND")
	c.alive()
}

func TestClientSaysBye(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c, o := w.login(0, "anna", "d", "t"), w.login(0, "bob", "d")
	c.ask(message(1, codec.KindTopic, "void", ""), codec.AppendBye(nil, codec.Bye{}), ping())
	c.want("SENDACK 1 OK")
	if w.node.Online() != 1 {
		t.Error("it is still in the directory")
	}
	o.ask(toTopic("t", "x"), toUser("anna", "x"))
	c.want()
	w.tick()
	if !c.closed {
		t.Error("not closed")
	}
}

func TestLingering(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	c.ask(codec.AppendFrame(nil, codec.Frame{Type: 31}))
	c.wantBye(codec.CodeMalformed)
	for range 18 {
		w.tick()
		c.bytes([]byte("what still comes is discarded"))
		if len(c.in) != 0 || c.closed {
			t.Fatalf("%d bytes are kept, closed %v", len(c.in), c.closed)
		}
	}
	w.pass(500 * time.Millisecond)
	if !c.closed {
		t.Error("not closed after two seconds")
	}
	c.want()
}

func TestByeWaitsForTheKernel(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	c.room = 3
	c.ask(ping(), codec.AppendFrame(nil, codec.Frame{Type: 31}))
	w.tick()
	if c.shut {
		t.Error("shut with bytes that wait")
	}
	c.read(-1)
	w.tick()
	c.want("PONG", "BYE MALFORMED")
	if !c.shut {
		t.Error("not shut when all was read")
	}
}

func TestMaxSubscriptions(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.MaxSubscriptions = 3 })
	defer w.end()
	c := w.login(0, "anna", "d", "t0")
	c.ask(sub(1, codec.KindTopic, "t1"), sub(2, codec.KindTopic, "t2"), sub(3, codec.KindTopic, "t3"), sub(4, codec.KindTopic, "t1", "x"),
		sub(5, codec.KindAll, "all"), unsub(6, codec.KindTopic, "t0"), sub(7, codec.KindTopic, "t3"))
	c.want("SUBACK 1 OK", "SUBACK 2 OK", "SUBACK 3 RATE_LIMITED", "SUBACK 4 OK", "SUBACK 5 OK", "SUBACK 6 OK", "SUBACK 7 OK")
	c = w.open(0)
	c.ask(hello("bob", "d", "a", "b", "c", "d"))
	c.want("WELCOME bob 60s 0 0 0 4")
}

func TestSendRate(t *testing.T) {
	for _, rate := range []int{1, 3, 10, 19, 100} {
		w := newWorld(t, 1, func(c *Config) { c.SendRate = rate })
		c := w.login(0, "anna", "d")
		admitted := func() (n int) {
			for range 3 * rate {
				c.ask(message(1, codec.KindTopic, "t", ""))
			}
			for _, line := range c.take() {
				switch line {
				case "SENDACK 1 OK":
					n++
				case "SENDACK 1 RATE_LIMITED":
				default:
					t.Fatal(line)
				}
			}
			return n
		}
		if n := admitted(); n != 2*rate {
			t.Errorf("rate %d: a burst of %d", rate, n)
		}
		total := 0
		for range 100 { // ten seconds, asking every tick
			w.tick()
			total += admitted()
		}
		if total < 10*rate-1 || total > 10*rate {
			t.Errorf("rate %d: %d in ten seconds", rate, total)
		}
		w.passWith(20*time.Second, c)
		if n := admitted(); n != 2*rate {
			t.Errorf("rate %d: a burst of %d after a pause", rate, n)
		}
		// STATE counts as well.
		c.ask(setState(codec.KindTopic, "t", "k", 1, "x"))
		c.want("ERR 0 RATE_LIMITED")
		w.end()
	}
}

// TestInboxFull: who cannot be reached is told BUSY; what was admitted arrives.
func TestInboxFull(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.InboxCapacity = 16 })
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d", "t")
	var want []string
	busy := 0
	for i := range 40 { // shard 1 does not get to drain
		kind, name := codec.KindDirect, "bob"
		if i%2 == 1 {
			kind, name = codec.KindTopic, "t"
		}
		a.send(message(uint32(i+1), kind, name, fmt.Sprint(i)))
		w.loops[0].sh.Drain()
		switch got := a.take(); {
		case len(got) == 1 && got[0] == fmt.Sprintf("SENDACK %d OK", i+1):
			want = append(want, fmt.Sprintf("%v: %d", kind, i))
		case len(got) == 1 && got[0] == fmt.Sprintf("SENDACK %d BUSY", i+1):
			busy++
		default:
			t.Fatalf("got %q", got)
		}
	}
	if len(want) != 16 {
		t.Errorf("%d were admitted to 16 places", len(want))
	}
	if targets, code := w.node.Publish(Publication{Kind: codec.KindDirect, Name: "bob", Sender: "x"}); code != codec.CodeBusy || targets != 0 {
		t.Errorf("published to %d, %v", targets, code)
	}
	if targets, code := w.node.Publish(Publication{Kind: codec.KindTopic, Name: "t", Sender: "x"}); code != codec.CodeBusy || targets != 0 {
		t.Errorf("published to %d, %v", targets, code)
	}
	if _, code := w.node.Kick("bob", "", "x"); code != codec.CodeBusy {
		t.Errorf("kicked: %v", code)
	}
	if _, code := w.node.Lookup([]string{"bob"}, func([]SessionInfo) {}); code != codec.CodeBusy {
		t.Errorf("looked up: %v", code)
	}
	w.wantDrops(DropInboxFull, uint64(busy))
	w.run()
	got := b.take()
	if len(got) != len(want) {
		t.Fatalf("admitted %q, delivered %q", want, got)
	}
	// Direct messages and those of the topic each in their order.
	for _, kind := range []string{"direct", "topic"} {
		var sent, come []string
		for i := range want {
			if strings.HasPrefix(want[i], kind) {
				sent = append(sent, want[i][strings.Index(want[i], ": "):])
			}
			if strings.HasPrefix(got[i], "MSG "+kind) {
				come = append(come, got[i][strings.Index(got[i], ": "):])
			}
		}
		if fmt.Sprint(sent) != fmt.Sprint(come) {
			t.Errorf("%s: sent %q, came %q", kind, sent, come)
		}
	}
	a.ask(message(99, codec.KindDirect, "bob", "later"))
	a.want("SENDACK 99 OK")
	b.take()
}

// TestPlacesKeptForLater: a shard that keeps places in another's inbox for its next items does not lock the others out.
func TestPlacesKeptForLater(t *testing.T) {
	const shards = 5
	w := newWorld(t, shards, func(c *Config) { c.InboxCapacity = 32 })
	defer w.end()
	b := w.login(0, "bob", "d")
	var last *client
	for i := 1; i < shards; i++ {
		last = w.login(i, fmt.Sprint("user", i), "d")
		last.ask(message(1, codec.KindDirect, "bob", "hi"))
		last.want("SENDACK 1 OK")
	}
	if got := b.take(); len(got) != shards-1 {
		t.Errorf("got %q", got)
	}
	for range 16 { // of 32 places, before shard 0 takes any
		last.send(message(1, codec.KindDirect, "bob", "hi"))
		last.loop.sh.Drain()
		last.want("SENDACK 1 OK")
	}
	w.run()
	b.take()
}

// TestRoomLimit: too much for a topic that is not being written yet is refused for all its members.
func TestRoomLimit(t *testing.T) {
	for _, shards := range []int{2, 8} {
		w := newWorld(t, shards, func(c *Config) { c.RoomLimit = 100 << 10 })
		a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d", "t")
		payload := strings.Repeat("x", 30<<10)
		admitted := 0
		for i := range 20 {
			a.send(message(1, codec.KindTopic, "t", payload))
			w.loops[0].sh.Drain() // shard 1 does not come to write
			got := a.take()
			if len(got) != 1 {
				t.Fatalf("%d: got %q", i, got)
			}
			if got[0] == "SENDACK 1 OK" {
				admitted++
			} else if got[0] != "SENDACK 1 BUSY" {
				t.Fatal(got)
			}
		}
		if admitted != 3 { // one shard has members
			t.Errorf("%d shards: %d messages of 30 KiB were admitted with a limit of 100 KiB a shard", shards, admitted)
		}
		w.wantDrops(DropRoomFull, uint64(20-admitted))
		w.run()
		if got := b.take(); len(got) != admitted {
			t.Errorf("%d of %d were delivered", len(got), admitted)
		}
		a.ask(message(1, codec.KindTopic, "t", strings.Repeat("y", 60<<10)))
		a.want("SENDACK 1 OK")
		b.take()
		w.end()
	}
}

// TestMessageLargerThanTheRoomLimit: one message always goes when nothing waits.
func TestMessageLargerThanTheRoomLimit(t *testing.T) {
	w := newWorld(t, 1, func(c *Config) { c.RoomLimit = 100 })
	defer w.end()
	a := w.login(0, "anna", "d", "t")
	a.ask(message(1, codec.KindTopic, "t", strings.Repeat("x", 1000)))
	if got := a.take(); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

// A room has a bound on its different filters: each is gone through once a run. Who comes with one more is told so, and
// may still subscribe with a filter that is in use, or with none.
func TestFiltersOfARoomAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	filtered := func(req uint32, tag string) []byte {
		return codec.AppendSub(nil, codec.Sub{
			Req: req, Kind: codec.KindTopic, Name: []byte("room"), Ext: codec.TLVs(nil).Append(codec.TagRoute, []byte(tag)),
		})
	}
	for i := range maxFilters {
		c := w.login(0, fmt.Sprintf("u%d", i), "d")
		c.ask(filtered(1, fmt.Sprintf("tag%d", i)))
		c.want("SUBACK 1 OK")
	}
	late := w.login(0, "late", "d")
	late.ask(filtered(1, "one too many"))
	late.want("SUBACK 1 RATE_LIMITED")
	late.ask(filtered(2, "tag7"))
	late.want("SUBACK 2 OK")
	late.ask(filtered(3, "one too many")) // the old filter stays in force
	late.want("SUBACK 3 RATE_LIMITED")
}
