//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package client

import (
	"os"
	"syscall"
)

// lockFile takes an exclusive lock that ends with the process at the latest.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if err == syscall.EWOULDBLOCK {
			err = errLocked
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
