package durable

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gannet/codec"
	"gannet/store"
)

// failure is why nothing is stored.
type failure struct{ err error }

// Errors that no opening mends: messages that were acknowledged are not in the store that was found.
var (
	errEpoch = errors.New("durable: the store that was opened again is another one (its epoch differs): restart the node")
	errOlder = errors.New("durable: the store that was opened again lacks commits that were acknowledged: restore a backup and restart the node")
)

// fail notes that a store does not write any more. The committer has it opened again.
func (l *Log) fail(s store.Store, err error) {
	if s != l.current() || !l.failed.CompareAndSwap(nil, &failure{err}) {
		return
	}
	l.stats.failures.Add(1)
	l.opts.Logger.Error("durable: nothing is stored until the store was opened again", "error", err)
	l.pending.poke()
}

// complain logs, at most once a second.
func (l *Log) complain(what string, err error) {
	now := time.Now().UnixNano()
	if last := l.complained.Load(); now-last >= int64(time.Second) && l.complained.CompareAndSwap(last, now) {
		l.opts.Logger.Error("durable: "+what, "error", err)
	}
}

// lostBatch is what a commit that failed had in it. The store may have it all the same.
type lostBatch struct {
	place uint64                   // the last one before
	users map[string]struct{}      // whose inboxes
	logs  map[store.Channel]uint64 // channels that are read from their own log, and their heads before
}

// lose notes a batch that failed. What is known of channels is void with it.
func (c *committer) lose(place uint64, batch []store.Message, of []*channel) {
	lost := &lostBatch{place: place, users: map[string]struct{}{}, logs: map[store.Channel]uint64{}}
	var last [][]byte
	for i := range batch {
		in := batch[i].Inbox
		if len(in) == 0 {
			lost.logs[of[i].id] = of[i].last
			continue
		}
		if len(last) == len(in) && &last[0] == &in[0] {
			continue // the same members
		}
		for _, user := range in {
			lost.users[string(user)] = struct{}{}
		}
		last = in
	}
	c.lost = lost
	c.channels.drop()
}

// mend has a failed store opened again, off the committer's goroutine.
func (c *committer) mend() {
	if c.reopened != nil || c.gaveUp {
		return
	}
	c.reopened = make(chan store.Store)
	go c.log.reopen(c.tries, c.reopened)
}

// prober is a store that can tell whether opening it again may work. Until then it can be read.
type prober interface{ Probe() error }

// reopen opens the store again until that works; then it hands the new one over. It closes opened without one when it never will, or
// the log is closing.
func (l *Log) reopen(tries int, opened chan<- store.Store) {
	defer close(opened)
	for closed := false; ; tries++ {
		timer := time.NewTimer(l.timing.backoff(tries))
		select {
		case <-timer.C:
		case <-l.closing:
			timer.Stop()
			return
		}
		if !closed {
			failed := l.current()
			if p, ok := failed.(prober); ok && p.Probe() != nil {
				continue // it can be read meanwhile
			}
			closed = true
			if err := failed.Close(); err != nil {
				l.complain("closing the store that failed", err)
			}
		}
		s, err := l.opts.Open()
		if err != nil {
			err = fmt.Errorf("durable: opening the store again: %w", err)
			l.failed.Store(&failure{err})
			l.complain("no store", err)
			continue
		}
		if s.Epoch() != l.epoch {
			_ = s.Close()
			l.failed.Store(&failure{errEpoch})
			l.opts.Logger.Error(errEpoch.Error(), "epoch", s.Epoch(), "before", l.epoch)
			return
		}
		select {
		case opened <- s:
		case <-l.stop:
			_ = s.Close()
		}
		return
	}
}

// awaitReopen waits for a reopening under way to end; ok: with a store.
func (c *committer) awaitReopen() (s store.Store, ok bool) {
	if c.reopened == nil {
		return nil, false
	}
	select {
	case s, ok = <-c.reopened:
	case <-c.log.stop:
	}
	return s, ok
}

