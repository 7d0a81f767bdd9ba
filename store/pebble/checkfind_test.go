package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/codec"
	"gannet/store"
	"gannet/store/storetest"
)

var (
	planted = scriptChannel(0)
	channel = appendChannel(nil, planted.Kind, []byte(planted.Name))
	dev     = appendDevice(nil, []byte("u"), []byte("d0"))
	day     = uint32(storetest.Day / store.DefaultBucket)
)

// plantable is a store of two days: messages 1 to 4 of a channel on the first, 5 and 6 on the second, each a commit.
func plantable(t *testing.T) *DB {
	t.Helper()
	d := openTest(t, testOptions(vfs.NewMem()))
	for i := range uint64(6) {
		at := uint64(storetest.Day)
		if i >= 4 {
			at += store.DefaultBucket
		}
		m := sent{nonce: i + 1, size: 20, time: at, users: [2]int{0, 1}}.message(0)
		if err := d.Append([]store.Message{m}, make([]store.Result, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Put([]store.Record{{Owner: "o", Key: "k", Value: []byte("v")}}, true); err != nil {
		t.Fatal(err)
	}
	return d
}

func checked(t *testing.T, d *DB, o CheckOptions) *Report {
	t.Helper()
	disk := d.opts.FS
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o.FS = disk
	r, err := Check("store", o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCheckCounts(t *testing.T) {
	var stages []string
	r := checked(t, plantable(t), CheckOptions{Progress: func(what string, _, _ uint64) { stages = append(stages, what) }})
	size := uint64(len(sent{nonce: 1, size: 20, time: storetest.Day}.message(1).Frame))
	got := *r
	got.Epoch, got.TableBytes, got.Notes = 0, 0, nil
	want := Report{
		Format: format, Place: 6, Clean: true, Tables: 1, Channels: 1, Messages: 6, Bytes: 6 * size, Inboxes: 2, Refs: 12, Devices: 1,
		Nonces: 6, Records: 1,
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || r.Epoch == 0 || r.TableBytes == 0 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !slices.Contains(stages, "bytes of tables") {
		t.Errorf("progress %q", stages)
	}
}

// What can be read and does not fit is found, whatever it is.
func TestCheckFindsWhatDoesNotFit(t *testing.T) {
	set := func(key, value []byte) func(*DB) error {
		return func(d *DB) error { return d.db.Set(key, value, nil) }
	}
	remove := func(key []byte) func(*DB) error { return func(d *DB) error { return d.db.Delete(key, nil) } }
	message := func(seq, place uint64) []byte {
		return append(appendMsgHeader(nil, place, 1), sent{nonce: seq, size: 20, time: storetest.Day}.message(seq).Frame...)
	}
	head := func(h headRecord) []byte { return h.append(nil) }
	ref := func(seq uint64) []byte { return appendRef(nil, 0, false, planted.Kind, []byte(planted.Name), seq) }
	nonce := func(place, delta, seq uint64) []byte {
		return appendNonce(appendNonceHeader(nil, 0, place, 1), delta, seq)
	}
	buckets := []bucketStart{{day, 1}, {day + 1, 5}}
	for _, c := range []struct {
		name   string
		damage func(*DB) error
		says   string
	}{
		{"a chunk is gone from the middle", remove(appendMsgKey(nil, day, channel, 3)), "messages 3 to 3 are not there"},
		{"the last of a day is gone", remove(appendMsgKey(nil, day, channel, 4)), "messages 4 to 4 are not there"},
		{"the first is gone", remove(appendMsgKey(nil, day, channel, 1)), "begin at 2, not at 1"},
		{"a day is gone", func(d *DB) error {
			return d.db.DeleteRange(appendMsgKey(nil, day+1, channel, 0), appendMsgKey(nil, day+1, channel, 99), nil)
		}, "messages of day"},
		{"the head knows of more", set(appendHeadKey(nil, channel), head(headRecord{1, 9, buckets})), "messages from 7 on"},
		{"the head has no day", set(appendHeadKey(nil, channel), head(headRecord{1, 0, buckets[:1]})), "does not know of it"},
		{"the head has no day and keeps", set(appendHeadKey(nil, channel), head(headRecord{1, 3, nil})), "there are none"},
		{"the head's days are mixed up", set(appendHeadKey(nil, channel), head(headRecord{1, 0, []bucketStart{{day + 1, 5}, {day, 1}}})), "not in order"},
		{"there is no head", remove(appendHeadKey(nil, channel)), "does not know of it"},
		{"a head that cannot be read", set(appendHeadKey(nil, channel), []byte{0xff}), "cannot be read"},
		{"a head of no channel", set([]byte("h\x09\x01x"), head(headRecord{1, 0, nil})), "cannot be read"},
		{"another message", set(appendMsgKey(nil, day, channel, 2), message(3, 2)), "message 2 is not what is there"},
		{"half a message", set(appendMsgKey(nil, day, channel, 2), message(2, 2)[:20]), "message 2 is not what is there"},
		{"a message and more", set(appendMsgKey(nil, day, channel, 2), append(message(2, 2), 7)), "1 bytes follow"},
		{"no chunk", set(appendMsgKey(nil, day, channel, 2), []byte{0}), "cannot be read"},
		{"place out of order", set(appendMsgKey(nil, day, channel, 2), message(2, 1)), "place 1"},
		{"place of another day", set(appendMsgKey(nil, day, channel, 4), message(4, 5)), "place 5"},
		{"place above all", set(appendMsgKey(nil, day+1, channel, 6), message(6, 7)), "place 7"},
		{"a message of no day", set(appendMsgKey(nil, day+7, channel, 7), message(7, 6)), "does not know of it"},
		{"a message's key", set([]byte("mxx"), nil), "none of a message"},
		{"a reference to nothing", set(appendInboxKey(nil, day+1, []byte("u0"), 6), ref(7)), "ends at 6"},
		{"a reference to 0", set(appendInboxKey(nil, day+1, []byte("u0"), 6), ref(0)), "message 0"},
		{"a reference to no channel", set(appendInboxKey(nil, day+1, []byte("u0"), 6),
			appendRef(nil, 0, false, codec.KindTopic, []byte("none"), 1)), "ends at 0"},
		{"a position above all", set(appendInboxKey(nil, day+1, []byte("u0"), 7), ref(6)), "position 7"},
		{"a position of another day", set(appendInboxKey(nil, day, []byte("u0"), 6), ref(6)), "position 6"},
		{"an inbox that cannot be read", set(appendInboxKey(nil, day, []byte("u0"), 2), []byte{0xff}), "cannot be read"},
		{"an inbox's key", set([]byte("iabcd\x00\x00\x00\x00\x00\x00\x00\x00\x00"), nil), "none of an inbox"},
		{"a nonce of nothing", set(appendNonceKey(nil, dev, 9), nonce(6, 0, 7)), "nonce 9 of message 7"},
		{"a nonce of message 0", set(appendNonceKey(nil, dev, 9), nonce(6, 0, 0)), "nonce 9 of message 0"},
		{"a nonce above its place", set(appendNonceKey(nil, dev, 9), nonce(7, 0, 1)), "not in order"},
		{"nonces that overlap", set(appendNonceKey(nil, dev, 1), appendNonce(nonce(1, 0, 1), 2, 3)), "not in order"},
		{"nonces that cannot be read", set(appendNonceKey(nil, dev, 9), []byte{0, 1, 1, 0xff}), "nonce"},
		{"a nonce's key", set([]byte("n\x01u\x01d123456789"), nonce(1, 0, 1)), "none of a device"},
		{"a record's key", set([]byte("r\x00\x09x"), nil), "limits of a record"},
		{"a record too long", set(appendRecordKey(nil, "o", "k"), make([]byte, store.MaxValue+1)), "limits of a record"},
		{"a key of nobody", set([]byte("x1"), []byte("v")), "unknown entry"},
		{"an entry of nobody", set([]byte("Mx"), []byte("v")), "unknown entry"},
		{"days that go back", set(bucketKey(day+1), be.AppendUint64(nil, 1)), "begins at place 1"},
		{"a day that cannot be read", set(bucketKey(day+1), nil), "bucket"},
		{"no place", remove(keyPlace), "place"},
		{"no epoch", remove(keyEpoch), "epoch: it is missing"},
		{"no format", remove(keyFormat), "format: it is missing"},
		{"a place that is no number", set(keyPlace, []byte("six")), "Mplace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := plantable(t)
			if err := c.damage(d); err != nil {
				t.Fatal(err)
			}
			r := checked(t, d, CheckOptions{})
			for _, f := range r.Findings {
				if strings.Contains(f.String(), "\n") || f.Where == "" || f.What == "" || f.Means == "" || f.Do == "" {
					t.Errorf("finding %+v", f)
				}
			}
			if r.Sound() || !strings.Contains(report(r), c.says) {
				t.Errorf("want %q:\n%s", c.says, report(r))
			}
		})
	}
}

// What trims, expiries and crashes in the middle of one leave is no damage.
func TestCheckKnowsLeftovers(t *testing.T) {
	for name, do := range map[string]func(d *DB) error{
		"trimmed":    func(d *DB) error { return d.Trim(planted, 3) },
		"all gone":   func(d *DB) error { return d.Trim(planted, 99) },
		"expired":    func(d *DB) error { return d.Expire(storetest.Day + store.DefaultBucket) },
		"all days":   func(d *DB) error { return d.Expire(storetest.Day + 9*store.DefaultBucket) },
		"half a way": func(d *DB) error { _, err := expireSome(d); return err },
	} {
		t.Run(name, func(t *testing.T) {
			d := plantable(t)
			if err := do(d); err != nil {
				t.Fatal(err)
			}
			if r := checked(t, d, CheckOptions{}); !r.Sound() {
				t.Error(report(r))
			}
		})
	}
}

// expireSome does the first half of an expiry of the first day.
func expireSome(d *DB) ([]byte, error) {
	prefix := be.AppendUint32([]byte{prefixMsg}, day)
	return d.expireSome(day, prefix, prefix, false)
}

func TestCheckRecords(t *testing.T) {
	bad := errors.New("says nothing")
	r := checked(t, plantable(t), CheckOptions{Record: func(r store.Record) error {
		if r.Owner == "o" && r.Key == "k" && string(r.Value) == "v" {
			return bad
		}
		return nil
	}})
	if r.Sound() || !strings.Contains(report(r), `the record "k" of "o": says nothing`) {
		t.Error(report(r))
	}
}

func TestCheckTellsManyFindingsInBrief(t *testing.T) {
	d := plantable(t)
	for i := range maxFindings + 50 {
		if err := d.db.Set(fmt.Appendf(nil, "M%d", i), nil, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	r := checked(t, d, CheckOptions{})
	if len(r.Findings) != maxFindings || r.More != 50 || !strings.Contains(report(r), "damaged: 150 findings") {
		t.Errorf("%d findings and %d more", len(r.Findings), r.More)
	}
}

func TestCheckRefuses(t *testing.T) {
	disk := vfs.NewMem()
	if err := errors.Join(disk.MkdirAll("empty", 0o700), spill(disk, "file", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, testOptions(disk))
	defer d.Close()
	for dir, want := range map[string]error{"none": fs.ErrNotExist, "empty": fs.ErrNotExist, "store": store.ErrLocked} {
		if _, err := Check(dir, CheckOptions{FS: disk}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
	}
	if _, err := Check("file", CheckOptions{FS: disk}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}

// The same store, opened and checked as files of this machine.
func TestCheckOnDisk(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, CheckOptions{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("check of an open store: %v", err)
	}
	m := sent{nonce: 1}.message(0)
	if err := errors.Join(d.Append([]store.Message{m}, make([]store.Result, 1)), d.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := Check(dir, CheckOptions{})
	if err != nil || !r.Sound() || r.Messages != 1 {
		t.Errorf("%v\n%s", err, report(r))
	}
	if d, err = Open(dir, Options{Logger: quiet}); err != nil { // nothing is locked any more
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
