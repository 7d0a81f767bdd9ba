package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

func marks(a codec.Ack) string {
	var list []string
	for m := range a.Marks.All() {
		list = append(list, fmt.Sprintf("%v:%q:%d", m.Kind, m.Name, m.Seq))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func positions(h codec.Hello) string {
	list := []string{fmt.Sprintf("inbox %d/%d", h.InboxEpoch, h.InboxPos)}
	for p := range h.Positions.All() {
		list = append(list, fmt.Sprintf("%v:%s %d/%d", p.Kind, p.Name, p.Epoch, p.Seq))
	}
	return strings.Join(list, ", ")
}

// An ACK follows when the handlers have returned, at most one flush in ackEvery.
func TestAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		gate := make(chan struct{})
		opt.OnMessage = func(Message) { <-gate }
		_, p := h.joined(opt)
		bob, all, large := User("bob"), All(), Group("large")
		p.send(durableMsg(bob, 1, 0))
		p.send(posFrame(10))
		time.Sleep(5 * time.Second)
		p.quiet() // the handler has not returned
		gate <- struct{}{}
		if a := p.acked(); a.Mode != codec.AckDelivered || a.InboxPos != 10 || a.Marks.Len() != 0 {
			t.Errorf("%+v", a)
		}
		begin := time.Now()
		p.send(durableMsg(bob, 2, 0))
		p.send(posFrame(11))
		p.send(durableMsg(all, 7, codec.MsgLog))
		p.send(durableMsg(all, 8, codec.MsgLog))
		p.send(durableMsg(large, 3, codec.MsgLog))
		p.send(durableMsg(bob, 3, 0))
		p.send(posFrame(12))
		p.send(posFrame(9)) // of something sent again
		close(gate)
		a := p.acked()
		if a.InboxPos != 12 || marks(a) != `all:"all":8 group:"large":3` {
			t.Errorf("%+v %s", a, marks(a))
		}
		if d := time.Since(begin); d != ackEvery {
			t.Errorf("after %v", d)
		}
		time.Sleep(5 * time.Second)
		p.quiet()
	})
}

func TestManyAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		gate := make(chan struct{})
		opt.OnMessage = func(Message) { <-gate }
		opt.Queue = 1000
		c, _ := h.run(opt)
		p := h.peer()
		w := stored(0)
		w.MaxFrame = codec.LoginLimit
		p.login(w)
		const total = 200
		for i := range total {
			p.send(durableMsg(Group(fmt.Sprintf("%064d", i)), 1, codec.MsgLog))
			ok(t, c.MarkRead(User(fmt.Sprintf("%064d", i)), 5))
		}
		close(gate)
		got := map[uint8]int{}
		for got[codec.AckDelivered] < total || got[codec.AckRead] < total {
			f, _ := p.next()
			if n := len(f.Body); n > codec.LoginLimit {
				t.Fatalf("an ACK of %d bytes", n)
			}
			a, err := codec.ConsumeAck(f)
			ok(t, err)
			got[a.Mode] += a.Marks.Len()
		}
		if got[codec.AckDelivered] != total || got[codec.AckRead] != total {
			t.Errorf("%v", got)
		}
	})
}

func TestMarkRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		c, err := New(opt)
		ok(t, err)
		ok(t, c.MarkRead(User("bob"), 4)) // before there is a connection
		go c.Run(t.Context())
		defer c.Close()
		p := h.peer()
		p.login(stored(0))
		if a := p.acked(); a.Mode != codec.AckRead || a.InboxPos != 0 || marks(a) != `direct:"alice\x1fbob":4` {
			t.Errorf("%+v %s", a, marks(a))
		}
		ok(t, c.MarkRead(User("bob"), 3)) // never back
		ok(t, c.MarkRead(User("bob"), 0))
		ok(t, c.MarkRead(User("bob"), 6))
		ok(t, c.MarkRead(Group("g"), 2))
		if a := p.acked(); marks(a) != `direct:"alice\x1fbob":6 group:"g":2` {
			t.Errorf("%s", marks(a))
		}
		// An ACK has no answer: what was told just before the end is told again, what was told long before is not.
		reconnect := func(w codec.Welcome) {
			p.nc.Close()
			p = h.peer()
			p.login(w)
			synctest.Wait()
		}
		time.Sleep(readAge / 2)
		reconnect(stored(0))
		if a := expectAmong(p, codec.TypeAck, codec.ConsumeAck); marks(a) != `direct:"alice\x1fbob":6 group:"g":2` {
			t.Errorf("%s", marks(a))
		}
		time.Sleep(readAge + time.Second)
		reconnect(stored(0))
		p.quiet()
		wantCode(t, c.MarkRead(Channel{}, 1), codec.CodeInvalid)
		for i := range 2 * maxMarks {
			ok(t, c.MarkRead(User(fmt.Sprint("user-", i)), 1))
		}
		if n := len(c.track.done.reads); n > maxMarks {
			t.Errorf("%d are remembered", n)
		}
		// Another log: what was read of the old one means nothing.
		w := stored(0)
		w.InboxEpoch = 6
		reconnect(w)
		if n := len(c.track.done.reads); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

// HELLO carries what the handlers are done with: not what has only come.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		gate := make(chan struct{}, 100)
		opt.OnMessage = func(m Message) { <-gate; got.add("%d", m.Seq) }
		c, err := New(opt)
		ok(t, err)
		ok(t, c.Subscribe(t.Context(), "news"))
		go c.Run(t.Context())
		defer c.Close()
		p := h.peer()
		w := stored(0)
		w.States.Append(codec.State{Epoch: 5, Head: 30})
		if s := positions(p.login(w)); s != "inbox 0/0, topic:news 0/0" {
			t.Errorf("HELLO with %s", s)
		}
		bob, news, all, large := User("bob"), Topic("news"), All(), Group("large")
		p.send(durableMsg(bob, 1, 0))
		p.send(posFrame(10))
		p.send(durableMsg(news, 31, codec.MsgLog))
		p.send(durableMsg(all, 3, codec.MsgLog))
		p.send(durableMsg(large, 5, codec.MsgLog))
		p.send(durableMsg(bob, 2, 0))
		p.send(posFrame(11))
		for range 2 {
			gate <- struct{}{}
		}
		got.want(t, "1 31")
		p.nc.Close()
		p = h.peer()
		if s := positions(p.login(stored(0))); s != "inbox 5/10, topic:news 5/31" {
			t.Errorf("HELLO with %s", s)
		}
		close(gate)
		got.want(t, "3 5 2")
		p.nc.Close()
		p = h.peer()
		w = stored(0)
		w.InboxState = codec.StateResumed
		for _, st := range []uint8{codec.StateGap, codec.StateResumed, codec.StateReset} {
			w.States.Append(codec.State{State: st, Epoch: 5, Head: 40})
		}
		if s := positions(p.login(w)); s != "inbox 5/11, topic:news 5/31, all:all 5/3, group:large 5/5" {
			t.Errorf("HELLO with %s", s)
		}
		p.send(gapFrame(news, 32, 39, codec.GapExpired))
		p.send(durableMsg(news, 40, codec.MsgLog))
		got.want(t, "inbox:resumed@0 topic:news:gap@40 all:resumed@40 group:large:reset@40 gap(32-39,1) 40")
		// The topic's log is another one: it goes on from where the server says.
		p.nc.Close()
		p = h.peer()
		w = stored(0)
		for range 3 {
			w.States.Append(codec.State{State: codec.StateReset, Epoch: 6, Head: 12})
		}
		w.InboxEpoch, w.InboxState = 6, codec.StateReset
		p.login(w)
		p.send(durableMsg(news, 9, codec.MsgLog))
		got.want(t, "inbox:reset@0 topic:news:reset@12 all:reset@12 group:large:reset@12 9")
		p.nc.Close()
		p = h.peer()
		w = stored(0)
		w.InboxEpoch = 6
		w.States.Append(codec.State{State: codec.StateReset, Epoch: 6, Head: 4}) // set back
		if s := positions(p.login(w)); s != "inbox 0/0, topic:news 6/9, all:all 5/3, group:large 5/5" {
			t.Errorf("HELLO with %s", s)
		}
		got.want(t, "topic:news:reset@4")
		p.nc.Close()
		if s := positions(h.peer().hello()); s != "inbox 0/0, topic:news 6/4, all:all 5/3, group:large 5/5" {
			t.Errorf("HELLO with %s", s)
		}
	})
}

