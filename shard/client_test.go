package shard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gannet/codec"
)

// client speaks the protocol over a fakeConn.
type client struct {
	*fakeConn
	w    *world
	user string
}

// open connects to a shard.
func (w *world) open(shard int) *client {
	l := w.loops[shard]
	c := &client{fakeConn: &fakeConn{loop: l, room: -1}, w: w}
	c.session = l.sh.Open(c.fakeConn)
	w.conns = append(w.conns, c.fakeConn)
	return c
}

// login connects and says HELLO as user/device with subscriptions to topics, and takes the WELCOME.
func (w *world) login(shard int, user, device string, topics ...string) *client {
	w.t.Helper()
	c := w.open(shard)
	c.user = user
	c.send(hello(user, device, topics...))
	w.run()
	if got := c.take(); len(got) == 0 || !strings.HasPrefix(got[0], "WELCOME "+user) {
		w.t.Fatalf("login of %s/%s: got %q", user, device, got)
	}
	return c
}

func hello(user, device string, topics ...string) []byte {
	h := codec.Hello{Version: 1, Device: []byte(device), User: []byte(user)}
	for _, t := range topics {
		h.Positions.Append(codec.Position{Kind: codec.KindTopic, Name: []byte(t)})
	}
	return codec.AppendHello(nil, h)
}

// bytes brings bytes of the client to its shard, as one read would.
func (c *client) bytes(p []byte) {
	if c.closed {
		c.w.t.Fatalf("%s sends on a closed connection", c.user)
	}
	c.arrive(p)
	c.loop.sh.Traffic(c.session)
}

// send brings frames to the shard in one read; the shard's turns come with run.
func (c *client) send(frames ...[]byte) { c.bytes(slices.Concat(frames...)) }

// ask is send and run.
func (c *client) ask(frames ...[]byte) {
	c.w.t.Helper()
	c.send(frames...)
	c.w.run()
}

// take returns what came since the last call, a line for each frame.
func (c *client) take() []string {
	c.w.t.Helper()
	lines := []string{}
	for len(c.out) > 0 {
		f, n, err := codec.ConsumeFrame(c.out, codec.MaxBody)
		if err != nil || n == 0 {
			if err == nil && (len(c.pending) > 0 || c.closed) {
				break // the rest is still on its way, or lost
			}
			c.w.t.Fatalf("%s got bytes that are no frame: %v, %d bytes, %.64x", c.user, err, len(c.out), c.out)
		}
		lines = append(lines, describe(f))
		c.out = c.out[n:]
	}
	return lines
}