// adopt goes on with a store that was opened again; !ok: there is none.
func (c *committer) adopt(s store.Store, ok bool) {
	c.reopened = nil
	if !ok {
		c.gaveUp = true
		return
	}
	l := c.log
	before := l.current().Place()
	if c.lost != nil {
		before = c.lost.place
	}
	if s.Place() < before {
		_ = s.Close()
		c.gaveUp = true
		l.failed.Store(&failure{errOlder})
		l.opts.Logger.Error(errOlder.Error(), "place", s.Place(), "before", before)
		return
	}
	c.channels.drop()
	l.recents.drop()
	l.store.Store(&openStore{s})
	l.place.Store(s.Place())
	c.tries++ // until something was stored
	err := c.recover(s)
	if err == nil {
		err = c.resolve()
	}
	if err != nil {
		l.failed.Store(&failure{fmt.Errorf("durable: reading what a failed commit left: %w", err)})
		l.complain("reading what a failed commit left", err)
		l.pending.poke()
		return
	}
	c.lost = nil
	l.marks.rewrite()
	l.stats.reopens.Add(1)
	l.failed.Store(nil)
	l.opts.Logger.Info("durable: the store is open again")
}

// recover delivers what is stored of a commit that failed: its senders were told that it is not, but the numbers are taken, and
// who follows live would have a hole. What was delivered is struck off, so that a second try goes on behind it.
func (c *committer) recover(s store.Store) error {
	lost := c.lost
	if lost == nil || s.Place() == lost.place {
		return nil
	}
	frames := &framesOf{s: s, of: map[store.Channel]map[uint64][]byte{}}
	for _, ch := range slices.SortedFunc(maps.Keys(lost.logs), channelOrder) {
		last := lost.logs[ch]
		for seq := last + 1; ; seq++ {
			frame, err := frames.get(ch, seq)
			if err != nil {
				return err
			}
			if frame == nil {
				break
			}
			c.courier.Room(ch.Kind, []byte(ch.Name), seq, frame, c.log.clock())
			c.log.stats.recovered.Add(1)
			lost.logs[ch] = seq
		}
		delete(lost.logs, ch)
		c.courier.Send(c.log.stop)
	}
	for _, user := range slices.Sorted(maps.Keys(lost.users)) {
		if err := c.recoverInbox(s, user, frames); err != nil {
			return err
		}
		delete(lost.users, user)
		c.courier.Send(c.log.stop)
	}
	return nil
}

func channelOrder(a, b store.Channel) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func (c *committer) recoverInbox(s store.Store, user string, frames *framesOf) error {
	to := []byte(user)
	for after := c.lost.place; ; {
		refs, next, err := s.Inbox(user, after, maxBatch, nil)
		if err != nil {
			return err
		}
		for _, ref := range refs { // all frames first: nobody gets a part twice
			if _, err := frames.get(ref.Channel, ref.Seq); err != nil {
				return err
			}
		}
		for _, ref := range refs {
			if frame, _ := frames.get(ref.Channel, ref.Seq); frame != nil {
				c.courier.Inbox(to, ref.Pos, frame, c.log.clock(), 0)
				c.log.stats.recovered.Add(1)
			}
		}
		if after = next; len(refs) < maxBatch {
			return nil
		}
	}
}

// framesOf reads frames of a few channels and keeps them; there are not more than one commit has.
type framesOf struct {
	s  store.Store
	of map[store.Channel]map[uint64][]byte
}

// get returns a frame, nil when there is none.
func (f *framesOf) get(ch store.Channel, seq uint64) ([]byte, error) {
	kept := f.of[ch]
	if frame, ok := kept[seq]; ok {
		return frame, nil
	}
	if kept == nil {
		kept = map[uint64][]byte{}
		f.of[ch] = kept
	}
	frames, first, _, n, err := f.s.Read(ch, seq, maxBatch, maxBatchBytes, nil)
	if err != nil {
		return nil, err
	}
	if n == 0 || first != seq {
		kept[seq] = nil
	}
	for at := first; n > 0; at, n = at+1, n-1 {
		size, _, _, _ := codec.ConsumeHeader(frames)
		size += codec.HeaderLen
		kept[at] = frames[:size:size]
		frames = frames[size:]
	}
	return kept[seq], nil
}
