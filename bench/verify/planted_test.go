package verify

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/store"
	"gannet/store/memory"
)

// badStore is a real store with a bug in Append.
type badStore struct {
	store.Store
	n      int // messages so far
	append func(b *badStore, batch []store.Message, results []store.Result) error
}

func (b *badStore) Append(batch []store.Message, results []store.Result) error {
	return b.append(b, batch, results)
}

// every says that it is time for a fault.
func (b *badStore) every(n int) bool { b.n++; return b.n%n == 0 }

// Bugs of a store, each of another class.
var storeBugs = []struct {
	name   string
	want   Kind
	change func(*Options)
	append func(b *badStore, batch []store.Message, results []store.Result) error
}{
	{"acknowledges and forgets who it is for", Lost, func(o *Options) { o.Churn = 100 },
		func(b *badStore, batch []store.Message, results []store.Result) error {
			mine := slices.Clone(batch)
			for i := range mine {
				if b.every(5) {
					mine[i].Inbox = nil
				}
			}
			return b.Store.Append(mine, results)
		}},
	{"gives a number twice", NumberTwice, nil,
		func(b *badStore, batch []store.Message, results []store.Result) error {
			at := make([]int, len(batch))
			for i := range batch {
				at[i], _ = batch[i].SeqAt()
			}
			err := b.Store.Append(batch, results)
			for i := range batch {
				if results[i].Code == codec.CodeOK && results[i].Seq > 1 && b.every(100) {
					results[i].Seq--
					store.SetSeq(batch[i].Frame, at[i], results[i].Seq)
				}
			}
			return err
		}},
	{"forgets nonces", StoredTwice, func(o *Options) { o.Churn, o.Rate = 200, 3000 },
		func(b *badStore, batch []store.Message, results []store.Result) error {
			mine := slices.Clone(batch)
			for i := range mine {
				mine[i].Device, mine[i].Nonce = nil, 0
			}
			return b.Store.Append(mine, results)
		}},
	{"swaps two messages", OutOfOrder, func(o *Options) { o.Users, o.Devices, o.Topics, o.Rate = 2, 1, 0, 4000 },
		func(b *badStore, batch []store.Message, results []store.Result) error {
			mine := slices.Clone(batch)
			at := -1
			for i := 1; i < len(mine) && at < 0; i++ {
				x, y := &mine[i-1], &mine[i]
				if bytes.Equal(x.Name, y.Name) && bytes.Equal(x.User, y.User) && bytes.Equal(x.Device, y.Device) && b.every(5) {
					*x, *y = *y, *x
					at = i
				}
			}
			err := b.Store.Append(mine, results)
			if at > 0 {
				results[at-1], results[at] = results[at], results[at-1]
			}
			return err
		}},
}

func TestBugsOfTheStoreAreFound(t *testing.T) {
	for _, c := range storeBugs {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := servertest.Start(t, server.Options{OpenStore: func() (store.Store, error) {
				return &badStore{Store: memory.New(memory.Options{}), append: c.append}, nil
			}})
			wantFinding(t, n.Addr(), c.want, c.change)
		})
	}
}

// wantFinding makes a run that has to find one kind.
func wantFinding(t *testing.T, addr string, want Kind, change func(*Options)) {
	t.Helper()
	o := small(addr)
	o.Settle = time.Second // it will not become better
	if change != nil {
		change(&o)
	}
	r := verify(t, o)
	if r.OK() || r.Counts[want] == 0 {
		t.Errorf("found %s, want %s:\n%s", r.Summary(), want, table(&r))
	}
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Kind == want })
	if i >= 0 && (r.Findings[i].Channel == "" || r.Findings[i].Device == "" || r.Findings[i].At.Before(r.Started) || !strings.Contains(r.Findings[i].Text, r.Settings.UserPrefix)) {
		t.Errorf("a finding does not say where and when: %+v", r.Findings[i])
	}
}

// forgetful is a store that syncs nothing: opened again it lacks the last batches, in the same epoch.
type forgetful struct {
	*memory.Store
	disk *disk
}

