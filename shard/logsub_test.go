package shard

import (
	"fmt"
	"testing"

	"gannet/codec"
)

// subAt is a SUB from a position.
func subAt(req uint32, kind codec.Kind, name string, epoch, seq uint64, tags ...string) []byte {
	return codec.AppendSub(nil, codec.Sub{
		Ext: routes(tags...), Req: req, Mode: codec.SubFromPosition, Kind: kind, Name: []byte(name), Epoch: epoch, Seq: seq,
	})
}

// said are the lines of the messages from…to of a channel.
func said(channel string, from, to int) (lines []string) {
	for i := from; i <= to; i++ {
		lines = append(lines, fmt.Sprintf("MSG %s #%d bob: %d", channel, i, i))
	}
	return lines
}

func (w *world) say(kind codec.Kind, name string, from, to int) {
	for i := from; i <= to; i++ {
		w.log.post(kind, name, "bob", fmt.Sprint(i))
	}
	w.run()
}

func lines(first string, rest ...[]string) []string {
	all := []string{first}
	for _, r := range rest {
		all = append(all, r...)
	}
	return all
}

func TestSubFromPosition(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	e := w.log.Epoch()
	w.say(codec.KindTopic, "t", 1, 40)
	a := w.login(0, "anna", "d")
	a.ask(sub(1, codec.KindTopic, "t"))
	a.want("SUBACK 1 OK 0/40")
	a.ask(subAt(2, codec.KindTopic, "t", e, 3)) // the same again, from earlier
	a.want(lines("SUBACK 2 OK 1/40", said("topic t", 4, 40))...)
	a.ask(subAt(3, codec.KindTopic, "t", e, 40))
	a.want("SUBACK 3 OK 1/40")
	a.ask(subAt(4, codec.KindTopic, "t", e, 41))
	a.want("SUBACK 4 OK 3/40")
	a.ask(subAt(5, codec.KindTopic, "t", e+1, 3))
	a.want("SUBACK 5 OK 3/40")
	a.ask(unsub(6, codec.KindTopic, "t"), subAt(7, codec.KindTopic, "t", e, 38))
	a.want(lines("SUBACK 6 OK", []string{"SUBACK 7 OK 1/40"}, said("topic t", 39, 40))...)
	w.say(codec.KindTopic, "t", 41, 42)
	a.want(said("topic t", 41, 42)...)
	w.wantRest()
	w.say(codec.KindAll, "all", 1, 3)
	a.want(said("all all", 1, 3)...)
	a.ask(subAt(8, codec.KindAll, "all", e, 1))
	a.want(lines("SUBACK 8 OK 1/3", said("all all", 2, 3))...)
	w.say(codec.KindAll, "all", 4, 4)
	a.want(said("all all", 4, 4)...)
	w.wantRest()
}

func TestSubGroup(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	e := w.log.Epoch()
	w.log.group("crowd", true, "anna")
	w.log.group("few", false, "anna")
	a, b := w.login(0, "anna", "d"), w.login(0, "bob", "d")
	a.take()
	for _, c := range []*client{a, b} {
		c.ask(sub(1, codec.KindGroup, "few"), sub(2, codec.KindGroup, "crowd"), sub(3, codec.KindGroup, "none"), sub(4, codec.KindGroup, "crowd", "tag"))
	}
	a.want("SUBACK 4 INVALID", "SUBACK 1 OK 0/1", "SUBACK 2 OK 0/1", "SUBACK 3 NOT_FOUND")
	b.want("SUBACK 4 INVALID", "SUBACK 1 NOT_FOUND", "SUBACK 2 NOT_FOUND", "SUBACK 3 NOT_FOUND")
	w.say(codec.KindGroup, "crowd", 2, 4)
	a.want(said("group crowd", 2, 4)...)
	b.want()
	a.ask(subAt(5, codec.KindGroup, "crowd", e, 2))
	a.want(lines("SUBACK 5 OK 1/4", said("group crowd", 3, 4))...)
	a.ask(unsub(6, codec.KindGroup, "crowd"))
	a.want("SUBACK 6 INVALID")
	w.say(codec.KindGroup, "crowd", 5, 5)
	a.want(said("group crowd", 5, 5)...)
}

