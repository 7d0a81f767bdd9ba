package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

var be = binary.BigEndian

// ErrMalformed is what every error of this package wraps: the bytes break the format and no further
// byte can mend them. The connection that brought them ends with CodeMalformed.
var ErrMalformed = errors.New("malformed")

// ErrTooLarge wraps ErrMalformed for a frame whose announced length is over the limit.
var ErrTooLarge = fmt.Errorf("%w: frame longer than the limit", ErrMalformed)

// Errors of ConsumeX, one for each way of being malformed.
var (
	ErrReservedFlag = fmt.Errorf("%w: reserved frame flag", ErrMalformed)
	ErrTruncated    = fmt.Errorf("%w: a field runs past the frame", ErrMalformed)
	ErrTrailing     = fmt.Errorf("%w: bytes behind the last field", ErrMalformed)
	ErrTLV          = fmt.Errorf("%w: a TLV runs past its area", ErrMalformed)
	ErrMagic        = fmt.Errorf("%w: wrong magic", ErrMalformed)
	ErrBodyLength   = fmt.Errorf("%w: body length", ErrMalformed)
	ErrUnknownFlags = fmt.Errorf("%w: unknown message flags", ErrMalformed)
	ErrMode         = fmt.Errorf("%w: unknown mode", ErrMalformed)
)

// reader takes fields off the front of a body. After the first field that does not fit, bad is set and every
// further field is zero, so a decoder checks once, at the end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) u8() uint8 {
	if len(r.b) < 1 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) u16() uint16 {
	if len(r.b) < 2 {
		r.bad, r.b = true, nil
		return 0
	}
	v := be.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) u32() uint32 {
	if len(r.b) < 4 {
		r.bad, r.b = true, nil
		return 0
	}
	v := be.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) u64() uint64 {
	if len(r.b) < 8 {
		r.bad, r.b = true, nil
		return 0
	}
	v := be.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// take cuts n bytes off; the result cannot grow into what follows it.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) str8() []byte  { return r.take(int(r.u8())) }
func (r *reader) str16() []byte { return r.take(int(r.u16())) }

// rest takes everything that is left.
func (r *reader) rest() []byte {
	v := r.b[:len(r.b):len(r.b)]
	r.b = nil
	return v
}

// done ends a decoder: nothing was missing and nothing is left.
func (r *reader) done() error {
	if r.bad {
		return ErrTruncated
	}
	if len(r.b) != 0 {
		return ErrTrailing
	}
	return nil
}

// appendStr8 panics on more than 255 bytes: callers check identifiers before they encode.
func appendStr8(dst, s []byte) []byte {
	if len(s) > 0xff {
		panic("codec: str8 of more than 255 bytes")
	}
	return append(append(dst, byte(len(s))), s...)
}

// appendText8 is for text that people read: it is cut to fit, at the start of a character. Bytes that are not
// UTF-8 have no such place and are cut at 255.
func appendText8(dst, s []byte) []byte {
	if len(s) > 0xff {
		n := 0xff
		for n > 0xff-utf8.UTFMax+1 && !utf8.RuneStart(s[n]) {
			n--
		}
		if !utf8.RuneStart(s[n]) {
			n = 0xff
		}
		s = s[:n]
	}
	return append(append(dst, byte(len(s))), s...)
}

func appendStr16(dst, s []byte) []byte {
	if len(s) > 0xffff {
		panic("codec: str16 of more than 65535 bytes")
	}
	return append(be.AppendUint16(dst, uint16(len(s))), s...)
}
