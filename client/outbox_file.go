package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
)

// OutboxOptions say how a FileOutbox keeps messages. Zero values mean the defaults named here.
type OutboxOptions struct {
	// Sync has what is added on disk before it is sent: it survives a power failure. Without it a message survives the end of
	// the process, but the last ones may be lost when the machine stops.
	Sync bool
	// Repair goes on with all that can be read of a journal that is damaged in its middle. Without it that is an error.
	Repair bool
	// Logger hears what was dropped at the start. Nil: silent.
	Logger *slog.Logger
}

// FileOutbox is an Outbox in one file, a journal that is written anew when most of it is done. A second process is kept away by a lock on the
// file's name with .lock behind it.
//
// A record at the end that was not written to its end, as a crash leaves it, is dropped: Dropped says how much. Then, as after
// every start, nonces go on far above the last one, so that none stands for two messages even if some were lost.
type FileOutbox struct {
	// static after OpenOutbox
	path    string
	opt     OutboxOptions
	dropped int64
	unlock  func()

	mu     sync.Mutex
	f      *os.File        // guarded by mu; nil after Close
	size   int64           // guarded by mu: bytes of the file
	live   map[uint64]span // guarded by mu: where in the file messages are, by ID
	held   int64           // guarded by mu: bytes of live records
	state  OutboxState     // guarded by mu; without Entries
	shifts []shiftFrom     // guarded by mu, ascending
	next   int64           // guarded by mu: the size at which it is written anew
	broken error           // guarded by mu: why nothing is written any more

	syncing sync.Mutex // one fsync at a time, taken before mu
	synced  int64      // guarded by syncing: bytes of f that are on disk
}

// span is where the data of a message is.
type span struct {
	at  int64
	len int
}

// shiftFrom is a Settle that is still needed for a message.
type shiftFrom struct{ from, shift uint64 }

var errLocked = errors.New("another process uses it")

// compactAt is the size below which a journal is left as it is, in bytes.
const compactAt = 1 << 20

// OpenOutbox opens the outbox in the file path, which is made when it is not there. Close ends it.
func OpenOutbox(path string, opt OutboxOptions) (*FileOutbox, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("client: open the outbox %s: %w", path, err)
	}
	o := &FileOutbox{path: path, opt: opt, unlock: unlock, live: map[uint64]span{}, next: compactAt}
	if err := o.open(); err != nil {
		if o.f != nil {
			o.f.Close()
		}
		unlock()
		return nil, fmt.Errorf("client: open the outbox %s: %w", path, err)
	}
	return o, nil
}

func (o *FileOutbox) open() error {
	_ = os.Remove(o.path + ".new") // left by a crash while the journal was written anew
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	o.f = f
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if len(b) < len(journalMagic) && bytes.HasPrefix([]byte(journalMagic), b) { // new, or a crash when it was
		return o.create()
	}
	rest, ok := bytes.CutPrefix(b, []byte(journalMagic))
	if !ok {
		return errors.New("it is no outbox, or one of a newer version; move it away to begin a new one")
	}
	used, skipped, err := replay(rest, o.opt.Repair, func(at int, r record) { o.replayed(int64(len(journalMagic)+at), r) })
	if err != nil {
		return err
	}
	o.size = int64(len(journalMagic) + used)
	if o.dropped = int64(len(b)) - o.size + int64(skipped); o.dropped > 0 {
		o.opt.Logger.Warn("gannet: dropped from the outbox what is no whole record", "path", o.path, "bytes", o.dropped)
		if err := f.Truncate(o.size); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	o.synced = o.size
	if skipped > 0 {
		return o.compact() // so that the next start finds a whole one
	}
	return nil
}

func (o *FileOutbox) create() error {
	if err := o.f.Truncate(0); err != nil {
		return err
	}
	if _, err := o.f.WriteAt([]byte(journalMagic), 0); err != nil {
		return err
	}
	o.size = int64(len(journalMagic))
	if err := o.f.Sync(); err != nil {
		return err
	}
	o.synced = o.size
	return syncDir(o.path)
}

// replayed takes a record of the file.
func (o *FileOutbox) replayed(at int64, r record) {
	switch r.op {
	case recordAdd:
		o.added(at, r.id, len(r.data))
	case recordDone:
		o.done(r.id)
	case recordSettle:
		o.settled(r.id, r.arg)
	case recordLast:
		o.state.Last = max(o.state.Last, r.id)
	}
}

func (o *FileOutbox) added(at int64, id uint64, n int) {
	o.live[id] = span{at + recordHead + 9, n}
	o.held += recordLen(n)
	o.state.Last = max(o.state.Last, id)
}

func (o *FileOutbox) done(id uint64) {
	if s, ok := o.live[id]; ok {
		delete(o.live, id)
		o.held -= recordLen(s.len)
	}
}

func (o *FileOutbox) settled(from, shift uint64) {
	for n := len(o.shifts); n > 0 && o.shifts[n-1].from >= from; n-- {
		o.shifts = o.shifts[:n-1]
	}
	o.shifts = append(o.shifts, shiftFrom{from, shift})
	o.state.Shift, o.state.Settled = shift, true
}

func (o *FileOutbox) shiftOf(id uint64) uint64 {
	for _, s := range slices.Backward(o.shifts) {
		if s.from <= id {
			return s.shift
		}
	}
	return 0
}

// Dropped is how many bytes were dropped when the outbox was opened, because they were no whole record.
func (o *FileOutbox) Dropped() int64 { return o.dropped }

// Len is how many messages are kept.
func (o *FileOutbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.live)
}

