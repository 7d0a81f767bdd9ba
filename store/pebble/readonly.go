package pebble

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errReadOnly is what Pebble gets when it tries to change something during a check.
var errReadOnly = errors.New("store: a check changes nothing")

// readOnlyFS lets nothing be changed.
type readOnlyFS struct {
	vfs.FS
	wals   string
	sealed *seal // hides the logs that it does not list; nil: none is hidden
}

func (r readOnlyFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }

func (r readOnlyFS) Link(string, string) error { return errReadOnly }

func (r readOnlyFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

func (r readOnlyFS) Remove(string) error { return errReadOnly }

func (r readOnlyFS) RemoveAll(string) error { return errReadOnly }

func (r readOnlyFS) Rename(string, string) error { return errReadOnly }

func (r readOnlyFS) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

func (r readOnlyFS) MkdirAll(string, os.FileMode) error { return errReadOnly }

// Lock does nothing: who checks has the lock.
func (r readOnlyFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

type noLock struct{}

func (noLock) Close() error { return nil }

func (r readOnlyFS) Unwrap() vfs.FS { return r.FS }

func (r readOnlyFS) List(dir string) ([]string, error) {
	names, err := r.FS.List(dir)
	if r.sealed == nil || dir != r.wals {
		return names, err
	}
	kept := names[:0]
	for _, n := range names {
		if !strings.HasSuffix(n, ".log") || r.sealed.lists(walFolder+"/"+n) {
			kept = append(kept, n)
		}
	}
	return kept, err
}

// silent is Pebble's logger during a check: what goes wrong is in the errors. After Fatalf it must not go on.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

func (silent) Fatalf(format string, args ...any) { panic(fatalError(format, args)) }
