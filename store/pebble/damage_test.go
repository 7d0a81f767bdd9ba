package pebble

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// closedStore runs a script in a store that is closed cleanly.
func closedStore(seed uint64) (disk *vfs.MemFS, s *script, err error) {
	disk = vfs.NewMem()
	s = newScript(rand.New(rand.NewPCG(seed, 3)), 40)
	o := testOptions(disk)
	o.Memtable = 64 << 10
	d, err := Open("store", o)
	if err != nil {
		return nil, nil, err
	}
	for i := range s.steps {
		if err := s.append(d, i); err != nil {
			return nil, nil, err
		}
		if err := s.after(d, i); err != nil {
			return nil, nil, err
		}
	}
	return disk, s, d.Close()
}

func files(disk vfs.FS) (list []string, err error) {
	for _, dir := range []string{"store", "store/" + walFolder} {
		names, err := disk.List(dir)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if n != walFolder && n != "LOCK" {
				list = append(list, dir+"/"+n)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

func slurp(disk vfs.FS, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func spill(disk vfs.FS, name string, b []byte) error {
	f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func TestDamage(t *testing.T) { seeds(t, 60, damage) }

// damage removes, shortens or changes one file of a store that was closed cleanly. Opening or reading reports it, or all is as it
// was; nothing else is ever served.
func damage(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 4))
	disk, s, err := closedStore(seed)
	if err != nil {
		return err
	}
	list, err := files(disk)
	if err != nil {
		return err
	}
	name := list[rng.IntN(len(list))]
	b, err := slurp(disk, name)
	if err != nil {
		return err
	}
	what := "removed"
	switch kind := rng.IntN(6); {
	case kind == 0:
		err = disk.Remove(name)
	case kind == 1 && len(b) > 0:
		n := rng.IntN(len(b))
		what = fmt.Sprintf("cut to %d of %d bytes", n, len(b))
		err = spill(disk, name, b[:n])
	case len(b) > 0:
		i := rng.IntN(len(b))
		what = fmt.Sprintf("changed in byte %d of %d", i, len(b))
		b[i] ^= byte(1 + rng.IntN(255))
		err = spill(disk, name, b)
	default:
		err = disk.Remove(name)
	}
	if err != nil {
		return err
	}
	if err := judgeDamaged(disk, s); err != nil {
		return fmt.Errorf("%s %s: %w", name, what, err)
	}
	return nil
}

func judgeDamaged(disk vfs.FS, s *script) error {
	d, err := Open("store", testOptions(disk))
	if err != nil {
		if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrFormat) {
			return nil
		}
		return fmt.Errorf("Open does not call it damage: %w", err)
	}
	n := len(s.steps)
	_, err = s.verify(d, n, n, n)
	if e := d.Close(); err == nil && e != nil && !pebble.IsCorruptionError(e) {
		return e
	}
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("wrong data: %w", err)
	}
	return nil
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	if os.Getenv("GANNET_TEST_LOCK") != "" { // the other process
		_, err := Open(os.Getenv("GANNET_TEST_LOCK"), Options{Logger: quiet})
		fmt.Println("locked:", errors.Is(err, store.ErrLocked), err)
		return
	}
	d, err := Open(dir, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/.", filepath.Join(dir, "..", filepath.Base(dir))} {
		if _, err := Open(name, Options{Logger: quiet}); !errors.Is(err, store.ErrLocked) {
			t.Errorf("a second Open of %s: %v", name, err)
		}
	}
	other := exec.Command(os.Args[0], "-test.run=^TestLocked$", "-test.v")
	other.Env = append(os.Environ(), "GANNET_TEST_LOCK="+dir)
	if out, err := other.CombinedOutput(); err != nil || !strings.Contains(string(out), "locked: true") {
		t.Errorf("another process: %v\n%s", err, out)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Open(dir, Options{Logger: quiet})
	if err != nil {
		t.Fatalf("when it is free again: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNotWritable(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "LOCK"), 0o700); err != nil { // not even root can write to it
		t.Fatal(err)
	}
	_, err := Open(dir, Options{Logger: quiet})
	if err == nil || errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "writable") {
		t.Errorf("Open of a folder whose lock cannot be written: %v", err)
	}
	if _, err = Open("/proc/self/none", Options{Logger: quiet}); err == nil || errors.Is(err, store.ErrLocked) {
		t.Errorf("Open where no folder can be made: %v", err)
	}
}

func TestNewerFormat(t *testing.T) {
	disk, _, err := closedStore(1)
	if err != nil {
		t.Fatal(err)
	}
	d := openTest(t, testOptions(disk))
	if err := d.db.Set(keyFormat, be.AppendUint64(nil, format+1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("store", testOptions(disk)); !errors.Is(err, store.ErrFormat) {
		t.Errorf("Open of a newer format: %v", err)
	}
	// A newer Pebble's: its version is in a marker's name.
	disk = vfs.NewMem()
	if err := openTest(t, testOptions(disk)).Close(); err != nil {
		t.Fatal(err)
	}
	names, err := files(disk)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(n string) bool { return strings.Contains(n, "marker.format-version.") })
	newer := names[i][:strings.LastIndex(names[i], ".")] + ".999"
	if err := errors.Join(disk.Rename(names[i], newer), disk.Remove("store/"+sealName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("store", testOptions(disk)); !errors.Is(err, store.ErrFormat) {
		t.Errorf("Open of a newer database: %v", err)
	}
}

// What a folder holds that is no store of gannet's is not taken for one.
func TestForeignData(t *testing.T) {
	disk := vfs.NewMem()
	d := openTest(t, testOptions(disk))
	for _, k := range [][]byte{keyFormat, keyEpoch} {
		if err := d.db.Delete(k, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Put([]store.Record{{Owner: "o", Key: "k", Value: []byte("v")}}, true); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("store", testOptions(disk)); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open: %v", err)
	}
}

func TestExists(t *testing.T) {
	dir := t.TempDir()
	if found := Exists(dir); found {
		t.Error("an empty folder holds a store")
	}
	if found := Exists(filepath.Join(dir, "none")); found {
		t.Error("no folder holds a store")
	}
	d, err := Open(dir, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !Exists(dir) {
		t.Error("a store is not found")
	}
}

// A folder that lost all its tables is not taken for a new one, whatever else is there.
func TestAllTablesAreGone(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		disk, _, err := closedStore(1)
		if err != nil {
			t.Fatal(err)
		}
		list, err := files(disk)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if strings.HasSuffix(n, ".sst") || strings.HasSuffix(n, ".log") || !sealed && strings.HasSuffix(n, sealName) {
				if err := disk.Remove(n); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 {
			if _, err := Open("store", testOptions(disk)); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("sealed %v: Open: %v", sealed, err)
			}
			r, err := Check("store", CheckOptions{FS: disk})
			if err != nil || r.Sound() {
				t.Errorf("sealed %v: check: %+v, %v", sealed, r, err)
			}
		}
	}
}
