package pebble

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gannet/store"
)

// fewBytes is a file system with little room.
type fewBytes struct {
	vfs.FS
	free *atomic.Uint64
}

func (f fewBytes) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load()}, nil
}

// Probe tells when a store that failed can be opened again; until then it can be read.
func TestProbe(t *testing.T) {
	disk := vfs.NewMem()
	f := &fault{match: changes, err: syscall.EIO, at: 1, lasting: true}
	f.off.Store(true)
	var free atomic.Uint64
	free.Store(1 << 30)
	d := openTest(t, testOptions(fewBytes{errorfs.Wrap(disk, f), &free}))
	send := func(nonce uint64) error {
		return d.Append([]store.Message{sent{nonce: nonce}.message(0)}, make([]store.Result, 1))
	}
	if err := errors.Join(send(1), d.Probe(), send(2)); err != nil {
		t.Fatal(err)
	}
	f.off.Store(false)
	if err := send(3); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("Append on a broken disk: %v", err)
	}
	if err := d.Probe(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Probe of a broken disk: %v", err)
	}
	f.off.Store(true)
	free.Store(1 << 20)
	if err := d.Probe(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Probe of a full disk: %v", err)
	}
	if h, err := d.Head(scriptChannel(0)); err != nil || h.Seq != 2 {
		t.Errorf("head of a store that failed: %+v, %v", h, err)
	}
	free.Store(1 << 30)
	if err := d.Probe(); err != nil {
		t.Errorf("Probe of a disk that works again: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Probe(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Probe of a closed store: %v", err)
	}
	names, err := storeFiles(disk, "store")
	if all := strings.Join(names, " "); err != nil || strings.Contains(all, probeName) {
		t.Errorf("it leaves %s, %v", all, err)
	}
	d = openTest(t, testOptions(disk))
	if h, err := d.Head(scriptChannel(0)); err != nil || h.Seq < 2 {
		t.Errorf("head of the store opened again: %+v, %v", h, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
