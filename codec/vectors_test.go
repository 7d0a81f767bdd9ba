package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/vectors.json anew")

const vectorsPath = "../docs/vectors.json"

// vectorFile is docs/vectors.json. Its format is described in docs/PROTOCOL.md.
type vectorFile struct {
	Protocol   string       `json:"protocol"`
	Vectors    []vector     `json:"vectors"`
	Malformed  []badVector  `json:"malformed"`
	Incomplete []partVector `json:"incomplete"`
}

type vector struct {
	Name       string          `json:"name"`
	From       string          `json:"from"`
	Type       string          `json:"type"`
	DecodeOnly bool            `json:"decode_only,omitempty"`
	Hex        string          `json:"hex"`
	Fields     json.RawMessage `json:"fields"`
}

type badVector struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	Limit int    `json:"limit"`
	Hex   string `json:"hex"`
	Why   string `json:"why"`
}

type partVector struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	Limit int    `json:"limit"`
	Hex   string `json:"hex"`
}

func goldens() []golden {
	return slices.Concat(exampleGoldens, loginGoldens, messageGoldens, channelGoldens)
}

// TestVectorsFile compares docs/vectors.json with what the tables say; -update writes it.
func TestVectorsFile(t *testing.T) {
	file := vectorFile{Protocol: "GWP/1"}
	names := map[string]bool{}
	for _, g := range goldens() {
		file.Vectors = append(file.Vectors, goldenVector(t, g))
		names[g.name] = true
		file.Incomplete = append(file.Incomplete, partsOf(g)...)
	}
	for _, bad := range flawedFrames {
		limit := bad.limit
		if limit == 0 {
			limit = DefaultLimit
		}
		_, err := readWhole(bad.wire, bad.from == "client", limit)
		if !errors.Is(err, bad.err) {
			t.Fatalf("%s: %v, want %v", bad.name, err, bad.err)
		}
		names[bad.name] = true
		file.Malformed = append(file.Malformed, badVector{bad.name, bad.from, limit, hex.EncodeToString(bad.wire), err.Error()})
	}
	if len(names) != len(file.Vectors)+len(file.Malformed) {
		t.Error("two vectors have the same name")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorsPath, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, out.Bytes()) {
		t.Errorf("%s differs from the tables; when the change of the format is meant, run go test ./codec -run TestVectorsFile -update", vectorsPath)
	}
}

// TestVectorsDecode goes from hex to fields and, through the structs, back to hex.
func TestVectorsDecode(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range readVectors(t).Vectors {
		t.Run(v.Name, func(t *testing.T) {
			wire, fromClient := unhex(v.Hex), v.From == "client"
			f, n, err := ConsumeFrame(wire, DefaultLimit)
			if err != nil || n != len(wire) {
				t.Fatalf("n %d of %d, %v", n, len(wire), err)
			}
			if f.Type.String() != v.Type {
				t.Errorf("type %v, want %s", f.Type, v.Type)
			}
			fields, err := Fields(f, fromClient)
			if err != nil {
				t.Fatal(err)
			}
			if got := neutral(t, f.Type, fromClient, fields); !sameJSON(t, got, v.Fields) {
				t.Errorf("fields %s\nwant   %s", got, v.Fields)
			}
			b, _ := bodyFor(f.Type, fromClient)
			value, err := b.decode(f)
			if err != nil {
				t.Fatal(err)
			}
			if again := b.encode(nil, value); bytes.Equal(again, wire) == v.DecodeOnly {
				t.Errorf("encoded again %x, decode_only %v", again, v.DecodeOnly)
			}
			seen[b.name] = true
		})
	}
	for _, b := range bodies {
		if !seen[b.name] {
			t.Errorf("no vector for %s", b.name)
		}
	}
}

// TestVectorsEncode goes from fields to hex by the table of docs/PROTOCOL.md alone, without the Append functions.
func TestVectorsEncode(t *testing.T) {
	layouts := docLayouts(t)
	for _, v := range readVectors(t).Vectors {
		if v.DecodeOnly {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			var fields map[string]any
			if err := json.Unmarshal(v.Fields, &fields); err != nil {
				t.Fatal(err)
			}
			row, ok := layouts.find(v.Type, v.From == "client")
			if !ok {
				t.Fatalf("%s is not in the protocol's table", v.Type)
			}
			if got := hex.EncodeToString(row.encode(t, fields)); got != v.Hex {
				t.Errorf("encoded %s\nwant    %s", got, v.Hex)
			}
		})
	}
}

