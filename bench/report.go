package bench

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
)

// Report is all that a run found, ready for JSON.
type Report struct {
	Scenario    Scenario    `json:"scenario"`
	Started     time.Time   `json:"started"`
	Interrupted bool        `json:"interrupted"` // ended early by the caller
	Machine     Machine     `json:"machine"`
	Settings    Options     `json:"settings"` // with defaults filled in
	Connections Connections `json:"connections"`
	Traffic     Traffic     `json:"traffic"`
	Errors      Errors      `json:"errors"`
	Generator   Generator   `json:"generator"`
	Offline     *Offline    `json:"offline,omitempty"` // of the scenario offline
	// Latency by quantity: login, ping, delivery, ack, send_delay, catch_up, live_before, live_during. What had no value is not in it.
	Latency map[string]Latency `json:"latency"`
	Series  []Second           `json:"series"`
}

// Connections is what became of them.
type Connections struct {
	Asked    int     `json:"asked"`
	LoggedIn int64   `json:"logged_in"` // ever
	Up       int64   `json:"up"`        // at the end
	Failed   int64   `json:"failed"`    // never got in
	Dropped  int64   `json:"dropped"`   // got in and were closed, by BYE or without; every one of them is a false close
	Seconds  float64 `json:"login_s"`   // from the first connect to the last login
	PerS     float64 `json:"logins_per_s"`
}

// Traffic is what became of the messages that were due in the measured time.
type Traffic struct {
	Seconds      float64 `json:"measured_s"`
	IntendedRate float64 `json:"intended_per_s"`
	AchievedRate float64 `json:"achieved_per_s"` // sent, by the time it took to send them
	Achieved     float64 `json:"achieved"`       // sent by intended, 0 to 1

	Intended   int64 `json:"intended"` // sends due
	Sent       int64 `json:"sent"`
	Acked      int64 `json:"acked"`      // SENDACK OK
	Unanswered int64 `json:"unanswered"` // sent with a req, never answered

	Expected     int64   `json:"expected"` // receptions that the sends should have caused
	Received     int64   `json:"received"` // of these, each once
	ReceivedPerS float64 `json:"received_per_s"`
	Lost         int64   `json:"lost"`
	Duplicated   int64   `json:"duplicated"`
	Reordered    int64   `json:"reordered"` // received behind a later one
	Foreign      int64   `json:"foreign"`   // of another run or of somebody else

	ShortReceivers int   `json:"short_receivers"` // receivers that lost something
	WorstReceiver  int64 `json:"worst_receiver"`  // most messages that one of them lost

	UnsentClosed int64 `json:"unsent_closed"` // due, but the sender's connection was gone
	UnsentFull   int64 `json:"unsent_full"`   // due, but the server did not take more from the sender
	UnsentBehind int64 `json:"unsent_behind"` // due, but the generator did not get to it
}

// Errors by name: errnos by their C name, codes as "302 REPLACED".
type Errors struct {
	Connect   map[string]int64 `json:"connect,omitempty"` // ETIMEDOUT: no WELCOME in time
	Closed    map[string]int64 `json:"closed,omitempty"`  // without BYE; EOF: in an orderly way
	Bye       map[string]int64 `json:"bye,omitempty"`
	Refused   map[string]int64 `json:"refused,omitempty"` // requests
	Malformed int64            `json:"malformed"`         // connections ended because what came was not the protocol
	// Reasons are the first words that came with a code, or with a malformed frame.
	Reasons map[string]string `json:"reasons,omitempty"`
}

// Generator says whether to believe the rest.
type Generator struct {
	LateSends  int64   `json:"late_sends"`     // left more than a millisecond after they were due
	LateShare  float64 `json:"late_share"`     // of all sent, 0 to 1
	CPUSeconds float64 `json:"cpu_s"`          // in the measured time
	CPU        float64 `json:"cpu"`            // cores used on average
	Busiest    float64 `json:"busiest_loop"`   // share of the measured time in which the busiest loop did not wait, 0 to 1
	Control    int64   `json:"control_unsent"` // PINGs and PONGs for which socket and buffer had no room
	// Bottleneck lists why the generator rather than the server may have set the numbers.
	Bottleneck []string `json:"bottleneck,omitempty"`
}

const (
	lateShareBad = 0.01 // of sends late: the schedule was not kept
	busyBad      = 0.9  // a loop that busy adds its own queue to the latencies
)

// build makes the report; call it after stop.
func (c *coordinator) build() (Report, error) {
	t := &c.final
	r := Report{
		Scenario: c.o.Scenario, Started: c.began, Interrupted: c.halted, Machine: thisMachine(), Settings: *c.o,
		Connections: c.connections(), Traffic: c.traffic(), Errors: newErrors(t), Series: c.series,
		Latency: make(map[string]Latency),
	}
	r.Generator = c.generator(r.Traffic)
	for q := range quantities {
		h := c.merged(q)
		if h.TotalCount() == 0 {
			continue
		}
		sum, err := summarize(h)
		if err != nil {
			return r, err
		}
		r.Latency[q.String()] = sum
	}
	return r, nil
}

