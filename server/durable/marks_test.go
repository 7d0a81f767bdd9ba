package durable

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

// inboxAt says that a user's phone has its inbox up to a place.
func inboxAt(user string, pos uint64) shard.Mark {
	return shard.Mark{User: user, Device: "phone", Mode: codec.AckDelivered, Kind: codec.KindInbox, Seq: pos}
}

// markAt says that a user's phone has a channel up to a seq.
func markAt(user string, mode uint8, kind codec.Kind, name string, seq uint64) shard.Mark {
	return shard.Mark{User: user, Device: "phone", Mode: mode, Kind: kind, Name: name, Seq: seq}
}

// flushed waits until all positions are written and let go of, so that what is read comes from the store.
func (p *post) flushed() {
	p.t.Helper()
	within(p.t, "a flush", func() bool { return p.marks.depth() == 0 })
}

func (p *post) wantDevice(user string, want deviceRecord) {
	p.t.Helper()
	if rec, known, err := p.device(user, "phone"); err != nil || !known || !reflect.DeepEqual(rec, want) {
		p.t.Errorf("%s's phone is at %+v (known %v, %v), want %+v", user, rec, known, err, want)
	}
}

func (p *post) wantConv(user string, kind codec.Kind, name string, want convRecord) {
	p.t.Helper()
	if rec, _, err := p.conv(user, kind, name); err != nil || rec != want {
		p.t.Errorf("%s's side of %q is %+v (%v), want %+v", user, name, rec, err, want)
	}
}

// unhurried is a log whose marks are not flushed by themselves.
func unhurried(l *Log) { l.timing.flush = time.Hour }

func TestPositionsOfDevices(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		p := newPost(t, open)
		for n := range uint64(5) {
			p.send(note("ann", n+1, codec.KindDirect, "bob", "x"))
		}
		p.seen("bob", "phone", 0, nil)
		p.wantDevice("bob", deviceRecord{Seen: postNow})
		p.now.Add(10)
		p.Mark([]shard.Mark{inboxAt("bob", 3), inboxAt("bob", 2), inboxAt("bob", 99), inboxAt("bob", 0)})
		p.wantDevice("bob", deviceRecord{Seen: postNow + 10, Pos: 3})
		p.flushed()
		p.wantDevice("bob", deviceRecord{Seen: postNow + 10, Pos: 3})
		p.Mark([]shard.Mark{inboxAt("bob", 1)})
		p.flushed()
		p.wantDevice("bob", deviceRecord{Seen: postNow + 10, Pos: 3})
		p.now.Add(10)
		p.Mark([]shard.Mark{{User: "bob", Device: "phone", Gone: true}, {User: "eve", Device: "phone", Gone: true}})
		p.flushed()
		p.wantDevice("bob", deviceRecord{Seen: postNow + 20, Pos: 3})
		if _, known, err := p.device("eve", "phone"); known || err != nil {
			t.Errorf("a device that never logged in is known (%v)", err)
		}
		if s := p.Stats(); s.MarksIgnored != 1 {
			t.Errorf("%d marks were ignored, want 1", s.MarksIgnored)
		}
	})
}

func TestPositionsAreReadBeforeTheyAreWritten(t *testing.T) {
	p := newPost(t, inMemory, before(unhurried))
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"), note("ann", 2, codec.KindDirect, "bob", "y"))
	name := pairOf("ann", "bob")
	p.wantConv("ann", codec.KindDirect, name, convRecord{Read: 2}) // what one has said oneself, one has read
	p.seen("bob", "phone", 0, []logMark{{codec.KindAll, codec.AllName, 7}})
	p.seen("bob", "phone", 1, []logMark{{codec.KindAll, codec.AllName, 5}, {codec.KindGroup, "g", 1}})
	p.wantDevice("bob", deviceRecord{Seen: postNow, Pos: 1, Logs: []logMark{{codec.KindAll, codec.AllName, 7}, {codec.KindGroup, "g", 1}}})
	p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, 1)})
	p.wantConv("bob", codec.KindDirect, name, convRecord{Delivered: 1, Read: 1})
	if v, _ := p.current().Get(ownerDevices, deviceKey("bob", "phone")); v != nil {
		t.Error("the device was written, this test shows nothing")
	}
}

