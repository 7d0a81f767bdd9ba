package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gannet/store"
)

func TestBackup(t *testing.T) { seeds(t, 30, backup) }

// backup takes a backup in the middle of a script, while another goroutine writes records, and restores it: all that was
// acknowledged before is in it and nothing that came later, under a new epoch; the store does not notice.
func backup(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := newScript(rng, 40)
	o := testOptions(vfs.NewMem())
	o.Memtable = 64 << 10
	d, err := Open("store", o)
	if err != nil {
		return err
	}
	defer d.Close()
	at := rng.IntN(len(s.steps))
	for i := range at {
		if err := errors.Join(s.append(d, i), s.after(d, i)); err != nil {
			return err
		}
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
				err = d.Put([]store.Record{{Owner: "beside", Key: "k", Value: make([]byte, i%3000)}}, i%2 == 0)
			}
		}
		ended <- err
	}()
	b, err := d.Checkpoint("backups/one")
	close(stop)
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	if b.Epoch != d.Epoch() || b.Place != s.placeAfter(at) || b.Bytes == 0 {
		return fmt.Errorf("the backup says %+v, place is %d", b, s.placeAfter(at))
	}
	if _, err := d.Checkpoint("backups/one"); err == nil {
		return errors.New("a second backup of the name was made")
	}
	for i := at; i < len(s.steps); i++ {
		if err := errors.Join(s.append(d, i), s.after(d, i)); err != nil {
			return err
		}
	}
	return restored(o, s, at, d.Epoch())
}

// restored restores a backup of the first n steps and judges the copy.
func restored(o Options, s *script, n int, epoch uint64) error {
	c, err := Check("backups/one", CheckOptions{FS: o.FS})
	if err != nil || !c.Sound() || !c.Clean || c.Place != s.placeAfter(n) {
		return fmt.Errorf("check of the backup: %+v, %w", c, err)
	}
	before, err := inventoryOf(o.FS, "backups/one")
	if err != nil {
		return err
	}
	r, err := Restore("backups/one", "copy", o)
	if err != nil {
		return err
	}
	if r.Epoch == epoch || r.Epoch == 0 || r.Was != epoch || r.Place != s.placeAfter(n) {
		return fmt.Errorf("restored %+v of epoch %d", r, epoch)
	}
	if _, err := Restore("backups/one", "copy", o); err == nil || !strings.Contains(err.Error(), "not empty") {
		return fmt.Errorf("a second restore: %w", err)
	}
	if after, err := inventoryOf(o.FS, "backups/one"); err != nil || after != before {
		return fmt.Errorf("restoring changed the backup: %w", err)
	}
	if c, err = Check("copy", CheckOptions{FS: o.FS}); err != nil || !c.Sound() || !c.Clean || c.Epoch != r.Epoch {
		return fmt.Errorf("check of the copy: %+v, %w", c, err)
	}
	d, err := Open("copy", o)
	if err != nil {
		return err
	}
	defer d.Close()
	if d.Epoch() != r.Epoch {
		return fmt.Errorf("epoch %d, restored as %d", d.Epoch(), r.Epoch)
	}
	return s.goOn(d, n, n, 0)
}

func inventoryOf(disk vfs.FS, dir string) (string, error) {
	names, err := storeFiles(disk, dir)
	var b strings.Builder
	for _, n := range names {
		content, e := slurp(disk, disk.PathJoin(dir, n))
		err = errors.Join(err, e)
		fmt.Fprintf(&b, "%s %x\n", n, content)
	}
	return b.String(), err
}

// A backup that fails leaves nothing behind and does not touch the store.
func TestBackupFails(t *testing.T) {
	s := newScript(rand.New(rand.NewPCG(1, 8)), 20)
	for at := int64(1); ; at++ {
		var n atomic.Int64
		o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "backups") && n.Add(1) == at {
				return syscall.ENOSPC
			}
			return nil
		})))
		d := openTest(t, o)
		for i := range 10 {
			if err := s.append(d, i); err != nil {
				t.Fatal(err)
			}
		}
		_, err := d.Checkpoint("backups/one")
		if n.Load() < at { // all operations have had their error
			if err != nil {
				t.Errorf("without an error of the disk: %v", err)
			}
			_ = d.Close()
			break
		}
		if !errors.Is(err, syscall.ENOSPC) && (err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error())) {
			t.Errorf("operation %d: %v", at, err)
		}
		for i := 10; i < 20; i++ {
			if err := s.append(d, i); err != nil {
				t.Fatalf("operation %d: the store behind a backup that failed: %v", at, err)
			}
		}
		if _, err := d.Checkpoint("backups/two"); err != nil {
			t.Errorf("operation %d: the next backup: %v", at, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Wherever the power goes during a restore: the folder opens with all that was restored under a new epoch, or it is empty, or
// it says that the restore has to be done again.
func TestRestoreIsCutOff(t *testing.T) {
	source, s, err := closedStore(3)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check("store", CheckOptions{FS: source})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for at := int64(1); ; at++ {
		disk := vfs.NewCrashableMem()
		list, err := files(source)
		if err != nil {
			t.Fatal(err)
		}
		if err := disk.MkdirAll("store/"+walFolder, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			b, err := slurp(source, n)
			if err := errors.Join(err, spill(disk, n, b), syncAll(disk, n)); err != nil {
				t.Fatal(err)
			}
		}
		var n atomic.Int64
		var crash *vfs.MemFS
		rng := rand.New(rand.NewPCG(uint64(at), 9))
		o := testOptions(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) == at {
				crash = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			}
			return nil
		})))
		if _, err := Restore("store", "copy", o); err != nil {
			t.Fatal(err)
		}
		done := crash == nil
		if done {
			crash = disk.CrashClone(vfs.CrashCloneCfg{RNG: rng})
		}
		outcome, err := cutOff(crash, s, r.Epoch)
		if err != nil {
			t.Errorf("operation %d: %v", at, err)
		}
		if outcomes[outcome]++; done {
			if outcome != "whole" {
				t.Errorf("a crash behind a restore left it %s", outcome)
			}
			break
		}
	}
	t.Log(outcomes)
	for _, o := range []string{"empty", "broken off", "whole"} {
		if outcomes[o] == 0 {
			t.Errorf("no crash left it %s", o)
		}
	}
}

// syncAll syncs a file and the folders above it.
func syncAll(disk vfs.FS, name string) error {
	f, err := disk.Open(name)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	for dir := disk.PathDir(name); ; dir = disk.PathDir(dir) {
		err = errors.Join(err, syncFolder(disk, dir))
		if dir == disk.PathDir(dir) {
			return err
		}
	}
}

func cutOff(disk vfs.FS, s *script, was uint64) (outcome string, err error) {
	d, err := Open("copy", testOptions(disk))
	if err != nil {
		if !strings.Contains(err.Error(), "broken off") {
			return "", err
		}
		if _, err := Check("copy", CheckOptions{FS: disk}); err == nil || !strings.Contains(err.Error(), "broken off") {
			return "", fmt.Errorf("check of half a restore: %w", err)
		}
		return "broken off", nil
	}
	defer d.Close()
	if d.Epoch() == was {
		return "", errors.New("it has the epoch of the backup")
	}
	if d.Place() == 0 {
		return "empty", nil
	}
	_, err = s.verify(d, len(s.steps), len(s.steps), 0)
	return "whole", err
}
