package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"gannet/codec"
)

// decodeMaxInput bounds what is read from a file or standard input, in bytes.
const decodeMaxInput = 256 << 20

// decodeCmd prints frames field by field.
type decodeCmd struct {
	Hex   []string `arg:"" optional:"" name:"hex" help:"Frames as hex; blanks, colons and 0x are allowed. Without it frames are read from --file or standard input."`
	File  string   `help:"Capture of one direction of a connection: raw bytes or hex text." short:"f" type:"path" placeholder:"FILE"`
	From  string   `help:"Who sent the frames, client or server. Matters for AUTH, whose directions differ." enum:"client,server" default:"client"`
	Limit int      `help:"Longest body allowed, in bytes: the server's max_frame. A HELLO may have 4096 at most." default:"65536" placeholder:"N"`
}

// Help is shown by `gannet decode --help`.
func (*decodeCmd) Help() string {
	return "Stops at the first malformed frame, as a peer would, says where and why, and exits with a code other than 0. " +
		"An unfinished frame at the end is told, but is no error.\n\n" +
		"Example: gannet decode 00000804 0102030405060708"
}

// Run implements the command.
func (c *decodeCmd) Run() error { return c.run(os.Stdin, os.Stdout) }

func (c *decodeCmd) run(in io.Reader, out io.Writer) error {
	if c.Limit < 0 || c.Limit > codec.MaxBody {
		return fmt.Errorf("--limit %d: give 0 to %d bytes", c.Limit, codec.MaxBody)
	}
	data, err := c.input(in)
	if err != nil {
		return err
	}
	return decodeStream(out, data, c.From == "client", c.Limit)
}

// input takes the bytes from the arguments, the file or standard input, in this order.
func (c *decodeCmd) input(in io.Reader) ([]byte, error) {
	if len(c.Hex) > 0 {
		if c.File != "" {
			return nil, errors.New("hex arguments and --file exclude each other: give one of them")
		}
		return decodeHex([]byte(strings.Join(c.Hex, " ")))
	}
	source := "standard input"
	if c.File != "" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("open the capture: %w", err)
		}
		defer func() { _ = f.Close() }() // only read from
		in, source = f, c.File
	}
	data, err := io.ReadAll(io.LimitReader(in, decodeMaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	if len(data) > decodeMaxInput {
		return nil, fmt.Errorf("%s has more than %d MiB: cut it and decode the parts", source, decodeMaxInput>>20)
	}
	return decodeDetect(data)
}

// decodeDetect turns hex text into bytes and leaves raw bytes as they are. The two can't be confused: text
// begins with a byte from which a length of megabytes follows, a connection with 0x00.
func decodeDetect(data []byte) ([]byte, error) {
	digits := 0
	for _, c := range data {
		switch {
		case decodeIsDigit(c), c == 'x', c == 'X':
			digits++
		case !decodeIsBlank(c):
			return data, nil
		}
	}
	if digits == 0 {
		return data, nil
	}
	return decodeHex(data)
}

func decodeIsBlank(c byte) bool { return strings.IndexByte(" \t\r\n:", c) >= 0 }

func decodeIsDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// decodeHex reads hex digits; blanks and colons between them and a 0x in front of a word are skipped.
func decodeHex(text []byte) ([]byte, error) {
	digits := make([]byte, 0, len(text))
	start := true // of a word
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case decodeIsBlank(c):
			start = true
			continue
		case start && c == '0' && i+1 < len(text) && (text[i+1] == 'x' || text[i+1] == 'X'):
			i++
		case decodeIsDigit(c):
			digits = append(digits, c)
		default:
			return nil, fmt.Errorf("hex text: %q at character %d is no hex digit", c, i)
		}
		start = false
	}
	if len(digits)%2 != 0 {
		return nil, fmt.Errorf("hex text: %d digits make no whole number of bytes; one is missing", len(digits))
	}
	data := make([]byte, len(digits)/2)
	if _, err := hex.Decode(data, digits); err != nil {
		return nil, fmt.Errorf("hex text: %w", err)
	}
	return data, nil
}

// decodeStream prints the frames that stand in data, one direction of a connection, and stops at the first one
// that is malformed; the error then names its offset, the field and the reason, and wraps codec.ErrMalformed. A
// body may have limit bytes, a HELLO codec.LoginLimit at most. An unfinished frame at the end is printed as such.
func decodeStream(w io.Writer, data []byte, fromClient bool, limit int) error {
	out := bufio.NewWriter(w)
	frames, offset := 0, 0
	var bad error
	for bad == nil && offset < len(data) {
		n, err := decodeFrame(out, data[offset:], offset, fromClient, limit)
		if err != nil {
			bad = fmt.Errorf("frame at offset %d: %w", offset, err)
			fmt.Fprintf(out, "  MALFORMED: %v\n", err)
			if hint := decodeHint(data[offset:]); hint != "" {
				fmt.Fprintf(out, "  %s\n", hint)
			}
			break
		}
		if n == 0 {
			break
		}
		frames, offset = frames+1, offset+n
	}
	fmt.Fprintf(out, "whole frames: %d, in %d of %d bytes\n", frames, offset, len(data))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the fields: %w", err)
	}
	return bad
}

