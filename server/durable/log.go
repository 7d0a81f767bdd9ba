package durable

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gannet/shard"
	"gannet/store"
)

// Options of New. Zero values mean the defaults given beside the fields.
type Options struct {
	Open          func() (store.Store, error) // opens the store; called again after a failure of the disk
	Logger        *slog.Logger                // nil: slog.Default()
	Now           func() uint64               // Unix milliseconds; nil: the wall clock
	Pending       int                         // messages that wait for the committer: 65536
	PendingBytes  int                         // and their bytes: 64 MiB
	CommitEvery   time.Duration               // between the beginnings of two commits, unless nothing waited before: 1 ms
	ReadWorkers   int                         // reads served at once: 4
	ReadQueue     int                         // reads that wait: 65536
	InboxFanout   int                         // members up to which a group's messages go into inboxes: 500
	RecentBytes   int                         // recent messages kept in memory, all channels: 64 MiB
	RecentChannel int                         // and of one channel: 256 KiB
	DeviceTTL     time.Duration               // cursors of devices not seen for so long are forgotten: 90 days
	Retention     Retention                   // how long messages are kept; zero: for ever
	DeadLetters   int                         // dead letters kept: 10000; less than 0: none
	DeadBytes     int                         // and their bytes: 256 MiB
}

func (o *Options) defaults() {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = func() uint64 { return uint64(time.Now().UnixMilli()) }
	}
	or(&o.Pending, 65536)
	or(&o.PendingBytes, 64<<20)
	or(&o.CommitEvery, time.Millisecond)
	or(&o.ReadWorkers, 4)
	or(&o.ReadQueue, 65536)
	or(&o.InboxFanout, 500)
	or(&o.RecentBytes, 64<<20)
	or(&o.RecentChannel, 256<<10)
	or(&o.DeviceTTL, 90*24*time.Hour)
	or(&o.DeadLetters, 10_000)
	or(&o.DeadBytes, 256<<20)
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// errClosed answers what comes after Close.
var errClosed = errors.New("durable: closed")

// timing is what tests change.
type timing struct {
	close   time.Duration                 // how long Close waits for the shards and the disk
	flush   time.Duration                 // between two writings of positions
	resolve time.Duration                 // between two looks at what devices acknowledged
	sweep   time.Duration                 // between two looks for devices that were not seen for long
	retain  time.Duration                 // between two turns of the retention
	backoff func(tries int) time.Duration // before the store is opened again
}

func defaultTiming() timing {
	return timing{
		close: 5 * time.Second, flush: time.Second, resolve: 2 * time.Millisecond, sweep: 10 * time.Second,
		retain:  time.Second,
		backoff: func(tries int) time.Duration { return min(100*time.Millisecond<<min(tries, 10), 5*time.Second) },
	}
}

// Log is a node's durable part. Make it with New, give it to shard.Config.Log, then Start it.
type Log struct {
	// Static after Start.
	opts    Options
	timing  timing
	epoch   uint64
	node    *shard.Node
	clock   func() int64 // nanoseconds, as in Entry.Born
	readers *readers
	groups  *groups

	retention *retention
	started   bool

	pending pending
	calls   chan *call
	recents recents
	marks   marks
	notices notices
	dead    deadList
	stats   counters

	store      atomic.Pointer[openStore]
	place      atomic.Uint64           // of the last commit; the store's own may wait for one
	failed     atomic.Pointer[failure] // nil: all is well
	closing    chan struct{}           // closed by Close
	stop       chan struct{}           // closed when Close has waited long enough
	committed  chan struct{}           // closed when the committer has ended
	complained atomic.Int64            // Unix nanoseconds, of the last complaint
	once       sync.Once
	ended      error // of Close
}

// openStore is the store in use; replaced when it was reopened.
type openStore struct {
	store.Store
}

var _ shard.Log = (*Log)(nil)

// New opens the store.
func New(o Options) (*Log, error) {
	o.defaults()
	s, err := o.Open()
	if err != nil {
		return nil, err // it says what could not be opened
	}
	l := &Log{
		opts: o, timing: defaultTiming(), epoch: s.Epoch(), calls: make(chan *call, maxCalls),
		closing: make(chan struct{}), stop: make(chan struct{}), committed: make(chan struct{}),
	}
	l.store.Store(&openStore{s})
	l.pending.init(o.Pending, o.PendingBytes)
	l.recents.init(o.RecentBytes, o.RecentChannel)
	l.marks.init(l)
	l.groups = newGroups(l)
	l.retention = newRetention(l)
	l.dead.init(l)
	return l, nil
}

// Start lets it work for the shards of a node; call it once, before their loops run.
func (l *Log) Start(node *shard.Node) {
	l.node = node
	l.readers = newReaders(l)
	l.start(node.NewCourier(), node.Now)
}

func (l *Log) start(courier carrier, clock func() int64) {
	l.clock = clock
	l.place.Store(l.current().Place())
	l.started = true
	l.retention.open()
	go newCommitter(l, courier).run()
	go l.marks.run()
	go l.retention.run()
}

// Close answers what waits, stored or not, writes the positions that were not written yet and closes the store. It takes at most
// about five seconds longer than the disk.
func (l *Log) Close() error {
	l.once.Do(func() { l.ended = l.close() })
	return l.ended
}

func (l *Log) close() error {
	l.pending.close()
	close(l.closing)
	if l.started {
		limit := time.AfterFunc(l.timing.close, func() { close(l.stop) })
		<-l.committed
		limit.Stop()
		<-l.marks.ended
		<-l.retention.ended
		if l.readers != nil {
			l.readers.close()
		}
	}
	if err := l.current().Close(); err != nil && !errors.Is(err, store.ErrClosed) {
		return fmt.Errorf("durable: closing the store: %w", err)
	}
	return l.Status()
}

// Status is nil, or why nothing is stored now.
func (l *Log) Status() error {
	if f := l.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// Epoch is shard.Log's.
func (l *Log) Epoch() uint64 { return l.epoch }

// Submit is shard.Log's.
func (l *Log) Submit(entries []shard.Entry) (taken int) {
	taken = l.pending.add(entries)
	if n := len(entries) - taken; n > 0 {
		l.stats.busy.Add(uint64(n))
	}
	return taken
}

// Read is shard.Log's.
func (l *Log) Read(requests []*shard.Read) (taken int) { return l.readers.submit(requests) }

// Mark is shard.Log's.
func (l *Log) Mark(marks []shard.Mark) (taken int) { return l.marks.add(marks) }

// current is the open store. A reader asks for it at each read: a reopened one takes its place, and reads of the one before
// fail with store.ErrClosed.
func (l *Log) current() store.Store { return l.store.Load().Store }

// now is Unix milliseconds.
func (l *Log) now() uint64 { return l.opts.Now() }

// put writes records. Any error but store.ErrLimit is the store's failure: nothing is stored until it was reopened.
func (l *Log) put(records []store.Record, sync bool) error {
	if err := l.Status(); err != nil {
		return err
	}
	s := l.current()
	err := s.Put(records, sync)
	if err != nil {
		if !errors.Is(err, store.ErrLimit) {
			l.fail(s, err)
		}
		return fmt.Errorf("durable: writing records: %w", err)
	}
	return nil
}
