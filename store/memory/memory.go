package memory

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sort"
	"sync"

	"gannet/codec"
	"gannet/store"
)

// Options of New. Zero values mean the defaults of package store.
type Options struct {
	Window int    // nonces of a device that are kept
	Bucket uint64 // milliseconds that one bucket covers
}

// Store is a store in memory.
type Store struct {
	epoch  uint64
	window int
	bucket uint64

	mu       sync.Mutex // guards all below
	closed   bool
	place    uint64
	covered  uint64 // inboxes are complete from here
	ends     []mark // ascending; of the buckets that are kept
	channels map[store.Channel]*channel
	inboxes  map[string][]entry
	devices  map[device][]stamp
	records  map[string]map[string][]byte
}

type channel struct {
	first, head uint64
	kept        []message // seqs first…head
}

type message struct {
	frame  []byte
	bucket uint64
}

type entry struct {
	ref    store.Ref
	bucket uint64
}

// mark says which place was the last of a bucket.
type mark struct{ bucket, place uint64 }

type device struct{ user, device string }

type stamp struct{ nonce, seq uint64 } // ascending by nonce

var _ store.Store = (*Store)(nil)

// New makes an empty store.
func New(o Options) *Store {
	s := &Store{
		window: o.Window, bucket: o.Bucket,
		channels: map[store.Channel]*channel{}, inboxes: map[string][]entry{},
		devices: map[device][]stamp{}, records: map[string]map[string][]byte{},
	}
	if s.window == 0 {
		s.window = store.DefaultWindow
	}
	if s.bucket == 0 {
		s.bucket = store.DefaultBucket
	}
	for s.epoch == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		s.epoch = binary.BigEndian.Uint64(b[:])
	}
	return s
}

// enter locks the store; the caller unlocks it when there is no error.
func (s *Store) enter() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

// Epoch is store.Store's.
func (s *Store) Epoch() uint64 { return s.epoch }

// Place is store.Store's.
func (s *Store) Place() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place
}

// Append is store.Store's.
func (s *Store) Append(batch []store.Message, results []store.Result) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	var stored []int
	var bucket uint64
	if n := len(s.ends); n > 0 {
		bucket = s.ends[n-1].bucket
	}
	for i := range batch {
		if results[i] = s.number(&batch[i]); results[i].Code == codec.CodeOK {
			stored = append(stored, i)
			bucket = max(bucket, batch[i].Time/s.bucket)
		}
	}
	for _, i := range stored {
		s.keep(&batch[i], results[i], bucket)
	}
	if n := len(s.ends); n > 0 && s.ends[n-1].bucket == bucket {
		s.ends[n-1].place = s.place
	} else if len(stored) > 0 {
		s.ends = append(s.ends, mark{bucket, s.place})
	}
	return nil
}

// number gives a message its seq and its place, or says why not.
func (s *Store) number(m *store.Message) store.Result {
	at, ok := m.SeqAt()
	if !ok {
		return store.Result{Code: codec.CodeInvalid}
	}
	c := s.channels[channelOf(m)]
	if c == nil {
		c = &channel{first: 1}
	}
	if len(m.Device) > 0 {
		if seq, known := s.stamp(device{string(m.User), string(m.Device)}, m.Nonce, c.head+1); known {
			return store.Result{Code: codec.CodeDuplicate, Seq: seq}
		}
	}
	s.channels[channelOf(m)] = c
	c.head++
	s.place++
	store.SetSeq(m.Frame, at, c.head)
	return store.Result{Seq: c.head, Pos: s.place}
}

// stamp notes that a nonce got seq, or finds that it was stored before.
func (s *Store) stamp(d device, nonce, seq uint64) (first uint64, known bool) {
	list := s.devices[d]
	i, found := slices.BinarySearchFunc(list, nonce, func(s stamp, n uint64) int { return cmp.Compare(s.nonce, n) })
	switch {
	case found:
		return list[i].seq, true
	case i == 0 && len(list) > 0:
		return 0, true
	}
	list = slices.Insert(list, i, stamp{nonce, seq})
	s.devices[d] = list[max(0, len(list)-s.window):]
	return 0, false
}

