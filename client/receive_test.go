package client

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

// durableMsg is a message of a conversation with bob, or of a topic.
func durableMsg(ch Channel, seq uint64, flags uint8) []byte {
	return codec.AppendMsg(nil, codec.Msg{
		Flags: codec.MsgDurable | flags, Kind: ch.Kind, Name: ch.wireName("alice"), Seq: seq, Time: 1000 + seq, Sender: []byte("bob"),
		Content: codec.ContentText, Payload: fmt.Append(nil, seq),
	})
}

func gapFrame(ch Channel, from, to uint64, reason uint8) []byte {
	return codec.AppendGap(nil, codec.Gap{Kind: ch.Kind, Name: ch.wireName("alice"), From: from, To: to, Reason: reason})
}

func posFrame(pos uint64) []byte { return codec.AppendPos(nil, codec.Pos{InboxPos: pos}) }

// heard collects what handlers are told, in a few words.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, fmt.Sprintf(format, args...))
}

func (h *heard) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := strings.Join(h.list, " ")
	h.list = nil
	return s
}

func (h *heard) by(opt *Options) {
	opt.OnMessage = func(m Message) { h.add("%d", m.Seq) }
	opt.OnGap = func(g Gap) { h.add("gap(%d-%d,%d)", g.From, g.To, g.Reason) }
	opt.OnResume = func(r Resume) { h.add("%v:%v@%d", r.Channel, r.State, r.Head) }
}

