package bench

import (
	"fmt"
	"net/netip"
	"time"

	"gannet/codec"
)

// OfflineOptions say what RunOffline does. Zero values mean the defaults named here.
type OfflineOptions struct {
	Addr    string  `json:"addr"`       // host:port of the server
	Devices int     `json:"devices"`    // that fall behind, each of a user of its own; 5,000
	Missed  int     `json:"missed"`     // messages that each of them misses; 100
	Size    int     `json:"size"`       // bytes of payload, of live messages too; 64
	Pace    float64 `json:"pace_per_s"` // devices that come back a second; 0: all at once

	Writers int `json:"writers"` // connections that write what is missed; 4, at most one a device
	Window  int `json:"window"`  // messages of a writer that may be unanswered, at most as many as WELCOME allows; 256

	// Rest is a pause between the last message that is missed and what follows, in which the server may be started anew; 0.
	Rest time.Duration `json:"rest_ns"`

	Live      float64       `json:"live_per_s"` // messages per second of the live traffic in all; 0: none
	LiveConns int           `json:"live_conns"` // connections that talk live, in pairs; 100
	Before    time.Duration `json:"before_ns"`  // the live traffic is measured for this long before anybody comes back; 3 s
	Drain     time.Duration `json:"drain_ns"`   // longest wait for live messages on their way at the end; 5 s

	// Quiet ends a step in which nothing has happened for so long: nobody got in, nothing was acknowledged or caught up; 15 s.
	Quiet time.Duration `json:"quiet_ns"`

	Heartbeat    time.Duration            `json:"heartbeat_ns"`
	UserPrefix   string                   `json:"user_prefix"` // users are prefix0, prefix1, …; "offline-"
	Token        func(user string) string `json:"-"`           // credential of a user; nil: none. Called on the loops at the same time
	Sources      []netip.Addr             `json:"sources,omitempty"`
	Loops        int                      `json:"loops"` // goroutines that hold devices; 0: half the cores. Live traffic has one more
	LoginTimeout time.Duration            `json:"login_timeout_ns"`
}

// Bounds of OfflineOptions.
const (
	maxMissed    = 100_000_000 // messages in all
	maxWriters   = 1024
	maxWindow    = 65535
	maxLiveRate  = 1e6
	maxLiveConns = 100_000
	liveWindow   = 1024        // live messages of a connection that may be unanswered
	maxWarmup    = time.Second // live traffic before what counts as before, at most
)

// liveConns is how many connections talk live.
func (o *OfflineOptions) liveConns() int {
	if o.Live == 0 {
		return 0
	}
	return o.LiveConns
}

// warmup is how long live messages flow before their latencies count.
func (o *OfflineOptions) warmup() time.Duration { return min(maxWarmup, o.Before) }

// fill returns o with defaults in place of zero values.
func (o OfflineOptions) fill() OfflineOptions {
	number := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	number(&o.Devices, 5000)
	number(&o.Missed, 100)
	number(&o.Size, 64)
	number(&o.Writers, 4)
	number(&o.Window, 256)
	number(&o.LiveConns, 100)
	o.Writers = min(o.Writers, o.Devices)
	span := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	span(&o.Before, 3*time.Second)
	span(&o.Quiet, 15*time.Second)
	if o.UserPrefix == "" {
		o.UserPrefix = "offline-"
	}
	return o
}

// common are the options that every scenario has.
func (o *OfflineOptions) common() Options {
	return Options{
		Scenario: ScenarioOffline, Addr: o.Addr, Conns: o.Devices + o.Writers + o.liveConns(), Heartbeat: o.Heartbeat, Passive: true,
		Rate: o.Live, Size: o.Size, Acks: true, For: maxTime, UserPrefix: o.UserPrefix, Token: o.Token, Sources: o.Sources,
		Loops: o.Loops, LoginTimeout: o.LoginTimeout, Drain: o.Drain,
	}.fill()
}

// Validate says which option cannot be, by the name it has on the command line.
func (o OfflineOptions) Validate() error {
	o = o.fill()
	switch {
	case o.Devices < 1:
		return fmt.Errorf("devices: %d, must be at least 1", o.Devices)
	case o.Missed < 1:
		return fmt.Errorf("missed: %d, must be at least 1", o.Missed)
	case o.Devices > maxMissed || o.Missed > maxMissed || o.Devices*o.Missed > maxMissed:
		return fmt.Errorf("devices, missed: %d times %d, must be at most %d messages in all", o.Devices, o.Missed, maxMissed)
	case o.Size < MinSize || o.Size > codec.MaxBody-512:
		return fmt.Errorf("size: %d bytes, must be from %d (time, stream and number) to %d", o.Size, MinSize, codec.MaxBody-512)
	case o.Pace != 0 && !(o.Pace >= 1 && o.Pace <= maxRate):
		return fmt.Errorf("pace: %v devices per second, must be 0 (all at once) or at least 1", o.Pace)
	case o.Writers < 1 || o.Writers > maxWriters:
		return fmt.Errorf("writers: %d, must be from 1 to %d", o.Writers, maxWriters)
	case o.Window < 1 || o.Window > maxWindow:
		return fmt.Errorf("window: %d, must be from 1 to %d", o.Window, maxWindow)
	case o.Live != 0 && !(o.Live >= 0.001 && o.Live <= maxLiveRate):
		return fmt.Errorf("live: %v messages per second, must be 0 (none) or from 0.001 to %.0f", o.Live, float64(maxLiveRate))
	case o.LiveConns < 2 || o.LiveConns%2 != 0 || o.LiveConns > maxLiveConns:
		return fmt.Errorf("live-conns: %d, must be even (they talk in pairs) and from 2 to %d", o.LiveConns, maxLiveConns)
	case min(o.Rest, o.Before, o.Quiet) < 0 || max(o.Rest, o.Before, o.Quiet) > maxTime:
		return fmt.Errorf("rest, before and quiet must be from 0 to %v", maxTime)
	}
	c := o.common()
	c.Scenario = ScenarioConn // the rest is judged as for any scenario
	return c.Validate()
}