// disk is what forgetful stores have written. Guarded by mu.
type disk struct {
	mu      sync.Mutex
	batches [][]store.Message
	records [][]store.Record
}

func (f forgetful) Epoch() uint64 { return 4711 }

func (f forgetful) Append(batch []store.Message, results []store.Result) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	var kept []store.Message
	for _, m := range batch {
		m.Name, m.User, m.Device, m.Frame = bytes.Clone(m.Name), bytes.Clone(m.User), bytes.Clone(m.Device), bytes.Clone(m.Frame)
		m.Inbox = slices.Clone(m.Inbox)
		for i := range m.Inbox {
			m.Inbox[i] = bytes.Clone(m.Inbox[i])
		}
		kept = append(kept, m)
	}
	f.disk.batches = append(f.disk.batches, kept)
	return f.Store.Append(batch, results)
}

func (f forgetful) Put(records []store.Record, sync bool) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.records = append(f.disk.records, slices.Clone(records))
	return f.Store.Put(records, sync)
}

// open reads the disk, without the last share of the batches.
func (d *disk) open() (store.Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := memory.New(memory.Options{})
	d.batches = d.batches[:len(d.batches)*9/10]
	for _, b := range d.batches {
		again := slices.Clone(b)
		for i := range again {
			again[i].Frame = bytes.Clone(b[i].Frame)
		}
		if err := s.Append(again, make([]store.Result, len(again))); err != nil {
			return nil, err
		}
	}
	for _, r := range d.records {
		if err := s.Put(r, true); err != nil {
			return nil, err
		}
	}
	return forgetful{s, d}, nil
}

// A server that loses the end of its log in a crash: what devices had is gone.
func TestForgottenMessagesAreFound(t *testing.T) {
	t.Parallel()
	for _, forgets := range []bool{true, false} {
		t.Run(fmt.Sprint("forgets ", forgets), func(t *testing.T) {
			d := &disk{}
			kept := memory.New(memory.Options{})
			o := server.Options{Listen: servertest.Addr(), OpenStore: func() (store.Store, error) {
				if forgets {
					return d.open()
				}
				return immortal{kept}, nil
			}}
			n := servertest.Start(t, o)
			vo := small(n.Addr())
			vo.For = time.Hour
			vo.Settle = time.Second
			run, err := Start(t.Context(), vo)
			if err != nil {
				t.Fatal(err)
			}
			<-run.Ready()
			for want := int64(300); want <= 600; want += 300 {
				for run.n.stored.Load() < want {
					<-time.After(5 * time.Millisecond)
				}
				if want > 300 {
					break
				}
				if err := n.Stop(); err != nil {
					t.Fatal(err)
				}
				run.Mark("restarted")
				n = servertest.Start(t, o)
			}
			run.Halt()
			r, err := run.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if forgets && (r.Counts[Gone] == 0 || !strings.Contains(table(&r), "restarted")) {
				t.Errorf("found %s, want %s:\n%s", r.Summary(), Gone, table(&r))
			}
			if !forgets {
				wantClean(t, &r)
			}
		})
	}
}

// immortal is a store that survives the server.
type immortal struct{ *memory.Store }

func (immortal) Close() error { return nil }

