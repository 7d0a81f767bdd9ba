package codec

import (
	"bytes"
	"errors"
	"testing"
)

// header builds the four bytes of a frame's header.
func header(length int, typ byte) []byte {
	return []byte{byte(length >> 16), byte(length >> 8), byte(length), typ}
}

func TestHeaderIsJudgedOnFourBytes(t *testing.T) {
	tests := []struct {
		length int
		typ    byte
		limit  int
		want   error
	}{
		{0, byte(TypePing), 0, nil},
		{1, byte(TypePing), 0, ErrTooLarge},
		{LoginLimit, byte(TypeHello), LoginLimit, nil},
		{LoginLimit + 1, byte(TypeHello), LoginLimit, ErrTooLarge},
		{DefaultLimit, byte(TypeSend), DefaultLimit, nil},
		{DefaultLimit + 1, byte(TypeSend), DefaultLimit, ErrTooLarge},
		{MaxBody, byte(TypeMsg), MaxBody, nil},
		{MaxBody, byte(TypeMsg), MaxBody - 1, ErrTooLarge},
		{8, byte(TypeMsg) | FlagCompressed, 100, ErrReservedFlag},
		{8, byte(TypeMsg) | FlagSealed, 100, ErrReservedFlag},
		{8, byte(TypeMsg) | FlagSealed | FlagCompressed | FlagExt, 100, ErrReservedFlag},
		{101, byte(TypeMsg) | FlagSealed, 100, ErrTooLarge},
	}
	for _, tt := range tests {
		h := header(tt.length, tt.typ)
		for cut := range HeaderLen {
			if _, n, err := ConsumeFrame(h[:cut], tt.limit); n != 0 || err != nil {
				t.Errorf("length %d type %#x: on %d bytes n %d, %v", tt.length, tt.typ, cut, n, err)
			}
		}
		f, n, err := ConsumeFrame(h, tt.limit)
		if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
			t.Errorf("length %d type %#x limit %d: %v, want %v", tt.length, tt.typ, tt.limit, err, tt.want)
		}
		if err != nil && (n != 0 || f.Type != Type(tt.typ&0x1f)) {
			t.Errorf("length %d type %#x: refused with n %d and type %v", tt.length, tt.typ, n, f.Type)
		}
	}
}

func TestConsumeHeader(t *testing.T) {
	length, flags, typ, ok := ConsumeHeader([]byte{0x01, 0x02, 0x03, 0xff, 0x99})
	if length != 0x010203 || flags != 0xe0 || typ != 31 || !ok {
		t.Errorf("got %#x %#x %d %v", length, flags, typ, ok)
	}
}

// TestLengthBytes puts bodies around the places where the length takes another byte through a round trip.
func TestLengthBytes(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 65535, 65536, MaxBody} {
		wire := AppendFrame([]byte("before"), Frame{Type: FirstSkippable, Body: make([]byte, n)})[len("before"):]
		if len(wire) != HeaderLen+n {
			t.Fatalf("body of %d makes a frame of %d", n, len(wire))
		}
		f, used, err := ConsumeFrame(append(wire, "behind"...), MaxBody)
		if err != nil || used != HeaderLen+n || len(f.Body) != n || f.Ext != nil {
			t.Errorf("body of %d: n %d, body %d, ext %v, %v", n, used, len(f.Body), f.Ext, err)
		}
	}
	mustPanic(t, "a body of 16 MiB", func() {
		AppendFrame(nil, Frame{Type: FirstSkippable, Body: make([]byte, MaxBody+1)})
	})
}

