//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package client

import (
	"errors"
	"io/fs"
	"os"
)

// lockFile takes a lock that outlives a process that dies: its file must be removed then.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	return func() {
		f.Close()
		os.Remove(name)
	}, nil
}
