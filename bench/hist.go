package bench

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Geometry of the histograms: values are nanoseconds, told apart from a microsecond up; longer than the top
// counts as the top. A run keeps three significant digits, the single seconds of its series two.
const (
	histLow     = int64(time.Microsecond)
	histTop     = int64(10 * time.Minute)
	runDigits   = 3
	seriesDigit = 2
)

func newRunHist() *hdrhistogram.Histogram { return hdrhistogram.New(histLow, histTop, runDigits) }

func newSecondHist() *hdrhistogram.Histogram { return hdrhistogram.New(histLow, histTop, seriesDigit) }

// meter is one measured quantity on one loop: the whole run, and what came since the last look.
type meter struct {
	run    *hdrhistogram.Histogram
	second *hdrhistogram.Histogram
}

func newMeter() meter { return meter{newRunHist(), newSecondHist()} }

// record counts one value in nanoseconds.
func (m *meter) record(ns int64) {
	ns = min(max(ns, 0), histTop)
	// Neither can fail: the value was just cut to the range of both.
	_ = m.run.RecordValue(ns)
	_ = m.second.RecordValue(ns)
}

// takeSecond hands over what came since the last call.
func (m *meter) takeSecond() *hdrhistogram.Histogram {
	h := m.second
	m.second = newSecondHist()
	return h
}

// The quantities that a loop measures.
type quantity int

const (
	qLogin    quantity = iota // connect due to WELCOME
	qPing                     // PING due to PONG
	qDelivery                 // send due to MSG read
	qAck                      // send due to SENDACK read
	qDelay                    // send due to bytes given to the kernel: the generator's own lateness
	qCatchUp                  // offline: reconnect due to all that was missed read
	qBefore                   // offline: delivery while nobody catches up
	qDuring                   // offline: delivery of what was due while devices caught up
	quantities
)

var quantityNames = [quantities]string{"login", "ping", "delivery", "ack", "send_delay", "catch_up", "live_before", "live_during"}

func (q quantity) String() string { return quantityNames[q] }

// Latency sums up one measured quantity. Times are milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min_ms"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
	HDR   string  `json:"hdr"` // HdrHistogram V2, deflated, base64; values are nanoseconds
}

func millis(ns int64) float64 { return float64(ns) / 1e6 }

func summarize(h *hdrhistogram.Histogram) (Latency, error) {
	enc, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return Latency{}, fmt.Errorf("encoding a histogram: %w", err)
	}
	return Latency{
		Count: h.TotalCount(),
		Min:   millis(h.Min()),
		Mean:  h.Mean() / 1e6,
		P50:   millis(h.ValueAtQuantile(50)),
		P90:   millis(h.ValueAtQuantile(90)),
		P99:   millis(h.ValueAtQuantile(99)),
		P999:  millis(h.ValueAtQuantile(99.9)),
		Max:   millis(h.Max()),
		HDR:   string(enc),
	}, nil
}
