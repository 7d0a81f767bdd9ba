package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gannet/codec"
)

func decodeText(t *testing.T, data []byte, fromClient bool, limit int) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := decodeStream(&out, data, fromClient, limit)
	return out.String(), err
}

func TestDecodeStreamPrintsFields(t *testing.T) {
	data := codec.AppendSend(nil, codec.Send{
		Ext: codec.TLVs(nil).Append(codec.TagOrigin, []byte{0xca, 0xfe}), Req: 2, Flags: codec.MsgDurable | codec.MsgUrgent,
		Kind: codec.KindTopic, Name: []byte("news"), Content: 1, Payload: []byte("hi"),
	})
	data = codec.AppendAuthResult(data, codec.AuthResult{Code: codec.CodeOK, Expires: 1767225600000})
	got, err := decodeText(t, data, false, codec.DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	want := `offset 0  type 8 SEND  length 28  flags EXT
  ext[0].tag    5  (origin)
  ext[0].value  cafe
  req           2
  nonce         0
  flags         5  (DURABLE+URGENT)
  kind          3  (topic)
  name          news
  content       1
  payload       6869 "hi"
offset 32  type 3 AUTH  length 10  flags none
  code     0 OK
  expires  1767225600000  (2026-01-01T00:00:00.000Z)
whole frames: 2, in 46 of 46 bytes
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDecodeStreamSaysWhereAndWhy(t *testing.T) {
	ping := codec.AppendPing(nil, codec.Ping{})
	tests := []struct {
		name  string
		hex   string
		limit int
		err   error
		said  string // in the output and in the error
		hint  string
	}{
		{"too long", "000065 08", 100, codec.ErrTooLarge, "length 101 at byte 0 is over the limit of 100", ""},
		{"long hello", "001001 01", 65536, codec.ErrTooLarge, "length 4097 at byte 0 is over the limit of 4096", ""},
		{"reserved flag", "000000 44", 100, codec.ErrReservedFlag, "flags COMPRESSED at byte 3", ""},
		{"both reserved flags", "000000 c4", 100, codec.ErrReservedFlag, "flags COMPRESSED+SEALED at byte 3", ""},
		{"area past the frame", "000002 24 0001", 100, codec.ErrTruncated, "PING ext_len at byte 4", ""},
		{"second TLV past its area", "000007 24 0005 0501aa 0602", 100, codec.ErrTLV, "PING ext at byte 9", ""},
		{"field past the frame", "000006 0e 00000001 03 05", 100, codec.ErrTruncated, "UNSUB name (str8) at byte 9", ""},
		{"left over", "000009 12 000000000000000100", 100, codec.ErrTrailing, "POS at byte 12, 1 left over", ""},
		{"unknown type", "000000 1f", 100, codec.ErrUnknownType, "type 31", ""},
		{"TLS", "1603010200010001fc", 65536, codec.ErrTooLarge, "over the limit", "looks like TLS"},
		{"HTTP", hex.EncodeToString([]byte("GET / HTTP/1.1")), 65536, codec.ErrTooLarge, "over the limit", "looks like HTTP"},
		{"PROXY", hex.EncodeToString([]byte("PROXY TCP4 ")), 65536, codec.ErrTooLarge, "over the limit", "PROXY header"},
		{"packet capture", "d4c3b2a102000400", 65536, codec.ErrTooLarge, "over the limit", "packet capture"},
	}
	for _, tt := range tests {
		bad, err := decodeHex([]byte(tt.hex))
		if err != nil {
			t.Fatal(err)
		}
		data := append(append(bytes.Clone(ping), bad...), ping...)
		got, err := decodeText(t, data, true, tt.limit)
		if !errors.Is(err, tt.err) || !errors.Is(err, codec.ErrMalformed) || !strings.Contains(err.Error(), "frame at offset 4: ") || !strings.Contains(err.Error(), tt.said) {
			t.Errorf("%s: %v, want %q and %v", tt.name, err, tt.said, tt.err)
		}
		if !strings.Contains(got, "MALFORMED: ") || !strings.Contains(got, tt.said) || !strings.Contains(got, tt.hint) {
			t.Errorf("%s: printed\n%s", tt.name, got)
		}
		if tt.hint == "" && strings.Contains(got, "looks like") {
			t.Errorf("%s: takes it for another protocol\n%s", tt.name, got)
		}
		if strings.Count(got, "type 4 PING  length 0  flags none") != 1 || !strings.Contains(got, "whole frames: 1, in 4 of ") {
			t.Errorf("%s: did not stop at the malformed frame\n%s", tt.name, got)
		}
	}
}

// TestDecodeStreamIncomplete cuts a stream everywhere: that is told and is never an error.
func TestDecodeStreamIncomplete(t *testing.T) {
	data := codec.AppendPos(codec.AppendPing(nil, codec.Ping{}), codec.Pos{InboxPos: 1})
	for cut := range data {
		got, err := decodeText(t, data[:cut], true, codec.DefaultLimit)
		if err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if told := strings.Contains(got, "INCOMPLETE"); told != (cut != 0 && cut != 4) {
			t.Errorf("cut at %d: printed\n%s", cut, got)
		}
	}
	for cut, want := range map[int]string{
		6:  "offset 4\n  INCOMPLETE: 2 of the 4 header bytes are here\n",
		11: "offset 4  type 18 POS  length 8  flags none\n  INCOMPLETE: 3 of 8 body bytes are here, 5 to come\n",
	} {
		if got, _ := decodeText(t, data[:cut], true, codec.DefaultLimit); !strings.Contains(got, want) {
			t.Errorf("cut at %d: printed\n%s", cut, got)
		}
	}
}

// TestDecodeVectors runs the golden vectors through the command: every valid one decodes, every malformed one fails.
func TestDecodeVectors(t *testing.T) {
	data, err := os.ReadFile("../../docs/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	type vector struct {
		Name, From, Hex string
		Limit           int
	}
	var file struct{ Vectors, Malformed, Incomplete []vector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 || len(file.Malformed) == 0 || len(file.Incomplete) == 0 {
		t.Fatal("an array of vectors is empty")
	}
	run := func(v vector) error {
		c := decodeCmd{Hex: []string{v.Hex}, From: v.From, Limit: v.Limit}
		return c.run(strings.NewReader(""), io.Discard)
	}
	for _, v := range file.Vectors {
		v.Limit = codec.DefaultLimit
		if err := run(v); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	for _, v := range file.Malformed {
		if err := run(v); !errors.Is(err, codec.ErrMalformed) {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	for _, v := range file.Incomplete {
		if err := run(v); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

// TestDecodeInputs gives the same two frames in every way that is read.
func TestDecodeInputs(t *testing.T) {
	raw := codec.AppendPos(codec.AppendPing(nil, codec.Ping{Data: []byte("12345678")}), codec.Pos{InboxPos: 7})
	text := hex.EncodeToString(raw)
	want, err := decodeText(t, raw, true, codec.DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rawFile, hexFile := filepath.Join(dir, "raw"), filepath.Join(dir, "hex")
	if err := errors.Join(os.WriteFile(rawFile, raw, 0o600), os.WriteFile(hexFile, []byte(text+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	spaced := strings.ToUpper(text[:9]) + " \n" + text[9:20] + ":" + text[20:]
	for _, tt := range []struct {
		name, stdin string
		cmd         decodeCmd
	}{
		{"one argument", "", decodeCmd{Hex: []string{text}}},
		{"arguments with 0x", "", decodeCmd{Hex: []string{"0x" + text[:8], "0X" + text[8:]}}},
		{"raw on standard input", string(raw), decodeCmd{}},
		{"hex on standard input", spaced, decodeCmd{}},
		{"0x on standard input", "0x" + text, decodeCmd{}},
		{"raw file", "not this", decodeCmd{File: rawFile}},
		{"hex file", "not this", decodeCmd{File: hexFile}},
	} {
		tt.cmd.From, tt.cmd.Limit = "client", codec.DefaultLimit
		var out bytes.Buffer
		if err := tt.cmd.run(strings.NewReader(tt.stdin), &out); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s", tt.name, err, out.String())
		}
	}
}

func TestDecodeRefusesInput(t *testing.T) {
	for _, tt := range []struct {
		name, stdin string
		cmd         decodeCmd
		said        string
	}{
		{"odd digits", "", decodeCmd{Hex: []string{"000"}}, "3 digits make no whole number of bytes"},
		{"no hex", "", decodeCmd{Hex: []string{"00", "0g"}}, "'g' at character 4 is no hex digit"},
		{"x inside", "", decodeCmd{Hex: []string{"000x04"}}, "'x' at character 3"},
		{"odd digits on standard input", "00000\n", decodeCmd{}, "5 digits"},
		{"two sources", "", decodeCmd{Hex: []string{"00"}, File: "f"}, "exclude each other"},
		{"no such file", "", decodeCmd{File: filepath.Join(t.TempDir(), "none")}, "open the capture"},
		{"limit below 0", "", decodeCmd{Limit: -1}, "--limit -1"},
		{"limit over a u24", "", decodeCmd{Limit: 1 << 24}, "--limit 16777216"},
	} {
		var out bytes.Buffer
		if err := tt.cmd.run(strings.NewReader(tt.stdin), &out); err == nil || !strings.Contains(err.Error(), tt.said) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.said)
		}
		if out.Len() > 0 {
			t.Errorf("%s: printed %q", tt.name, out.String())
		}
	}
}

func TestDecodeFromMattersForAuth(t *testing.T) {
	token := codec.AppendAuthToken(nil, codec.AuthToken{Token: []byte("abc")})
	for from, valid := range map[string]bool{"client": true, "server": false} {
		c := decodeCmd{Hex: []string{hex.EncodeToString(token)}, From: from, Limit: codec.DefaultLimit}
		if err := c.run(strings.NewReader(""), io.Discard); (err == nil) != valid {
			t.Errorf("a client's AUTH read as from the %s: %v", from, err)
		}
	}
}

type decodeFullDisk struct{}

var errDecodeFull = errors.New("disk full")

func (decodeFullDisk) Write([]byte) (int, error) { return 0, errDecodeFull }

func TestDecodeTellsWriteErrors(t *testing.T) {
	if err := decodeStream(decodeFullDisk{}, []byte{0, 0, 0, 4}, true, 0); !errors.Is(err, errDecodeFull) {
		t.Errorf("%v", err)
	}
}