func (h *heard) want(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := h.take(); got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func (p *peer) pull() codec.Pull {
	p.t.Helper()
	return expectAmong(p, codec.TypePull, codec.ConsumePull)
}

// expectAmong is expect that skips ACKs and PINGs.
func expectAmong[T any](p *peer, want codec.Type, consume func(codec.Frame) (T, error)) T {
	p.t.Helper()
	for {
		f, ok := p.next()
		if ok && f.Type != want && (f.Type == codec.TypeAck || f.Type == codec.TypePing) {
			continue
		}
		if !ok || f.Type != want {
			p.t.Fatalf("got %v (%v), want %v", f.Type, ok, want)
		}
		v, err := consume(f)
		if err != nil {
			p.t.Fatal(err)
		}
		return v
	}
}

// acked returns the next ACK.
func (p *peer) acked() codec.Ack { p.t.Helper(); return expect(p, codec.TypeAck, codec.ConsumeAck) }

func (p *peer) answer(req uint32, next uint64, frames ...[]byte) {
	p.t.Helper()
	b := codec.AppendRange(nil, codec.Range{Req: req, Count: uint16(len(frames)), Next: next, Epoch: 5})
	for _, f := range frames {
		b = append(b, f...)
	}
	p.send(b)
}

func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		c, p := h.joined(opt)
		bob := User("bob")
		for _, seq := range []uint64{41, 42, 42, 41, 43} {
			p.send(durableMsg(bob, seq, 0))
		}
		p.send(gapFrame(bob, 40, 43, codec.GapExpired)) // of what is here already
		got.want(t, "41 42 43")
		if n := c.Stats().Duplicates; n != 3 {
			t.Errorf("%d duplicates were counted", n)
		}
		p.nc.Close()
		p = h.peer()
		p.login(stored(0))
		for _, seq := range []uint64{42, 43, 44} {
			p.send(durableMsg(bob, seq, 0))
		}
		got.want(t, "44")
		// Another log: the same numbers mean other messages.
		p.nc.Close()
		p = h.peer()
		w := stored(0)
		w.InboxEpoch, w.InboxState, w.InboxHead = 6, codec.StateReset, 77
		p.login(w)
		for _, seq := range []uint64{42, 43} {
			p.send(durableMsg(bob, seq, 0))
		}
		got.want(t, "inbox:reset@77 42 43")
		// The same log, but set back.
		p.nc.Close()
		p = h.peer()
		w.InboxHead = 70
		p.login(w)
		p.send(durableMsg(bob, 43, 0))
		got.want(t, "inbox:reset@70 43")
		if n := c.Stats(); n.Duplicates != 5 || n.Holes != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestHoleIsPulled(t *testing.T) {
	bob := User("bob")
	for _, tc := range []struct {
		name   string
		answer func(p *peer, q codec.Pull)
		want   string
	}{
		{"all there", func(p *peer, q codec.Pull) {
			p.answer(q.Req, 5, durableMsg(bob, 3, 0), durableMsg(bob, 4, 0))
		}, "3 4 5 6"},
		{"one after the other", func(p *peer, q codec.Pull) {
			p.answer(q.Req, 4, durableMsg(bob, 3, 0))
			if q = p.pull(); q.From != 4 || q.Limit != 1 {
				p.t.Errorf("%+v", q)
			}
			p.answer(q.Req, 5, durableMsg(bob, 4, 0))
		}, "3 4 5 6"},
		{"expired", func(p *peer, q codec.Pull) {
			p.send(gapFrame(bob, 3, 4, codec.GapExpired))
			p.answer(q.Req, 5)
		}, "gap(3-4,1) 5 6"},
		{"the second one expired", func(p *peer, q codec.Pull) {
			p.send(gapFrame(bob, 4, 4, codec.GapExpired))
			p.answer(q.Req, 5, durableMsg(bob, 3, 0))
		}, "3 gap(4-4,1) 5 6"},
		{"the first one expired", func(p *peer, q codec.Pull) {
			p.send(gapFrame(bob, 3, 3, codec.GapNoRight))
			p.answer(q.Req, 5, durableMsg(bob, 4, 0))
		}, "gap(3-3,2) 4 5 6"},
		{"missing without a word", func(p *peer, q codec.Pull) {
			p.answer(q.Req, 5, durableMsg(bob, 4, 0))
		}, "gap(3-3,1) 4 5 6"},
		{"nothing but an end", func(p *peer, q codec.Pull) { p.answer(q.Req, 7) }, "gap(3-4,1) 5 6"},
		{"nothing at all", func(p *peer, q codec.Pull) { p.answer(q.Req, 3) }, "gap(3-4,4) 5 6"},
		{"no right", func(p *peer, q codec.Pull) {
			p.send(codec.AppendRange(nil, codec.Range{Req: q.Req, Code: codec.CodeForbidden}))
		}, "gap(3-4,4) 5 6"},
		{"an error", func(p *peer, q codec.Pull) {
			p.send(codec.AppendErr(nil, codec.Err{Req: q.Req, Code: codec.CodeInvalid}))
		}, "gap(3-4,4) 5 6"},
		{"not now", func(p *peer, q codec.Pull) {
			for range 3 {
				p.send(codec.AppendRange(nil, codec.Range{Req: q.Req, Code: codec.CodeUnavailable}))
				if q = p.pull(); q.From != 3 {
					p.t.Errorf("%+v", q)
				}
			}
			p.answer(q.Req, 5, durableMsg(bob, 3, 0), durableMsg(bob, 4, 0))
		}, "3 4 5 6"},
		{"they come by themselves", func(p *peer, q codec.Pull) {
			p.send(durableMsg(bob, 3, 0))
			p.send(durableMsg(bob, 4, 0))
			p.answer(q.Req, 5, durableMsg(bob, 3, 0), durableMsg(bob, 4, 0))
		}, "3 4 5 6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				opt := h.options()
				var got heard
				got.by(&opt)
				c, p := h.joined(opt)
				p.send(durableMsg(bob, 2, 0))
				p.send(durableMsg(bob, 5, 0))
				p.send(posFrame(50))
				got.want(t, "2")
				q := p.pull()
				if q.Kind != codec.KindDirect || string(q.Name) != "alice\x1fbob" || q.From != 3 || q.Limit != 2 {
					t.Errorf("%+v", q)
				}
				time.Sleep(time.Second)
				p.quiet() // what is missing is not acknowledged
				p.send(durableMsg(bob, 6, 0))
				p.send(durableMsg(bob, 5, 0))
				tc.answer(p, q)
				got.want(t, tc.want)
				if a := p.acked(); a.InboxPos != 50 {
					t.Errorf("%+v", a)
				}
				p.send(durableMsg(bob, 7, 0))
				got.want(t, "7")
				if n := c.Stats(); n.Holes == 0 || n.Pulls == 0 || c.track.holes != 0 {
					t.Errorf("%+v, %d holes", n, c.track.holes)
				}
			})
		})
	}
}

