package durable

import (
	"context"
	"fmt"
	"time"

	"gannet/codec"
	"gannet/store"
)

// The records "kept" are the list of channels that have messages, whatever their kind: a store finds a channel by its name only. A
// channel is written into it with its first message and struck off when it has none any more, both by the committer.

const ownerKept = "kept"

// keptRecord is a channel that may have messages.
type keptRecord struct {
	Judged uint64 // of a direct one: up to here dead letters were written for what nobody got
}

func (k keptRecord) append(b []byte) []byte {
	return appendUint(appendUint(b, recordVersion), k.Judged)
}

func readKept(b []byte) (k keptRecord, err error) {
	v, err := openValue(b)
	if err != nil {
		return k, err
	}
	k.Judged = v.uint()
	return k, v.err()
}

func (k keptRecord) of(ch store.Channel) store.Record {
	return store.Record{Owner: ownerKept, Key: convKey(ch.Kind, ch.Name), Value: k.append(nil)}
}

// kept reads a channel's record.
func (l *Log) kept(ch store.Channel) (keptRecord, error) {
	v, err := l.current().Get(ownerKept, convKey(ch.Kind, ch.Name))
	if err != nil || v == nil {
		return keptRecord{}, err
	}
	k, err := readKept(v)
	if err != nil {
		return k, fmt.Errorf("durable: reading the record of %v: %w", ch, err)
	}
	return k, nil
}

// strike takes channels without messages off the list.
func (r *retention) strike() {
	for len(r.empty) > 0 && !r.l.isClosing() {
		some := r.empty[:min(len(r.empty), trimsPerTurn)]
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := r.l.do(ctx, func(c *committer) error { return c.strike(some) })
		cancel()
		if err != nil {
			r.l.complain("forgetting channels without messages", err)
			break // they are found again
		}
		r.empty = r.empty[len(some):]
	}
	r.empty = nil
}

// strike takes those of some channels off the list that have no messages, and forgets them, so that the next message writes them
// into it again.
func (c *committer) strike(some []store.Channel) error {
	var records []store.Record
	for _, ch := range some {
		head, err := c.log.current().Head(ch)
		if err != nil {
			return err
		}
		if head.First > head.Seq {
			records = append(records, store.Record{Owner: ownerKept, Key: convKey(ch.Kind, ch.Name)})
			c.channels.forget(ch.Kind, ch.Name)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return c.log.put(records, false)
}

// forget drops a channel's state.
func (cs *channels) forget(kind codec.Kind, name string) {
	key := convKey(kind, name)
	delete(cs.young, key)
	delete(cs.old, key)
}
