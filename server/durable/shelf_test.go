package durable

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
	"gannet/store/pebble"
)

// day is when the messages of tests are said, unless they say when.
const day = 20_000 * store.DefaultBucket

// shelf is a log without shards and committer: tests fill its store by hand and read it.
type shelf struct {
	testing.TB
	l   *Log
	w   *reader
	now atomic.Uint64 // Unix milliseconds
}

func newShelf(t testing.TB, open func() (store.Store, error)) *shelf {
	t.Helper()
	s := &shelf{TB: t}
	s.now.Store(day)
	l, err := New(Options{Open: open, Now: s.now.Load, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.current().Close() })
	s.l, s.w = l, &reader{r: &readers{l: l}, l: l}
	return s
}

func inMemory() (store.Store, error) { return memory.New(memory.Options{}), nil }

func onDisk(t testing.TB) func() (store.Store, error) {
	dir := t.TempDir()
	return func() (store.Store, error) {
		return pebble.Open(dir, pebble.Options{Cache: 8 << 20, Memtable: 4 << 20, Logger: slog.New(slog.DiscardHandler)})
	}
}

// eachStore runs a test over both stores.
func eachStore(t *testing.T, test func(t *testing.T, s *shelf)) {
	t.Run("memory", func(t *testing.T) { test(t, newShelf(t, inMemory)) })
	t.Run("pebble", func(t *testing.T) { test(t, newShelf(t, onDisk(t))) })
}

// line is a message as tests write it.
type line struct {
	kind  codec.Kind
	name  string
	from  string
	text  string
	ttl   uint32 // seconds; 0: none
	tags  []string
	inbox []string
}

// direct is a message of one user to another.
func direct(from, to, text string) line {
	return line{kind: codec.KindDirect, name: pairOf(from, to), from: from, text: text, inbox: []string{from, to}}
}

func pairOf(a, b string) string { return string(codec.AppendPair(nil, []byte(a), []byte(b))) }

// posted is a message of ann in a topic, a group or all.
func posted(kind codec.Kind, name, text string, tags ...string) line {
	return line{kind: kind, name: name, from: "ann", text: text, tags: tags}
}

// say stores messages, each in a commit of its own, and returns the places they got.
func (s *shelf) say(lines ...line) (places []uint64) {
	s.Helper()
	for _, m := range lines {
		var ext codec.TLVs
		if m.ttl > 0 {
			ext = ext.AppendUint32(codec.TagTTL, m.ttl)
		}
		for _, tag := range m.tags {
			ext = ext.Append(codec.TagRoute, []byte(tag))
		}
		e := store.Message{Kind: m.kind, Name: []byte(m.name), User: []byte(m.from), Time: s.now.Load()}
		e.Frame = codec.AppendMsg(nil, codec.Msg{Ext: ext, Flags: codec.MsgDurable, Kind: m.kind, Name: e.Name, Time: e.Time,
			Sender: e.User, Content: codec.ContentText, Payload: []byte(m.text)})
		for _, u := range m.inbox {
			e.Inbox = append(e.Inbox, []byte(u))
		}
		results := make([]store.Result, 1)
		if err := s.l.current().Append([]store.Message{e}, results); err != nil || results[0].Code != codec.CodeOK {
			s.Fatalf("storing %+v: %v, %v", m, results[0], err)
		}
		places = append(places, results[0].Pos)
	}
	return places
}

// put stores a record.
func (s *shelf) put(owner, key string, value []byte) {
	s.Helper()
	if err := s.l.current().Put([]store.Record{{Owner: owner, Key: key, Value: value}}, false); err != nil {
		s.Fatal(err)
	}
}

func (s *shelf) device(user, device string, pos uint64, logs ...logMark) {
	s.put(ownerDevices, deviceKey(user, device), deviceRecord{Seen: day, Pos: pos, Logs: logs}.append(nil))
}

