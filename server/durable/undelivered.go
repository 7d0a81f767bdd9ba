package durable

import (
	"encoding/binary"
	"fmt"
	"math"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// A durable direct message with RECEIPT that ends before a device of its receiver acknowledged it becomes a dead letter. It ends in one
// of two ways: its time to live runs out, or the retention removes it.
//
// For the first there is a record "expiring" of when to look, written before the message is stored, when its seq is not known yet:
//
//	key    when (Unix milliseconds) u64, lowest seq it can get u64, name of the channel
//	value  the highest seq it can get
//
// Messages of one round that end together share it. What the second removes is looked at then; of a message whose time to live had run
// out by then the first has judged.

const ownerExpiring = "expiring"

// Bounds of one look at what ran out.
const (
	expiringPage  = 64 // records
	expiringPages = 32
)

func expiringKey(when, low uint64, name string) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16+len(name)), when)
	return string(append(binary.BigEndian.AppendUint64(b, low), name...))
}

func splitExpiringKey(key string) (when, low uint64, name string, ok bool) {
	if len(key) <= 16 {
		return 0, 0, "", false
	}
	return binary.BigEndian.Uint64([]byte(key)), binary.BigEndian.Uint64([]byte(key[8:])), key[16:], true
}

// watch notes when a direct message that is going to be stored ends, if its sender wants to know what becomes of it.
func (c *committer) watch(ch *channel, e *shard.Entry) {
	if ch.plannedIn != c.round {
		ch.plannedIn, ch.planned = c.round, 0
	}
	ch.planned++
	if e.Flags&codec.MsgReceipt == 0 || ch.pair[0] == ch.pair[1] {
		return
	}
	when, ok := endOf(e.Frame())
	if !ok {
		return
	}
	c.convs = append(c.convs, store.Record{
		Owner: ownerExpiring, Key: expiringKey(when, ch.last+1, ch.id.Name),
		Value: appendUint(appendUint(nil, recordVersion), ch.last+ch.planned),
	})
	if c.ends == 0 || when < c.ends {
		c.ends = when
	}
}

// endOf is when a message's time to live runs out, in Unix milliseconds; false when it has none.
func endOf(frame []byte) (when uint64, ok bool) {
	if frame[codec.HeaderLen-1]&codec.FlagExt == 0 {
		return 0, false
	}
	f, _, err := codec.ConsumeFrame(frame, codec.MaxBody)
	if err != nil {
		return 0, false
	}
	ttl, ok := f.Ext.Uint32(codec.TagTTL)
	if !ok {
		return 0, false
	}
	m, err := codec.ConsumeMsg(f)
	return m.Time + uint64(ttl)*1000, err == nil
}

// dueAt notes when a record "expiring" is due; it is written.
func (r *retention) dueAt(when uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.due == 0 || when < r.due {
		r.due = when
	}
}

// isDue says whether a record may be due. It takes the note away: what is found not to be due notes it again.
func (r *retention) isDue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.due == 0 || r.due > r.wall {
		return false
	}
	if r.due <= r.done { // one came in before those that were done
		r.after = ""
	}
	r.due = 0
	return true
}

// judgeExpired judges messages whose time to live ran out; false: not all of them.
func (r *retention) judgeExpired() (all bool) {
	if !r.isDue() {
		return true
	}
	for range expiringPages {
		s := r.l.current()
		more, err := r.judgePage(s)
		if err != nil {
			r.broken(s, "looking for messages that ran out", err)
			break
		}
		if !more {
			return true
		}
	}
	r.dueAt(r.done + 1)
	return false
}

