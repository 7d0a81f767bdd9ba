package codec

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzConsumeFrame reads any bytes as a stream. Nothing may panic, every step must be one of frame, incomplete
// or malformed, and what was read must be written again with the same bytes.
func FuzzConsumeFrame(f *testing.F) {
	for _, g := range goldens() {
		f.Add(g.wire, 300)
	}
	for _, bad := range flawedFrames {
		f.Add(bad.wire, 100)
	}
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		if limit < 0 || limit > MaxBody {
			return
		}
		for {
			fr, n, err := ConsumeFrame(data, limit)
			if err != nil {
				if !errors.Is(err, ErrMalformed) || n < 0 || n > len(data) {
					t.Fatalf("n %d of %d, %v", n, len(data), err)
				}
				return
			}
			if n == 0 {
				checkIncomplete(t, data, limit)
				return
			}
			if n > len(data) || n > HeaderLen+limit {
				t.Fatalf("n %d of %d, limit %d", n, len(data), limit)
			}
			// An EXT area of no bytes is the one form that an encoder does not write.
			if again := AppendFrame(nil, fr); !bytes.Equal(again, data[:n]) && (fr.Ext == nil || len(fr.Ext) != 0) {
				t.Fatalf("written again %x, was %x", again, data[:n])
			}
			for _, fromClient := range []bool{true, false} {
				if _, err := Fields(fr, fromClient); err != nil && !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
			}
			data = data[n:]
		}
	})
}

func checkIncomplete(t *testing.T, data []byte, limit int) {
	t.Helper()
	if length, _, _, ok := ConsumeHeader(data); ok && (len(data) >= HeaderLen+length || length > limit) {
		t.Fatalf("%d bytes of a frame of %d called incomplete, limit %d", len(data), HeaderLen+length, limit)
	}
}

// fuzzBody fuzzes the decoder of one body type. All bodies are canonical: what decodes is encoded as the same bytes.
func fuzzBody(f *testing.F, name string) {
	var b body
	for _, b = range bodies {
		if b.name == name {
			break
		}
	}
	if b.name != name {
		f.Fatalf("no body type %s", name)
	}
	f.Add([]byte(nil))
	f.Add([]byte{0xff})
	for _, g := range goldens() {
		fr, _, err := ConsumeFrame(g.wire, DefaultLimit)
		if err != nil {
			f.Fatal(err)
		}
		if fr.Type == b.typ && (b.typ != TypeAuth || b.fromClient == (g.from == "client")) {
			f.Add(fr.Body)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > MaxBody {
			return
		}
		fr := Frame{Type: b.typ, Body: data}
		v, err := b.decode(fr)
		fields, fieldsErr := Fields(fr, b.fromClient)
		if !errors.Is(fieldsErr, err) || (err == nil && fieldsErr != nil) {
			t.Fatalf("decoder says %v, Fields says %v", err, fieldsErr)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(fields) == 0 {
			t.Fatal("no fields")
		}
		if again := b.encode(nil, v); !bytes.Equal(again[HeaderLen:], data) {
			t.Fatalf("encoded again %x, was %x", again[HeaderLen:], data)
		}
	})
}

func FuzzHello(f *testing.F)      { fuzzBody(f, "HELLO") }
func FuzzWelcome(f *testing.F)    { fuzzBody(f, "WELCOME") }
func FuzzAuthToken(f *testing.F)  { fuzzBody(f, "AUTH-token") }
func FuzzAuthResult(f *testing.F) { fuzzBody(f, "AUTH-result") }
func FuzzPing(f *testing.F)       { fuzzBody(f, "PING") }
func FuzzPong(f *testing.F)       { fuzzBody(f, "PONG") }
func FuzzBye(f *testing.F)        { fuzzBody(f, "BYE") }
func FuzzMigrate(f *testing.F)    { fuzzBody(f, "MIGRATE") }
func FuzzSend(f *testing.F)       { fuzzBody(f, "SEND") }
func FuzzSendAck(f *testing.F)    { fuzzBody(f, "SENDACK") }
func FuzzMsg(f *testing.F)        { fuzzBody(f, "MSG") }
func FuzzAck(f *testing.F)        { fuzzBody(f, "ACK") }
func FuzzSub(f *testing.F)        { fuzzBody(f, "SUB") }
func FuzzSubAck(f *testing.F)     { fuzzBody(f, "SUBACK") }
func FuzzUnsub(f *testing.F)      { fuzzBody(f, "UNSUB") }
func FuzzPull(f *testing.F)       { fuzzBody(f, "PULL") }
func FuzzRange(f *testing.F)      { fuzzBody(f, "RANGE") }
func FuzzGap(f *testing.F)        { fuzzBody(f, "GAP") }
func FuzzPos(f *testing.F)        { fuzzBody(f, "POS") }
func FuzzReceipt(f *testing.F)    { fuzzBody(f, "RECEIPT") }
func FuzzState(f *testing.F)      { fuzzBody(f, "STATE") }
func FuzzList(f *testing.F)       { fuzzBody(f, "LIST") }
func FuzzListed(f *testing.F)     { fuzzBody(f, "LISTED") }
func FuzzErr(f *testing.F)        { fuzzBody(f, "ERR") }
