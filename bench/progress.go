package bench

import (
	"fmt"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Second is one row of the series: what happened in about a second. Rates are per second, times milliseconds.
type Second struct {
	At          float64 `json:"at_s"` // since the start of the run, at the end of the row
	Phase       string  `json:"phase"`
	Connections int64   `json:"connections"` // logged in at the end
	Logins      float64 `json:"logins_per_s"`
	Sent        float64 `json:"sent_per_s"`
	Received    float64 `json:"received_per_s"`
	Quantity    string  `json:"quantity"` // what P50 and P99 are of: login in the ramp, then what the scenario is about
	Count       int64   `json:"count"`    // values behind them
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
}

// newSecond is the difference of two looks, span seconds apart.
func newSecond(before, now *counters, h *hdrhistogram.Histogram, span float64) Second {
	rate := func(a, b int64) float64 { return float64(b-a) / max(span, 1e-3) }
	return Second{
		Connections: now.up,
		Logins:      rate(before.logins, now.logins),
		Sent:        rate(before.sent, now.sent),
		Received:    rate(before.received, now.received),
		Count:       h.TotalCount(),
		P50:         millis(h.ValueAtQuantile(50)),
		P99:         millis(h.ValueAtQuantile(99)),
	}
}

// Snapshot is what progress gets.
type Snapshot struct {
	Second
	Asked     int     // connections asked for
	LateShare float64 // of all sends so far, those that left more than a millisecond late; 0 to 1
	Errors    int64   // of any sort, so far
}

// Line is the snapshot on one line, without a line break.
func (s Snapshot) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%4.0fs %-7s  connections %d/%d", s.At, s.Phase, s.Connections, s.Asked)
	if s.Phase == PhaseRamp {
		fmt.Fprintf(&b, "  logins %.0f/s", s.Logins)
	}
	if s.Sent > 0 || s.Received > 0 {
		fmt.Fprintf(&b, "  sent %.0f/s  received %.0f/s", s.Sent, s.Received)
	}
	if s.Count > 0 {
		fmt.Fprintf(&b, "  %s p50 %s p99 %s", s.Quantity, showMillis(s.P50), showMillis(s.P99))
	}
	if s.LateShare > lateShareBad {
		fmt.Fprintf(&b, "  late sends %.1f %%", 100*s.LateShare)
	}
	if s.Errors > 0 {
		fmt.Fprintf(&b, "  errors %d", s.Errors)
	}
	return b.String()
}

// showMillis writes milliseconds with the unit and the digits that a person needs.
func showMillis(ms float64) string {
	switch {
	case ms >= 10_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.3f ms", ms)
}
