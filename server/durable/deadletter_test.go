package durable

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
)

// letters are the dead letters: "sender>receiver:seq payload reason".
func (a *attic) letters() (all []string) {
	a.t.Helper()
	list, more, err := a.DeadLetters(0, 1<<20, 1<<30)
	if err != nil || more {
		a.t.Fatalf("dead letters: more %v, %v", more, err)
	}
	bytes := uint64(0)
	for i, x := range list {
		if i > 0 && x.ID <= list[i-1].ID {
			a.t.Errorf("letter %d comes behind %d", x.ID, list[i-1].ID)
		}
		all = append(all, fmt.Sprintf("%s>%s:%d %s %v", x.Sender, x.Receiver, x.Seq, x.Payload, x.Reason))
		v, err := a.current().Get(ownerDead, deadKey(x.ID))
		if err != nil {
			a.t.Fatal(err)
		}
		bytes += uint64(len(v))
	}
	if s := a.RetentionStats(); s.Letters != uint64(len(list)) || s.LetterBytes != bytes {
		a.t.Errorf("%d letters of %d bytes are said to be there, there are %d of %d", s.Letters, s.LetterBytes, len(list), bytes)
	}
	return all
}

func (a *attic) wantLetters(want ...string) {
	a.t.Helper()
	if got := a.letters(); !slices.Equal(got, want) {
		a.t.Errorf("dead letters\n %q, want\n %q", got, want)
	}
}

// mark acknowledges, and waits until it is known.
func (a *attic) mark(user string, mode uint8, kind codec.Kind, name string, seq uint64) {
	a.t.Helper()
	if kind == codec.KindInbox {
		a.Log.seen(user, "phone", 0, nil)
	}
	if n := a.Mark([]shard.Mark{{User: user, Device: "phone", Mode: mode, Kind: kind, Name: name, Seq: seq}}); n != 1 {
		a.t.Fatal("the mark was not taken")
	}
	if kind == codec.KindInbox {
		within(a.t, "the position is written", func() bool {
			all, err := a.devicesOf(user)
			return err == nil && len(all) == 1 && all[0].Pos == seq
		})
	}
}