// judgePage judges the messages of some records "expiring" and removes these.
func (r *retention) judgePage(s store.Store) (more bool, err error) {
	page, err := s.Scan(ownerExpiring, r.after, expiringPage)
	if err != nil {
		return false, err
	}
	var over []store.Record
	var dead []death
	size, last := 0, r.after
	more = len(page) == expiringPage
	for i := range page {
		when, low, name, ok := splitExpiringKey(page[i].Key)
		if ok && when > r.wall {
			r.dueAt(when)
			more = false
			break
		}
		if size >= burialBytes {
			more = true
			break
		}
		if ok {
			dead, err = r.judge(s, name, low, when, page[i].Value, dead, &size)
			if err != nil && lasting(err) {
				r.broken(s, "reading a message that ran out", err)
			} else if err != nil {
				return false, err
			}
		}
		over = append(over, store.Record{Owner: ownerExpiring, Key: page[i].Key})
		last = page[i].Key
	}
	if len(over) == 0 {
		return more, nil
	}
	if err := r.l.dead.add(dead, over); err != nil {
		return false, err
	}
	r.after = last
	if when, _, _, ok := splitExpiringKey(last); ok {
		r.done = when
	}
	return more, nil
}

// judge adds to dead what of one record was not delivered.
func (r *retention) judge(s store.Store, name string, low, when uint64, value []byte, dead []death, size *int) ([]death, error) {
	ch := store.Channel{Kind: codec.KindDirect, Name: name}
	v, err := openValue(value)
	if err != nil {
		return dead, err
	}
	high := v.uint()
	if err := v.err(); err != nil {
		return dead, err
	}
	b, ok, err := r.l.burial(ch)
	if err != nil || !ok {
		return dead, err
	}
	low = max(low, b.judged+1)
	for low <= high {
		raw, first, next, n, err := s.Read(ch, low, int(min(high-low+1, walkPage)), burialBytes, nil)
		if err != nil || n == 0 || first > high {
			return dead, err
		}
		for seq := first; n > 0; seq, n = seq+1, n-1 {
			frame := raw[:frameLen(raw)]
			raw = raw[len(frame):]
			if end, ok := endOf(frame); !ok || end != when || seq > high {
				continue
			}
			to, lost, err := b.lost(seq, frame)
			if err != nil {
				return dead, err
			}
			if lost {
				dead = append(dead, death{reason: DeadTTL, at: when, ch: ch, seq: seq, receiver: to, frame: frame})
				*size += len(frame)
			}
		}
		low = next
	}
	return dead, nil
}

// burialBytes is about how many bytes of messages are looked at, and written as dead letters, at once.
const burialBytes = 1 << 20

// bury judges messages of a direct channel before they are removed: those below many because there are too many, those below old because of
// their age. It returns below which seq the channel may be removed, lower than old when the turn has done enough, and whether there
// may be dead letters of what is still there.
func (r *retention) bury(s store.Store, ch store.Channel, first, many, old uint64) (below uint64, dead bool, err error) {
	b, ok, err := r.l.burial(ch)
	if err != nil || !ok {
		return old, false, err
	}
	dead = b.judged >= first
	from := max(first, b.judged+1, min(b.side[0].upTo, b.side[1].upTo)+1)
	for from < old {
		if r.frames <= 0 {
			return from, true, r.l.put([]store.Record{keptRecord{Judged: from - 1}.of(ch)}, false)
		}
		raw, at, next, n, err := s.Read(ch, from, int(min(old-from, walkPage)), burialBytes, nil)
		if err != nil {
			return from, dead, err
		}
		if n == 0 || at >= old {
			break
		}
		r.frames -= n
		some, err := r.undelivered(b, raw, at, n, many)
		if err != nil {
			return from, dead, err
		}
		if len(some) > 0 {
			// With the letters it is written down that they are: the removal may be lost and done again.
			done := keptRecord{Judged: next - 1}.of(ch)
			if err := r.l.dead.add(some, []store.Record{done}); err != nil {
				return from, dead, err
			}
			dead = true
		}
		from = next
	}
	return old, dead, nil
}

