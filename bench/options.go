package bench

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"gannet/codec"
)

// Scenario names what the connections of a run do.
type Scenario string

// Scenarios.
const (
	ScenarioConn      Scenario = "conn"      // log in, stay, answer PINGs
	ScenarioP2P       Scenario = "p2p"       // direct messages between the two of a pair
	ScenarioBroadcast Scenario = "broadcast" // few publish, all receive
	ScenarioOffline   Scenario = "offline"   // fall behind and come back: RunOffline, not Run
)

// Bounds of Options.
const (
	MinSize       = stampLen // bytes of payload: due time, stream, number
	maxRate       = 100e6    // messages per second
	maxPublishers = 4096
	maxTopics     = 4096
	maxLoops      = 64
	maxTime       = 366 * 24 * time.Hour // of a run's parts each
)

// Options say what to run. Zero values mean the defaults named here.
type Options struct {
	Scenario Scenario `json:"scenario"`
	Addr     string   `json:"addr"`  // host:port of the server
	Conns    int      `json:"conns"` // connections; subscribers in broadcast, whose publishers come on top

	Ramp      float64       `json:"ramp_per_s"` // logins per second; 0: as fast as they go, maxConnecting under way
	Heartbeat time.Duration `json:"heartbeat_ns"`
	// Passive sends no PING of its own, only answers the server's.
	Passive bool `json:"passive"`

	Rate   float64       `json:"rate_per_s"` // messages per second in all (p2p, broadcast)
	Size   int           `json:"size"`       // bytes of payload; 64
	Acks   bool          `json:"acks"`       // ask for a SENDACK for every message
	For    time.Duration `json:"for_ns"`     // length of what is measured; in conn how long connections are held
	Warmup time.Duration `json:"warmup_ns"`  // sends before that, not counted (p2p, broadcast)

	Topics     []string `json:"topics,omitempty"` // broadcast: subscriber i takes Topics[i mod n]; conn: subscribes, sends nothing
	All        bool     `json:"all"`              // broadcast to every session (kind 4) instead of topics
	Publishers int      `json:"publishers"`       // broadcast: publisher j sends to Topics[j mod n]; one a topic

	UserPrefix string                   `json:"user_prefix"` // users are prefix0, prefix1, …; "bench-"
	Token      func(user string) string `json:"-"`           // credential of a user; nil: none. Called on the loops at the same time
	Sources    []netip.Addr             `json:"sources,omitempty"`

	Loops        int           `json:"loops"` // goroutines that hold connections; 0: half the cores
	LoginTimeout time.Duration `json:"login_timeout_ns"`
	Drain        time.Duration `json:"drain_ns"` // longest wait for what is still on its way; 5 s
}

// fill returns o with defaults in place of zero values.
func (o Options) fill() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Heartbeat, 15*time.Second)
	set(&o.LoginTimeout, 10*time.Second)
	set(&o.Drain, 5*time.Second)
	set(&o.For, 10*time.Second)
	if o.Size == 0 {
		o.Size = 64
	}
	if o.UserPrefix == "" {
		o.UserPrefix = "bench-"
	}
	if o.Loops == 0 {
		o.Loops = min(max(1, runtime.NumCPU()/2), 8)
	}
	if o.Scenario == ScenarioBroadcast {
		if !o.All && len(o.Topics) == 0 {
			o.Topics = []string{"bench"}
		}
		if o.Publishers == 0 {
			o.Publishers = max(1, len(o.Topics))
		}
	}
	return o
}

// Validate says which option cannot be, by the name it has on the command line.
func (o Options) Validate() error {
	o = o.fill()
	switch {
	case o.Conns < 1:
		return fmt.Errorf("conns: %d, must be at least 1", o.Conns)
	case o.Ramp < 0 || math.IsNaN(o.Ramp) || o.Ramp > maxRate:
		return fmt.Errorf("ramp: %v logins per second, must be 0 (as fast as it goes) or more", o.Ramp)
	case o.Heartbeat < time.Second || o.Heartbeat > math.MaxUint16*time.Second:
		return fmt.Errorf("heartbeat: %v, must be from 1s to %v", o.Heartbeat, math.MaxUint16*time.Second)
	case o.For < 0, o.Warmup < 0, o.Drain < 0, o.LoginTimeout < 0:
		return fmt.Errorf("for, hold, warmup, drain and login-timeout must not be negative")
	case max(o.For, o.Warmup, o.Drain, o.LoginTimeout) > maxTime:
		return fmt.Errorf("for, hold, warmup, drain and login-timeout must be at most %v", maxTime)
	case o.Loops < 0 || o.Loops > maxLoops:
		return fmt.Errorf("loops: %d, must be from 1 to %d", o.Loops, maxLoops)
	case !codec.ValidID(fmt.Appendf(nil, "%s%d", o.UserPrefix, o.Conns+o.Publishers)):
		return fmt.Errorf("user-prefix: %q with a number behind it is no identifier (1 to %d bytes of UTF-8, no control characters)", o.UserPrefix, codec.MaxID)
	}
	for _, t := range o.Topics {
		if !codec.ValidID([]byte(t)) {
			return fmt.Errorf("topic: %q is no identifier (1 to %d bytes of UTF-8, no control characters)", t, codec.MaxID)
		}
	}
	switch o.Scenario {
	case ScenarioConn:
		if len(o.Topics) > 1 {
			return fmt.Errorf("topic: conn takes one at most, got %d", len(o.Topics))
		}
		return nil
	case ScenarioP2P:
		if o.Conns%2 != 0 {
			return fmt.Errorf("conns: %d, must be even: connections talk in pairs", o.Conns)
		}
	case ScenarioBroadcast:
		if err := o.validateBroadcast(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("scenario: %q, must be %s, %s or %s", o.Scenario, ScenarioConn, ScenarioP2P, ScenarioBroadcast)
	}
	return o.validateLoad()
}

func (o Options) validateBroadcast() error {
	switch {
	case o.All && len(o.Topics) > 0:
		return fmt.Errorf("all: cannot be combined with topic %q", strings.Join(o.Topics, ", "))
	case len(o.Topics) > maxTopics:
		return fmt.Errorf("topic: %d of them, must be at most %d", len(o.Topics), maxTopics)
	case len(o.Topics) > o.Conns:
		return fmt.Errorf("topic: %d of them for %d subscribers, each takes one", len(o.Topics), o.Conns)
	case o.Publishers < max(1, len(o.Topics)) || o.Publishers > maxPublishers:
		return fmt.Errorf("publishers: %d, must be from one a topic (%d) to %d", o.Publishers, max(1, len(o.Topics)), maxPublishers)
	}
	return nil
}

// validateLoad judges what only scenarios that send have.
func (o Options) validateLoad() error {
	switch {
	case !(o.Rate > 0) || o.Rate < 0.001 || o.Rate > maxRate:
		return fmt.Errorf("rate: %v messages per second, must be from 0.001 to %.0f", o.Rate, float64(maxRate))
	case o.Size < MinSize || o.Size > codec.MaxBody-512:
		return fmt.Errorf("size: %d bytes, must be from %d (time, stream and number) to %d", o.Size, MinSize, codec.MaxBody-512)
	case o.Rate*(o.Warmup+o.For).Seconds() > math.MaxUint32-1:
		return fmt.Errorf("rate: %v/s for %v is more than %d messages, shorten the run", o.Rate, o.Warmup+o.For, uint32(math.MaxUint32-1))
	}
	return nil
}
