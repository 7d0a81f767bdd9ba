package server

import (
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"

	"gannet/store"
	"gannet/store/pebble"
)

// checkpointer is a store that can be copied while it is in use.
type checkpointer interface {
	Checkpoint(dir string) (pebble.Backup, error)
}

var errNoCheckpoint = errors.New("this store cannot be backed up")

// backup makes a backup in a new folder below Options.BackupDir; it takes as long as it takes, one at a time.
func (a *admin) backup(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name string `json:"name"`
	}
	if !decode(w, r, &body) {
		return
	}
	switch {
	case a.s.opts.BackupDir == "":
		fail(w, http.StatusForbidden, "backups are off: start gannetd with --backup-dir")
		return
	case !validBackupName(body.Name):
		fail(w, http.StatusBadRequest, "name the backup with 1 to %d letters, digits, dots, dashes and underscores, as in 2026-01-31: "+
			"it becomes a folder below %s", maxBackupName, a.s.opts.BackupDir)
		return
	case !a.backups.TryLock():
		fail(w, http.StatusConflict, "a backup is being made, try again when it is done")
		return
	}
	defer a.backups.Unlock()
	dir := filepath.Join(a.s.opts.BackupDir, body.Name)
	var made pebble.Backup
	err := a.s.durableLog.WithStore(func(s store.Store) (err error) {
		c, ok := s.(checkpointer)
		if !ok {
			return errNoCheckpoint
		}
		made, err = c.Checkpoint(dir)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		fail(w, http.StatusConflict, "%v: choose another name, or remove it", err)
	case errors.Is(err, errNoCheckpoint):
		fail(w, http.StatusBadRequest, "%v: gannetd runs with --store %s", err, a.s.opts.Store)
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrClosed):
		fail(w, http.StatusServiceUnavailable, "%v: nothing is stored now, try again", err)
	case err != nil:
		a.s.log.Error("a backup failed", "path", dir, "error", err)
		fail(w, http.StatusInternalServerError, "%v", err)
	default:
		a.s.log.Info("backup made", "path", dir, "place", made.Place, "bytes", made.Bytes)
		reply(w, http.StatusOK, backupMade{Path: dir, Bytes: made.Bytes, Epoch: made.Epoch, Place: made.Place})
	}
}

// backupMade answers a request for a backup.
type backupMade struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Epoch uint64 `json:"epoch,string"` // as text: JSON's numbers lose digits
	Place uint64 `json:"place"`
}

// maxBackupName is in bytes.
const maxBackupName = 100

// validBackupName tells whether a name is one path element that leads nowhere else, and is none of a backup that is being made.
func validBackupName(name string) bool {
	if name == "" || len(name) > maxBackupName || name[0] == '.' || strings.HasSuffix(name, pebble.PartialExt) {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}
