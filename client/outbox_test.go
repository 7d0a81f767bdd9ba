package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func openOutbox(t testing.TB, path string, opt OutboxOptions) *FileOutbox {
	t.Helper()
	o, err := OpenOutbox(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func loaded(t testing.TB, o Outbox) OutboxState {
	t.Helper()
	s, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents is a state in one line, for comparisons.
func contents(s OutboxState) string {
	var b strings.Builder
	for _, e := range s.Entries {
		fmt.Fprintf(&b, "%d/%d=%x ", e.ID, e.Nonce, e.Data)
	}
	return fmt.Sprintf("%slast %d shift %d settled %v", &b, s.Last, s.Shift, s.Settled)
}

// Whatever is done to them, both outboxes hold the same, and a file holds it after each start.
func TestOutboxesAgree(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		file, err := OpenOutbox(path, OutboxOptions{Sync: rapid.Bool().Draw(t, "sync")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { file.Close() }()
		memory := new(MemoryOutbox)
		last, shift := uint64(0), uint64(0)
		var live []uint64
		both := func(do func(o Outbox) error) {
			if err := errors.Join(do(memory), do(file)); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3:
				last += rapid.Uint64Range(1, 3).Draw(t, "id")
				data := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data")
				both(func(o Outbox) error { return errors.Join(o.Add(last, data), o.Sync()) })
				live = append(live, last)
			case 4, 5, 6:
				if len(live) > 0 {
					i := rapid.IntRange(0, min(2, len(live)-1)).Draw(t, "done")
					id := live[i]
					live = slices.Delete(live, i, i+1)
					both(func(o Outbox) error { return o.Done(id) })
				}
			case 7:
				shift += rapid.Uint64Range(0, 1000).Draw(t, "shift")
				from := last + 1
				if len(live) > 0 && rapid.Bool().Draw(t, "kept too") {
					from = live[len(live)/2]
				}
				both(func(o Outbox) error { return o.Settle(from, shift) })
			case 8:
				file.syncing.Lock()
				file.mu.Lock()
				err := file.compact()
				file.mu.Unlock()
				file.syncing.Unlock()
				if err != nil {
					t.Fatal(err)
				}
			case 9:
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				if file, err = OpenOutbox(path, OutboxOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := memory.Load()
			got, err := file.Load()
			if err != nil || contents(got) != contents(want) {
				t.Fatalf("the file has  %s (%v)\nthe memory has %s", contents(got), err, contents(want))
			}
			if file.Len() != len(live) || file.Dropped() != 0 {
				t.Fatalf("%d messages, %d bytes dropped; want %d and none", file.Len(), file.Dropped(), len(live))
			}
		}
	})
}

// A crash may cut the journal anywhere: what is left are the first messages as they were, and no nonce is given out for a second
// message.
func TestOutboxCutAnywhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{})
	const total = 12
	sizes := make([]int64, 0, 2*total) // of the file behind each Add
	ok(t, o.Settle(1, 1000))
	for id := range uint64(total) {
		ok(t, o.Add(id+1, bytes.Repeat([]byte{byte(id)}, int(id*7))))
		sizes = append(sizes, o.size)
	}
	ok(t, o.Close())
	whole, err := os.ReadFile(path)
	ok(t, err)
	given := map[uint64]bool{} // nonces of the first life
	for id := range uint64(total) {
		given[id+1+1000] = true
	}
	for cut := range len(whole) + 1 {
		ok(t, os.WriteFile(path, whole[:cut], 0o600))
		o, err := OpenOutbox(path, OutboxOptions{})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		s := loaded(t, o)
		n := 0
		for n < total && sizes[n] <= int64(cut) {
			n++
		}
		if len(s.Entries) != n {
			t.Fatalf("cut at %d: %d messages, want %d", cut, len(s.Entries), n)
		}
		for i, e := range s.Entries {
			if e.ID != uint64(i+1) || e.Nonce != e.ID+1000 || !bytes.Equal(e.Data, bytes.Repeat([]byte{byte(i)}, i*7)) {
				t.Fatalf("cut at %d: message %d is %+v", cut, i, e)
			}
		}
		var q queue
		ok(t, q.open(discardData{o}, 100, 1<<20))
		ok(t, q.settle(0, time0))
		_, err = q.add(t.Context(), User("bob"), []byte("new"), nil)
		ok(t, err)
		if p := q.list[len(q.list)-1]; given[p.nonce] || p.nonce <= 1000+total && s.Settled {
			t.Fatalf("cut at %d: nonce %d is given out again", cut, p.nonce)
		}
		ok(t, o.Close())
		// The next start finds it whole.
		o = openOutbox(t, path, OutboxOptions{})
		if o.Dropped() != 0 || o.Len() != n+1 {
			t.Fatalf("cut at %d: at the second start %d messages and %d bytes dropped", cut, o.Len(), o.Dropped())
		}
		ok(t, o.Close())
	}
}

// discardData is an outbox whose old messages are not for sending.
type discardData struct{ *FileOutbox }

func (d discardData) Load() (OutboxState, error) {
	s, err := d.FileOutbox.Load()
	s.Entries = nil
	return s, err
}

func TestOutboxTornTailIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{})
	ok(t, o.Add(1, []byte("kept")))
	ok(t, o.Add(2, []byte("torn")))
	ok(t, o.Close())
	whole, err := os.ReadFile(path)
	ok(t, err)
	for name, damage := range map[string]func(b []byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"flipped": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"zeroes":  func(b []byte) []byte { clear(b[len(b)-10:]); return b },
		"length":  func(b []byte) []byte { b[len(b)-15] ^= 0x80; return b },
		"more":    func(b []byte) []byte { return append(b[:len(b)-1], make([]byte, 5000)...) },
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			ok(t, os.WriteFile(path, damage(bytes.Clone(whole)), 0o600))
			o := openOutbox(t, path, OutboxOptions{Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if s := loaded(t, o); len(s.Entries) != 1 || string(s.Entries[0].Data) != "kept" || o.Dropped() == 0 || !strings.Contains(said.String(), "bytes=") {
				t.Errorf("%s, dropped %d, said %q", contents(s), o.Dropped(), &said)
			}
			ok(t, o.Close())
		})
	}
}