func TestPositionsInLogs(t *testing.T) {
	p := newPost(t, inMemory, option(func(o *Options) { o.InboxFanout = 2 }))
	withGroup(t, p, "crowd", RoleMember, "bob", "cat")
	withGroup(t, p, "pair", RoleMember, "bob")
	a := p.send(note("ann", 1, codec.KindGroup, "crowd", "x"), note("ann", 2, codec.KindGroup, "pair", "x"), note("ann", 3, codec.KindAll, codec.AllName, "x"), note("ann", 4, codec.KindTopic, "news", "x"))
	crowd, pair := a[0].Seq, a[1].Seq
	p.seen("bob", "phone", 0, nil)
	p.Mark([]shard.Mark{
		markAt("bob", codec.AckDelivered, codec.KindGroup, "crowd", crowd), markAt("bob", codec.AckDelivered, codec.KindGroup, "pair", pair),
		markAt("bob", codec.AckDelivered, codec.KindAll, codec.AllName, 1), markAt("bob", codec.AckDelivered, codec.KindTopic, "news", 1),
		markAt("bob", codec.AckDelivered, codec.KindGroup, "nowhere", 1), markAt("bob", codec.AckDelivered, codec.KindAll, "other", 1),
		markAt("dan", codec.AckDelivered, codec.KindGroup, "crowd", crowd), markAt("cat", codec.AckDelivered, codec.KindGroup, "crowd", crowd+1),
	})
	p.flushed()
	p.wantDevice("bob", deviceRecord{Seen: postNow, Logs: []logMark{{codec.KindGroup, "crowd", crowd}, {codec.KindAll, codec.AllName, 1}}})
	p.wantConv("bob", codec.KindGroup, "crowd", convRecord{Delivered: crowd, Read: joinedAt(t, p, "crowd", "bob")})
	p.wantConv("bob", codec.KindGroup, "pair", convRecord{Delivered: pair, Read: joinedAt(t, p, "pair", "bob")})
	p.wantConv("bob", codec.KindAll, codec.AllName, convRecord{Delivered: 1})
	p.wantConv("bob", codec.KindTopic, "news", convRecord{})
	p.wantConv("dan", codec.KindGroup, "crowd", convRecord{})
	if _, known, _ := p.device("dan", "phone"); known {
		t.Error("dan is in no group, and has a device")
	}
}

// joinedAt is the read position that joining gave a member.
func joinedAt(t *testing.T, p *post, group, user string) uint64 {
	t.Helper()
	g, err := p.groups.get(group)
	if err != nil || g == nil {
		t.Fatal(group, err)
	}
	m, ok := g.member(user)
	if !ok {
		t.Fatal(user)
	}
	return m.Joined
}

func TestMarksThatCannotBe(t *testing.T) {
	p := newPost(t, inMemory)
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"))
	name := pairOf("ann", "bob")
	for _, k := range []shard.Mark{
		markAt("eve", codec.AckRead, codec.KindDirect, name, 1),
		markAt("bob", codec.AckRead, codec.KindDirect, "bob", 1),
		markAt("bob", codec.AckRead, codec.KindDirect, name, 2),
		markAt("bob", codec.AckRead, codec.KindDirect, name, 1<<63),
		markAt("bob", codec.AckRead, codec.KindDirect, pairOf("bob", "cat"), 1),
		markAt("bob", codec.AckRead, codec.KindGroup, "nowhere", 1),
		markAt("bob", codec.AckRead, codec.KindAll, "other", 1),
		markAt("bob", codec.AckRead, codec.Kind(9), "x", 1),
		markAt("bob", 3, codec.KindDirect, name, 1),
		inboxAt("bob", 2),
	} {
		ignored := p.Stats().MarksIgnored
		if n := p.Mark([]shard.Mark{k}); n != 1 {
			t.Fatalf("%+v was not taken", k)
		}
		within(t, fmt.Sprintf("the end of %+v", k), func() bool { return p.Stats().MarksIgnored > ignored })
		p.flushed()
		p.wantConv(k.User, k.Kind, k.Name, convRecord{})
	}
	if records, err := p.current().Scan(ownerDevices, "", 10); err != nil || len(records) > 0 {
		t.Errorf("devices %v (%v)", records, err)
	}
}

