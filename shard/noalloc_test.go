//go:build !race

package shard

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"gannet/codec"
)

func TestNoRaceSizes(t *testing.T) {
	for _, x := range []struct {
		name      string
		got, want uintptr
	}{
		{"Session", unsafe.Sizeof(Session{}), 64},
		{"item", unsafe.Sizeof(item{}), 64},
		{"subscription", unsafe.Sizeof(subscription{}), 16},
		{"dirEntry", unsafe.Sizeof(dirEntry{}), 16},
	} {
		if x.got != x.want {
			t.Errorf("%s has %d bytes, want %d", x.name, x.got, x.want)
		}
	}
}

// allocations is how many allocations f makes a call, in the steady state.
func allocations(f func()) float64 {
	const calls = 20_000
	for range calls {
		f()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls
}

func TestNoRaceAllocations(t *testing.T) {
	for _, step := range []int64{0, 3 * joinWithin} { // a busy loop, and one at rest
		for _, x := range []struct {
			name    string
			members int
			in      []byte
			max     float64
		}{
			{"PING", 0, ping(), 0.001},
			{"SEND to a room of 1", 1, toTopic("t", strings.Repeat("x", 60)), 0.02},
			{"SEND to a room of 10, acknowledged", 10, message(7, codec.KindTopic, "t", strings.Repeat("x", 60)), 0.02},
			{"SEND to a room of 200", 200, toTopic("t", strings.Repeat("x", 60)), 0.02},
			{"SEND with tags to a room", 10, toTopic("t", "x", "one", "two"), 0.02},
			{"SEND direct", 0, toUser("bob", strings.Repeat("x", 60)), 0.02},
			{"SEND direct to another shard", 0, toUser("carl", strings.Repeat("x", 60)), 0.02},
		} {
			t.Run(fmt.Sprintf("%s, step %d", x.name, step), func(t *testing.T) {
				w := newQuietWorld(2)
				a := w.login(t, 0, new(quietConn), hello("anna", "d"))
				w.login(t, 0, new(quietConn), hello("bob", "d"))
				w.login(t, 1, new(quietConn), hello("carl", "d"))
				w.crowd(t, 0, x.members, "t")
				w.crowd(t, 1, x.members, "t")
				w.clock.step = step
				sent := quietBytes
				n := allocations(func() {
					w.bring(0, a, x.in)
					w.run()
				})
				if n > x.max {
					t.Errorf("%.4f allocations a call", n)
				}
				if quietBytes == sent {
					t.Error("nothing was written")
				}
			})
		}
	}
}
