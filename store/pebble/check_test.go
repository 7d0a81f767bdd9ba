package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// copyDisk copies a store's folder.
func copyDisk(from vfs.FS) (*vfs.MemFS, error) {
	to := vfs.NewMem()
	if err := to.MkdirAll("store/"+walFolder, 0o700); err != nil {
		return nil, err
	}
	list, err := files(from)
	for _, n := range list {
		b, e := slurp(from, n)
		err = errors.Join(err, e, spill(to, n, b))
	}
	return to, err
}

// inventory is every byte of a store's folder.
func inventory(disk vfs.FS) (string, error) {
	list, err := files(disk)
	var b strings.Builder
	for _, n := range list {
		content, e := slurp(disk, n)
		err = errors.Join(err, e)
		fmt.Fprintf(&b, "%s %x\n", n, content)
	}
	return b.String(), err
}

func report(r *Report) string {
	var b strings.Builder
	_ = r.Print(&b)
	return b.String()
}

func TestFlips(t *testing.T) { seeds(t, 60, flips) }

// flips changes single bits of a store that was closed cleanly, one after the other. The check names the file of each, changes
// nothing, and no reader ever gets an altered byte.
func flips(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 5))
	disk, s, err := closedStore(seed % 8)
	if err != nil {
		return err
	}
	list, err := files(disk)
	if err != nil {
		return err
	}
	for range 4 {
		name := list[rng.IntN(len(list))]
		b, err := slurp(disk, name)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			continue
		}
		i := rng.IntN(len(b))
		what := fmt.Sprintf("%s, byte %d of %d", name, i, len(b))
		b[i] ^= 1 << rng.IntN(8)
		hurt, err := copyDisk(disk)
		if err != nil {
			return err
		}
		if err := spill(hurt, name, b); err != nil {
			return err
		}
		if err := namedByCheck(hurt, strings.TrimPrefix(name, "store/")); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := judgeDamaged(hurt, s); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// namedByCheck wants a finding that names a file.
func namedByCheck(disk vfs.FS, file string) error {
	before, err := inventory(disk)
	if err != nil {
		return err
	}
	r, err := Check("store", CheckOptions{FS: disk})
	if errors.Is(err, store.ErrFormat) && strings.Contains(err.Error(), file) {
		return nil // the flip made it look like a newer one
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	for _, f := range r.Findings {
		if strings.Contains(f.String(), file) {
			after, err := inventory(disk)
			if err == nil && after != before {
				err = errors.New("the check changed something")
			}
			return err
		}
	}
	return fmt.Errorf("the check does not name it:\n%s", report(r))
}

// sound wants a store in which nothing is damaged; there may be none.
func sound(disk vfs.FS) error {
	r, err := Check("store", CheckOptions{FS: disk})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !r.Sound() {
		err = errors.New(report(r))
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

func TestFlipsBehindACrash(t *testing.T) { seeds(t, 20, crashFlips) }

// crashFlips changes single bits of what a crash leaves. Either the check names the file and Open or the readers refuse what is
// in it, or all is there but for at most the last commits of the last log, and the check says that they may be missing.
func crashFlips(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 6))
	disk, s, acked, err := crashedStore(rng)
	if err != nil {
		return err
	}
	list, err := files(disk)
	if err != nil {
		return err
	}
	last, err := lastWAL(disk, "store/"+walFolder)
	if err != nil {
		return err
	}
	for range 4 {
		name := list[rng.IntN(len(list))]
		if rng.IntN(2) == 0 {
			name = "store/" + walFolder + "/" + last
		}
		b, err := slurp(disk, name)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			continue
		}
		i := rng.IntN(len(b))
		b[i] ^= 1 << rng.IntN(8)
		hurt, err := copyDisk(disk)
		if err != nil {
			return err
		}
		if err := spill(hurt, name, b); err != nil {
			return err
		}
		if err := judgeHurt(hurt, s, acked, strings.HasSuffix(name, last)); err != nil {
			return fmt.Errorf("%s, bit in byte %d of %d, %d steps acknowledged: %w", name, i, len(b), acked, err)
		}
	}
	return nil
}

// crashedStore is what kill -9 leaves of a script under way.
func crashedStore(rng *rand.Rand) (disk vfs.FS, s *script, acked int, err error) {
	crashable := vfs.NewCrashableMem()
	s = newScript(rng, 40)
	o := testOptions(crashable)
	o.Memtable = 64 << 10
	d, err := Open("store", o)
	if err != nil {
		return nil, nil, 0, err
	}
	defer d.Close()
	for acked = range rng.IntN(len(s.steps)) + 1 {
		if err := errors.Join(s.append(d, acked), s.after(d, acked)); err != nil {
			return nil, nil, 0, err
		}
	}
	return crashable.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng}), s, acked + 1, nil
}

// commits is how many of the steps from low to high stored something.
func (s *script) commits(low, high int) (n int) {
	for i := low; i < high; i++ {
		if s.placeAfter(i+1) > s.placeAfter(i) {
			n++
		}
	}
	return n
}

// judgeHurt looks at a store of which one bit was changed behind a crash.
func judgeHurt(disk vfs.FS, s *script, acked int, lastLog bool) error {
	r, err := Check("store", CheckOptions{FS: disk})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	d, err := Open("store", testOptions(disk))
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) || r.Sound() {
			return fmt.Errorf("Open: %w; the check says:\n%s", err, report(r))
		}
		return nil
	}
	n, err := s.verify(d, 0, acked, 0)
	if e := d.Close(); err == nil && e != nil && !errors.Is(e, store.ErrCorrupt) {
		return e
	}
	lost := s.commits(n, acked)
	switch {
	case errors.Is(err, store.ErrCorrupt) && !r.Sound():
		return nil
	case err != nil:
		return fmt.Errorf("wrong data: %w; the check says:\n%s", err, report(r))
	case lost > 0 && (!lastLog || lost > 2 || !strings.Contains(report(r), "cannot be told")):
		return fmt.Errorf("%d commits are lost; the check says:\n%s", lost, report(r))
	}
	return nil
}
