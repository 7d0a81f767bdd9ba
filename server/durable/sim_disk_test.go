package durable

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gannet/codec"
	"gannet/store"
	"gannet/store/memory"
)

// simDisk is what outlives a store that fails and a node that ends. What a handle of it has written without a sync can be lost, and what
// a failed write had in it can be found there after all.
type simDisk struct {
	s     *memory.Store
	truth *simTruth
	after func() // called when a commit is on disk and nobody knows yet

	failing diskFailure // of the next write
	unread  bool        // reads fail

	lost    []store.Message // of a write that failed, which the next opening finds
	records []store.Record  // the same of records
	undo    []store.Record  // what was there before the records written since the last sync
}

type diskFailure int

const (
	diskWorks        diskFailure = iota
	failsBefore                  // nothing of the write is on disk
	failsAfter                   // all of it is
	recordsFailAfter             // the same, but commits still work
)

var (
	errSimDisk = errors.New("the disk fails")
	errSimRead = errors.New("the disk does not read")
)

// simStore is a store that was opened.
type simStore struct {
	store.Store
	d      *simDisk
	failed bool
	closed bool
}

func newSimDisk(t *simTruth) *simDisk { return &simDisk{s: memory.New(memory.Options{}), truth: t} }

// open finds what a failed write has left, and not what was never synced, if crashed.
func (d *simDisk) open(crashed bool) (store.Store, error) {
	if crashed {
		for i := len(d.undo) - 1; i >= 0; i-- {
			if err := d.s.Put(d.undo[i:i+1], true); err != nil {
				return nil, err
			}
		}
	}
	d.undo = nil
	if len(d.lost) > 0 {
		results := make([]store.Result, len(d.lost))
		if err := d.s.Append(d.lost, results); err != nil {
			return nil, err
		}
		for i, r := range results {
			if r.Code != codec.CodeOK && r.Code != codec.CodeDuplicate {
				d.truth.fail("a message of a commit that failed is refused later: %v, %+v", r.Code, d.lost[i])
			}
		}
		d.truth.stored(d.lost, results)
		for i, m := range d.lost {
			if len(m.Device) == 0 {
				d.truth.void(store.Channel{Kind: m.Kind, Name: string(m.Name)}, results[i].Seq)
			}
		}
	}
	if err := d.s.Put(d.records, true); len(d.records) > 0 && err != nil {
		return nil, err
	}
	d.lost, d.records, d.failing = nil, nil, diskWorks
	return &simStore{Store: d.s, d: d}, nil
}

// write says whether a write may begin, and whether it fails behind its end.
func (s *simStore) write(commit bool) (after bool, err error) {
	switch {
	case s.closed:
		return false, store.ErrClosed
	case s.failed:
		return false, store.ErrFailed
	case s.d.failing != diskWorks && (s.d.failing != recordsFailAfter || !commit):
		s.failed = true
		return s.d.failing != failsBefore, fmt.Errorf("%w: %w", store.ErrFailed, errSimDisk)
	}
	return false, nil
}

func (s *simStore) Append(batch []store.Message, results []store.Result) error {
	after, err := s.write(true)
	if err != nil {
		s.d.truth.note("append of %d fails, after %v: %v", len(batch), after, err)
		if after {
			for _, m := range batch {
				m.Name, m.User, m.Device, m.Frame = bytes.Clone(m.Name), bytes.Clone(m.User), bytes.Clone(m.Device), bytes.Clone(m.Frame)
				m.Inbox = slices.Clone(m.Inbox)
				for i, u := range m.Inbox {
					m.Inbox[i] = bytes.Clone(u)
				}
				s.d.lost = append(s.d.lost, m)
			}
		}
		return err
	}
	if err := s.Store.Append(batch, results); err != nil {
		return err
	}
	s.d.undo = nil // what was written before is synced with it
	s.d.truth.stored(batch, results)
	s.d.after()
	return nil
}

func (s *simStore) Put(records []store.Record, sync bool) error {
	after, err := s.write(false)
	if err != nil {
		s.d.truth.note("put of %d fails, after %v: %v", len(records), after, err)
		if after {
			s.d.records = append(s.d.records, records...)
		}
		return err
	}
	if sync {
		s.d.undo = nil
	}
	for _, r := range records {
		if old, err := s.Get(r.Owner, r.Key); err == nil && !sync {
			s.d.undo = append(s.d.undo, store.Record{Owner: r.Owner, Key: r.Key, Value: bytes.Clone(old)})
		}
	}
	return s.Store.Put(records, sync)
}

func (s *simStore) reads() error {
	switch {
	case s.closed:
		return store.ErrClosed
	case s.d.unread:
		return errSimRead
	}
	return nil
}

func (s *simStore) Inbox(user string, after uint64, limit int, dst []store.Ref) ([]store.Ref, uint64, error) {
	if err := s.reads(); err != nil {
		return dst, after, err
	}
	return s.Store.Inbox(user, after, limit, dst)
}

