package bench

import (
	"testing"
	"time"
)

// Every connection has its PING once in a period, whatever their number.
func TestPingsGoRound(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 97, 1000} {
		l := &loop{o: &Options{}, conns: make([]conn, n), clk: newClock()}
		l.setBeat(15 * time.Second)
		seen := make([]bool, n)
		for k := range uint64(n) {
			seen[l.pingSlot(k)] = true
		}
		for slot, ok := range seen {
			if !ok {
				t.Errorf("%d connections: %d has no PING", n, slot)
			}
		}
		if period := time.Duration(l.pings.at(uint64(n)) - l.pings.start); period != 13500*time.Millisecond {
			t.Errorf("%d connections: a period of %v, want nine tenths of the heartbeat", n, period)
		}
	}
}