func (c *coordinator) connections() Connections {
	t := &c.final
	n := Connections{Asked: c.sc.total(), LoggedIn: t.logins, Up: t.up, Failed: t.failed, Dropped: t.dropped}
	if t.lastLogin > 0 {
		n.Seconds = time.Duration(t.lastLogin - c.start).Seconds()
		n.PerS = float64(t.logins) / max(n.Seconds, 1e-9)
	}
	return n
}

func (c *coordinator) traffic() Traffic {
	t := &c.final
	x := Traffic{
		Seconds: time.Duration(max(0, c.window.to-c.window.from)).Seconds(),
		Sent:    t.sent, Acked: t.acked, Expected: t.expected, Received: t.received, Duplicated: t.duplicated,
		Reordered: t.reordered, Foreign: t.foreign,
		UnsentClosed: t.unsentClosed, UnsentFull: t.unsentFull, UnsentBehind: t.unsentBehind,
	}
	if c.target.pace.all == 0 { // never sent anything
		return x
	}
	x.IntendedRate = c.o.Rate
	x.Intended = c.target.counted()
	x.Achieved = share(x.Sent, x.Intended)
	// A run that made up for sends after its end took longer than planned.
	took := func(last int64) float64 {
		return max(1e-9, time.Duration(max(c.target.end, last)-c.target.measure).Seconds())
	}
	x.AchievedRate = float64(x.Sent) / took(t.lastSend)
	x.ReceivedPerS = float64(x.Received) / took(t.lastReceived)
	if c.o.Acks {
		x.Unanswered = max(0, x.Sent-x.Acked-c.refusedSends())
	}
	c.countLoss(&x)
	return x
}

// byIndex finds every connection of the run and the loop that had it.
func (c *coordinator) byIndex() (conns []*conn, owners []*loop) {
	conns, owners = make([]*conn, c.sc.total()), make([]*loop, c.sc.total())
	for _, l := range c.loops {
		for i := range l.conns {
			conns[l.conns[i].index], owners[l.conns[i].index] = &l.conns[i], l
		}
	}
	return conns, owners
}

func (c *coordinator) refusedSends() (n int64) {
	for _, l := range c.loops {
		for i := range l.conns {
			n += int64(l.conns[i].refused)
		}
	}
	return n
}

// countLoss holds what every receiver got against what was sent to it.
func (c *coordinator) countLoss(x *Traffic) {
	conns, owners := c.byIndex()
	for i, to := range conns {
		if !to.joined || !c.sc.receives(uint32(i)) {
			continue
		}
		var lost int64
		for track := range c.sc.streams() {
			from, ok := c.sc.source(uint32(i), track)
			if !ok || !conns[from].joined {
				continue
			}
			want := int64(conns[from].sent) - int64(conns[from].refused)
			got := int64(owners[i].tracks[int(to.slot)*c.sc.streams()+track].got)
			lost += max(0, want-got)
		}
		if lost > 0 {
			x.ShortReceivers++
			x.Lost += lost
			x.WorstReceiver = max(x.WorstReceiver, lost)
		}
	}
}

func (c *coordinator) generator(x Traffic) Generator {
	t := &c.final
	g := Generator{
		LateSends: t.late, LateShare: share(t.late, t.sent), Control: t.control,
		CPUSeconds: c.window.cpu.Seconds(),
	}
	if x.Seconds > 0 {
		g.CPU = g.CPUSeconds / x.Seconds
		for _, b := range c.window.busy {
			// A loop counts up to its last wait, so the edges of the window blur.
			g.Busiest = min(1, max(g.Busiest, time.Duration(b).Seconds()/x.Seconds))
		}
	}
	if g.LateShare > lateShareBad {
		g.Bottleneck = append(g.Bottleneck, fmt.Sprintf("%.1f %% of the sends left more than %v late", 100*g.LateShare, lateAfter))
	}
	if x.UnsentBehind > 0 {
		g.Bottleneck = append(g.Bottleneck, fmt.Sprintf("%d sends were never got to", x.UnsentBehind))
	}
	if g.Busiest > busyBad {
		g.Bottleneck = append(g.Bottleneck, fmt.Sprintf("a loop was busy %.0f %% of the time, so latencies include its own queue", 100*g.Busiest))
	}
	return g
}

func newErrors(t *counters) Errors {
	e := Errors{
		Connect: named(t.connectErrs, errnoName), Closed: named(t.closes, errnoName),
		Bye: named(t.byes, codeName), Refused: named(t.refused, codeName), Malformed: t.malformed,
	}
	for code, why := range t.reasons {
		e.explain(codeName(code), why)
	}
	if t.malformedWhy != "" {
		e.explain("malformed", t.malformedWhy)
	}
	return e
}

func (e *Errors) explain(what, why string) {
	if e.Reasons == nil {
		e.Reasons = make(map[string]string)
	}
	e.Reasons[what] = why
}

func named[K codec.Code | unix.Errno](t tally[K], name func(K) string) map[string]int64 {
	if len(t) == 0 {
		return nil
	}
	m := make(map[string]int64, len(t))
	for k, n := range t {
		m[name(k)] = n
	}
	return m
}

// share is part by whole, 0 when there is no whole.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
