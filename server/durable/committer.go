package durable

import (
	"context"
	"fmt"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// Bounds of one commit and of what waits for the committer beside messages.
const (
	maxBatch      = 8192
	maxBatchBytes = 4 << 20
	maxCalls      = 64
)

// carrier brings what was committed to the shards; *shard.Courier is one. Only the committer's goroutine uses it.
type carrier interface {
	Answer(a shard.Answer)
	Inbox(user []byte, place uint64, frame []byte, born int64, sender shard.SessionRef)
	User(user []byte, frame []byte, born int64, but shard.SessionRef)
	Room(kind codec.Kind, name []byte, seq uint64, frame []byte, born int64)
	Join(user []byte, group string, after uint64)
	Leave(user []byte, group string)
	Send(stop <-chan struct{}) bool
}

// committer is the one who appends, in rounds: it takes what waits, commits it, then delivers and answers. All of it is owned by its
// goroutine.
type committer struct {
	log      *Log
	courier  carrier
	channels channels
	members  int // of the groups that channels hold on to
	refusals refusals
	reopened chan store.Store // from the goroutine that opens the store again, which closes it when it gives up; nil: none runs
	tries    int              // of it, since the store last worked
	gaveUp   bool             // it cannot be mended
	lost     *lostBatch       // the commit that failed
	doubt    *doubt           // the change of a group that failed

	queue []shard.Entry // taken, oldest first
	next  int           // of queue: the first that is not answered

	// The round in progress.
	round   uint64
	began   time.Time
	items   []item
	batch   []store.Message
	results []store.Result
	of      []*channel     // by message of batch
	inboxes [][]byte       // pieces of it are in batch
	convs   []store.Record // to be written before batch
	ends    uint64         // when the first of what convs has "expiring" is due; 0: nothing is
	touched []*channel
}

// item is an entry of a round.
type item struct {
	e    *shard.Entry
	ch   *channel
	msg  int32      // its place in the batch; −1: it is not stored
	code codec.Code // other than CodeOK: it was refused before the batch was stored
}

func newCommitter(l *Log, courier carrier) *committer {
	c := &committer{log: l, courier: courier}
	c.channels.init(maxChannels)
	c.refusals.init(maxRefusals)
	return c
}

// run ends when the log is closing and everything is answered.
func (c *committer) run() {
	defer close(c.log.committed)
	for c.more() || c.wait() {
		c.serve()
		if c.log.failed.Load() != nil {
			c.mend()
		}
		c.notify()
		if c.more() {
			c.pace()
			c.turn()
		}
	}
	c.finish()
}

// more says whether entries wait, and takes them.
func (c *committer) more() bool {
	if c.next < len(c.queue) {
		return true
	}
	clear(c.queue) // their buffers
	if cap(c.queue) > maxBatch && len(c.queue) < maxBatch/8 {
		c.queue = nil // what a burst has left
	}
	c.queue, c.next = c.log.pending.take(c.queue[:0]), 0
	return len(c.queue) > 0
}

// wait returns true when there may be something to do, false at the end.
func (c *committer) wait() bool {
	if c.next < len(c.queue) {
		c.serve()
		return true
	}
	select {
	case <-c.log.pending.wake:
	case f := <-c.log.calls:
		c.call(f)
	case s, ok := <-c.reopened:
		c.adopt(s, ok)
	case <-c.log.closing:
		return false
	}
	return true
}

// serve does what else waits, without waiting for it.
func (c *committer) serve() {
	select {
	case f := <-c.log.calls:
		c.call(f)
	case s, ok := <-c.reopened:
		c.adopt(s, ok)
	default:
	}
}

// pace lets the commits begin CommitEvery after each other, so that more than a few messages share a sync. A full batch need
// not wait, and neither does what is refused.
func (c *committer) pace() {
	left := c.log.opts.CommitEvery - time.Since(c.began)
	if left <= 0 || len(c.queue)-c.next >= maxBatch || c.log.failed.Load() != nil {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-c.log.closing:
			return
		case f := <-c.log.calls:
			c.call(f)
		}
	}
}

