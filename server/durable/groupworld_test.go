package durable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
)

// groupWorld is a Log over a store that outlives it, whose committer tells a groupEar instead of shards.
type groupWorld struct {
	*Log
	t     testing.TB
	store *gatedStore
	ear   *groupEar
}

// gatedStore is a store whose writes and reads a test can have fail or wait. Close leaves what it wraps open.
type gatedStore struct {
	store.Store
	mu     sync.Mutex
	putErr error                           // guarded by mu; of the next Put, which writes nothing
	onScan func(owner, after string) error // guarded by mu; called before each Scan
}

func (s *gatedStore) Put(records []store.Record, sync bool) error {
	s.mu.Lock()
	err := s.putErr
	if ofGroups(records) {
		s.putErr = nil
	} else {
		err = nil
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Store.Put(records, sync)
}

func ofGroups(records []store.Record) bool {
	return slices.ContainsFunc(records, func(r store.Record) bool { return strings.HasPrefix(r.Owner, groupOwner("")) })
}

func (s *gatedStore) Scan(owner, after string, limit int) ([]store.Record, error) {
	s.mu.Lock()
	f := s.onScan
	s.mu.Unlock()
	if f != nil {
		if err := f(owner, after); err != nil {
			return nil, err
		}
	}
	return s.Store.Scan(owner, after, limit)
}

func (s *gatedStore) scans(f func(owner, after string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onScan = f
}

func (s *gatedStore) failPut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putErr = err
}

func (s *gatedStore) Close() error { return nil }

// quietHost is the server of a node without connections.
type quietHost struct{}

func (quietHost) Authenticate(shard.AuthRequest) bool    { return false }
func (quietHost) Event(shard.Event)                      {}
func (quietHost) Refused(shard.Conn, codec.Code, string) {}
func (quietHost) Now() int64                             { return 1 }
func (quietHost) UnixMilli() uint64                      { return groupsNow }

const groupsNow = 1_767_225_600_000

func newGroupWorld(t testing.TB, change ...func(*Options)) *groupWorld {
	return groupWorldOn(t, memory.New(memory.Options{}), change...)
}

func groupWorldOn(t testing.TB, s store.Store, change ...func(*Options)) *groupWorld {
	t.Helper()
	w := &groupWorld{t: t, store: &gatedStore{Store: s}, ear: newGroupEar()}
	o := Options{
		Open: func() (store.Store, error) { return w.store, nil }, Logger: slog.New(slog.DiscardHandler),
		Now: func() uint64 { return groupsNow }, InboxFanout: 4,
	}
	for _, f := range change {
		f(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Log = l
	l.timing.flush = 5 * time.Millisecond
	l.timing.backoff = func(int) time.Duration { return time.Millisecond }
	l.Start(shard.NewNode(shard.Config{Shards: 1, Node: "n", Log: l}, quietHost{}, quietHost{}))
	t.Cleanup(func() { _ = l.Close() })
	if err := l.do(t.Context(), func(c *committer) error { c.courier = w.ear; return nil }); err != nil {
		t.Fatal(err)
	}
	return w
}

// change makes a change that must come about.
func (w *groupWorld) change(ch Change) ChangeResult {
	w.t.Helper()
	r, err := w.Change(w.t.Context(), ch)
	if err != nil {
		w.t.Fatalf("%+v: %v", ch, err)
	}
	return r
}

// refuse makes a change that must not.
func (w *groupWorld) refuse(ch Change, want error, says string) {
	w.t.Helper()
	if _, err := w.Change(w.t.Context(), ch); !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), says) {
		w.t.Errorf("%+v: %v, want %v and %q in it", ch, err, want, says)
	}
}

// await waits until something holds that another goroutine brings about.
func (w *groupWorld) await(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it does not come about that %s", what)
		}
	}
}

// group is a group that must be there.
func (w *groupWorld) group(name string) *group {
	w.t.Helper()
	g, err := w.groups.get(name)
	if g == nil || err != nil {
		w.t.Fatalf("group %q: %v, %v", name, g, err)
	}
	return g
}

// entry is an entry of a group's log.
type groupEntry struct {
	codec.Msg
	event eventKind
	says  eventPayload
}

