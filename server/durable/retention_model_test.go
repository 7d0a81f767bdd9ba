package durable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
)

// faulty is a store whose writes other than Append fail now and then, with what they were to do done or not. From then on it writes nothing.
type faulty struct {
	store.Store
	mu     sync.Mutex
	rnd    *rand.Rand // guarded by mu; nil: nothing fails
	rate   int        // one write in so many fails
	failed bool       // guarded by mu
}

func (f *faulty) write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		return store.ErrFailed
	}
	fails := f.rnd != nil && f.rnd.IntN(f.rate) == 0
	if !fails || f.rnd.IntN(2) == 0 {
		if err := do(); err != nil {
			return err
		}
	}
	if f.failed = fails; fails {
		return fmt.Errorf("%w: %w", store.ErrFailed, errGone)
	}
	return nil
}

func (f *faulty) Append(batch []store.Message, results []store.Result) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		return store.ErrFailed
	}
	return f.Store.Append(batch, results)
}

func (f *faulty) Put(records []store.Record, sync bool) error {
	return f.write(func() error { return f.Store.Put(records, sync) })
}

func (f *faulty) Trim(c store.Channel, below uint64) error {
	return f.write(func() error { return f.Store.Trim(c, below) })
}

func (f *faulty) Expire(before uint64) error {
	return f.write(func() error { return f.Store.Expire(before) })
}

func (f *faulty) Close() error { return nil }

// estate is random traffic and what must be left of it.
type estate struct {
	*attic
	rnd      *rand.Rand
	channels []*estateChannel
	buried   map[string]int // letters seen, "channel seq": how often
	cleared  uint64         // ID of the last letter that was taken off the list
}

type estateChannel struct {
	store.Channel
	users []string
	said  []saying // by seq−1
	upTo  map[string]uint64
	first uint64 // lowest seq kept at the last look
}

type saying struct {
	from    string
	time    uint64
	end     uint64 // when the time to live runs out; 0: never
	receipt bool
	over    bool // gone, or run out
}

var estateUsers = []string{"ann", "bob", "carl"}

func newEstate(a *attic, rnd *rand.Rand) *estate {
	e := &estate{attic: a, rnd: rnd, buried: map[string]int{}}
	add := func(kind codec.Kind, name string, users ...string) {
		e.channels = append(e.channels, &estateChannel{Channel: store.Channel{Kind: kind, Name: name}, users: users, upTo: map[string]uint64{}, first: 1})
	}
	for i, u := range estateUsers {
		for _, v := range estateUsers[i:] {
			add(codec.KindDirect, pairOf(u, v), u, v)
		}
	}
	add(codec.KindTopic, "t1", estateUsers...)
	add(codec.KindTopic, "t2", estateUsers...)
	add(codec.KindAll, codec.AllName, estateUsers...)
	return e
}

// retention draws one. Days are as long as a bucket.
func drawRetention(rnd *rand.Rand) Retention {
	keep := func() (k Keep) {
		if rnd.IntN(3) > 0 {
			k.Age = time.Duration(1+rnd.IntN(72)) * time.Hour
		}
		if rnd.IntN(3) == 0 {
			k.Count = uint64(1 + rnd.IntN(60))
		}
		return k
	}
	r := Retention{Direct: keep(), Group: keep(), Topic: keep(), All: keep()}
	if rnd.IntN(2) == 0 { // Expire can be used
		for _, k := range []*Keep{&r.Direct, &r.Group, &r.Topic, &r.All} {
			if k.Age == 0 {
				k.Age = 72 * time.Hour
			}
		}
	}
	return r
}

// speak sends some messages of one user in a channel, until they are stored.
func (e *estate) speak() {
	c := e.channels[e.rnd.IntN(len(e.channels))]
	from, to := c.users[e.rnd.IntN(len(c.users))], c.Name
	if c.Kind == codec.KindDirect {
		if to = c.users[0]; to == from {
			to = c.users[1]
		}
	}
	for range 1 + e.rnd.IntN(12) {
		s := saying{from: from, time: e.now.Load(), receipt: e.rnd.IntN(2) == 0}
		flags, ttl := uint8(0), uint32(0)
		if s.receipt {
			flags = codec.MsgReceipt
		}
		if e.rnd.IntN(3) == 0 {
			ttl = uint32(1 + e.rnd.IntN(4)*20_000)
			s.end = s.time + uint64(ttl)*1000
		}
		e.nonce[from]++
		for {
			got := e.send(said(from, e.nonce[from], c.Kind, to, fmt.Sprint(len(c.said)+1), flags, ttl, s.time))
			if got[0].Code == codec.CodeOK {
				if got[0].Seq != uint64(len(c.said)+1) {
					e.t.Fatalf("message %d of %v got seq %d", len(c.said)+1, c.Channel, got[0].Seq)
				}
				break
			}
			e.healthy()
		}
		c.said = append(c.said, s)
		c.upTo[from] = uint64(len(c.said)) // who speaks has read
	}
}

