package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// CheckOptions of Check.
type CheckOptions struct {
	FS       vfs.FS                                // for tests; nil: the disk
	Progress func(what string, done, total uint64) // called now and then; total is 0 when nobody knows
	Record   func(store.Record) error              // what is wrong with a record; nil: only its key is looked at
}

// checker is a check under way.
type checker struct {
	o         CheckOptions
	rep       *Report
	disk      vfs.FS // read-only
	dir, wals string
	d         *DB // read-only; it has what reading needs and nothing else

	heads   map[string]store.Head // of channels that were looked up
	buckets map[uint32]int        // index in d.buckets
	maxSeq  uint64                // highest of all channels
	keys    uint64                // looked at
}

// Check reads a store that nobody has open from end to end, and changes nothing. The error says why it could not be checked:
// store.ErrLocked, store.ErrFormat, or what the disk said. Damage is no error, it is in the report.
func Check(dir string, o CheckOptions) (*Report, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	info, err := o.FS.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("store: checking %s: %w", dir, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("store: checking %s: %w", dir, syscall.ENOTDIR)
	}
	if o.FS == vfs.Default {
		if dir, err = realPath(dir); err != nil {
			return nil, fmt.Errorf("store: checking %s: %w", dir, err)
		}
	}
	unlock, err := lockForCheck(o.FS, dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := restoring(o.FS, dir); err != nil {
		return nil, err
	}
	c := &checker{o: o, rep: &Report{}, disk: readOnlyFS{FS: o.FS}, dir: dir, wals: o.FS.PathJoin(dir, walFolder)}
	if err := c.run(); err != nil {
		return nil, fmt.Errorf("checking %s: %w", dir, err)
	}
	return c.rep, nil
}

// lockForCheck keeps others from writing meanwhile. A folder that was never opened has no lock, and nothing is made in it; on a
// read-only disk nobody can write.
func lockForCheck(disk vfs.FS, dir string) (unlock func(), err error) {
	if _, err := disk.Stat(disk.PathJoin(dir, "LOCK")); errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	l, err := pebble.LockDirectory(dir, disk)
	switch {
	case errors.Is(err, syscall.EROFS):
		return func() {}, nil
	case err != nil:
		return nil, lockError(dir, err)
	}
	return func() { _ = l.Close() }, nil
}

func (c *checker) run() error {
	if err := c.files(); err != nil {
		return err
	}
	opened, err := c.open()
	if err != nil || !opened {
		return err
	}
	err = c.contents()
	if e := c.d.db.Close(); err == nil && !isCorrupt(wrapRead(e)) { // damage was told where it is
		err = e
	}
	return err
}

// files looks at the files that are not tables.
func (c *checker) files() error {
	found, err := pebble.Peek(c.dir, c.disk)
	if err == nil && !found.Exists && !holdsData(c.disk, c.dir, c.wals) {
		return fmt.Errorf("store: there is no store: %w", fs.ErrNotExist)
	}
	wrong, err := verifyManifest(c.disk, c.dir)
	if err != nil {
		return err
	}
	s, err := readSeal(c.disk, c.dir)
	switch {
	case errors.Is(err, errNoSeal):
		if err := c.lastLog(); err != nil {
			return err
		}
	case isCorrupt(err):
		c.rep.find(Finding{sealName, "it is damaged", "whether other small files were changed since the clean stop cannot be told; " +
			"tables tell it themselves", doNothing + ": gannetd goes on without it"})
	case err != nil:
		return err
	default:
		c.rep.Clean = true
		c.disk = readOnlyFS{FS: c.o.FS, wals: c.wals, sealed: s}
		changed, err := s.compare(c.disk, c.dir)
		if err != nil {
			return err
		}
		wrong = append(wrong, changed...)
	}
	told := map[string]bool{}
	for _, f := range wrong {
		if !told[f.file] {
			means, do := meaning(f.file)
			c.rep.find(Finding{f.file, f.what, means, do})
		}
		told[f.file] = true
	}
	return nil
}

// meaning says what it means that a small file is damaged, and what to do.
func meaning(file string) (means, do string) {
	switch {
	case isManifest(file):
		return "it lists the tables: messages may be missing", doRestore
	case strings.HasPrefix(file, manifestPrefix):
		return "nothing is in it but what guards the list of tables", doNothing + ": gannetd writes a new one"
	case strings.HasPrefix(file, walFolder+"/"):
		return "the last messages are in it: some may be missing", doRestore
	}
	return "no message is in it, but the store may not open", doRestore
}

// lastLog looks at the end of the last log behind a stop that was not clean.
func (c *checker) lastLog() error {
	name, err := lastWAL(c.disk, c.wals)
	if errors.Is(err, fs.ErrNotExist) || err == nil && name == "" {
		c.rep.note("the store was not stopped cleanly, and it has no log")
		return nil
	}
	if err != nil {
		return err
	}
	e, err := scanWAL(c.disk, c.wals, name)
	if err != nil {
		return err
	}
	name = walFolder + "/" + name
	switch {
	case e.damaged >= 0:
		c.rep.find(Finding{name, fmt.Sprintf("byte %d and what follows cannot be read, though it had been synced", e.damaged),
			"messages that were acknowledged are lost from there on", doRestore})
	case e.rest > 0:
		c.rep.note("the store was not stopped cleanly; the last log %s ends in the middle of a record: the %d bytes behind byte %d "+
			"were never acknowledged, or they are damaged: it cannot be told", name, e.rest, e.whole)
	default:
		c.rep.note("the store was not stopped cleanly; the last log %s ends behind a whole record, as after kill -9", name)
	}
	return nil
}

// open opens the database for reading; false when damage keeps it from being opened.
func (c *checker) open() (bool, error) {
	cache := pebble.NewCache(16 << 20)
	defer cache.Unref()
	o := &pebble.Options{
		Cache: cache, MaxOpenFiles: 512, FS: c.disk, WALDir: c.wals, ReadOnly: true, ErrorIfNotExists: true,
		FormatMajorVersion: pebble.FormatNewest, Logger: silent{},
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}, // who reads gets the error
	}
	if _, err := c.disk.Stat(c.wals); errors.Is(err, fs.ErrNotExist) {
		o.WALDir = "" // it was empty, and whoever copied the folder left it out
	}
	shared(o)
	db, err := openPebble(c.dir, o)
	if err != nil {
		err = openError(c.dir, err)
		if !isCorrupt(err) {
			return false, err
		}
		c.rep.find(Finding{"the database", err.Error(), "the store does not open, and what it holds could not be looked at", doRestore})
		return false, nil
	}
	c.d = &DB{opts: Options{FS: c.disk}, db: db, dir: c.dir}
	return true, nil
}

