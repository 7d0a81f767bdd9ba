package shard

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

// listener checks on the way what a client gets of the channels that it follows: every message once, in order, whole.
type listener struct {
	*client
	next   map[string]uint64 // by channel: the seq that must come
	pos    uint64
	stated map[string]string
	brief  int // ephemeral messages
}

func (w *world) listen(c *client) *listener {
	return &listener{client: c, next: map[string]uint64{}, stated: map[string]string{}}
}

// hear takes what came. skip says which messages a filter leaves out.
func (l *listener) hear(skip func(channel string, seq uint64) bool) {
	l.w.t.Helper()
	for len(l.out) > 0 {
		f, n, err := codec.ConsumeFrame(l.out, codec.MaxBody)
		if err != nil || n == 0 {
			if err == nil {
				break
			}
			l.w.t.Fatalf("%s got bytes that are no frame: %v", l.user, err)
		}
		l.out = l.out[n:]
		switch f.Type {
		case codec.TypePos:
			p, _ := codec.ConsumePos(f)
			if p.InboxPos < l.pos {
				l.w.t.Errorf("%s: POS went back from %d to %d", l.user, l.pos, p.InboxPos)
			}
			l.pos = p.InboxPos
		case codec.TypeState:
			s, _ := codec.ConsumeState(f)
			l.stated[string(s.Name)+"/"+string(s.Key)] = string(s.Payload)
		case codec.TypeMsg:
			l.message(f, skip)
		case codec.TypeBye:
			l.w.t.Fatalf("%s: %s", l.user, describe(f))
		}
	}
}

func (l *listener) message(f codec.Frame, skip func(string, uint64) bool) {
	l.w.t.Helper()
	m, _ := codec.ConsumeMsg(f)
	if m.Seq == 0 {
		l.brief++
		return
	}
	ch := fmt.Sprintf("%v %s", m.Kind, m.Name)
	if l.next[ch] == 0 {
		l.next[ch] = 1
	}
	for skip != nil && skip(ch, l.next[ch]) {
		l.next[ch]++
	}
	if m.Seq != l.next[ch] || string(m.Payload) != payloadOf(m.Seq, len(m.Payload)) {
		l.w.t.Fatalf("%s got #%d of %s, want #%d; payload %.20q", l.user, m.Seq, ch, l.next[ch], m.Payload)
	}
	l.next[ch]++
}

// payloadOf is a payload of n bytes, at least 21, that tells the seq.
func payloadOf(seq uint64, n int) string {
	s := fmt.Sprintf("%020d ", seq)
	return s + strings.Repeat("abcdefgh", n/8+1)[:max(0, n-len(s))]
}

// stall has the kernel take only n more bytes.
func (c *client) stall(n int) { c.room = n }

func TestInboxOfASlowReader(t *testing.T) {
	w := newLogWorld(t, 2, func(c *Config) {
		c.OutLimit = 64 << 10
		c.SlowTimeout = time.Hour
		c.HeartbeatMin, c.AckTimeout = time.Hour, time.Hour
	})
	defer w.end()
	a := w.listen(w.login(0, "anna", "d"))
	a.stall(1000)
	n := 0
	post := func() {
		n++
		w.log.post(codec.KindDirect, "anna", "bob", payloadOf(uint64(n), 1000))
		w.run()
	}
	for range 400 {
		post()
	}
	if got := a.OutboundBuffered(); got > 64<<10 {
		t.Errorf("%d bytes wait for a reader that does not read", got)
	}
	if st := w.stats(); st.Behind != 1 || st.Dropped[DropSlowReader] != 0 {
		t.Errorf("%d times behind, %d dropped", st.Behind, st.Dropped[DropSlowReader])
	}
	a.ask(ping()) // it is served all the same
	before := w.stats().CaughtUp
	for range 100 {
		a.read(20 << 10)
		w.tick()
		if a.OutboundBuffered() > 64<<10 {
			t.Fatalf("%d bytes wait", a.OutboundBuffered())
		}
		a.hear(nil)
	}
	a.read(-1)
	for range 20 {
		w.tick()
		post() // live again meanwhile
		a.hear(nil)
	}
	w.run()
	if a.hear(nil); a.next["direct anna\x1fbob"] != uint64(n)+1 || a.pos != uint64(n) {
		t.Errorf("%d messages, position %d, of %d", a.next["direct anna\x1fbob"]-1, a.pos, n)
	}
	if w.stats().CaughtUp == before {
		t.Error("nothing was read from the log")
	}
	a.ask(ackPos(a.pos))
	w.pass((settleAfter + 3) * time.Second)
	w.wantRest()
}

// Whoever falls behind in rooms of all kinds comes back without a hole, with every interleaving of commits, reads and turns.
func TestFeedProperty(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { feedRandomly(t, uint64(seed)) })
	}
}

