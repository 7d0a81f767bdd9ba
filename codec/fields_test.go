package codec

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFieldsText(t *testing.T) {
	tests := []struct {
		name       string
		wire       []byte
		fromClient bool
		want       []Field
	}{
		{"hello with a list", AppendHello(nil, Hello{
			Ext: TLVs(nil).Append(TagRoute, []byte("red")).Append(TagOrigin, nil), Version: 1, Heartbeat: 30, Class: 2, Device: []byte("d"),
			User: []byte("größe"), Token: []byte{0, 1}, Positions: positions(Position{KindTopic, []byte("t"), 1, 2}, Position{KindAll, nil, 0, maxU64}),
		}), true, []Field{
			{"ext[0].tag", "2"}, {"ext[0].value", `726564 "red"`}, {"ext[1].tag", "5"}, {"ext[1].value", ""},
			{"magic", "GNT"}, {"version", "1"}, {"features", "0"}, {"heartbeat", "30"}, {"class", "2"}, {"device", "d"},
			{"user", "größe"}, {"token", "0001"}, {"inbox_epoch", "0"}, {"inbox_pos", "0"}, {"n", "2"},
			{"positions[0].kind", "3"}, {"positions[0].name", "t"}, {"positions[0].epoch", "1"}, {"positions[0].seq", "2"},
			{"positions[1].kind", "4"}, {"positions[1].name", ""}, {"positions[1].epoch", "0"}, {"positions[1].seq", "18446744073709551615"},
		}},
		{"auth of a client", AppendAuthToken(nil, AuthToken{Token: []byte("a b")}), true, []Field{{"token", `612062 "a b"`}}},
		{"auth of a server", AppendAuthResult(nil, AuthResult{Code: 300, Expires: 5}), false, []Field{{"code", "300 UNAUTHORIZED"}, {"expires", "5"}}},
		{"unknown code", AppendErr(nil, Err{Req: 1, Code: 77}), false, []Field{{"req", "1"}, {"code", "77 CODE-77"}, {"text", ""}}},
		{"ping", AppendPing(nil, Ping{Data: []byte("\x00\x01\x02\x03abcd")}), true, []Field{{"data", "0001020361626364"}}},
		{"names that need quotes", AppendReceipt(nil, Receipt{Mode: 1, Kind: KindDirect, Name: []byte("a\x1fb"), User: []byte(`"q`)}), false, []Field{
			{"mode", "1"}, {"kind", "1"}, {"name", `"a\x1fb"`}, {"seq", "0"}, {"user", `"\"q"`}, {"time", "0"},
		}},
		{"payload of lines", AppendState(nil, StateUpdate{Kind: KindTopic, Name: []byte("\xff"), Key: []byte("a b"), Payload: []byte("x\ty\n")}), true, []Field{
			{"kind", "3"}, {"name", `"\xff"`}, {"key", "a b"}, {"user", ""}, {"ttl", "0"}, {"payload", `7809790a "x\ty\n"`},
		}},
		{"unknown request", unhex("000006 18 00000102 abcd"), true, []Field{{"req", "258"}, {"data", "abcd"}}},
		{"skippable", unhex("000001 1b 00"), false, []Field{{"data", "00"}}},
	}
	for _, tt := range tests {
		got, err := readWhole(tt.wire, tt.fromClient, DefaultLimit)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v\ngot  %q\nwant %q", tt.name, err, got, tt.want)
		}
	}
}

// TestFieldsSaysWhere takes the places of errors: name of the field and offset in the frame.
func TestFieldsSaysWhere(t *testing.T) {
	ext := TLVs(nil).Append(TagOrigin, []byte("abc"))
	tests := []struct {
		name  string
		wire  []byte
		err   error
		where string
		shown int // fields that could be read
	}{
		{"field cut", cutBody(AppendPull(nil, Pull{Name: []byte("t")}), 1), ErrTruncated, "PULL limit (u16) at byte 19:", 4},
		{"behind an area", cutBody(AppendPull(nil, Pull{Ext: ext, Name: []byte("t")}), 1), ErrTruncated, "PULL limit (u16) at byte 26:", 6},
		{"entry cut", cutBody(AppendAck(nil, Ack{Mode: 1, Marks: marks(Mark{Name: []byte("a")}, Mark{Name: []byte("bc")})}), 9), ErrTruncated, "ACK marks[1].name (str8) at byte 27:", 7},
		{"left over", growBody(AppendPos(nil, Pos{}), 3), ErrTrailing, "POS at byte 12, 3 left over:", 1},
		{"flags", AppendSend(nil, Send{Flags: 0x40}), ErrUnknownFlags, "SEND flags at byte 16:", 7},
		{"mode behind an area", AppendAck(nil, Ack{Ext: ext, Mode: 9}), ErrMode, "ACK mode at byte 11:", 5},
		{"magic", unhex("000004 01 47455420"), ErrMagic, "HELLO magic at byte 4:", 2},
		{"ping", unhex("000002 04 0102"), ErrBodyLength, "PING data at byte 4:", 1},
		{"request without req", unhex("000003 18 000000"), ErrTruncated, "TYPE-24 req (u32) at byte 4:", 0},
		{"unknown type", unhex("000001 1c 00"), ErrUnknownType, "type 28:", 0},
	}
	for _, tt := range tests {
		fields, err := readWhole(tt.wire, true, DefaultLimit)
		if !errors.Is(err, tt.err) || !errors.Is(err, ErrMalformed) || !strings.HasPrefix(err.Error(), tt.where) {
			t.Errorf("%s: %v, want %q and %v", tt.name, err, tt.where, tt.err)
		}
		if len(fields) != tt.shown {
			t.Errorf("%s: %d fields, want %d: %q", tt.name, len(fields), tt.shown, fields)
		}
	}
}

// TestFieldsAgreesWithConsume puts random bodies through both: same verdict, same error.
func TestFieldsAgreesWithConsume(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SampledFrom(bodies).Draw(t, "body")
		wire := b.encode(nil, b.gen(t))
		at := rapid.IntRange(HeaderLen, len(wire)).Draw(t, "at")
		change := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "change")
		wire = setBody(slices.Insert(bytes.Clone(wire), at, change...))
		f, _, err := ConsumeFrame(wire, MaxBody)
		if err != nil {
			return // the area of TLVs broke; Fields is not asked then
		}
		_, want := b.decode(f)
		fields, got := Fields(f, b.fromClient)
		if (got == nil) != (want == nil) || !errors.Is(got, want) {
			t.Fatalf("Fields %v, Consume %v", got, want)
		}
		if want == nil && len(fields) == 0 {
			t.Fatal("a valid frame without fields")
		}
	})
}