// A topic in which nothing was said goes on from where it began; one with a filter by SUB.
func TestResumeTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var got heard
		got.by(&opt)
		c, p := h.joined(opt)
		subscribe := func(topic string, state uint8, head uint64, tags ...string) codec.Sub {
			t.Helper()
			done := make(chan error, 1)
			go func() { done <- c.Subscribe(t.Context(), topic, tags...) }()
			s := p.sub()
			p.send(codec.AppendSubAck(nil, codec.SubAck{Req: s.Req, State: state, Epoch: 5, Head: head}))
			ok(t, <-done)
			return s
		}
		if s := subscribe("empty", codec.StateLive, 0); s.Mode != codec.SubFromNow {
			t.Errorf("%+v", s)
		}
		subscribe("some", codec.StateLive, 8, "x")
		p.send(durableMsg(Topic("some"), 11, codec.MsgLog)) // others have no tag x, so this is no hole
		p.send(gapFrame(Topic("some"), 12, 20, codec.GapFiltered))
		got.want(t, "11 gap(12-20,3)")
		p.skipped(codec.TypeAck)
		p.nc.Close()
		p = h.peer()
		if s := positions(p.login(stored(0))); s != "inbox 0/0, topic:empty 5/0" {
			t.Errorf("HELLO with %s", s)
		}
		s := p.sub()
		if s.Mode != codec.SubFromPosition || s.Epoch != 5 || s.Seq != 20 || string(s.Name) != "some" {
			t.Errorf("%+v", s)
		}
		p.send(codec.AppendSubAck(nil, codec.SubAck{Req: s.Req, State: codec.StateResumed, Epoch: 5, Head: 25}))
		p.send(durableMsg(Topic("some"), 22, codec.MsgLog))
		got.want(t, "topic:some:resumed@25 22")
		p.skipped(codec.TypeAck)
		// Another filter goes on from there, too; a topic that was left begins anew.
		if s := subscribe("some", codec.StateResumed, 25, "y"); s.Mode != codec.SubFromPosition || s.Seq != 22 {
			t.Errorf("%+v", s)
		}
		left := make(chan error, 1)
		go func() { left <- c.Unsubscribe(t.Context(), "some") }()
		u := expectAmong(p, codec.TypeUnsub, codec.ConsumeUnsub)
		p.send(durableMsg(Topic("some"), 26, codec.MsgLog)) // on its way
		p.send(codec.AppendSubAck(nil, codec.SubAck{Req: u.Req}))
		ok(t, <-left)
		p.skipped(codec.TypeAck)
		if s := subscribe("some", codec.StateLive, 40); s.Mode != codec.SubFromNow {
			t.Errorf("%+v", s)
		}
		p.send(durableMsg(Topic("some"), 41, codec.MsgLog))
		synctest.Wait()
		if s := got.take(); !strings.HasSuffix(s, "41") {
			t.Errorf("heard %q", s)
		}
	})
}

// skipped waits for what is due and throws away frames of a type.
func (p *peer) skipped(typ codec.Type) {
	p.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	for len(p.frames) > 0 {
		if f, _ := p.next(); f.Type != typ {
			p.t.Errorf("%v came", f.Type)
		}
	}
}

