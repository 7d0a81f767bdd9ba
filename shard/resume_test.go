package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/store"
)

// at is a position of HELLO.
func at(kind codec.Kind, name string, epoch, seq uint64) codec.Position {
	return codec.Position{Kind: kind, Name: []byte(name), Epoch: epoch, Seq: seq}
}

// back is the HELLO of a device that was here before.
func back(user, device string, epoch, pos uint64, positions ...codec.Position) []byte {
	h := codec.Hello{Version: 1, Device: []byte(device), User: []byte(user), InboxEpoch: epoch, InboxPos: pos}
	for _, p := range positions {
		h.Positions.Append(p)
	}
	return codec.AppendHello(nil, h)
}

// come connects with a HELLO; what comes is the test's to take.
func (w *world) come(shard int, user string, in ...[]byte) *client {
	w.t.Helper()
	c := w.open(shard)
	c.user = user
	c.ask(in...)
	return c
}

func TestResumeInbox(t *testing.T) {
	const same, other = 1, 2 // epochs
	one, two, three := "MSG direct anna+bob #1 bob: 1", "MSG direct anna+bob #2 bob: 2", "MSG direct anna+bob #3 bob: 3"
	for _, x := range []struct {
		name  string
		epoch uint64
		pos   uint64
		want  []string
	}{
		{"new device", 0, 0, []string{"WELCOME anna 60s inbox 0/3", one, two, three, "POS 3"}},
		{"knows one", same, 1, []string{"WELCOME anna 60s inbox 1/3", two, three, "POS 3"}},
		{"knows all", same, 3, []string{"WELCOME anna 60s inbox 1/3"}},
		{"knows more than there is", same, 4, []string{"WELCOME anna 60s inbox 3/3", one, two, three, "POS 3"}},
		{"other epoch", other, 2, []string{"WELCOME anna 60s inbox 3/3", one, two, three, "POS 3"}},
		{"position without an epoch", 0, 2, []string{"WELCOME anna 60s inbox 3/3", one, two, three, "POS 3"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newLogWorld(t, 2)
			defer w.end()
			for i := range 3 {
				w.log.post(codec.KindDirect, "anna", "bob", fmt.Sprint(i+1))
			}
			w.run()
			if x.epoch > 0 {
				x.epoch += w.log.Epoch() - 1
			}
			c := w.come(0, "anna", back("anna", "d", x.epoch, x.pos))
			c.want(x.want...)
			w.log.post(codec.KindDirect, "carl", "bob", "for others")
			c.ask(ping())
			c.want("PONG")
		})
	}
}

func TestResumeWhereTheDeviceWas(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	for i := range 3 {
		w.log.post(codec.KindDirect, "anna", "bob", fmt.Sprint(i+1))
	}
	c := w.come(0, "anna", hello("anna", "d"))
	c.take()
	c.ask(ackPos(2))
	c.disconnect()
	w.pass(time.Second)
	if p := w.log.position("anna", "d", codec.KindInbox, ""); p != 2 {
		t.Errorf("the device is at %d, want 2", p)
	}
	w.log.post(codec.KindDirect, "carl", "bob", "for others")
	c = w.come(1, "anna", hello("anna", "d"))
	c.want("WELCOME anna 60s inbox 0/4", "MSG direct anna+bob #3 bob: 3", "POS 4")
}

func TestResumeTellsTheNonce(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	a.ask(durable(41, codec.KindTopic, "t", "x"))
	a.disconnect()
	w.come(0, "anna", hello("anna", "d")).want(`WELCOME anna 60s inbox 0/1 <6:"\x00\x00\x00\x00\x00\x00\x00)">`, "POS 1")
}

