package codec

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestStr8Boundaries(t *testing.T) {
	for _, n := range []int{0, 1, 64, 127, 128, 254, 255} {
		name := bytes.Repeat([]byte{'x'}, n)
		f, _, err := ConsumeFrame(AppendUnsub(nil, Unsub{Name: name}), DefaultLimit)
		if err != nil {
			t.Fatal(err)
		}
		u, err := ConsumeUnsub(f)
		if err != nil || !bytes.Equal(u.Name, name) {
			t.Errorf("name of %d: got %d, %v", n, len(u.Name), err)
		}
		if n == 0 {
			continue
		}
		f.Body = f.Body[:len(f.Body)-1]
		if _, err := ConsumeUnsub(f); !errors.Is(err, ErrTruncated) {
			t.Errorf("name of %d with a byte less: %v", n, err)
		}
	}
	mustPanic(t, "a name of 256 bytes", func() { AppendUnsub(nil, Unsub{Name: make([]byte, 256)}) })
	mustPanic(t, "a TLV value of 256 bytes", func() { TLVs(nil).Append(TagRoute, make([]byte, 256)) })
}

func TestStr16Boundaries(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 65535} {
		token := bytes.Repeat([]byte{'x'}, n)
		f, _, err := ConsumeFrame(AppendAuthToken(nil, AuthToken{Token: token}), MaxBody)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := ConsumeAuthToken(f); err != nil || !bytes.Equal(a.Token, token) {
			t.Errorf("token of %d: got %d, %v", n, len(a.Token), err)
		}
	}
	mustPanic(t, "a token of 65536 bytes", func() { AppendAuthToken(nil, AuthToken{Token: make([]byte, 65536)}) })
	mustPanic(t, "a TLV area of 65536 bytes", func() { AppendPing(nil, Ping{Ext: make(TLVs, 65536)}) })
}

