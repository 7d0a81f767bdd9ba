package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gannet/codec"
	"gannet/store"
	"gannet/store/memory"
)

// Model compares a store with store/memory under random operations. open makes an empty store with Window and Bucket;
// reopen closes a store and opens it again, or is nil.
func Model(t *testing.T, open func() store.Store, reopen func(store.Store) store.Store) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			real: open(), twin: memory.New(memory.Options{Window: Window}), reopen: reopen,
			nonces: map[string][]uint64{}, time: Day,
		}
		defer func() { _ = m.real.Close() }()
		actions := map[string]func(*rapid.T){
			"append": m.append, "append more": m.append, "trim": m.trim, "expire": m.expire, "put": m.put,
			"read": m.read, "inbox": m.inbox, "scan": m.scan, "": m.check,
		}
		if reopen != nil {
			actions["reopen"] = func(*rapid.T) { m.real = m.reopen(m.real) }
		}
		t.Repeat(actions)
	})
}

// model is a store and its twin in memory, which must answer alike.
type model struct {
	real, twin store.Store
	reopen     func(store.Store) store.Store
	time       uint64
	nonces     map[string][]uint64 // by device: those stored, ascending
}

var (
	modelChannels = []store.Channel{
		topic("a"), topic("aa"), {Kind: codec.KindGroup, Name: "a"}, {Kind: codec.KindDirect, Name: "ann\x1fbob"}, {Kind: codec.KindAll, Name: "all"},
	}
	modelUsers = []string{"ann", "anna", "bob", "zoe"}
)

func same(t *rapid.T, what string, got, wanted any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", wanted); g != w {
		t.Fatalf("%s is %s, the model's %s", what, g, w)
	}
}

