package shard

import (
	"fmt"
	"testing"
	"time"

	"gannet/codec"
)

func pull(req uint32, kind codec.Kind, name string, from uint64, limit uint16) []byte {
	return codec.AppendPull(nil, codec.Pull{Req: req, Kind: kind, Name: []byte(name), From: from, Limit: limit})
}

func list(req uint32, after uint64, limit uint16) []byte {
	return codec.AppendList(nil, codec.List{Req: req, After: after, Limit: limit})
}

func TestPull(t *testing.T) {
	w := newLogWorld(t, 1, judged)
	defer w.end()
	a := w.login1(AuthAnswer{Rights: &testRights{sub: "mine"}}, "anna", "d")
	w.say(codec.KindDirect, "anna", 1, 5)
	a.take()
	pair := "anna\x1fbob"
	a.ask(pull(1, codec.KindDirect, pair, 2, 2), pull(2, codec.KindTopic, "mine", 1, 65535), pull(3, codec.KindAll, "all", 0, 1))
	a.want(lines("RANGE 1 OK ×2 next 4", said("direct anna+bob", 2, 3), []string{"RANGE 2 OK next 1", "RANGE 3 OK next 1"})...)
	for _, x := range []struct {
		name string
		in   []byte
		want codec.Code
	}{
		{"limit 0", pull(1, codec.KindDirect, pair, 1, 0), codec.CodeInvalid},
		{"foreign pair", pull(1, codec.KindDirect, "bob\x1fcarl", 1, 9), codec.CodeForbidden},
		{"no pair", pull(1, codec.KindDirect, "bob", 1, 9), codec.CodeInvalid},
		{"topic without the right", pull(1, codec.KindTopic, "yours", 1, 9), codec.CodeForbidden},
		{"inbox as a kind", pull(1, codec.KindInbox, "x", 1, 9), codec.CodeInvalid},
		{"kind 9", pull(1, 9, "x", 1, 9), codec.CodeInvalid},
		{"no name", pull(1, codec.KindTopic, "", 1, 9), codec.CodeInvalid},
	} {
		a.ask(x.in)
		if got := a.take(); len(got) != 1 || got[0] != fmt.Sprintf("RANGE 1 %v", x.want) {
			t.Errorf("%s: got %q, want %v", x.name, got, x.want)
		}
	}
	a.ask(list(4, 0, 10), list(5, 0, 0))
	a.want("LISTED 5 INVALID", "LISTED 4 OK")
}

func TestTooManyReads(t *testing.T) {
	w := newLogWorld(t, 1, func(c *Config) { c.MaxReads = 3 })
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.auto = false
	for i := range 3 {
		a.ask(pull(uint32(i+1), codec.KindAll, "all", 1, 1))
	}
	a.ask(pull(4, codec.KindAll, "all", 1, 1), list(5, 0, 1))
	a.want("RANGE 4 BUSY", "LISTED 5 BUSY")
	w.log.serve(1)
	w.run()
	a.ask(list(6, 0, 1), list(7, 0, 1))
	a.want("RANGE 1 OK next 1", "LISTED 7 BUSY")
	w.log.broken = codec.CodeUnavailable
	w.log.serve(1)
	w.log.broken = codec.CodeOK
	w.log.auto = true
	w.run()
	a.want("RANGE 2 UNAVAILABLE", "RANGE 3 OK next 1", "LISTED 6 OK")
	w.log.roomReads = 0
	a.ask(list(8, 0, 1), pull(9, codec.KindAll, "all", 1, 1))
	a.want("LISTED 8 BUSY", "RANGE 9 BUSY")
	w.wantRest()
}

func TestPullAnswerTooLate(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.auto = false
	a.ask(pull(1, codec.KindAll, "all", 1, 1), list(2, 0, 1), sub(3, codec.KindTopic, "t"))
	a.disconnect()
	w.run()
	b := w.login2(0, "bob") // in its place
	w.log.auto = true
	w.run()
	b.want()
}

// Frames of a RANGE stand together, whatever else comes in the same turn.
func TestRangeStandsTogether(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.say(codec.KindTopic, "t", 1, 3)
	a := w.login(0, "anna", "d", "t")
	w.log.auto = false
	a.ask(pull(1, codec.KindTopic, "t", 1, 3))
	w.log.serve(-1)
	w.log.post(codec.KindTopic, "t", "bob", "4")
	w.log.post(codec.KindDirect, "anna", "bob", "1")
	w.log.auto = true
	w.run()
	got := a.take()
	for i, line := range got {
		if line == "RANGE 1 OK ×3 next 4" && fmt.Sprint(got[i+1:i+4]) == fmt.Sprint(said("topic t", 1, 3)) {
			return
		}
	}
	t.Errorf("got %q", got)
}

func TestWithoutALog(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	a.ask(durable(1, codec.KindDirect, "bob", "x"), pull(2, codec.KindAll, "all", 1, 1), list(3, 0, 1), ackPos(9), message(4, codec.KindGroup, "g", "x"))
	a.want("SENDACK 1 INVALID", "RANGE 2 NOT_FOUND", "LISTED 3 NOT_FOUND", "SENDACK 4 NOT_FOUND")
	w.pass(2 * time.Second)
}