// decodeFrame prints the first frame of b, which stands at offset, and returns its length; 0 when b ends before it does.
func decodeFrame(w io.Writer, b []byte, offset int, fromClient bool, limit int) (int, error) {
	length, flags, typ, ok := codec.ConsumeHeader(b)
	if !ok {
		fmt.Fprintf(w, "offset %d\n  INCOMPLETE: %d of the %d header bytes are here\n", offset, len(b), codec.HeaderLen)
		return 0, nil
	}
	fmt.Fprintf(w, "offset %d  type %d %s  length %d  flags %s\n", offset, typ, typ, length, decodeFlags(flags>>5, "EXT", "COMPRESSED", "SEALED"))
	if typ == codec.TypeHello {
		limit = min(limit, codec.LoginLimit)
	}
	f, n, err := codec.ConsumeFrame(b, limit)
	switch {
	case errors.Is(err, codec.ErrTooLarge):
		return 0, fmt.Errorf("length %d at byte 0 is over the limit of %d: %w", length, limit, err)
	case errors.Is(err, codec.ErrReservedFlag):
		return 0, fmt.Errorf("flags %s at byte 3: %w", decodeFlags(flags>>5, "EXT", "COMPRESSED", "SEALED"), err)
	case errors.Is(err, codec.ErrTLV):
		at := codec.HeaderLen + 2
		for _, value := range f.Ext.All() {
			at += 2 + len(value)
		}
		return 0, fmt.Errorf("%s ext at byte %d: %w", typ, at, err)
	case err != nil:
		return 0, fmt.Errorf("%s ext_len at byte %d: %w", typ, codec.HeaderLen, err)
	case n == 0:
		have := len(b) - codec.HeaderLen
		fmt.Fprintf(w, "  INCOMPLETE: %d of %d body bytes are here, %d to come\n", have, length, length-have)
		return 0, nil
	}
	fields, err := codec.Fields(f, fromClient)
	width := 0
	for _, field := range fields {
		width = max(width, len(field.Name))
	}
	for _, field := range fields {
		line := fmt.Sprintf("  %-*s  %s%s", width, field.Name, field.Value, decodeNote(typ, field))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	return n, err
}

// decodeNote says in words what a number means, where the field has names for its values.
func decodeNote(typ codec.Type, f codec.Field) string {
	n, err := strconv.ParseUint(f.Value, 10, 64)
	if err != nil {
		return ""
	}
	note := ""
	switch name := f.Name[strings.LastIndexByte(f.Name, '.')+1:]; {
	case name == "kind":
		note = codec.Kind(n).String()
	case name == "flags":
		note = decodeFlags(uint8(n), "DURABLE", "RECEIPT", "URGENT", "LOG")
	case name == "tag" && n < uint64(len(decodeTags)):
		note = decodeTags[n]
	case name == "time" && n > 0, name == "expires" && n > 0:
		if t := time.UnixMilli(int64(n)).UTC(); n < 1<<53 && t.Year() < 10000 {
			note = t.Format("2006-01-02T15:04:05.000Z07:00")
		}
	case name == "req" && (typ == codec.FirstUnknownRequest || typ == codec.LastUnknownRequest):
		note = "an unknown request, answered ERR INVALID"
	}
	if note == "" {
		return ""
	}
	return "  (" + note + ")"
}

var decodeTags = [...]string{
	codec.TagTrace: "trace context", codec.TagRoute: "tag", codec.TagTTL: "ttl", codec.TagHeartbeat: "heartbeat",
	codec.TagOrigin: "origin", codec.TagNonce: "highest nonce", codec.TagTarget: "target", codec.TagStream: "stream",
	codec.TagKeyID: "key id", codec.TagTime: "server time", codec.TagEvent: "event",
}

// decodeFlags names the bits that are set, the lowest first.
func decodeFlags(bits uint8, names ...string) string {
	var set []string
	for i := range 8 {
		switch {
		case bits&(1<<i) == 0:
		case i < len(names):
			set = append(set, names[i])
		default:
			set = append(set, fmt.Sprintf("%#02x", 1<<i))
		}
	}
	if set == nil {
		return "none"
	}
	return strings.Join(set, "+")
}

// decodeHint recognises other protocols by the first bytes of a connection.
func decodeHint(b []byte) string {
	s := string(b[:min(len(b), 8)])
	switch {
	case strings.HasPrefix(s, "\x16\x03"):
		return "This looks like TLS: decode what is inside it."
	case strings.HasPrefix(s, "PROXY ") || strings.HasPrefix(s, "\r\n\r\n\x00\r\nQ"):
		return "This looks like a PROXY header: the frames begin behind it."
	case strings.HasPrefix(s, "GET ") || strings.HasPrefix(s, "POST ") || strings.HasPrefix(s, "HTTP/"):
		return "This looks like HTTP."
	case strings.HasPrefix(s, "\xd4\xc3\xb2\xa1") || strings.HasPrefix(s, "\xa1\xb2\xc3\xd4") || strings.HasPrefix(s, "\x0a\x0d\x0d\x0a"):
		return "This looks like a packet capture: extract one direction of one connection first."
	}
	return ""
}
