package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"gannet/client"
	"gannet/codec"
)

// sdk is a terminal that works through package client instead of speaking the protocol itself: what its History holds is what an
// application above the SDK sees. Answers for now and repetitions stay inside the SDK.
//
// Its connections are cut, and its Clients closed and made anew with what they kept, as when an application restarts.
type sdk struct {
	t         *terminal
	outbox    *client.MemoryOutbox    // outlives Clients
	positions *client.MemoryPositions // this too

	// The terminal's goroutine alone.
	client *client.Client
	ended  chan struct{} // closed when its Run has returned

	mu    sync.Mutex
	conn  net.Conn      // the last one dialled; guarded by mu
	up    bool          // welcomed; guarded by mu
	since time.Time     // up has been as it is; guarded by mu
	epoch uint64        // guarded by mu
	moved bool          // the epoch is another one than on the connection before; guarded by mu
	sent  map[uint64]ID // by the SDK's number: without a final answer; guarded by mu
}

// runSDK is run for Options.SDK.
func (t *terminal) runSDK(ctx context.Context) {
	s := &sdk{t: t, outbox: new(client.MemoryOutbox), positions: new(client.MemoryPositions), sent: make(map[uint64]ID)}
	for ctx.Err() == nil {
		if err := s.open(ctx); err != nil {
			t.r.fail(err)
			return
		}
		s.live(ctx)
		_ = s.client.Close()
		<-s.ended
		t.r.n.repeated.Add(int64(s.client.Stats().Duplicates))
		t.r.n.busy.Add(int64(s.client.Stats().Retries))
	}
}

// open makes a Client and runs it.
func (s *sdk) open(ctx context.Context) error {
	t := s.t
	o := client.Options{
		Addrs: []string{t.r.o.Addr}, User: t.user, Device: t.device, KeepEcho: true, Timeout: dialTimeout,
		Outbox: s.outbox, Positions: s.positions, OutboxMessages: 2 * t.r.o.Window,
		Dialer: s.dial, OnMessage: s.message, OnStatus: s.status, OnGap: s.gap, OnResume: s.resume,
		OnConnect: s.connected, OnDisconnect: func(error) { s.disconnected() },
		OnError: func(err error) { t.r.complain("%v: %v", t.h, err) },
	}
	if t.r.o.Token != nil {
		o.StaticToken = t.r.o.Token(t.user)
	}
	c, err := client.New(o)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	for _, f := range t.logs {
		if f.kind == codec.KindTopic { // noted: it goes into the first HELLO
			if err := c.Subscribe(ctx, f.name); err != nil {
				return err
			}
		}
	}
	s.client, s.ended = c, make(chan struct{})
	s.reconcile()
	go func() {
		defer close(s.ended)
		var bye *client.ByeError
		if err := c.Run(ctx); errors.As(err, &bye) {
			t.r.bye(codec.Bye{Code: bye.Code, Reason: []byte(bye.Reason)})
		}
	}()
	return nil
}

// reconcile takes what is not in the outbox any more for answered: a Client that is closed may have no time to tell. What the answer
// was nobody knows; only a group may have refused, which its user had left.
func (s *sdk) reconcile() {
	left := make(map[uint64]bool)
	for _, p := range s.client.Pending() {
		left[p.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Now()
	for number, id := range s.sent {
		if left[number] {
			continue
		}
		code := codec.CodeDuplicate
		if s.t.r.o.Members > 0 && s.t.h.kind(id) == codec.KindGroup {
			code = codec.CodeForbidden
		}
		s.t.h.Ack(id, s.epoch, code, 0)
		delete(s.sent, number)
	}
}

func (s *sdk) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		s.t.r.n.dialErrors.Add(1)
		return nil, err
	}
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	return conn, nil
}

// sdkLook is how often a terminal looks whether it is to lose its connection or its Client.
const sdkLook = 20 * time.Millisecond