// GAP with reason 4 names messages that can be had.
func TestNotSentIsPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		_, p := h.joined(opt)
		all := All()
		p.send(gapFrame(all, 1, 4, codec.GapNotSent)) // of a channel that nothing is known of
		got.want(t, "gap(1-4,4)")
		p.send(durableMsg(all, 5, codec.MsgLog))
		p.send(gapFrame(all, 6, 7, codec.GapNotSent))
		synctest.Wait()
		p.send(durableMsg(all, 8, codec.MsgLog))
		q := p.pull()
		if q.From != 6 || q.Limit != 2 || q.Kind != codec.KindAll {
			t.Errorf("%+v", q)
		}
		got.want(t, "5")
		p.answer(q.Req, 8, durableMsg(all, 6, codec.MsgLog), durableMsg(all, 7, codec.MsgLog))
		if q = p.pull(); q.From != 8 { // it came while the end of the hole was pulled
			t.Errorf("%+v", q)
		}
		p.answer(q.Req, 9, durableMsg(all, 8, codec.MsgLog))
		got.want(t, "6 7 8")
	})
}

// Of a hole that is too large only the newest messages are pulled; the application hears which are not.
func TestLargeHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		_, p := h.joined(opt)
		bob := User("bob")
		p.send(durableMsg(bob, 1, 0))
		p.send(durableMsg(bob, 1_000_000, 0))
		q := p.pull()
		if q.From != 1_000_000-maxHole || q.Limit != maxHole {
			t.Errorf("%+v", q)
		}
		got.want(t, fmt.Sprintf("1 gap(2-%d,4)", 1_000_000-maxHole-1))
		p.answer(q.Req, 1_000_000)
		got.want(t, fmt.Sprintf("gap(%d-999999,1) 1000000", 1_000_000-maxHole))
	})
}

// What waits behind a hole is bounded; what has no room is pulled as well.
func TestHoleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		c, p := h.joined(opt)
		bob := User("bob")
		const last = 3 * maxHeld
		p.send(durableMsg(bob, 1, 0))
		for seq := uint64(3); seq <= last; seq++ {
			p.send(durableMsg(bob, seq, 0))
		}
		q := p.pull()
		synctest.Wait()
		if n := len(c.track.places[bob].hole.held); n != maxHeld {
			t.Errorf("%d messages wait", n)
		}
		p.answer(q.Req, 3, durableMsg(bob, 2, 0))
		q = p.pull()
		if q.From != 3+maxHeld || q.Limit != last-maxHeld-2 {
			t.Errorf("%+v", q)
		}
		var rest [][]byte
		want := []string{"1"}
		for seq := uint64(2); seq <= last; seq++ {
			want = append(want, fmt.Sprint(seq))
			if seq >= q.From {
				rest = append(rest, durableMsg(bob, seq, 0))
			}
		}
		p.answer(q.Req, last+1, rest...)
		got.want(t, strings.Join(want, " "))
	})
}

