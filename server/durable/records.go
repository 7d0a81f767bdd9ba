package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"gannet/codec"
	"gannet/store"
)

// Records of the store that this package defines. Integers in values are varints; a value begins with its version, 1.
//
//	owner              key                   value
//	"devices"          user 0x1F device      seen (Unix milliseconds), inbox position, n × (kind, name str8, seq): deviceRecord
//	"conv" 0x1F user   kind byte, name       delivered, read: convRecord
//	"group" 0x1F name  0x01 "meta"           groupMeta (groups.go)
//	"group" 0x1F name  0x02 user             member (groups.go)
//	"groups" 0x1F user name                  empty: the user is a member
//	"kept"             kind byte, name       judged: keptRecord (kept.go)
//	"expiring"         see undelivered.go
//	"dead", "deadmeta" see deadletter.go
//	"retention"        "clock"               Unix milliseconds (believed.go)
//
// Identifiers hold no control characters, so 0x1F cannot be in one; in the name of a direct channel it stands between the users.

const sep = "\x1f"

const recordVersion = 1

var errRecord = errors.New("durable: damaged record")

// deviceRecord is where a device of a user is.
type deviceRecord struct {
	Seen uint64 // Unix milliseconds, when it was last here
	Pos  uint64 // of the inbox: delivered up to here
	Logs []logMark
}

// logMark is a delivered position in a channel that is read from its own log.
type logMark struct {
	Kind codec.Kind
	Name string
	Seq  uint64
}

const ownerDevices = "devices"

func deviceKey(user, device string) string { return user + sep + device }

func splitDeviceKey(key string) (user, device string, ok bool) { return strings.Cut(key, sep) }

// convRecord is a user's side of a conversation.
type convRecord struct {
	Delivered uint64
	Read      uint64
}

func convOwner(user string) string { return "conv" + sep + user }

func convKey(kind codec.Kind, name string) string { return string([]byte{byte(kind)}) + name }

func splitConvKey(key string) (store.Channel, bool) {
	if len(key) < 2 {
		return store.Channel{}, false
	}
	return store.Channel{Kind: codec.Kind(key[0]), Name: key[1:]}, true
}

func groupOwner(name string) string { return "group" + sep + name }

func userGroupsOwner(user string) string { return "groups" + sep + user }

// values reads varints and short strings; the first thing that does not fit makes all the rest fail.
type values struct {
	b   []byte
	bad bool
}

func openValue(b []byte) (*values, error) {
	v := &values{b: b}
	if n := v.uint(); v.bad || n == 0 {
		return nil, errRecord
	} else if n > recordVersion {
		return nil, fmt.Errorf("%w: a record of version %d, this program knows %d", store.ErrFormat, n, recordVersion)
	}
	return v, nil
}

func (v *values) uint() uint64 {
	u, n := binary.Uvarint(v.b)
	if n <= 0 {
		v.bad, v.b = true, nil
		return 0
	}
	v.b = v.b[n:]
	return u
}

func (v *values) str() string {
	n := v.uint()
	if n > uint64(len(v.b)) {
		v.bad, v.b = true, nil
		return ""
	}
	s := string(v.b[:n])
	v.b = v.b[n:]
	return s
}

func (v *values) err() error {
	if v.bad || len(v.b) > 0 {
		return errRecord
	}
	return nil
}

func appendUint(b []byte, u uint64) []byte { return binary.AppendUvarint(b, u) }

func appendStr(b []byte, s string) []byte { return append(appendUint(b, uint64(len(s))), s...) }

func (d deviceRecord) append(b []byte) []byte {
	b = appendUint(appendUint(appendUint(b, recordVersion), d.Seen), d.Pos)
	b = appendUint(b, uint64(len(d.Logs)))
	for _, m := range d.Logs {
		b = appendUint(appendStr(append(b, byte(m.Kind)), m.Name), m.Seq)
	}
	return b
}

func readDevice(b []byte) (d deviceRecord, err error) {
	v, err := openValue(b)
	if err != nil {
		return d, err
	}
	d.Seen, d.Pos = v.uint(), v.uint()
	for n := v.uint(); n > 0 && !v.bad; n-- {
		if len(v.b) == 0 {
			return d, errRecord
		}
		m := logMark{Kind: codec.Kind(v.b[0])}
		v.b = v.b[1:]
		m.Name, m.Seq = v.str(), v.uint()
		d.Logs = append(d.Logs, m)
	}
	return d, v.err()
}

func (c convRecord) append(b []byte) []byte {
	return appendUint(appendUint(appendUint(b, recordVersion), c.Delivered), c.Read)
}

func readConv(b []byte) (c convRecord, err error) {
	v, err := openValue(b)
	if err != nil {
		return c, err
	}
	c.Delivered, c.Read = v.uint(), v.uint()
	return c, v.err()
}
