package shard

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSlabKeepsItsPlaces(t *testing.T) {
	var s slab[uint64]
	var at []*uint64
	for i := range 5*chunkLen + 3 {
		n := s.grow()
		if int(n) != i {
			t.Fatalf("place %d, want %d", n, i)
		}
		*s.at(n) = uint64(i)
		at = append(at, s.at(n))
	}
	for i, p := range at {
		if s.at(uint32(i)) != p || *p != uint64(i) {
			t.Fatalf("place %d moved", i)
		}
	}
	if len(s.chunks) != 6 {
		t.Errorf("%d chunks", len(s.chunks))
	}
}

// TestNames compares the arena with a map while names come and go.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a names
		type entry struct {
			at           uint32
			user, device string
		}
		var kept []entry
		for i := range rapid.IntRange(1, 300).Draw(t, "ops") {
			if len(kept) > 0 && rapid.IntRange(0, 2).Draw(t, "drop") == 0 {
				k := rapid.IntRange(0, len(kept)-1).Draw(t, "which")
				a.drop(kept[k].at, len(kept[k].user)+len(kept[k].device))
				kept[k] = kept[len(kept)-1]
				kept = kept[:len(kept)-1]
				continue
			}
			e := entry{
				user:   fmt.Sprintf("%0*d", rapid.IntRange(1, 64).Draw(t, "user"), i)[:1],
				device: strings.Repeat(string(rune('a'+i%26)), rapid.IntRange(1, 64).Draw(t, "device")),
			}
			e.user = strings.Repeat(e.user, rapid.IntRange(1, 64).Draw(t, "n"))
			e.at = a.put([]byte(e.user), []byte(e.device))
			kept = append(kept, e)
		}
		for _, e := range kept {
			if got := a.piece(e.at, len(e.user)+len(e.device)); string(got) != e.user+e.device {
				t.Fatalf("%q became %q", e.user+e.device, got)
			}
		}
	})
}

func TestNamesAreUsedAgain(t *testing.T) {
	var a names
	long := bytes.Repeat([]byte("u"), 64)
	for i := range 3 * nameBlock { // more than a block in all, few at a time
		n := 1 + i%64
		x, y := a.put(long[:n], long[:1]), a.put(long[:n], long)
		a.drop(x, n+1)
		a.drop(y, n+64)
	}
	if len(a.blocks) != 1 {
		t.Errorf("%d blocks for two names at a time", len(a.blocks))
	}
	// The longest names, over several blocks.
	var at []uint32
	for range 2 * nameBlock / 128 {
		at = append(at, a.put(long, long))
	}
	if want := 3; len(a.blocks) != want {
		t.Errorf("%d blocks, want %d", len(a.blocks), want)
	}
	for _, x := range at {
		if !bytes.Equal(a.piece(x, 128), bytes.Repeat([]byte("u"), 128)) {
			t.Fatal("a name was overwritten")
		}
	}
}
