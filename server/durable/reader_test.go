package durable

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
)

// desk is a pool of readers under test; what it answers is collected.
type desk struct {
	*readers
	mu      sync.Mutex
	batches [][]*shard.Read
	hold    chan struct{} // not nil: the next batch waits until it is closed
	held    chan struct{} // gets one when it does
}

func newDesk(t *testing.T, s *shelf, workers, queue int) *desk {
	s.l.opts.ReadWorkers, s.l.opts.ReadQueue = workers, queue
	s.l.readers = newReaders(s.l)
	d := &desk{readers: s.l.readers, held: make(chan struct{})}
	d.served = func(reads []*shard.Read) {
		d.mu.Lock()
		d.batches = append(d.batches, slices.Clone(reads))
		hold := d.hold
		d.hold = nil
		d.mu.Unlock()
		if hold != nil {
			d.held <- struct{}{}
			<-hold
		}
	}
	t.Cleanup(d.close)
	return d
}

// holdUp makes the only worker wait until release is called.
func (d *desk) holdUp(t *testing.T) (release func()) {
	hold := make(chan struct{})
	d.mu.Lock()
	d.hold = hold
	d.mu.Unlock()
	if n := d.submit(many(shard.ReadInbox, 1)); n != 1 {
		t.Fatalf("took %d", n)
	}
	<-d.held
	return sync.OnceFunc(func() { close(hold) })
}

// answered are all answers so far, in their order.
func (d *desk) answered() (all []*shard.Read) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.batches {
		all = append(all, b...)
	}
	return all
}

// wait waits for n answers in all.
func (d *desk) wait(t *testing.T, n int) []*shard.Read {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if all := d.answered(); len(all) >= n {
			return all
		} else if time.Now().After(deadline) {
			t.Fatalf("%d answers of %d", len(all), n)
		}
	}
}

func refOf(shardIndex int) shard.SessionRef { return shard.MakeRef(uint32(shardIndex), 1, 1) }

// Many shards ask at once, and the pool is closed under them: what was taken comes back once, in batches of one shard, with a code.
func TestEachTakenReadComesBackOnce(t *testing.T) {
	s := newShelf(t, inMemory)
	s.say(direct("ann", "bob", "one"), posted(codec.KindTopic, "news", "two"))
	d := newDesk(t, s, 3, 200)
	ops := []shard.Read{
		{Op: shard.ReadResume, User: "bob", Device: "d"}, {Op: shard.ReadInbox, User: "bob"},
		{Op: shard.ReadLog, User: "bob", Kind: codec.KindTopic, Name: "news"},
		{Op: shard.ReadSub, User: "bob", Kind: codec.KindTopic, Name: "news", Mode: codec.SubFromPosition},
		{Op: shard.ReadPull, User: "bob", Kind: codec.KindTopic, Name: "news", Limit: 10},
		{Op: shard.ReadList, User: "bob", Limit: 10}, {Op: 99},
	}
	var taken sync.Map
	var total atomic.Int64
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			for turn := range 200 {
				reqs := make([]*shard.Read, 1+turn%50)
				for j := range reqs {
					q := ops[(turn+j)%len(ops)]
					q.Ref, q.Code = refOf(i), 999
					reqs[j] = &q
				}
				n := d.submit(reqs)
				for _, q := range reqs[:n] {
					taken.Store(q, true)
				}
				total.Add(int64(n))
				if i == 0 && turn == 150 {
					d.close()
				}
			}
		})
	}
	asking.Wait()
	if n := d.submit([]*shard.Read{{}}); n != 0 {
		t.Error("a closed pool takes reads")
	}
	all := d.wait(t, int(total.Load()))
	seen := map[*shard.Read]bool{}
	for _, q := range all {
		if _, ok := taken.Load(q); !ok || seen[q] {
			t.Fatalf("%+v came back twice, or was not taken", q)
		}
		seen[q] = true
		if q.Code == 999 || q.Op == 99 && q.Code != codec.CodeUnavailable {
			t.Fatalf("%+v came back without its code", q)
		}
	}
	if len(seen) != int(total.Load()) {
		t.Errorf("%d of %d came back", len(seen), total.Load())
	}
	for _, b := range d.batches {
		for _, q := range b {
			if q.Ref.Shard() != b[0].Ref.Shard() {
				t.Fatal("a batch has reads of two shards")
			}
		}
	}
	if d.counts.refused.Load() == 0 {
		t.Error("nothing was refused, so this shows little")
	}
}

// many are n reads of one operation.
func many(op shard.ReadOp, n int) (list []*shard.Read) {
	for range n {
		list = append(list, &shard.Read{Op: op, Ref: refOf(0), User: "ann", Device: "d", Kind: codec.KindAll, Name: "all", Limit: 1, Req: 7})
	}
	return list
}