// What is in the log already and on its way to the room as well comes once.
func TestSubMeetsWhatIsOnItsWay(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	b := w.login(1, "bert", "d", "t")
	w.say(codec.KindTopic, "t", 1, 1)
	w.log.late, w.log.auto = true, false
	w.log.post(codec.KindTopic, "t", "bob", "2")
	w.log.post(codec.KindTopic, "t", "bob", "3")
	a := w.login2(0, "anna")
	a.send(sub(1, codec.KindTopic, "t"), subAt(2, codec.KindAll, "all", w.log.Epoch(), 0))
	for w.step() {
	}
	w.log.serve(-1)
	for w.step() {
	}
	a.want("SUBACK 1 OK 0/3", "SUBACK 2 OK 1/0")
	w.run() // now they come
	a.want()
	b.want(said("topic t", 1, 3)...)
	w.say(codec.KindTopic, "t", 4, 4)
	a.want(said("topic t", 4, 4)...)
	w.wantRest()
}

// login2 logs in although the log answers only when it is told to.
func (w *world) login2(shard int, user string) *client {
	w.t.Helper()
	c := w.open(shard)
	c.user = user
	c.send(hello(user, "d"))
	for w.step() {
	}
	w.log.serve(-1)
	for w.step() {
	}
	if got := c.take(); len(got) == 0 {
		w.t.Fatalf("%s is not logged in", user)
	}
	return c
}

func TestUnsubWhileSubWaits(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.auto = false
	w.log.post(codec.KindTopic, "t", "bob", "1")
	a.ask(subAt(1, codec.KindTopic, "t", w.log.Epoch(), 0), sub(2, codec.KindTopic, "t"), unsub(3, codec.KindTopic, "t"))
	a.want("SUBACK 2 BUSY", "SUBACK 3 OK") // one SUB of a topic at a time
	w.log.auto = true
	w.run()
	a.want("SUBACK 1 OK 1/1")
	w.say(codec.KindTopic, "t", 2, 2)
	a.want()
	w.log.auto = false
	a.ask(sub(4, codec.KindTopic, "t"), unsub(5, codec.KindTopic, "t"), subAt(6, codec.KindTopic, "t", w.log.Epoch(), 1))
	w.log.auto = true
	w.run()
	w.say(codec.KindTopic, "t", 3, 3)
	a.want(lines("SUBACK 5 OK", []string{"SUBACK 4 OK 0/2", "SUBACK 6 OK 1/2"}, said("topic t", 2, 3))...)
	w.wantRest()
}

// What was on its way to a room that is gone counts for nothing, also when there is a new one.
func TestRoomVanishesWithMessagesOnTheirWay(t *testing.T) {
	w := newLogWorld(t, 2, func(c *Config) { c.RoomLimit = 1000 })
	defer w.end()
	a, b := w.login(0, "anna", "d", "t"), w.login(1, "bert", "d", "t")
	w.log.auto = false
	for i := range 3 {
		w.log.post(codec.KindTopic, "t", "bob", payloadOf(uint64(i+1), 900)) // in the mailboxes
	}
	a.send(unsub(1, codec.KindTopic, "t"), sub(2, codec.KindTopic, "t"))
	w.log.auto = true
	w.run()
	a.want("SUBACK 1 OK", "SUBACK 2 OK 0/3")
	if got := b.take(); len(got) != 3 {
		t.Errorf("got %q", got)
	}
	b.ask(durable(1, codec.KindTopic, "t", payloadOf(4, 900))) // nothing waits for the topic
	b.want("SENDACK 1 OK #4", "MSG topic t #4 bert: 00000000…900")
	a.want("MSG topic t #4 bert: 00000000…900")
	w.wantRest()
}

