package pebble

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

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
