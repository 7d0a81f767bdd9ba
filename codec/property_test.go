package codec

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// TestDecodeEncodeIdentity encodes any value of every body type and reads it back.
func TestDecodeEncodeIdentity(t *testing.T) {
	for _, b := range bodies {
		t.Run(b.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				v := b.gen(t)
				prefix := genBytes(t, "prefix", 5)
				wire := b.encode(bytes.Clone(prefix), v)
				if !bytes.HasPrefix(wire, prefix) {
					t.Fatal("encoding changed the bytes in front of it")
				}
				wire = wire[len(prefix):]
				f, n, err := ConsumeFrame(wire, MaxBody)
				if err != nil || n != len(wire) || f.Type != b.typ {
					t.Fatalf("ConsumeFrame: type %v, n %d of %d, %v", f.Type, n, len(wire), err)
				}
				got, err := b.decode(f)
				if err != nil {
					t.Fatal(err)
				}
				if !same(got, v) {
					t.Fatalf("decoded %+v\nencoded %+v", got, v)
				}
				if again := b.encode(nil, got); !bytes.Equal(again, wire) {
					t.Fatalf("encoded again %x\nwire          %x", again, wire)
				}
			})
		})
	}
}

// TestPrefixIsIncomplete cuts frames at every place: what is missing is never malformed.
func TestPrefixIsIncomplete(t *testing.T) {
	for _, b := range bodies {
		t.Run(b.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				wire := b.encode(nil, b.gen(t))
				for cut := range wire {
					f, n, err := ConsumeFrame(wire[:cut], len(wire)-HeaderLen)
					if n != 0 || err != nil || f.Body != nil {
						t.Fatalf("%d of %d bytes: n %d, %v", cut, len(wire), n, err)
					}
				}
			})
		})
	}
}

// TestCutBodyIsMalformed takes the last bytes off a body and announces the shorter length: except for types whose last
// field is the rest of the frame, no shorter body can be valid.
func TestCutBodyIsMalformed(t *testing.T) {
	for _, b := range bodies {
		if l, _ := layoutOf(b.typ, b.fromClient); bytes.HasSuffix([]byte(l.body), []byte("rest")) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				f, _, err := ConsumeFrame(b.encode(nil, b.gen(t)), MaxBody)
				if err != nil {
					t.Fatal(err)
				}
				whole := f.Body
				for cut := range whole {
					f.Body = whole[:cut]
					if _, err := b.decode(f); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMagic) {
						t.Fatalf("body cut to %d of %d bytes: %v", cut, len(whole), err)
					}
				}
				f.Body = append(bytes.Clone(whole), 0)
				if _, err := b.decode(f); !errors.Is(err, ErrTrailing) {
					t.Fatalf("one byte too many: %v", err)
				}
			})
		})
	}
}

// TestStreamOfFrames reads frames that stand behind one another, as a connection brings them.
func TestStreamOfFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []any
		var kinds []body
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			b := rapid.SampledFrom(bodies).Draw(t, "body")
			v := b.gen(t)
			stream, want, kinds = b.encode(stream, v), append(want, v), append(kinds, b)
		}
		for i, b := range kinds {
			f, n, err := ConsumeFrame(stream, MaxBody)
			if err != nil || n == 0 {
				t.Fatalf("frame %d: n %d, %v", i, n, err)
			}
			got, err := b.decode(f)
			if err != nil || !same(got, want[i]) {
				t.Fatalf("frame %d: %+v, %v; want %+v", i, got, err, want[i])
			}
			stream = stream[n:]
		}
		if len(stream) != 0 {
			t.Fatalf("%d bytes left over", len(stream))
		}
	})
}