func TestReadsAreBoundedAndLoginsGoFirst(t *testing.T) {
	s := newShelf(t, inMemory)
	d := newDesk(t, s, 1, 16)
	release := d.holdUp(t)
	defer release()
	if n := d.submit(many(shard.ReadPull, 10)); n != 10 {
		t.Fatalf("took %d of 10 PULLs; those beyond half of the places are answered BUSY", n)
	}
	if n := d.submit(many(shard.ReadResume, 20)); n != 8 {
		t.Fatalf("took %d logins, 8 places are left", n)
	}
	release()
	all := d.wait(t, 1+10+8)
	for i, q := range all[1:3] {
		if q.Code != codec.CodeBusy || show(t, q.Frames) != "RANGE 7 BUSY n=0 next=0" {
			t.Errorf("PULL beyond half of the places, %d: %v, %s", i, q.Code, show(t, q.Frames))
		}
	}
	last := 0
	for i, q := range all[3:] {
		if q.Code != codec.CodeOK {
			t.Errorf("answer %d is %v", i, q.Code)
		}
		if q.Op == shard.ReadResume {
			last = i
		}
	}
	if last >= 8+turnSlow { // one turn in slowEvery may go to the others
		t.Errorf("the last of 8 logins came as number %d, behind PULLs", last)
	}
	st := s.l.ReadStats()
	if st.Busy != 2 || st.Refused != 12 || st.Waiting != 0 || st.Served[shard.ReadPull] != 8 || st.Served[shard.ReadResume] != 8 {
		t.Errorf("counted %+v, want 2 BUSY, 12 refused, 8 PULLs and 8 logins served", st)
	}
}

// One read at a time, each asked when the one before is answered: the worker is just about to rest.
func TestNoReadIsForgotten(t *testing.T) {
	s := newShelf(t, inMemory)
	d := newDesk(t, s, 1, 16)
	answered := make(chan struct{}, 1)
	d.served = func([]*shard.Read) { answered <- struct{}{} }
	for i := range 5000 {
		if d.submit(many(shard.ReadSub, 1)) != 1 {
			t.Fatal("not taken")
		}
		select {
		case <-answered:
		case <-time.After(10 * time.Second):
			t.Fatalf("read %d is not answered", i)
		}
	}
}

// A shard that panics over an answer does not cost a worker.
func TestPanicOfAReceiver(t *testing.T) {
	s := newShelf(t, inMemory)
	d := newDesk(t, s, 1, 16)
	answered := make(chan struct{})
	var n int
	d.served = func([]*shard.Read) {
		if n++; n == 1 {
			panic("planted")
		}
		close(answered)
	}
	d.submit(many(shard.ReadSub, 1))
	for deadline := time.Now().Add(10 * time.Second); s.l.ReadStats().Panics == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the panic is not counted")
		}
	}
	d.submit(many(shard.ReadSub, 1))
	select {
	case <-answered:
	case <-time.After(10 * time.Second):
		t.Fatal("the worker is gone")
	}
}

// However many logins wait, a PULL gets its turn.
func TestPullsAreNotStarved(t *testing.T) {
	s := newShelf(t, inMemory)
	d := newDesk(t, s, 1, 4096)
	release := d.holdUp(t)
	defer release()
	d.submit(many(shard.ReadInbox, 2000))
	d.submit(many(shard.ReadPull, 1))
	release()
	all := d.wait(t, 2002)
	at := slices.IndexFunc(all, func(q *shard.Read) bool { return q.Op == shard.ReadPull })
	if at > slowEvery*turnMax+1 {
		t.Errorf("the PULL was answered as number %d", at)
	}
}

func TestPanicIsAnsweredUnavailable(t *testing.T) {
	s := illShelf(t, func(call string) error {
		if call == "Place" {
			panic("planted")
		}
		return nil
	})
	d := newDesk(t, s, 1, 100)
	d.submit(append(many(shard.ReadResume, 3), many(shard.ReadSub, 1)...))
	all := d.wait(t, 4)
	for i, want := range []codec.Code{codec.CodeUnavailable, codec.CodeUnavailable, codec.CodeUnavailable, codec.CodeOK} {
		if all[i].Code != want {
			t.Errorf("answer %d is %v, want %v", i, all[i].Code, want)
		}
	}
	if d.counts.panics.Load() != 3 || d.counts.failed.Load() != 3 {
		t.Errorf("%d panics, %d failures counted, want 3 of both", d.counts.panics.Load(), d.counts.failed.Load())
	}
}

// lines counts what is logged.
type lines struct{ n *atomic.Int64 }

func (h lines) Write(p []byte) (int, error) {
	h.n.Add(1)
	return len(p), nil
}