// What is saved is never ahead of the handlers, and a later client goes on from it: what comes again of it is dropped.
func TestSavedPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		store := new(savedPositions)
		opt.Positions = store
		var got heard
		got.by(&opt)
		gate := make(chan struct{}, 100)
		opt.OnMessage = func(m Message) { <-gate; got.add("%d", m.Seq) }
		c, err := New(opt)
		ok(t, err)
		ok(t, c.Subscribe(t.Context(), "news"))
		go c.Run(t.Context())
		p := h.peer()
		w := stored(0)
		w.States.Append(codec.State{Epoch: 5, Head: 30})
		p.login(w)
		bob, news := User("bob"), Topic("news")
		p.send(durableMsg(bob, 7, 0))
		p.send(posFrame(10))
		p.send(durableMsg(news, 31, codec.MsgLog))
		p.send(durableMsg(bob, 8, 0))
		p.send(posFrame(11))
		gate <- struct{}{}
		time.Sleep(time.Second)
		if s := store.now(); s != "5/10 direct:bob 5/7 topic:news 5/30 log" {
			t.Errorf("saved %s", s)
		}
		gate <- struct{}{}
		gate <- struct{}{}
		synctest.Wait()
		c.Close() // saves what is left, at once
		if s := store.now(); s != "5/11 direct:bob 5/8 topic:news 5/31 log" {
			t.Errorf("saved %s", s)
		}
		got.take()

		// The first checkpoint again, as after a crash.
		store.last = Checkpoint{InboxEpoch: 5, InboxPos: 10, Channels: []Position{{bob, 5, 8, false}, {news, 5, 30, true}}}
		opt.OnMessage = func(m Message) { got.add("%d", m.Seq) }
		c, err = New(opt)
		ok(t, err)
		ok(t, c.Subscribe(t.Context(), "news"))
		go c.Run(t.Context())
		defer c.Close()
		p = h.peer()
		w = stored(0)
		w.States.Append(codec.State{State: codec.StateResumed, Epoch: 5, Head: 31})
		if s := positions(p.login(w)); s != "inbox 5/10, topic:news 5/30" {
			t.Errorf("HELLO with %s", s)
		}
		p.send(durableMsg(bob, 8, 0))
		p.send(durableMsg(bob, 9, 0))
		p.send(posFrame(12))
		p.send(durableMsg(news, 31, codec.MsgLog))
		got.want(t, "topic:news:resumed@31 9 31")

		full := errors.New("disk full")
		store.fail.Store(&full)
		p.send(durableMsg(bob, 10, 0))
		time.Sleep(time.Second)
		store.fail.Store(nil)
		p.send(durableMsg(bob, 11, 0))
		time.Sleep(time.Second)
		if s := store.now(); s != "5/12 direct:bob 5/11 topic:news 5/31 log" {
			t.Errorf("saved %s", s)
		}
		store.fail.Store(&full)
		if _, err := New(opt); !errors.Is(err, full) {
			t.Errorf("New: %v", err)
		}
		store.fail.Store(nil)
	})
}

// savedPositions is one that can be looked at.
type savedPositions struct {
	MemoryPositions
	fail atomic.Pointer[error]
}

func (s *savedPositions) Load() (Checkpoint, error) {
	c, _ := s.MemoryPositions.Load()
	if err := s.fail.Load(); err != nil {
		return Checkpoint{}, *err
	}
	return c, nil
}

func (s *savedPositions) Save(c Checkpoint) error {
	if err := s.fail.Load(); err != nil {
		return *err
	}
	return s.MemoryPositions.Save(c)
}

func (s *savedPositions) now() string {
	c, _ := s.MemoryPositions.Load()
	list := []string{fmt.Sprintf("%d/%d", c.InboxEpoch, c.InboxPos)}
	for _, p := range c.Channels {
		list = append(list, fmt.Sprintf("%v %d/%d", p.Channel, p.Epoch, p.Seq))
		if p.Log {
			list = append(list, "log")
		}
	}
	return strings.Join(list, " ")
}

