package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

// stored is the WELCOME of a server with a store.
func stored(nonce uint64) codec.Welcome {
	w := welcome()
	w.InboxEpoch, w.Heartbeat = 5, 590
	if nonce != 0 {
		w.Ext = codec.TLVs(nil).AppendUint64(codec.TagNonce, nonce)
	}
	return w
}

// joined starts a client and logs it in at a server with a store.
func (h *harness) joined(opt Options) (*Client, *peer) {
	h.t.Helper()
	c, _ := h.run(opt)
	p := h.peer()
	p.login(stored(0))
	synctest.Wait()
	return c, p
}

func (p *peer) quiet() {
	p.t.Helper()
	synctest.Wait()
	if len(p.frames) > 0 {
		f, _ := p.next()
		p.t.Fatalf("%v came", f.Type)
	}
}

func TestDurableSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Origin = []byte("me")
		statuses := make(chan Status, 8)
		opt.OnStatus = func(s Status) { statuses <- s }
		c, p := h.joined(opt)
		m := Message{Channel: User("bob"), Content: JSON, Payload: []byte(`{}`), Durable: true, Receipt: true, TTL: time.Minute}
		result := sendIn(t.Context(), c, m)
		s := p.sent()
		ttl, _ := s.Ext.Uint32(codec.TagTTL)
		if s.Req == 0 || s.Nonce == 0 || s.Flags != codec.MsgDurable|codec.MsgReceipt || s.Kind != codec.KindDirect || string(s.Name) != "bob" ||
			s.Content != codec.ContentJSON || string(s.Payload) != "{}" || ttl != 60 {
			t.Errorf("SEND %+v", s)
		}
		if c.Stats().Waiting != 1 {
			t.Errorf("%+v", c.Stats())
		}
		p.ack(s.Req, codec.CodeOK, 9)
		r := <-result
		if r.err != nil || r.res.Seq != 9 || r.res.ID == 0 || r.res.Time.UnixMilli() != 1000 {
			t.Errorf("result %+v", r)
		}
		if st := <-statuses; st.State != Sent || st.ID != r.res.ID || st.Channel != User("bob") || st.Seq != 9 || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		id, err := c.Post(Text(Group("g"), "posted")) // durable, whether it says so or not
		if err != nil || id <= r.res.ID {
			t.Fatal(id, err)
		}
		next := p.sent()
		if next.Flags != codec.MsgDurable || next.Nonce != s.Nonce+1 {
			t.Errorf("SEND %+v", next)
		}
		p.ack(next.Req, codec.CodeDuplicate, 0)
		if st := <-statuses; st.State != Sent || st.ID != id || st.Seq != 0 {
			t.Errorf("status %+v", st)
		}
		result = sendIn(t.Context(), c, Durable(User("bob"), "no"))
		p.ack(p.sent().Req, codec.CodeForbidden, 0)
		wantCode(t, (<-result).err, codec.CodeForbidden)
		st := <-statuses
		wantCode(t, st.Err, codec.CodeForbidden)
		if st.State != Failed || c.Stats().Waiting != 0 {
			t.Errorf("status %+v, %+v", st, c.Stats())
		}
		_, err = c.Send(t.Context(), Message{Channel: User("bob"), Receipt: true})
		wantCode(t, err, codec.CodeInvalid)
		_, err = c.Post(Message{Channel: User("bob"), Payload: make([]byte, codec.DefaultLimit)})
		wantCode(t, err, codec.CodeTooLarge)
		p.quiet()
	})
}

// What is not answered goes out again first, with the same nonces and bytes, however often the connection ends; what is posted
// without one goes out behind it.
func TestDurableSurvivesReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var states []string
		opt.OnStatus = func(s Status) { states = append(states, fmt.Sprint(s.ID, s.State, s.Seq)) }
		c, p := h.joined(opt)
		result := sendIn(t.Context(), c, Durable(User("bob"), "one"))
		for _, text := range []string{"two", "three"} {
			if _, err := c.Post(Text(User("bob"), text)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		first := []codec.Send{p.sent(), p.sent(), p.sent()}
		p.ack(first[1].Req, codec.CodeOK, 2) // out of order
		synctest.Wait()
		for round := range 3 {
			p.nc.Close()
			synctest.Wait()
			if round == 0 {
				if _, err := c.Post(Text(User("bob"), "four")); err != nil {
					t.Fatal(err)
				}
			}
			p = h.peer()
			p.login(stored(first[1].Nonce))
			for i, want := range []codec.Send{first[0], first[2]} {
				s := p.sent()
				if s.Nonce != want.Nonce || !bytes.Equal(s.Payload, want.Payload) || !bytes.Equal(s.Ext, want.Ext) || s.Flags != want.Flags {
					t.Errorf("round %d, retry %d: %+v, want %+v", round, i, s, want)
				}
			}
			if s := p.sent(); string(s.Payload) != "four" || s.Nonce <= first[2].Nonce {
				t.Errorf("round %d: %q with nonce %d", round, s.Payload, s.Nonce)
			}
			p.quiet()
		}
		if n := c.Pending(); len(n) != 3 || string(n[0].Message.Payload) != "one" || n[0].Message.Channel != User("bob") || !n[0].Message.Durable || n[2].ID != 4 {
			t.Errorf("pending %+v", n)
		}
		for seq, req := range []uint32{1, 2, 3} {
			p.ack(req, codec.CodeOK, uint64(seq+10))
		}
		if r := <-result; r.err != nil || r.res.Seq != 10 {
			t.Errorf("%+v", r)
		}
		synctest.Wait()
		if want := []string{"2 sent 2", "1 sent 10", "3 sent 11", "4 sent 12"}; !slices.Equal(states, want) {
			t.Errorf("states %q, want %q", states, want)
		}
	})
}