func TestTimeToLiveRunsOut(t *testing.T) {
	const wants = codec.MsgReceipt
	pair := pairOf("ann", "bob")
	for _, c := range []struct {
		name string
		do   func(a *attic)
		want []string
	}{
		{"nobody came", func(a *attic) { a.say("ann", codec.KindDirect, "bob", wants, 10, "1") }, []string{"ann>bob:1 1 ttl"}},
		{"both ways", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1")
			a.say("bob", codec.KindDirect, "ann", wants, 5, "2")
		}, []string{"bob>ann:2 2 ttl"}}, // in sending his, bob has read hers
		{"not yet", func(a *attic) { a.say("ann", codec.KindDirect, "bob", wants, 61, "1") }, nil},
		{"nobody asked", func(a *attic) { a.say("ann", codec.KindDirect, "bob", 0, 10, "1") }, nil},
		{"it never runs out", func(a *attic) { a.say("ann", codec.KindDirect, "bob", wants, 0, "1") }, nil},
		{"with oneself", func(a *attic) { a.say("ann", codec.KindDirect, "ann", wants, 10, "1") }, nil},
		{"not direct", func(a *attic) { a.say("ann", codec.KindTopic, "bob", wants, 10, "1") }, nil},
		{"delivered", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1", "2")
			a.mark("bob", codec.AckDelivered, codec.KindDirect, pair, 1)
		}, []string{"ann>bob:2 2 ttl"}},
		{"the sender's own device has it", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1")
			a.mark("ann", codec.AckDelivered, codec.KindDirect, pair, 1)
		}, []string{"ann>bob:1 1 ttl"}},
		{"read", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1", "2")
			a.mark("bob", codec.AckRead, codec.KindDirect, pair, 2)
		}, nil},
		{"the inbox is acknowledged, the channel's mark was lost", func(a *attic) {
			got := a.say("ann", codec.KindDirect, "bob", wants, 10, "1", "2")
			a.say("eve", codec.KindDirect, "bob", wants, 10, "3")
			a.mark("bob", codec.AckDelivered, codec.KindInbox, "", got[0].Pos)
		}, []string{"ann>bob:2 2 ttl", "eve>bob:1 3 ttl"}},
		{"all of the inbox is", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1", "2")
			got := a.say("eve", codec.KindDirect, "bob", wants, 10, "3")
			a.mark("bob", codec.AckDelivered, codec.KindInbox, "", got[0].Pos)
		}, nil},
		{"among others", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", 0, 0, "1", "2", "3")
			a.say("ann", codec.KindDirect, "bob", wants, 10, "4")
			a.say("ann", codec.KindDirect, "bob", wants, 0, "5")
			a.say("ann", codec.KindDirect, "bob", wants, 20, "6", "7")
		}, []string{"ann>bob:4 4 ttl", "ann>bob:6 6 ttl", "ann>bob:7 7 ttl"}},
		{"different ends in one commit", func(a *attic) {
			now := a.now.Load()
			var all []shard.Entry
			for i, ttl := range []uint32{30, 10, 0, 70, 10} {
				all = append(all, said("ann", uint64(i+1), codec.KindDirect, "bob", fmt.Sprint(i+1), wants, ttl, now))
			}
			a.send(all...)
		}, []string{"ann>bob:2 2 ttl", "ann>bob:5 5 ttl", "ann>bob:1 1 ttl"}},
		{"sent twice in one commit", func(a *attic) {
			now := a.now.Load()
			one := said("ann", 1, codec.KindDirect, "bob", "1", wants, 10, now)
			again := said("ann", 1, codec.KindDirect, "bob", "1", wants, 10, now)
			wantCodes(a.t, a.send(one, again, said("ann", 2, codec.KindDirect, "bob", "2", wants, 10, now)),
				codec.CodeOK, codec.CodeDuplicate, codec.CodeOK)
			a.say("eve", codec.KindDirect, "bob", wants, 70, "later")
		}, []string{"ann>bob:1 1 ttl", "ann>bob:2 2 ttl"}},
		{"while nothing ran", func(a *attic) {
			a.say("ann", codec.KindDirect, "bob", wants, 10, "1")
			a.reopen()
		}, []string{"ann>bob:1 1 ttl"}},
		{"no time at all", func(a *attic) {
			e := said("ann", 1, codec.KindDirect, "bob", "1", wants, 10, a.now.Load())
			f, _, _ := codec.ConsumeFrame(e.Frame(), codec.MaxBody)
			m, _ := codec.ConsumeMsg(f)
			m.Ext = codec.TLVs{}.AppendUint32(codec.TagTTL, 0)
			e2 := shard.NewEntry(m, 5)
			a.send(shard.Entry{Ref: e.Ref, Nonce: 1, Buf: append(e2.Buf, "phone"...), Size: e2.Size, Head: e2.Head, Kind: e2.Kind, Flags: e2.Flags})
		}, []string{"ann>bob:1 1 ttl"}},
		{"a time to live of the wrong size is none", func(a *attic) {
			m := codec.Msg{Ext: codec.TLVs{}.Append(codec.TagTTL, []byte{1}), Kind: codec.KindDirect, Name: []byte(pair), Sender: []byte("ann"),
				Time: a.now.Load(), Flags: codec.MsgDurable | wants}
			e := shard.NewEntry(m, 5)
			e.Ref, e.Nonce, e.Buf = sessionOf("ann"), 1, append(e.Buf, "phone"...)
			a.send(e)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
				c.do(a)
				a.retention.turn()
				a.pass(5 * time.Second)
				a.retention.turn()
				a.pass(55 * time.Second)
				a.turns()
				a.wantLetters(c.want...)
				a.reopen()
				a.turns()
				a.wantLetters(c.want...)
				left, err := a.current().Scan(ownerExpiring, "", 100)
				for _, r := range left {
					if when, _, _, _ := splitExpiringKey(r.Key); when <= a.now.Load() {
						t.Errorf("record %x is left", r.Key)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestRetentionBuriesWhatNobodyGot(t *testing.T) {
	const wants = codec.MsgReceipt
	age := Keep{Age: 2 * hours}
	for _, c := range []struct {
		name string
		r    Retention
		want []string
	}{
		{"trimmed by age", Retention{Direct: age}, []string{"ann>bob:2 2 age", "ann>bob:3 3 age", "bob>ann:5 5 age"}},
		{"expired", Retention{Direct: age, Group: age, Topic: age, All: age}, []string{"ann>bob:2 2 age", "ann>bob:3 3 age", "bob>ann:5 5 age"}},
		{"trimmed by count", Retention{Direct: Keep{Count: 4}}, []string{"ann>bob:2 2 count", "ann>bob:3 3 count"}},
		{"both", Retention{Direct: Keep{Count: 5, Age: 2 * hours}}, []string{"ann>bob:2 2 count", "ann>bob:3 3 age", "bob>ann:5 5 age"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachAttic(t, c.r, func(t *testing.T, a *attic) {
				pair := pairOf("ann", "bob")
				a.say("ann", codec.KindDirect, "bob", wants, 0, "1")
				a.mark("bob", codec.AckDelivered, codec.KindDirect, pair, 1)
				a.say("ann", codec.KindDirect, "bob", wants, 0, "2", "3")
				a.say("ann", codec.KindDirect, "bob", 0, 0, "4")
				// Sending moves bob's read position; his system writes for him.
				e := said("bob", 0, codec.KindDirect, "ann", "5", wants, 0, a.now.Load())
				e.Ref, e.Buf = 0, e.Buf[:e.Size]
				stored := make(chan shard.Answer, 1)
				e.Done = func(x shard.Answer) { stored <- x }
				a.submit(e)
				<-stored
				a.pass(3 * hours)
				a.say("ann", codec.KindDirect, "carl", wants, 0, "young")
				e = said("ann", 0, codec.KindDirect, "bob", "6", wants, 0, a.now.Load())
				e.Ref, e.Buf = 0, e.Buf[:e.Size]
				e.Done = func(x shard.Answer) { stored <- x }
				a.submit(e)
				<-stored
				e.Buf = said("ann", 0, codec.KindDirect, "bob", "7", wants, 0, a.now.Load()).Buf[:e.Size]
				a.submit(e)
				<-stored
				a.turns()
				a.wantLetters(c.want...)
				a.pass(12 * time.Hour)
				a.reopen()
				a.turns()
				a.pass(12 * time.Hour)
				a.turns()
				a.wantLetters(c.want...)
			})
		})
	}
}

// What ran out is judged once, when it did, though it is removed later; and once when it is removed before.
func TestTimeToLiveAndRetentionJudgeOnce(t *testing.T) {
	eachAttic(t, Retention{Direct: Keep{Age: 2 * hours}}, func(t *testing.T, a *attic) {
		a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 60, "1")
		a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, uint32(7*hours/time.Second), "2")
		a.pass(time.Minute)
		a.turns()
		a.wantLetters("ann>bob:1 1 ttl")
		if n, err := a.ClearDeadLetters(t.Context(), 0); n != 1 || err != nil {
			t.Fatalf("cleared %d, %v", n, err)
		}
		for range 10 {
			a.pass(hours)
			a.turns()
		}
		a.wantLetters("ann>bob:2 2 age")
		a.wantStored(codec.KindDirect, pairOf("ann", "bob"))
	})
}

// The oldest letters make room, by number and by bytes.
func TestListOfDeadLettersIsBounded(t *testing.T) {
	for _, c := range []struct {
		name          string
		count, bytes  int
		want, dropped int
	}{
		{"by number", 7, 0, 7, 43}, {"by bytes", 0, 10_000, 9, 41}, {"none are kept", -1, 0, 0, 50}, {"all fit", 50, 0, 50, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memory.New(memory.Options{})
			a := newAttic(t, func() (store.Store, error) { return &shelved{Store: s}, nil },
				func(o *Options) { o.DeadLetters, o.DeadBytes = c.count, c.bytes })
			var want []string
			for i := range 50 {
				text := fmt.Sprint(i, strings.Repeat(".", 1000))
				a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 1, text)
				want = append(want, fmt.Sprintf("ann>bob:%d %s ttl", i+1, text))
				if i%3 == 0 {
					a.pass(2 * time.Second)
					a.turns()
				}
			}
			a.pass(2 * time.Second)
			a.turns()
			a.wantLetters(want[50-c.want:]...)
			if d := a.RetentionStats().DeadDropped; d != uint64(c.dropped) {
				t.Errorf("%d were dropped, want %d", d, c.dropped)
			}
		})
	}
}

