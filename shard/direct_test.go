package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gannet/codec"
)

func TestDirect(t *testing.T) {
	w := newWorld(t, 3)
	defer w.end()
	a1, a2, a3 := w.login(0, "anna", "phone"), w.login(0, "anna", "tablet"), w.login(1, "anna", "desktop")
	b1, b2 := w.login(0, "bob", "phone"), w.login(2, "bob", "tablet")
	carl := w.login(0, "carl", "phone")
	a1.ask(message(7, codec.KindDirect, "bob", "hi"))
	a1.want("SENDACK 7 OK")
	for _, c := range []*client{a2, a3, b1, b2} {
		c.want("MSG direct anna+bob anna: hi")
	}
	b2.ask(toUser("anna", "hello"))
	b2.want()
	for _, c := range []*client{a1, a2, a3, b1} {
		c.want("MSG direct anna+bob bob: hello")
	}
	carl.want()
}

func TestDirectMessageFields(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "b", "d"), w.login(1, "a", "d")
	ext := codec.TLVs(nil).Append(codec.TagOrigin, []byte("me")).Append(codec.TagRoute, []byte("x")).Append(200, []byte("app"))
	a.ask(codec.AppendSend(nil, codec.Send{
		Ext: ext, Req: 5, Nonce: 6, Flags: codec.MsgUrgent | codec.MsgReceipt, Kind: codec.KindDirect, Name: []byte("a"),
		Content: codec.ContentJSON, Payload: []byte("{}"),
	}))
	f, n, err := codec.ConsumeFrame(b.out, codec.MaxBody)
	if err != nil || n != len(b.out) {
		t.Fatalf("%v, %d of %d", err, n, len(b.out))
	}
	m, err := codec.ConsumeMsg(f)
	if err != nil || !slices.Equal(m.Ext, ext) || m.Flags != codec.MsgUrgent|codec.MsgReceipt || m.Kind != codec.KindDirect ||
		string(m.Name) != "a\x1fb" || m.Seq != 0 || m.Time != w.clock.UnixMilli() || string(m.Sender) != "b" ||
		m.Content != codec.ContentJSON || string(m.Payload) != "{}" {
		t.Errorf("%+v, %v", m, err)
	}
	f, _, _ = codec.ConsumeFrame(a.out, codec.MaxBody)
	if ack, err := codec.ConsumeSendAck(f); err != nil || ack.Req != 5 || ack.Code != 0 || ack.Seq != 0 || ack.Time != w.clock.UnixMilli() {
		t.Errorf("%+v, %v", ack, err)
	}
	b.take()
	a.take()
}

// TestDirectNames has names that are prefixes of each other: the place of the receiver's name in the frame decides who
// gets it.
func TestDirectNames(t *testing.T) {
	names := []string{"a", "aa", "b", "ab", "ba", "é", strings.Repeat("x", 64), strings.Repeat("x", 63)}
	for _, shards := range []int{1, 2} {
		for _, from := range names {
			for _, to := range names {
				w := newWorld(t, shards)
				a, other := w.login(0, from, "one"), w.login(shards-1, from, "two")
				b := other
				if from != to {
					b = w.login(shards-1, to, "one")
				}
				pair := from + "+" + to
				if from > to {
					pair = to + "+" + from
				}
				a.ask(toUser(to, "hi"), codec.AppendSend(nil, codec.Send{Ext: routes("tag"), Kind: codec.KindDirect, Name: []byte(to)}))
				a.ask(setState(codec.KindDirect, to, "typing", 3, "on"), codec.AppendState(nil, codec.StateUpdate{
					Ext: routes("tag"), Kind: codec.KindDirect, Name: []byte(to), Key: []byte("k"), User: []byte(from),
				}))
				w.run()
				want := []string{
					fmt.Sprintf("MSG direct %s %s: hi", pair, from),
					fmt.Sprintf("MSG direct %s %s:  <2:\"tag\">", pair, from),
					fmt.Sprintf("STATE direct %s typing %s 3: on", pair, from),
					fmt.Sprintf("STATE direct %s k %s 0:  <2:\"tag\">", pair, from),
				}
				b.want(want...)
				if b != other {
					other.want(want...)
				}
				a.want()
				if targets, code := w.node.Publish(Publication{Kind: codec.KindDirect, Name: to, Sender: from}); code != 0 || targets < 1 {
					t.Errorf("published to %d, %v", targets, code)
				}
				w.run()
				b.want(fmt.Sprintf("MSG direct %s %s: ", pair, from))
				a.take()
				w.wantDrops(DropStaleSession, 0)
				w.end()
			}
		}
	}
}

func TestDirectToNobody(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "phone")
	a.ask(message(1, codec.KindDirect, "nobody", "hi"))
	a.want("SENDACK 1 OK")
}

// TestHashCollision: the directory knows hashes only. A candidate with another name does not get the message.
func TestHashCollision(t *testing.T) {
	w := newWorld(t, 2)
	a, b, c := w.login(0, "anna", "phone"), w.login(0, "bob", "phone"), w.login(1, "carl", "phone")
	dir := w.node.dir
	for _, x := range []*client{b, c} { // as if both had the hash of dora
		dir.Add(dir.Hash([]byte("dora")), x.loop.sh.ref(x.session))
	}
	a.ask(toUser("dora", "for dora"))
	b.want()
	c.want()
	w.wantDrops(DropStaleSession, 2)
	if asked, code := w.node.Kick("dora", "", "out"); asked != 2 || code != codec.CodeOK {
		t.Errorf("asked %d, %v", asked, code)
	}
	w.run()
	b.alive()
	c.alive()
	calls, _ := w.node.Lookup([]string{"dora"}, func(s []SessionInfo) {
		if len(s) != 0 {
			t.Errorf("found %+v", s)
		}
	})
	if w.run(); calls != 2 {
		t.Errorf("%d calls", calls)
	}
	for _, x := range []*client{b, c} {
		dir.Remove(dir.Hash([]byte("dora")), x.loop.sh.ref(x.session))
	}
	w.end()
}

