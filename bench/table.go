package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report for a person.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s against %s", r.Scenario, r.Settings.Addr)
	if r.Interrupted {
		b.WriteString(", ended early")
	}
	b.WriteString("\n\n")
	r.tableOffline(&b)
	r.tableCounts(&b)
	r.tableLatency(&b)
	r.tableErrors(&b)
	r.tableGenerator(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) tableCounts(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	defer t.Flush() // into a strings.Builder, which never fails
	c, x := &r.Connections, &r.Traffic
	fmt.Fprintf(t, "connections\t%d of %d logged in, %.0f/s, %d up at the end, %d failed, %d dropped\n",
		c.LoggedIn, c.Asked, c.PerS, c.Up, c.Failed, c.Dropped)
	if x.Intended == 0 {
		return
	}
	fmt.Fprintf(t, "send rate\t%.0f/s achieved, %.0f/s intended (%.2f %%)\n", x.AchievedRate, x.IntendedRate, 100*x.Achieved)
	fmt.Fprintf(t, "sent\t%d of %d due in %.1f s", x.Sent, x.Intended, x.Seconds)
	if r.Settings.Acks {
		fmt.Fprintf(t, ", %d acked, %d unanswered", x.Acked, x.Unanswered)
	}
	if n := x.UnsentClosed + x.UnsentFull + x.UnsentBehind; n > 0 {
		fmt.Fprintf(t, "; unsent: %d connection gone, %d socket full, %d not got to", x.UnsentClosed, x.UnsentFull, x.UnsentBehind)
	}
	fmt.Fprintf(t, "\nreceived\t%d of %d expected, %.0f/s\n", x.Received, x.Expected, x.ReceivedPerS)
	fmt.Fprintf(t, "lost\t%d", x.Lost)
	if x.Lost > 0 {
		fmt.Fprintf(t, " at %d receivers, up to %d at one", x.ShortReceivers, x.WorstReceiver)
	}
	fmt.Fprintf(t, "\nduplicated\t%d\nreordered\t%d\n", x.Duplicated, x.Reordered)
	if x.Foreign > 0 {
		fmt.Fprintf(t, "foreign\t%d messages that are not of this run\n", x.Foreign)
	}
}

func (r *Report) tableLatency(b *strings.Builder) {
	if len(r.Latency) == 0 {
		return
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	fmt.Fprintf(t, "\tp50\tp90\tp99\tp99.9\tmax\tcount\t\n")
	for q := range quantities {
		if l, ok := r.Latency[q.String()]; ok {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", strings.ReplaceAll(q.String(), "_", " "),
				showMillis(l.P50), showMillis(l.P90), showMillis(l.P99), showMillis(l.P999), showMillis(l.Max), l.Count)
		}
	}
}

func (r *Report) tableErrors(b *strings.Builder) {
	e := &r.Errors
	groups := []struct {
		what string
		m    map[string]int64
	}{
		{"connect failed", e.Connect}, {"closed without BYE", e.Closed}, {"BYE", e.Bye}, {"refused", e.Refused},
		{"malformed", nonzero("connections", e.Malformed)},
	}
	b.WriteString("\nerrors")
	none := true
	for _, g := range groups {
		for _, name := range byCount(g.m) {
			none = false
			fmt.Fprintf(b, "\n  %s: %d × %s", g.what, g.m[name], name)
			if why := cmp.Or(e.Reasons[name], e.Reasons[g.what]); why != "" {
				fmt.Fprintf(b, " (%s)", why)
			}
		}
	}
	if none {
		b.WriteString("  none")
	}
	b.WriteByte('\n')
}

func nonzero(name string, n int64) map[string]int64 {
	if n == 0 {
		return nil
	}
	return map[string]int64{name: n}
}

// byCount is the keys of m, the most frequent first.
func byCount(m map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
}

func (r *Report) tableGenerator(b *strings.Builder) {
	g := &r.Generator
	fmt.Fprintf(b, "generator  %.2f of %d cores, busiest loop %.0f %%, late sends %.2f %%\n", g.CPU, r.Machine.Cores, 100*g.Busiest, 100*g.LateShare)
	if g.Control > 0 {
		fmt.Fprintf(b, "  %d PINGs and PONGs could not be sent: sockets were full\n", g.Control)
	}
	for _, why := range g.Bottleneck {
		fmt.Fprintf(b, "  THE GENERATOR WAS THE BOTTLENECK: %s\n", why)
	}
}
