package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// PartialExt is behind the name of a backup that is being made.
const PartialExt = ".partial"

// Backup is what a backup holds.
type Backup struct {
	Epoch, Place uint64
	Bytes        int64 // of its files; those of tables may be shared with the store
}

// Checkpoint makes a backup in a folder that must not exist yet: all that was acknowledged before the call, at one moment. Writing
// goes on meanwhile. On the store's own file system tables are linked, not copied. The folder appears when the backup is whole. What
// goes wrong with the backup does not touch the store.
func (d *DB) Checkpoint(dir string) (b Backup, err error) {
	if err := d.enter(); err != nil {
		return b, err
	}
	defer d.leave()
	if err := d.failure(); err != nil {
		return b, err
	}
	disk := d.opts.FS
	if disk == vfs.Default {
		if dir, err = filepath.Abs(dir); err != nil {
			return b, fmt.Errorf("store: backup: %w", err)
		}
	}
	temp := dir + PartialExt
	for _, name := range []string{dir, temp} {
		_, err := disk.Stat(name)
		if err == nil {
			err = fs.ErrExist
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return b, fmt.Errorf("store: backup: %s: %w", name, err)
		}
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("store: backup: %w", err)
			_ = disk.RemoveAll(temp)
		}
	}()
	if err := d.checkpoint(temp); err != nil {
		return b, err
	}
	if b, err = finishBackup(disk, temp); err != nil {
		return b, err
	}
	if err := disk.Rename(temp, dir); err != nil {
		return b, err
	}
	return b, syncFolder(disk, disk.PathDir(dir))
}

// checkpoint is Pebble's, with the panics that it has for folders that cannot be synced as errors.
func (d *DB) checkpoint(dir string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	if err := d.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return err
	}
	return d.failure() // whatever Checkpoint said
}

// finishBackup puts the logs where Open looks for them (Pebble leaves them beside the tables), reads what can be read of
// itself from the backup, and seals it.
func finishBackup(disk vfs.FS, dir string) (b Backup, err error) {
	wals := disk.PathJoin(dir, walFolder)
	if err := disk.MkdirAll(wals, 0o700); err != nil {
		return b, err
	}
	names, err := disk.List(dir)
	if err != nil {
		return b, err
	}
	var logs []string
	for _, n := range names {
		if _, ok := walNumber(n); ok {
			logs = append(logs, n)
			if err := disk.Rename(disk.PathJoin(dir, n), disk.PathJoin(wals, n)); err != nil {
				return b, err
			}
		}
	}
	if err := errors.Join(syncFolder(disk, wals), syncFolder(disk, dir)); err != nil {
		return b, err
	}
	s, err := readMeta(disk, dir)
	if err != nil {
		return b, err
	}
	if err := writeSeal(disk, dir, s, logs); err != nil {
		return b, err
	}
	b.Epoch, b.Place = s.epoch, s.place
	b.Bytes, err = folderBytes(disk, dir)
	return b, err
}

// readMeta opens a folder for reading and asks the store in it what it is.
func readMeta(disk vfs.FS, dir string) (s seal, err error) {
	c := &checker{rep: &Report{}, disk: readOnlyFS{FS: disk}, dir: dir, wals: disk.PathJoin(dir, walFolder)}
	opened, err := c.open()
	if err != nil {
		return s, err
	}
	if !opened {
		return s, damaged(c.rep.Findings[0].What)
	}
	if s.format, _, err = c.d.readFormat(); err == nil {
		if s.epoch, err = c.d.getU64(keyEpoch); err == nil {
			s.place, err = c.d.getU64(keyPlace)
		}
	}
	return s, errors.Join(err, c.d.db.Close())
}

