package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server/auth"
	"gannet/store"
)

// Options of a server. Zero values mean the defaults given beside the fields.
type Options struct {
	Listen     string                      // where clients connect, host:port: "127.0.0.1:7000"; port 0 takes a free one
	Admin      string                      // admin HTTP, host:port: "127.0.0.1:7001"; "off" for none
	AdminToken string                      // asked of admin clients as a bearer token; required off loopback
	Data       string                      // folder for what is stored: "data"
	Store      string                      // "pebble" (on disk, in Data) or "memory" (gone with the process): "pebble"
	BackupDir  string                      // absolute; where POST /v1/backup makes backups: none are made
	OpenStore  func() (store.Store, error) // nil: by Store and Data; for programs with a store of their own
	Node       string                      // name of this node, an identifier: "gannet"
	Loops      int                         // event loops: one a CPU
	Drain      time.Duration               // time over which sessions are ended when Run's context ends: 10 s

	Auth        auth.Authenticator // nil: everyone is whom they say (only on loopback, or with Insecure)
	Insecure    bool               // allow open logins from other machines
	AuthWorkers int                // credentials judged at once: two a CPU
	AuthQueue   int                // logins waiting for that: 8192
	AuthTimeout time.Duration      // for one credential: 5 s

	StoreCache    int // bytes of blocks that pebble keeps in memory: 64 MiB
	StoreMemtable int // bytes written before they become a table, at most three times that are kept: 64 MiB

	Limits    Limits
	Retention Retention
	Handlers  Handlers
	Logger    *slog.Logger // nil: slog.Default()
}

// Limits bound what clients may take.
type Limits struct {
	Connections      int           // open at once: what the limit of open files leaves
	MaxFrame         int           // bytes of a frame's body after WELCOME: 65536; at most 16 MiB − 257
	Subscriptions    int           // of a session: 1024
	SessionsPerUser  int           // 128
	SendsPerSecond   int           // of a session, bursts of two seconds' worth: 0, no limit; at most 32767
	OutBytes         int           // kept for a reader that does not read: 1 MiB
	OutTotal         int           // the same, all readers together: 512 MiB
	SlowReader       time.Duration // a reader with half of OutBytes waiting for so long is ended: 30 s
	TopicBytes       int           // admitted to a topic and not yet being written, a loop: 1 MiB
	States           int           // kept STATE values of a loop: 65536
	StatesPerChannel int           // 4096
	LoginTimeout     time.Duration // from connect to HELLO: 5 s
	FrameTimeout     time.Duration // from a frame's first byte to its last: 10 s
	HeartbeatMin     time.Duration // 15 s
	HeartbeatMax     time.Duration // 590 s
	Inbox            int           // items of a loop's inbox: 16384
	HandlerQueue     int           // events waiting for a handler lane: 4096
	InboxFanoutMax   int           // members up to which a group's messages go into inboxes; larger ones are read from their log: 500
}

// Descriptors that are not for connections.
const (
	reservedFiles = 1024 // admin clients, connections that are being refused, the tables of the store (at most 512)
	loopFiles     = 8    // of each loop: listener, poller, its wake-up, the socket pair
)

// Validate fills in the defaults and says which field is wrong, and why.
func (o *Options) Validate() error {
	o.defaults()
	if _, err := splitAddr(o.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if !codec.ValidID([]byte(o.Node)) {
		return fmt.Errorf("node: %q is not an identifier of 1 to 64 bytes without control characters", o.Node)
	}
	if o.Loops < 1 || o.Loops > 1024 {
		return fmt.Errorf("loops: %d is not between 1 and 1024", o.Loops)
	}
	if o.Drain < 0 || o.Drain > time.Hour {
		return fmt.Errorf("drain: %v is not between 0 and 1h", o.Drain)
	}
	for _, f := range []struct {
		name      string
		v, lo, hi int
	}{
		{"auth_workers", o.AuthWorkers, 1, 1024},
		{"limits.auth_queue", o.AuthQueue, 1, 1 << 20},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("%s: %d is not between %d and %d", f.name, f.v, f.lo, f.hi)
		}
	}
	if o.AuthTimeout < time.Millisecond || o.AuthTimeout > time.Minute {
		return fmt.Errorf("auth_timeout: %v is not between 1ms and 1m", o.AuthTimeout)
	}
	if o.openToOthers() && !o.Insecure {
		return fmt.Errorf("auth: %q can be reached from other machines, and without credentials anyone could log in as "+
			"anyone; use --auth jwt, listen on 127.0.0.1, or say --insecure", o.Listen)
	}
	if o.Admin != "off" {
		if _, err := splitAddr(o.Admin); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		if !isLoopback(o.Admin) && len(o.AdminToken) < 16 {
			return fmt.Errorf("admin: %q can be reached from other machines: set an admin token of at least 16 bytes", o.Admin)
		}
	}
	if err := o.validateStore(); err != nil {
		return err
	}
	if err := o.Retention.validate(); err != nil {
		return err
	}
	if err := o.Limits.validate(); err != nil {
		return err
	}
	return o.Limits.fitFiles(o.Loops)
}

