package shard

import (
	"net"
	"time"

	"gannet/codec"
)

// Conn is what a shard needs of a connection; gnet.Conn has it. All methods are called on the loop.
// Write and Writev do not keep the slices they are given. A write that fails may call Shard.Closed before it returns.
type Conn interface {
	Write(p []byte) (int, error)
	Writev(bs [][]byte) (int, error)
	OutboundBuffered() int // bytes accepted by Write that the kernel has not taken
	InboundBuffered() int
	Peek(n int) ([]byte, error)
	Discard(n int) (int, error)
	RemoteAddr() net.Addr
}

// Clock gives a shard its time.
type Clock interface {
	Now() int64        // monotonic, nanoseconds, never negative
	UnixMilli() uint64 // wall clock
}

// Loop is the event loop around a shard.
type Loop interface {
	// Close closes c at once; it may call Shard.Closed before it returns.
	Close(c Conn)
	// CloseWrite ends the writing side: the peer reads what was written, then the end.
	CloseWrite(c Conn)
	// Wake has Drain called soon. Any goroutine may call it.
	Wake()
	// Continue has Slice called once, after the sockets that are ready now were served.
	Continue()
}

// Host is the rest of the server as a shard sees it. None of its methods blocks.
type Host interface {
	// Authenticate has a credential judged off the loop; the answer comes through Node.Answer with the same
	// Ref. False: too many are waiting.
	Authenticate(r AuthRequest) bool
	// Event tells about a session or a message. Called only for the kinds that Config.Events asks for.
	Event(e Event)
	// Refused tells that a connection was ended for what it did, for the log. reason is a constant text.
	Refused(c Conn, code codec.Code, reason string)
}

// Rights say what a session may do. Implementations do not change.
type Rights interface {
	MayPublish(topic []byte) bool
	MaySubscribe(topic []byte) bool
	MayBroadcast() bool
	Key() string // equal for equal rights
}

// AuthRequest is a credential to be judged.
type AuthRequest struct {
	Ref     SessionRef
	Refresh bool // AUTH on a live session, not HELLO
	User    string
	Device  string
	Class   uint8
	Token   []byte
	Remote  net.Addr
}

// AuthAnswer is the judgement. Code is CodeOK or a code that ends the connection.
type AuthAnswer struct {
	Code    codec.Code
	Reason  string
	User    string
	Rights  Rights
	Expires time.Time // zero: never
}

// EventKind is the kind of an Event and a bit of Config.Events.
type EventKind uint8

// Kinds of events.
const (
	EventOnline EventKind = 1 << iota
	EventOffline
	EventMessage
)

// Event is something an embedding program may want to know.
type Event struct {
	Kind    EventKind
	Session uint64
	User    string
	Device  string
	Class   uint8
	Code    codec.Code // of EventOffline; CodeOK when the client closed
	Frame   []byte     // of EventMessage: the MSG frame, shared, not to be changed
}

// Config holds the bounds of all shards of a node. Zero values mean the defaults given beside the fields.
type Config struct {
	Shards             int           // 1; at most 1024
	Node               string        // "gannet"
	InboxCapacity      int           // items of each shard's inbox: 16384
	MaxFrame           int           // bytes of body after WELCOME: 65536; cut so that a MSG always fits a frame
	Window             uint16        // unanswered SENDs, told in WELCOME: 1024
	HeartbeatMin       time.Duration // 15 s
	HeartbeatMax       time.Duration // 590 s
	LoginTimeout       time.Duration // from open to HELLO, and again to the verdict: 5 s
	FrameTimeout       time.Duration // from a frame's first byte to its last: 10 s
	LingerTimeout      time.Duration // from BYE to close: 2 s
	MaxSubscriptions   int           // of a session: 1024
	MaxSessionsPerUser int           // 128
	OutLimit           int           // bytes kept for a reader that does not read: 1 MiB
	OutBudget          int           // the same, summed over a shard: 256 MiB
	SlowTimeout        time.Duration // how long a reader may stay over half of OutLimit: 30 s
	RoomLimit          int           // bytes admitted to a topic and not yet being written, a shard: 1 MiB
	SendRate           int           // SENDs and STATEs a second of a session, burst of two seconds: 0, no limit; at most 32767
	MaxStates          int           // kept STATE values of a shard: 65536
	MaxChannelStates   int           // kept STATE values of a channel: 4096
	MaxStateBytes      int           // bytes of all kept STATE values of a shard: 64 MiB
	MaxSessionStates   int           // STATE values a session has set without ttl: 64
	AckTimeout         time.Duration // until messages of the inbox that are not acknowledged are sent again, doubled each time: 10 s
	AckRetries         int           // how often, before the session ends: 5
	MaxReads           int           // PULLs, LISTs and SUBs of a session that wait for the log: 16
	MaxMarks           int           // acknowledgements that wait for the log, a shard: 65536
	Slice              time.Duration // longest time a fan-out holds the loop: 250 µs; four times that when nobody else wants it
	Log                Log           // nil: no durable messages, no groups
	OpenRights         Rights        // not nil: logins are not judged, everyone has these
	Events             EventKind     // which events Host wants
}

// msgGrowth is how much longer than its SEND a MSG can be, in bytes: seq and time, less req and nonce, the sender,
// and the pair in place of the peer. (A STATE grows less.)
const msgGrowth = 5 + codec.MaxID + codec.MaxPair - codec.MaxID

func orInt(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

func orDuration(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}

func (c *Config) defaults() {
	orInt(&c.Shards, 1)
	if c.Node == "" {
		c.Node = "gannet"
	}
	orInt(&c.InboxCapacity, 16384)
	orInt(&c.MaxFrame, codec.DefaultLimit)
	c.MaxFrame = min(c.MaxFrame, codec.MaxBody-msgGrowth)
	if c.Window == 0 {
		c.Window = 1024
	}
	orDuration(&c.HeartbeatMin, 15*time.Second)
	orDuration(&c.HeartbeatMax, 590*time.Second)
	orDuration(&c.LoginTimeout, 5*time.Second)
	orDuration(&c.FrameTimeout, 10*time.Second)
	orDuration(&c.LingerTimeout, 2*time.Second)
	orInt(&c.MaxSubscriptions, 1024)
	orInt(&c.MaxSessionsPerUser, 128)
	orInt(&c.OutLimit, 1<<20)
	orInt(&c.OutBudget, 256<<20)
	orDuration(&c.SlowTimeout, 30*time.Second)
	orInt(&c.RoomLimit, 1<<20)
	orInt(&c.MaxStates, 65536)
	orInt(&c.MaxChannelStates, 4096)
	orInt(&c.MaxStateBytes, 64<<20)
	orInt(&c.MaxSessionStates, 64)
	orDuration(&c.AckTimeout, 10*time.Second)
	orInt(&c.AckRetries, 5)
	orInt(&c.MaxReads, 16)
	orInt(&c.MaxMarks, 65536)
	orDuration(&c.Slice, 250*time.Microsecond)
}