// Own messages do not come back, so they leave holes; their answers explain them, whichever comes first.
func TestOwnMessagesAreNoHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		c, p := h.joined(opt)
		bob := User("bob")
		p.send(durableMsg(bob, 1, 0))
		send := func() codec.Send {
			if _, err := c.Post(Text(bob, "mine")); err != nil {
				t.Fatal(err)
			}
			return expectAmong(p, codec.TypeSend, codec.ConsumeSend)
		}
		s := send()
		p.ack(s.Req, codec.CodeOK, 2)
		p.send(durableMsg(bob, 3, 0))
		got.want(t, "1 3")
		// The other order: the answer follows the messages of the same commit.
		a, b := send(), send()
		p.send(durableMsg(bob, 5, 0))
		p.send(durableMsg(bob, 7, 0))
		p.send(posFrame(70))
		got.want(t, "")
		p.ack(a.Req, codec.CodeOK, 4)
		got.want(t, "5")
		p.ack(b.Req, codec.CodeOK, 6)
		got.want(t, "7")
		// One that is missing all the same is pulled when no answer can explain it any more.
		a = send()
		p.send(durableMsg(bob, 10, 0))
		p.send(posFrame(71))
		p.ack(a.Req, codec.CodeOK, 9)
		q := p.pull()
		if q.From != 8 || q.Limit != 2 {
			t.Errorf("%+v", q)
		}
		p.answer(q.Req, 10, durableMsg(bob, 8, 0), durableMsg(bob, 9, 0))
		got.want(t, "8 10") // 9 is the own one
		// An answer that overtakes what was said before is no reason to drop that: the session may be catching up.
		carol := User("carol")
		if _, err := c.Post(Text(carol, "mine")); err != nil {
			t.Fatal(err)
		}
		s = expectAmong(p, codec.TypeSend, codec.ConsumeSend)
		p.ack(s.Req, codec.CodeOK, 4)
		for seq := uint64(2); seq < 7; seq++ { // with the own one, as a resume brings it
			p.send(durableMsg(carol, seq, 0))
		}
		got.want(t, "2 3 5 6")
	})
}

// logServer plays a server with one conversation and one topic: it sends messages live, leaves some out, sends some twice, answers PULLs, cuts
// the connection and goes on from the positions of HELLO.
type logServer struct {
	t    *testing.T
	rng  *rand.Rand
	logs map[Channel]uint64 // heads
	seed uint64
	pos  map[uint64]uint64 // head of the conversation by position of the inbox
	head uint64            // of the inbox
}

// gone says whether a message has expired.
func gone(seed uint64, ch Channel, seq uint64) bool {
	return rand.New(rand.NewPCG(seed, seq<<8|uint64(ch.Kind))).IntN(8) == 0
}

func (s *logServer) message(ch Channel, seq uint64) []byte {
	flags := uint8(0)
	if ch.Kind == codec.KindTopic {
		flags = codec.MsgLog
	}
	return durableMsg(ch, seq, flags)
}

// from sends a channel's log above a seq.
func (s *logServer) from(p *peer, ch Channel, after uint64) {
	for seq := after + 1; seq <= s.logs[ch]; seq++ {
		if gone(s.seed, ch, seq) {
			p.send(gapFrame(ch, seq, seq, codec.GapExpired))
		} else {
			p.send(s.message(ch, seq))
		}
	}
}

func (s *logServer) login(p *peer, bob, news Channel) {
	h := p.hello()
	w := stored(0)
	w.InboxHead = s.head
	after, topic := uint64(0), s.logs[news]
	if h.InboxEpoch == 5 {
		w.InboxState = codec.StateResumed
		var ok bool
		if after, ok = s.pos[h.InboxPos]; !ok {
			s.t.Errorf("HELLO has position %d, which was never told", h.InboxPos)
		}
	}
	for pos := range h.Positions.All() {
		st := codec.State{Epoch: 5, Head: s.logs[news]}
		if pos.Epoch == 5 {
			topic, st.State = pos.Seq, codec.StateResumed
		}
		w.States.Append(st)
	}
	p.send(codec.AppendWelcome(nil, w))
	s.from(p, bob, after)
	p.send(posFrame(s.head))
	s.from(p, news, topic)
}

func (s *logServer) pulled(p *peer, q codec.Pull) {
	if s.rng.IntN(4) == 0 {
		p.send(codec.AppendRange(nil, codec.Range{Req: q.Req, Code: codec.CodeBusy}))
		return
	}
	ch := channelOf(q.Kind, q.Name, "alice")
	next, n := q.From, 0
	var gaps, frames []byte
	for most := 1 + s.rng.IntN(int(q.Limit)); next <= s.logs[ch] && n < most; next++ {
		if gone(s.seed, ch, next) {
			gaps = append(gaps, gapFrame(ch, next, next, codec.GapExpired)...)
		} else {
			frames = append(frames, s.message(ch, next)...)
			n++
		}
	}
	b := codec.AppendRange(gaps, codec.Range{Req: q.Req, Count: uint16(n), Next: next, Epoch: 5})
	p.send(append(b, frames...))
}