// turn is one round.
func (c *committer) turn() {
	c.round++
	c.began = time.Now()
	err := c.log.Status()
	bytes := c.gather(err != nil)
	if err == nil && len(c.batch) > 0 {
		err = c.append(c.batch, c.results[:len(c.batch)], c.of)
	}
	for i := range c.items {
		c.deliver(&c.items[i], err)
	}
	c.moveReaders()
	c.courier.Send(c.log.stop)
	n := len(c.items)
	c.next += n
	c.log.pending.answered(n, bytes)
	clear(c.items)
	clear(c.batch)
	clear(c.of)
	clear(c.inboxes)
	c.items, c.batch, c.of, c.inboxes = c.items[:0], c.batch[:0], c.of[:0], c.inboxes[:0]
	if c.channels.age(); c.members > maxHeldMembers {
		c.channels.drop()
		c.members = 0
	}
}

// append stores a batch whose channels are of, and notes what became of it. After an error nothing of it counts as stored.
func (c *committer) append(batch []store.Message, results []store.Result, of []*channel) error {
	if len(c.convs) > 0 {
		err := c.log.put(c.convs, false)
		clear(c.convs)
		if c.convs = c.convs[:0]; err != nil {
			c.channels.drop()
			return err
		}
		if c.ends > 0 {
			c.log.retention.dueAt(c.ends)
			c.ends = 0
		}
	}
	s := c.log.current()
	place := s.Place()
	begin := time.Now()
	if err := s.Append(batch, results); err != nil {
		c.lose(place, batch, of)
		c.log.fail(s, err)
		return fmt.Errorf("durable: storing messages: %w", err)
	}
	c.tries = 0
	c.log.place.Store(s.Place())
	c.log.stats.commit(time.Since(begin))
	stored, bytes := 0, 0
	for i := range results {
		if results[i].Code == codec.CodeOK {
			ch := of[i]
			ch.last = results[i].Seq
			ch.ring = c.log.recents.add(ch.ring, ch.key, ch.last, batch[i].Frame)
			if c.log.retention.grown(batch[i].Kind, ch.last) {
				c.log.retention.tooLong(ch.id)
			}
			stored++
			bytes += len(batch[i].Frame)
		}
	}
	c.log.stats.messages.Add(uint64(stored))
	c.log.stats.bytes.Add(uint64(bytes))
	return nil
}

// commit appends a batch for a call. After an error nothing of it counts as stored; what of it a crash brings back is delivered as
// messages are when the store was reopened. Otherwise it is the caller's to deliver.
func (c *committer) commit(batch []store.Message, results []store.Result) error {
	if err := c.log.Status(); err != nil {
		return err
	}
	of := make([]*channel, len(batch))
	for i := range batch {
		ch, err := c.channel(batch[i].Kind, batch[i].Name)
		if err != nil {
			return fmt.Errorf("durable: reading the head of a channel: %w", err)
		}
		of[i] = ch
	}
	return c.append(batch, results, of)
}

// finish answers all that waits when the log is closing.
func (c *committer) finish() {
	for c.more() {
		c.turn()
	}
	c.notify()
	if s, ok := c.awaitReopen(); ok {
		_ = s.Close() // nothing was written
	}
	for {
		select {
		case f := <-c.log.calls:
			f.end(errClosed)
		default:
			return
		}
	}
}

// call is a function that runs between two rounds.
type call struct {
	f     func(c *committer) error
	turn  chan struct{} // holds a token: who takes it decides, the committer or who gives up
	ended chan error
}

func (f *call) end(err error) {
	select {
	case <-f.turn:
		f.ended <- err
	default:
	}
}

func (c *committer) call(f *call) {
	select {
	case <-f.turn:
	default:
		return // its caller has given up
	}
	if err := c.log.Status(); err != nil {
		f.ended <- err
		return
	}
	c.round++
	err := f.f(c)
	c.courier.Send(c.log.stop)
	f.ended <- err
}

// do runs f on the committer's goroutine between two batches, when the store works, and returns its error, or why it did not run.
func (l *Log) do(ctx context.Context, f func(c *committer) error) error {
	it := &call{f: f, turn: make(chan struct{}, 1), ended: make(chan error, 1)}
	it.turn <- struct{}{}
	select {
	case l.calls <- it:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.committed:
		return errClosed
	}
	done, committed := ctx.Done(), l.committed
	for {
		select {
		case err := <-it.ended:
			return err
		case <-done:
			done = nil
			it.end(ctx.Err())
		case <-committed:
			committed = nil
			it.end(errClosed)
		}
	}
}
