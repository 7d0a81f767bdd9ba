package bench

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

func TestOptionsSayWhatIsWrong(t *testing.T) {
	good := map[Scenario]Options{
		ScenarioConn:      {Scenario: ScenarioConn, Addr: "x:1", Conns: 1},
		ScenarioP2P:       {Scenario: ScenarioP2P, Addr: "x:1", Conns: 2, Rate: 1},
		ScenarioBroadcast: {Scenario: ScenarioBroadcast, Addr: "x:1", Conns: 3, Rate: 1},
	}
	for s, o := range good {
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, tc := range []struct {
		of     Scenario
		change func(*Options)
		field  string
	}{
		{ScenarioConn, func(o *Options) { o.Conns = 0 }, "conns"},
		{ScenarioConn, func(o *Options) { o.Scenario = "storm" }, "scenario"},
		{ScenarioConn, func(o *Options) { o.Ramp = -1 }, "ramp"},
		{ScenarioConn, func(o *Options) { o.Ramp = math.NaN() }, "ramp"},
		{ScenarioConn, func(o *Options) { o.Heartbeat = time.Millisecond }, "heartbeat"},
		{ScenarioConn, func(o *Options) { o.Heartbeat = 24 * time.Hour }, "heartbeat"},
		{ScenarioConn, func(o *Options) { o.For = -1 }, "hold"},
		{ScenarioConn, func(o *Options) { o.For = math.MaxInt64 }, "hold"},
		{ScenarioConn, func(o *Options) { o.Loops = 1000 }, "loops"},
		{ScenarioConn, func(o *Options) { o.UserPrefix = "a\nb" }, "user-prefix"},
		{ScenarioConn, func(o *Options) { o.UserPrefix = strings.Repeat("u", codec.MaxID) }, "user-prefix"},
		{ScenarioConn, func(o *Options) { o.Topics = []string{"a", "b"} }, "topic"},
		{ScenarioP2P, func(o *Options) { o.Conns = 3 }, "conns"},
		{ScenarioP2P, func(o *Options) { o.Rate = 0 }, "rate"},
		{ScenarioP2P, func(o *Options) { o.Rate = math.Inf(1) }, "rate"},
		{ScenarioP2P, func(o *Options) { o.Rate = math.NaN() }, "rate"},
		{ScenarioP2P, func(o *Options) { o.Rate, o.For = 1e6, 2*time.Hour }, "rate"},
		{ScenarioP2P, func(o *Options) { o.Size = 15 }, "size"},
		{ScenarioP2P, func(o *Options) { o.Size = codec.MaxBody }, "size"},
		{ScenarioBroadcast, func(o *Options) { o.Topics = []string{""} }, "topic"},
		{ScenarioBroadcast, func(o *Options) { o.Topics = []string{"a", "b", "c", "d"} }, "topic"},
		{ScenarioBroadcast, func(o *Options) { o.Topics, o.All = []string{"a"}, true }, "all"},
		{ScenarioBroadcast, func(o *Options) { o.Topics, o.Publishers = []string{"a", "b"}, 1 }, "publishers"},
		{ScenarioBroadcast, func(o *Options) { o.Publishers = maxPublishers + 1 }, "publishers"},
	} {
		o := good[tc.of]
		tc.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), tc.field) {
			t.Errorf("%+v: error %v, want one that names %s", o, err, tc.field)
		}
		if _, err := Run(context.Background(), o, nil); err == nil {
			t.Errorf("%+v: Run took it", o)
		}
	}
}
