package bench

import (
	"strings"
	"testing"
)

func TestAssertions(t *testing.T) {
	r := &Report{
		Scenario: ScenarioP2P,
		Traffic:  Traffic{Achieved: 0.99, Lost: 3, UnsentFull: 2, UnsentBehind: 1},
		Errors:   Errors{Bye: map[string]int64{"202 IDLE": 2, "201 SLOW": 1}},
		Latency: map[string]Latency{
			"delivery": {P50: 1, P99: 40, P999: 80, Max: 100},
			"login":    {P99: 500, Max: 1000},
		},
	}
	for list, want := range map[string][]string{ // what the failures say
		"":                               nil,
		"p99<50ms":                       nil,
		"p99<40ms":                       {"p99<40ms: measured 40.0 ms"},
		"p99<=40ms":                      nil,
		"p99>=40ms":                      nil,
		"p99>40ms":                       {"p99>40ms"},
		" p99 < 50ms , lost = 3 ":        nil,
		"p99.9<0.05s":                    {"measured 80.0 ms"},
		"lost=0,achieved>=0.98":          {"lost=0: measured 3"},
		"lost=0,p50<1ms,achieved>0.999":  {"lost=0", "p50<1ms", "achieved>0.999: measured 0.99"},
		"login.p99<1s,login.max<=1000ms": nil,
		"delivery.max<1us":               {"delivery.max<1us: measured 100 ms"},
		"ping.p99<1s":                    {"no ping was measured"},
		"byes=3,unsent=3,duplicated=0":   nil,
		"byes<3":                         {"byes<3: measured 3"},
	} {
		asserts, err := ParseAssertions(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		var failed []string
		for _, a := range asserts {
			if err := a.Check(r); err != nil {
				failed = append(failed, err.Error())
			}
		}
		if len(failed) != len(want) {
			t.Errorf("%q: failures %q, want %q", list, failed, want)
			continue
		}
		for i := range want {
			if !strings.Contains(failed[i], want[i]) {
				t.Errorf("%q: failure %q, want %q", list, failed[i], want[i])
			}
		}
	}
	r.Scenario = ScenarioConn
	a, err := ParseAssertions("p99=500ms")
	if err != nil {
		t.Fatal(err)
	}
	if err := a[0].Check(r); err != nil {
		t.Errorf("p99 of conn is the login's: %v", err)
	}
}

func TestBadAssertions(t *testing.T) {
	for list, want := range map[string]string{
		"p99":             "METRIC OP VALUE",
		"<50ms":           "METRIC OP VALUE",
		"p98<50ms":        `no metric "p98"`,
		"p99<50":          "duration",
		"p99<":            "duration",
		"p99==50ms":       "duration",
		"p99<>50ms":       "duration",
		"lost=0ms":        "number",
		"lost=":           "number",
		"lost=NaN":        "number",
		"login.p98<1s":    "no metric",
		"nothing.p99<1s":  "no metric",
		"delivery<1s":     "no metric",
		"lost=0,,oops=1":  `"oops=1"`,
		"p99<50ms lost=0": "duration",
	} {
		if _, err := ParseAssertions(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that says %q", list, err, want)
		}
	}
}

// Every metric that is offered can be asserted and checked.
func TestMetricNames(t *testing.T) {
	r := &Report{Scenario: ScenarioP2P, Latency: map[string]Latency{"delivery": {}}}
	for _, name := range MetricNames() {
		bound := "0"
		if _, ok := latencies[name]; ok {
			bound = "0s"
		}
		asserts, err := ParseAssertions(name + "=" + bound)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := asserts[0].Check(r); err != nil {
			t.Errorf("%s of an empty report: %v", name, err)
		}
	}
}