// openToOthers says that anyone on another machine could log in as anyone.
func (o *Options) openToOthers() bool { return o.Auth == nil && !isLoopback(o.Listen) }

func (o *Options) defaults() {
	or(&o.Listen, "127.0.0.1:7000")
	or(&o.Admin, "127.0.0.1:7001")
	or(&o.Data, "data")
	or(&o.Store, "pebble")
	or(&o.StoreCache, 64<<20)
	or(&o.StoreMemtable, 64<<20)
	or(&o.Node, "gannet")
	or(&o.Loops, runtime.GOMAXPROCS(0))
	or(&o.Drain, 10*time.Second)
	or(&o.AuthWorkers, 2*runtime.GOMAXPROCS(0))
	or(&o.AuthQueue, 8192)
	or(&o.AuthTimeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Retention.defaults()
	l := &o.Limits
	or(&l.MaxFrame, codec.DefaultLimit)
	or(&l.OutTotal, 512<<20)
	or(&l.HandlerQueue, 4096)
	or(&l.InboxFanoutMax, 500)
	or(&l.HeartbeatMin, 15*time.Second)
	or(&l.HeartbeatMax, 590*time.Second)
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (l *Limits) validate() error {
	for _, f := range []struct {
		name      string
		v, lo, hi int
	}{
		{"limits.connections", l.Connections, 0, 1 << 26},
		{"limits.max_frame", l.MaxFrame, codec.LoginLimit, codec.MaxBody - 256}, // a MSG is a little longer than its SEND
		{"limits.subscriptions", l.Subscriptions, 0, 65535},
		{"limits.sessions_per_user", l.SessionsPerUser, 0, 1024},
		{"limits.sends_per_second", l.SendsPerSecond, 0, 32767},
		{"limits.out_bytes", l.OutBytes, 0, 1 << 30},
		{"limits.out_total", l.OutTotal, 1 << 20, 1 << 40},
		{"limits.topic_bytes", l.TopicBytes, 0, 1 << 30},
		{"limits.inbox", l.Inbox, 0, 1 << 24},
		{"limits.handler_queue", l.HandlerQueue, 1, 1 << 20},
		{"limits.inbox_fanout_max", l.InboxFanoutMax, 1, 10_000},
		{"limits.states", l.States, 0, 1 << 24},
		{"limits.states_per_channel", l.StatesPerChannel, 0, 1 << 24},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("%s: %d is not between %d and %d", f.name, f.v, f.lo, f.hi)
		}
	}
	for _, f := range []struct {
		name string
		v    time.Duration // 0: the default
	}{
		{"limits.login_timeout", l.LoginTimeout},
		{"limits.frame_timeout", l.FrameTimeout},
		{"limits.slow_reader", l.SlowReader},
	} {
		if f.v < 0 || f.v > time.Hour {
			return fmt.Errorf("%s: %v is not between 0 and 1h", f.name, f.v)
		}
	}
	if l.HeartbeatMin < time.Second || l.HeartbeatMax > 18*time.Hour || l.HeartbeatMin > l.HeartbeatMax {
		return fmt.Errorf("limits.heartbeat_min, limits.heartbeat_max: %v to %v is not a range within 1s to 18h", l.HeartbeatMin, l.HeartbeatMax)
	}
	return nil
}

// fitFiles raises the limit of open files and keeps the number of connections well under it: gnet ends all
// connections when an accept fails for want of a descriptor.
func (l *Limits) fitFiles(loops int) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limits.connections: reading the limit of open files: %w", err)
	}
	if r.Cur < r.Max {
		r.Cur = r.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &r) // the lower limit holds if not
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
	}
	reserved := reservedFiles + loops*loopFiles
	room := int(min(r.Cur, 1<<30)) - reserved
	if room < 1 {
		return fmt.Errorf("limits.connections: the limit of open files is %d; raise it (ulimit -n) to more than %d", r.Cur, reserved)
	}
	if l.Connections == 0 {
		l.Connections = room
	}
	if l.Connections > room {
		return fmt.Errorf("limits.connections: %d does not fit into the limit of %d open files (%d are kept for other uses); raise it with ulimit -n",
			l.Connections, r.Cur, reserved)
	}
	return nil
}

var errAddr = errors.New("want host:port with a numeric port, as in 127.0.0.1:7000")

func splitAddr(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %w", addr, errAddr)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %w", addr, errAddr)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "0.0.0.0"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: the host must be an IP address or localhost", addr)
	}
	return netip.AddrPortFrom(ip, uint16(p)), nil
}

func isLoopback(addr string) bool {
	a, err := splitAddr(addr)
	return err == nil && a.Addr().IsLoopback()
}
