package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gannet/server/durable"
	"gannet/store"
	"gannet/store/memory"
	"gannet/store/pebble"
)

// durableOptions are those of the log.
func durableOptions(o *Options, log *slog.Logger) durable.Options {
	open := o.OpenStore
	if open == nil {
		open = o.openStore
	}
	return durable.Options{
		Open: open, Logger: log, InboxFanout: o.Limits.InboxFanoutMax,
		Retention: o.Retention.durable(), DeadLetters: o.Retention.DeadLetters,
	}
}

func (o *Options) validateStore() error {
	if o.Store != "pebble" && o.Store != "memory" {
		return fmt.Errorf("store: %q is none; say pebble or memory", o.Store)
	}
	for _, f := range []struct {
		name      string
		v, lo, hi int
	}{
		{"store_cache", o.StoreCache, 1 << 20, 1 << 40},
		{"store_memtable", o.StoreMemtable, 1 << 20, 1 << 31},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("%s: %d bytes are not between %d and %d", f.name, f.v, f.lo, f.hi)
		}
	}
	if o.BackupDir == "" {
		return nil
	}
	if !filepath.IsAbs(o.BackupDir) {
		return fmt.Errorf("backup_dir: %q is not absolute, as in /var/backups/gannet", o.BackupDir)
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if strings.HasPrefix(filepath.Clean(o.BackupDir)+"/", data+"/") {
		return fmt.Errorf("backup_dir: %s lies in the data folder %s; name one outside", o.BackupDir, data)
	}
	return nil
}

// openStore opens the store that the options name. It is called again after the disk failed.
func (o *Options) openStore() (store.Store, error) {
	if o.Store == "memory" {
		return memory.New(memory.Options{}), nil
	}
	d, err := pebble.Open(o.Data, pebble.Options{Cache: int64(o.StoreCache), Memtable: uint64(o.StoreMemtable), Logger: o.Logger})
	if err != nil {
		return nil, explainStore(o.Data, err)
	}
	return d, nil
}

// storeError says in a line what a person can do about a data folder that does not open.
type storeError struct {
	text  string
	cause error
}

func (e *storeError) Error() string { return "data: " + e.text }
func (e *storeError) Unwrap() error { return e.cause }

func explainStore(dir string, err error) error {
	e := &storeError{cause: err}
	elsewhere := ", or name another folder with --data"
	switch {
	case errors.Is(err, store.ErrLocked):
		e.text = fmt.Sprintf("%s is in use by another gannetd (%v): stop that one%s", dir, err, elsewhere)
	case errors.Is(err, store.ErrFormat):
		e.text = err.Error() + elsewhere
	case errors.Is(err, store.ErrCorrupt):
		e.text = fmt.Sprintf("%v: gannetd --check --data %s says what is lost; gannet restore puts a backup into a new folder", err, dir)
	case errors.Is(err, syscall.EROFS):
		e.text = fmt.Sprintf("%s is on a read-only file system: make that writable%s", dir, elsewhere)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		e.text = fmt.Sprintf("%s is a file, or lies below one: --data wants a folder", dir)
	case errors.Is(err, fs.ErrPermission):
		e.text = fmt.Sprintf("%s cannot be written by user %d%s: run gannetd as its owner, or give it to this user (chown)%s (%v)",
			dir, os.Getuid(), owner(dir), elsewhere, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.text = fmt.Sprintf("%s: the disk is full: make room%s (%v)", dir, elsewhere, err)
	default:
		e.text = err.Error()
	}
	e.text = strings.ReplaceAll(e.text, "\n", "; ")
	return e
}

// owner names who owns a folder.
func owner(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf(", it belongs to user %d", s.Uid)
	}
	return ""
}
