package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Assertion is a bound on one metric of a report, such as `p99<50ms` or `lost=0`.
//
// Latencies are compared with durations: p50, p90, p99, p99.9, min, mean and max are of what the scenario is about (conn:
// login, offline: catch_up, else delivery); `ping.p99`, `login.max`, `ack.p50`, `delivery.p99.9`, `send_delay.p99` name the quantity. A latency
// that was never measured fails. All other metrics are numbers: MetricNames lists them.
type Assertion struct {
	Metric string
	Op     string  // < <= > >= =
	Bound  float64 // milliseconds for a latency
	text   string
}

// counts are the metrics that are plain numbers.
var counts = map[string]func(*Report) float64{
	"achieved":   func(r *Report) float64 { return r.Traffic.Achieved },
	"rate":       func(r *Report) float64 { return r.Traffic.AchievedRate },
	"deliveries": func(r *Report) float64 { return r.Traffic.ReceivedPerS },
	"sent":       func(r *Report) float64 { return float64(r.Traffic.Sent) },
	"acked":      func(r *Report) float64 { return float64(r.Traffic.Acked) },
	"unanswered": func(r *Report) float64 { return float64(r.Traffic.Unanswered) },
	"expected":   func(r *Report) float64 { return float64(r.Traffic.Expected) },
	"received":   func(r *Report) float64 { return float64(r.Traffic.Received) },
	"lost":       func(r *Report) float64 { return float64(r.Traffic.Lost) },
	"duplicated": func(r *Report) float64 { return float64(r.Traffic.Duplicated) },
	"reordered":  func(r *Report) float64 { return float64(r.Traffic.Reordered) },
	"foreign":    func(r *Report) float64 { return float64(r.Traffic.Foreign) },
	"unsent": func(r *Report) float64 {
		return float64(r.Traffic.UnsentClosed + r.Traffic.UnsentFull + r.Traffic.UnsentBehind)
	},
	"connections":    func(r *Report) float64 { return float64(r.Connections.Up) },
	"logins":         func(r *Report) float64 { return float64(r.Connections.LoggedIn) },
	"login_rate":     func(r *Report) float64 { return r.Connections.PerS },
	"failed":         func(r *Report) float64 { return float64(r.Connections.Failed) },
	"dropped":        func(r *Report) float64 { return float64(r.Connections.Dropped) },
	"connect_errors": func(r *Report) float64 { return total(r.Errors.Connect) },
	"closed":         func(r *Report) float64 { return total(r.Errors.Closed) },
	"byes":           func(r *Report) float64 { return total(r.Errors.Bye) },
	"refused":        func(r *Report) float64 { return total(r.Errors.Refused) },
	"malformed":      func(r *Report) float64 { return float64(r.Errors.Malformed) },
	"late":           func(r *Report) float64 { return r.Generator.LateShare },
	"cpu":            func(r *Report) float64 { return r.Generator.CPU },
	"busiest":        func(r *Report) float64 { return r.Generator.Busiest },

	"catch_up.devices":    ofOffline(func(o *Offline) float64 { return float64(o.CaughtUp) }),
	"catch_up.behind":     ofOffline(func(o *Offline) float64 { return float64(o.Behind) }),
	"catch_up.seconds":    ofOffline(func(o *Offline) float64 { return o.Seconds }),
	"catch_up.rate":       ofOffline(func(o *Offline) float64 { return o.PerS }),
	"catch_up.lost":       ofOffline(func(o *Offline) float64 { return float64(o.Lost) }),
	"catch_up.duplicated": ofOffline(func(o *Offline) float64 { return float64(o.Duplicated) }),
	"catch_up.reordered":  ofOffline(func(o *Offline) float64 { return float64(o.Reordered) }),
}

var latencies = map[string]func(Latency) float64{
	"min": func(l Latency) float64 { return l.Min }, "mean": func(l Latency) float64 { return l.Mean },
	"p50": func(l Latency) float64 { return l.P50 }, "p90": func(l Latency) float64 { return l.P90 },
	"p99": func(l Latency) float64 { return l.P99 }, "p99.9": func(l Latency) float64 { return l.P999 },
	"max": func(l Latency) float64 { return l.Max },
}

