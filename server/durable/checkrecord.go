package durable

import (
	"strings"

	"gannet/codec"
	"gannet/store"
)

// CheckRecord says what is wrong with a record of this package's, for who verifies a store; nil for one of others.
func CheckRecord(r store.Record) error {
	owner, of, _ := strings.Cut(r.Owner, sep)
	switch owner {
	case ownerDevices:
		if user, device, ok := splitDeviceKey(r.Key); !ok || !codec.ValidID([]byte(user)) || !codec.ValidID([]byte(device)) {
			return errRecord
		}
		_, err := readDevice(r.Value)
		return err
	case "conv":
		if ch, ok := splitConvKey(r.Key); !ok || !ch.Kind.Valid() || !codec.ValidID([]byte(of)) {
			return errRecord
		}
		_, err := readConv(r.Value)
		return err
	case "group":
		return checkGroupRecord(of, r)
	case "groups":
		if !codec.ValidID([]byte(of)) || !codec.ValidID([]byte(r.Key)) || len(r.Value) > 0 {
			return errRecord
		}
	case ownerKept:
		if ch, ok := splitConvKey(r.Key); !ok || !ch.Kind.Valid() {
			return errRecord
		}
		_, err := readKept(r.Value)
		return err
	case ownerExpiring:
		v, err := openValue(r.Value)
		if err != nil {
			return err
		}
		_, low, _, ok := splitExpiringKey(r.Key)
		if high := v.uint(); !ok || high < low {
			return errRecord
		}
		return v.err()
	case ownerDead:
		_, _, err := readDead(r)
		return err
	case ownerDeadMeta:
		return checkNumbers(r.Value, 3)
	case ownerRetention:
		return checkNumbers(r.Value, 1)
	}
	return nil
}

// checkNumbers wants a value of n numbers.
func checkNumbers(b []byte, n int) error {
	v, err := openValue(b)
	if err != nil {
		return err
	}
	for range n {
		v.uint()
	}
	return v.err()
}

func checkGroupRecord(group string, r store.Record) error {
	if !codec.ValidID([]byte(group)) {
		return errRecord
	}
	if r.Key == metaKey {
		_, _, err := readMeta(group, r.Value)
		return err
	}
	user, ok := strings.CutPrefix(r.Key, memberPrefix)
	if !ok {
		return errRecord
	}
	_, err := readMember(user, r.Value)
	return err
}