func (m *model) append(t *rapid.T) {
	n := rapid.IntRange(0, 30).Draw(t, "messages")
	m.time = uint64(int64(m.time) + rapid.SampledFrom([]int64{0, 0, 0, 1000, Bucket / 2, Bucket, -Bucket, 3 * Bucket}).Draw(t, "time"))
	var batch, twins []store.Message
	for range n {
		c := rapid.SampledFrom(modelChannels).Draw(t, "channel")
		v := msg{
			kind: c.Kind, name: c.Name, time: m.time,
			payload: string(bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 5, 5, 200, 200, 200, 20_000}).Draw(t, "size"))),
			inbox:   rapid.SliceOfN(rapid.SampledFrom(modelUsers), 0, 3).Draw(t, "inbox"),
		}
		if v.from = rapid.SampledFrom(modelUsers).Draw(t, "from"); rapid.Bool().Draw(t, "has a device") {
			v.from += "/d"
			v.nonce = m.nonce(t, v.from)
		}
		if rapid.IntRange(0, 20).Draw(t, "bad") == 0 {
			v.name = ""
		}
		batch, twins = append(batch, v.message()), append(twins, v.message())
	}
	got, wanted := make([]store.Result, n), make([]store.Result, n)
	same(t, "error", m.real.Append(batch, got), m.twin.Append(twins, wanted))
	same(t, "results", got, wanted)
	for i := range batch {
		if !bytes.Equal(batch[i].Frame, twins[i].Frame) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

// nonce draws a new nonce, one that a device used, or one between. It keeps to the last Window: below them a store may know more
// than it must. Whether it was stored need not be known here: an odd one may be drawn again.
func (m *model) nonce(t *rapid.T, device string) (n uint64) {
	used := m.nonces[device]
	last := uint64(10)
	if len(used) > 0 {
		last = used[len(used)-1]
	}
	kept := used[max(0, len(used)-Window):]
	switch kind := rapid.IntRange(0, 9).Draw(t, "nonce"); {
	case kind < 6 || len(kept) == 0:
		n = last + rapid.Uint64Range(1, 5).Draw(t, "step")
	case kind < 8:
		n = rapid.SampledFrom(kept).Draw(t, "used")
	default:
		n = rapid.Uint64Range(kept[0], last).Draw(t, "between")
	}
	if i, found := slices.BinarySearch(used, n); !found {
		m.nonces[device] = slices.Insert(used, i, n)
	}
	return n
}

func (m *model) trim(t *rapid.T) {
	c := rapid.SampledFrom(modelChannels).Draw(t, "channel")
	h, _ := m.twin.Head(c)
	below := rapid.Uint64Range(0, h.Seq+3).Draw(t, "below")
	same(t, "error", m.real.Trim(c, below), m.twin.Trim(c, below))
}

func (m *model) expire(t *rapid.T) {
	before := uint64(int64(m.time) - rapid.SampledFrom([]int64{-Bucket, 0, Bucket, 2 * Bucket, 5 * Bucket}).Draw(t, "age"))
	same(t, "error", m.real.Expire(before), m.twin.Expire(before))
}

func (m *model) put(t *rapid.T) {
	var list []store.Record
	for range rapid.IntRange(0, 4).Draw(t, "records") {
		r := store.Record{Owner: rapid.SampledFrom(modelUsers).Draw(t, "owner"), Key: rapid.StringMatching(`[ab\x00]{0,2}`).Draw(t, "key")}
		if rapid.IntRange(0, 3).Draw(t, "removed") > 0 {
			r.Value = rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value")
		}
		list = append(list, r)
	}
	sync := rapid.Bool().Draw(t, "sync")
	same(t, "error", m.real.Put(list, sync), m.twin.Put(list, sync))
}

func (m *model) read(t *rapid.T) {
	c := rapid.SampledFrom(modelChannels).Draw(t, "channel")
	h, _ := m.twin.Head(c)
	from := rapid.Uint64Range(0, h.Seq+3).Draw(t, "from")
	limit := rapid.IntRange(0, 60).Draw(t, "limit")
	room := rapid.SampledFrom([]int{0, 100, 1000, 100_000, 1 << 30}).Draw(t, "bytes")
	answer := func(s store.Store) string {
		b, first, next, n, err := s.Read(c, from, limit, room, nil)
		sum := sha256.Sum256(b)
		return fmt.Sprintf("%d bytes %x, first %d, next %d, %d, %v", len(b), sum[:8], first, next, n, err)
	}
	same(t, "page", answer(m.real), answer(m.twin))
}

func (m *model) inbox(t *rapid.T) {
	user := rapid.SampledFrom(modelUsers).Draw(t, "user")
	after := rapid.Uint64Range(0, m.twin.Place()+3).Draw(t, "after")
	limit := rapid.IntRange(0, 60).Draw(t, "limit")
	answer := func(s store.Store) string {
		refs, next, err := s.Inbox(user, after, limit, nil)
		return fmt.Sprint(refs, next, err)
	}
	same(t, "inbox", answer(m.real), answer(m.twin))
}

func (m *model) scan(t *rapid.T) {
	owner := rapid.SampledFrom(modelUsers).Draw(t, "owner")
	after := rapid.StringMatching(`[ab\x00]{0,2}`).Draw(t, "after")
	limit := rapid.IntRange(0, 5).Draw(t, "limit")
	answer := func(s store.Store) string {
		list, err := s.Scan(owner, after, limit)
		v, err2 := s.Get(owner, after)
		return fmt.Sprintf("%q %v %q %v %v", list, err, v, v == nil, err2)
	}
	same(t, "records", answer(m.real), answer(m.twin))
}

func (m *model) check(t *rapid.T) {
	answer := func(s store.Store) string {
		text := fmt.Sprint("place ", s.Place())
		for _, c := range modelChannels {
			h, err := s.Head(c)
			text += fmt.Sprintf(" %v %+v %v", c, h, err)
		}
		for _, u := range modelUsers {
			n, err := s.Nonce(u, "d")
			first, err2 := s.InboxFirst(u)
			text += fmt.Sprint(" ", u, " ", n, err, " ", first, err2)
		}
		return text
	}
	same(t, "state", answer(m.real), answer(m.twin))
}