func (s *simStore) Read(c store.Channel, from uint64, limit, maxBytes int, dst []byte) ([]byte, uint64, uint64, int, error) {
	if err := s.reads(); err != nil {
		return dst, 0, from, 0, err
	}
	return s.Store.Read(c, from, limit, maxBytes, dst)
}

func (s *simStore) Head(c store.Channel) (store.Head, error) {
	if err := s.reads(); err != nil {
		return store.Head{}, err
	}
	return s.Store.Head(c)
}

func (s *simStore) Close() error {
	if s.closed {
		return store.ErrClosed
	}
	s.closed = true
	return nil
}

// simMessage is a stored message as the simulation knows it.
type simMessage struct {
	frame  []byte // as every receiver must get it
	id     string // of a device's message: user, device and nonce
	sender string // user/device; "": nobody's
	tags   string
	void   bool // of a change of a group that did not come about
}

// simTruth is what is on disk, and who may read it.
type simTruth struct {
	fail     func(format string, args ...any)
	note     func(format string, args ...any)
	channels map[store.Channel][]simMessage // seqs from 1 on
	seqs     map[string]uint64              // by id
	nonces   map[string]uint64              // the highest stored of a device, but for groups
	groups   map[string]map[string][]simSpan
}

// simSpan is a time for which a user is in a group: it reads from seq from on. to is 0 while it lasts, then the seq with which it ended.
type simSpan struct {
	from, to uint64
	ended    int // step
}

func newSimTruth(fail func(string, ...any)) *simTruth {
	return &simTruth{
		fail: fail, channels: map[store.Channel][]simMessage{}, seqs: map[string]uint64{}, nonces: map[string]uint64{},
		groups: map[string]map[string][]simSpan{},
	}
}

// stored notes what a commit has written, and verifies the numbers.
func (t *simTruth) stored(batch []store.Message, results []store.Result) {
	for i := range batch {
		m, r := &batch[i], results[i]
		if r.Code != codec.CodeOK {
			continue
		}
		ch := store.Channel{Kind: m.Kind, Name: string(m.Name)}
		if r.Seq != uint64(len(t.channels[ch]))+1 {
			t.fail("%v: #%d was stored behind #%d", ch, r.Seq, len(t.channels[ch]))
		}
		one := simMessage{frame: bytes.Clone(m.Frame)}
		f, _, _ := codec.ConsumeFrame(m.Frame, codec.MaxBody)
		if tag, ok := f.Ext.Get(codec.TagRoute); ok {
			one.tags = string(tag)
		}
		if len(m.Device) > 0 {
			one.sender = string(m.User) + "/" + string(m.Device)
			one.id = fmt.Sprint(one.sender, "/", m.Nonce)
			if seq, twice := t.seqs[one.id]; twice {
				t.fail("%s is stored as #%d and #%d of %v", one.id, seq, r.Seq, ch)
			}
			if t.seqs[one.id] = r.Seq; ch.Kind != codec.KindGroup { // to a group it may have been refused before, for good
				if m.Nonce <= t.nonces[one.sender] {
					t.fail("%s is stored behind nonce %d", one.id, t.nonces[one.sender])
				}
				t.nonces[one.sender] = m.Nonce
			}
			t.note("%s stored as #%d of %v", one.id, r.Seq, ch)
		}
		t.channels[ch] = append(t.channels[ch], one)
	}
}

// void notes that a message need not come to anybody.
func (t *simTruth) void(ch store.Channel, seq uint64) { t.channels[ch][seq-1].void = true }

// follow notes who is in a group now.
func (t *simTruth) follow(name string, g *group, step int) {
	spans := t.groups[name]
	if spans == nil {
		spans = map[string][]simSpan{}
		t.groups[name] = spans
	}
	head := uint64(len(t.channels[store.Channel{Kind: codec.KindGroup, Name: name}]))
	for user, all := range spans {
		last := &all[len(all)-1]
		if last.to != 0 {
			continue
		}
		if m, ok := memberOf(g, user); !ok || m.Joined != last.from {
			last.to, last.ended = head, step
		}
	}
	if g == nil {
		return
	}
	for _, m := range g.all() {
		if all := spans[m.User]; len(all) == 0 || all[len(all)-1].to != 0 {
			spans[m.User] = append(all, simSpan{from: m.Joined})
		}
	}
}

func memberOf(g *group, user string) (member, bool) {
	if g == nil {
		return member{}, false
	}
	return g.member(user)
}

// member is the span in which the user is now.
func (t *simTruth) member(name, user string) (simSpan, bool) {
	all := t.groups[name][user]
	if len(all) == 0 || all[len(all)-1].to != 0 {
		return simSpan{}, false
	}
	return all[len(all)-1], true
}

// mayGet says whether a user may get a message of a group on a connection that was opened at a step.
func (t *simTruth) mayGet(name, user string, seq uint64, opened int) bool {
	for _, s := range t.groups[name][user] {
		if seq >= s.from && (s.to == 0 || seq <= s.to && opened <= s.ended) {
			return true
		}
	}
	return false
}