// group stores a group whose members joined with the seqs given; those it had before and has no more are removed.
func (s *shelf) group(g group, joined map[string]uint64) {
	s.Helper()
	g.Since, g.Changed, g.Post = max(1, g.Since), max(1, g.Since), RoleMember
	old, err := s.l.groups.get(g.Name)
	if err != nil {
		s.Fatal(err)
	}
	if old != nil {
		for _, m := range old.all() {
			s.put(groupOwner(g.Name), memberPrefix+m.User, nil)
			s.put(userGroupsOwner(m.User), g.Name, nil)
		}
	}
	s.put(groupOwner(g.Name), metaKey, g.meta(false))
	s.put(groupOwner(g.Name), memberPrefix+"root", member{Role: RoleOwner, Joined: 1}.append(nil))
	for user, seq := range joined {
		s.put(groupOwner(g.Name), memberPrefix+user, member{Role: RoleMember, Joined: seq}.append(nil))
		s.put(userGroupsOwner(user), g.Name, []byte{})
	}
	s.l.groups.mu.Lock()
	s.l.groups.forget(g.Name)
	s.l.groups.mu.Unlock()
}

// ask has a read answered here and now.
func (s *shelf) ask(q shard.Read) *shard.Read {
	s.w.answer(&q)
	return &q
}

var reasons = map[uint8]string{codec.GapExpired: "expired", codec.GapNoRight: "no right", codec.GapFiltered: "filtered", codec.GapNotSent: "not sent"}

// show writes frames as text: "name:seq text" for a MSG, others by their type.
func show(t testing.TB, frames []byte) string {
	t.Helper()
	var list []string
	for len(frames) > 0 {
		f, n, err := codec.ConsumeFrame(frames, codec.MaxBody)
		if err != nil || n == 0 {
			t.Fatalf("no frame: %x (%v)", frames, err)
		}
		frames = frames[n:]
		var text string
		switch f.Type {
		case codec.TypeMsg:
			m, err2 := codec.ConsumeMsg(f)
			text, err = fmt.Sprintf("%s:%d %s", m.Name, m.Seq, m.Payload), err2
		case codec.TypeGap:
			g, err2 := codec.ConsumeGap(f)
			text, err = fmt.Sprintf("GAP %s:%d-%d %s", g.Name, g.From, g.To, reasons[g.Reason]), err2
		case codec.TypeRange:
			r, err2 := codec.ConsumeRange(f)
			text, err = fmt.Sprintf("RANGE %d %v n=%d next=%d", r.Req, r.Code, r.Count, r.Next), err2
		case codec.TypeReceipt:
			r, err2 := codec.ConsumeReceipt(f)
			text, err = fmt.Sprintf("RECEIPT %s:%d mode=%d %s", r.Name, r.Seq, r.Mode, r.User), err2
		case codec.TypeListed:
			l, err2 := codec.ConsumeListed(f)
			text, err = fmt.Sprintf("LISTED %d %v", l.Req, l.Code), err2
			for c := range l.Conversations.All() {
				text += fmt.Sprintf(" %s=%d/%d/%d", c.Name, c.Head, c.Delivered, c.Read)
			}
		default:
			t.Fatalf("a frame of type %v", f.Type)
		}
		if err != nil {
			t.Fatalf("%v: %v", f.Type, err)
		}
		list = append(list, strings.ReplaceAll(text, sep, "+"))
	}
	return strings.Join(list, ", ")
}

// ill is a real store with a fault.
type ill struct {
	store.Store
	fault func(call string) error
}

func (s ill) Place() uint64 {
	_ = s.fault("Place")
	return s.Store.Place()
}

func (s ill) Head(c store.Channel) (store.Head, error) {
	if err := s.fault("Head " + c.Name); err != nil {
		return store.Head{}, err
	}
	return s.Store.Head(c)
}

func (s ill) Read(c store.Channel, from uint64, limit, maxBytes int, dst []byte) ([]byte, uint64, uint64, int, error) {
	if err := s.fault("Read " + c.Name); err != nil {
		return dst, 0, from, 0, err
	}
	return s.Store.Read(c, from, limit, maxBytes, dst)
}

func illShelf(t testing.TB, fault func(call string) error) *shelf {
	return newShelf(t, func() (store.Store, error) { return ill{memory.New(memory.Options{}), fault}, nil })
}
