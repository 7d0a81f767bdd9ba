package shard

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"gannet/codec"
)

// FuzzTraffic brings arbitrary bytes in arbitrary pieces to a fresh session, to one whose credential is being judged and to
// one that is logged in.
func FuzzTraffic(f *testing.F) {
	ack := codec.Ack{Mode: codec.AckRead}
	ack.Marks.Append(codec.Mark{Kind: codec.KindTopic, Name: []byte("t"), Seq: 1})
	for _, in := range [][]byte{
		hello("anna", "d", "t", "u"), ping(), sub(1, codec.KindTopic, "t", "x", "y"), sub(2, codec.KindAll, "all"), unsub(3, codec.KindTopic, "t"),
		toTopic("t", "hi", "x"), toUser("anna", "hi"), toUser("bob", "hi"), message(4, codec.KindAll, "all", "hi"), token("tok"),
		setState(codec.KindTopic, "t", "k", 0, "v"), setState(codec.KindDirect, "anna", "k", 1, ""), setState(codec.KindAll, "all", "k", 1, "v"),
		codec.AppendAck(nil, ack), codec.AppendPull(nil, codec.Pull{Req: 5, Kind: codec.KindTopic, Name: []byte("t")}),
		codec.AppendList(nil, codec.List{Req: 6}), codec.AppendBye(nil, codec.Bye{}), {0, 0, 0, 31}, {0xff, 0xff, 0xff, 8}, {0, 0, 5, 24, 0, 0, 0, 7, 1},
		codec.AppendPing(nil, codec.Ping{Ext: codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, 1), Data: []byte("12345678")}),
	} {
		f.Add(in, uint16(3))
		f.Add(slices.Concat(hello("anna", "d"), in, in, ping()), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, data []byte, cuts uint16) {
		for _, open := range []bool{true, false} {
			w := newWorld(t, 2, func(c *Config) {
				c.MaxFrame, c.OutLimit, c.MaxStates, c.SendRate = codec.LoginLimit, 64*kib, 100, 1000
				if !open {
					c.OpenRights = nil
				}
			})
			fresh := w.open(0)
			if !open {
				fresh.feed(data, cuts)
				w.answerAll()
				w.end()
				continue
			}
			live, friend := w.login(0, "live", "d", "t"), w.login(1, "anna", "d", "t")
			stuck := w.login(1, "bob", "d", "t")
			stuck.room = 0
			live.feed(data, cuts)
			fresh.feed(data, cuts)
			if live.session.Live() && live.session.partial == 0 && len(live.in) == 0 {
				live.alive()
			}
			if friend.session.Live() { // it may have been replaced
				friend.alive()
			}
			w.pass(time.Second)
			w.check()
			w.end()
		}
	})
}

// feed brings data in pieces whose lengths follow from cuts.
func (c *client) feed(data []byte, cuts uint16) {
	data = bytes.Clone(data)
	for len(data) > 0 && !c.closed {
		n := min(len(data), int(cuts%251)+1)
		cuts = cuts*25173 + 13849
		c.ask(data[:n])
		data = data[n:]
		if c.closed {
			break
		}
		if live := c.session.Live(); !live && !c.shut && c.session.phase == phaseClosing && len(c.pending) == 0 && *c.loop.sh.due.at(c.session.index) > c.loop.sh.nowTick {
			c.w.t.Fatalf("neither live nor told goodbye")
		}
		if len(c.in) > loginBacklog+codec.LoginLimit || len(c.pending) > 64*kib {
			c.w.t.Fatalf("%d bytes are kept inbound, %d outbound", len(c.in), len(c.pending))
		}
		c.take()
	}
}

func (w *world) answerAll() {
	for len(w.host.asked) > 0 {
		w.answer(AuthAnswer{User: "anna"})
	}
}