// entries is all of a group's log.
func (w *groupWorld) entries(name string) (all []groupEntry) {
	w.t.Helper()
	frames, _, _, n, err := w.store.Read(store.Channel{Kind: codec.KindGroup, Name: name}, 1, 1<<20, 1<<30, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for range n {
		f, size, err := codec.ConsumeFrame(frames, codec.LoginLimit)
		if err != nil || size == 0 {
			w.t.Fatalf("an entry of group %q is no frame of at most %d bytes: %v", name, codec.LoginLimit, err)
		}
		frames = frames[size:]
		all = append(all, w.entry(f))
	}
	return all
}

func (w *groupWorld) entry(f codec.Frame) (e groupEntry) {
	w.t.Helper()
	var err error
	if e.Msg, err = codec.ConsumeMsg(f); err != nil {
		w.t.Fatal(err)
	}
	tag, _ := e.Ext.Get(codec.TagEvent)
	d := json.NewDecoder(bytes.NewReader(e.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&e.says); err != nil || len(tag) != 1 || int(tag[0]) >= len(eventNames) || eventNames[tag[0]] != e.says.Event ||
		e.Content != codec.ContentJSON || e.Kind != codec.KindGroup || e.Flags&^codec.MsgLog != codec.MsgDurable || e.Time != groupsNow {
		w.t.Fatalf("entry %+v: %v, tag %v", e.Msg, err, tag)
	}
	e.event = eventKind(tag[0])
	return e
}

// refs is what a user's inbox has: channel name and seq.
func (w *groupWorld) refs(user string) (all []string) {
	w.t.Helper()
	refs, _, err := w.store.Inbox(user, 0, 1<<20, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range refs {
		all = append(all, fmt.Sprint(r.Channel.Name, " ", r.Seq))
	}
	return all
}

// groupEar hears what the committer tells: a session for each user that is asked for.
type groupEar struct {
	heard map[string]map[uint64]bool // "user group" → seqs
	lines []string
	rooms map[string]map[string]uint64 // group → user → the seq that it knew when it joined
}

func newGroupEar() *groupEar {
	return &groupEar{heard: map[string]map[uint64]bool{}, rooms: map[string]map[string]uint64{}}
}

func (e *groupEar) hear(how, user string, frame []byte) {
	f, _, _ := codec.ConsumeFrame(frame, codec.MaxBody)
	m, _ := codec.ConsumeMsg(f)
	key := user + " " + string(m.Name)
	if e.heard[key] == nil {
		e.heard[key] = map[uint64]bool{}
	}
	if e.heard[key][m.Seq] {
		how = "AGAIN " + how
	}
	e.heard[key][m.Seq] = true
	e.lines = append(e.lines, fmt.Sprint(how, " ", user, " ", m.Seq))
}

func (e *groupEar) Answer(shard.Answer) {}
func (e *groupEar) Inbox(user []byte, place uint64, frame []byte, _ int64, _ shard.SessionRef) {
	e.hear(fmt.Sprint("inbox@", place), string(user), frame)
}
func (e *groupEar) User(user []byte, frame []byte, _ int64, _ shard.SessionRef) {
	e.hear("user", string(user), frame)
}
func (e *groupEar) Room(_ codec.Kind, name []byte, seq uint64, frame []byte, _ int64) {
	for user, after := range e.rooms[string(name)] {
		if seq > after {
			e.hear("room", user, frame)
		}
	}
}
func (e *groupEar) Join(user []byte, group string, after uint64) {
	if e.rooms[group] == nil {
		e.rooms[group] = map[string]uint64{}
	}
	e.rooms[group][string(user)] = after
	e.lines = append(e.lines, fmt.Sprint("join ", string(user), " ", after))
}
func (e *groupEar) Leave(user []byte, group string) {
	delete(e.rooms[group], string(user))
	e.lines = append(e.lines, fmt.Sprint("leave ", string(user)))
}
func (e *groupEar) Send(<-chan struct{}) bool { return true }

// take returns what was told since the last time, sorted: users of a room are told in any order.
func (e *groupEar) take() []string {
	lines := e.lines
	e.lines = nil
	slices.Sort(lines)
	return lines
}