func TestFilePositions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions")
	f, err := OpenPositions(path)
	ok(t, err)
	if c, err := f.Load(); err != nil || c.InboxEpoch != 0 || c.Channels != nil {
		t.Errorf("none yet: %+v, %v", c, err)
	}
	want := Checkpoint{InboxEpoch: 1<<64 - 1, InboxPos: 1<<63 + 1, Channels: []Position{{User("世界 \"bob\""), 7, 1 << 60, false}, {All(), 7, 3, true}}}
	ok(t, f.Save(Checkpoint{InboxPos: 1}))
	ok(t, f.Save(want))
	if _, err := OpenPositions(path); !errors.Is(err, errLocked) {
		t.Errorf("opened twice: %v", err)
	}
	ok(t, f.Close())
	f, err = OpenPositions(path)
	ok(t, err)
	defer f.Close()
	got, err := f.Load()
	if err != nil || got.InboxEpoch != want.InboxEpoch || got.InboxPos != want.InboxPos || !slices.Equal(got.Channels, want.Channels) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	whole, err := os.ReadFile(path)
	ok(t, err)
	for name, content := range map[string]string{
		"empty": "", "cut": string(whole[:len(whole)-2]), "other": `{"a":1}`, "text": "hello", "newer": `{"gannet_positions":2}`,
		"bad name": `{"gannet_positions":1,"channels":[{"channel":{"Kind":1,"Name":"\u0001"}}]}`, "bad kind": `{"gannet_positions":1,"channels":[{"channel":{"Kind":9,"Name":"x"}}]}`,
	} {
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		if c, err := f.Load(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// Whoever reads the file while it is saved, or after a crash in the middle, finds a whole one.
func TestFilePositionsAreWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions")
	f, err := OpenPositions(path)
	ok(t, err)
	defer f.Close()
	at := func(n int) Checkpoint {
		c := Checkpoint{InboxEpoch: 1, InboxPos: uint64(n)}
		for i := range n % 50 {
			c.Channels = append(c.Channels, Position{User(fmt.Sprint("user-", i)), 1, uint64(n), false})
		}
		return c
	}
	ok(t, f.Save(at(0)))
	ok(t, os.WriteFile(path+".new", []byte("half of someth"), 0o600)) // left by a crash
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		reader := FilePositions{path: path}
		for last := uint64(0); ; {
			c, err := reader.Load()
			if err != nil || c.InboxPos < last || len(c.Channels) != int(c.InboxPos)%50 {
				t.Errorf("%d after %d, %d channels: %v", c.InboxPos, last, len(c.Channels), err)
				return
			}
			last = c.InboxPos
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for n := range 200 {
		ok(t, f.Save(at(n)))
	}
	close(over)
	wg.Wait()
	// A disk that takes nothing: what was there stays.
	ok(t, os.Mkdir(path+".new", 0o700))
	if err := f.Save(at(300)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if c, err := f.Load(); err != nil || c.InboxPos != 199 {
		t.Errorf("%d, %v", c.InboxPos, err)
	}
}

// What a client knows of channels is bounded; what it needs to resume is kept.
func TestPlacesAreBounded(t *testing.T) {
	var tr tracker
	tr.init(false)
	tr.login(5, false)
	tr.subscribed("wanted", false, Live, 5, 3)
	for i := range 2 * maxPlaces {
		it := &item{seqRange{1, 1}, event{kind: eventMessage}}
		tr.arrived(User(fmt.Sprint(i)), false, it)
		if i == 10 {
			tr.arrived(Group("large"), true, &item{seqRange{1, 1}, event{kind: eventMessage}})
		}
	}
	if n := len(tr.places); n > maxPlaces {
		t.Errorf("%d places", n)
	}
	for _, ch := range []Channel{Topic("wanted"), Group("large"), User(fmt.Sprint(2*maxPlaces - 1))} {
		if tr.places[ch] == nil {
			t.Errorf("%v is forgotten", ch)
		}
	}
}

func TestOwnRanges(t *testing.T) {
	p := &place{}
	for _, seq := range []uint64{5, 7, 6, 5, 10, 12, 11, 9, 3, 8} {
		p.addOwn(seq)
	}
	if want := []seqRange{{3, 3}, {5, 12}}; !slices.Equal(p.own, want) {
		t.Errorf("%v, want %v", p.own, want)
	}
	p = &place{}
	for i := range uint64(4 * maxOwn) {
		p.addOwn(2 * i)
	}
	if len(p.own) != maxOwn || p.own[0].from != 0 {
		t.Errorf("%d ranges from %d on", len(p.own), p.own[0].from)
	}
}
