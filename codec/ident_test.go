package codec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidID(t *testing.T) {
	tests := []struct {
		in   string
		want bool
	}{
		{"", false},
		{"a", true},
		{" ", true},
		{"with space", true},
		{strings.Repeat("a", 64), true},
		{strings.Repeat("a", 65), false},
		{strings.Repeat("é", 32), true},
		{strings.Repeat("é", 33), false},
		{"größe", true},
		{"😀", true},
		{"\u0080", true}, // the protocol forbids U+0000–U+001F and U+007F alone
		{"a\x00", false},
		{"\x1f", false},
		{"\x20", true},
		{"\x7e", true},
		{"\x7f", false},
		{"é\x7f", false},
		{"line\nbreak", false},
		{"\xff", false},
		{"a\xc3", false},
		{"\xc0\x80", false},     // overlong NUL
		{"\xed\xa0\x80", false}, // surrogate
		{"\xf4\x90\x80\x80", false},
	}
	for _, tt := range tests {
		if got := ValidID([]byte(tt.in)); got != tt.want {
			t.Errorf("ValidID(%q) = %v", tt.in, got)
		}
	}
	for c := range 128 {
		if got, want := ValidID([]byte{'a', byte(c)}), c >= 0x20 && c != 0x7f; got != want {
			t.Errorf("ValidID with %#x = %v", c, got)
		}
	}
}

func TestPair(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"a", "b", "a\x1fb"},
		{"b", "a", "a\x1fb"},
		{"a", "a", "a\x1fa"},
		{"a", "aa", "a\x1faa"},
		{"aa", "a", "a\x1faa"},
		{"Z", "a", "Z\x1fa"},
		{"é", "z", "z\x1fé"}, // order of bytes, not of letters
	} {
		if got := AppendPair(nil, []byte(tt.a), []byte(tt.b)); string(got) != tt.want {
			t.Errorf("pair of %q and %q is %q", tt.a, tt.b, got)
		}
	}
	if got := AppendPair([]byte("x"), []byte("b"), []byte("a")); string(got) != "xa\x1fb" {
		t.Errorf("appended %q", got)
	}
	if n := len(AppendPair(nil, id64, id64)); n != MaxPair {
		t.Errorf("longest pair has %d bytes, MaxPair is %d", n, MaxPair)
	}
}

func TestSplitPairRefuses(t *testing.T) {
	for _, name := range []string{
		"", "a", "\x1f", "a\x1f", "\x1fa", "b\x1fa", "a\x1fb\x1fc", "a\x1f\x1fb", "a\nb\x1fc", "a\x1f\xff",
		strings.Repeat("a", 65) + "\x1fb", "a\x1f" + strings.Repeat("b", 65),
	} {
		if a, b, ok := SplitPair([]byte(name)); ok {
			t.Errorf("SplitPair(%q) = %q, %q", name, a, b)
		}
	}
}

func TestPairProperty(t *testing.T) {
	id := rapid.StringMatching(`[ -~é😀]{1,16}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := []byte(id.Draw(t, "a")), []byte(id.Draw(t, "b"))
		name := AppendPair(nil, a, b)
		if !bytes.Equal(name, AppendPair(nil, b, a)) {
			t.Fatal("depends on who asks")
		}
		x, y, ok := SplitPair(name)
		if !ok || !ValidName(KindDirect, name) {
			t.Fatalf("%q is not a pair", name)
		}
		if bytes.Compare(a, b) > 0 {
			a, b = b, a
		}
		if !bytes.Equal(x, a) || !bytes.Equal(y, b) {
			t.Fatalf("split into %q and %q", x, y)
		}
		if ValidName(KindTopic, name) {
			t.Fatal("a pair is no topic")
		}
	})
}

func TestValidName(t *testing.T) {
	if !ValidName(KindTopic, []byte("news")) || ValidName(KindDirect, []byte("news")) || ValidName(KindGroup, nil) {
		t.Error("names are judged by kind")
	}
}

func TestCodeRanges(t *testing.T) {
	for c := range 65536 {
		code := Code(c)
		want := [3]bool{c >= 1 && c <= 99, c >= 200 && c <= 399, c >= 200 && c <= 299}
		if got := [3]bool{code.Temporary(), code.EndsConnection(), code.Reconnect()}; got != want {
			t.Fatalf("code %d: temporary, ends, reconnect = %v, want %v", c, got, want)
		}
	}
	for _, code := range []Code{CodeBusy, CodeRateLimited, CodeUnavailable} {
		if !code.Temporary() {
			t.Errorf("%v must be worth a second try", code)
		}
	}
	for _, code := range []Code{CodeOK, CodeForbidden, CodeNotFound, CodeTooLarge, CodeInvalid, CodeDuplicate} {
		if code.Temporary() || code.EndsConnection() {
			t.Errorf("%v must neither be tried again nor end the connection", code)
		}
	}
	for _, code := range []Code{CodeUnauthorized, CodeExpired, CodeReplaced, CodeKicked, CodeMalformed, CodeVersion, CodeTimeout} {
		if !code.EndsConnection() || code.Reconnect() {
			t.Errorf("%v must end the connection for good", code)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		in   fmt.Stringer
		want string
	}{
		{CodeOK, "OK"}, {CodeTimeout, "TIMEOUT"}, {Code(9999), "CODE-9999"},
		{TypeHello, "HELLO"}, {TypeErr, "ERR"}, {Type(0), "TYPE-0"}, {FirstUnknownRequest, "TYPE-24"}, {Type(255), "TYPE-255"},
		{KindInbox, "inbox"}, {KindAll, "all"}, {Kind(5), "kind-5"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	for k := range 256 {
		if got, want := Kind(k).Valid(), k >= 1 && k <= 4; got != want {
			t.Errorf("Kind(%d).Valid() = %v", k, got)
		}
	}
}