// TestOldRefDoesNotReachANewSession: a message on its way to a session that ended is not given to the next one in its
// place, not even to one of the same user.
func TestOldRefDoesNotReachANewSession(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "anna", "phone"), w.login(1, "bob", "phone")
	a.send(toUser("bob", "late"))
	w.loops[0].sh.Drain() // it is in shard 1's inbox now
	b.disconnect()
	next := w.open(1)
	if next.session.index != b.session.index {
		t.Fatalf("place %d, not %d", next.session.index, b.session.index)
	}
	next.send(hello("bob", "phone"))
	w.run()
	next.want("WELCOME bob 60s")
	w.wantDrops(DropStaleSession, 1)
}

func TestGenerationsWrap(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "phone")
	sh := w.node.Shard(0)
	w.node.dir.Remove(w.node.dir.Hash([]byte("anna")), sh.ref(c.session))
	c.session.gen = maxGen
	w.node.dir.Add(w.node.dir.Hash([]byte("anna")), sh.ref(c.session))
	c.disconnect()
	if c.session.gen != 1 {
		t.Errorf("generation %d after the highest", c.session.gen)
	}
	w.login(0, "anna", "phone").alive()
}

func TestSendRefusals(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.login1(AuthAnswer{Rights: &testRights{pub: "mine"}}, "anna", "d")
	nine := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	with := func(flags uint8, kind codec.Kind, name string) []byte {
		return codec.AppendSend(nil, codec.Send{Req: 3, Flags: flags, Kind: kind, Name: []byte(name)})
	}
	for _, x := range []struct {
		name string
		in   []byte
		want codec.Code
	}{
		{"allowed", with(0, codec.KindTopic, "mine"), codec.CodeOK},
		{"8 tags", message(3, codec.KindTopic, "mine", "", nine[:8]...), codec.CodeOK},
		{"tag of 64", message(3, codec.KindTopic, "mine", "", strings.Repeat("t", 64)), codec.CodeOK},
		{"another topic", with(0, codec.KindTopic, "yours"), codec.CodeForbidden},
		{"all", with(0, codec.KindAll, "all"), codec.CodeForbidden},
		{"all under another name", with(0, codec.KindAll, "everybody"), codec.CodeInvalid},
		{"kind 0", with(0, 0, "x"), codec.CodeInvalid},
		{"kind 5", with(0, 5, "x"), codec.CodeInvalid},
		{"group", with(0, codec.KindGroup, "g"), codec.CodeNotFound},
		{"no name", with(0, codec.KindDirect, ""), codec.CodeInvalid},
		{"name with a separator", with(0, codec.KindDirect, "a\x1fb"), codec.CodeInvalid},
		{"name too long", with(0, codec.KindTopic, strings.Repeat("x", 65)), codec.CodeInvalid},
		{"durable", with(codec.MsgDurable, codec.KindTopic, "mine"), codec.CodeInvalid},
		{"9 tags", message(3, codec.KindTopic, "mine", "", nine...), codec.CodeInvalid},
		{"empty tag", message(3, codec.KindTopic, "mine", "", ""), codec.CodeInvalid},
		{"tag of 65", message(3, codec.KindTopic, "mine", "", strings.Repeat("t", 65)), codec.CodeInvalid},
	} {
		c.ask(x.in)
		if got := c.take(); len(got) != 1 || got[0] != "SENDACK 3 "+x.want.String() {
			t.Errorf("%s: got %q, want %v", x.name, got, x.want)
		}
		// Without a req it is not answered, unless it is durable.
		quiet := slices.Clone(x.in)
		f, _, _ := codec.ConsumeFrame(quiet, codec.MaxBody)
		copy(f.Body, make([]byte, 4))
		c.ask(quiet)
		if got := c.take(); x.name == "durable" != (len(got) == 1) {
			t.Errorf("%s with req 0: got %q", x.name, got)
		}
	}
	w.wantDrops(DropForbidden, 4)
	w.wantDrops(DropUnsupported, 4)
	w.wantDrops(DropInvalid, 2*9)
}

func TestLongestMessage(t *testing.T) {
	for _, limit := range []int{8 << 10, codec.MaxBody} {
		w := newWorld(t, 1, func(c *Config) { c.MaxFrame = limit })
		limit = w.node.cfg.MaxFrame
		user := strings.Repeat("u", 64)
		a := w.login(0, user, "one", "t")
		b := w.login(0, user, "two", "t")
		for _, kind := range []codec.Kind{codec.KindTopic, codec.KindDirect} {
			name := map[codec.Kind]string{codec.KindTopic: "t", codec.KindDirect: user}[kind]
			head := len(message(1, kind, name, "")) - codec.HeaderLen
			payload := strings.Repeat("p", limit-head)
			a.ask(message(1, kind, name, payload))
			if got := a.take(); len(got) == 0 || got[0] != "SENDACK 1 OK" {
				t.Errorf("%v: %.80q", kind, got)
			}
			if got := b.take(); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprint(len(payload))) {
				t.Errorf("%v: %.80q", kind, got)
			}
		}
		if limit < codec.MaxBody-200 {
			head := len(message(1, codec.KindTopic, "t", "")) - codec.HeaderLen
			a.send(message(1, codec.KindTopic, "t", strings.Repeat("p", limit-head+1))[:codec.HeaderLen])
			w.run()
			a.wantBye(codec.CodeMalformed)
		}
		w.end()
	}
}
