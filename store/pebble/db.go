package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// Options of Open. Zero values mean the defaults given beside the fields. A small node does with a Memtable of 4 MiB, a Cache
// of 8 MiB and 10,000 Heads, Devices and Users.
type Options struct {
	Cache    int64         // bytes of blocks kept in memory: 64 MiB
	Memtable uint64        // bytes written before a table is flushed, at most three times that wait: 64 MiB
	Heads    int           // channels whose head is kept in memory: 200,000
	Devices  int           // devices whose highest nonce is: 200,000
	Users    int           // users whose name is: 200,000
	Window   int           // nonces of a device kept at least: store.DefaultWindow
	Bucket   time.Duration // time one bucket covers, at least 1 ms; must not change: 24 h
	FS       vfs.FS        // for tests; nil: the disk
	Logger   *slog.Logger  // nil: slog.Default()

	format   uint64                     // for tests; 0: this version's
	upgrades map[uint64]func(*DB) error // and its steps

	restoring bool // it is Restore that opens it
}

func (o *Options) defaults() {
	or(&o.Cache, 64<<20)
	or(&o.Memtable, 64<<20)
	or(&o.Heads, 200_000)
	or(&o.Devices, 200_000)
	or(&o.Users, 200_000)
	or(&o.Window, store.DefaultWindow)
	or(&o.Bucket, store.DefaultBucket*time.Millisecond)
	or(&o.format, format)
	if o.upgrades == nil {
		o.upgrades = upgrades
	}
	o.Bucket = max(o.Bucket, time.Millisecond)
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// DB is an open store (store.Store).
type DB struct {
	// Static after construction.
	opts  Options
	dir   string
	db    *pebble.DB
	lock  *pebble.Lock
	epoch uint64

	unclean func() // says so when the store was opened behind a stop that was not clean

	// Owned by who appends: mu is held by Append, Trim and Expire.
	mu      sync.Mutex
	heads   cache[headState]
	devices cache[deviceState]
	users   cache[userState]
	now     pending // the batch in progress
	batch   *pebble.Batch
	scratch []byte // a key
	value   []byte
	next    uint64 // place of the last message given out

	place atomic.Uint64 // synced: readers see nothing above

	running  atomic.Bool // Pebble is open: from here on its write errors fail the store
	failed   atomic.Pointer[error]
	failedCh chan struct{} // closed with it
	closing  chan struct{}
	pressure pressure
	lastLog  atomic.Int64 // Unix nanoseconds, of the last complaint

	bucketsMu sync.RWMutex
	buckets   []bucketStart // by first place, ascending; guarded by bucketsMu

	closeMu sync.RWMutex // held for reading by every call
	closed  bool
}

var _ store.Store = (*DB)(nil)

// Open opens the store in a folder; it makes both when they do not exist. Errors are store.ErrLocked (another process, or this
// one, has it), store.ErrFormat (a newer version made it), store.ErrCorrupt, or what the disk said.
func Open(dir string, o Options) (*DB, error) {
	o.defaults()
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: making %s: %w", dir, err)
	}
	if o.FS == vfs.Default {
		var err error
		if dir, err = realPath(dir); err != nil {
			return nil, fmt.Errorf("store: opening %s: %w", dir, err)
		}
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		return nil, lockError(dir, err)
	}
	return openLocked(dir, lock, o)
}

// openLocked opens the store in a folder that is locked; the lock goes with it, or with the error.
func openLocked(dir string, lock *pebble.Lock, o Options) (*DB, error) {
	d := &DB{opts: o, dir: dir, lock: lock, failedCh: make(chan struct{}), closing: make(chan struct{})}
	d.heads.init(o.Heads)
	d.devices.init(o.Devices)
	d.users.init(o.Users)
	d.pressure.relief = make(chan struct{}, 1)
	if err := d.open(dir); err != nil {
		if d.db != nil {
			_ = d.db.Close()
		}
		_ = lock.Close()
		return nil, err
	}
	return d, nil
}

// getU64 reads a number; 0 when there is none.
func (d *DB) getU64(key []byte) (uint64, error) {
	v, done, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, wrapRead(err)
	}
	defer done.Close()
	if len(v) != 8 {
		return 0, damaged(string(key))
	}
	return be.Uint64(v), nil
}

// iter makes an iterator over the keys with a prefix.
func (d *DB) iter(prefix []byte) (*pebble.Iterator, error) {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: slices.Clone(prefix), UpperBound: successor(prefix)})
	if err != nil {
		return nil, wrapRead(err)
	}
	return it, nil
}

func closeIter(it *pebble.Iterator) error {
	err := it.Error()
	if e := it.Close(); err == nil { // else it is the same
		err = e
	}
	return wrapRead(err)
}

// isCorrupt tells damage from what the disk says.
func isCorrupt(err error) bool { return errors.Is(err, store.ErrCorrupt) }

func wrapRead(err error) error {
	switch {
	case err == nil:
		return nil
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return fmt.Errorf("store: reading: %w", err)
}

// Epoch is store.Store's.
func (d *DB) Epoch() uint64 { return d.epoch }

// Place is store.Store's.
func (d *DB) Place() uint64 { return d.place.Load() }

// Close is store.Store's. It moves what is in the WAL to tables, whose loss Open notices, and seals the folder; that of a WAL it does
// not.
func (d *DB) Close() error {
	d.closeMu.Lock()
	defer d.closeMu.Unlock()
	if d.closed {
		return store.ErrClosed
	}
	d.closed = true
	failed := d.failure() != nil
	var errs []error
	if !failed {
		errs = append(errs, d.flush())
	}
	close(d.closing)
	errs = append(errs, d.batch.Close(), d.db.Close())
	if errors.Join(errs...) == nil && d.failure() == nil {
		errs = append(errs, d.seal())
	}
	errs = append(errs, d.lock.Close())
	if err := errors.Join(errs...); err != nil && !failed { // what failed was told when it did
		return fmt.Errorf("store: closing: %w", err)
	}
	return nil
}

// flush writes all that is in memory to tables.
func (d *DB) flush() error {
	flushed, err := d.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-d.failedCh:
	}
	return d.failure()
}

// seal notes that all is in tables; the logs go.
func (d *DB) seal() error {
	disk, dir := d.opts.FS, d.dir
	wals := disk.PathJoin(dir, walFolder)
	last, err := lastWAL(disk, wals)
	if err != nil {
		return err
	}
	if last != "" {
		if e, err := scanWAL(disk, wals, last); err != nil || e.records > 0 {
			return err
		}
	}
	if err := writeSeal(disk, dir, seal{format: d.opts.format, epoch: d.epoch, place: d.place.Load()}, nil); err != nil {
		return err
	}
	_ = removeLogs(disk, wals, func(string) bool { return true }) // whoever opens it next removes what stays
	return nil
}

// enter begins a call; leave ends it.
func (d *DB) enter() error {
	d.closeMu.RLock()
	if d.closed {
		d.closeMu.RUnlock()
		return store.ErrClosed
	}
	return nil
}

func (d *DB) leave() { d.closeMu.RUnlock() }

// Exists says whether a folder holds a store.
func Exists(dir string) bool {
	found, err := pebble.Peek(dir, vfs.Default)
	return err == nil && found.Exists
}
