package codec

import (
	"bytes"
	"unicode/utf8"
)

// PairSeparator stands between the two users in the name of a direct channel.
const PairSeparator = 0x1f

// ValidID says whether s is an identifier (user, device, channel name, node): 1 to 64 bytes of valid UTF-8
// without control characters (U+0000–U+001F, U+007F).
func ValidID(s []byte) bool {
	if len(s) == 0 || len(s) > MaxID {
		return false
	}
	ascii := true
	for _, c := range s {
		if c < 0x20 || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(s)
}

// AppendPair appends the name of the direct channel of users a and b: both in byte order with PairSeparator
// between, the same whoever asks.
func AppendPair(dst, a, b []byte) []byte {
	if bytes.Compare(a, b) > 0 {
		a, b = b, a
	}
	return append(append(append(dst, a...), PairSeparator), b...)
}

// SplitPair returns the two users of a direct channel's name; ok is false when name is no pair of valid
// identifiers in byte order.
func SplitPair(name []byte) (a, b []byte, ok bool) {
	i := bytes.IndexByte(name, PairSeparator)
	if i < 0 {
		return nil, nil, false
	}
	a, b = name[:i], name[i+1:]
	return a, b, ValidID(a) && ValidID(b) && bytes.Compare(a, b) <= 0
}

// ValidName says whether name is a channel's name as frames other than SEND and a client's STATE carry
// it: a pair for a direct channel, an identifier otherwise.
func ValidName(kind Kind, name []byte) bool {
	if kind == KindDirect {
		_, _, ok := SplitPair(name)
		return ok
	}
	return ValidID(name)
}
