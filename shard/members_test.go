package shard

import (
	"fmt"
	"testing"

	"gannet/codec"
)

// largeGroup makes a large group whose members are logged in, on all shards in turn.
func (w *world) largeGroup(name string, users ...string) (members []*client) {
	w.log.group(name, true, users...)
	for i, u := range users {
		members = append(members, w.login(i%len(w.loops), u, "d"))
	}
	for _, c := range members {
		c.take()
	}
	return members
}

func TestLargeGroup(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	m := w.largeGroup("g", "anna", "bert", "carl")
	zoe := w.login(0, "zoe", "d")
	w.say(codec.KindGroup, "g", 2, 3)
	for _, c := range m {
		c.want(said("group g", 2, 3)...)
	}
	m[0].ask(durable(1, codec.KindGroup, "g", "x"), message(2, codec.KindGroup, "g", "brief"))
	zoe.ask(durable(1, codec.KindGroup, "g", "x"))
	zoe.want("SENDACK 1 FORBIDDEN")
	m[0].want("SENDACK 1 OK #4", "MSG group g #4 anna: x", "SENDACK 2 OK", "MSG group g anna: brief")
	w.log.add("g", "zoe")
	w.run()
	zoe.want("MSG group g #5 admin: +zoe") // and nothing older
	w.log.remove("g", "bert")
	w.run()
	w.say(codec.KindGroup, "g", 7, 7)
	zoe.want("MSG group g #6 admin: -bert", "MSG group g #7 bob: 7")
	m[1].want("MSG group g #4 anna: x", "MSG group g anna: brief", "MSG group g #5 admin: +zoe")
	w.wantRest()
}

// What was said before a member left comes, in whatever state its messages are; nothing comes of what was said after.
func TestLeaveWhileMessagesAreOnTheirWay(t *testing.T) {
	for _, members := range []int{2, 2 * smallRoom} {
		for steps := range 12 {
			w := newLogWorld(t, 1)
			users := []string{}
			for i := range members {
				users = append(users, fmt.Sprintf("u%03d", i))
			}
			m := w.largeGroup("g", users...)
			w.clock.step = 100_000 // a run takes many slices
			for i := range 4 {
				w.log.post(codec.KindGroup, "g", "bob", fmt.Sprint(i+2))
				if i == 1 || i == 2 {
					for range steps {
						w.step()
					}
				}
			}
			for i := 0; i < members; i += 2 {
				w.log.remove("g", users[i])
			}
			w.log.post(codec.KindGroup, "g", "bob", "late")
			w.run()
			for i, c := range m {
				want := said("group g", 2, 5)
				for j := 1; j < i && j < members; j += 2 {
					want = append(want, fmt.Sprintf("MSG group g #%d admin: -%s", 6+j/2, users[j-1]))
				}
				if i%2 == 1 {
					want = want[:4]
					for j := 0; j < members; j += 2 {
						want = append(want, fmt.Sprintf("MSG group g #%d admin: -%s", 6+j/2, users[j]))
					}
					want = append(want, fmt.Sprintf("MSG group g #%d bob: late", 6+(members+1)/2))
				}
				c.want(want...)
			}
			w.clock.step = 0
			w.end()
		}
	}
}

// A removed member that reads the log itself gets nothing more, also when its read was served before.
func TestLeaveWhileAway(t *testing.T) {
	w := newLogWorld(t, 1, patient, func(c *Config) { c.OutLimit = 16 << 10 })
	defer w.end()
	m := w.largeGroup("g", "anna", "bert")
	a := w.listen(m[0])
	a.next["group g"] = 2
	a.stall(100)
	for i := range 60 {
		w.log.post(codec.KindGroup, "g", "bob", payloadOf(uint64(i+2), 1000))
		w.run()
	}
	w.log.auto = false
	a.read(-1)
	w.tick()
	w.log.serve(-1)
	w.log.remove("g", "anna")
	w.log.post(codec.KindGroup, "g", "bob", payloadOf(63, 1000))
	w.log.auto = true
	w.run()
	for range 5 {
		w.tick()
	}
	a.hear(nil)
	if a.next["group g"] > 62 {
		t.Errorf("it got #%d", a.next["group g"]-1)
	}
	w.wantRest()
}