// frailClient is a client whose session ends in the middle of anything: its connection fails in a write, or it has read too little.
func (w *world) frailClient(c *client, rng *rand.Rand) *client {
	if c != nil && !c.closed {
		switch c.out = nil; rng.IntN(4) {
		case 0:
			c.broken = true // the next write
		case 1:
			c.broken = len(c.pending) == 0
			c.read(-1)
		case 2:
			c.stall(0)
			c.send(pull(1, codec.KindTopic, "news", 1, 1000), ping())
		default:
			c.send(sub(1, codec.KindTopic, "tags", "blue"), subAt(2, codec.KindAll, "all", w.log.Epoch(), 0), list(3, 0, 9))
		}
		return c
	}
	c = w.open(rng.IntN(len(w.loops)))
	c.user = []string{"anna", "bob", "carl"}[rng.IntN(3)]
	c.stall(rng.IntN(5000))
	c.send(back(c.user, fmt.Sprint("frail", rng.IntN(9)), w.log.Epoch(), 0, at(codec.KindTopic, "news", w.log.Epoch(), 0), at(codec.KindTopic, "tags", 0, 0)))
	return c
}

func feedRandomly(t *testing.T, seed uint64) {
	w := newLogWorld(t, 2, func(c *Config) {
		c.OutLimit = 32 << 10
		c.SlowTimeout = time.Hour
		c.HeartbeatMin, c.AckTimeout = time.Hour, time.Hour
	})
	defer w.end()
	rng := rand.New(rand.NewPCG(seed, 1))
	w.seed(seed)
	w.log.group("crowd", true)
	users := []string{"anna", "bob", "carl"}
	w.log.group("few", false)
	for _, u := range users {
		w.log.groups["crowd"].users[u], w.log.groups["few"].users[u] = 1, 1
	}
	all := []*listener{}
	tags := map[string]map[uint64]string{}
	for i, u := range users {
		c := w.login(i%2, u, "d", "news")
		c.ask(sub(1, codec.KindTopic, "tags", "red"))
		c.take()
		l := w.listen(c)
		for _, g := range []string{"group crowd", "group few"} {
			l.next[g] = 2 // behind the entry that made it
		}
		all = append(all, l)
	}
	skip := func(ch string, seq uint64) bool { return tags[ch][seq] != "" && tags[ch][seq] != "red" }
	sent := map[string]uint64{"group crowd": 1, "group few": 1}
	if rng.IntN(2) == 0 {
		w.clock.step = 20_000 // slices end before rooms do
	}
	channels := []struct {
		kind codec.Kind
		name string
	}{{codec.KindTopic, "news"}, {codec.KindTopic, "tags"}, {codec.KindAll, "all"}, {codec.KindGroup, "crowd"}, {codec.KindGroup, "few"}, {codec.KindDirect, "anna"}}
	post := func() {
		ch := channels[rng.IntN(len(channels))]
		name := fmt.Sprintf("%v %s", ch.kind, ch.name)
		if ch.kind == codec.KindDirect {
			name = "direct anna\x1fzoe"
		}
		sent[name]++
		tag := []string{}
		if ch.name == "tags" {
			tag = append(tag, []string{"red", "blue"}[rng.IntN(2)])
			if tags[name] == nil {
				tags[name] = map[uint64]string{}
			}
			tags[name][sent[name]] = tag[0]
		}
		n := 21 + rng.IntN(300)
		if rng.IntN(10) == 0 {
			n = 6000 // above shareAbove
		}
		w.log.post(ch.kind, ch.name, "zoe", payloadOf(sent[name], n), tag...)
	}
	w.log.late = rng.IntN(2) == 0
	frail := make([]*client, 4)
	for range 1500 {
		l := all[rng.IntN(len(all))]
		switch rng.IntN(13) {
		case 12:
			i := rng.IntN(len(frail))
			frail[i] = w.frailClient(frail[i], rng)
		case 0, 1, 2, 3:
			post()
		case 4, 5, 6:
			w.step()
		case 7, 8:
			w.log.work()
		case 9:
			l.stall(rng.IntN(3000))
		case 10:
			l.read(rng.IntN(20000) - 1)
		default:
			w.clock.ns += tick
			for _, lp := range w.loops {
				lp.sh.Tick()
			}
			if rng.IntN(3) == 0 {
				l.send(ackPos(l.pos))
			}
			if rng.IntN(5) == 0 {
				w.node.Trim()
			}
		}
		l.hear(skip)
	}
	w.clock.step, w.log.late = 0, false
	for range 60 {
		for _, l := range all {
			l.read(-1)
		}
		w.tick()
	}
	for _, l := range all {
		l.hear(skip)
		for ch, n := range sent {
			for skip(ch, l.next[ch]) {
				l.next[ch]++
			}
			if strings.HasPrefix(ch, "direct") && l.user != "anna" {
				continue
			}
			if l.next[ch] != n+1 {
				t.Errorf("%s has %s up to #%d of %d", l.user, ch, max(l.next[ch], 1)-1, n)
			}
		}
		l.ask(ackPos(l.pos))
	}
	for _, c := range frail {
		if c != nil {
			c.disconnect()
		}
	}
	w.pass((settleAfter + 3) * time.Second)
	w.wantRest()
}
