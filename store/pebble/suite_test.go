package pebble

import (
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"gannet/store"
	"gannet/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet drops what is logged.
var quiet = slog.New(slog.DiscardHandler)

// testOptions are a store of the suite on a file system.
func testOptions(fs vfs.FS) Options {
	return Options{Cache: 1 << 20, Memtable: 1 << 20, Window: storetest.Window, FS: fs, Logger: quiet}
}

// opener opens stores in memory for the suite; tweak changes their options.
func opener(tweak func(*Options)) (open func(t *testing.T) store.Store, reopen func(store.Store) store.Store) {
	open = func(t *testing.T) store.Store {
		o := testOptions(vfs.NewMem())
		tweak(&o)
		d, err := Open("store", o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	reopen = func(s store.Store) store.Store {
		o := s.(*DB).opts
		if err := s.Close(); err != nil {
			panic(err)
		}
		d, err := Open("store", o)
		if err != nil {
			panic(err)
		}
		return d
	}
	return open, reopen
}

func TestSuite(t *testing.T) {
	open, reopen := opener(func(*Options) {})
	storetest.Run(t, open, reopen)
}

// With caches that hold next to nothing every state is loaded again and again.
func TestSuiteWithTinyCaches(t *testing.T) {
	open, reopen := opener(func(o *Options) { o.Heads, o.Devices, o.Users, o.Memtable = 2, 2, 2, 64<<10 })
	storetest.Run(t, open, reopen)
}

func TestModel(t *testing.T) {
	open := func() store.Store {
		o := testOptions(vfs.NewMem())
		o.Heads, o.Devices, o.Users, o.Memtable = 2, 2, 2, 256<<10
		d, err := Open("store", o)
		if err != nil {
			panic(err)
		}
		return d
	}
	_, reopen := opener(func(*Options) {})
	storetest.Model(t, open, reopen)
}
