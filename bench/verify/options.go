package verify

import (
	"fmt"
	"math"
	"time"

	"gannet/codec"
)

// Options say what traffic to check a server with. Zero values mean the defaults named here.
type Options struct {
	Addr string `json:"addr"` // host:port of the server

	// SDK has the devices work through package client, to check what an application sees; otherwise they speak the protocol
	// themselves.
	SDK bool `json:"sdk"`

	Users   int `json:"users"`   // 50
	Devices int `json:"devices"` // of each user, 1 or 2: 2

	Rate float64       `json:"rate_per_s"` // messages a second in all: 1000
	For  time.Duration `json:"for_ns"`     // how long to send: 10 s
	Size int           `json:"size"`       // payloads have MinSize to so many bytes: 128

	Topics    int  `json:"topics"`     // every user follows one of them; a quarter of the messages goes to them
	Groups    int  `json:"groups"`     // made by the admin API; a quarter of the messages goes to them
	GroupSize int  `json:"group_size"` // members of each: 5
	All       bool `json:"all"`        // one message in 50 goes to everybody

	Members    float64 `json:"members_per_s"`   // users who join or leave a group a second, all groups together
	Admin      string  `json:"admin,omitempty"` // host:port of the admin API; needed for groups
	AdminToken string  `json:"-"`

	Churn    float64       `json:"churn_per_s"` // connections cut a second, all devices together
	Away     time.Duration `json:"away_ns"`     // a device whose connection was cut comes back after at most so long: 300 ms
	TTLShare float64       `json:"ttl_share"`   // of the messages, 0 to 1, that expire after a second

	Window int `json:"window"` // messages of a device that may have no final answer: 64
	// Settle is the longest wait for all logins, for what is still on its way when sending is over, and for the logs to be
	// read: 30 s each.
	Settle    time.Duration `json:"settle_ns"`
	Quiet     time.Duration `json:"quiet_ns"`   // nothing comes for so long: it is over: 500 ms
	MaxEvents int           `json:"max_events"` // sends and receipts that are kept; then sending ends: 20,000,000

	UserPrefix string                   `json:"user_prefix"` // of users, topics and groups; "verify-" and a number of the run
	Token      func(user string) string `json:"-"`           // credential of a user; nil: none. Called by many goroutines
	Seed       uint64                   `json:"seed"`        // of what is sent to whom and who is cut; 0: a random one

	// Progress is called once a second, if not nil, by one goroutine.
	Progress func(Snapshot) `json:"-"`

	keepRepetitions bool // tests: hand to the application what came before
}

// Bounds of Options.
const (
	maxUsers  = 100_000
	maxWindow = 512 // half of what a server takes by default
	maxSize   = 60 << 10
	maxRate   = 10e6
	maxTime   = 24 * time.Hour
)

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// fill returns o with defaults in place of zero values.
func (o Options) fill() Options {
	or(&o.Users, 50)
	or(&o.Devices, 2)
	or(&o.Rate, 1000)
	or(&o.For, 10*time.Second)
	or(&o.Size, 128)
	or(&o.GroupSize, 5)
	or(&o.Away, 300*time.Millisecond)
	or(&o.Window, 64)
	or(&o.Settle, 30*time.Second)
	or(&o.Quiet, 500*time.Millisecond)
	or(&o.MaxEvents, 20_000_000)
	return o
}

// Validate says which option cannot be, by the name it has on the command line.
func (o Options) Validate() error {
	o = o.fill()
	for _, f := range []struct {
		name      string
		v, lo, hi float64
	}{
		{"users", float64(o.Users), 2, maxUsers},
		{"devices", float64(o.Devices), 1, 2},
		{"rate", o.Rate, 0.001, maxRate},
		{"size", float64(o.Size), MinSize, maxSize},
		{"topics", float64(o.Topics), 0, float64(o.Users)},
		{"groups", float64(o.Groups), 0, maxUsers},
		{"group-size", float64(o.GroupSize), 1, float64(max(o.Users, 5))},
		{"churn", o.Churn, 0, maxRate},
		{"members", o.Members, 0, 1000},
		{"ttl-share", o.TTLShare, 0, 1},
		{"window", float64(o.Window), 1, maxWindow},
		{"max-events", float64(o.MaxEvents), 1, math.MaxInt32},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			return fmt.Errorf("%s: %v, must be from %v to %v", f.name, f.v, f.lo, f.hi)
		}
	}
	for _, f := range []struct {
		name string
		v    time.Duration
	}{{"for", o.For}, {"away", o.Away}, {"settle", o.Settle}, {"quiet", o.Quiet}} {
		if f.v < 0 || f.v > maxTime {
			return fmt.Errorf("%s: %v, must be from 0 to %v", f.name, f.v, maxTime)
		}
	}
	if o.Groups > 0 && o.Admin == "" {
		return fmt.Errorf("groups: they are made by the admin API; name its address with --admin")
	}
	if longest := o.UserPrefix + "group-100000"; o.UserPrefix != "" && !codec.ValidID([]byte(longest)) {
		return fmt.Errorf("user-prefix: %q with a word and a number behind it is no identifier (1 to %d bytes of UTF-8, no control characters)", o.UserPrefix, codec.MaxID)
	}
	return nil
}