// The store looks at the right again at each read: who was removed without being told is put out.
func TestExpelled(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.largeGroup("g", "anna", "bert")[0]
	delete(w.log.groups["g"].users, "anna")
	a.ask(subAt(1, codec.KindGroup, "g", w.log.Epoch(), 0))
	a.want("SUBACK 1 NOT_FOUND")
	w.log.groups["g"].users["anna"] = 1
	w.log.auto = false
	a.ask(subAt(2, codec.KindGroup, "g", w.log.Epoch(), 0))
	w.log.serve(-1)
	delete(w.log.groups["g"].users, "anna")
	w.log.auto = true
	w.run()
	a.want("SUBACK 2 OK 1/1")
	w.say(codec.KindGroup, "g", 2, 2)
	a.want()
	w.wantRest()
}

// Changes that come while a login is under way count, whether the log looked at the groups before or behind them.
func TestChangesDuringALogin(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, x := range []struct {
			name   string
			change func(l *modelLog)
			member bool
		}{
			{"add", func(l *modelLog) { l.add("g", "anna") }, true},
			{"add and remove", func(l *modelLog) { l.add("g", "anna"); l.remove("g", "anna") }, false},
			{"remove", func(l *modelLog) { l.remove("h", "anna"); l.add("g", "anna") }, true},
			{"remove and add", func(l *modelLog) { l.add("g", "anna"); l.remove("g", "anna"); l.add("g", "anna") }, true},
			{"grow", func(l *modelLog) { l.add("few", "anna"); l.grow("few"); l.add("g", "anna") }, true},
		} {
			t.Run(fmt.Sprint(x.name, early), func(t *testing.T) {
				w := newLogWorld(t, 2)
				defer w.end()
				w.log.group("g", true, "bert")
				w.log.group("h", true, "anna")
				w.log.group("few", false, "bert")
				w.run()
				w.log.auto = false
				a := w.come(0, "anna", hello("anna", "d"))
				read := w.log.reads
				w.log.reads = nil
				if early {
					w.log.answer(read[0])
				}
				x.change(w.log)
				w.run()
				if !early {
					w.log.answer(read[0])
				}
				w.node.Served(read[0])
				w.log.auto = true
				w.run()
				a.take()
				w.log.post(codec.KindGroup, "g", "bob", "live")
				w.run()
				got := a.take()
				if (len(got) == 1) != x.member {
					t.Errorf("got %q, member %v", got, x.member)
				}
				if x.name == "grow" {
					w.log.post(codec.KindGroup, "few", "bob", "live")
					w.run()
					if got := a.take(); len(got) != 1 {
						t.Errorf("of the group that grew: %q", got)
					}
				}
			})
		}
	}
}

// A group that grows has its messages in the inbox up to a place and in its log from there: the reader gets them in order, also when it is
// behind, and when it comes back later.
func TestGrowth(t *testing.T) {
	for _, behind := range []bool{false, true} {
		t.Run(fmt.Sprint(behind), func(t *testing.T) {
			w := newLogWorld(t, 2, patient, func(c *Config) { c.OutLimit = 16 << 10 })
			defer w.end()
			w.log.group("g", false, "anna", "bert")
			w.run()
			a := w.listen(w.login(0, "anna", "d"))
			a.next["group g"] = 2
			n := uint64(1)
			say := func(count int) {
				for range count {
					n++
					w.log.post(codec.KindGroup, "g", "bob", payloadOf(n, 1000))
					w.run()
				}
			}
			if behind {
				a.stall(100)
			}
			say(40)
			n++
			w.log.groups["g"].from = n
			g := w.log.groups["g"]
			w.log.post(codec.KindGroup, "g", "admin", payloadOf(n, 100))
			g.large = true
			for _, u := range g.sorted() {
				w.log.courier.Join(u, "g", n)
			}
			w.log.send()
			say(40)
			a.read(-1)
			for range 20 {
				w.tick()
			}
			say(1)
			if a.hear(nil); a.next["group g"] != n+1 {
				t.Errorf("up to #%d of %d", a.next["group g"]-1, n)
			}
			c := w.open(1)
			c.user = "bert"
			b := w.listen(c)
			b.next["group g"] = 1
			b.ask(hello("bert", "d"))
			b.skipOne()
			b.next["group g"] = 2
			b.skipOne() // the entry that made it
			for range 20 {
				w.tick()
			}
			if b.hear(nil); b.next["group g"] != n+1 {
				t.Errorf("bert has up to #%d of %d", b.next["group g"]-1, n)
			}
		})
	}
}

func TestManyChangesDuringALogin(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	w.log.auto = false
	a := w.come(0, "anna", hello("anna", "d"))
	for i := range tailMax + 1 {
		w.log.group(fmt.Sprint("g", i), true, "anna")
		w.run()
	}
	a.want("BYE OVERLOADED 2000..30000")
}
