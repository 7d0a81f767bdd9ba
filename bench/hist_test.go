package bench

import (
	"math"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func TestHistogramsKeepAndCut(t *testing.T) {
	m := newMeter()
	for _, v := range []int64{-5, 0, 1_000_000, 2_000_000, int64(time.Hour)} {
		m.record(v)
	}
	l, err := summarize(m.run)
	if err != nil {
		t.Fatal(err)
	}
	if l.Count != 5 || math.Abs(l.P50-1) > 0.01 || l.Min != 0 || math.Abs(l.Max-millis(histTop)) > millis(histTop)/500 {
		t.Errorf("summary %+v", l)
	}
	back, err := hdrhistogram.Decode([]byte(l.HDR))
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equals(m.run) {
		t.Error("the encoded histogram is another one")
	}
	if got := m.takeSecond().TotalCount(); got != 5 {
		t.Errorf("the second holds %d values, want 5", got)
	}
	if got := m.takeSecond().TotalCount(); got != 0 {
		t.Errorf("the next second holds %d values, want none", got)
	}
}