func TestListBoundaries(t *testing.T) {
	var l States
	for i := range 65535 {
		l.Append(State{Epoch: uint64(i)})
	}
	f, _, err := ConsumeFrame(AppendWelcome(nil, Welcome{States: l}), MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ConsumeWelcome(f)
	if err != nil || w.States.Len() != 65535 {
		t.Fatalf("%d entries, %v", w.States.Len(), err)
	}
	next := uint64(0)
	for s := range w.States.All() {
		if s.Epoch != next {
			t.Fatalf("entry %d has epoch %d", next, s.Epoch)
		}
		next++
	}
	l.Append(State{})
	mustPanic(t, "a list of 65536 entries", func() { AppendWelcome(nil, Welcome{States: l}) })
}

// TestListEntries reads the entries of each list, to the end and leaving early.
func TestListEntries(t *testing.T) {
	p := []Position{{KindTopic, []byte("a"), 1, 2}, {KindAll, []byte("all"), 3, 4}}
	s := []State{{1, 2, 3}, {4, 5, 6}}
	m := []Mark{{KindDirect, []byte("a\x1fb"), 1}, {KindGroup, []byte("g"), 2}}
	c := []Conversation{{KindGroup, []byte("g"), 1, 2, 3, 4}, {KindDirect, nil, 5, 6, 7, 8}}
	i := 0
	for got := range positions(p...).All() {
		if !same(got, p[i]) {
			t.Errorf("position %d is %+v", i, got)
		}
		i++
	}
	i = 0
	for got := range states(s...).All() {
		if !same(got, s[i]) {
			t.Errorf("state %d is %+v", i, got)
		}
		i++
	}
	i = 0
	for got := range marks(m...).All() {
		if !same(got, m[i]) {
			t.Errorf("mark %d is %+v", i, got)
		}
		i++
	}
	i = 0
	for got := range conversations(c...).All() {
		if !same(got, c[i]) {
			t.Errorf("conversation %d is %+v", i, got)
		}
		i++
	}
	if i != len(c) {
		t.Errorf("%d conversations", i)
	}
	seen := 0
	for range positions(p...).All() {
		seen++
		break
	}
	for range states(s...).All() {
		seen++
		break
	}
	for range marks(m...).All() {
		seen++
		break
	}
	for range conversations(c...).All() {
		seen++
		break
	}
	if seen != 4 {
		t.Errorf("left early after %d entries", seen)
	}
}

func TestTextIsCutAtACharacter(t *testing.T) {
	tests := []struct {
		name, in string
		want     int
	}{
		{"empty", "", 0},
		{"fits", strings.Repeat("x", 255), 255},
		{"ascii", strings.Repeat("x", 256), 255},
		{"two-byte character across the end", strings.Repeat("é", 128), 254},
		{"two-byte character at the end", "x" + strings.Repeat("é", 128), 255},
		{"three bytes, one inside", strings.Repeat("x", 254) + "€", 254},
		{"three bytes, two inside", strings.Repeat("x", 253) + "€", 253},
		{"three bytes, all inside", strings.Repeat("x", 252) + "€€", 255},
		{"four bytes, one inside", strings.Repeat("x", 254) + "😀", 254},
		{"four bytes, two inside", strings.Repeat("x", 253) + "😀", 253},
		{"four bytes, three inside", strings.Repeat("x", 252) + "😀", 252},
		{"four bytes, all inside", strings.Repeat("x", 251) + "😀😀", 255},
		{"no UTF-8", strings.Repeat("\x80", 300), 255},
	}
	for _, tt := range tests {
		for _, wire := range [][]byte{AppendBye(nil, Bye{Reason: []byte(tt.in)}), AppendErr(nil, Err{Text: []byte(tt.in)})} {
			f, _, err := ConsumeFrame(wire, DefaultLimit)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			if f.Type == TypeBye {
				b, bad := ConsumeBye(f)
				got, err = b.Reason, bad
			} else {
				e, bad := ConsumeErr(f)
				got, err = e.Text, bad
			}
			if err != nil || string(got) != tt.in[:tt.want] {
				t.Errorf("%s in %v: %d bytes, want %d, %v", tt.name, f.Type, len(got), tt.want, err)
			}
			if utf8.ValidString(tt.in) && !utf8.Valid(got) {
				t.Errorf("%s in %v: cut inside a character", tt.name, f.Type)
			}
		}
	}
}

func TestMessageFlags(t *testing.T) {
	for flags := range 256 {
		f, _, _ := ConsumeFrame(AppendSend(nil, Send{Flags: uint8(flags)}), DefaultLimit)
		if _, err := ConsumeSend(f); (err == nil) != (flags <= 0x07) || (err != nil && !errors.Is(err, ErrUnknownFlags)) {
			t.Errorf("SEND with flags %#x: %v", flags, err)
		}
		f, _, _ = ConsumeFrame(AppendMsg(nil, Msg{Flags: uint8(flags)}), DefaultLimit)
		if _, err := ConsumeMsg(f); (err == nil) != (flags <= 0x0f) || (err != nil && !errors.Is(err, ErrUnknownFlags)) {
			t.Errorf("MSG with flags %#x: %v", flags, err)
		}
	}
}

func TestModes(t *testing.T) {
	for mode := range 256 {
		valid := mode == AckDelivered || mode == AckRead
		f, _, _ := ConsumeFrame(AppendAck(nil, Ack{Mode: uint8(mode)}), DefaultLimit)
		if _, err := ConsumeAck(f); (err == nil) != valid || (err != nil && !errors.Is(err, ErrMode)) {
			t.Errorf("ACK with mode %d: %v", mode, err)
		}
		f, _, _ = ConsumeFrame(AppendReceipt(nil, Receipt{Mode: uint8(mode)}), DefaultLimit)
		if _, err := ConsumeReceipt(f); (err == nil) != valid || (err != nil && !errors.Is(err, ErrMode)) {
			t.Errorf("RECEIPT with mode %d: %v", mode, err)
		}
		// A SUB has a req: its mode is judged where it can be answered INVALID.
		f, _, _ = ConsumeFrame(AppendSub(nil, Sub{Mode: uint8(mode)}), DefaultLimit)
		if _, err := ConsumeSub(f); err != nil {
			t.Errorf("SUB with mode %d: %v", mode, err)
		}
	}
}

func TestPingLengths(t *testing.T) {
	for n := range 12 {
		f := Frame{Type: TypePing, Body: make([]byte, n)}
		if _, err := ConsumePing(f); (err == nil) != (n == 0 || n == 8) || (err != nil && !errors.Is(err, ErrBodyLength)) {
			t.Errorf("PING of %d bytes: %v", n, err)
		}
	}
}

func TestMsgLen(t *testing.T) {
	for _, m := range []Msg{
		{},
		{Name: []byte("news"), Sender: []byte("u1"), Payload: []byte("hi")},
		{Ext: TLVs(nil).Append(TagOrigin, []byte("x")), Name: pair, Sender: id64, Payload: make([]byte, 70000)},
	} {
		if got, want := MsgLen(m), len(AppendMsg(nil, m)); got != want {
			t.Errorf("MsgLen %d, frame of %d bytes", got, want)
		}
	}
}

// TestMsgGrowth is the number of bytes by which docs/PROTOCOL.md lets a MSG exceed max_frame.
func TestMsgGrowth(t *testing.T) {
	peer := []byte("p")
	send := AppendSend(nil, Send{Kind: KindDirect, Name: peer})
	msg := AppendMsg(nil, Msg{Kind: KindDirect, Name: AppendPair(nil, id64, peer), Sender: id64})
	if grown := len(msg) - len(send); grown != 134 {
		t.Errorf("a MSG is up to %d bytes longer than its SEND", grown)
	}
}