// Before the first connection, and when the caller gives up, messages stay in the outbox.
func TestDurableWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.OutboxMessages = 2
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r, err := c.Send(ctx, Durable(User("bob"), "one")); !errors.Is(err, context.DeadlineExceeded) || r.ID != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := c.SendAsync(Durable(User("bob"), "two")); err != nil {
			t.Error(err)
		}
		if _, err := c.Post(Text(User("bob"), "three")); !errors.Is(err, ErrBusy) {
			t.Errorf("full: %v", err)
		}
		if _, err := c.Send(ctx, Durable(User("bob"), "three")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("full: %v", err)
		}
		go c.Run(context.Background())
		p := h.peer()
		p.login(stored(0))
		waits := sendIn(t.Context(), c, Durable(User("bob"), "three"))
		for _, want := range []string{"one", "two"} {
			if s := p.sent(); string(s.Payload) != want {
				t.Errorf("%q, want %q", s.Payload, want)
			} else {
				p.ack(s.Req, codec.CodeOK, 1)
			}
		}
		if s := p.sent(); string(s.Payload) != "three" {
			t.Errorf("%q", s.Payload)
		}
		c.Close()
		if r := <-waits; !errors.Is(r.err, ErrClosed) {
			t.Errorf("%+v", r)
		}
		if _, err := c.Post(Text(User("bob"), "late")); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A refusal for now: nothing more is sent until all answers are there; then the refused one alone, then the others, in order.
func TestDurableRefusedForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var w windows
		opt.uniform = w.draw
		c, p := h.joined(opt)
		post := func(text string) {
			if _, err := c.Post(Text(User("bob"), text)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		post("0")
		post("1")
		post("2")
		sent := []codec.Send{p.sent(), p.sent(), p.sent()}
		p.ack(sent[1].Req, codec.CodeBusy, 0)
		synctest.Wait()
		post("3")
		time.Sleep(5 * time.Second)
		p.quiet() // two are not answered yet
		p.ack(sent[0].Req, codec.CodeOK, 1)
		p.ack(sent[2].Req, codec.CodeBusy, 0)
		for try := range 4 {
			begin := time.Now()
			s := p.sent()
			if string(s.Payload) != "1" || s.Nonce != sent[1].Nonce {
				t.Fatalf("try %d: %q, nonce %d", try, s.Payload, s.Nonce)
			}
			if d := time.Since(begin); d != firstPause<<try {
				t.Errorf("try %d after %v", try, d)
			}
			p.quiet()
			if try < 3 {
				p.ack(s.Req, []codec.Code{codec.CodeBusy, codec.CodeRateLimited, codec.CodeUnavailable}[try], 0)
			} else {
				p.ack(s.Req, codec.CodeOK, 2)
			}
		}
		for _, want := range []string{"2", "3"} {
			s := p.sent()
			if string(s.Payload) != want {
				t.Errorf("%q, want %q", s.Payload, want)
			}
			p.ack(s.Req, codec.CodeOK, 3)
		}
		synctest.Wait()
		if st := c.Stats(); st.Waiting != 0 || st.Retries != 5 {
			t.Errorf("%+v", st)
		}
	})
}

// What the next server takes less than is refused here, not by the server at the price of the connection.
func TestDurableTooLargeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		c, p := h.joined(h.options())
		large := sendIn(t.Context(), c, Message{Channel: User("bob"), Payload: make([]byte, 20_000), Durable: true})
		small := sendIn(t.Context(), c, Durable(User("bob"), "small"))
		p.sent()
		p.sent()
		p.nc.Close()
		p = h.peer()
		w := stored(0)
		w.MaxFrame = 10_000
		p.login(w)
		wantCode(t, (<-large).err, codec.CodeTooLarge)
		s := p.sent()
		p.ack(s.Req, codec.CodeOK, 1)
		if r := <-small; r.err != nil {
			t.Error(r.err)
		}
	})
}