func TestResumeLogs(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	e := w.log.Epoch()
	w.log.group("crowd", true, "anna")
	w.log.group("few", false, "anna")
	for i := range 3 {
		w.log.post(codec.KindTopic, "news", "bob", fmt.Sprint(i+1))
	}
	w.log.post(codec.KindTopic, "old", "bob", "1")
	w.log.post(codec.KindTopic, "old", "bob", "2")
	w.log.post(codec.KindTopic, "old", "bob", "3")
	w.log.post(codec.KindAll, "all", "bob", "1")
	w.log.post(codec.KindGroup, "crowd", "bob", "two")
	if err := w.log.store.Trim(store.Channel{Kind: codec.KindTopic, Name: "old"}, 3); err != nil {
		t.Fatal(err)
	}
	a := w.come(0, "anna", back("anna", "d", e, 99, // reset, but nothing is in the inbox but the entry of a group
		at(codec.KindTopic, "news", e, 1), at(codec.KindTopic, "old", e, 1), at(codec.KindTopic, "idle", 0, 0), at(codec.KindAll, "all", e, 0),
		at(codec.KindGroup, "crowd", e, 0), at(codec.KindGroup, "few", e, 0), at(codec.KindGroup, "none", e, 0), at(codec.KindDirect, "anna", e, 0),
		at(codec.KindTopic, "news", e, 3), at(codec.KindTopic, "reset", e, 7), at(codec.KindTopic, "bad\n", e, 7), at(codec.KindAll, "some", e, 1)))
	got := a.take()
	if len(got) == 0 || got[0] != "WELCOME anna 60s inbox 3/10 1/3 2/3 0 1/1 1/2 0/1 4 4 1/3 3 4 4" {
		t.Fatalf("got %q", got)
	}
	want := []string{
		"MSG group few #1 admin: +anna", "POS 10",
		"MSG topic news #2 bob: 2", "MSG topic news #3 bob: 3", "GAP topic old 2–2 1", "MSG topic old #3 bob: 3", "MSG all all #1 bob: 1",
		"MSG group crowd #1 admin: +anna", "MSG group crowd #2 bob: two",
	}
	if len(got) != len(want)+1 {
		t.Errorf("got %q", got)
	}
	for _, line := range want {
		if !strings.Contains(strings.Join(got, "\n"), line) {
			t.Errorf("no %q in %q", line, got)
		}
	}
	b := w.login(1, "bob", "d")
	for i, kind := range []codec.Kind{codec.KindTopic, codec.KindTopic, codec.KindTopic, codec.KindTopic, codec.KindAll} {
		b.ask(durable(uint32(i+1), kind, []string{"news", "old", "idle", "reset", "all"}[i], "live"))
	}
	a.want("MSG topic news #4 bob: live", "MSG topic old #4 bob: live", "MSG topic idle #1 bob: live", "MSG topic reset #1 bob: live", "MSG all all #2 bob: live")
	a.ask(ackPos(10))
	w.pass((settleAfter + 3) * time.Second)
	w.wantRest() // it has caught up in everything
}

// Frames behind HELLO wait for WELCOME.
func TestResumeFramesBehindHello(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.log.auto = false
	c := w.come(0, "anna", hello("anna", "d", "t"), sub(1, codec.KindTopic, "u"), ping())
	c.ask(ping())
	c.want()
	w.log.serve(-1)
	w.run()
	c.want("WELCOME anna 60s 0", "PONG", "PONG")
	w.log.serve(-1)
	w.run()
	c.want("SUBACK 1 OK")
	c = w.come(0, "anna", hello("anna", "e"))
	c.send(make([]byte, loginBacklog+1))
	c.wantBye(codec.CodeMalformed)
	w.log.serve(-1)
	w.run()
}

// What is committed between the registration and the answer is neither lost nor sent twice.
func TestResumeMeetsCommits(t *testing.T) {
	for before := range 3 {
		for between := range 70 {
			w := newLogWorld(t, 1)
			e, n := w.log.Epoch(), 0
			post := func() {
				n++
				w.log.post(codec.KindDirect, "anna", "bob", fmt.Sprint(n))
				w.log.post(codec.KindTopic, "t", "bob", fmt.Sprint(n))
			}
			for range before {
				post()
			}
			w.log.auto = false
			c := w.come(0, "anna", back("anna", "d", e, 0, at(codec.KindTopic, "t", e, 0)))
			for range between / 2 {
				post()
			}
			if between%3 > 0 {
				w.run()
			}
			w.log.serve(-1) // reads these, and finds them in its tail as well
			for range (between + 1) / 2 {
				post()
			}
			w.log.auto = true
			w.run()
			post()
			w.run()
			got := c.take()
			c.wantSeqs(got, "MSG direct", n)
			c.wantSeqs(got, "MSG topic", n)
			w.end()
		}
	}
}

