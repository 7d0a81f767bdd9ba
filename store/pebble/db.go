package pebble

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

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

// realPath is a folder's one name: the lock holds between processes by the file, but within one by the name.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir, err
	}
	return filepath.EvalSymlinks(abs)
}

// lockError tells a lock that another has from a folder that cannot be written to.
func lockError(dir string, err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return fmt.Errorf("store: locking %s, is it writable? %w", dir, err)
	}
	name := filepath.Join(dir, "LOCK")
	return fmt.Errorf("%w: %s%s (%w)", store.ErrLocked, name, holder(name, err), err)
}

// holder names the process that has a lock. It asks only when it is another one: closing the file would open this one's lock.
func holder(name string, err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l) != nil || l.Type == unix.F_UNLCK || l.Pid <= 0 {
		return ""
	}
	return fmt.Sprintf(", process %d", l.Pid)
}

func (d *DB) open(dir string) error {
	c := pebble.NewCache(d.opts.Cache)
	defer c.Unref()
	wals := d.opts.FS.PathJoin(dir, walFolder)
	if !d.opts.restoring {
		if err := restoring(d.opts.FS, dir); err != nil {
			return err
		}
	}
	holds := holdsData(d.opts.FS, dir, wals)
	if !holds {
		if err := d.clear(dir); err != nil {
			return fmt.Errorf("store: clearing %s: %w", dir, err)
		}
	}
	if err := d.breakSeal(dir, wals); err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	o := &pebble.Options{
		Cache: c, Lock: d.lock, MemTableSize: d.opts.Memtable, MaxOpenFiles: 512,
		FS: &guardedFS{FS: d.opts.FS, d: d, dir: dir, wals: wals}, WALDir: wals,
		FormatMajorVersion: pebble.FormatNewest, // older formats do not notice a flipped byte in the WAL
		ErrorIfNotExists:   holds,
		Logger:             logger{d}, EventListener: d.events(),
		MemTableStopWritesThreshold: never, L0StopWritesThreshold: never, // room waits instead
	}
	shared(o)
	var err error
	if d.db, err = openPebble(dir, o); err != nil {
		return openError(dir, err)
	}
	if err := d.loadMeta(); err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	if err := d.loadBuckets(); err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	if d.unclean != nil {
		d.unclean()
	}
	d.batch = d.db.NewBatch()
	d.running.Store(true)
	return nil
}

// shared are options that reading needs as well.
func shared(o *pebble.Options) {
	// Compactions run one at a time, so the default scheduler's periodic look for room to run more has nothing to find; and its
	// goroutine is left behind when Open fails, as it does again and again while a disk is full.
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	o.Unsafe.AllowMissingWALDirs = true // the folder may have been moved: its WAL moved with it
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
}

// openPebble is pebble.Open with the panics that it has for folders that cannot be synced as errors.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			cause, ok := r.(error)
			if !ok {
				cause = fmt.Errorf("%v", r)
			}
			db, err = nil, cause
		}
	}()
	return pebble.Open(dir, o)
}

// holdsData tells whether a folder has a manifest, tables, a WAL or the mark of a clean stop. If it has, Pebble must find its
// manifest: without one it would begin anew and delete them.
func holdsData(disk vfs.FS, dir, wals string) bool {
	if found, err := pebble.Peek(dir, disk); err == nil && found.Exists {
		if _, err := disk.Stat(found.ManifestFilename); err == nil {
			return true
		}
	}
	if _, err := disk.Stat(disk.PathJoin(dir, sealName)); err == nil {
		return true
	}
	for folder, suffix := range map[string]string{dir: ".sst", wals: ".log"} {
		names, _ := disk.List(folder)
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, suffix) }) {
			return true
		}
	}
	return false
}

// clear removes what the power's going while a store was first made may have left: a marker that names a manifest
// which is not there.
func (d *DB) clear(dir string) error {
	names, err := d.opts.FS.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, "marker.") || strings.HasPrefix(n, "MANIFEST-") || strings.HasPrefix(n, "OPTIONS-") {
			if err := d.opts.FS.Remove(d.opts.FS.PathJoin(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openError sorts what Pebble says: a newer version made the store, the disk fails, or what is there is damaged.
func openError(dir string, err error) error {
	var errno syscall.Errno
	switch {
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("%w: opening %s: %w", store.ErrFormat, dir, err)
	case errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist) && !pebble.IsCorruptionError(err):
		return fmt.Errorf("store: opening %s: %w", dir, err)
	}
	return fmt.Errorf("%w: opening %s: %w", store.ErrCorrupt, dir, err)
}

// loadMeta reads what the store says of itself, or writes it when the store is new.
func (d *DB) loadMeta() error {
	version, found, err := d.readFormat()
	switch {
	case err != nil:
		return err
	case !found:
		return d.create()
	}
	if err := d.upgrade(version); err != nil {
		return err
	}
	if d.epoch, err = d.getU64(keyEpoch); err != nil {
		return err
	}
	if d.epoch == 0 {
		return damaged("no epoch")
	}
	if d.next, err = d.getU64(keyPlace); err != nil {
		return err
	}
	d.place.Store(d.next)
	return nil
}

func (d *DB) create() error {
	it, err := d.iter(nil)
	if err != nil {
		return err
	}
	found := it.First()
	if err := closeIter(it); err != nil {
		return err
	}
	if found {
		return damaged("it has data but no format")
	}
	d.epoch = newEpoch(0)
	batch := d.db.NewBatch()
	defer batch.Close()
	_ = batch.Set(keyFormat, be.AppendUint64(nil, d.opts.format), nil)
	_ = batch.Set(keyEpoch, be.AppendUint64(nil, d.epoch), nil)
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("store: writing: %w", err)
	}
	return d.failure()
}

// newEpoch draws an epoch that is not the old one.
func newEpoch(old uint64) (epoch uint64) {
	var b [8]byte
	for epoch == 0 || epoch == old {
		_, _ = rand.Read(b[:]) // never fails
		epoch = be.Uint64(b[:])
	}
	return epoch
}

func (d *DB) loadBuckets() error {
	it, err := d.iter([]byte{prefixBucket})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != 5 || len(it.Value()) != 8 {
			_ = it.Close()
			return damaged("bucket")
		}
		d.buckets = append(d.buckets, bucketStart{be.Uint32(it.Key()[1:]), be.Uint64(it.Value())})
	}
	return closeIter(it)
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
