package bench

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"gannet/codec"
)

// Offline is what RunOffline found beside the rest of its Report, whose Traffic is the live traffic alone and whose Connections count
// every login, of a device at least two.
type Offline struct {
	Settings OfflineOptions `json:"settings"` // with defaults filled in

	WriteSeconds float64 `json:"write_s"` // the writers took
	WritePerS    float64 `json:"written_per_s"`

	CaughtUp int64   `json:"caught_up"` // devices that got all their messages
	Behind   int64   `json:"behind"`    // devices that did not
	Seconds  float64 `json:"seconds"`   // from when the first of them was to connect until the last device was caught up
	PerS     float64 `json:"per_s"`     // missed messages received a second in this time

	Received   int64 `json:"received"` // missed messages, each once
	Lost       int64 `json:"lost"`     // acknowledged to their writers and never received
	Duplicated int64 `json:"duplicated"`
	Reordered  int64 `json:"reordered"` // received behind a later one

	// Welcome is the inbox_state in the WELCOMEs of devices that came back, by name; one that had to come back again has several.
	Welcome map[string]int64 `json:"welcome,omitempty"`
	Gaps    map[string]int64 `json:"gaps,omitempty"` // GAP frames to them, by reason
}

// OK says that every device has all its messages, in order.
func (o *Offline) OK() bool { return o.Behind == 0 && o.Lost == 0 && o.Reordered == 0 }

var (
	stateNames = []string{
		codec.StateLive: "live", codec.StateResumed: "resumed", codec.StateGap: "gap", codec.StateReset: "reset", codec.StateRefused: "refused",
	}
	gapNames = []string{
		codec.GapExpired: "expired", codec.GapNoRight: "no right", codec.GapFiltered: "filtered", codec.GapNotSent: "not sent",
	}
)

func byName(t tally[uint8], names []string) map[string]int64 {
	if len(t) == 0 {
		return nil
	}
	m := make(map[string]int64, len(t))
	for k, n := range t {
		name := ""
		if int(k) < len(names) {
			name = names[k]
		}
		m[cmp.Or(name, strconv.Itoa(int(k)))] = n
	}
	return m
}

// build makes the report; call it after stop.
func (r *offlineRun) build() (Report, error) {
	rep, err := r.coordinator.build()
	o := &Offline{Settings: *r.off, WriteSeconds: r.writeTook.Seconds()}
	var missed missedCounts
	var states, gaps tally[uint8]
	first, last := r.parts[0].comeback, int64(0)
	for _, l := range r.parts {
		missed.add(l.missed)
		states.merge(l.states)
		gaps.merge(l.gaps)
		o.CaughtUp += l.caughtUp
		last = max(last, l.lastCaught)
	}
	_, written, _ := r.sum()
	o.WritePerS = float64(written) / max(o.WriteSeconds, 1e-9)
	o.Received, o.Duplicated, o.Reordered = missed.received, missed.duplicated, missed.reordered
	o.Behind = int64(r.off.Devices) - o.CaughtUp
	if first != never {
		o.Lost = written - o.Received
	}
	if last > 0 {
		o.Seconds = time.Duration(last - first).Seconds()
		o.PerS = float64(o.Received) / max(o.Seconds, 1e-9)
	}
	o.Welcome, o.Gaps = byName(states, stateNames), byName(gaps, gapNames)
	rep.Offline = o

	rep.Connections.Asked += r.off.Devices
	if first != never {
		rep.Connections.Seconds = max(0, time.Duration(r.final.lastLogin-first).Seconds())
		rep.Connections.PerS = float64(states.sum()) / max(rep.Connections.Seconds, 1e-9)
	}
	if x := &rep.Traffic; r.target.pace.all != 0 {
		x.Seconds = time.Duration(r.target.end - r.target.measure).Seconds()
		// The order to end finds loops that are a message ahead of it.
		x.Intended = max(x.Intended, x.Sent+x.UnsentClosed+x.UnsentFull+x.UnsentBehind)
		x.Achieved = share(x.Sent, x.Intended)
	}
	rep.Settings.For = 0 // the run ends with the last device, not by the clock
	return rep, err
}

// tableOffline writes what the scenario offline is about.
func (r *Report) tableOffline(b *strings.Builder) {
	o := r.Offline
	if o == nil {
		return
	}
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	defer func() {
		t.Flush()
		b.WriteByte('\n')
	}()
	fmt.Fprintf(t, "missed\t%d messages of %d bytes at each of %d devices, written in %.2f s, %.0f/s\n",
		o.Settings.Missed, o.Settings.Size, o.Settings.Devices, o.WriteSeconds, o.WritePerS)
	fmt.Fprintf(t, "caught up\t%d of %d devices in %.3f s, %.0f messages/s\n", o.CaughtUp, o.Settings.Devices, o.Seconds, o.PerS)
	fmt.Fprintf(t, "of what was missed\t%d received, %d lost, %d duplicated, %d reordered\n", o.Received, o.Lost, o.Duplicated, o.Reordered)
	fmt.Fprintf(t, "inbox state\t%s\n", listed(o.Welcome))
	if len(o.Gaps) > 0 {
		fmt.Fprintf(t, "GAP\t%s\n", listed(o.Gaps))
	}
}

// listed is "5000 resumed, 3 gap", the most frequent first.
func listed(m map[string]int64) string {
	parts := make([]string, 0, len(m))
	for _, name := range byCount(m) {
		parts = append(parts, fmt.Sprintf("%d %s", m[name], name))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// ofOffline makes a metric of reports of every scenario; in others it is 0.
func ofOffline(metric func(*Offline) float64) func(*Report) float64 {
	return func(r *Report) float64 {
		if r.Offline == nil {
			return 0
		}
		return metric(r.Offline)
	}
}