// want compares what came since the last call, in order.
func (c *client) want(lines ...string) {
	c.w.t.Helper()
	if got := c.take(); !slices.Equal(got, lines) {
		c.w.t.Errorf("%s got\n  %s\nwant\n  %s", c.user, strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

// wantBye says that BYE was the last frame, and that the writing side is shut behind it.
func (c *client) wantBye(code codec.Code) {
	c.w.t.Helper()
	got := c.take()
	if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "BYE "+code.String()) {
		c.w.t.Errorf("%s got %q, want BYE %v at the end", c.user, got, code)
	} else if !c.shut && !c.closed {
		c.w.t.Errorf("%s got BYE %v, but the connection is not shut", c.user, code)
	}
}

// alive checks that the session answers.
func (c *client) alive() {
	c.w.t.Helper()
	c.take()
	if c.closed || c.shut {
		c.w.t.Fatalf("%s is no longer connected", c.user)
	}
	c.ask(codec.AppendPing(nil, codec.Ping{Data: []byte("12345678")}))
	c.want("PONG 12345678")
}

// passWith lets time pass while the clients show that they live.
func (w *world) passWith(d time.Duration, clients ...*client) {
	w.t.Helper()
	for ; d > 0; d -= 10 * time.Second {
		w.pass(min(d, 10*time.Second))
		for _, c := range clients {
			c.alive()
		}
	}
}

// describe tells a frame from the server in a line.
func describe(f codec.Frame) string {
	line, err := describeBody(f)
	if err != nil {
		return fmt.Sprintf("%v %v", f.Type, err)
	}
	for tag, v := range f.Ext.All() {
		line += fmt.Sprintf(" <%d:%q>", tag, v)
	}
	return line
}

func describeBody(f codec.Frame) (string, error) {
	switch f.Type {
	case codec.TypeWelcome:
		w, err := codec.ConsumeWelcome(f)
		line := fmt.Sprintf("WELCOME %s %ds", w.User, w.Heartbeat)
		if w.InboxState != codec.StateLive || w.InboxHead != 0 {
			line += fmt.Sprintf(" inbox %d/%d", w.InboxState, w.InboxHead)
		}
		for s := range w.States.All() {
			if line += fmt.Sprintf(" %d", s.State); s.Head != 0 {
				line += fmt.Sprintf("/%d", s.Head)
			}
		}
		return line, err
	case codec.TypeAuth:
		a, err := codec.ConsumeAuthResult(f)
		return fmt.Sprintf("AUTH %v %d", a.Code, a.Expires), err
	case codec.TypePing, codec.TypePong:
		p, err := codec.ConsumePing(f)
		return strings.TrimSpace(fmt.Sprintf("%v %s", f.Type, p.Data)), err
	case codec.TypeBye:
		b, err := codec.ConsumeBye(f)
		if b.Retry == 1 {
			return fmt.Sprintf("BYE %v %d..%d", b.Code, b.MinMs, b.MaxMs), err
		}
		return fmt.Sprintf("BYE %v", b.Code), err
	case codec.TypeSendAck:
		a, err := codec.ConsumeSendAck(f)
		return fmt.Sprintf("SENDACK %d %v%s", a.Req, a.Code, number(" #", a.Seq)), err
	case codec.TypeMsg:
		m, err := codec.ConsumeMsg(f)
		name := strings.ReplaceAll(string(m.Name), "\x1f", "+")
		return fmt.Sprintf("MSG %v %s%s %s: %s", m.Kind, name, number(" #", m.Seq), m.Sender, brief(m.Payload)), err
	case codec.TypeSubAck:
		a, err := codec.ConsumeSubAck(f)
		line := fmt.Sprintf("SUBACK %d %v", a.Req, a.Code)
		if a.State != codec.StateLive || a.Head != 0 {
			line += fmt.Sprintf(" %d/%d", a.State, a.Head)
		}
		return line, err
	case codec.TypeRange:
		r, err := codec.ConsumeRange(f)
		return fmt.Sprintf("RANGE %d %v%s%s", r.Req, r.Code, number(" ×", uint64(r.Count)), number(" next ", r.Next)), err
	case codec.TypeGap:
		g, err := codec.ConsumeGap(f)
		name := strings.ReplaceAll(string(g.Name), "\x1f", "+")
		return fmt.Sprintf("GAP %v %s %d–%d %d", g.Kind, name, g.From, g.To, g.Reason), err
	case codec.TypePos:
		p, err := codec.ConsumePos(f)
		return fmt.Sprintf("POS %d", p.InboxPos), err
	case codec.TypeListed:
		l, err := codec.ConsumeListed(f)
		return fmt.Sprintf("LISTED %d %v", l.Req, l.Code), err
	case codec.TypeErr:
		e, err := codec.ConsumeErr(f)
		return fmt.Sprintf("ERR %d %v", e.Req, e.Code), err
	case codec.TypeState:
		s, err := codec.ConsumeState(f)
		name := strings.ReplaceAll(string(s.Name), "\x1f", "+")
		return fmt.Sprintf("STATE %v %s %s %s %d: %s", s.Kind, name, s.Key, s.User, s.TTL, brief(s.Payload)), err
	}
	return fmt.Sprintf("%v ?", f.Type), nil
}

// number is a number that is not told when it is 0.
func number(before string, n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(before, n)
}

func brief(p []byte) string {
	if len(p) > 40 {
		return fmt.Sprintf("%s…%d", p[:8], len(p))
	}
	return string(p)
}

func message(req uint32, kind codec.Kind, name, payload string, tags ...string) []byte {
	return codec.AppendSend(nil, codec.Send{Ext: routes(tags...), Req: req, Kind: kind, Name: []byte(name), Payload: []byte(payload)})
}

// toTopic and toUser are ephemeral SENDs without an answer.
func toTopic(name, payload string, tags ...string) []byte {
	return message(0, codec.KindTopic, name, payload, tags...)
}

func toUser(name, payload string) []byte { return message(0, codec.KindDirect, name, payload) }

func sub(req uint32, kind codec.Kind, name string, tags ...string) []byte {
	return codec.AppendSub(nil, codec.Sub{Ext: routes(tags...), Req: req, Kind: kind, Name: []byte(name)})
}

func unsub(req uint32, kind codec.Kind, name string) []byte {
	return codec.AppendUnsub(nil, codec.Unsub{Req: req, Kind: kind, Name: []byte(name)})
}

func routes(tags ...string) (ext codec.TLVs) {
	for _, tag := range tags {
		ext = ext.Append(codec.TagRoute, []byte(tag))
	}
	return ext
}

func setState(kind codec.Kind, name, key string, ttl uint16, payload string) []byte {
	return codec.AppendState(nil, codec.StateUpdate{
		Kind: kind, Name: []byte(name), Key: []byte(key), TTL: ttl, Payload: []byte(payload),
	})
}

func ping() []byte { return codec.AppendPing(nil, codec.Ping{}) }

// answer lets the host answer the credential that waits longest.
func (w *world) answer(a AuthAnswer) {
	w.t.Helper()
	if len(w.host.asked) == 0 {
		w.t.Fatalf("no credential waits")
	}
	r := w.host.asked[0]
	w.host.asked = w.host.asked[1:]
	if a.Code == codec.CodeOK {
		if a.User == "" {
			a.User = r.User
		}
		if a.Rights == nil {
			a.Rights = everything
		}
	}
	w.node.Answer(r.Ref, a)
	w.run()
}

// at is a wall-clock time so far from now.
func (w *world) at(d time.Duration) time.Time {
	return time.UnixMilli(int64(w.clock.UnixMilli())).Add(d)
}