func (s *Store) keep(m *store.Message, r store.Result, bucket uint64) {
	name := channelOf(m)
	c := s.channels[name]
	c.kept = append(c.kept, message{bytes.Clone(m.Frame), bucket})
	for i, user := range m.Inbox {
		if !slices.ContainsFunc(m.Inbox[:i], func(u []byte) bool { return bytes.Equal(u, user) }) {
			e := entry{store.Ref{Pos: r.Pos, Channel: name, Seq: r.Seq}, bucket}
			s.inboxes[string(user)] = append(s.inboxes[string(user)], e)
		}
	}
}

func channelOf(m *store.Message) store.Channel {
	return store.Channel{Kind: m.Kind, Name: string(m.Name)}
}

// Head is store.Store's.
func (s *Store) Head(c store.Channel) (store.Head, error) {
	if err := s.enter(); err != nil {
		return store.Head{}, err
	}
	defer s.mu.Unlock()
	if l := s.channels[c]; l != nil {
		return store.Head{First: l.first, Seq: l.head}, nil
	}
	return store.Head{First: 1}, nil
}

// Read is store.Store's.
func (s *Store) Read(c store.Channel, from uint64, limit, maxBytes int, dst []byte) (frames []byte, first, next uint64, n int, err error) {
	if err := s.enter(); err != nil {
		return dst, 0, from, 0, err
	}
	defer s.mu.Unlock()
	next = max(from, 1)
	l := s.channels[c]
	if l == nil {
		return dst, 0, next, 0, nil
	}
	next = max(next, l.first)
	for begin := len(dst); next <= l.head && n < limit; n++ {
		f := l.kept[next-l.first].frame
		if n > 0 && len(dst)-begin+len(f) > maxBytes {
			break
		}
		if n == 0 {
			first = next
		}
		dst = append(dst, f...)
		next++
	}
	return dst, first, next, n, nil
}

// Inbox is store.Store's.
func (s *Store) Inbox(user string, after uint64, limit int, dst []store.Ref) ([]store.Ref, uint64, error) {
	if err := s.enter(); err != nil {
		return dst, after, err
	}
	defer s.mu.Unlock()
	all := s.inboxes[user]
	i := sort.Search(len(all), func(i int) bool { return all[i].ref.Pos > after })
	for n := 0; n < limit; n++ {
		if i == len(all) {
			return dst, max(after, s.place), nil
		}
		dst, after = append(dst, all[i].ref), all[i].ref.Pos
		i++
	}
	return dst, after, nil
}

// InboxFirst is store.Store's.
func (s *Store) InboxFirst(string) (uint64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return s.covered, nil
}

// Nonce is store.Store's.
func (s *Store) Nonce(user, dev string) (uint64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if list := s.devices[device{user, dev}]; len(list) > 0 {
		return list[len(list)-1].nonce, nil
	}
	return 0, nil
}

// Trim is store.Store's.
func (s *Store) Trim(c store.Channel, below uint64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if l := s.channels[c]; l != nil {
		l.trim(below)
	}
	return nil
}

func (l *channel) trim(below uint64) {
	if below = min(below, l.head+1); below > l.first {
		l.kept = slices.Clone(l.kept[below-l.first:])
		l.first = below
	}
}

// Expire is store.Store's.
func (s *Store) Expire(before uint64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	due := func(bucket uint64) bool { return bucket < before/s.bucket }
	for _, l := range s.channels {
		n := sort.Search(len(l.kept), func(i int) bool { return !due(l.kept[i].bucket) })
		l.trim(l.first + uint64(n))
	}
	for user, all := range s.inboxes {
		n := sort.Search(len(all), func(i int) bool { return !due(all[i].bucket) })
		if s.inboxes[user] = slices.Clone(all[n:]); n == len(all) {
			delete(s.inboxes, user)
		}
	}
	for len(s.ends) > 0 && due(s.ends[0].bucket) {
		s.covered, s.ends = s.ends[0].place, s.ends[1:]
	}
	return nil
}

// Close is store.Store's.
func (s *Store) Close() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
