package durable

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// recorder is a carrier that keeps what it is given.
type recorder struct {
	mu       sync.Mutex
	answers  []shard.Answer
	letters  []letter
	joined   []string
	sends    int
	gate     chan struct{} // not nil: Send waits for it, or for its stop
	answered int
}

// letter is something that was delivered. To is a user, or the kind and name of a room.
type letter struct {
	to     string
	place  uint64 // in an inbox
	seq    uint64
	text   string
	flags  uint8
	frame  []byte
	sender shard.SessionRef // whose session gets no frame
}

func (r *recorder) Answer(a shard.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, a)
}

func (r *recorder) add(to string, place uint64, frame []byte, sender shard.SessionRef) {
	l := letter{to: to, place: place, frame: frame, sender: sender}
	if f, n, err := codec.ConsumeFrame(frame, codec.MaxBody); err == nil && n == len(frame) && f.Type == codec.TypeMsg {
		m, _ := codec.ConsumeMsg(f)
		l.seq, l.text, l.flags = m.Seq, string(m.Payload), m.Flags
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters = append(r.letters, l)
}

func (r *recorder) Inbox(user []byte, place uint64, frame []byte, _ int64, sender shard.SessionRef) {
	r.add(string(user), place, frame, sender)
}

func (r *recorder) User(user []byte, frame []byte, _ int64, but shard.SessionRef) {
	r.add(string(user), 0, frame, but)
}

func (r *recorder) Room(kind codec.Kind, name []byte, _ uint64, frame []byte, _ int64) {
	r.add(fmt.Sprintf("%v/%s", kind, name), 0, frame, 0)
}

func (r *recorder) Join(user []byte, group string, after uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = append(r.joined, fmt.Sprintf("%s+%s after %d", group, user, after))
}

func (r *recorder) Leave(user []byte, group string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = append(r.joined, fmt.Sprintf("%s-%s", group, user))
}

func (r *recorder) Send(stop <-chan struct{}) bool {
	r.mu.Lock()
	r.sends++
	r.answered = len(r.answers)
	gate := r.gate
	r.mu.Unlock()
	if gate == nil {
		return true
	}
	select {
	case <-gate:
		return true
	case <-stop:
		return false
	}
}

// got returns what came to a user or a room.
func (r *recorder) got(to string) (all []letter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.letters {
		if l.to == to {
			all = append(all, l)
		}
	}
	return all
}

func (r *recorder) texts(to string) (all []string) {
	for _, l := range r.got(to) {
		all = append(all, l.text)
	}
	return all
}

// post is a log whose shards are a recorder.
type post struct {
	*Log
	t   testing.TB
	r   *recorder
	now atomic.Uint64 // Unix milliseconds
}

const postNow = 1_767_225_600_000

// newPost starts a log; change may alter the options, and the log before it is started.
func newPost(t testing.TB, open func() (store.Store, error), change ...func(*Options, *Log)) *post {
	t.Helper()
	p := &post{t: t, r: &recorder{}}
	p.now.Store(postNow)
	o := Options{Open: open, Logger: slog.New(slog.DiscardHandler), Now: p.now.Load, RecentBytes: 1 << 20}
	for _, f := range change {
		f(&o, nil)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l.timing.backoff = func(int) time.Duration { return time.Millisecond }
	l.timing.flush, l.timing.resolve, l.timing.close = 2*time.Millisecond, time.Millisecond, time.Second
	for _, f := range change {
		f(nil, l)
	}
	p.Log = l
	l.start(p.r, func() int64 { return 7 })
	t.Cleanup(func() { _ = l.Close() })
	return p
}

// option alters options before the log is made; before alters the log before it starts.
func option(f func(*Options)) func(*Options, *Log) {
	return func(o *Options, _ *Log) {
		if o != nil {
			f(o)
		}
	}
}

func before(f func(*Log)) func(*Options, *Log) {
	return func(_ *Options, l *Log) {
		if l != nil {
			f(l)
		}
	}
}

// eachPost runs a test over both stores.
func eachPost(t *testing.T, test func(t *testing.T, open func() (store.Store, error))) {
	t.Run("memory", func(t *testing.T) { test(t, inMemory) })
	t.Run("pebble", func(t *testing.T) { test(t, onDisk(t)) })
}

// sessionOf is the session of a user's only device.
func sessionOf(user string) shard.SessionRef {
	n := uint32(0)
	for _, c := range []byte(user) {
		n = n*31 + uint32(c)
	}
	return shard.MakeRef(n%2, n%100_000, 1)
}

// note is a durable message of a user's device "phone"; to is the peer of a direct one, else the channel's name.
func note(from string, nonce uint64, kind codec.Kind, to, text string, flags ...uint8) shard.Entry {
	m := codec.Msg{
		Kind: kind, Name: []byte(to), Sender: []byte(from), Time: postNow, Flags: codec.MsgDurable, Content: codec.ContentText, Payload: []byte(text),
	}
	for _, f := range flags {
		m.Flags |= f
	}
	if kind == codec.KindDirect {
		m.Name = codec.AppendPair(nil, []byte(from), []byte(to))
	}
	e := shard.NewEntry(m, 5)
	e.Ref, e.Nonce, e.Req, e.Buf = sessionOf(from), nonce, uint32(nonce), append(e.Buf, "phone"...)
	return e
}

// passing is an ephemeral message.
func passing(from string, kind codec.Kind, to, text string) shard.Entry {
	e := note(from, 0, kind, to, text)
	e.Flags &^= codec.MsgDurable
	e.Buf[e.FlagsAt()] &^= codec.MsgDurable
	return e
}

// submit hands entries over, all of which must be taken.
func (p *post) submit(entries ...shard.Entry) {
	p.t.Helper()
	if n := p.Submit(entries); n != len(entries) {
		p.t.Fatalf("%d entries of %d were taken", n, len(entries))
	}
}

// within waits until something is so.
func within(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// wait waits until so many answers were sent since the start, and returns all.
func (p *post) wait(n int) []shard.Answer {
	p.t.Helper()
	within(p.t, fmt.Sprintf("%d answers", n), func() bool {
		p.r.mu.Lock()
		defer p.r.mu.Unlock()
		return p.r.answered >= n
	})
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return slices.Clone(p.r.answers)
}

// send submits entries, waits for their answers, and returns these in the order of the entries.
func (p *post) send(entries ...shard.Entry) []shard.Answer {
	p.t.Helper()
	p.r.mu.Lock()
	had := len(p.r.answers)
	p.r.mu.Unlock()
	p.submit(entries...)
	return p.wait(had + len(entries))[had:]
}

// wantCodes fails unless the answers are these.
func wantCodes(t testing.TB, got []shard.Answer, want ...codec.Code) {
	t.Helper()
	var codes []codec.Code
	for _, a := range got {
		codes = append(codes, a.Code)
	}
	if !slices.Equal(codes, want) {
		t.Errorf("answers %v, want %v", codes, want)
	}
}

// wantTexts fails unless a user or a room got exactly these messages.
func (p *post) wantTexts(to string, want ...string) {
	p.t.Helper()
	if got := p.r.texts(to); !slices.Equal(got, want) {
		p.t.Errorf("%s got %q, want %q", to, got, want)
	}
}

// brittle is a store that can be made to fail.
type brittle struct {
	store.Store
	onAppend func(s store.Store, batch []store.Message, results []store.Result) error // nil: as it is
	onPut    func(s store.Store, records []store.Record) error
	onRead   func() error
	onHead   func(ch store.Channel) error
}

func (b *brittle) Append(batch []store.Message, results []store.Result) error {
	if b.onAppend != nil {
		return b.onAppend(b.Store, batch, results)
	}
	return b.Store.Append(batch, results)
}

func (b *brittle) Put(records []store.Record, sync bool) error {
	if b.onPut != nil {
		if err := b.onPut(b.Store, records); err != nil {
			return err
		}
	}
	return b.Store.Put(records, sync)
}

func (b *brittle) Head(ch store.Channel) (store.Head, error) {
	if b.onHead != nil {
		if err := b.onHead(ch); err != nil {
			return store.Head{}, err
		}
	}
	return b.Store.Head(ch)
}

func (b *brittle) Inbox(user string, after uint64, limit int, dst []store.Ref) ([]store.Ref, uint64, error) {
	if b.onRead != nil {
		if err := b.onRead(); err != nil {
			return dst, after, err
		}
	}
	return b.Store.Inbox(user, after, limit, dst)
}