// More letters at once than the list holds: the last ones stay.
func TestMoreLettersThanTheListHolds(t *testing.T) {
	s := memory.New(memory.Options{})
	a := newAttic(t, func() (store.Store, error) { return &shelved{Store: s}, nil }, func(o *Options) { o.DeadLetters = 3 })
	a.say("eve", codec.KindDirect, "bob", codec.MsgReceipt, 1, "x", "y")
	a.pass(2 * time.Second)
	a.turns()
	a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 1, "1", "2", "3", "4", "5")
	a.pass(2 * time.Second)
	a.turns()
	a.wantLetters("ann>bob:3 3 ttl", "ann>bob:4 4 ttl", "ann>bob:5 5 ttl")
	if d := a.RetentionStats().DeadDropped; d != 4 {
		t.Errorf("%d were dropped, want 4", d)
	}
}

// A message that no record can hold is listed without its payload, and cannot be sent again.
func TestLetterTooLongForARecord(t *testing.T) {
	eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
		a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 1, strings.Repeat("x", store.MaxValue), "2")
		a.pass(2 * time.Second)
		a.turns()
		list, _, err := a.DeadLetters(0, 9, 1<<30)
		if err != nil || len(list) != 2 || !list[0].Cut || len(list[0].Payload) != 0 || list[1].Cut || list[0].Sender != "ann" {
			t.Fatalf("letters %+v, %v", list, err)
		}
		done, err := a.ReplayDeadLetters(t.Context(), nil)
		if want := (Replayed{Sent: 1, Refused: 1, Code: codec.CodeInvalid}); err != nil || done != want {
			t.Errorf("%+v, %v, want %+v", done, err, want)
		}
	})
}