// An outbox that cannot be settled sends nothing and says so; one that cannot forget a message says that, too.
func TestDurableOutboxFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		fails := &failingOutbox{settle: errors.New("read-only")}
		opt.Outbox = fails
		errs := make(chan error, 8)
		opt.OnError = func(err error) { errs <- err }
		c, p := h.joined(opt)
		if err := <-errs; !errors.Is(err, fails.settle) {
			t.Errorf("%v", err)
		}
		result := sendIn(t.Context(), c, Durable(User("bob"), "x"))
		p.quiet()
		fails.settle, fails.done = nil, errors.New("disk full")
		p.nc.Close()
		p = h.peer()
		p.login(stored(0))
		p.ack(p.sent().Req, codec.CodeOK, 1)
		if r := <-result; r.err != nil {
			t.Error(r.err)
		}
		if err := <-errs; !errors.Is(err, fails.done) {
			t.Errorf("%v", err)
		}
	})
}

// modelServer judges SENDs as rule 3 of the protocol asks for, and answers in any order it likes. Its connections fail.
type modelServer struct {
	t       *testing.T
	h       *harness
	rng     *rand.Rand
	window  int
	stored  []codec.Send
	highest uint64
	busy    int
	cuts    int
}

func (m *modelServer) serve(until int) {
	for len(m.stored) < until {
		p := m.h.peer()
		w := stored(m.highest)
		w.Window = uint16(m.window)
		p.login(w)
		m.connection(p, until)
		p.nc.Close()
	}
}

func (m *modelServer) connection(p *peer, until int) {
	var answers []codec.SendAck
	blocked := uint64(0)
	last := uint64(0) // nonce of the first SENDs on this connection: they ascend
	for len(m.stored) < until || len(answers) > 0 {
		synctest.Wait()
		for len(answers) > 0 && (len(p.frames) == 0 || m.rng.IntN(3) == 0) {
			i := m.rng.IntN(len(answers))
			p.send(codec.AppendSendAck(nil, answers[i]))
			answers = slices.Delete(answers, i, i+1)
		}
		if m.rng.IntN(60) == 0 {
			m.cuts++
			return // what is stored and not answered is DUPLICATE next time
		}
		f, open := p.next()
		if !open {
			m.t.Error("the client ended the connection")
			return
		}
		s, err := codec.ConsumeSend(f)
		if err != nil {
			continue // ACK, PING
		}
		a := codec.SendAck{Req: s.Req}
		switch {
		case len(answers) >= m.window:
			m.t.Errorf("%d SENDs are unanswered, the window is %d", len(answers)+1, m.window)
			return
		case blocked != 0 && s.Nonce > blocked, m.rng.IntN(20) == 0:
			a.Code = codec.CodeBusy
			if m.busy++; blocked == 0 || s.Nonce < blocked {
				blocked = s.Nonce
			}
		case s.Nonce <= m.highest:
			a.Code, a.Seq = codec.CodeDuplicate, 7
		default:
			if blocked == 0 && s.Nonce < last {
				m.t.Errorf("nonce %d after %d, and nothing was refused", s.Nonce, last)
			}
			m.highest, last, blocked = s.Nonce, s.Nonce, 0
			m.stored = append(m.stored, s)
			a.Seq = uint64(len(m.stored))
		}
		if s.Nonce == blocked && a.Code == codec.CodeDuplicate {
			blocked = 0
		}
		answers = append(answers, a)
	}
}

// Whatever is refused, in whatever order answers come and whenever the connection ends: each message is stored once, in the order in which
// it was sent, and told as sent once.
func TestRetriesKeepOrder(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total = 200
				h := newHarness(t)
				opt := h.options()
				told := map[uint64]int{}
				opt.OnStatus = func(s Status) {
					if s.State != Sent {
						t.Errorf("%+v", s)
					}
					told[s.ID]++
				}
				c, _ := h.run(opt)
				rng := rand.New(rand.NewPCG(seed, 1))
				m := &modelServer{t: t, h: h, rng: rand.New(rand.NewPCG(seed, 2)), window: 1 + rng.IntN(20)}
				var posting sync.WaitGroup
				defer posting.Wait()
				posting.Go(func() {
					for i := range total {
						if _, err := c.Post(Text(User("bob"), fmt.Sprint(i))); err != nil {
							t.Error(err)
						}
						if rng.IntN(3) == 0 {
							time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
						}
					}
				})
				m.serve(total)
				if t.Failed() {
					return
				}
				for i, s := range m.stored {
					if string(s.Payload) != fmt.Sprint(i) {
						t.Fatalf("message %d is %q (%d refusals, %d cuts)", i, s.Payload, m.busy, m.cuts)
					}
				}
				// The last answers may have been cut off.
				for len(c.Pending()) > 0 {
					p := h.peer()
					p.login(stored(m.highest))
					synctest.Wait()
					for len(p.frames) > 0 {
						if f, _ := p.next(); f.Type == codec.TypeSend {
							s, _ := codec.ConsumeSend(f)
							p.ack(s.Req, codec.CodeDuplicate, 7)
						}
						synctest.Wait()
					}
				}
				synctest.Wait()
				for id := range uint64(total) {
					if told[id+1] != 1 {
						t.Errorf("message %d was told %d times", id+1, told[id+1])
					}
				}
				if m.busy == 0 {
					t.Error("nothing was refused")
				}
			})
		})
	}
}
