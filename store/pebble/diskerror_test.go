package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gannet/codec"
	"gannet/store"
)

// fault injects errors into the n-th operation that matches, and all later ones if lasting.
type fault struct {
	match   func(op errorfs.Op) bool
	err     error
	at      int64
	lasting bool

	n, hits atomic.Int64
	off     atomic.Bool
}

func (f *fault) String() string { return "fault" }

func (f *fault) MaybeError(op errorfs.Op) error {
	if f.off.Load() || !f.match(op) {
		return nil
	}
	if n := f.n.Add(1); n == f.at || n > f.at && f.lasting {
		f.hits.Add(1)
		return f.err
	}
	return nil
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func isWrite(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite }

func changes(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }

var faults = []struct {
	name  string
	match func(op errorfs.Op) bool
	err   error
	ops   int64 // about how many there are
}{
	{"fsync fails", isSync, syscall.EIO, 120},
	{"write finds no space", isWrite, syscall.ENOSPC, 200},
	{"write fails", isWrite, syscall.EIO, 200},
	{"anything finds no space", changes, syscall.ENOSPC, 420},
	{"no file can be made", func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite }, syscall.EMFILE, 25},
	{"nothing can be renamed or removed", func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemove || op.Kind == errorfs.OpLink
	}, syscall.EROFS, 30},
}

func diskError(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	kind := faults[int(seed)%len(faults)]
	f := &fault{match: kind.match, err: kind.err, at: rng.Int64N(kind.ops) + 1, lasting: rng.IntN(2) == 0}
	if err := withFault(rng, f); err != nil {
		return fmt.Errorf("%s, operation %d, lasting %v: %w", kind.name, f.at, f.lasting, err)
	}
	return nil
}

