package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gannet/store"
)

// oldRecords is how many records a store of the fake formats has.
const oldRecords = 20

// fakeUpgrades lead from format 0, whose records say "zero", over 1 ("one") to 2 ("two"). Each step takes several commits, as one
// of a large store would, and counts how often it was run.
func fakeUpgrades(runs *[2]int) map[uint64]func(*DB) error {
	step := func(at int, from, to string) func(*DB) error {
		return func(d *DB) error {
			runs[at]++
			for i := range oldRecords {
				key := appendRecordKey(nil, "o", fmt.Sprint("k", i))
				v, done, err := d.db.Get(key)
				if err != nil {
					return err
				}
				old := string(v)
				if err := done.Close(); err != nil {
					return err
				}
				if old == to {
					continue // by a run that was broken off
				}
				if old != from {
					return fmt.Errorf("record %d is %q", i, old)
				}
				if err := d.db.Set(key, []byte(to), pebble.NoSync); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return map[uint64]func(*DB) error{0: step(0, "zero", "one"), 1: step(1, "one", "two")}
}

// ofFormatZero makes a store of the fake format 0.
func ofFormatZero(disk vfs.FS) error {
	d, err := Open("store", testOptions(disk))
	if err != nil {
		return err
	}
	for i := range oldRecords {
		err = errors.Join(err, d.Put([]store.Record{{Owner: "o", Key: fmt.Sprint("k", i), Value: []byte("zero")}}, false))
	}
	return errors.Join(err, d.db.Set(keyFormat, be.AppendUint64(nil, 0), pebble.Sync), d.Close())
}

// upgraded wants a store of the fake format 2.
func upgraded(d *DB) error {
	version, found, err := d.readFormat()
	if err != nil || !found || version != 2 {
		return fmt.Errorf("format %d, %v, %w", version, found, err)
	}
	for i := range oldRecords {
		if v, err := d.Get("o", fmt.Sprint("k", i)); err != nil || string(v) != "two" {
			return fmt.Errorf("record %d is %q, %w", i, v, err)
		}
	}
	return nil
}

func TestUpgrade(t *testing.T) {
	disk := vfs.NewMem()
	if err := ofFormatZero(disk); err != nil {
		t.Fatal(err)
	}
	r, err := Check("store", CheckOptions{FS: disk})
	if err != nil || !r.Sound() || r.Format != 0 || !strings.Contains(report(r), "upgrades it") {
		t.Errorf("check of an older format: %v\n%s", err, report(r))
	}
	o := testOptions(disk)
	if _, err := Open("store", o); err == nil || !strings.Contains(err.Error(), "format is 0") {
		t.Errorf("Open without the step: %v", err)
	}
	var runs [2]int
	o.format, o.upgrades = 2, fakeUpgrades(&runs)
	d := openTest(t, o)
	if err := upgraded(d); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openTest(t, o).Close(); err != nil || runs != [2]int{1, 1} {
		t.Errorf("the steps were run %v times, %v", runs, err)
	}
	if _, err := Open("store", testOptions(disk)); !errors.Is(err, store.ErrFormat) {
		t.Errorf("Open by the older version: %v", err)
	}
	if _, err := Check("store", CheckOptions{FS: disk}); !errors.Is(err, store.ErrFormat) {
		t.Errorf("check by the older version: %v", err)
	}
	if d, err = Open("store", o); err != nil { // and that did no harm
		t.Fatal(err)
	}
	if err := errors.Join(upgraded(d), d.Close()); err != nil {
		t.Error(err)
	}
}

// Wherever the power goes during an upgrade, the next start finishes it.
func TestUpgradeIsCutOff(t *testing.T) {
	for at := int64(1); ; at++ {
		disk := vfs.NewCrashableMem()
		if err := ofFormatZero(disk); err != nil {
			t.Fatal(err)
		}
		var n atomic.Int64
		var crash *vfs.MemFS
		rng := rand.New(rand.NewPCG(uint64(at), 10))
		o := testOptions(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) == at {
				crash = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			}
			return nil
		})))
		var runs [2]int
		o.format, o.upgrades = 2, fakeUpgrades(&runs)
		if err := openTest(t, o).Close(); err != nil {
			t.Fatal(err)
		}
		if crash == nil {
			return
		}
		o.FS = crash
		d, err := Open("store", o)
		if err != nil {
			t.Fatalf("operation %d: %v", at, err)
		}
		if err := errors.Join(upgraded(d), d.Close()); err != nil {
			t.Fatalf("operation %d: %v", at, err)
		}
	}
}

func TestUpgradeFails(t *testing.T) {
	disk := vfs.NewMem()
	if err := ofFormatZero(disk); err != nil {
		t.Fatal(err)
	}
	var runs [2]int
	o := testOptions(disk)
	o.format, o.upgrades = 2, fakeUpgrades(&runs)
	second, broken := o.upgrades[1], errors.New("out of luck")
	o.upgrades[1] = func(*DB) error { return broken }
	if _, err := Open("store", o); !errors.Is(err, broken) || !strings.Contains(err.Error(), "from format 1 to 2") {
		t.Errorf("Open: %v", err)
	}
	o.upgrades[1] = second
	d := openTest(t, o)
	if err := errors.Join(upgraded(d), d.Close()); err != nil || runs != [2]int{1, 1} {
		t.Errorf("%v; the steps were run %v times", err, runs)
	}
}
