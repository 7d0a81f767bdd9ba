package storetest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"gannet/store"
)

func get(t testing.TB, s store.Store, owner, key string) []byte {
	t.Helper()
	v, err := s.Get(owner, key)
	if err != nil {
		t.Fatalf("Get %q %q: %v", owner, key, err)
	}
	return v
}

// scan lists an owner's records as key=value.
func scan(t testing.TB, s store.Store, owner, after string, limit int) string {
	t.Helper()
	list, err := s.Scan(owner, after, limit)
	if err != nil {
		t.Fatalf("Scan %q: %v", owner, err)
	}
	var text []string
	for _, r := range list {
		if r.Owner != owner || r.Value == nil {
			t.Fatalf("Scan of %q gave %+v", owner, r)
		}
		text = append(text, r.Key+"="+string(r.Value))
	}
	return strings.Join(text, " ")
}

func testRecords(t *testing.T, x suite) {
	s := x.open(t)
	value := []byte("1")
	must(t, s.Put([]store.Record{
		{Owner: "ann", Key: "b", Value: value}, {Owner: "ann", Key: "a", Value: []byte("2")},
		{Owner: "ann", Key: "aa", Value: []byte("0")}, {Owner: "ann", Key: "aa", Value: []byte{}},
		{Owner: "ann", Key: "c", Value: []byte("3")}, {Owner: "ann", Key: "c"}, {Owner: "ann", Key: "d"},
	}, true))
	value[0] = 'x' // belongs to the caller again
	want(t, "a", string(get(t, s, "ann", "a")), "2")
	want(t, "b", string(get(t, s, "ann", "b")), "1")
	if v := get(t, s, "ann", "aa"); v == nil || len(v) != 0 {
		t.Errorf("an empty value came back as %v", v)
	}
	for _, key := range []string{"c", "d", "", "e"} {
		if v := get(t, s, "ann", key); v != nil {
			t.Errorf("%q is %q", key, v)
		}
	}
	want(t, "all", scan(t, s, "ann", "", math.MaxInt), "a=2 aa= b=1")
	want(t, "above", scan(t, s, "ann", "a", 10), "aa= b=1")
	want(t, "above what is not there", scan(t, s, "ann", "a\x00", 10), "aa= b=1")
	want(t, "limit", scan(t, s, "ann", "", 2), "a=2 aa=")
	want(t, "limit 0", scan(t, s, "ann", "", 0), "")
	want(t, "above all", scan(t, s, "ann", "b", 10), "")
	get(t, s, "ann", "b")[0] = 'y' // belongs to whoever asked
	must(t, s.Put([]store.Record{{Owner: "ann", Key: "a", Value: []byte("4")}, {Owner: "ann", Key: "b"}}, false))
	want(t, "changed", scan(t, s, "ann", "", 10), "a=4 aa=")
	if x.reopen != nil {
		must(t, s.Put([]store.Record{{Owner: "ann", Key: "z", Value: []byte("9")}}, true))
		s = x.reopen(s)
		want(t, "reopened", scan(t, s, "ann", "", 10), "a=4 aa= z=9")
	}
}

// No owner sees another's, whatever their names are made of.
func testRecordOwners(t *testing.T, x suite) {
	s := x.open(t)
	owners := append(names(), "", "\x00", "\xff", "\xff\xff", strings.Repeat("\xff", store.MaxOwner))
	keys := []string{"a", "a\x00", "aa", "\x00", "\xff", strings.Repeat("\xff", store.MaxKey)}
	for i, o := range owners {
		for _, k := range keys {
			must(t, s.Put([]store.Record{{Owner: o, Key: k, Value: fmt.Append(nil, o, k)}}, i == len(owners)-1))
		}
	}
	for _, o := range owners {
		var text []string
		for _, k := range []string{"\x00", "a", "a\x00", "aa", "\xff", strings.Repeat("\xff", store.MaxKey)} {
			text = append(text, k+"="+o+k)
			want(t, "value", string(get(t, s, o, k)), o+k)
		}
		want(t, "all", scan(t, s, o, "", 100), strings.Join(text, " "))
	}
}

func testRecordLimits(t *testing.T, x suite) {
	s := x.open(t)
	long := strings.Repeat("x", 1<<16)
	good := store.Record{Owner: long[:store.MaxOwner], Key: long[:store.MaxKey], Value: make([]byte, store.MaxValue)}
	must(t, s.Put([]store.Record{good}, false))
	for _, bad := range []store.Record{
		{Owner: long[:store.MaxOwner+1], Key: "a", Value: []byte("1")},
		{Owner: long, Key: "a", Value: []byte("1")},
		{Owner: "ann", Key: long[:store.MaxKey+1], Value: []byte("1")},
		{Owner: "ann", Key: "", Value: []byte("1")},
		{Owner: "ann", Key: ""},
		{Owner: "ann", Key: "a", Value: make([]byte, store.MaxValue+1)},
	} {
		err := s.Put([]store.Record{{Owner: "ann", Key: "first", Value: []byte("1")}, bad}, true)
		if !errors.Is(err, store.ErrLimit) {
			t.Errorf("Put of %d %d %d bytes: %v", len(bad.Owner), len(bad.Key), len(bad.Value), err)
		}
		if len(bad.Owner) > store.MaxOwner && get(t, s, bad.Owner, bad.Key) != nil {
			t.Error("it is there")
		}
	}
	want(t, "what came with it", scan(t, s, "ann", "", 10), "")
	want(t, "owner beyond the limit", scan(t, s, long, "", 10), "")
	want(t, "value", len(get(t, s, good.Owner, good.Key)), store.MaxValue)
	want(t, "records", len(scan(t, s, good.Owner, "", 10)), store.MaxKey+1+store.MaxValue)
}
