package storetest

import (
	"bytes"
	"fmt"
	"testing"

	"gannet/codec"
	"gannet/store"
)

// Window is the number of nonces that stores under test are opened with, Bucket the milliseconds of a bucket, Day a time
// to begin at.
const (
	Window = 16
	Bucket = store.DefaultBucket
	Day    = 20_000 * Bucket
)

// suite is what the tests are given.
type suite struct {
	open   func(t *testing.T) store.Store
	reopen func(s store.Store) store.Store // closes s; nil: what was stored does not outlive Close
}

// Run runs the suite. open makes an empty store with Window and Bucket and closes it when the test ends, at the
// latest; reopen closes a store and opens it again (the suite closes that), or is nil.
func Run(t *testing.T, open func(t *testing.T) store.Store, reopen func(s store.Store) store.Store) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, x suite)
	}{
		{"Empty", testEmpty},
		{"Append", testAppend},
		{"FramesComeBack", testFramesComeBack},
		{"Names", testNames},
		{"Invalid", testInvalid},
		{"Read", testRead},
		{"ReadBytes", testReadBytes},
		{"ManyChannels", testManyChannels},
		{"Inbox", testInbox},
		{"InboxMany", testInboxMany},
		{"Dedupe", testDedupe},
		{"DedupeOdd", testDedupeOdd},
		{"DedupeWindow", testDedupeWindow},
		{"DedupeOddWindow", testDedupeOddWindow},
		{"DedupeManyDevices", testDedupeManyDevices},
		{"Records", testRecords},
		{"RecordOwners", testRecordOwners},
		{"RecordLimits", testRecordLimits},
		{"Trim", testTrim},
		{"TrimAll", testTrimAll},
		{"Expire", testExpire},
		{"ExpireAll", testExpireAll},
		{"ExpireManyChannels", testExpireManyChannels},
		{"TimeGoesBack", testTimeGoesBack},
		{"Reopen", testReopen},
		{"Closed", testClosed},
		{"Readers", testReaders},
		{"ReadersAndRetention", testReadersAndRetention},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := suite{open: open}
			if reopen != nil {
				x.reopen = func(s store.Store) store.Store {
					s = reopen(s)
					t.Cleanup(func() { _ = s.Close() })
					return s
				}
			}
			c.run(t, x)
		})
	}
}

// msg is a message as tests write it.
type msg struct {
	kind    codec.Kind // 0: topic
	name    string
	from    string // user/device, or user alone
	nonce   uint64
	time    uint64 // 0: Day
	payload string
	ext     codec.TLVs
	inbox   []string
}

func (m msg) message() store.Message {
	if m.kind == 0 {
		m.kind = codec.KindTopic
	}
	if m.time == 0 {
		m.time = Day
	}
	user, device, _ := bytes.Cut([]byte(m.from), []byte("/"))
	s := store.Message{Kind: m.kind, Name: []byte(m.name), User: user, Device: device, Nonce: m.nonce, Time: m.time}
	s.Frame = codec.AppendMsg(nil, codec.Msg{
		Ext: m.ext, Flags: codec.MsgDurable, Kind: m.kind, Name: s.Name, Time: m.time, Sender: user, Payload: []byte(m.payload),
	})
	for _, u := range m.inbox {
		s.Inbox = append(s.Inbox, []byte(u))
	}
	return s
}

// put appends messages as one batch.
func put(t testing.TB, s store.Store, list ...msg) []store.Result {
	t.Helper()
	batch := make([]store.Message, len(list))
	for i, m := range list {
		batch[i] = m.message()
	}
	results := make([]store.Result, len(list)+1)
	if err := s.Append(batch, results); err != nil {
		t.Fatalf("Append: %v", err)
	}
	if results[len(list)] != (store.Result{}) {
		t.Fatal("Append wrote a result for no message")
	}
	return results[:len(list)]
}

// want compares two values as they print.
func want(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s is %s, want %s", what, g, w)
	}
}

func topic(name string) store.Channel { return store.Channel{Kind: codec.KindTopic, Name: name} }

func head(t testing.TB, s store.Store, c store.Channel) store.Head {
	t.Helper()
	h, err := s.Head(c)
	if err != nil {
		t.Fatalf("Head of %v: %v", c, err)
	}
	return h
}

// page is one answer of Read, its frames read.
type page struct {
	first, next uint64
	msgs        []codec.Msg
}

func read(t testing.TB, s store.Store, c store.Channel, from uint64, limit, maxBytes int) page {
	t.Helper()
	prefix := []byte("before")
	b, first, next, n, err := s.Read(c, from, limit, maxBytes, bytes.Clone(prefix))
	if err != nil {
		t.Fatalf("Read of %v from %d: %v", c, from, err)
	}
	if !bytes.HasPrefix(b, prefix) {
		t.Fatal("Read does not append")
	}
	p := page{first: first, next: next, msgs: frames(t, b[len(prefix):])}
	if len(p.msgs) != n {
		t.Fatalf("Read of %v says %d frames and gives %d", c, n, len(p.msgs))
	}
	for i, m := range p.msgs {
		if m.Seq != first+uint64(i) || m.Kind != c.Kind || string(m.Name) != c.Name {
			t.Fatalf("Read of %v from %d: frame %d is seq %d of %v %q, first is %d", c, from, i, m.Seq, m.Kind, m.Name, first)
		}
	}
	if n > 0 && next != first+uint64(n) || n == 0 && first != 0 {
		t.Fatalf("Read of %v from %d: %d frames, first %d, next %d", c, from, n, first, next)
	}
	return p
}

func frames(t testing.TB, b []byte) (list []codec.Msg) {
	t.Helper()
	for len(b) > 0 {
		f, n, err := codec.ConsumeFrame(b, codec.MaxBody)
		if err != nil || n == 0 {
			t.Fatalf("no frame: %v", err)
		}
		m, err := codec.ConsumeMsg(f)
		if err != nil {
			t.Fatalf("no MSG: %v", err)
		}
		list, b = append(list, m), b[n:]
	}
	return list
}

// payloads reads a channel to its end, in pages.
func payloads(t testing.TB, s store.Store, c store.Channel, from uint64, limit int) (list []string) {
	t.Helper()
	for {
		p := read(t, s, c, from, limit, 1<<30)
		if len(p.msgs) == 0 {
			return list
		}
		for _, m := range p.msgs {
			list = append(list, string(m.Payload))
		}
		from = p.next
	}
}

func inbox(t testing.TB, s store.Store, user string, after uint64, limit int) ([]store.Ref, uint64) {
	t.Helper()
	refs, next, err := s.Inbox(user, after, limit, make([]store.Ref, 1))
	if err != nil {
		t.Fatalf("Inbox of %q: %v", user, err)
	}
	if len(refs) == 0 || refs[0] != (store.Ref{}) {
		t.Fatal("Inbox does not append")
	}
	return refs[1:], next
}

func inboxFirst(t testing.TB, s store.Store, user string) uint64 {
	t.Helper()
	first, err := s.InboxFirst(user)
	if err != nil {
		t.Fatalf("InboxFirst of %q: %v", user, err)
	}
	return first
}

func highest(t testing.TB, s store.Store, user, device string) uint64 {
	t.Helper()
	n, err := s.Nonce(user, device)
	if err != nil {
		t.Fatalf("Nonce of %q %q: %v", user, device, err)
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