// tables reads every block of every table.
func (c *checker) tables() error {
	levels, err := c.d.db.SSTables()
	if err != nil {
		return wrapRead(err)
	}
	seen := map[string]bool{}
	var all []pebble.SSTableInfo
	for _, l := range levels {
		for _, t := range l {
			if name := tableName(t); !seen[name] {
				seen[name] = true
				all = append(all, t)
				c.rep.Tables++
				c.rep.TableBytes += t.Size
			}
		}
	}
	var done uint64
	for _, t := range all {
		c.o.Progress("bytes of tables", done, c.rep.TableBytes)
		if err := c.table(tableName(t)); err != nil {
			var errno syscall.Errno
			if errors.As(err, &errno) && errno != syscall.EIO {
				return fmt.Errorf("store: reading %s: %w", tableName(t), err)
			}
			c.rep.find(Finding{tableName(t), err.Error(), fmt.Sprintf("it holds what is between %s and %s; what is damaged is not served",
				describeKey(t.Smallest.UserKey), describeKey(t.Largest.UserKey)), doRestore})
		}
		done += t.Size
	}
	return nil
}

func tableName(t pebble.SSTableInfo) string { return fmt.Sprintf("%v.sst", t.BackingSSTNum) }

func (c *checker) table(name string) error {
	f, err := c.disk.Open(c.disk.PathJoin(c.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o := &pebble.Options{}
	shared(o)
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, o.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