// wantSeqs says that of a channel the messages 1…n came, in order, once.
func (c *client) wantSeqs(got []string, kind string, n int) {
	c.w.t.Helper()
	seq := 0
	for _, line := range got {
		if strings.HasPrefix(line, kind) {
			if seq++; !strings.Contains(line, fmt.Sprintf(" #%d ", seq)) {
				c.w.t.Fatalf("%s: instead of %s #%d: %q, in %q", c.user, kind, seq, line, got)
			}
		}
	}
	if seq != n {
		c.w.t.Fatalf("%s: %d messages of %s, want %d: %q", c.user, seq, kind, n, got)
	}
}

func TestResumeFails(t *testing.T) {
	for name, broken := range map[string]func(w *world){
		"refused":     func(w *world) { w.log.roomReads = 0 },
		"unavailable": func(w *world) { w.log.broken = codec.CodeUnavailable },
		"no answer":   func(w *world) { w.log.auto = false; w.pass(6 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newLogWorld(t, 1)
			defer w.end()
			if name != "no answer" {
				broken(w)
			}
			w.log.auto = name != "no answer"
			c := w.come(0, "anna", hello("anna", "d", "t"))
			if name == "no answer" {
				w.log.post(codec.KindDirect, "anna", "bob", "x")
				broken(w)
			}
			c.want("BYE OVERLOADED 2000..30000")
			w.log.serve(-1) // too late
			w.run()
			c.want()
		})
	}
}

// A login that ends before it was answered leaves nothing.
func TestResumeEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, c *client){
		"replaced": func(w *world, c *client) {
			w.come(1, "anna", hello("anna", "d"))
			w.log.serve(-1) // the newer one displaces when it is welcomed: until then it may have ended already
			w.run()
			c.wantBye(codec.CodeReplaced)
		},
		"kicked":  func(w *world, c *client) { w.node.Kick("anna", "", "x"); w.run(); c.wantBye(codec.CodeKicked) },
		"closed":  func(w *world, c *client) { c.disconnect() },
		"drained": func(w *world, c *client) { w.node.Drain(0); w.pass(time.Second); c.wantBye(codec.CodeDraining) },
		"group":   func(w *world, c *client) { w.log.group("g", true, "anna"); c.disconnect() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newLogWorld(t, 2)
			defer w.end()
			w.log.auto = false
			c := w.come(0, "anna", hello("anna", "d", "t", "u"))
			w.log.post(codec.KindDirect, "anna", "bob", "x")
			w.log.post(codec.KindTopic, "t", "bob", "x")
			w.run()
			end(w, c)
			w.log.serve(-1)
			w.log.auto = true
			w.run()
		})
	}
}

// AUTH behind WELCOME tells the exact time, whatever the reading took.
func TestResumeTellsTheExpiry(t *testing.T) {
	w := newLogWorld(t, 1, judged)
	defer w.end()
	w.log.auto = false
	c := w.come(0, "anna", hello("anna", "d"))
	at := w.at(time.Hour + 7*time.Millisecond)
	w.answer(AuthAnswer{Expires: at})
	w.pass(time.Second)
	w.log.serve(-1)
	w.run()
	c.want("WELCOME anna 60s", fmt.Sprintf("AUTH OK %d", at.UnixMilli()))
}

// A topic that the log refuses is left again.
func TestResumeRefusedByTheLog(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.log.auto = false
	c := w.come(0, "anna", hello("anna", "d", "t", "u"))
	r := w.log.reads[0]
	w.log.answer(r)
	r.States[1].State = codec.StateRefused
	r.Logs = append(r.Logs[:1], r.Logs[2:]...)
	w.node.Served(r)
	w.run()
	c.want("WELCOME anna 60s 0 4")
	w.log.reads = nil
	c.ask(unsub(1, codec.KindTopic, "u"), unsub(2, codec.KindTopic, "t"))
	c.want("SUBACK 1 NOT_FOUND", "SUBACK 2 OK")
}

// More than fits a tail arrives while the inbox is read: the log is read again.
func TestResumeTailOverflow(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.log.auto = false
	c := w.come(0, "anna", hello("anna", "d"))
	for i := range 3 * tailMax {
		w.log.post(codec.KindDirect, "anna", "bob", fmt.Sprint(i+1))
		w.run()
	}
	sh := w.loops[0].sh
	if tl := sh.tails[c.session.index]; tl == nil || !tl.lost || sh.tailed != 0 {
		t.Errorf("the tail is %+v, %d messages kept", tl, sh.tailed)
	}
	w.log.auto = true
	w.run()
	c.wantSeqs(c.take(), "MSG direct", 3*tailMax)
}
