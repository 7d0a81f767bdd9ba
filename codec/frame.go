package codec

import "iter"

// Frame is one frame of the stream, cut but not yet read.
type Frame struct {
	Type Type
	Ext  TLVs   // the TLV area; nil without FlagExt
	Body []byte // behind the TLV area
}

// ConsumeHeader reads the four header bytes: the length of the body in bytes, its flags and type.
// ok is false while fewer than four bytes are there.
func ConsumeHeader(b []byte) (length int, flags uint8, t Type, ok bool) {
	if len(b) < HeaderLen {
		return 0, 0, 0, false
	}
	return int(b[0])<<16 | int(b[1])<<8 | int(b[2]), b[3] & 0xe0, Type(b[3] & 0x1f), true
}

// ConsumeFrame cuts the first frame off b. n is the number of bytes it takes; n == 0 with a nil error means
// that more bytes are needed. The header is judged as soon as it is there: a body longer than limit is ErrTooLarge
// and a reserved flag is ErrReservedFlag before any body byte has come.
func ConsumeFrame(b []byte, limit int) (f Frame, n int, err error) {
	length, flags, t, ok := ConsumeHeader(b)
	if !ok {
		return Frame{}, 0, nil
	}
	if length > limit {
		return Frame{Type: t}, 0, ErrTooLarge
	}
	if flags&(FlagCompressed|FlagSealed) != 0 {
		return Frame{Type: t}, 0, ErrReservedFlag
	}
	n = HeaderLen + length
	if len(b) < n {
		return Frame{}, 0, nil
	}
	f = Frame{Type: t, Body: b[HeaderLen:n:n]}
	if flags&FlagExt != 0 {
		r := reader{b: f.Body}
		f.Ext = TLVs(r.str16())
		if r.bad {
			return f, n, ErrTruncated
		}
		f.Body = r.rest()
		if !f.Ext.valid() {
			return f, n, ErrTLV
		}
	}
	return f, n, nil
}

// begin opens a frame behind dst; end closes it. Between the two the body is appended.
func begin(dst []byte, t Type, ext TLVs) []byte {
	if len(ext) == 0 {
		return append(dst, 0, 0, 0, byte(t))
	}
	dst = append(dst, 0, 0, 0, byte(t)|FlagExt)
	return appendStr16(dst, ext)
}

func end(dst []byte, start int) []byte {
	n := len(dst) - start - HeaderLen
	if n > MaxBody {
		panic("codec: frame body longer than a u24")
	}
	dst[start], dst[start+1], dst[start+2] = byte(n>>16), byte(n>>8), byte(n)
	return dst
}

// AppendFrame appends a frame of any type with the given body.
func AppendFrame(dst []byte, f Frame) []byte {
	start := len(dst)
	dst = begin(dst, f.Type, f.Ext)
	return end(append(dst, f.Body...), start)
}

// Tag is the tag of a TLV.
type Tag uint8

// TLV tags. Unknown ones are skipped; 128–255 belong to the application.
const (
	TagTrace       Tag = 1  // 25 bytes: trace id 16, span id 8, flags 1
	TagRoute       Tag = 2  // routing tag of a topic message; in SUB a filter; may repeat
	TagTTL         Tag = 3  // u32 seconds
	TagHeartbeat   Tag = 4  // u16 seconds; in PING a wish, in PONG the advice in force
	TagOrigin      Tag = 5  // up to 16 opaque bytes by which a sender knows its own echo
	TagNonce       Tag = 6  // u64, in WELCOME: highest nonce stored for this device
	TagTarget      Tag = 7  // reserved: edit, recall
	TagStream      Tag = 8  // reserved: part of a stream
	TagKeyID       Tag = 9  // reserved
	TagTime        Tag = 10 // reserved: server time in PONG
	TagEvent       Tag = 11 // u8, in MSG of a group: which change of the group the message tells
	TagApplication Tag = 128
)

// TLVs is an area of `tag u8, len u8, value`, as it stands on the wire. The TLVs of a Frame that
// ConsumeFrame returned are well formed.
type TLVs []byte

// Append adds one TLV. It panics on a value of more than 255 bytes.
func (t TLVs) Append(tag Tag, value []byte) TLVs {
	return TLVs(appendStr8(append(t, byte(tag)), value))
}

// AppendUint16 adds a TLV that holds a u16.
func (t TLVs) AppendUint16(tag Tag, v uint16) TLVs {
	return be.AppendUint16(append(t, byte(tag), 2), v)
}

// AppendUint32 adds a TLV that holds a u32.
func (t TLVs) AppendUint32(tag Tag, v uint32) TLVs {
	return be.AppendUint32(append(t, byte(tag), 4), v)
}

// AppendUint64 adds a TLV that holds a u64.
func (t TLVs) AppendUint64(tag Tag, v uint64) TLVs {
	return be.AppendUint64(append(t, byte(tag), 8), v)
}

// next cuts the first TLV off; ok is false when there is none or when it runs past the area.
func (t TLVs) next() (tag Tag, value []byte, rest TLVs, ok bool) {
	if len(t) < 2 || len(t) < 2+int(t[1]) {
		return 0, nil, nil, false
	}
	n := 2 + int(t[1])
	return Tag(t[0]), t[2:n:n], t[n:], true
}

func (t TLVs) valid() bool {
	for len(t) > 0 {
		_, _, rest, ok := t.next()
		if !ok {
			return false
		}
		t = rest
	}
	return true
}

// All yields the TLVs in their order.
func (t TLVs) All() iter.Seq2[Tag, []byte] {
	return func(yield func(Tag, []byte) bool) {
		left := t // t itself must not change: it would move to the heap
		for {
			tag, value, rest, ok := left.next()
			if !ok || !yield(tag, value) {
				return
			}
			left = rest
		}
	}
}

// Get returns the value of the first TLV with this tag.
func (t TLVs) Get(tag Tag) (value []byte, ok bool) {
	for {
		g, v, rest, more := t.next()
		if !more {
			return nil, false
		}
		if g == tag {
			return v, true
		}
		t = rest
	}
}

// Uint16 returns the first TLV with this tag, if it holds a u16.
func (t TLVs) Uint16(tag Tag) (uint16, bool) {
	if v, ok := t.Get(tag); ok && len(v) == 2 {
		return be.Uint16(v), true
	}
	return 0, false
}

// Uint32 returns the first TLV with this tag, if it holds a u32.
func (t TLVs) Uint32(tag Tag) (uint32, bool) {
	if v, ok := t.Get(tag); ok && len(v) == 4 {
		return be.Uint32(v), true
	}
	return 0, false
}

// Uint64 returns the first TLV with this tag, if it holds a u64.
func (t TLVs) Uint64(tag Tag) (uint64, bool) {
	if v, ok := t.Get(tag); ok && len(v) == 8 {
		return be.Uint64(v), true
	}
	return 0, false
}