func TestPagesOfDeadLetters(t *testing.T) {
	eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
		for i := range 150 {
			a.nonce["ann"]++
			a.submit(said("ann", a.nonce["ann"], codec.KindDirect, "bob", fmt.Sprint(i), codec.MsgReceipt, 1, a.now.Load()+uint64(i)))
		}
		a.wait(150)
		a.pass(2 * time.Second)
		a.turns()
		for _, c := range []struct{ limit, bytes, pages int }{{150, 1 << 30, 1}, {149, 1 << 30, 2}, {10, 1 << 30, 15}, {1000, 1, 150}} {
			after, n, pages := uint64(0), 0, 0
			for more := true; more; pages++ {
				list, rest, err := a.DeadLetters(after, c.limit, c.bytes)
				if err != nil || len(list) == 0 {
					t.Fatalf("%d letters, %v", len(list), err)
				}
				for _, x := range list {
					if string(x.Payload) != fmt.Sprint(n) {
						t.Fatalf("letter %q in place %d", x.Payload, n)
					}
					n, after = n+1, x.ID
				}
				more = rest
			}
			if n != 150 || pages != c.pages {
				t.Errorf("limit %d, %d bytes: %d letters on %d pages, want %d", c.limit, c.bytes, n, pages, c.pages)
			}
		}
		if list, more, err := a.DeadLetters(math.MaxUint64, 10, 1<<20); len(list) != 0 || more || err != nil {
			t.Errorf("behind the end: %d, %v, %v", len(list), more, err)
		}
		first := a.now.Load() - 2000 + 1000 // when the first one died
		if n, err := a.ClearDeadLetters(t.Context(), first+100); n != 100 || err != nil {
			t.Errorf("%d were cleared, %v, want 100", n, err)
		}
		if got := a.letters(); len(got) != 50 || got[0] != "ann>bob:101 100 ttl" {
			t.Errorf("%d are left, the first %q", len(got), got)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.ClearDeadLetters(ended, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("clearing for nobody: %v", err)
		}
		if n, err := a.ClearDeadLetters(t.Context(), 0); n != 50 || err != nil || len(a.letters()) != 0 {
			t.Errorf("%d were cleared, %v", n, err)
		}
		if s := a.RetentionStats(); s.DeadCleared != 150 || s.Dead[DeadTTL] != 150 {
			t.Errorf("counters %+v", s)
		}
	})
}