func total(m map[string]int64) (sum float64) {
	for _, n := range m {
		sum += float64(n)
	}
	return sum
}

// MetricNames lists what assertions may name.
func MetricNames() []string {
	return append(slices.Sorted(maps.Keys(latencies)), slices.Sorted(maps.Keys(counts))...)
}

// ParseAssertions reads a comma-separated list, such as `p99<50ms,lost=0,achieved>=0.98`.
func ParseAssertions(list string) ([]Assertion, error) {
	var all []Assertion
	for _, f := range strings.Split(list, ",") {
		if f = strings.TrimSpace(f); f == "" {
			continue
		}
		a, err := parseAssertion(f)
		if err != nil {
			return nil, fmt.Errorf("assertion %q: %w", f, err)
		}
		all = append(all, a)
	}
	return all, nil
}

func parseAssertion(s string) (a Assertion, err error) {
	i := strings.IndexAny(s, "<>=")
	if i <= 0 {
		return a, fmt.Errorf("want METRIC OP VALUE with OP one of < <= > >= =")
	}
	a.text, a.Metric, a.Op = s, strings.TrimSpace(s[:i]), s[i:i+1]
	value := s[i+1:]
	if a.Op != "=" && strings.HasPrefix(value, "=") {
		a.Op, value = a.Op+"=", value[1:]
	}
	value = strings.TrimSpace(value)
	if _, ok := counts[a.Metric]; ok {
		if a.Bound, err = strconv.ParseFloat(value, 64); err != nil || a.Bound != a.Bound {
			return a, fmt.Errorf("%s is compared with a number, %q is none", a.Metric, value)
		}
		return a, nil
	}
	if _, _, ok := splitLatency(a.Metric); !ok {
		return a, fmt.Errorf("no metric %q; there are %s, latencies also as login.p99, ping.p99, delivery.p99, ack.p99, send_delay.p99",
			a.Metric, strings.Join(MetricNames(), ", "))
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return a, fmt.Errorf("%s is compared with a duration such as 50ms, %q is none", a.Metric, value)
	}
	a.Bound = millis(int64(d))
	return a, nil
}

// splitLatency reads "p99" or "ping.p99"; quantity is empty for the former.
func splitLatency(metric string) (quantity, value string, ok bool) {
	if _, ok := latencies[metric]; ok {
		return "", metric, true
	}
	quantity, value, _ = strings.Cut(metric, ".")
	_, ok = latencies[value]
	return quantity, value, ok && slices.Contains(quantityNames[:], quantity)
}

// Check returns an error that says what was measured when r does not keep to a.
func (a Assertion) Check(r *Report) error {
	got, shown := 0.0, ""
	if count, ok := counts[a.Metric]; ok {
		got = count(r)
		shown = strconv.FormatFloat(got, 'g', 6, 64)
	} else {
		quantity, value, _ := splitLatency(a.Metric)
		if quantity == "" {
			quantity = aboutOf(r.Scenario).String()
		}
		l, ok := r.Latency[quantity]
		if !ok {
			return fmt.Errorf("%s: no %s was measured", a.text, quantity)
		}
		got = latencies[value](l)
		shown = showMillis(got)
	}
	if !a.holds(got) {
		return fmt.Errorf("%s: measured %s", a.text, shown)
	}
	return nil
}

func (a Assertion) holds(got float64) bool {
	switch a.Op {
	case "<":
		return got < a.Bound
	case "<=":
		return got <= a.Bound
	case ">":
		return got > a.Bound
	case ">=":
		return got >= a.Bound
	}
	return got == a.Bound
}

// aboutOf is the quantity that a bare p99 means.
func aboutOf(s Scenario) quantity {
	switch s {
	case ScenarioConn:
		return qLogin
	case ScenarioOffline:
		return qCatchUp
	}
	return qDelivery
}