// undelivered are those of n frames that were not delivered, but for what had run out.
func (r *retention) undelivered(b *burial, raw []byte, seq uint64, n int, many uint64) (dead []death, err error) {
	for ; n > 0; seq, n = seq+1, n-1 {
		frame := raw[:frameLen(raw)]
		raw = raw[len(frame):]
		if end, ok := endOf(frame); ok && end <= r.wall {
			continue
		}
		to, lost, err := b.lost(seq, frame)
		if err != nil {
			return nil, err
		}
		if !lost {
			continue
		}
		d := death{reason: DeadAge, at: r.now, ch: b.ch, seq: seq, receiver: to, frame: frame}
		if seq < many {
			d.reason = DeadCount
		}
		dead = append(dead, d)
	}
	return dead, nil
}

// burial knows how far the users of a direct channel are in it.
type burial struct {
	l      *Log
	ch     store.Channel
	judged uint64
	side   [2]reach
}

// reach is how far a user is in a channel.
type reach struct {
	user   string
	upTo   uint64 // delivered or read
	above  uint64 // with looked: the lowest seq whose place in the inbox is above the positions of all devices
	looked bool
}

// burial asks how far users are; ok is false for a channel with oneself, of which nobody else is to hear.
func (l *Log) burial(ch store.Channel) (b *burial, ok bool, err error) {
	one, two, ok := codec.SplitPair([]byte(ch.Name))
	if !ok || string(one) == string(two) {
		return nil, false, nil
	}
	b = &burial{l: l, ch: ch, side: [2]reach{{user: string(one)}, {user: string(two)}}}
	k, err := l.kept(ch)
	if err != nil {
		return nil, false, err
	}
	b.judged = k.Judged
	for i := range b.side {
		rec, _, err := l.conv(b.side[i].user, ch.Kind, ch.Name)
		if err != nil {
			return nil, false, err
		}
		b.side[i].upTo = max(rec.Delivered, rec.Read)
	}
	return b, true, nil
}

// lost says whether a message's sender wanted to know what became of it and its receiver did not get it.
func (b *burial) lost(seq uint64, frame []byte) (receiver string, lost bool, err error) {
	m, err := message(frame)
	if err != nil {
		return "", false, fmt.Errorf("%w: message %d of %v: %w", store.ErrCorrupt, seq, b.ch, err)
	}
	if m.Flags&(codec.MsgReceipt|codec.MsgDurable) != codec.MsgReceipt|codec.MsgDurable {
		return "", false, nil
	}
	to := &b.side[0]
	if to.user == string(m.Sender) {
		to = &b.side[1]
	}
	if seq <= to.upTo {
		return "", false, nil
	}
	if !to.looked {
		if to.above, err = b.l.firstAbove(to.user, b.ch); err != nil {
			return "", false, err
		}
		to.looked = true
	}
	return to.user, seq >= to.above, nil
}

// inboxPages is how many pages of inboxChunk references are looked through for a channel.
const inboxPages = 16

// firstAbove is the lowest seq of a channel whose reference in a user's inbox lies above the positions of all the user's devices; 0 when
// that is not known. A channel's own positions may be behind: a shard gives up some of the marks of a device that is far behind.
func (l *Log) firstAbove(user string, ch store.Channel) (uint64, error) {
	devices, err := l.devicesOf(user)
	if err != nil {
		return 0, err
	}
	pos := uint64(0)
	for _, d := range devices {
		pos = max(pos, d.Pos)
	}
	if pos == 0 {
		return 0, nil
	}
	s := l.current()
	for range inboxPages {
		refs, next, err := s.Inbox(user, pos, inboxChunk, nil)
		if err != nil {
			return 0, fmt.Errorf("durable: reading the inbox of %q: %w", user, err)
		}
		for _, ref := range refs {
			if ref.Channel == ch {
				return ref.Seq, nil
			}
		}
		if len(refs) < inboxChunk {
			return math.MaxUint64, nil
		}
		pos = next
	}
	return 0, nil
}
