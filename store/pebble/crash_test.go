package pebble

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var seedFlag = flag.Uint64("seed", 0, "run the crash and disk error tests with this seed alone")

// seeds calls run with n seeds, or with the one of -seed.
func seeds(t *testing.T, n uint64, run func(seed uint64) error) {
	t.Helper()
	first := uint64(1)
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+n; seed++ {
		if err := run(seed); err != nil {
			t.Fatalf("%v\nagain: go test ./store/pebble -run '%s$' -seed %d", err, t.Name(), seed)
		}
	}
}

func TestPowerLoss(t *testing.T) { seeds(t, 50, powerLoss) }

// powerLoss runs a script and cuts the power at a random operation on the disk. What was written and not synced is there or
// not, block by block, at random.
func powerLoss(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	disk := vfs.NewCrashableMem()
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 5, 50, 95, 100}[rng.IntN(5)], RNG: rng}
	s := newScript(rng, 40)
	var submitted, acked, done atomic.Int64 // steps
	var ops atomic.Int64
	at := rng.Int64N(400) + 1
	type crash struct {
		disk                   *vfs.MemFS
		acked, submitted, done int
	}
	var c *crash
	cut := func() {
		low, afters := int(acked.Load()), int(done.Load())
		clone := disk.CrashClone(cfg)
		c = &crash{clone, low, int(submitted.Load()), afters}
	}
	o := testOptions(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at {
			cut()
		}
		return nil
	})))
	o.Memtable = 64 << 10 // flushes and compactions
	if rng.IntN(4) == 0 {
		o.Memtable = 1 << 20 // next to none
	}
	d, err := Open("store", o)
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	reopenAt := rng.IntN(3 * len(s.steps)) // mostly never
	for i := range s.steps {
		if i == reopenAt {
			if err := d.Close(); err != nil {
				return err
			}
			if d, err = Open("store", o); err != nil {
				return fmt.Errorf("Open in the middle: %w", err)
			}
		}
		submitted.Store(int64(i + 1))
		if err := s.append(d, i); err != nil {
			return err
		}
		acked.Store(int64(i + 1))
		if err := s.after(d, i); err != nil {
			return err
		}
		if done.Store(int64(i + 1)); ops.Load() >= at {
			break
		}
	}
	if err := d.Close(); err != nil {
		return err
	}
	if ops.Load() < at {
		cut()
	}
	o.FS = c.disk
	for range 2 { // the second time behind a clean Close
		if seed%4 == 0 {
			if err := sound(c.disk); err != nil {
				return err
			}
		}
		if d, err = Open("store", o); err != nil {
			return fmt.Errorf("Open behind the crash: %w", err)
		}
		err = s.goOn(d, c.acked, c.submitted, c.done)
		if e := d.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		c.acked, c.submitted = len(s.steps), len(s.steps)
	}
	return nil
}