func TestReplay(t *testing.T) {
	eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
		a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt|codec.MsgUrgent, 1, "1", "2", "3")
		a.say("eve", codec.KindDirect, "bob", codec.MsgReceipt, 1, "4")
		a.pass(2 * time.Second)
		a.turns()
		list, _, _ := a.DeadLetters(0, 9, 1<<20)
		if len(list) != 4 {
			t.Fatalf("%d letters", len(list))
		}
		done, err := a.ReplayDeadLetters(t.Context(), []uint64{list[1].ID, 999, list[3].ID, list[1].ID})
		if want := (Replayed{Sent: 2, Missing: 1}); err != nil || done != want {
			t.Errorf("%+v, %v, want %+v", done, err, want)
		}
		a.wantLetters("ann>bob:1 1 ttl", "ann>bob:3 3 ttl")
		a.pass(hours)
		if done, err = a.ReplayDeadLetters(t.Context(), nil); err != nil || done != (Replayed{Sent: 2}) {
			t.Errorf("%+v, %v, want 2 sent", done, err)
		}
		a.wantStored(codec.KindDirect, pairOf("ann", "bob"), "1", "2", "3", "2", "1", "3")
		a.wantStored(codec.KindDirect, pairOf("eve", "bob"), "4", "4")
		a.wantTexts("bob", "1", "2", "3", "4", "2", "4", "1", "3")
		var again codec.Msg
		for _, l := range a.r.got("bob")[6:7] {
			again, err = message(l.frame)
		}
		if err != nil || again.Time != a.now.Load() || again.Seq != 5 || string(again.Sender) != "ann" || len(again.Ext) != 0 ||
			again.Flags != codec.MsgDurable|codec.MsgReceipt|codec.MsgUrgent || again.Content != codec.ContentText {
			t.Errorf("sent again as %+v, %v", again, err)
		}
		a.pass(hours)
		a.turns()
		a.wantLetters()
		if s := a.RetentionStats(); s.DeadReplayed != 4 {
			t.Errorf("%d were replayed", s.DeadReplayed)
		}
	})
}

// Only the time to live is taken off what is sent again.
func TestReplayKeepsTheRest(t *testing.T) {
	m := codec.Msg{
		Ext:  codec.TLVs{}.Append(codec.TagOrigin, []byte("me")).AppendUint32(codec.TagTTL, 1).Append(200, []byte("own")),
		Kind: codec.KindDirect, Name: []byte(pairOf("ann", "bob")), Sender: []byte("ann"), Time: 5, Seq: 9, Flags: codec.MsgDurable | codec.MsgReceipt,
		Content: 200, Payload: []byte{0, 1},
	}
	d := death{reason: DeadAge, at: 7, seq: 9, receiver: "bob", frame: codec.AppendMsg(nil, m)}
	l := &Log{opts: Options{Now: func() uint64 { return 77 }}, clock: func() int64 { return 1 }}
	e, id, err := l.again(store.Record{Key: deadKey(3), Value: d.value()})
	if err != nil || id != 3 {
		t.Fatal(id, err)
	}
	got, err := message(e.Frame())
	m.Ext, m.Time, m.Seq = codec.TLVs{}.Append(codec.TagOrigin, []byte("me")).Append(200, []byte("own")), 77, 0
	if want, _ := message(codec.AppendMsg(nil, m)); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
}