// live sends until the Client is to be made anew.
func (s *sdk) live(ctx context.Context) {
	t := s.t
	tick := time.NewTicker(sdkLook)
	defer tick.Stop()
	t.cutAt = time.Time{}
	for {
		select {
		case <-t.orders:
			s.post()
		case do := <-t.told:
			do(t)
		case job := <-t.pulls:
			s.pullAll(ctx, job)
		case now := <-tick.C:
			if s.chance(now) {
				return
			}
		case <-s.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// chance cuts the connection when it is time for that; true makes the Client anew, which is done half of the time instead, and when
// there has been no connection for long: the pauses of the SDK grow, those of a person who restarts it do not.
func (s *sdk) chance(now time.Time) bool {
	t := s.t
	s.mu.Lock()
	up, since, conn := s.up, s.since, s.conn
	s.mu.Unlock()
	if !up {
		return now.Sub(since) > t.r.o.Away+200*time.Millisecond
	}
	switch {
	case t.r.o.Churn <= 0 || !t.r.cutting.Load():
		t.cutAt = time.Time{}
	case t.cutAt.IsZero():
		t.cutAt = t.nextCut(now)
	case due(t.cutAt, now):
		t.cutAt = time.Time{}
		t.r.n.cuts.Add(1)
		if t.rng.IntN(2) == 0 {
			return true
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
	return false
}

// post writes one message, unless too many are without an answer.
func (s *sdk) post() {
	t := s.t
	s.mu.Lock() // the answer may come before Post returns
	defer s.mu.Unlock()
	if len(s.sent) >= t.r.o.Window {
		t.r.n.unsent.Add(1)
		return
	}
	t.settled.Store(false)
	x := t.targets[t.pick()]
	t.nonce++
	id := t.h.Send(x.to.id, t.nonce)
	m := client.Message{
		Channel: s.address(x.to), Payload: appendPayload(nil, t.r.id, id, t.r.sizeOf(id)),
	}
	if t.r.o.TTLShare > 0 && t.rng.Float64() < t.r.o.TTLShare {
		m.TTL = time.Second
	}
	t.r.n.sent.Add(1)
	number, err := s.client.Post(m)
	if err != nil { // it stays unanswered, which is a finding
		t.r.complain("%v: Post: %v", t.h, err)
		return
	}
	s.sent[number] = id
}

// address is a channel as the SDK names it.
func (s *sdk) address(f *following) client.Channel {
	if f.kind == codec.KindDirect {
		return client.User(peerOf(f.name, s.t.user))
	}
	return client.Channel{Kind: f.kind, Name: f.name}
}

// channel is the History's number of what the SDK calls ch.
func (s *sdk) channel(ch client.Channel) ChannelID {
	name := ch.Name
	if ch.Kind == codec.KindDirect {
		name = string(codec.AppendPair(nil, []byte(s.t.user), []byte(ch.Name)))
	}
	return s.t.r.h.Channel(ch.Kind, name)
}

// update says whether everything is answered; call it with mu held.
func (s *sdk) update() { s.t.settled.Store(s.up && len(s.sent) == 0) }

// Handlers, called by the Client's dispatcher one after the other.

func (s *sdk) connected(w client.Welcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.r.n.logins.Add(1)
	s.t.h.Link(true)
	s.moved = s.epoch != 0 && w.Epoch != s.epoch
	s.up, s.since, s.epoch = true, time.Now(), w.Epoch
	s.update()
}

func (s *sdk) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.h.Link(false)
	s.up, s.since = false, time.Now()
	s.update()
}

func (s *sdk) status(x client.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.sent[x.ID]
	if x.ID == 0 || !ok {
		return
	}
	delete(s.sent, x.ID)
	var refused *client.CodeError
	switch {
	case x.State == client.Sent:
		s.t.h.Ack(id, s.epoch, codec.CodeOK, x.Seq)
		s.t.r.n.stored.Add(1)
	case errors.As(x.Err, &refused):
		s.t.h.Ack(id, s.epoch, refused.Code, 0)
		s.t.r.n.refused.Add(1)
	default:
		s.t.r.complain("%v: message %d: %v", s.t.h, x.ID, x.Err)
	}
	s.update()
}

func (s *sdk) message(m client.Message) {
	if m.Seq == 0 {
		s.t.r.n.strange.Add(1)
		return
	}
	id, altered := s.t.r.identify(m.Payload, m.Sender)
	how := Handed
	if altered {
		how = Altered
	}
	s.t.h.Receive(s.channel(m.Channel), m.Epoch, m.Seq, id, how)
	s.t.r.n.handed.Add(1)
	s.t.r.heard()
}

func (s *sdk) gap(g client.Gap) {
	s.t.r.n.gaps.Add(1)
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	if g.Channel.Kind == codec.KindInbox {
		s.t.h.InboxGap(epoch, g.From, g.To, g.Reason)
		return
	}
	s.t.h.Gap(s.channel(g.Channel), epoch, g.From, g.To, g.Reason)
}

// resume hears of positions that are void. Which they were the SDK keeps to itself.
func (s *sdk) resume(r client.Resume) {
	if r.State != client.Reset {
		return
	}
	s.mu.Lock()
	moved := s.moved
	s.mu.Unlock()
	if r.Channel.Kind == codec.KindInbox {
		s.t.h.InboxReset(moved, 0, r.Head)
		return
	}
	s.t.h.Reset(s.channel(r.Channel), moved, 0, r.Head)
}

// pullAll reads the whole logs of channels.
func (s *sdk) pullAll(ctx context.Context, j *pullJob) {
	for len(j.left) > 0 {
		j.f, j.left, j.log, j.from = j.left[0], j.left[1:], nil, 1
		if !s.pull(ctx, j) {
			return
		}
		j.f = nil
	}
	j.done()
}

// pull reads one; false when the context ended before.
func (s *sdk) pull(ctx context.Context, j *pullJob) bool {
	for {
		h, err := s.client.Pull(ctx, s.address(j.f), j.from, pullLimit)
		var refused *client.CodeError
		switch {
		case ctx.Err() != nil:
			return false
		case errors.As(err, &refused) && !refused.Code.Temporary():
			s.t.r.complain("PULL of %v %q refused: %v", j.f.kind, j.f.name, refused.Code)
			j.begin(s.t, 0)
			return true
		case err != nil:
			select {
			case <-time.After(pullRetry):
			case <-ctx.Done():
				return false
			}
			continue
		}
		j.begin(s.t, h.Epoch)
		s.t.r.heard()
		for _, g := range h.Gaps {
			j.log.Gap(g.From, g.To, g.Reason)
		}
		for _, m := range h.Messages {
			id, altered := s.t.r.identify(m.Payload, m.Sender)
			j.log.Message(m.Seq, id, altered)
		}
		if h.Next <= j.from {
			j.log.Complete()
			return true
		}
		j.from = h.Next
	}
}