// Load implements Outbox.
func (o *FileOutbox) Load() (OutboxState, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.state
	if o.f == nil {
		return s, fs.ErrClosed
	}
	for _, id := range slices.Sorted(maps.Keys(o.live)) {
		at := o.live[id]
		data := make([]byte, at.len)
		if _, err := o.f.ReadAt(data, at.at); err != nil {
			return s, fmt.Errorf("read the outbox %s: %w", o.path, err)
		}
		s.Entries = append(s.Entries, OutboxEntry{ID: id, Nonce: id + o.shiftOf(id), Data: data})
	}
	return s, nil
}

// Add implements Outbox.
func (o *FileOutbox) Add(id uint64, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.size
	if err := o.write(record{op: recordAdd, id: id, data: data}); err != nil {
		return err
	}
	o.added(at, id, len(data))
	return nil
}

// Done implements Outbox.
func (o *FileOutbox) Done(id uint64) error {
	o.mu.Lock()
	err := o.write(record{op: recordDone, id: id})
	if err == nil {
		o.done(id)
	}
	waste := o.size >= o.next && 2*o.held < o.size
	o.mu.Unlock()
	if waste {
		o.shrink()
	}
	return err
}

// Settle implements Outbox.
func (o *FileOutbox) Settle(from, shift uint64) error {
	o.mu.Lock()
	err := o.write(record{op: recordSettle, id: from, arg: shift})
	if err == nil {
		o.settled(from, shift)
	}
	o.mu.Unlock()
	if err != nil {
		return err
	}
	return o.Sync()
}

// write appends a record, or leaves the file as it was.
func (o *FileOutbox) write(r record) error {
	switch {
	case o.f == nil:
		return fmt.Errorf("write to the outbox %s: %w", o.path, fs.ErrClosed)
	case o.broken != nil:
		return o.broken
	}
	b := appendRecord(nil, r)
	_, err := o.f.WriteAt(b, o.size)
	if err == nil {
		o.size += int64(len(b))
		return nil
	}
	err = fmt.Errorf("write to the outbox %s: %w", o.path, err)
	if cut := o.f.Truncate(o.size); cut != nil {
		o.broken = errors.Join(err, cut)
	}
	return err
}

// Sync implements Outbox. One fsync serves all who wait for it.
func (o *FileOutbox) Sync() error {
	if !o.opt.Sync {
		return nil
	}
	o.mu.Lock()
	want, before := o.size, o.f
	o.mu.Unlock()
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	size, f, err := o.size, o.f, o.broken
	o.mu.Unlock()
	switch {
	case err != nil:
		return err
	case f == nil:
		return fmt.Errorf("sync the outbox %s: %w", o.path, fs.ErrClosed)
	case f != before || o.synced >= want: // written anew meanwhile, which includes a sync, or synced for somebody else
		return nil
	}
	if err := f.Sync(); err != nil {
		// What the kernel dropped now it may report as written the next time: nothing more is promised.
		err = fmt.Errorf("sync the outbox %s: %w", o.path, err)
		o.mu.Lock()
		o.broken = err
		o.mu.Unlock()
		return err
	}
	o.synced = size
	return nil
}

// Close gives the file free for others. What is kept stays.
func (o *FileOutbox) Close() error {
	err := o.Sync()
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil {
		return nil
	}
	if e := o.f.Close(); err == nil {
		err = e
	}
	o.f = nil
	o.unlock()
	return err
}