// Each single flipped byte is noticed: in the last record it costs that one, before it opening fails, and Repair leaves out what is
// damaged.
func TestOutboxDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{})
	ok(t, o.Settle(1, 50))
	for id := range uint64(4) {
		ok(t, o.Add(id+1, fmt.Appendf(nil, "message %d", id)))
	}
	begin := o.size - int64(recordLen(len("message 0")))
	ok(t, o.Close())
	whole, err := os.ReadFile(path)
	ok(t, err)
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		ok(t, os.WriteFile(path, b, 0o600))
		o, err := OpenOutbox(path, OutboxOptions{})
		switch {
		case int64(at) >= begin:
			if err != nil || o.Len() != 3 || o.Dropped() != int64(len(whole))-begin {
				t.Fatalf("byte %d of the last record: %v", at, err)
			}
			ok(t, o.Close())
			continue
		case err == nil:
			t.Fatalf("byte %d of %d: nothing is noticed", at, len(whole))
		case at < len(journalMagic):
			if !strings.Contains(err.Error(), "no outbox") {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		case !strings.Contains(err.Error(), "damaged at byte") || !strings.Contains(err.Error(), "Repair"):
			t.Fatalf("byte %d: %v, want where and what to do", at, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
			t.Fatalf("byte %d: the file was changed", at)
		}
		if o, err = OpenOutbox(path, OutboxOptions{Repair: true}); err != nil {
			t.Fatalf("byte %d, repaired: %v", at, err)
		}
		if o.Len() < 3 || o.Dropped() == 0 || o.Len() == 4 && loaded(t, o).Settled {
			t.Fatalf("byte %d: %d messages left, dropped %d", at, o.Len(), o.Dropped())
		}
		n := o.Len()
		ok(t, o.Close())
		if o, err = OpenOutbox(path, OutboxOptions{}); err != nil || o.Len() != n || o.Dropped() != 0 {
			t.Fatalf("byte %d: after the repair %v", at, err)
		}
		ok(t, o.Close())
	}
}

func TestOutboxRefusesToOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox")
	first := openOutbox(t, path, OutboxOptions{})
	if _, err := OpenOutbox(path, OutboxOptions{}); !errors.Is(err, errLocked) {
		t.Errorf("opened twice: %v", err)
	}
	ok(t, first.Add(1, []byte("x")))
	ok(t, first.Close())
	ok(t, first.Close())
	for what, err := range map[string]error{
		"Add": first.Add(2, nil), "Done": first.Done(1), "Settle": first.Settle(1, 1), "Load": func() error { _, err := first.Load(); return err }(),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	openOutbox(t, path, OutboxOptions{}).Close()

	other := filepath.Join(dir, "other")
	for name, content := range map[string]string{
		"text":          "dear diary",
		"newer version": "GNTBOX2\nwhatever",
		"newer record":  string(appendRecord([]byte(journalMagic), record{op: 9, id: 1})),
	} {
		ok(t, os.WriteFile(other, []byte(content), 0o600))
		if _, err := OpenOutbox(other, OutboxOptions{Repair: true}); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(other); string(b) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := OpenOutbox(filepath.Join(dir, "none", "outbox"), OutboxOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	ok(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	if _, err := OpenOutbox(filepath.Join(dir, "folder"), OutboxOptions{}); err == nil {
		t.Error("a folder was opened")
	}
}

// The file does not grow with what is done, and messages that stay survive its being written anew.
func TestOutboxShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{})
	ok(t, o.Settle(1, 77))
	stays := bytes.Repeat([]byte("s"), 1000)
	ok(t, o.Add(1, stays))
	data := make([]byte, 10_000)
	for id := uint64(2); id < 2000; id++ {
		ok(t, o.Add(id, data))
		ok(t, o.Done(id))
		if o.size > 2*compactAt {
			t.Fatalf("%d bytes after %d messages", o.size, id)
		}
	}
	ok(t, o.Close())
	if s := loaded(t, openOutbox(t, path, OutboxOptions{})); contents(s) != contents(OutboxState{
		Entries: []OutboxEntry{{1, 78, stays}}, Last: 1999, Shift: 77, Settled: true,
	}) {
		t.Errorf("%s", contents(s))
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new file is left: %v", err)
	}
}

// Many add, sync and finish at once; what one of them was told is kept is there after the next start.
func TestOutboxConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{Sync: true})
	var mu sync.Mutex
	last := uint64(0)
	left := map[uint64]bool{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				mu.Lock()
				last++
				id := last
				err := o.Add(id, make([]byte, 8000))
				mu.Unlock()
				if err := errors.Join(err, o.Sync()); err != nil {
					t.Error(err)
				}
				if (g+i)%10 == 0 {
					mu.Lock()
					left[id] = true
					mu.Unlock()
				} else if err := o.Done(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ok(t, o.Close())
	s := loaded(t, openOutbox(t, path, OutboxOptions{}))
	if len(s.Entries) != len(left) {
		t.Errorf("%d messages, want %d", len(s.Entries), len(left))
	}
	for _, e := range s.Entries {
		if !left[e.ID] || len(e.Data) != 8000 {
			t.Errorf("message %d", e.ID)
		}
	}
}

// A disk that takes nothing leaves the outbox as it was; after a failed sync nothing is promised any more.
func TestOutboxWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, OutboxOptions{Sync: true})
	ok(t, o.Add(1, []byte("kept")))
	ok(t, o.Sync())
	ok(t, o.Settle(1, 7))
	if o.synced != o.size {
		t.Errorf("%d of %d bytes are on disk", o.synced, o.size)
	}
	good := o.f
	readOnly, err := os.Open(path)
	ok(t, err)
	o.f = readOnly
	if err := o.Add(2, []byte("lost")); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Add: %v", err)
	}
	if err := o.Sync(); err == nil {
		t.Error("Sync is fine after a record that may be half written could not be taken back")
	}
	o.f, o.broken = good, nil
	readOnly.Close()
	ok(t, o.Add(2, []byte("later")))
	ok(t, o.Sync())
	closed, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	o.f = closed
	ok(t, o.Add(3, []byte("not synced")))
	closed.Close()
	if err := o.Sync(); err == nil {
		t.Error("Sync of a closed file is fine")
	}
	if err := errors.Join(o.Add(4, nil)); err == nil {
		t.Error("Add after a failed Sync is fine")
	}
	o.f = good
}

// Whatever is in the file: what is read is whole, and reading ends.
func FuzzJournal(f *testing.F) {
	whole := appendRecord(appendRecord(nil, record{op: recordSettle, id: 1, arg: 7}), record{op: recordAdd, id: 1, data: []byte("data")})
	f.Add(whole, false)
	f.Add(append(append(bytes.Clone(whole[:20]), recordMark[:]...), whole...), true)
	f.Add(appendRecord(nil, record{op: recordDone, id: 1 << 63}), false)
	f.Fuzz(func(t *testing.T, b []byte, skip bool) {
		var again []byte
		used, skipped, err := replay(b, skip, func(at int, r record) {
			again = appendRecord(again, r)
			if at < 0 || at >= len(b) || !bytes.HasPrefix(b[at:], recordMark[:]) {
				t.Fatalf("a record at %d of %d bytes", at, len(b))
			}
		})
		if used > len(b) || skipped > used || !skip && skipped != 0 || used-skipped != len(again) {
			t.Fatalf("used %d of %d, skipped %d, the records have %d bytes", used, len(b), skipped, len(again))
		}
		if !skip && !bytes.Equal(again, b[:used]) {
			t.Fatal("the records are others")
		}
		if err == nil && !skip && nextRecord(b[min(used+1, len(b)):]) >= 0 {
			t.Fatal("a whole record was taken for the torn end")
		}
	})
}
