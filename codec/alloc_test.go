//go:build !race

package codec

import "testing"

// TestNoRaceHotPathAllocatesNothing reads and writes the frames of the hot path, and those of a login, which a storm of
// reconnects makes hot.
func TestNoRaceHotPathAllocatesNothing(t *testing.T) {
	for _, h := range hotPath {
		t.Run(h.name, func(t *testing.T) {
			buf := make([]byte, 0, 4096)
			if n := testing.AllocsPerRun(100, func() { h.decode(t) }); n != 0 {
				t.Errorf("decoding allocates %v times", n)
			}
			if n := testing.AllocsPerRun(100, func() { buf = h.encode(buf[:0]) }); n != 0 {
				t.Errorf("encoding allocates %v times", n)
			}
		})
	}
}

// TestNoRaceReadingListsAllocatesNothing walks a list and an area of TLVs.
func TestNoRaceReadingListsAllocatesNothing(t *testing.T) {
	f, _, err := ConsumeFrame(AppendHello(nil, hotHello), DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ConsumeHello(f)
	if err != nil {
		t.Fatal(err)
	}
	ext := hotSend.Ext
	var sum int
	n := testing.AllocsPerRun(100, func() {
		for p := range h.Positions.All() {
			sum += len(p.Name)
		}
		for _, v := range ext.All() {
			sum += len(v)
		}
	})
	if n != 0 || sum == 0 {
		t.Errorf("allocates %v times, sum %d", n, sum)
	}
}