// storeFiles are a store's files, below its folder, but for its lock and the marks of a restore.
func storeFiles(disk vfs.FS, dir string) (names []string, err error) {
	all, err := disk.List(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		switch n {
		case "LOCK", restoringName, walFolder, lostFound:
		default:
			names = append(names, n)
		}
	}
	logs, err := disk.List(disk.PathJoin(dir, walFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	for _, n := range logs {
		names = append(names, walFolder+"/"+n)
	}
	slices.Sort(names)
	return names, err
}

func folderBytes(disk vfs.FS, dir string) (sum int64, err error) {
	names, err := storeFiles(disk, dir)
	for _, n := range names {
		info, e := disk.Stat(disk.PathJoin(dir, n))
		if e != nil {
			return sum, e
		}
		sum += info.Size()
	}
	return sum, err
}

// restoringName is in a folder as long as a restore has not finished; lostFound is in the root of a file system.
const (
	restoringName = "RESTORING"
	lostFound     = "lost+found"
)

// restoring tells whether a restore was broken off.
func restoring(disk vfs.FS, dir string) error {
	_, err := disk.Stat(disk.PathJoin(dir, restoringName))
	switch {
	case err == nil:
		return fmt.Errorf("store: a restore into %s was broken off; remove what is in it and restore again", dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("store: opening %s: %w", dir, err)
}

// Restored is what Restore did.
type Restored struct {
	Backup
	Was   uint64 // the epoch of the backup
	Files int
}

// Restore copies a backup, or the folder of a gannetd that was stopped, into a folder that is new or empty. The store there has a
// new epoch: positions from before mean nothing any more, and clients are told. Until all is done nobody can open it. Errors are
// store.ErrLocked, store.ErrFormat, store.ErrCorrupt, or what the disk said.
func Restore(from, dir string, o Options) (r Restored, err error) {
	o.defaults()
	defer func() {
		if err != nil {
			err = fmt.Errorf("restoring %s into %s: %w", from, dir, err)
		}
	}()
	s, unlock, err := openBackup(o, from)
	if err != nil {
		return r, err
	}
	defer unlock()
	dir, lock, err := lockEmpty(o, from, dir)
	if err != nil {
		return r, err
	}
	mark := fmt.Appendf(nil, "A restore from %s into this folder has not finished.\n", from)
	if err := writeWhole(o.FS, dir, restoringName+".tmp", restoringName, mark); err != nil {
		return r, errors.Join(err, lock.Close())
	}
	if r, err = copyStore(o.FS, from, dir); err != nil {
		return r, errors.Join(err, lock.Close())
	}
	o.restoring = true
	d, err := openLocked(dir, lock, o)
	if err != nil {
		return r, err
	}
	r.Was, r.Place, r.Epoch = s.epoch, d.Place(), newEpoch(s.epoch)
	d.epoch = r.Epoch
	err = d.db.Set(keyEpoch, be.AppendUint64(nil, r.Epoch), pebble.Sync)
	if err = errors.Join(err, d.failure(), d.Close()); err != nil {
		return r, err
	}
	if err := o.FS.Remove(o.FS.PathJoin(dir, restoringName)); err != nil {
		return r, err
	}
	return r, syncFolder(o.FS, dir)
}

// openBackup looks at a backup before anything is done.
func openBackup(o Options, from string) (s *seal, unlock func(), err error) {
	info, err := o.FS.Stat(from)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is a file, a backup is a folder", from)
	}
	if err == nil {
		err = restoring(o.FS, from)
	}
	if err != nil {
		return nil, nil, err
	}
	if unlock, err = lockForCheck(o.FS, from); err != nil {
		return nil, nil, err
	}
	s, err = readSeal(o.FS, from)
	if err == nil && s.format > o.format {
		err = newerFormat(s.format, o.format)
	}
	var wrong []flaw
	if err == nil {
		wrong, err = s.compare(o.FS, from)
	}
	if len(wrong) > 0 {
		err = damaged(describe(wrong))
	}
	if errors.Is(err, errNoSeal) {
		err = fmt.Errorf("%s is no finished backup: it has no file %s; gannet backup makes one, and so does a gannetd that is stopped", from, sealName)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return s, unlock, nil
}

// lockEmpty makes the folder to restore into and locks it; there must be nothing in it.
func lockEmpty(o Options, from, dir string) (_ string, lock *pebble.Lock, err error) {
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return dir, nil, err
	}
	if o.FS == vfs.Default {
		if dir, err = realPath(dir); err != nil {
			return dir, nil, err
		}
		if real, err := realPath(from); err != nil || strings.HasPrefix(dir+"/", real+"/") {
			return dir, nil, errors.Join(errors.New("the folder lies in the backup"), err)
		}
	}
	if err := restoring(o.FS, dir); err != nil {
		return dir, nil, err
	}
	if lock, err = pebble.LockDirectory(dir, o.FS); err != nil {
		return dir, nil, lockError(dir, err)
	}
	names, err := o.FS.List(dir)
	for _, n := range names {
		if n != "LOCK" && n != lostFound && n != restoringName+".tmp" && err == nil {
			err = fmt.Errorf("%s is not empty: there is %s; name a new folder, or move what is there away", dir, n)
		}
	}
	if err != nil {
		return dir, nil, errors.Join(err, lock.Close())
	}
	return dir, lock, nil
}

// copyStore copies a store's files and syncs them.
func copyStore(disk vfs.FS, from, to string) (r Restored, err error) {
	wals := disk.PathJoin(to, walFolder)
	if err := disk.MkdirAll(wals, 0o700); err != nil {
		return r, err
	}
	names, err := storeFiles(disk, from)
	if err != nil {
		return r, err
	}
	for _, n := range names {
		info, err := disk.Stat(disk.PathJoin(from, n))
		if err == nil && !info.IsDir() {
			err = vfs.Copy(disk, disk.PathJoin(from, n), disk.PathJoin(to, n)) // syncs
			r.Files++
			r.Bytes += info.Size()
		}
		if err != nil {
			return r, err
		}
	}
	return r, errors.Join(syncFolder(disk, wals), syncFolder(disk, to))
}