func withFault(rng *rand.Rand, f *fault) error {
	disk := vfs.NewCrashableMem()
	s, look := newScript(rng, 40), rng.IntN(4) == 0
	o := testOptions(errorfs.Wrap(disk, f))
	o.Memtable = 64 << 10
	acked, submitted, done := 0, 0, 0
	d, err := Open("store", o)
	if err != nil && !errors.Is(err, f.err) {
		return fmt.Errorf("Open does not say why: %w", err)
	}
	if err == nil {
		for ; submitted < len(s.steps); done++ {
			submitted++
			if err = s.append(d, acked); err != nil {
				break
			}
			acked++
			if err = s.after(d, done); err != nil {
				break
			}
		}
		if err := judgeFailed(s, d, f, err, acked, done); err != nil {
			_ = d.Close()
			return err
		}
	}
	power := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(2) * 50, RNG: rng})
	if d != nil {
		if err := d.Close(); err != nil && !errors.Is(err, f.err) && !errors.Is(err, store.ErrFailed) {
			return fmt.Errorf("Close: %w", err)
		}
	}
	f.off.Store(true)
	for what, fs := range map[string]vfs.FS{"reopened": disk, "reopened behind a crash": power} {
		o.FS = fs
		if look {
			if err := sound(fs); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		d, err := Open("store", o)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		err = s.goOn(d, acked, submitted, done)
		if e := d.Close(); err == nil {
			err = e
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// judgeFailed looks at a store after its script ended with an error or not.
func judgeFailed(s *script, d *DB, f *fault, err error, acked, done int) error {
	if err == nil {
		_, err = s.verify(d, acked, acked, done)
		return err
	}
	if !errors.Is(err, store.ErrFailed) || !errors.Is(err, f.err) {
		return fmt.Errorf("the store fails with %w", err)
	}
	if f.hits.Load() == 0 {
		return fmt.Errorf("the store fails without a fault: %w", err)
	}
	m := sent{size: 9}.message(0)
	for what, err := range map[string]error{
		"Append": d.Append([]store.Message{m}, make([]store.Result, 1)), "Trim": d.Trim(scriptChannel(0), 1), "Expire": d.Expire(1),
		"Put": d.Put([]store.Record{{Owner: "o", Key: "k", Value: []byte("v")}}, false),
	} {
		if !errors.Is(err, store.ErrFailed) {
			return fmt.Errorf("%s on a failed store: %w", what, err)
		}
	}
	if _, err := s.verify(d, acked, acked, done); err != nil {
		return fmt.Errorf("reading a failed store: %w", err)
	}
	return nil
}

// A flush that fails in the background ends in ErrFailed also for who waits for it, and Close returns.
func TestFlushFails(t *testing.T) {
	disk := vfs.NewMem()
	f := &fault{match: func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && !isWAL(op.Path) }, err: syscall.ENOSPC, at: 1, lasting: true}
	f.off.Store(true)
	o := testOptions(errorfs.Wrap(disk, f))
	o.Memtable = 64 << 10
	d := openTest(t, o)
	f.off.Store(false)
	acked := 0
	for ; ; acked++ {
		if acked > 100_000 {
			t.Fatal("nothing noticed that flushes fail")
		}
		m := sent{nonce: uint64(acked + 1), size: 1000}.message(0)
		if err := d.Append([]store.Message{m}, make([]store.Result, 1)); err != nil {
			if !errors.Is(err, store.ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Append: %v", err)
			}
			break
		}
	}
	if h, err := d.Head(scriptChannel(0)); err != nil || h.Seq != uint64(acked) {
		t.Errorf("head %+v, %v, want %d", h, err, acked)
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	f.off.Store(true)
	d = openTest(t, o)
	defer d.Close()
	if h, err := d.Head(scriptChannel(0)); err != nil || h.Seq < uint64(acked) {
		t.Errorf("reopened: head %+v, %v, want %d", h, err, acked)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		kind errorfs.OpKind
		err  error
	}{
		{"folder cannot be made", errorfs.OpMkdirAll, fs.ErrPermission},
		{"nothing can be made in it", errorfs.OpCreate, syscall.EROFS},
	} {
		f := &fault{match: func(op errorfs.Op) bool { return op.Kind == c.kind }, err: c.err, at: 1, lasting: true}
		_, err := Open("store", testOptions(errorfs.Wrap(vfs.NewMem(), f)))
		if !errors.Is(err, c.err) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrLocked) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Damage to one channel or one device stops nobody else, and no message of a device overtakes one that was refused.
func TestUnavailable(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Heads, o.Devices = 1, 1
	d := openTest(t, o)
	defer func() { _ = d.Close() }()
	send := func(channel, device int, nonce uint64) store.Message {
		return sent{channel: channel, device: device, nonce: nonce}.message(0)
	}
	for c := range 3 {
		results := make([]store.Result, 2)
		if err := d.Append([]store.Message{send(c, c, 1), send(c, c, 2)}, results); err != nil {
			t.Fatal(err)
		}
	}
	c := scriptChannel(0)
	if err := d.db.Set(appendHeadKey(nil, appendChannel(nil, c.Kind, []byte(c.Name))), []byte{0xff}, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.db.Set(appendNonceKey(nil, appendDevice(nil, []byte("u"), []byte("d1")), 9), []byte{1}, nil); err != nil {
		t.Fatal(err)
	}
	d.heads.drop()
	d.devices.drop()
	batch := []store.Message{send(0, 0, 3), send(2, 0, 4), send(2, 2, 3), send(1, 1, 3), send(1, 2, 4), send(2, 0, 5)}
	results := make([]store.Result, len(batch))
	if err := d.Append(batch, results); err != nil {
		t.Fatal(err)
	}
	refused := store.Result{Code: codec.CodeUnavailable}
	want := []store.Result{refused, refused, {Seq: 3, Pos: 7}, refused, {Seq: 3, Pos: 8}, refused}
	if fmt.Sprint(results) != fmt.Sprint(want) {
		t.Errorf("results %v, want %v", results, want)
	}
	if _, err := d.Head(c); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Head: %v", err)
	}
	if _, err := d.Nonce("u", "d1"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Nonce: %v", err)
	}
	if err := d.Append(batch[1:2], results[:1]); err != nil || results[0].Code != codec.CodeOK {
		t.Errorf("the next batch: %+v, %v", results[0], err)
	}
}
