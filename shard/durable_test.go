package shard

import (
	"fmt"
	"strings"
	"testing"

	"gannet/codec"
)

// durable is a durable SEND; its nonce is its req.
func durable(req uint32, kind codec.Kind, name, payload string, tags ...string) []byte {
	return codec.AppendSend(nil, codec.Send{
		Ext: routes(tags...), Req: req, Nonce: uint64(req), Flags: codec.MsgDurable, Kind: kind, Name: []byte(name), Payload: []byte(payload),
	})
}

// ackPos acknowledges the inbox up to a position.
func ackPos(pos uint64) []byte {
	return codec.AppendAck(nil, codec.Ack{Mode: codec.AckDelivered, InboxPos: pos})
}

func TestDurableDirect(t *testing.T) {
	w := newLogWorld(t, 3)
	defer w.end()
	a, a2 := w.login(0, "anna", "d"), w.login(1, "anna", "e")
	b, b2 := w.login(1, "bob", "d"), w.login(2, "bob", "e")
	w.log.auto = false
	a.ask(durable(1, codec.KindDirect, "bob", "one"), durable(2, codec.KindDirect, "bob", "two"))
	for _, c := range []*client{a, a2, b, b2} {
		c.want() // nobody hears of it before it is stored
	}
	w.log.commit(1)
	w.run()
	a.want("SENDACK 1 OK #1", "POS 1")
	w.log.commit(1)
	w.run()
	a.want("SENDACK 2 OK #2", "POS 2")
	for _, c := range []*client{a2, b, b2} {
		c.want("MSG direct anna+bob #1 anna: one", "POS 1", "MSG direct anna+bob #2 anna: two", "POS 2")
	}
	b.ask(durable(1, codec.KindDirect, "anna", "three"), durable(2, codec.KindDirect, "bob", "self"), durable(3, codec.KindDirect, "carl", "away"))
	w.log.commit(-1)
	w.run()
	b.want("SENDACK 1 OK #3", "SENDACK 2 OK #1", "SENDACK 3 OK #1", "POS 5")
	b2.want("MSG direct anna+bob #3 bob: three", "MSG direct bob+bob #1 bob: self", "MSG direct bob+carl #1 bob: away", "POS 5")
	a.want("MSG direct anna+bob #3 bob: three", "POS 3")
	if n := w.stats().Durable; n != 5 {
		t.Errorf("%d durable messages counted", n)
	}
}

func TestDurableRooms(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	a, b, c := w.login(0, "anna", "d", "news"), w.login(1, "bob", "d", "news"), w.login(1, "carl", "d")
	w.log.group("few", false, "anna", "carl")
	w.run()
	a.take()
	c.take()
	w.log.auto = false
	a.ask(durable(1, codec.KindTopic, "news", "t"), durable(2, codec.KindAll, "all", "a"), durable(3, codec.KindGroup, "few", "g"),
		message(4, codec.KindTopic, "news", "brief"), message(5, codec.KindGroup, "few", "brief"))
	a.want("SENDACK 4 OK", "MSG topic news anna: brief") // goes no way round over the log
	b.want("MSG topic news anna: brief")
	w.log.commit(-1)
	w.run()
	a.want("MSG group few #2 anna: g", "MSG group few anna: brief", "SENDACK 1 OK #1", "SENDACK 2 OK #1", "SENDACK 3 OK #2", "SENDACK 5 OK", "POS 4",
		"MSG topic news #1 anna: t", "MSG all all #1 anna: a")
	b.want("MSG topic news #1 anna: t", "MSG all all #1 anna: a")
	c.want("MSG group few #2 anna: g", "MSG group few anna: brief", "POS 4", "MSG all all #1 anna: a")
}

