//go:build !race

package shard

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"gannet/codec"
)

func TestNoRaceSizes(t *testing.T) {
	for _, x := range []struct {
		name      string
		got, want uintptr
	}{
		{"Session", unsafe.Sizeof(Session{}), 64},
		{"item", unsafe.Sizeof(item{}), 64},
		{"subscription", unsafe.Sizeof(subscription{}), 16},
		{"flow", unsafe.Sizeof(flow{}), 56},
		{"dirEntry", unsafe.Sizeof(dirEntry{}), 16},
	} {
		if x.got != x.want {
			t.Errorf("%s has %d bytes, want %d", x.name, x.got, x.want)
		}
	}
}

// allocations is how many allocations f makes a call, in the steady state.
func allocations(f func()) float64 {
	const calls = 20_000
	for range calls {
		f()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls
}

func TestNoRaceAllocations(t *testing.T) {
	for _, step := range []int64{0, 3 * joinWithin} { // a busy loop, and one at rest
		for _, x := range []struct {
			name    string
			members int
			in      []byte
			max     float64
		}{
			{"PING", 0, ping(), 0.001},
			{"SEND to a room of 1", 1, toTopic("t", strings.Repeat("x", 60)), 0.02},
			{"SEND to a room of 10, acknowledged", 10, message(7, codec.KindTopic, "t", strings.Repeat("x", 60)), 0.02},
			{"SEND to a room of 200", 200, toTopic("t", strings.Repeat("x", 60)), 0.02},
			{"SEND with tags to a room", 10, toTopic("t", "x", "one", "two"), 0.02},
			{"SEND direct", 0, toUser("bob", strings.Repeat("x", 60)), 0.02},
			{"SEND direct to another shard", 0, toUser("carl", strings.Repeat("x", 60)), 0.02},
		} {
			t.Run(fmt.Sprintf("%s, step %d", x.name, step), func(t *testing.T) {
				w := newQuietWorld(2)
				a := w.login(t, 0, new(quietConn), hello("anna", "d"))
				w.login(t, 0, new(quietConn), hello("bob", "d"))
				w.login(t, 1, new(quietConn), hello("carl", "d"))
				w.crowd(t, 0, x.members, "t")
				w.crowd(t, 1, x.members, "t")
				w.clock.step = step
				sent := quietBytes
				n := allocations(func() {
					w.bring(0, a, x.in)
					w.run()
				})
				if n > x.max {
					t.Errorf("%.4f allocations a call", n)
				}
				if quietBytes == sent {
					t.Error("nothing was written")
				}
			})
		}
	}
}

// quietLog stores nothing: everything is committed when it is asked to.
type quietLog struct {
	entries []Entry
	courier *Courier
	place   uint64
}

func (l *quietLog) Submit(entries []Entry) int {
	l.entries = append(l.entries, entries...)
	return len(entries)
}

func (l *quietLog) Read(reads []*Read) int {
	for _, r := range reads {
		l.courier.node.Served(r)
	}
	return len(reads)
}

func (l *quietLog) Mark(marks []Mark) int { return len(marks) }
func (l *quietLog) Epoch() uint64         { return 1 }

func (l *quietLog) commit() {
	for i := range l.entries {
		e := &l.entries[i]
		l.place++
		if a, b, ok := codec.SplitPair(e.Name()); e.Kind == codec.KindDirect && ok {
			l.courier.Inbox(a, l.place, e.Frame(), e.Born, e.Ref)
			l.courier.Inbox(b, l.place, e.Frame(), e.Born, e.Ref)
		} else {
			l.courier.Room(e.Kind, e.Name(), l.place, e.Frame(), e.Born)
		}
		l.courier.Answer(Answer{Ref: e.Ref, Nonce: e.Nonce, Req: e.Req, Seq: l.place})
	}
	l.courier.Send(nil)
	l.entries = l.entries[:0]
}

// A durable message costs no allocation from the SEND to the last delivery, but for its share of a block.
func TestNoRaceDurableAllocations(t *testing.T) {
	for _, x := range []struct {
		name    string
		members int
		kind    codec.Kind
		to      string
	}{
		{"direct", 0, codec.KindDirect, "bob"},
		{"direct to another shard", 0, codec.KindDirect, "carl"},
		{"topic", 10, codec.KindTopic, "t"},
		{"topic of many", 200, codec.KindTopic, "t"},
	} {
		t.Run(x.name, func(t *testing.T) {
			log := &quietLog{}
			w := newQuietWorld(2, func(c *Config) { c.Log = log })
			log.courier = w.node.NewCourier()
			logIn := func(shard int, in []byte) *Session {
				s := w.loops[shard].sh.Open(new(quietConn))
				w.bring(shard, s, in)
				w.run()
				if quietIn = nil; !s.Live() {
					t.Fatal("not logged in")
				}
				return s
			}
			a := logIn(0, hello("anna", "d"))
			logIn(0, hello("bob", "d"))
			logIn(1, hello("carl", "d"))
			for i := range 2 * x.members {
				s := logIn(i%2, hello("crowd", fmt.Sprint(i)))
				sh := w.loops[i%2].sh
				sh.enter(sh.attach(s, sh.joinRoom(codec.KindTopic, []byte("t")), 0), 0)
			}
			sent := quietBytes
			in := durable(1, x.kind, x.to, strings.Repeat("x", 60))
			n := allocations(func() {
				w.bring(0, a, in)
				w.run()
				log.commit()
				w.run()
			})
			if n > 0.02 {
				t.Errorf("%.4f allocations a message", n)
			}
			if quietBytes-sent < 2*20_000*60 {
				t.Error("not enough was written")
			}
		})
	}
}
