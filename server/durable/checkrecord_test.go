package durable

import (
	"strings"
	"testing"

	"gannet/codec"
	"gannet/store"
)

func TestCheckRecord(t *testing.T) {
	num := func(n uint64) []byte { return appendUint(appendUint(nil, recordVersion), n) }
	frame := codec.AppendMsg(nil, codec.Msg{
		Kind: codec.KindDirect, Name: codec.AppendPair(nil, []byte("a"), []byte("b")), Seq: 1, Time: 5, Sender: []byte("a"), Payload: []byte("x"),
	})
	letter := appendUint(appendUint(appendUint(appendUint(nil, recordVersion), uint64(DeadTTL)), 7), 1)
	letter = append(appendUint(appendStr(letter, "b"), 0), frame...)
	good := []store.Record{
		{Owner: ownerDevices, Key: deviceKey("u", "d"), Value: deviceRecord{Seen: 1, Pos: 2, Logs: []logMark{{codec.KindTopic, "t", 3}}}.append(nil)},
		{Owner: convOwner("u"), Key: convKey(codec.KindTopic, "t"), Value: convRecord{1, 2}.append(nil)},
		{Owner: groupOwner("g"), Key: metaKey, Value: (&group{Post: 1, Since: 1, Changed: 2}).meta(false)},
		{Owner: groupOwner("g"), Key: memberPrefix + "u", Value: member{Role: 1, Joined: 1}.append(nil)},
		{Owner: userGroupsOwner("u"), Key: "g", Value: []byte{}},
		keptRecord{}.of(store.Channel{Kind: codec.KindTopic, Name: "t"}),
		{Owner: ownerExpiring, Key: expiringKey(9, 2, "a\x1fb"), Value: num(3)},
		{Owner: ownerDead, Key: deadKey(1), Value: letter},
		{Owner: ownerDeadMeta, Key: deadMetaKey, Value: appendUint(appendUint(num(1), 2), 3)},
		{Owner: ownerRetention, Key: clockKey, Value: num(1)},
		{Owner: "somebody else's", Key: "k", Value: []byte{0xff}},
	}
	for _, r := range good {
		if err := CheckRecord(r); err != nil {
			t.Errorf("%q %q: %v", r.Owner, r.Key, err)
		}
		if r.Owner == good[len(good)-1].Owner {
			continue
		}
		group := strings.HasPrefix(r.Owner, "groups") // its value is empty
		for what, bad := range map[string]store.Record{
			"cut":  {Owner: r.Owner, Key: r.Key, Value: r.Value[:max(0, len(r.Value)-1)]},
			"none": {Owner: r.Owner, Key: r.Key},
			"long": {Owner: r.Owner, Key: r.Key, Value: append(append([]byte{}, r.Value...), 1)},
		} {
			if group && what != "long" || r.Owner == ownerDead && what == "long" { // what follows a letter's frame is not looked at
				continue
			}
			if err := CheckRecord(bad); err == nil {
				t.Errorf("%q %q, %s: it is good", r.Owner, r.Key, what)
			}
		}
	}
	for _, r := range []store.Record{
		{Owner: ownerDevices, Key: "u", Value: good[0].Value},
		{Owner: ownerDevices, Key: deviceKey("", "d"), Value: good[0].Value},
		{Owner: convOwner(""), Key: good[1].Key, Value: good[1].Value},
		{Owner: convOwner("u"), Key: "\x09t", Value: good[1].Value},
		{Owner: groupOwner(""), Key: metaKey, Value: good[2].Value},
		{Owner: groupOwner("g"), Key: "\x03u", Value: good[3].Value},
		{Owner: userGroupsOwner("u"), Key: "g\n", Value: []byte{}},
		{Owner: ownerKept, Key: "t", Value: good[5].Value},
		{Owner: ownerExpiring, Key: expiringKey(9, 4, "a\x1fb"), Value: num(3)},
		{Owner: ownerDead, Key: "1", Value: letter},
	} {
		if err := CheckRecord(r); err == nil {
			t.Errorf("%q %q: it is good", r.Owner, r.Key)
		}
	}
}