// acknowledge moves a user's position in a channel.
func (e *estate) acknowledge() {
	c := e.channels[e.rnd.IntN(len(e.channels))]
	if c.Kind != codec.KindDirect || len(c.said) == 0 {
		return
	}
	user, seq := c.users[e.rnd.IntN(2)], uint64(1+e.rnd.IntN(len(c.said)))
	e.mark(user, codec.AckDelivered+uint8(e.rnd.IntN(2)), c.Kind, c.Name, seq)
	c.upTo[user] = max(c.upTo[user], seq)
	within(e.t, "the position counts", func() bool {
		rec, _, err := e.conv(user, c.Kind, c.Name)
		return err == nil && max(rec.Delivered, rec.Read) >= seq
	})
}

// lost says whether a message is one that must become a dead letter when it ends now.
func (c *estateChannel) lost(seq uint64) bool {
	s := c.said[seq-1]
	if c.Kind != codec.KindDirect || !s.receipt || c.users[0] == c.users[1] {
		return false
	}
	to := c.users[0]
	if to == s.from {
		to = c.users[1]
	}
	return seq > c.upTo[to]
}

// check compares what is there with what must be. whole: the retention has done all that there was to do.
func (e *estate) check(whole bool) {
	e.t.Helper()
	e.collect()
	now := e.now.Load()
	for _, c := range e.channels {
		head := e.head(c.Kind, c.Name)
		if head.Seq != uint64(len(c.said)) || head.First < c.first || head.First > head.Seq+1 {
			e.t.Fatalf("head of %v is %+v, it has had %d messages and was cut to %d before", c.Channel, head, len(c.said), c.first)
		}
		c.first = head.First
		texts := e.texts(c.Kind, c.Name)
		if n := head.Seq - head.First + 1; uint64(len(texts)) != n || n > 0 && texts[0] != fmt.Sprint(head.First) {
			e.t.Fatalf("%v has %d messages from %q on, its head is %+v", c.Channel, len(texts), texts[:min(1, len(texts))], head)
		}
		keep := e.retention.keep[c.Kind]
		age := uint64(keep.Age.Milliseconds())
		slack := uint64(min(walkEvery, keep.Age/walkParts).Milliseconds())
		if !e.retention.trimmed(c.Kind) {
			slack += uint64((hours + time.Hour + min(walkEvery, e.retention.keep[codec.KindDirect].Age/walkParts)).Milliseconds())
		}
		for i := range c.said {
			seq, s := uint64(i+1), &c.said[i]
			young := age == 0 || now-s.time < age
			few := keep.Count == 0 || seq+keep.Count > head.Seq
			if seq < head.First && young && few {
				e.t.Fatalf("message %d of %v is gone, %v old and one of the last %d; %+v", seq, c.Channel, time.Duration(now-s.time)*time.Millisecond, head.Seq-seq+1, keep)
			}
			few = keep.Count == 0 || seq+keep.Count+keep.Count/longSteps+1 > head.Seq
			if whole && seq >= head.First && (age > 0 && now-s.time > age+slack || !few) {
				e.t.Fatalf("message %d of %v is still there, %v old and one of the last %d; %+v", seq, c.Channel, time.Duration(now-s.time)*time.Millisecond, head.Seq-seq+1, keep)
			}
			e.checkLetter(c, seq, s, whole, seq < head.First || s.end > 0 && s.end <= now && whole)
		}
	}
}

// checkLetter wants a dead letter, once, of what ended undelivered, and of nothing else.
func (e *estate) checkLetter(c *estateChannel, seq uint64, s *saying, whole, over bool) {
	e.t.Helper()
	key := fmt.Sprintf("%s %d", c.Name, seq)
	n := e.buried[key]
	switch {
	case s.over: // was looked at before
	case over || n > 0 && s.end > 0 && s.end <= e.now.Load():
		s.over = true
		if want := c.lost(seq); want != (n > 0) {
			e.t.Fatalf("message %d of %v ended, its letter is there: %v, want %v", seq, c.Channel, n > 0, want)
		}
	case n > 0 && whole: // else the removal may have failed
		e.t.Fatalf("message %d of %v has a letter and is still there", seq, c.Channel)
	}
	if n > 1 {
		e.t.Fatalf("message %d of %v has %d letters", seq, c.Channel, n)
	}
}

// collect counts new letters.
func (e *estate) collect() {
	e.t.Helper()
	list, _, err := e.DeadLetters(e.cleared, 1<<20, 1<<30)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, x := range list {
		e.buried[fmt.Sprintf("%s %d", pairOf(x.Sender, x.Receiver), x.Seq)]++
		if fmt.Sprint(x.Seq) != string(x.Payload) {
			e.t.Fatalf("letter of message %d says %q", x.Seq, x.Payload)
		}
		e.cleared = x.ID
	}
	if e.rnd.IntN(4) == 0 {
		for e.Status() != nil {
			e.healthy()
		}
		_, _ = e.ClearDeadLetters(e.t.Context(), 0) // a write may fail
	}
}