// A refusal of the kind that may pass blocks every higher nonce until that one comes again.
func TestDurableOrderAcrossRefusals(t *testing.T) {
	direct := func(nonce uint32) []byte { return durable(nonce, codec.KindDirect, "bob", "x") }
	for _, x := range []struct {
		name   string
		mutate func(*Config)
		break_ func(*world)
		mend   func(*world)
		code   codec.Code
		drop   Drop
	}{
		{"window", func(c *Config) { c.Window = 2 }, func(*world) {}, func(w *world) { w.log.commit(-1); w.run() }, codec.CodeBusy, DropWindow},
		{"rate", func(c *Config) { c.SendRate = 1 }, func(*world) {}, func(w *world) { w.log.commit(-1); w.pass(3e9) }, codec.CodeRateLimited, DropRateLimited},
		{
			"log full", nil, func(w *world) { w.log.roomEntries = 2 },
			func(w *world) { w.log.roomEntries = -1; w.log.commit(-1); w.run() }, codec.CodeBusy, DropLogFull,
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			mutate := []func(*Config){}
			if x.mutate != nil {
				mutate = append(mutate, x.mutate)
			}
			w := newLogWorld(t, 1, mutate...)
			defer w.end()
			a := w.login(0, "anna", "d")
			w.log.auto = false
			x.break_(w)
			a.ask(direct(1), direct(2), direct(3))
			a.want(fmt.Sprintf("SENDACK 3 %v", x.code))
			x.mend(w)
			a.want("SENDACK 1 OK #1", "SENDACK 2 OK #2", "POS 2")
			a.ask(direct(4), direct(5)) // there is room, but not for them
			a.want(fmt.Sprintf("SENDACK 4 %v", x.code), fmt.Sprintf("SENDACK 5 %v", x.code))
			a.ask(direct(1)) // a lower one is no matter
			w.log.commit(-1)
			w.run()
			a.want("SENDACK 1 DUPLICATE #1")
			w.pass(2e9)
			a.ask(direct(3), direct(4))
			w.log.commit(-1)
			w.run()
			a.want("SENDACK 3 OK #3", "SENDACK 4 OK #4", "POS 4")
			w.wantDrops(x.drop, 1)
			w.wantDrops(DropBlocked, 2)
		})
	}
}

// What the log refuses itself blocks as well, also what was on its way to it meanwhile.
func TestDurableRefusedByTheLog(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.auto = false
	direct := func(nonce uint32) []byte { return durable(nonce, codec.KindDirect, "bob", "x") }
	a.ask(direct(1), direct(2), direct(3))
	w.log.commit(1)
	w.log.failing = codec.CodeUnavailable
	w.log.commit(1)
	w.log.failing = codec.CodeOK
	a.ask(direct(4)) // before the refusal is known
	w.log.commit(-1)
	w.run()
	a.want("SENDACK 1 OK #1", "SENDACK 2 UNAVAILABLE", "POS 1", "SENDACK 3 UNAVAILABLE", "SENDACK 4 UNAVAILABLE")
	a.ask(direct(5))
	a.want("SENDACK 5 UNAVAILABLE")
	a.ask(direct(2), direct(3), direct(4), direct(5))
	w.log.commit(-1)
	w.run()
	a.want("SENDACK 2 OK #2", "SENDACK 3 OK #3", "SENDACK 4 OK #4", "SENDACK 5 OK #5", "POS 5")
	// A message that will never be stored blocks nobody.
	w.log.groups["closed"] = &modelGroup{users: map[string]uint64{"bob": 1}}
	a.ask(durable(6, codec.KindGroup, "closed", "x"), durable(7, codec.KindGroup, "none", "x"), direct(8))
	w.log.commit(-1)
	w.run()
	a.want("SENDACK 6 FORBIDDEN", "SENDACK 7 NOT_FOUND", "SENDACK 8 OK #6", "POS 6")
	w.wantDrops(DropStore, 3)
	w.wantDrops(DropForbidden, 1)
}

// The answer to a first try may come when the second one is under way already.
func TestDurableRetryBeforeTheRefusal(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.auto = false
	w.log.failing = codec.CodeUnavailable
	a.ask(durable(1, codec.KindDirect, "bob", "x"))
	a.ask(durable(1, codec.KindDirect, "bob", "x"))
	w.log.commit(1)
	w.log.failing = codec.CodeOK
	w.log.commit(1)
	w.run()
	a.want("SENDACK 1 UNAVAILABLE", "SENDACK 1 OK #1", "POS 1")
	a.ask(durable(2, codec.KindDirect, "bob", "x"))
	w.log.commit(1)
	w.run()
	a.want("SENDACK 2 OK #2", "POS 2")
}

