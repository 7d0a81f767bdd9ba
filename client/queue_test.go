package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gannet/codec"
)

var time0 = time.UnixMicro(1_700_000_000_000_000)

func sendData(text string) []byte {
	s, err := sendFrame(Durable(User("bob"), text), []byte("o"))
	if err != nil {
		panic(err)
	}
	return codec.AppendSend(nil, s)
}

func openQueue(t *testing.T, store Outbox, messages, bytes int) *queue {
	t.Helper()
	q := new(queue)
	ok(t, q.open(store, messages, bytes))
	return q
}

func (q *queue) nonces() (list []uint64) {
	for _, p := range q.list {
		list = append(list, p.nonce)
	}
	return list
}

func addTo(t *testing.T, q *queue, n int) {
	t.Helper()
	for range n {
		if _, err := q.add(t.Context(), User("bob"), sendData("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Nonces go on above what the server has, what this outbox gave out, and what another may have given out before.
func TestNonces(t *testing.T) {
	clock := uint64(time0.UnixMicro())
	t.Run("new", func(t *testing.T) {
		q := openQueue(t, new(MemoryOutbox), 100, 1<<20)
		addTo(t, q, 2)
		ok(t, q.settle(0, time0))
		addTo(t, q, 1)
		if n := q.nonces(); n[0] != clock+1 || n[1] != clock+2 || n[2] != clock+3 {
			t.Errorf("nonces %v, want from the clock's %d on", n, clock+1)
		}
	})
	t.Run("clock behind the server", func(t *testing.T) {
		q := openQueue(t, new(MemoryOutbox), 100, 1<<20)
		addTo(t, q, 2)
		ok(t, q.settle(clock+500, time.UnixMicro(0)))
		if n := q.nonces(); n[0] != clock+501 || n[1] != clock+502 {
			t.Errorf("nonces %v, want above %d", n, clock+500)
		}
	})
	t.Run("reconnect", func(t *testing.T) {
		q := openQueue(t, new(MemoryOutbox), 100, 1<<20)
		addTo(t, q, 2)
		ok(t, q.settle(0, time0))
		before := q.nonces()
		q.next(0)
		for _, stored := range []uint64{0, before[0], before[1]} {
			ok(t, q.settle(stored, time0.Add(time.Hour)))
			if n := q.nonces(); n[0] != before[0] {
				t.Errorf("server at %d: a message that may have been sent has another nonce, %d then %d", stored, before[0], n[0])
			}
		}
		// Somebody else used this device: what was never sent gets out of the way.
		ok(t, q.settle(before[1]+1000, time0))
		if n := q.nonces(); n[0] != before[0] || n[1] != before[1]+1001 {
			t.Errorf("nonces %v after %v", n, before)
		}
	})
	t.Run("restart", func(t *testing.T) {
		store := new(MemoryOutbox)
		q := openQueue(t, store, 100, 1<<20)
		addTo(t, q, 2)
		ok(t, q.settle(0, time0))
		before := q.nonces()
		q = openQueue(t, store, 100, 1<<20)
		addTo(t, q, 1)
		ok(t, q.settle(before[1]+5, time.UnixMicro(0)))
		n := q.nonces()
		if n[0] != before[0] || n[1] != before[1] || n[2] <= before[1]+nonceLeap {
			t.Errorf("nonces %v after %v: the old ones stay, the new one leaps", n, before)
		}
	})
	t.Run("restart without a connection between", func(t *testing.T) {
		store := new(MemoryOutbox)
		addTo(t, openQueue(t, store, 100, 1<<20), 2)
		q := openQueue(t, store, 100, 1<<20)
		ok(t, q.settle(clock+500, time0))
		if n := q.nonces(); n[0] != clock+501 || n[1] != clock+502 {
			t.Errorf("nonces %v, want above the server's %d: nothing was sent", n, clock+500)
		}
	})
	t.Run("used up", func(t *testing.T) {
		q := openQueue(t, new(MemoryOutbox), 100, 1<<20)
		if err := q.settle(1<<64-1, time0); err == nil {
			t.Error("no error")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	one := len(sendData("x"))
	for name, q := range map[string]*queue{
		"messages": openQueue(t, new(MemoryOutbox), 3, 1<<20),
		"bytes":    openQueue(t, new(MemoryOutbox), 100, 3*one+1),
	} {
		addTo(t, q, 3)
		if _, err := q.add(t.Context(), User("bob"), sendData("x"), nil); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v, want ErrBusy", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 2)
		go func() {
			_, err := q.add(ctx, User("bob"), sendData("x"), make(chan fate, 1))
			result <- err
		}()
		q.remove(q.list[1])
		if err := <-result; err != nil {
			t.Errorf("%s: with room again: %v", name, err)
		}
		cancel()
		if _, err := q.add(ctx, User("bob"), sendData("x"), make(chan fate, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: given up: %v", name, err)
		}
		if q.n != 3 || q.held != 3*one {
			t.Errorf("%s: %d messages, %d bytes", name, q.n, q.held)
		}
		// Larger than all the room: alone, it goes.
		for _, p := range slices.Clone(q.list) {
			q.remove(p)
		}
		if _, err := q.add(t.Context(), User("bob"), make([]byte, 4*one), nil); err != nil || q.n != 1 {
			t.Errorf("%s: a large one: %v", name, err)
		}
	}
}

// An outbox that fails keeps nothing and says why; a message that cannot be made safe is not sent.
func TestQueueStoreFails(t *testing.T) {
	fails := &failingOutbox{}
	q := openQueue(t, fails, 10, 1<<20)
	fails.add = errors.New("disk full")
	if _, err := q.add(t.Context(), User("bob"), sendData("x"), nil); !errors.Is(err, fails.add) || q.n != 0 {
		t.Errorf("%v, %d kept", err, q.n)
	}
	fails.add, fails.sync = nil, errors.New("i/o error")
	if _, err := q.add(t.Context(), User("bob"), sendData("x"), nil); !errors.Is(err, fails.sync) || q.n != 0 {
		t.Errorf("%v, %d kept", err, q.n)
	}
	fails.sync = nil
	addTo(t, q, 1)
	fails.settle = errors.New("read-only")
	if err := q.settle(5, time0); !errors.Is(err, fails.settle) {
		t.Errorf("settle: %v", err)
	}
	for _, data := range [][]byte{nil, []byte("x"), append(sendData("x"), 0), make([]byte, 20)} {
		bad := new(MemoryOutbox)
		ok(t, bad.Add(1, data))
		if err := new(queue).open(bad, 10, 1<<20); err == nil {
			t.Errorf("%x was taken for a message", data)
		}
	}
	fails.load = errors.New("gone")
	if _, err := New(Options{Addrs: []string{"127.0.0.1:1"}, User: "alice", Device: "phone", Outbox: fails}); !errors.Is(err, fails.load) {
		t.Errorf("New: %v", err)
	}
}

// failingOutbox is one whose methods fail.
type failingOutbox struct {
	MemoryOutbox
	load, add, sync, settle, done error
}

func (f *failingOutbox) Load() (OutboxState, error) {
	s, _ := f.MemoryOutbox.Load()
	return s, f.load
}

func (f *failingOutbox) Add(id uint64, data []byte) error {
	if f.add != nil {
		return f.add
	}
	return f.MemoryOutbox.Add(id, data)
}

func (f *failingOutbox) Sync() error { return f.sync }

func (f *failingOutbox) Settle(from, shift uint64) error {
	if f.settle != nil {
		return f.settle
	}
	return f.MemoryOutbox.Settle(from, shift)
}

func (f *failingOutbox) Done(id uint64) error {
	if f.done != nil {
		return f.done
	}
	return f.MemoryOutbox.Done(id)
}