func TestTLVOverruns(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		want error
	}{
		{"no ext_len", nil, ErrTruncated},
		{"half an ext_len", []byte{0}, ErrTruncated},
		{"area past the frame", []byte{0, 1}, ErrTruncated},
		{"largest area past the frame", append([]byte{0xff, 0xff}, make([]byte, 0xfffe)...), ErrTruncated},
		{"empty area", []byte{0, 0}, nil},
		{"tag alone", []byte{0, 1, 5}, ErrTLV},
		{"value one byte short", []byte{0, 4, 5, 3, 1, 2}, ErrTLV},
		{"value reaches into the body", []byte{0, 2, 5, 2, 1, 2}, ErrTLV},
		{"second one runs over", []byte{0, 5, 5, 1, 9, 6, 1}, ErrTLV},
		{"empty value", []byte{0, 2, 5, 0}, nil},
		{"two", []byte{0, 5, 5, 1, 9, 6, 0, 1, 1}, nil},
		{"value of 255 bytes", append([]byte{1, 1, 5, 255}, make([]byte, 255)...), nil},
		{"largest area", append([]byte{0xff, 0xff}, fill(0xffff)...), nil},
	}
	for _, tt := range tests {
		f, n, err := ConsumeFrame(append(header(len(tt.body), byte(TypePing)|FlagExt), tt.body...), MaxBody)
		if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if n != HeaderLen+len(tt.body) {
			t.Errorf("%s: n %d, so the frame can't be stepped over", tt.name, n)
		}
		if err == nil && 2+len(f.Ext)+len(f.Body) != len(tt.body) {
			t.Errorf("%s: area %d, body %d", tt.name, len(f.Ext), len(f.Body))
		}
	}
}

// fill makes a TLV area of exactly n bytes.
func fill(n int) (area TLVs) {
	for n-len(area) >= 2 {
		area = area.Append(TagApplication, make([]byte, min(255, n-len(area)-2, max(0, n-len(area)-4))))
	}
	return area
}

func TestTLVs(t *testing.T) {
	area := TLVs(nil).Append(TagRoute, []byte("a")).AppendUint16(TagHeartbeat, 30).AppendUint32(TagTTL, 1<<31).
		AppendUint64(TagNonce, 1<<63).Append(TagRoute, []byte("bc")).Append(TagOrigin, nil)
	var got []string
	for tag, value := range area.All() {
		got = append(got, string(rune('0'+tag))+string(value))
		if len(got) == 6 {
			break
		}
	}
	want := []string{"2a", "4\x00\x1e", "3\x80\x00\x00\x00", "6\x80\x00\x00\x00\x00\x00\x00\x00", "2bc", "5"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("TLV %d is %q, want %q", i, got[i], want[i])
		}
	}
	if v, ok := area.Get(TagRoute); !ok || string(v) != "a" {
		t.Errorf("Get takes the first: %q, %v", v, ok)
	}
	if v, ok := area.Get(TagOrigin); !ok || len(v) != 0 {
		t.Errorf("an empty value is there: %q, %v", v, ok)
	}
	if _, ok := area.Get(TagTrace); ok {
		t.Error("found a TLV that is not there")
	}
	if v, ok := area.Uint16(TagHeartbeat); !ok || v != 30 {
		t.Errorf("Uint16 %d, %v", v, ok)
	}
	if v, ok := area.Uint32(TagTTL); !ok || v != 1<<31 {
		t.Errorf("Uint32 %d, %v", v, ok)
	}
	if v, ok := area.Uint64(TagNonce); !ok || v != 1<<63 {
		t.Errorf("Uint64 %d, %v", v, ok)
	}
	_, ok16 := area.Uint16(TagTTL)
	_, ok32 := area.Uint32(TagNonce)
	_, ok64 := area.Uint64(TagHeartbeat)
	if ok16 || ok32 || ok64 {
		t.Error("a value of another size was read as a number")
	}
	for range area.All() {
		break // leaving early is allowed
	}
}

// TestResultsCannotGrowIntoTheInput appends to what was decoded: the bytes behind it must not change.
func TestResultsCannotGrowIntoTheInput(t *testing.T) {
	for _, g := range goldens() {
		input := append(bytes.Clone(g.wire), "next frame"...)
		kept := bytes.Clone(input)
		f, _, err := ConsumeFrame(input, MaxBody)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Ext.Append(TagTime, []byte("12345678"))
		_ = append(f.Body, 0xee)
		switch f.Type {
		case TypeSend:
			s, err := ConsumeSend(f)
			if err != nil {
				t.Fatal(err)
			}
			_ = append(s.Name, 0xee)
			_ = append(s.Payload, 0xee)
		case TypeHello:
			h, err := ConsumeHello(f)
			if err != nil {
				t.Fatal(err)
			}
			_ = append(h.Token, 0xee)
			h.Positions.Append(Position{Name: []byte("x")})
		}
		if !bytes.Equal(input, kept) {
			t.Errorf("%s: appending to a result changed the input", g.name)
		}
	}
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}