func TestDurableInvalid(t *testing.T) {
	w := newLogWorld(t, 1, judged)
	defer w.end()
	a := w.login1(AuthAnswer{Rights: &testRights{pub: "mine"}}, "anna", "d")
	bad := func(req uint32, nonce uint64, kind codec.Kind, name string, tags ...string) []byte {
		return codec.AppendSend(nil, codec.Send{
			Ext: routes(tags...), Req: req, Nonce: nonce, Flags: codec.MsgDurable, Kind: kind, Name: []byte(name),
		})
	}
	a.ask(bad(1, 0, codec.KindDirect, "bob"), bad(2, 2, 0, "bob"), bad(3, 3, codec.KindDirect, ""), bad(4, 4, codec.KindAll, "some"),
		bad(5, 5, codec.KindDirect, "bob", ""), bad(6, 6, codec.KindTopic, "yours"), bad(7, 7, codec.KindAll, "all"), bad(0, 0, codec.KindDirect, "bob"))
	a.want("SENDACK 1 INVALID", "SENDACK 2 INVALID", "SENDACK 3 INVALID", "SENDACK 4 INVALID", "SENDACK 5 INVALID", "SENDACK 6 FORBIDDEN",
		"SENDACK 7 FORBIDDEN", "SENDACK 0 INVALID")
	a.ask(durable(1, codec.KindTopic, "mine", "x")) // nothing of that blocks
	a.want("SENDACK 1 OK #1")
	a.ask(message(0, codec.KindGroup, "none", "x"), codec.AppendSend(nil, codec.Send{Nonce: 9, Kind: codec.KindGroup, Name: []byte("none")}))
	a.want() // ephemeral ones with req 0 are never answered
	a.ask(durable(2, codec.KindTopic, "mine", "x"), durable(10, codec.KindTopic, "mine", "x"))
	a.want("SENDACK 2 OK #2", "SENDACK 10 OK #3") // and block nothing, whatever nonce they have
	w.wantRest()
}

func TestDurableSenderGone(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	a, b := w.login(0, "anna", "d"), w.login(1, "bob", "d")
	w.log.auto = false
	a.ask(durable(1, codec.KindDirect, "bob", "x"))
	a.disconnect()
	w.run()
	c := w.open(0) // in the place of the one that has gone
	w.log.auto = true
	c.ask(hello("anna", "d"))
	w.run()
	b.want("MSG direct anna+bob #1 anna: x", "POS 1")
	if got := c.take(); len(got) == 0 || got[0] != "WELCOME anna 60s <6:\"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01\">" &&
		!strings.HasPrefix(got[0], "WELCOME anna 60s inbox 0/1") {
		t.Errorf("got %q", got)
	}
	c.ask(durable(1, codec.KindDirect, "bob", "x"))
	c.want("SENDACK 1 DUPLICATE #1")
}

// A room that is behind its fan-outs takes no more.
func TestDurableRoomFull(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.RoomLimit = 1000 })
	defer w.end()
	a, b := w.login(0, "anna", "d", "t"), w.login(0, "bob", "d")
	big := strings.Repeat("x", 900)
	w.log.auto = false
	a.ask(durable(1, codec.KindTopic, "t", big))
	w.log.commit(-1)
	// It is in the mailbox and not yet taken.
	b.send(durable(1, codec.KindTopic, "t", big), durable(2, codec.KindDirect, "anna", "x"))
	w.run()
	b.want("SENDACK 1 BUSY", "SENDACK 2 BUSY")
	w.wantDrops(DropRoomFull, 1)
	a.take()
	b.ask(durable(1, codec.KindTopic, "t", big))
	w.log.commit(-1)
	w.run()
	b.want("SENDACK 1 OK #2")
}

// A blocked nonce that comes again and is refused for good blocks nobody any more.
func TestDurableBlockEndsWithARefusalForGood(t *testing.T) {
	for name, x := range map[string]struct {
		again []byte
		code  codec.Code
	}{
		"invalid":   {durable(1, codec.KindDirect, "\x00", "x"), codec.CodeInvalid},
		"forbidden": {durable(1, codec.KindTopic, "closed", "x"), codec.CodeForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLogWorld(t, 1, func(c *Config) { c.OpenRights = &testRights{pub: "open", sub: "*"} })
			defer w.end()
			a := w.login(0, "anna", "d")
			w.log.roomEntries = 0
			a.ask(durable(1, codec.KindDirect, "bob", "x"), durable(2, codec.KindDirect, "bob", "x"))
			a.want("SENDACK 1 BUSY", "SENDACK 2 BUSY")
			w.log.roomEntries = -1
			a.ask(x.again, durable(2, codec.KindDirect, "bob", "x"))
			a.want(fmt.Sprintf("SENDACK 1 %v", x.code), "SENDACK 2 OK #1", "POS 1")
		})
	}
}
