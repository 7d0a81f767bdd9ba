package pebble

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// fail marks the store as failed; the first reason stays.
func (d *DB) fail(err error) {
	if errors.Is(err, store.ErrFailed) {
		return
	}
	err = fmt.Errorf("%w: %w", store.ErrFailed, err)
	if d.failed.CompareAndSwap(nil, &err) {
		close(d.failedCh)
		d.opts.Logger.Error("store: writing failed, nothing is stored until it is reopened", "error", err)
	}
}

func (d *DB) failure() error {
	if e := d.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// probeName is a file that Probe writes and removes.
const probeName = "PROBE"

// Probe tells whether it makes sense to close a failed store, which can still be read, and to open it again: nil when the disk takes
// writes, and has room for what opening writes and some more.
func (d *DB) Probe() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	disk := d.opts.FS
	wals := disk.PathJoin(d.dir, walFolder)
	need := d.opts.Memtable + 1<<20
	names, err := disk.List(wals)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, n := range names {
		if info, err := disk.Stat(disk.PathJoin(wals, n)); err == nil {
			need += uint64(info.Size())
		}
	}
	for _, dir := range []string{d.dir, wals} {
		if u, err := disk.GetDiskUsage(dir); err == nil && u.AvailBytes < need { // not every file system knows
			return fmt.Errorf("store: %w: %d bytes are free, %d are needed to go on", syscall.ENOSPC, u.AvailBytes, need)
		}
		if err := probe(disk, disk.PathJoin(dir, probeName)); err != nil {
			return fmt.Errorf("store: the disk takes no writes: %w", err)
		}
	}
	return nil
}

func probe(disk vfs.FS, name string) error {
	f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), disk.Remove(name))
}

// complain logs, at most once a second.
func (d *DB) complain(what string, err error) {
	now := time.Now().UnixNano()
	if last := d.lastLog.Load(); now-last < int64(time.Second) || !d.lastLog.CompareAndSwap(last, now) {
		return
	}
	d.opts.Logger.Error("store: "+what, "error", err)
}

// logger passes Pebble's lines on. Pebble tells Fatalf what it cannot go on after, and goes on when Fatalf returns: a commit
// whose sync failed reports success. So the store is failed from then on, and whatever a commit says is not believed.
type logger struct{ d *DB }

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.d.complain("the database reports", fmt.Errorf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) { l.d.fail(fatalError(format, args)) }

func fatalError(format string, args []any) error {
	e := &fatal{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			e.cause = err
		}
	}
	return e
}

// fatal is an error that Pebble gave to Fatalf, with %v.
type fatal struct {
	text  string
	cause error
}

func (e *fatal) Error() string { return e.text }
func (e *fatal) Unwrap() error { return e.cause }

// emptyTable is what FlushEnd tells of a flush that had nothing to write; Pebble does not export it.
const emptyTable = "pebble: empty table"

// events listens to Pebble. A flush or compaction that failed fails the store: Pebble would try it again without end and
// without pause, and let writers wait for it. Damage that a read or a compaction meets does not: the rest of the store
// is as good as before, and the reader is told.
func (d *DB) events() *pebble.EventListener {
	ended := func(what string, err error) {
		switch {
		case err == nil || errors.Is(err, pebble.ErrCancelledCompaction) || err.Error() == emptyTable:
		case pebble.IsCorruptionError(err):
			d.complain(what+" met damaged data", err)
		default:
			d.fail(fmt.Errorf("%s: %w", what, err))
		}
		d.pressure.relieve()
	}
	return &pebble.EventListener{
		FlushEnd:        func(i pebble.FlushInfo) { ended("a flush", i.Err) },
		CompactionEnd:   func(i pebble.CompactionInfo) { ended("a compaction", i.Err) },
		BackgroundError: func(err error) { d.complain("background error", err) },
		DataCorruption:  func(i pebble.DataCorruptionInfo) { d.complain("damaged data in "+i.Path, i.Details) },
		LowDiskSpace: func(i pebble.LowDiskSpaceInfo) {
			d.opts.Logger.Warn("store: the disk is filling up", "free_bytes", i.AvailBytes, "total_bytes", i.TotalBytes)
		},
	}
}

// never is a threshold of Pebble's that is not reached: a writer that waits inside Pebble cannot be told that what it waits
// for has failed.
const never = 1 << 20

// Writers wait while more than these are there: memtables, by their bytes in Memtable, and sorted runs in level 0.
const (
	maxMemtables = 3
	maxRuns      = 24
)

// pressure is how far writers are ahead of flushes and compactions.
type pressure struct {
	relief chan struct{} // holds a token when there may be room again

	mu      sync.Mutex
	written uint64 // bytes since the last look; guarded by mu
}

func (p *pressure) relieve() {
	select {
	case p.relief <- struct{}{}:
	default:
	}
}

// room waits until n more bytes may be written. It looks once per eighth of a memtable.
func (d *DB) room(n int) error {
	p := &d.pressure
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written += uint64(n); p.written < d.opts.Memtable/8 {
		return nil
	}
	for {
		m := d.db.Metrics()
		if m.MemTable.Size < maxMemtables*d.opts.Memtable && m.Levels[0].Sublevels < maxRuns {
			p.written = 0
			return nil
		}
		select {
		case <-p.relief:
		case <-d.failedCh:
			return d.failure()
		}
	}
}
