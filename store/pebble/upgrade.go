package pebble

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"gannet/store"
)

// format is the version of the layout that this code writes.
const format = 1

// upgrades lead from an older format to the next one. A step may be run again from its beginning after a crash; whatever it commits
// is synced with the new format's number, which is written last.
var upgrades = map[uint64]func(*DB) error{}

// upgrade brings a store to the format of this version, step by step.
func (d *DB) upgrade(from uint64) error {
	to := d.opts.format
	if from > to {
		return newerFormat(from, to)
	}
	for v := from; v < to; v++ {
		step := d.opts.upgrades[v]
		if step == nil {
			return fmt.Errorf("store: its format is %d, which this version cannot upgrade to %d; "+
				"start an older gannetd that can, then this one", v, to)
		}
		if err := step(d); err != nil {
			return fmt.Errorf("store: upgrading from format %d to %d: %w", v, v+1, err)
		}
		if err := d.db.Set(keyFormat, be.AppendUint64(nil, v+1), pebble.Sync); err != nil {
			return fmt.Errorf("store: upgrading from format %d to %d: %w", v, v+1, err)
		}
		if err := d.failure(); err != nil { // whatever Set said
			return err
		}
		d.opts.Logger.Info("store: upgraded", "from", v, "to", v+1)
	}
	return nil
}

func newerFormat(found, known uint64) error {
	return fmt.Errorf("%w: its format is %d, this version knows %d; start the newer gannetd", store.ErrFormat, found, known)
}

// readFormat is the format of a store; found is false in a new one.
func (d *DB) readFormat() (version uint64, found bool, err error) {
	v, done, err := d.db.Get(keyFormat)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, wrapRead(err)
	}
	defer done.Close()
	if len(v) != 8 {
		return 0, false, damaged(string(keyFormat))
	}
	return be.Uint64(v), true, nil
}
