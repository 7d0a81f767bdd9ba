package durable

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"gannet/codec"
	"gannet/store"
)

// DeadReason says why a message became a dead letter.
type DeadReason uint8

// Reasons.
const (
	DeadTTL   DeadReason = iota + 1 // its time to live ran out
	DeadAge                         // it was older than Keep.Age
	DeadCount                       // the channel had more than Keep.Count messages
)

var deadReasons = [...]string{DeadTTL: "ttl", DeadAge: "age", DeadCount: "count"}

func (r DeadReason) String() string {
	if int(r) < len(deadReasons) && deadReasons[r] != "" {
		return deadReasons[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// DeadReasons are all reasons there are.
func DeadReasons() []DeadReason { return []DeadReason{DeadTTL, DeadAge, DeadCount} }

// DeadLetter is a durable direct message whose sender wanted a RECEIPT and that no device of its receiver acknowledged.
type DeadLetter struct {
	ID       uint64 // grows with every letter
	Reason   DeadReason
	Died     uint64 // Unix milliseconds
	Sender   string
	Receiver string
	Seq      uint64 // in their channel
	Time     uint64 // of the message, Unix milliseconds
	Content  uint8
	Payload  []byte
	Cut      bool // Payload was longer than a record can be, and was left out
}

// death is a message that is going to be a dead letter.
type death struct {
	reason   DeadReason
	at       uint64 // Unix milliseconds
	ch       store.Channel
	seq      uint64
	receiver string
	frame    []byte
}

// Records of the list. A letter's key is its number; the meta record says which is the next number, how many letters there are, and
// their bytes. What changes letters changes it in the same Put.
const (
	ownerDead     = "dead"
	ownerDeadMeta = "deadmeta"
	deadMetaKey   = "meta"
	deadPage      = 64
	deadOldest    = 16 // letters read to make room
	maxDeadFrame  = store.MaxValue - 1024
)

// deadList is the list of dead letters, the oldest of which make room for new ones.
type deadList struct {
	// Static after construction.
	l        *Log
	most     uint64
	maxBytes uint64

	mu        sync.Mutex    // held while the list is changed
	replaying chan struct{} // holds a token while letters are sent again
}

type deadMeta struct{ next, count, bytes uint64 }

func (d *deadList) init(l *Log) {
	d.l, d.most, d.maxBytes = l, uint64(max(0, l.opts.DeadLetters)), uint64(l.opts.DeadBytes)
	d.replaying = make(chan struct{}, 1)
}

// load counts what there is.
func (d *deadList) load() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, err := d.meta(); err != nil {
		d.l.complain("counting dead letters", err)
	} else {
		d.count(m)
	}
}

// meta reads what there is. mu is held.
func (d *deadList) meta() (m deadMeta, err error) {
	m.next = 1
	v, err := d.l.current().Get(ownerDeadMeta, deadMetaKey)
	if err != nil || v == nil {
		return m, err
	}
	rec, err := openValue(v)
	if err != nil {
		return m, fmt.Errorf("durable: reading the list of dead letters: %w", err)
	}
	m.next, m.count, m.bytes = rec.uint(), rec.uint(), rec.uint()
	if err := rec.err(); err != nil {
		return m, fmt.Errorf("durable: reading the list of dead letters: %w", err)
	}
	return m, nil
}

func (m deadMeta) record() store.Record {
	v := appendUint(nil, recordVersion)
	for _, n := range []uint64{m.next, m.count, m.bytes} {
		v = appendUint(v, n)
	}
	return store.Record{Owner: ownerDeadMeta, Key: deadMetaKey, Value: v}
}

// without takes a letter off.
func (m *deadMeta) without(bytes int) {
	m.count -= min(m.count, 1)
	m.bytes -= min(m.bytes, uint64(bytes))
}

func deadKey(id uint64) string { return string(binary.BigEndian.AppendUint64(nil, id)) }

// deadID is 0 for a key that is none of a letter.
func deadID(key string) uint64 {
	if len(key) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(key))
}

// sorted are numbers in order, each once.
func sorted(ids []uint64) []uint64 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// add writes letters, and other records with them. The oldest letters make room.
func (d *deadList) add(dead []death, with []store.Record) error {
	if len(dead) == 0 {
		return d.l.put(with, false)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.meta()
	if err != nil {
		return err
	}
	records, dropped := with, uint64(0)
	if most := uint64(len(dead)); most > d.most {
		dead, dropped = dead[most-d.most:], most-d.most
	}
	var values [][]byte
	size := uint64(0)
	for i := range dead {
		v := dead[i].value()
		values, size = append(values, v), size+uint64(len(v))
	}
	for after := ""; m.count > 0 && (m.count+uint64(len(dead)) > d.most || m.bytes+size > d.maxBytes); {
		oldest, err := d.l.current().Scan(ownerDead, after, deadOldest)
		if err != nil {
			return fmt.Errorf("durable: making room for dead letters: %w", err)
		}
		if len(oldest) == 0 {
			m.count, m.bytes = 0, 0
		}
		for _, rec := range oldest {
			if m.count+uint64(len(dead)) <= d.most && m.bytes+size <= d.maxBytes {
				break
			}
			m.without(len(rec.Value))
			records = append(records, store.Record{Owner: ownerDead, Key: rec.Key})
			after = rec.Key
			dropped++
		}
	}
	for _, v := range values {
		records = append(records, store.Record{Owner: ownerDead, Key: deadKey(m.next), Value: v})
		m.next++
	}
	m.count += uint64(len(dead))
	m.bytes += size
	if err := d.l.put(append(records, m.record()), false); err != nil {
		return err
	}
	for i := range dead {
		d.l.retention.stats.dead[dead[i].reason].Add(1)
	}
	d.l.retention.stats.deadDropped.Add(dropped)
	d.count(m)
	return nil
}

// count shows how many letters there are. mu is held.
func (d *deadList) count(m deadMeta) {
	d.l.retention.stats.letters.Store(m.count)
	d.l.retention.stats.letterBytes.Store(m.bytes)
}

// value is a letter as it is stored: version, reason, died, seq, receiver, whether the payload was left out, and the frame.
func (d *death) value() []byte {
	frame, cut := d.frame, uint64(0)
	if len(frame) > maxDeadFrame {
		if m, err := message(frame); err == nil {
			m.Payload, cut = nil, 1
			frame = codec.AppendMsg(nil, m)
		}
	}
	v := appendUint(make([]byte, 0, len(frame)+len(d.receiver)+32), recordVersion)
	for _, n := range []uint64{uint64(d.reason), d.at, d.seq} {
		v = appendUint(v, n)
	}
	v = appendUint(appendStr(v, d.receiver), cut)
	return append(v, frame...)
}

// readDead reads a letter; m is its message.
func readDead(rec store.Record) (x DeadLetter, m codec.Msg, err error) {
	v, err := openValue(rec.Value)
	if err != nil {
		return x, m, err
	}
	x.Reason, x.Died, x.Seq = DeadReason(v.uint()), v.uint(), v.uint()
	x.Receiver, x.Cut = v.str(), v.uint() != 0
	if x.ID = deadID(rec.Key); v.bad || x.ID == 0 {
		return x, m, errRecord
	}
	if m, err = message(v.b); err != nil {
		return x, m, fmt.Errorf("%w: %w", errRecord, err)
	}
	x.Sender, x.Time = string(m.Sender), m.Time
	x.Content, x.Payload = m.Content, m.Payload
	return x, m, nil
}

// DeadLetters returns dead letters with an ID above after, the oldest first, at most limit and about maxBytes of payloads. more says that
// there are others behind them.
func (l *Log) DeadLetters(after uint64, limit, maxBytes int) (letters []DeadLetter, more bool, err error) {
	size := 0
	for key := deadKey(after); ; {
		page, err := l.current().Scan(ownerDead, key, deadPage)
		if err != nil {
			return nil, false, fmt.Errorf("durable: reading dead letters: %w", err)
		}
		for _, rec := range page {
			if len(letters) >= limit || size >= maxBytes {
				return letters, true, nil
			}
			x, _, err := readDead(rec)
			if key = rec.Key; err != nil {
				l.complain("reading a dead letter", err)
				continue
			}
			letters = append(letters, x)
			size += len(x.Payload)
		}
		if len(page) < deadPage {
			return letters, false, nil
		}
	}
}

// ClearDeadLetters removes the dead letters that died before a time (Unix milliseconds), or all that there are when it is 0, and returns
// how many. After an error some may be gone.
func (l *Log) ClearDeadLetters(ctx context.Context, before uint64) (cleared int, err error) {
	d := &l.dead
	d.mu.Lock()
	m, err := d.meta()
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	for key, end := deadKey(0), m.next; ; {
		if err := ctx.Err(); err != nil {
			return cleared, err
		}
		page, err := l.current().Scan(ownerDead, key, deadPage)
		if err != nil {
			return cleared, fmt.Errorf("durable: reading dead letters: %w", err)
		}
		var old []uint64
		for _, rec := range page {
			key = rec.Key
			x, _, err := readDead(rec) // a damaged one goes with all others
			if key < deadKey(end) && (before == 0 || err == nil && x.Died < before) {
				old = append(old, deadID(key))
			}
		}
		n, err := d.remove(old)
		if cleared += n; err != nil {
			return cleared, err
		}
		l.retention.stats.deadCleared.Add(uint64(n))
		if len(page) < deadPage {
			return cleared, nil
		}
	}
}

// remove takes letters off the list and returns how many of them were on it.
func (d *deadList) remove(ids []uint64) (n int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.meta()
	if err != nil {
		return 0, err
	}
	var records []store.Record
	for _, id := range sorted(ids) {
		v, err := d.l.current().Get(ownerDead, deadKey(id))
		if err != nil {
			return 0, fmt.Errorf("durable: reading a dead letter: %w", err)
		}
		if v != nil {
			m.without(len(v))
			records = append(records, store.Record{Owner: ownerDead, Key: deadKey(id)})
		}
	}
	if len(records) == 0 {
		return 0, nil
	}
	if err := d.l.put(append(records, m.record()), true); err != nil {
		return 0, err
	}
	d.count(m)
	return len(records), nil
}