// Whatever is left out, doubled or cut: the handlers hear of each message of a channel once and in order, or of the gap in its place, and
// the positions never run ahead of them.
func TestEachMessageOnce(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bob, news := User("bob"), Topic("news")
				s := &logServer{t: t, rng: rand.New(rand.NewPCG(seed, 3)), logs: map[Channel]uint64{}, pos: map[uint64]uint64{0: 0}, seed: seed}
				h := newHarness(t)
				opt := h.options()
				opt.Queue = 1 + s.rng.IntN(8)
				slow := s.rng.IntN(2) == 0
				var mu sync.Mutex
				last := map[Channel]uint64{}
				heard := func(ch Channel, from, to uint64, gap bool) {
					mu.Lock()
					defer mu.Unlock()
					if from != last[ch]+1 {
						t.Errorf("%v: %d-%d (gap %v) after %d", ch, from, to, gap, last[ch])
					}
					for seq := from; seq <= to; seq++ {
						if gone(seed, ch, seq) != gap {
							t.Errorf("%v: %d, gap %v", ch, seq, gap)
						}
					}
					last[ch] = to
				}
				opt.OnMessage = func(m Message) {
					heard(m.Channel, m.Seq, m.Seq, false)
					if slow {
						time.Sleep(time.Duration(m.Seq%7) * 30 * time.Millisecond)
					}
				}
				opt.OnGap = func(g Gap) { heard(g.Channel, g.From, g.To, true) }
				c, err := New(opt)
				if err != nil {
					t.Fatal(err)
				}
				ok(t, c.Subscribe(t.Context(), "news"))
				go c.Run(t.Context())
				defer c.Close()
				for range 6 {
					p := h.peer()
					s.login(p, bob, news)
					s.run(p, bob, news)
					p.nc.Close()
				}
				p := h.peer()
				s.login(p, bob, news)
				go func() { // until the end
					for f := range p.frames {
						if q, err := codec.ConsumePull(f); f.Type == codec.TypePull && err == nil {
							s.pulled(p, q)
						}
					}
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				for _, ch := range []Channel{bob, news} {
					if last[ch] != s.logs[ch] || s.logs[ch] == 0 {
						t.Errorf("%v: heard up to %d, the head is %d", ch, last[ch], s.logs[ch])
					}
				}
			})
		})
	}
}

// run has things happen on one connection.
func (s *logServer) run(p *peer, bob, news Channel) {
	for range s.rng.IntN(120) {
		ch := []Channel{bob, news}[s.rng.IntN(2)]
		s.logs[ch]++
		seq := s.logs[ch]
		switch n := s.rng.IntN(10); {
		case n < 2 && seq > 1: // a hole, if another one follows
		case gone(s.seed, ch, seq):
			p.send(gapFrame(ch, seq, seq, codec.GapExpired))
		case n == 3 && seq > 1:
			again := 1 + s.rng.Uint64N(seq-1)
			if !gone(s.seed, ch, again) {
				p.send(s.message(ch, again))
			}
			fallthrough
		default:
			p.send(s.message(ch, seq))
			if ch == bob { // what was left out is behind a hole, so a position may be told now
				s.head += 1 + s.rng.Uint64N(3)
				s.pos[s.head] = seq
				p.send(posFrame(s.head))
			}
		}
		if s.rng.IntN(3) == 0 {
			time.Sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond)
		}
		synctest.Wait()
		for len(p.frames) > 0 {
			f, _ := p.next()
			switch f.Type {
			case codec.TypePull:
				q, _ := codec.ConsumePull(f)
				s.pulled(p, q)
			case codec.TypeAck:
				a, _ := codec.ConsumeAck(f)
				if _, told := s.pos[a.InboxPos]; !told {
					s.t.Errorf("ACK of position %d, which was never told", a.InboxPos)
				}
			}
			synctest.Wait()
		}
	}
}
