package durable

import (
	"context"
	"errors"
	"fmt"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// Replayed is what became of dead letters that were sent again.
type Replayed struct {
	Sent    int        // and taken off the list
	Refused int        // stay on the list; Code is why the first of them was
	Missing int        // IDs that are on the list no more
	Code    codec.Code // CodeOK: none was refused
}

// ErrReplaying says that somebody else has dead letters sent again just now.
var ErrReplaying = errors.New("durable: dead letters are being sent again just now; try again later")

// errCut is why a letter cannot be sent again.
var errCut = errors.New("durable: the message was too long for the list of dead letters, its payload was not kept")

// ReplayDeadLetters sends dead letters again, in the order of their IDs: with ids nil all that there are, else those. Each is a new message,
// of now, from its sender to its receiver, as it was but for its time to live, which it has no more; those that are stored are taken off the
// list. What is cut short by ctx, an error or a crash may leave letters on the list that were sent: they are sent twice then.
func (l *Log) ReplayDeadLetters(ctx context.Context, ids []uint64) (done Replayed, err error) {
	d := &l.dead
	select {
	case d.replaying <- struct{}{}:
		defer func() { <-d.replaying }()
	default:
		return done, ErrReplaying
	}
	if ids != nil {
		for ids = sorted(ids); len(ids) > 0 && done.Code == codec.CodeOK && err == nil; {
			n := min(len(ids), deadPage)
			var page []store.Record
			for _, id := range ids[:n] {
				v, err := l.current().Get(ownerDead, deadKey(id))
				if err != nil {
					return done, fmt.Errorf("durable: reading a dead letter: %w", err)
				}
				if v != nil {
					page = append(page, store.Record{Owner: ownerDead, Key: deadKey(id), Value: v})
				}
			}
			done.Missing += n - len(page)
			ids = ids[n:]
			err = l.replay(ctx, page, &done)
		}
		return done, err
	}
	d.mu.Lock()
	m, err := d.meta()
	d.mu.Unlock()
	for key := deadKey(0); err == nil && done.Code == codec.CodeOK; {
		page, scanErr := l.current().Scan(ownerDead, key, deadPage)
		if scanErr != nil {
			return done, fmt.Errorf("durable: reading dead letters: %w", scanErr)
		}
		more := len(page) == deadPage
		for i := range page {
			if key = page[i].Key; key >= deadKey(m.next) { // died since
				page, more = page[:i], false
				break
			}
		}
		if err = l.replay(ctx, page, &done); !more {
			break
		}
	}
	return done, err
}

// replay sends the letters of a page again.
func (l *Log) replay(ctx context.Context, page []store.Record, done *Replayed) error {
	answers := make(chan answered, len(page)) // holds all: the committer does not wait
	var entries []shard.Entry
	for _, rec := range page {
		e, id, err := l.again(rec)
		if err != nil {
			l.complain("sending a dead letter again", err)
			done.refuse(codec.CodeInvalid)
			continue
		}
		e.Done = func(a shard.Answer) { answers <- answered{id, a.Code} }
		entries = append(entries, e)
	}
	taken := l.Submit(entries)
	for range entries[taken:] {
		done.refuse(codec.CodeBusy)
	}
	var stored []uint64
	var err error
	for range taken {
		select {
		case a := <-answers:
			if a.code == codec.CodeOK {
				stored = append(stored, a.id)
			} else {
				done.refuse(a.code)
			}
			continue
		case <-ctx.Done():
			err = ctx.Err()
		}
		break
	}
	_, removeErr := l.dead.remove(stored)
	done.Sent += len(stored)
	l.retention.stats.deadReplayed.Add(uint64(len(stored)))
	return errors.Join(err, removeErr)
}

// answered is what became of a letter.
type answered struct {
	id   uint64
	code codec.Code
}

func (r *Replayed) refuse(code codec.Code) {
	if r.Refused++; r.Code == codec.CodeOK {
		r.Code = code
	}
}

// again makes a new message of a letter.
func (l *Log) again(rec store.Record) (e shard.Entry, id uint64, err error) {
	x, m, err := readDead(rec)
	if err != nil {
		return e, x.ID, err
	}
	if x.Cut {
		return e, x.ID, errCut
	}
	var ext codec.TLVs
	for tag, v := range m.Ext.All() {
		if tag != codec.TagTTL {
			ext = ext.Append(tag, v)
		}
	}
	m.Ext, m.Time = ext, l.now()
	return shard.NewEntry(m, l.clock()), x.ID, nil
}