// read wants of a reader that what it does not get is told.
func (e *estate) read() {
	e.t.Helper()
	c := e.channels[e.rnd.IntN(len(e.channels))]
	if c.Kind == codec.KindDirect || len(c.said) == 0 {
		return
	}
	after := uint64(e.rnd.IntN(len(c.said)))
	q := e.ask(shard.Read{Op: shard.ReadLog, User: "ann", Kind: c.Kind, Name: c.Name, After: after, MaxBytes: 1 + e.rnd.IntN(3000)})
	at := after
	for frames := q.Frames; len(frames) > 0; {
		f, n, err := codec.ConsumeFrame(frames, codec.MaxBody)
		if err != nil {
			e.t.Fatal(err)
		}
		frames = frames[n:]
		from, to := uint64(0), uint64(0)
		if f.Type == codec.TypeGap {
			g, _ := codec.ConsumeGap(f)
			from, to = g.From, g.To
		} else {
			m, _ := codec.ConsumeMsg(f)
			from, to = m.Seq, m.Seq
			if from < c.first {
				e.t.Fatalf("message %d of %v was read, removed is all below %d", from, c.Channel, c.first)
			}
		}
		if from != at+1 {
			e.t.Fatalf("%v behind %d: %s", c.Channel, after, show(e.t, q.Frames))
		}
		at = to
	}
	if at != q.Covered || q.Code != codec.CodeOK {
		e.t.Fatalf("%v behind %d: %v, up to %d, covered %d", c.Channel, after, q.Code, at, q.Covered)
	}
}

func (e *estate) run(steps int) {
	for i := range steps {
		switch e.rnd.IntN(12) {
		case 0, 1, 2, 3:
			e.speak()
		case 4:
			e.acknowledge()
		case 5, 6:
			e.pass(time.Duration(e.rnd.IntN(int(8 * time.Hour))))
		case 7:
			e.pass(time.Duration(e.rnd.IntN(int(3 * hours))))
		case 8:
			e.turn()
			e.check(false)
		case 9:
			e.settle()
			e.check(true)
		case 10:
			e.read()
		case 11:
			if e.rnd.IntN(5) == 0 {
				within(e.t, "all positions are written", func() bool { return e.Status() == nil && e.Stats().MarksPending == 0 })
				if err := e.Close(); err != nil && !errors.Is(err, errGone) {
					e.t.Fatal(err)
				}
				e.start()
				e.turn() // marks and judgements of the start
				e.check(false)
			}
		}
		if e.t.Failed() {
			e.t.Fatalf("in step %d", i)
		}
	}
	e.settle()
	e.check(true)
}

// turn is one of the retention. Time goes on as it does: jumps are for other tests.
func (e *estate) turn() {
	e.healthy()
	e.retention.clock.at = e.now.Load()
	e.retention.turn()
}

// settle lets the retention do all that is to be done.
func (e *estate) settle() {
	for {
		e.turn()
		before := e.RetentionStats().Errors
		e.turns()
		if e.Status() == nil && e.RetentionStats().Errors == before {
			return
		}
	}
}

func TestRetentionModel(t *testing.T) {
	const runs, steps = 4, 250
	seed := rand.Uint64()
	for i := range uint64(runs) {
		for name, make := range map[string]func(t *testing.T, rnd *rand.Rand) func() (store.Store, error){
			"memory": func(*testing.T, *rand.Rand) func() (store.Store, error) {
				s := memory.New(memory.Options{})
				return func() (store.Store, error) { return &shelved{Store: s}, nil }
			},
			"pebble": func(t *testing.T, _ *rand.Rand) func() (store.Store, error) { return onDisk(t) },
			"failing": func(_ *testing.T, rnd *rand.Rand) func() (store.Store, error) {
				s, base, opened := memory.New(memory.Options{}), rnd.Uint64(), atomic.Uint64{}
				return func() (store.Store, error) {
					return &faulty{Store: s, rnd: rand.New(rand.NewPCG(base, opened.Add(1))), rate: 20}, nil
				}
			},
		} {
			if name == "pebble" && i%3 > 0 { // slower
				continue
			}
			t.Run(fmt.Sprintf("%s/seed=%d", name, seed+i), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed+i, uint64(len(name))))
				r := drawRetention(rnd)
				t.Logf("%+v", r)
				a := newAttic(t, make(t, rnd), func(o *Options) { o.Retention, o.DeadLetters = r, 1<<20 })
				newEstate(a, rnd).run(steps)
			})
		}
	}
}
