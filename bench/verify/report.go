package verify

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the outcome of a run.
type Report struct {
	Verdict
	Settings Options   `json:"settings"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`  // of sending
	StoredPS float64   `json:"stored_s"` // messages a second

	Unsent      int64          `json:"unsent"`  // orders that full outboxes refused
	Busy        int64          `json:"busy"`    // answers 1–99
	Retries     int64          `json:"retries"` // SENDs beyond the first of a message
	Logins      int64          `json:"logins"`
	Cuts        int64          `json:"cuts"`    // connections cut on purpose
	Changes     int64          `json:"changes"` // of members of groups
	DialErrors  int64          `json:"dial_errors"`
	WriteErrors int64          `json:"write_errors"`
	Timeouts    int64          `json:"timeouts"` // connections given up for want of an answer
	Malformed   int64          `json:"malformed"`
	Strange     int64          `json:"strange"` // frames that belong to nothing
	Byes        map[string]int `json:"byes,omitempty"`
	Marks       []Mark         `json:"marks,omitempty"`
	Notes       []string       `json:"notes,omitempty"`
}

// Snapshot is how a run goes.
type Snapshot struct {
	At      time.Duration
	Phase   string
	Sent    int64
	Stored  int64
	Handed  int64
	Logins  int64
	Busy    int64
	Settled int // devices that are logged in with nothing to be answered
	Devices int
}

// Line shows it in one line.
func (s Snapshot) Line() string {
	return fmt.Sprintf("%4.0fs %-6s %d sent, %d stored, %d received, %d logins, %d busy, %d of %d devices settled",
		s.At.Seconds(), s.Phase, s.Sent, s.Stored, s.Handed, s.Logins, s.Busy, s.Settled, s.Devices)
}

// progress calls Options.Progress once a second until stop is called.
func (p *phase) progress() (stop func()) {
	if p.r.o.Progress == nil {
		return func() {}
	}
	quit, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.r.o.Progress(p.snapshot())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-over }
}

func (p *phase) snapshot() Snapshot {
	n := &p.r.n
	s := Snapshot{
		At: time.Since(p.r.began), Phase: p.name.Load().(string), Sent: n.sent.Load(), Stored: n.stored.Load(), Handed: n.handed.Load(),
		Logins: n.logins.Load(), Busy: n.busy.Load(), Devices: len(p.r.terminals),
	}
	for _, t := range p.r.terminals {
		if t.settled.Load() {
			s.Settled++
		}
	}
	return s
}

// build makes the report; call it when the terminals have ended.
func (r *Run) build(v Verdict) Report {
	n := &r.n
	rep := Report{
		Verdict: v, Settings: r.o, Started: r.began, Marks: r.h.Marks(),
		Unsent: n.unsent.Load(), Busy: n.busy.Load(), Retries: n.retries.Load(), Logins: n.logins.Load(), Cuts: n.cuts.Load(), Changes: n.changes.Load(),
		DialErrors: n.dialErrors.Load(), WriteErrors: n.writeErrors.Load(), Timeouts: n.timeouts.Load(), Malformed: n.malformed.Load(),
		Strange: n.strange.Load(),
	}
	if took := time.Duration(n.sendingUntil.Load() - n.sendingSince.Load()); took > 0 {
		rep.Seconds = took.Seconds()
		rep.StoredPS = float64(v.Stored) / rep.Seconds
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rep.Notes = slices.Clone(r.notes)
	for code, count := range r.byes {
		if rep.Byes == nil {
			rep.Byes = make(map[string]int)
		}
		rep.Byes[code.String()] = count
	}
	return rep
}

// OK says that the server kept its promises, as far as they could be checked: something was stored, nothing was found, and the
// server said nothing that is no frame.
func (r *Report) OK() bool { return r.Clean() && r.Stored > 0 && r.Malformed == 0 }

// WriteTable writes the report for a person.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "verify against %s, seed %d\n\n", r.Settings.Addr, r.Settings.Seed)
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "sent\t%d messages of %d devices in %.1f s; %d stored (%.0f/s), %d refused for good; %d not sent, outbox full\n",
		r.Sent, r.Settings.Users*r.Settings.Devices, r.Seconds, r.Stored, r.StoredPS, r.Refused, r.Unsent)
	fmt.Fprintf(t, "tries\t%d retries, %d answers to try later\n", r.Retries, r.Busy)
	fmt.Fprintf(t, "received\t%d handed over, %d owed; %d came again and were dropped; %d were told to be missing\n", r.Handed, r.Owed, r.Repeated, r.Excused)
	fmt.Fprintf(t, "logs\t%d messages in %d channels\n", r.InLogs, r.Channels)
	fmt.Fprintf(t, "connections\t%d logins, %d cut on purpose, %d failed connects, %d failed writes, %d given up\n",
		r.Logins, r.Cuts, r.DialErrors, r.WriteErrors, r.Timeouts)
	if r.Changes > 0 {
		fmt.Fprintf(t, "groups\t%d changes of members; %d gaps for want of a right, %d messages overtaken by a removal\n", r.Changes, r.NoRight, r.Overtaken)
	}
	if r.Malformed+r.Strange > 0 {
		fmt.Fprintf(t, "frames\t%d malformed, %d that belong to nothing\n", r.Malformed, r.Strange)
	}
	for _, code := range slices.Sorted(maps.Keys(r.Byes)) {
		fmt.Fprintf(t, "BYE\t%d × %s\n", r.Byes[code], code)
	}
	_ = t.Flush() // into a strings.Builder, which never fails
	for _, m := range r.Marks {
		fmt.Fprintf(&b, "%s  %s\n", r.Started.Add(m.At).Format("15:04:05.000"), m.What)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, told := range r.Told {
		fmt.Fprintf(&b, "told: %s\n", told)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	if n := r.Total() - len(r.Findings); n > 0 {
		fmt.Fprintf(&b, "  and %d more\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