// Bugs on the way, planted between real sockets.
var wireBugs = []struct {
	name     string
	want     Kind
	change   func(*Options)
	toClient func(*proxy, *leg, codec.Frame, []byte) [][]byte
	toServer func(*proxy, *leg, codec.Frame, []byte) [][]byte
}{
	{name: "nothing"},
	{name: "nothing, and repetitions would be handed over", change: func(o *Options) { o.keepRepetitions = true }},
	{name: "leaves a message out", want: Hole,
		toClient: ofType(codec.TypeMsg, func(p *proxy, _ *leg, _ codec.Frame, raw []byte) [][]byte {
			if p.everyNth(50) {
				return nil
			}
			return [][]byte{raw}
		})},
	{name: "brings a message twice", want: Duplicated, change: func(o *Options) { o.keepRepetitions = true },
		toClient: ofType(codec.TypeMsg, func(p *proxy, _ *leg, _ codec.Frame, raw []byte) [][]byte {
			if p.everyNth(100) {
				return [][]byte{raw, raw}
			}
			return [][]byte{raw}
		})},
	{name: "brings two messages in the other order", want: OutOfOrder,
		toClient: func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte {
			if held := l.held; held != nil {
				l.held = nil
				return append([][]byte{raw}, held...)
			}
			if f.Type == codec.TypeMsg && p.everyNth(20) {
				l.held = [][]byte{bytes.Clone(raw)}
				return nil
			}
			return [][]byte{raw}
		}},
	{name: "refuses a message and not those behind it", want: OutOfOrder,
		change: func(o *Options) { o.Users, o.Devices, o.Topics, o.Rate = 2, 1, 0, 4000 },
		toServer: ofType(codec.TypeSend, func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte {
			s, err := codec.ConsumeSend(f)
			if err != nil || !p.everyNth(50) {
				return [][]byte{raw}
			}
			_, _ = l.client.Write(codec.AppendSendAck(nil, codec.SendAck{Req: s.Req, Code: codec.CodeBusy}))
			return nil
		})},
	{name: "says nothing of what has expired", want: Hole,
		change: func(o *Options) { o.Churn, o.Away, o.TTLShare, o.For = 20, 2500*time.Millisecond, 0.3, 2*time.Second },
		toClient: ofType(codec.TypeGap, func(*proxy, *leg, codec.Frame, []byte) [][]byte {
			return nil
		})},
	{name: "changes a byte", want: Corrupted,
		toClient: ofType(codec.TypeMsg, func(p *proxy, _ *leg, _ codec.Frame, raw []byte) [][]byte {
			if raw = bytes.Clone(raw); p.everyNth(100) {
				raw[len(raw)-1] ^= 1
			}
			return [][]byte{raw}
		})},
	{name: "changes the sender", want: Corrupted,
		toClient: ofType(codec.TypeMsg, func(p *proxy, _ *leg, f codec.Frame, raw []byte) [][]byte {
			m, err := codec.ConsumeMsg(f)
			if err != nil || !p.everyNth(100) {
				return [][]byte{raw}
			}
			m.Sender = []byte("eve")
			return [][]byte{codec.AppendMsg(nil, m)}
		})},
	{name: "brings a message to somebody else", want: Misdirected,
		toClient: ofType(codec.TypeMsg, func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte {
			m, err := codec.ConsumeMsg(f)
			if err == nil && m.Kind == codec.KindDirect && p.everyNth(50) {
				for other := range p.legs {
					if a, b, _ := codec.SplitPair(m.Name); other.user != string(a) && other.user != string(b) && other.user != "" {
						_, _ = other.client.Write(raw)
					}
				}
			}
			return [][]byte{raw}
		})},
	{name: "answers for the server and keeps the message", want: Lost,
		toServer: ofType(codec.TypeSend, func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte {
			s, err := codec.ConsumeSend(f)
			if err != nil || !p.everyNth(100) {
				return [][]byte{raw}
			}
			_, _ = l.client.Write(codec.AppendSendAck(nil, codec.SendAck{Req: s.Req, Code: codec.CodeDuplicate}))
			return nil
		})},
	{name: "keeps answers and connections", want: Unanswered,
		toClient: ofType(codec.TypeSendAck, func(p *proxy, _ *leg, _ codec.Frame, raw []byte) [][]byte {
			if p.everyNth(50) {
				return nil
			}
			return [][]byte{raw}
		})},
}

func TestBugsOnTheWireAreFound(t *testing.T) {
	for _, c := range wireBugs {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := servertest.Start(t, server.Options{Store: "memory"})
			p := newProxy(t, n.Addr())
			p.toClient, p.toServer = c.toClient, c.toServer
			if c.want != "" {
				wantFinding(t, p.addr, c.want, c.change)
				return
			}
			o := small(p.addr)
			if c.change != nil {
				c.change(&o)
			}
			r := verify(t, o)
			wantClean(t, &r)
		})
	}
}
