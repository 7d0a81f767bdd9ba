package pebble

import (
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFolder is where the WAL is, below the store's folder; it may be put on another disk.
const walFolder = "wal"

// guardedFS stands between Pebble and the disk. Pebble panics, holding its locks, when it cannot begin a new WAL or end one,
// or sync a folder, and a commit that fails inside it leaves those behind it waiting for ever. So errors of the WAL and of
// folders are not told to Pebble: they fail the store, whose commits then report it. Other errors pass; Pebble reports them
// through its events.
//
// A store that has failed changes nothing on the disk any more: what Pebble does next, believing that all is well, would be
// built on what was not written. The WAL swallows, everything else gets the failure as its error. So the disk stays
// as a crash at that moment would leave it.
//
// Files elsewhere are those of a backup. What happens to them is for who asked for it.
type guardedFS struct {
	vfs.FS
	d         *DB
	dir, wals string
}

// own tells whether a file is in the store's folders.
func (g *guardedFS) own(name string) bool {
	in := g.PathDir(name)
	return in == g.dir || in == g.wals
}

// frozen is the store's failure, once Open is done.
func (g *guardedFS) frozen() error {
	if !g.d.running.Load() {
		return nil
	}
	return g.d.failure()
}

// broken takes an error of the WAL; false: it is Open's to report.
func (g *guardedFS) broken(err error) bool {
	if !g.d.running.Load() {
		return false
	}
	g.d.fail(err)
	return true
}

func (g *guardedFS) Unwrap() vfs.FS { return g.FS }

func isWAL(name string) bool { return strings.HasSuffix(name, ".log") }

// retryPause is how long a failed store waits before each new table: Pebble tries a failed flush again without a pause.
const retryPause = 100 * time.Millisecond

func (g *guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.write(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

// ReuseForWrite makes a new file. In one that is written anew the last log's end is followed by old messages, and Pebble tells
// by a CRC alone whether they belong to it: with luck, what a client once sent would be taken for a batch behind a crash.
func (g *guardedFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.Remove(old); err != nil {
		g.d.complain("an old log could not be removed", err)
	}
	return g.Create(name, c)
}

func (g *guardedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.write(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *guardedFS) write(name string, open func() (vfs.File, error)) (vfs.File, error) {
	if !g.own(name) {
		return open()
	}
	frozen := g.frozen()
	if !isWAL(name) {
		if frozen != nil {
			select {
			case <-time.After(retryPause):
			case <-g.d.closing:
			}
			return nil, frozen
		}
		if isManifest(g.PathBase(name)) {
			return g.createManifest(name)
		}
		f, err := open()
		if err != nil {
			return nil, err
		}
		return &tableFile{f, g}, nil
	}
	if frozen != nil {
		return &walFile{g: g}, nil
	}
	f, err := open()
	if err == nil {
		return &walFile{File: f, g: g}, nil
	}
	if g.broken(err) {
		return &walFile{g: g}, nil
	}
	return nil, err
}

func (g *guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil || name != g.dir && name != g.wals {
		return f, err
	}
	return &walFile{File: f, g: g}, nil
}

func (g *guardedFS) Remove(name string) error {
	if isManifest(g.PathBase(name)) {
		_ = g.unlessFrozen(func() error { return g.FS.Remove(name + companionExt) }) // one too many does no harm
	}
	return g.unlessFrozen(func() error { return g.FS.Remove(name) })
}

func (g *guardedFS) RemoveAll(name string) error {
	return g.unlessFrozen(func() error { return g.FS.RemoveAll(name) })
}

func (g *guardedFS) Rename(old, name string) error {
	return g.unlessFrozen(func() error { return g.FS.Rename(old, name) })
}

func (g *guardedFS) Link(old, name string) error {
	return g.unlessFrozen(func() error { return g.FS.Link(old, name) })
}

func (g *guardedFS) unlessFrozen(op func() error) error {
	if err := g.frozen(); err != nil {
		return err
	}
	return op()
}

// tableFile is a table, a manifest or the like.
type tableFile struct {
	vfs.File
	g *guardedFS
}

func (f *tableFile) Write(p []byte) (n int, err error) {
	err = f.g.unlessFrozen(func() error { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *tableFile) Sync() error     { return f.g.unlessFrozen(f.File.Sync) }
func (f *tableFile) SyncData() error { return f.g.unlessFrozen(f.File.SyncData) }

func (f *tableFile) SyncTo(length int64) (full bool, err error) {
	err = f.g.unlessFrozen(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// walFile is a file of the WAL, or a folder. File is nil when it could not be made.
type walFile struct {
	vfs.File
	g *guardedFS
}

// do runs an operation unless the store has failed.
func (f *walFile) do(op func() error) error {
	if f.File == nil || f.g.frozen() != nil {
		return nil
	}
	if err := op(); err != nil && !f.g.broken(err) {
		return err
	}
	return nil
}

func (f *walFile) Write(p []byte) (n int, err error) {
	return len(p), f.do(func() error { _, err := f.File.Write(p); return err })
}

func (f *walFile) Sync() error     { return f.do(func() error { return f.File.Sync() }) }
func (f *walFile) SyncData() error { return f.do(func() error { return f.File.SyncData() }) }

func (f *walFile) SyncTo(length int64) (full bool, err error) {
	err = f.do(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Preallocate is an optimization: what it cannot do, Write will tell.
func (f *walFile) Preallocate(offset, length int64) error {
	if f.File != nil {
		_ = f.File.Preallocate(offset, length)
	}
	return nil
}

func (f *walFile) Close() error {
	if f.File == nil {
		return nil
	}
	if err := f.File.Close(); err != nil && !f.g.broken(err) {
		return err
	}
	return nil
}

func (f *walFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}

func (f *walFile) Stat() (vfs.FileInfo, error) {
	if f.File != nil {
		info, err := f.File.Stat()
		if err == nil || !f.g.broken(err) {
			return info, err
		}
	}
	return noInfo{}, nil
}

// noInfo is what is known of a file that could not be made.
type noInfo struct{}

func (noInfo) Name() string           { return "" }
func (noInfo) Size() int64            { return 0 }
func (noInfo) Mode() fs.FileMode      { return 0o600 }
func (noInfo) ModTime() time.Time     { return time.Time{} }
func (noInfo) IsDir() bool            { return false }
func (noInfo) Sys() any               { return nil }
func (noInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