func TestMarksAreBounded(t *testing.T) {
	p := newPost(t, inMemory, before(func(l *Log) { l.timing.resolve = time.Hour; unhurried(l) }))
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"))
	p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, pairOf("ann", "bob"), 1)}) // from here on the marks sleep
	within(t, "a look", func() bool { p.marks.mu.Lock(); defer p.marks.mu.Unlock(); return len(p.marks.waiting) == 0 })
	var all []shard.Mark
	for i := range maxDeviceMarks + 100 {
		all = append(all, inboxAt(fmt.Sprint(i), 1))
	}
	if n := p.Mark(all); n != maxDeviceMarks {
		t.Errorf("%d marks were taken, want %d", n, maxDeviceMarks)
	}
	if s := p.Stats(); s.MarksRefused != 100 {
		t.Errorf("%d marks were refused, want 100", s.MarksRefused)
	}
	for i := range 2*maxDeviceMarks + 100 {
		p.seen(fmt.Sprint(i), "phone", 1, nil)
	}
	if n := p.marks.depth(); n > 2*maxDeviceMarks+2*maxConvMarks {
		t.Errorf("%d marks are kept", n)
	}
	for i := range maxConvMarks + 100 {
		u := fmt.Sprint(i)
		p.Mark([]shard.Mark{markAt(u, codec.AckRead, codec.KindDirect, pairOf(u, "x"), 1)})
	}
	if n := len(p.marks.convs); n != maxConvMarks {
		t.Errorf("%d conversations are kept, want %d", n, maxConvMarks)
	}
}

func TestListsInDevicesAreBounded(t *testing.T) {
	p := newPost(t, inMemory, before(unhurried))
	p.send(note("ann", 1, codec.KindAll, codec.AllName, "x"))
	p.seen("bob", "phone", 0, nil)
	for i := range maxLogMarks + 50 {
		p.Mark([]shard.Mark{markAt("bob", codec.AckDelivered, codec.KindGroup, fmt.Sprint("g", i), 1)})
	}
	if rec, _, _ := p.device("bob", "phone"); len(rec.Logs) != maxLogMarks {
		t.Errorf("%d positions are kept, want %d", len(rec.Logs), maxLogMarks)
	}
}

// A full list of groups that were left makes room for a new position.
func TestFullListOfADevice(t *testing.T) {
	p := newPost(t, inMemory)
	p.send(note("ann", 1, codec.KindAll, codec.AllName, "x"))
	var rec deviceRecord
	for i := range maxLogMarks {
		rec.Logs = append(rec.Logs, logMark{codec.KindGroup, fmt.Sprint("left-", i), 1})
	}
	if err := p.put([]store.Record{{Owner: ownerDevices, Key: deviceKey("bob", "phone"), Value: rec.append(nil)}}, true); err != nil {
		t.Fatal(err)
	}
	p.Mark([]shard.Mark{markAt("bob", codec.AckDelivered, codec.KindAll, codec.AllName, 1)})
	p.flushed()
	got, _, err := p.device("bob", "phone")
	if err != nil || len(got.Logs) != maxLogMarks || got.Logs[maxLogMarks-1] != (logMark{codec.KindAll, codec.AllName, 1}) {
		t.Errorf("%d positions (%v), the last %v", len(got.Logs), err, got.Logs[len(got.Logs)-1])
	}
}

func TestDevicesOfAUser(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		p := newPost(t, open)
		p.send(note("ann", 1, codec.KindDirect, "bob", "x"), note("ann", 2, codec.KindDirect, "bob", "x"))
		for i := range 150 {
			p.seen("bob", fmt.Sprintf("d-%03d", i), 1, nil)
		}
		p.seen("bobby", "phone", 1, nil)
		p.seen("bo", "phone", 1, nil)
		p.flushed()
		p.Mark([]shard.Mark{{User: "bob", Device: "d-070", Mode: codec.AckDelivered, Kind: codec.KindInbox, Seq: 2}})
		all, err := p.devicesOf("bob")
		if err != nil || len(all) != 150 || all[70].Pos != 2 || all[71].Pos != 1 {
			t.Errorf("%d devices (%v)", len(all), err)
		}
		if none, err := p.devicesOf("nobody"); len(none) != 0 || err != nil {
			t.Errorf("%d devices (%v)", len(none), err)
		}
	})
}

