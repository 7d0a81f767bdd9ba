package pebble

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// restoringName is in a folder as long as a restore has not finished.
const restoringName = "RESTORING"

// restoring tells whether a restore was broken off.
func restoring(disk vfs.FS, dir string) error {
	_, err := disk.Stat(disk.PathJoin(dir, restoringName))
	switch {
	case err == nil:
		return fmt.Errorf("store: %s: a restore into it was broken off; empty the folder and restore again", dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("store: opening %s: %w", dir, err)
}
