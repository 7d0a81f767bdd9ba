package shard

import "gannet/codec"

// Log keeps durable messages and answers from what is kept. Shards hand requests over and get the answers back through
// their mailboxes: Commits from a Courier, Reads from Node.Served. None of the methods blocks. Each says how many of
// what it was given it took, from the first on; the rest is refused BUSY or offered again later. The slices stay the caller's,
// what they hold is the log's.
type Log interface {
	// Submit hands over messages in the order in which they came. Each taken one is answered in a Commit.
	Submit(entries []Entry) (taken int)
	// Read has requests served off the loops. Each taken one comes back through Node.Served, once.
	Read(requests []*Read) (taken int)
	// Mark hands over how far devices are. Nothing comes back.
	Mark(marks []Mark) (taken int)
	// Epoch is the store's; never 0.
	Epoch() uint64
}

// Entry is a message on its way to the log: a durable one, or an ephemeral one to a group, whose members only the log knows.
type Entry struct {
	Ref   SessionRef // the sender's session; 0: none
	Nonce uint64     // at least 1 for a durable message of a session
	Born  int64      // when it was received, Node clock
	Buf   []byte     // the MSG frame with seq 0, behind it the sender's device
	Size  uint32     // bytes of the frame
	Head  uint32     // where in the frame the channel's name begins
	Req   uint32     // of the SEND
	Kind  codec.Kind
	Flags uint8        // of the MSG
	Done  func(Answer) // called off the loops when Ref is 0; may be nil
}

// Frame is the MSG.
func (e *Entry) Frame() []byte { return e.Buf[:e.Size:e.Size] }

// Name is the channel's name as in the MSG: the pair for a direct one.
func (e *Entry) Name() []byte { return piece8(e.Buf, e.Head-1) }

// Sender is the sending user.
func (e *Entry) Sender() []byte { return piece8(e.Buf, e.Head+uint32(len(e.Name()))+16) }

// Device is the sender's device; empty when there is no session.
func (e *Entry) Device() []byte { return e.Buf[e.Size:] }

// FlagsAt and SeqAt say where in the frame flags and seq stand.
func (e *Entry) FlagsAt() int { return int(e.Head) - 3 }
func (e *Entry) SeqAt() int   { return int(e.Head) + len(e.Name()) }

// piece8 is the str8 whose length stands at b[at].
func piece8(b []byte, at uint32) []byte {
	from := at + 1
	to := from + uint32(b[at])
	return b[from:to:to]
}

// NewEntry encodes a message that does not come from a session. It fails when MSG would not fit a frame.
func NewEntry(m codec.Msg, born int64) Entry {
	m.Seq = 0
	n := codec.MsgLen(m)
	return Entry{
		Born: born, Buf: codec.AppendMsg(make([]byte, 0, n), m), Size: uint32(n), Head: nameAt(m),
		Kind: m.Kind, Flags: m.Flags,
	}
}

// nameAt is where in a MSG the channel's name begins.
func nameAt(m codec.Msg) uint32 {
	at := codec.HeaderLen + 3 // flags, kind, length of the name
	if len(m.Ext) > 0 {
		at += 2 + len(m.Ext)
	}
	return uint32(at)
}

// Answer is what became of an Entry.
type Answer struct {
	Ref   SessionRef
	Nonce uint64
	Seq   uint64
	Pos   uint64 // place in the sender's inbox; 0: the message has none there
	Time  uint64 // Unix milliseconds
	Req   uint32
	Code  codec.Code
}

// Mark says how far a device is: Mode is codec.AckDelivered or codec.AckRead. Kind codec.KindInbox is the user's inbox, Seq then
// a position of it.
type Mark struct {
	User    string
	Device  string
	Mode    uint8
	Kind    codec.Kind
	Name    string
	Seq     uint64
	Receipt string // the user who sent message Seq and wants to know; "": nobody
	Gone    bool   // the session ended
}

// ReadOp is what a Read asks for.
type ReadOp uint8

// Operations of Read. The comments say which fields are used: question → answer. Code is CodeOK, CodeUnavailable when the store
// could not be read, or what stands beside it.
const (
	// ReadResume is a login: User, Device, Epoch, After (HELLO's inbox position), Positions → State, Next (where the device's
	// inbox begins to be missing), Head, Nonce, States (one for each of Positions), Logs (of all, and of every large group of
	// the user), and Frames as ReadInbox gives them, with After replaced by Next; Covered.
	ReadResume ReadOp = iota
	// ReadInbox continues an inbox: User, After, MaxBytes → Frames (MSGs and GAPs in the order of their places), N, Covered, More.
	ReadInbox
	// ReadLog continues a channel's own log: User, Kind, Name, After (the last seq known), Tags, MaxBytes → Frames, N, Covered, More.
	// CodeForbidden: no member any more.
	ReadLog
	// ReadSub is a SUB: User, Kind, Name, Mode, Epoch, After (the position) → State, Head, Next (the last seq known, from which
	// ReadLog continues). CodeNotFound: no such group, or no member. Small says that a group has no log of its own readers.
	ReadSub
	// ReadPull is a PULL: User, Kind, Name, After (from), Limit, MaxBytes, Req → Frames: RANGE, MSGs, RECEIPTs.
	ReadPull
	// ReadList is a LIST: User, After, Limit, MaxBytes, Req → Frames: LISTED.
	ReadList
)

// Read is a request that needs the store, and its answer. Whoever holds it owns it.
type Read struct {
	Op  ReadOp
	Ref SessionRef
	Key uint32 // the asker's: which of its cursors

	User      string
	Device    string
	Kind      codec.Kind
	Name      string
	Mode      uint8 // of SUB
	Epoch     uint64
	After     uint64
	Limit     int
	MaxBytes  int // of Frames, about; the first message always fits
	Req       uint32
	Tags      []string // filter: only messages that carry one of them
	Positions []LogPosition

	Code    codec.Code
	State   uint8
	Head    uint64
	Next    uint64
	Nonce   uint64
	States  []codec.State
	Logs    []LogPosition
	Frames  []byte
	N       int    // messages in Frames
	Covered uint64 // Frames hold everything up to here: an inbox position or a seq
	More    bool   // there is more above Covered
	Small   bool

	cursor  *cursor // ReadLog, ReadSub: the shard's own
	expires uint64  // ReadResume: the shard's own, when the credential ends, Unix milliseconds; 0: never
}

// LogPosition is a position in a channel's log. In Read.Logs Seq is the last one that the device knows.
type LogPosition struct {
	Kind  codec.Kind
	Name  string
	Epoch uint64
	Seq   uint64
	Head  uint64 // of the log, in Read.Logs
}

// Delivery is a message for one session through its user's inbox.
type Delivery struct {
	Ref   SessionRef
	Place uint64 // in the inbox; 0: the frame is not part of it
	Frame []byte // nil: the session has it already, only its position moves
	User  []byte // whose session it must be
	Born  int64
}

// Membership is a change of who belongs to a large group.
type Membership struct {
	Ref   SessionRef
	User  []byte
	Group string
	Next  uint64 // joined: the last seq that the session knows
	Leave bool
}

// Commit is what one commit of the log has for a shard. It is taken in the order: memberships and messages as they
// were added, then answers.
type Commit struct {
	Steps   []step
	Answers []Answer
}

// step is one of: a message for a session (Ref), for the members of a room (Frame and Born count), a change of a group (member). They are in
// one list, because their order counts.
type step struct {
	Delivery
	room   *topic
	member *Membership
}
