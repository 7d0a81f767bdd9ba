package client

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// shrink writes the journal anew when most of it is done.
func (o *FileOutbox) shrink() {
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil || o.broken != nil || o.size < o.next || 2*o.held >= o.size {
		return
	}
	if err := o.compact(); err != nil { // the journal is as good as before
		o.opt.Logger.Warn("gannet: the outbox could not be written anew", "path", o.path, "err", err)
		o.next = 2 * o.size
	}
}

// compact writes what is live into a new file that takes the journal's place. Called with both locks, or while nobody else knows o.
func (o *FileOutbox) compact() error {
	name := o.path + ".new"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	c := compaction{o: o, f: f, live: make(map[uint64]span, len(o.live))}
	err = c.copy()
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(name, o.path)
	}
	if err != nil {
		f.Close()
		os.Remove(name)
		return fmt.Errorf("write the outbox %s anew: %w", o.path, err)
	}
	o.f.Close()
	o.f, o.size, o.synced, o.live, o.shifts = f, c.size, c.size, c.live, c.shifts
	o.next = max(compactAt, 2*c.size)
	if err := syncDir(o.path); err != nil { // a power failure could bring the old file back, without what is added from now on
		o.broken = fmt.Errorf("write the outbox %s anew: %w", o.path, err)
	}
	return o.broken
}

// compaction is a journal that is being written.
type compaction struct {
	o      *FileOutbox
	f      *os.File
	buf    []byte
	size   int64
	live   map[uint64]span
	shifts []shiftFrom
}

// copy writes the live records, and what numbers them and those to come.
func (c *compaction) copy() error {
	o := c.o
	c.buf = append(c.buf, journalMagic...)
	c.add(record{op: recordLast, id: o.state.Last})
	for _, id := range slices.Sorted(maps.Keys(o.live)) {
		c.shift(id, o.shiftOf(id))
		from := o.live[id]
		data := make([]byte, from.len)
		if _, err := o.f.ReadAt(data, from.at); err != nil {
			return err
		}
		c.live[id] = span{c.size + int64(len(c.buf)) + recordHead + 9, from.len}
		c.add(record{op: recordAdd, id: id, data: data})
		if len(c.buf) > 256<<10 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	c.shift(o.state.Last+1, o.state.Shift)
	return c.flush()
}

func (c *compaction) add(r record) { c.buf = appendRecord(c.buf, r) }

// shift has messages from an ID on numbered as before.
func (c *compaction) shift(from, shift uint64) {
	if n := len(c.shifts); n > 0 && c.shifts[n-1].shift == shift || n == 0 && !c.o.state.Settled {
		return
	}
	c.shifts = append(c.shifts, shiftFrom{from, shift})
	c.add(record{op: recordSettle, id: from, arg: shift})
}

func (c *compaction) flush() error {
	n, err := c.f.WriteAt(c.buf, c.size)
	c.size += int64(n)
	c.buf = c.buf[:0]
	return err
}

func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
