package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"gannet/store"
)

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
