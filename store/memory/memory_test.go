package memory_test

import (
	"testing"

	"gannet/store"
	"gannet/store/memory"
	"gannet/store/storetest"
)

func open(t *testing.T) store.Store {
	s := memory.New(memory.Options{Window: storetest.Window})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSuite(t *testing.T) { storetest.Run(t, open, nil) }