// Any order of marks, flushes and restarts leaves the greatest position that was right.
func TestPositionsNeverGoBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	under := &shelved{}
	under.Store, _ = inMemory()
	open := func() (store.Store, error) { return under, nil }
	p := newPost(t, open)
	name, head := pairOf("ann", "bob"), uint64(0)
	var device deviceRecord
	var conv convRecord
	for i := range 300 {
		switch rng.IntN(8) {
		case 0, 1:
			head++
			p.send(note("ann", head, codec.KindDirect, "bob", "x"))
		case 2, 3:
			pos := rng.Uint64N(head + 3)
			if p.Mark([]shard.Mark{inboxAt("bob", pos)}); pos <= head && pos > 0 {
				device.Pos = max(device.Pos, pos)
			}
		case 4, 5:
			seq := rng.Uint64N(head + 1)
			p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, seq)})
			conv.Read, conv.Delivered = max(conv.Read, seq), max(conv.Delivered, seq)
		case 6:
			p.flushed()
		case 7:
			if rng.IntN(4) == 0 {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				p = newPost(t, open)
			}
		}
		rec, _, err := p.device("bob", "phone")
		if err != nil || rec.Pos != device.Pos {
			t.Fatalf("step %d: the phone is at %d (%v), want %d", i, rec.Pos, err, device.Pos)
		}
		if got, _, err := p.conv("bob", codec.KindDirect, name); err != nil || got != conv {
			t.Fatalf("step %d: bob's side is %+v (%v), want %+v", i, got, err, conv)
		}
	}
}

// Positions that were written without a sync may be lost with the store that failed: they are written again.
func TestPositionsSurviveAFailure(t *testing.T) {
	f := newFailing(t, failingAfter(2, false), works)
	p := newPost(t, f.open, before(func(l *Log) { l.timing.flush = 50 * time.Millisecond }))
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"))
	p.Mark([]shard.Mark{inboxAt("bob", 1)})
	within(t, "the record", func() bool { v, _ := p.current().Get(ownerDevices, deviceKey("bob", "phone")); return v != nil })
	_ = f.under.Store.Put([]store.Record{{Owner: ownerDevices, Key: deviceKey("bob", "phone")}}, true) // it did not reach the disk
	wantCodes(t, p.send(note("ann", 2, codec.KindDirect, "bob", "y")), 3)
	p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, pairOf("ann", "bob"), 1)})
	p.healthy()
	p.flushed()
	p.wantDevice("bob", deviceRecord{Seen: postNow, Pos: 1})
	p.wantConv("bob", codec.KindDirect, pairOf("ann", "bob"), convRecord{Delivered: 1, Read: 1})
}

func TestCloseWritesPositions(t *testing.T) {
	open := onDisk(t)
	p := newPost(t, open, before(unhurried))
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"))
	p.Mark([]shard.Mark{inboxAt("bob", 1), markAt("bob", codec.AckRead, codec.KindDirect, pairOf("ann", "bob"), 1)})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = newPost(t, open)
	p.wantDevice("bob", deviceRecord{Seen: postNow, Pos: 1})
	p.wantConv("bob", codec.KindDirect, pairOf("ann", "bob"), convRecord{Delivered: 1, Read: 1})
}

func TestDevicesNotSeenForLongAreForgotten(t *testing.T) {
	p := newPost(t, inMemory, option(func(o *Options) { o.DeviceTTL = time.Hour }), before(func(l *Log) { l.timing.sweep = time.Millisecond }))
	for i := range 2 * sweepPage {
		p.seen("ann", fmt.Sprintf("old-%04d", i), 0, nil)
	}
	p.flushed()
	p.now.Add(uint64(time.Hour.Milliseconds()))
	p.seen("ann", "phone", 0, nil)
	p.flushed()
	p.now.Add(1)
	within(t, "the sweep", func() bool { return p.Stats().DevicesForgot == 2*sweepPage })
	if all, err := p.devicesOf("ann"); err != nil || len(all) != 1 {
		t.Errorf("%d devices are left (%v), want 1", len(all), err)
	}
}