func TestStoreThatCannotBeRead(t *testing.T) {
	s := newShelf(t, inMemory)
	var logged atomic.Int64
	s.l.opts.Logger = slog.New(slog.NewTextHandler(lines{&logged}, nil))
	if err := s.l.current().Close(); err != nil {
		t.Fatal(err)
	}
	for op := shard.ReadResume; op <= shard.ReadList; op++ {
		q := s.ask(shard.Read{Op: op, User: "ann", Device: "d", Kind: codec.KindTopic, Name: "news", Limit: 1, Req: 5, Mode: 1, After: 1})
		if q.Code != codec.CodeUnavailable || q.More || q.N != 0 {
			t.Errorf("operation %d over a closed store: %+v", op, q)
		}
		want := map[shard.ReadOp]string{shard.ReadPull: "RANGE 5 UNAVAILABLE n=0 next=0", shard.ReadList: "LISTED 5 UNAVAILABLE"}[op]
		if got := show(t, q.Frames); got != want {
			t.Errorf("operation %d over a closed store: frames %q, want %q", op, got, want)
		}
	}
	if n := logged.Load(); n < 1 || n > 2 {
		t.Errorf("%d lines logged about 6 failures within a moment, want one a second", n)
	}
}

// A used Read asked again must not answer with what it held.
func TestAnswersBeginEmpty(t *testing.T) {
	s := newShelf(t, inMemory)
	s.say(direct("ann", "bob", "hi"))
	q := s.ask(shard.Read{Op: shard.ReadResume, User: "bob", Device: "d", Positions: []shard.LogPosition{{Kind: codec.KindTopic, Name: "x"}}})
	if q.N != 1 || len(q.States) != 1 || len(q.Logs) != 2 {
		t.Fatalf("answer %+v", q)
	}
	q.User, q.Positions, q.More = "carl", nil, true
	s.w.answer(q)
	if q.N != 0 || q.Frames != nil || len(q.States) != 0 || len(q.Logs) != 1 || q.More {
		t.Errorf("the second answer has something of the first: %+v", q)
	}
	*q = shard.Read{Op: shard.ReadLog, Kind: codec.KindAll, Name: "none", State: 2, Head: 3, Next: 4, Nonce: 5, N: 6, Covered: 7, More: true, Small: true}
	s.w.answer(q)
	if got := fmt.Sprint(q.Code, q.State, q.Head, q.Next, q.Nonce, q.N, q.Covered, q.More, q.Small); got != "FORBIDDEN 0 0 0 0 0 0 false false" {
		t.Errorf("a refusal has something of what was there before: %s", got)
	}
}

// Frames of one answer stay as they are when the worker goes on.
func TestFramesAreNotShared(t *testing.T) {
	eachStore(t, func(t *testing.T, s *shelf) {
		s.say(direct("ann", "bob", "for bob"), direct("ann", "carl", "for carl"))
		q := s.ask(shard.Read{Op: shard.ReadInbox, User: "bob"})
		before := show(t, q.Frames)
		s.ask(shard.Read{Op: shard.ReadInbox, User: "carl"})
		s.ask(shard.Read{Op: shard.ReadPull, User: "carl", Kind: codec.KindDirect, Name: pairOf("ann", "carl"), Limit: 5})
		if got := show(t, q.Frames); got != before || got != "ann+bob:1 for bob" {
			t.Errorf("the frames changed from %q to %q", before, got)
		}
	})
}

var errDisk = errors.New("disk on fire")

func TestErrorsInTheMiddle(t *testing.T) {
	fault := ""
	s := illShelf(t, func(call string) error {
		if strings.HasPrefix(call, fault) && fault != "" {
			return errDisk
		}
		return nil
	})
	s.say(direct("ann", "bob", "hi"), posted(codec.KindTopic, "news", "x"))
	s.put(convOwner("bob"), convKey(codec.KindDirect, pairOf("ann", "bob")), convRecord{}.append(nil))
	reads := []shard.Read{
		{Op: shard.ReadResume}, {Op: shard.ReadInbox}, {Op: shard.ReadLog, Kind: codec.KindTopic, Name: "news"},
		{Op: shard.ReadSub, Kind: codec.KindTopic, Name: "news"}, {Op: shard.ReadPull, Kind: codec.KindTopic, Name: "news", Limit: 1},
		{Op: shard.ReadList, Limit: 1},
	}
	for i, q := range reads {
		q.User, q.Device = "bob", "d"
		for _, fault = range []string{"Read", "Head", ""} {
			want := codec.CodeUnavailable
			if fault == "" || fault == "Read" && q.Op == shard.ReadSub || fault == "Head" && q.Op == shard.ReadInbox {
				want = codec.CodeOK
			}
			if got := s.ask(q); got.Code != want {
				t.Errorf("read %d with a fault of %q: %v, want %v", i, fault, got.Code, want)
			}
		}
	}
}
