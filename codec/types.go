package codec

import "strconv"

// Version is the protocol version this package speaks.
const Version = 1

// Magic opens the body of every HELLO.
const Magic = "GNT"

// Sizes and limits of the format, in bytes.
const (
	HeaderLen    = 4         // length u24, flags and type u8
	MaxBody      = 1<<24 - 1 // largest body that a u24 can announce
	LoginLimit   = 4 << 10   // largest body before WELCOME
	DefaultLimit = 64 << 10  // largest body after WELCOME, unless configured
	MaxID        = 64        // user, device, channel name, node
	MaxPair      = 2*MaxID + 1
)

// Type is the kind of a frame: the low five bits of its fourth byte.
type Type uint8

// Frame types. The layout of each body stands beside it; all integers are big-endian.
const (
	TypeHello   Type = 1  // c→s magic "GNT", version u8, features u32, heartbeat u16 s, class u8, device str8, user str8, token str16, inbox_epoch u64, inbox_pos u64, n u16, n×{kind u8, name str8, epoch u64, seq u64}
	TypeWelcome Type = 2  // s→c version u8, features u32, heartbeat u16 s, session u64, time u64, max_frame u32, window u16, node str8, user str8, inbox_state u8, inbox_epoch u64, inbox_head u64, n u16, n×{state u8, epoch u64, head u64}
	TypeAuth    Type = 3  // c→s token str16; s→c code u16, expires u64
	TypePing    Type = 4  // both: nothing or 8 bytes
	TypePong    Type = 5  // both: what the PING held
	TypeBye     Type = 6  // both: code u16, retry u8, min_ms u32, max_ms u32, reason str8
	TypeMigrate Type = 7  // s→c addr str8, ticket str16, min_ms u32, max_ms u32
	TypeSend    Type = 8  // c→s req u32, nonce u64, flags u8, kind u8, name str8, content u8, payload
	TypeSendAck Type = 9  // s→c req u32, code u16, seq u64, time u64
	TypeMsg     Type = 10 // s→c flags u8, kind u8, name str8, seq u64, time u64, sender str8, content u8, payload
	TypeAck     Type = 11 // c→s mode u8, inbox_pos u64, n u16, n×{kind u8, name str8, seq u64}
	TypeSub     Type = 12 // c→s req u32, mode u8, kind u8, name str8, epoch u64, seq u64
	TypeSubAck  Type = 13 // s→c req u32, code u16, state u8, epoch u64, head u64
	TypeUnsub   Type = 14 // c→s req u32, kind u8, name str8
	TypePull    Type = 15 // c→s req u32, kind u8, name str8, from u64, limit u16
	TypeRange   Type = 16 // s→c req u32, code u16, count u16, next u64, epoch u64
	TypeGap     Type = 17 // s→c kind u8, name str8, from u64, to u64, reason u8
	TypePos     Type = 18 // s→c inbox_pos u64
	TypeReceipt Type = 19 // s→c mode u8, kind u8, name str8, seq u64, user str8, time u64
	TypeState   Type = 20 // both: kind u8, name str8, key str8, user str8, ttl u16 s, payload
	TypeList    Type = 21 // c→s req u32, after u64, limit u16
	TypeListed  Type = 22 // s→c req u32, code u16, next u64, n u16, n×{kind u8, name str8, head u64, delivered u64, read u64, time u64}
	TypeErr     Type = 23 // s→c req u32, code u16, text str8
)

// Ranges that a peer of a later version may use. 24 and 25 begin with req u32 and are answered ERR
// INVALID; 26 and 27 are skipped; every other unknown type ends the connection.
const (
	FirstUnknownRequest Type = 24
	LastUnknownRequest  Type = 25
	FirstSkippable      Type = 26
	LastSkippable       Type = 27
)

var typeNames = [...]string{
	TypeHello: "HELLO", TypeWelcome: "WELCOME", TypeAuth: "AUTH", TypePing: "PING", TypePong: "PONG",
	TypeBye: "BYE", TypeMigrate: "MIGRATE", TypeSend: "SEND", TypeSendAck: "SENDACK", TypeMsg: "MSG",
	TypeAck: "ACK", TypeSub: "SUB", TypeSubAck: "SUBACK", TypeUnsub: "UNSUB", TypePull: "PULL",
	TypeRange: "RANGE", TypeGap: "GAP", TypePos: "POS", TypeReceipt: "RECEIPT", TypeState: "STATE",
	TypeList: "LIST", TypeListed: "LISTED", TypeErr: "ERR",
}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "TYPE-" + strconv.Itoa(int(t))
}

// Frame flags: the high three bits of the fourth byte.
const (
	FlagExt        = 0x20 // the body begins with ext_len u16 and that many bytes of TLVs
	FlagCompressed = 0x40 // reserved in version 1: malformed
	FlagSealed     = 0x80 // reserved in version 1: malformed
)

// Flags of SEND and MSG.
const (
	MsgDurable = 0x01 // stored before it is acknowledged, redelivered until acknowledged
	MsgReceipt = 0x02 // the sender wants RECEIPT frames
	MsgUrgent  = 0x04 // ahead of other traffic of the connection, never within its own channel
	MsgLog     = 0x08 // MSG only: read from the channel's own log, acknowledged by channel and seq

	sendFlags = MsgDurable | MsgReceipt | MsgUrgent
	msgFlags  = sendFlags | MsgLog
)

// Kind is the kind of a channel.
type Kind uint8

// Channel kinds.
const (
	KindInbox  Kind = 0 // only in GAP, with an empty name: positions of the user's inbox
	KindDirect Kind = 1 // two users; the name is the pair, or the peer in SEND and a client's STATE
	KindGroup  Kind = 2 // managed membership
	KindTopic  Kind = 3 // open to whoever may subscribe
	KindAll    Kind = 4 // every session; its one channel is named AllName
)

// AllName is the name of the one channel of KindAll.
const AllName = "all"

var kindNames = [...]string{"inbox", "direct", "group", "topic", "all"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Valid says whether k names a kind of channel that messages can be sent to.
func (k Kind) Valid() bool { return k >= KindDirect && k <= KindAll }

// Content types of a payload; 128–255 are the application's own.
const (
	ContentBytes    = 0
	ContentText     = 1 // UTF-8
	ContentJSON     = 2
	ContentProtobuf = 3
)

// Device classes in HELLO.
const (
	ClassOther   = 0
	ClassMobile  = 1
	ClassDesktop = 2
	ClassWeb     = 3
	ClassIoT     = 4
	ClassService = 5
)

// Resume states in WELCOME and SUBACK.
const (
	StateLive    = 0 // no position given
	StateResumed = 1 // nothing missing
	StateGap     = 2 // older than what is kept; GAP says which
	StateReset   = 3 // the given position is void
	StateRefused = 4 // no right
)

// Modes of SUB and of ACK and RECEIPT.
const (
	SubFromNow      = 0
	SubFromPosition = 1

	AckDelivered = 1
	AckRead      = 2
)

// Reasons of GAP.
const (
	GapExpired  = 1
	GapNoRight  = 2
	GapFiltered = 3 // nothing is lost, the position moves
	GapNotSent  = 4 // PULL it
)