func TestDamagedLetters(t *testing.T) {
	good := (&death{reason: DeadTTL, at: 7, seq: 9, receiver: "bob", frame: codec.AppendMsg(nil, codec.Msg{
		Kind: codec.KindDirect, Name: []byte(pairOf("ann", "bob")), Sender: []byte("ann"),
	})}).value()
	for name, rec := range map[string]store.Record{
		"empty": {Key: deadKey(1), Value: []byte{}}, "newer": {Key: deadKey(1), Value: append([]byte{9}, good[1:]...)},
		"cut": {Key: deadKey(1), Value: good[:len(good)-1]}, "no frame": {Key: deadKey(1), Value: good[:8]},
		"key": {Key: "short", Value: good}, "number 0": {Key: deadKey(0), Value: good},
	} {
		if x, _, err := readDead(rec); err == nil {
			t.Errorf("%s: read as %+v", name, x)
		}
	}
	eachAttic(t, Retention{}, func(t *testing.T, a *attic) {
		a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 1, "1", "2")
		a.pass(2 * time.Second)
		a.turns()
		if err := a.put([]store.Record{{Owner: ownerDead, Key: deadKey(1), Value: []byte{}}}, false); err != nil {
			t.Fatal(err)
		}
		if list, _, err := a.DeadLetters(0, 9, 1<<20); err != nil || len(list) != 1 || list[0].ID != 2 {
			t.Errorf("%+v, %v", list, err)
		}
		done, err := a.ReplayDeadLetters(t.Context(), nil)
		if want := (Replayed{Sent: 1, Refused: 1, Code: codec.CodeInvalid}); err != nil || done != want {
			t.Errorf("%+v, %v, want %+v", done, err, want)
		}
		if n, err := a.ClearDeadLetters(t.Context(), 0); n != 1 || err != nil {
			t.Errorf("cleared %d, %v", n, err)
		}
	})
}

// One at a time; who gives up leaves letters on the list.
func TestReplayTwiceAtOnce(t *testing.T) {
	s := memory.New(memory.Options{})
	gate, held := make(chan struct{}), atomic.Bool{}
	a := newAttic(t, func() (store.Store, error) {
		b := &brittle{Store: &shelved{Store: s}}
		b.onAppend = func(s store.Store, batch []store.Message, results []store.Result) error {
			if held.Load() {
				<-gate
			}
			return s.Append(batch, results)
		}
		return b, nil
	}, func(*Options) {})
	a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 1, "1")
	a.pass(2 * time.Second)
	a.turns()
	held.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := a.ReplayDeadLetters(ctx, nil)
		ended <- err
	}()
	within(t, "the message on its way", func() bool { return a.Stats().Pending > 0 })
	if _, err := a.ReplayDeadLetters(t.Context(), nil); !errors.Is(err, ErrReplaying) {
		t.Errorf("the second one: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	close(gate)
	held.Store(false)
	a.wantLetters("ann>bob:1 1 ttl")
	if done, err := a.ReplayDeadLetters(t.Context(), nil); done.Sent != 1 || err != nil {
		t.Errorf("%+v, %v", done, err)
	}
}

// forgetful is a store that a crash undoes the removal of messages in.
type forgetful struct {
	store.Store
	undone *atomic.Bool
}

func (f forgetful) Trim(c store.Channel, below uint64) error {
	if f.undone.Load() {
		return nil
	}
	return f.Store.Trim(c, below)
}

// A removal that a crash undid is done again, but not the letters.
func TestLetterOnceThoughRemovalIsUndone(t *testing.T) {
	var undone atomic.Bool
	s := memory.New(memory.Options{})
	a := newAttic(t, func() (store.Store, error) { return forgetful{&shelved{Store: s}, &undone}, nil },
		func(o *Options) { o.Retention.Direct.Age = 2 * time.Hour })
	a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 5*3600, "1")
	a.say("ann", codec.KindDirect, "bob", codec.MsgReceipt, 0, "2")
	a.pass(3 * time.Hour)
	undone.Store(true)
	a.turns()
	a.wantLetters("ann>bob:1 1 age", "ann>bob:2 2 age")
	a.wantStored(codec.KindDirect, pairOf("ann", "bob"), "1", "2")
	undone.Store(false)
	a.pass(3 * time.Hour) // the first one's time to live is over
	a.reopen()
	a.turns()
	a.pass(3 * time.Hour)
	a.turns()
	a.wantLetters("ann>bob:1 1 age", "ann>bob:2 2 age")
	a.wantStored(codec.KindDirect, pairOf("ann", "bob"))
}
