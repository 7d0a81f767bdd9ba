package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docRow is one row of the table of types in docs/PROTOCOL.md.
type docRow struct {
	number    int
	name      string
	direction string
	layout    layout // without the list's name, which the table does not have
	client    layout // of AUTH
}

type docRows []docRow

var (
	docRowPattern  = regexp.MustCompile(`(?m)^\| (\d+) \| ([A-Z]+) \| (both|c→s|s→c) \| (.*) \|$`)
	docItemPattern = regexp.MustCompile("`([^`]*)`|[{}]")
)

func protocolPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func docLayouts(t *testing.T) (rows docRows) {
	t.Helper()
	for _, m := range docRowPattern.FindAllStringSubmatch(protocolPage(t), -1) {
		number, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		row := docRow{number: number, name: m[2], direction: m[3]}
		client, server, both := strings.Cut(m[4], "; s→c:")
		if both {
			row.client, row.layout = docLayout(client), docLayout(server)
		} else {
			row.layout = docLayout(m[4])
		}
		rows = append(rows, row)
	}
	return rows
}

// docLayout reads the items in backquotes, those between braces as the list's entry.
func docLayout(cell string) (l layout) {
	into := &l.body
	for _, m := range docItemPattern.FindAllStringSubmatch(cell, -1) {
		words := strings.Fields(m[1])
		switch {
		case m[0] == "{":
			into = &l.entry
		case m[0] == "}":
			into = &l.body
		case m[1] == "payload" || m[1] == "data":
			words = append(words, "rest")
		case m[1] == "code u16":
			words = []string{"code", "code"}
		case m[1] == `magic "GNT"`:
			words = []string{"magic", "GNT"}
		}
		if len(words) < 2 { // a field the text speaks of
			continue
		}
		if *into != "" {
			*into += ", "
		}
		*into += words[0] + " " + words[1]
	}
	return l
}

func (rows docRows) find(typ string, fromClient bool) (docRow, bool) {
	for _, r := range rows {
		if r.name == typ {
			if r.client.body != "" && fromClient {
				r.layout = r.client
			}
			return r, true
		}
	}
	return docRow{}, false
}

// encode writes the frame of a row with the fields of a vector.
func (row docRow) encode(t *testing.T, fields map[string]any) []byte {
	t.Helper()
	var ext, list []any
	for name, v := range fields {
		if l, ok := v.([]any); ok && name == "ext" {
			ext = l
		} else if ok {
			list = l
		}
	}
	var out []byte
	typ := byte(row.number)
	if ext != nil {
		typ |= 0x20
		var area []byte
		for _, e := range ext {
			tlv := e.(map[string]any)
			value := unhex(tlv["value"].(string))
			area = append(area, byte(docInt(t, tlv["tag"], 8)), byte(len(value)))
			area = append(area, value...)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(area))), area...)
	}
	fields["n"] = strconv.Itoa(len(list))
	out = docEncode(t, out, row.layout.body, fields)
	for _, e := range list {
		out = docEncode(t, out, row.layout.entry, e.(map[string]any))
	}
	return append([]byte{byte(len(out) >> 16), byte(len(out) >> 8), byte(len(out)), typ}, out...)
}

func docEncode(t *testing.T, out []byte, items string, fields map[string]any) []byte {
	t.Helper()
	for item := range strings.SplitSeq(items, ", ") {
		name, form, _ := strings.Cut(item, " ")
		switch v := fields[name]; form {
		case "GNT":
			out = append(out, form...)
		case "u8":
			out = append(out, byte(docInt(t, v, 8)))
		case "u16", "code":
			out = binary.BigEndian.AppendUint16(out, uint16(docInt(t, v, 16)))
		case "u32":
			out = binary.BigEndian.AppendUint32(out, uint32(docInt(t, v, 32)))
		case "u64":
			out = binary.BigEndian.AppendUint64(out, docInt(t, v, 64))
		case "str8":
			out = append(append(out, byte(len(v.(string)))), v.(string)...)
		case "str16":
			b := unhex(v.(string))
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
		case "rest":
			out = append(out, unhex(v.(string))...)
		default:
			t.Fatalf("the table has a form %q", form)
		}
	}
	return out
}

func docInt(t *testing.T, v any, bits int) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(v.(string), 10, bits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestProtocolTable compares the table of docs/PROTOCOL.md with the layouts and names of the code.
func TestProtocolTable(t *testing.T) {
	rows := docLayouts(t)
	if len(rows) != int(TypeErr) {
		t.Fatalf("%d rows, want %d", len(rows), TypeErr)
	}
	for i, row := range rows {
		typ := Type(i + 1)
		if row.number != i+1 || row.name != typ.String() {
			t.Errorf("row %d is %d %s, want %v", i+1, row.number, row.name, typ)
		}
		want := layouts[typ]
		want.list = ""
		if row.layout != want {
			t.Errorf("%v: page %+v\ncode %+v", typ, row.layout, want)
		}
		if typ == TypeAuth && row.client != authTokenLayout {
			t.Errorf("%v: page %+v\ncode %+v", typ, row.client, authTokenLayout)
		}
	}
}

// TestProtocolCodes compares the table of codes with the names of the code.
func TestProtocolCodes(t *testing.T) {
	page := map[string]bool{}
	for _, m := range regexp.MustCompile(`\| (\d+) \| ([A-Z_]+)`).FindAllStringSubmatch(protocolPage(t), -1) {
		page[m[1]+" "+m[2]] = true
	}
	for code, name := range codeNames {
		if entry := strconv.Itoa(int(code)) + " " + name; !page[entry] {
			t.Errorf("the page does not have code %s", entry)
		}
	}
}

// TestProtocolExample reads the worked example: each block is one frame, the vectors have the same.
func TestProtocolExample(t *testing.T) {
	_, example, found := strings.Cut(protocolPage(t), "## Worked example")
	if !found {
		t.Fatal("no worked example")
	}
	blocks := regexp.MustCompile("(?s)```text\n(.*?)```").FindAllStringSubmatch(example, -1)
	if len(blocks) != len(exampleGoldens) {
		t.Fatalf("%d blocks, want %d", len(blocks), len(exampleGoldens))
	}
	leading := regexp.MustCompile(`(?m)^((?:[0-9a-f]{2} )+)`)
	for i, g := range exampleGoldens {
		var wire []byte
		for _, line := range leading.FindAllString(blocks[i][1], -1) {
			wire = append(wire, unhex(line)...)
		}
		if !bytes.Equal(wire, g.wire) {
			t.Errorf("%s: page %s\ncode %s", g.name, hex.EncodeToString(wire), hex.EncodeToString(g.wire))
		}
	}
}