func TestDamagedRecordsAreReplaced(t *testing.T) {
	p := newPost(t, inMemory)
	p.send(note("ann", 1, codec.KindDirect, "bob", "x"))
	name := pairOf("ann", "bob")
	bad := []byte{recordVersion, 0xff}
	if err := p.put([]store.Record{
		{Owner: ownerDevices, Key: deviceKey("bob", "phone"), Value: bad}, {Owner: convOwner("bob"), Key: convKey(codec.KindDirect, name), Value: bad},
	}, true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.device("bob", "phone"); err == nil {
		t.Error("a damaged device is read")
	}
	if _, _, err := p.conv("bob", codec.KindDirect, name); err == nil {
		t.Error("a damaged conversation is read")
	}
	p.Mark([]shard.Mark{inboxAt("bob", 1), markAt("bob", codec.AckRead, codec.KindDirect, name, 1)})
	p.flushed()
	p.wantDevice("bob", deviceRecord{Seen: postNow, Pos: 1})
	p.wantConv("bob", codec.KindDirect, name, convRecord{Delivered: 1, Read: 1})
}

// A channel that cannot be read holds nobody else up; damage is given up, anything else is tried again.
func TestMarksOfChannelsThatCannotBeRead(t *testing.T) {
	var busy, damaged atomic.Int32
	busy.Store(3)
	p := newPost(t, func() (store.Store, error) {
		s, err := inMemory()
		return &brittle{Store: s, onHead: func(ch store.Channel) error {
			switch {
			case ch.Name == pairOf("ann", "bad"):
				damaged.Add(1)
				return store.ErrCorrupt
			case ch.Name == pairOf("ann", "busy") && busy.Add(-1) >= 0:
				return errGone
			}
			return nil
		}}, err
	})
	batch, results := make([]store.Message, 3), make([]store.Result, 3)
	for i, peer := range []string{"bad", "busy", "bob"} { // past the committer, which would know the heads
		e := note("ann", uint64(i+1), codec.KindDirect, peer, "x")
		batch[i] = store.Message{Kind: e.Kind, Name: e.Name(), User: e.Sender(), Time: postNow, Frame: e.Frame()}
	}
	if err := p.current().Append(batch, results); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"bad", "busy", "bob"} {
		p.Mark([]shard.Mark{markAt(user, codec.AckRead, codec.KindDirect, pairOf("ann", user), 1)})
	}
	p.flushed()
	p.wantConv("bad", codec.KindDirect, pairOf("ann", "bad"), convRecord{})
	p.wantConv("busy", codec.KindDirect, pairOf("ann", "busy"), convRecord{Delivered: 1, Read: 1})
	p.wantConv("bob", codec.KindDirect, pairOf("ann", "bob"), convRecord{Delivered: 1, Read: 1})
	p.seen("bob", "phone", 1, nil)
	if err := p.put([]store.Record{{Owner: groupOwner("broken"), Key: metaKey, Value: []byte{recordVersion}}}, true); err != nil {
		t.Fatal(err)
	}
	p.Mark([]shard.Mark{markAt("bob", codec.AckDelivered, codec.KindGroup, "broken", 1)})
	p.flushed()
	p.wantDevice("bob", deviceRecord{Seen: postNow, Pos: 1})
	if s := p.Stats(); s.MarksIgnored != 3 || damaged.Load() != 1 || busy.Load() >= 0 {
		t.Errorf("%d marks ignored, the damaged head read %d times, the busy one %d more", s.MarksIgnored, damaged.Load(), busy.Load())
	}
}

// receiptsOf are the RECEIPTs that a user got, as text.
func (p *post) receiptsOf(user string) (all []string) {
	for _, l := range p.r.got(user) {
		f, _, err := codec.ConsumeFrame(l.frame, codec.MaxBody)
		if err != nil || f.Type != codec.TypeReceipt {
			continue
		}
		x, err := codec.ConsumeReceipt(f)
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, receiptText(x))
	}
	return all
}

func receiptText(x codec.Receipt) string {
	return fmt.Sprintf("%s has %s up to %d", x.User, map[uint8]string{1: "got", 2: "read"}[x.Mode], x.Seq)
}

// settle waits until nothing of a mark or a message is on its way any more.
func (p *post) settle() {
	p.t.Helper()
	p.flushed()
	within(p.t, "the notices", func() bool { p.notices.mu.Lock(); defer p.notices.mu.Unlock(); return len(p.notices.all) == 0 })
	if err := p.do(p.t.Context(), func(*committer) error { return nil }); err != nil {
		p.t.Fatal(err)
	}
}

// wantReceipts fails unless a user has heard exactly these since forget.
func (p *post) wantReceipts(user string, want ...string) {
	p.t.Helper()
	p.settle()
	if got := p.receiptsOf(user); !slices.Equal(got, want) {
		p.t.Errorf("%s heard %q, want %q", user, got, want)
	}
}

// forget begins anew.
func (p *post) forget() {
	p.settle()
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.letters = nil
}