// A SUB that the log does not take or cannot answer leaves no subscription.
func TestSubRefusedByTheLog(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	a := w.login(0, "anna", "d")
	w.log.roomReads = 0
	a.ask(sub(1, codec.KindTopic, "t"))
	a.want("SUBACK 1 BUSY")
	w.log.roomReads, w.log.broken = -1, codec.CodeUnavailable
	a.ask(sub(2, codec.KindTopic, "t"), sub(3, codec.KindAll, "all"))
	a.want("SUBACK 2 UNAVAILABLE", "SUBACK 3 UNAVAILABLE")
	w.log.broken = codec.CodeOK
	a.ask(unsub(4, codec.KindTopic, "t"))
	a.want("SUBACK 4 NOT_FOUND")
	w.wantRest()
	// One that was there stays.
	a.ask(sub(5, codec.KindTopic, "t"))
	a.take()
	w.log.broken = codec.CodeUnavailable
	a.ask(sub(6, codec.KindTopic, "t"))
	a.want("SUBACK 6 UNAVAILABLE")
	w.log.broken = codec.CodeOK
	w.say(codec.KindTopic, "t", 1, 1)
	a.want(said("topic t", 1, 1)...)
}

// A filter that is changed while the log is read decides what is read from then on.
func TestRefilterWhileAway(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	e := w.log.Epoch()
	for i := range 20 {
		w.log.post(codec.KindTopic, "t", "bob", fmt.Sprint(i+1), []string{"red", "blue"}[i%2])
	}
	a := w.login(0, "anna", "d")
	w.log.auto = false
	step := func() { w.log.serve(-1); w.run() }
	a.ask(subAt(1, codec.KindTopic, "t", e, 0, "red"))
	step()
	a.want("SUBACK 1 OK 1/20")
	a.ask(sub(2, codec.KindTopic, "t", "blue")) // a read with the old filter is under way
	step()
	w.log.post(codec.KindTopic, "t", "bob", "21", "blue")
	w.log.post(codec.KindTopic, "t", "bob", "22", "red")
	w.log.auto = true
	w.run()
	want := []string{"SUBACK 2 OK 0/20"}
	for i := 2; i <= 20; i += 2 {
		want = append(want, fmt.Sprintf(`MSG topic t #%d bob: %d <2:"blue">`, i, i))
	}
	a.want(append(want, `MSG topic t #21 bob: 21 <2:"blue">`)...)
	w.wantRest()
}

// A position given while the log is read from elsewhere counts.
func TestRepositionWhileReading(t *testing.T) {
	w := newLogWorld(t, 1)
	defer w.end()
	e := w.log.Epoch()
	w.say(codec.KindTopic, "t", 1, 40)
	a := w.login(0, "anna", "d")
	w.log.auto = false
	a.ask(subAt(1, codec.KindTopic, "t", e, 30))
	w.log.serve(-1)
	w.run()
	a.want("SUBACK 1 OK 1/40")
	a.ask(subAt(2, codec.KindTopic, "t", e, 2))
	w.log.reads[0], w.log.reads[1] = w.log.reads[1], w.log.reads[0]
	w.log.auto = true
	w.run()
	a.want(lines("SUBACK 2 OK 1/40", said("topic t", 3, 40))...)
	w.wantRest()
}

// A login and a SUB that miss nothing leave nothing behind, as do many of them on both shards.
func TestNothingMissingKeepsNothing(t *testing.T) {
	w := newLogWorld(t, 2)
	defer w.end()
	w.log.group("crowd", true)
	for i := range 20 {
		w.log.groups["crowd"].users[fmt.Sprint("u", i)] = 1
		c := w.login(i%2, fmt.Sprint("u", i), "d", "a", "b")
		c.ask(sub(1, codec.KindTopic, "c"), sub(2, codec.KindTopic, "d", "red"), sub(3, codec.KindAll, "all"))
		w.wantRest()
		w.say(codec.KindTopic, "c", i, i)
		w.say(codec.KindAll, "all", i, i)
		w.wantRest()
		c.ask(durable(1, codec.KindTopic, "a", "x"), durable(2, codec.KindAll, "all", "x"))
		w.wantRest()
	}
}