// TestVectorsMalformed refuses each of the malformed frames, those with a wrong header on their first four bytes.
func TestVectorsMalformed(t *testing.T) {
	for _, v := range readVectors(t).Malformed {
		t.Run(v.Name, func(t *testing.T) {
			wire := unhex(v.Hex)
			_, err := readWhole(wire, v.From == "client", v.Limit)
			if !errors.Is(err, ErrMalformed) || err.Error() != v.Why {
				t.Errorf("got %v, want %s", err, v.Why)
			}
			if _, _, early := ConsumeFrame(wire[:HeaderLen], v.Limit); early != nil && early.Error() != v.Why {
				t.Errorf("on four bytes %v, on all %s", early, v.Why)
			}
		})
	}
}

// TestVectorsIncomplete waits for more bytes on each of the incomplete frames.
func TestVectorsIncomplete(t *testing.T) {
	for _, v := range readVectors(t).Incomplete {
		t.Run(v.Name, func(t *testing.T) {
			if _, n, err := ConsumeFrame(unhex(v.Hex), v.Limit); n != 0 || err != nil {
				t.Errorf("n %d, %v", n, err)
			}
		})
	}
}

func readVectors(t *testing.T) (file vectorFile) {
	t.Helper()
	data, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 || len(file.Malformed) == 0 || len(file.Incomplete) == 0 {
		t.Fatal("an array of vectors is empty")
	}
	return file
}

// readWhole reads one frame with all its fields.
func readWhole(wire []byte, fromClient bool, limit int) ([]Field, error) {
	f, n, err := ConsumeFrame(wire, limit)
	if err != nil {
		return nil, err
	}
	if n != len(wire) {
		return nil, errors.New("not one whole frame")
	}
	return Fields(f, fromClient)
}

func goldenVector(t *testing.T, g golden) vector {
	t.Helper()
	f, _, err := ConsumeFrame(g.wire, DefaultLimit)
	if err != nil {
		t.Fatalf("%s: %v", g.name, err)
	}
	fromClient := g.from == "client"
	fields, err := Fields(f, fromClient)
	if err != nil {
		t.Fatalf("%s: %v", g.name, err)
	}
	return vector{
		Name: g.name, From: g.from, Type: f.Type.String(), DecodeOnly: f.Ext != nil && len(f.Ext) == 0,
		Hex: hex.EncodeToString(g.wire), Fields: neutral(t, f.Type, fromClient, fields),
	}
}

// partsOf cuts the frames of the example: nothing yet, a part of the header, the header alone, all but the last byte.
func partsOf(g golden) (parts []partVector) {
	if !strings.HasPrefix(g.name, "example-") {
		return nil
	}
	for _, cut := range []int{0, 3, HeaderLen, len(g.wire) - 1} {
		parts = append(parts, partVector{g.name + "-first-" + strconv.Itoa(cut), g.from, DefaultLimit, hex.EncodeToString(g.wire[:cut])})
	}
	return parts
}

// neutral turns Fields into the JSON object of a vector: text of str8 as strings, other bytes as hex, integers and
// codes as decimal strings, lists as arrays of objects (ext only when there is one); magic and n are left out. Members stand in wire order.
func neutral(t *testing.T, typ Type, fromClient bool, fields []Field) json.RawMessage {
	t.Helper()
	l, _ := layoutOf(typ, fromClient)
	forms := map[string]string{"tag": "u8", "value": "rest"}
	for item := range strings.SplitSeq(l.body+", "+l.entry, ", ") {
		name, form, _ := strings.Cut(item, " ")
		forms[name] = form
	}
	var out bytes.Buffer
	list, entry := "", ""
	for _, f := range fields {
		group, name, inList := strings.Cut(f.Name, ".")
		if !inList {
			group, name = "", f.Name
		}
		if name == "magic" || name == "n" {
			continue
		}
		key, _, _ := strings.Cut(group, "[")
		switch {
		case key != list:
			if list != "" {
				out.WriteString("}],")
			} else if out.Len() > 0 {
				out.WriteByte(',')
			}
			if key != "" {
				out.WriteString(strconv.Quote(key) + ":[{")
			}
		case group != entry:
			out.WriteString("},{")
		case out.Len() > 0:
			out.WriteByte(',')
		}
		list, entry = key, group
		value, err := json.Marshal(neutralValue(t, forms[name], f.Value))
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(strconv.Quote(name) + ":" + string(value))
	}
	if list != "" {
		out.WriteString("}]")
	}
	if l.list != "" && list != l.list {
		out.WriteString("," + strconv.Quote(l.list) + ":[]")
	}
	return json.RawMessage("{" + out.String() + "}")
}

func neutralValue(t *testing.T, form, value string) string {
	t.Helper()
	if form != "str8" {
		value, _, _ = strings.Cut(value, " ")
		return value
	}
	if strings.HasPrefix(value, `"`) {
		text, err := strconv.Unquote(value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	return value
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var ca, cb bytes.Buffer
	if err := errors.Join(json.Compact(&ca, a), json.Compact(&cb, b)); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(ca.Bytes(), cb.Bytes())
}
