package client

import (
	"encoding/binary"
	"fmt"
	"time"

	"gannet/codec"
)

// Channel is an address: where a message goes to, and where it came from as seen by this user, so that an
// answer to a received message goes to its Channel.
type Channel struct {
	Kind codec.Kind
	Name string // KindDirect: the peer
}

// User addresses all devices of one user.
func User(name string) Channel { return Channel{codec.KindDirect, name} }

// Topic addresses whoever has subscribed to name.
func Topic(name string) Channel { return Channel{codec.KindTopic, name} }

// Group addresses the members of a group.
func Group(name string) Channel { return Channel{codec.KindGroup, name} }

// All addresses every session of the server; it takes the right to broadcast.
func All() Channel { return Channel{codec.KindAll, codec.AllName} }

func (c Channel) String() string {
	if c.Kind == codec.KindAll || c.Kind == codec.KindInbox {
		return c.Kind.String()
	}
	return c.Kind.String() + ":" + c.Name
}

func (c Channel) check(op string) error {
	if !c.Kind.Valid() {
		return invalid(op, "%v is no kind of channel", c.Kind)
	}
	if !codec.ValidID([]byte(c.Name)) {
		return invalid(op, "%q is no name: 1 to 64 bytes of UTF-8 without control characters", c.Name)
	}
	return nil
}

func invalid(op, format string, args ...any) error {
	return &CodeError{Op: op, Code: codec.CodeInvalid, Text: fmt.Sprintf(format, args...)}
}

// channelOf reads the channel of a received frame: of a pair the user who is not self.
func channelOf(kind codec.Kind, name []byte, self string) Channel {
	if kind == codec.KindDirect {
		if a, b, ok := codec.SplitPair(name); ok {
			if string(a) == self {
				a = b
			}
			return Channel{kind, string(a)}
		}
	}
	return Channel{kind, string(name)}
}

// wireName is the name that frames other than SEND and STATE carry: of a direct channel the pair.
func (c Channel) wireName(self string) []byte {
	if c.Kind == codec.KindDirect {
		return codec.AppendPair(nil, []byte(self), []byte(c.Name))
	}
	return []byte(c.Name)
}

// Content says how to read a payload; 128–255 are the application's own.
type Content uint8

// Content types.
const (
	Bytes    Content = codec.ContentBytes
	UTF8     Content = codec.ContentText
	JSON     Content = codec.ContentJSON
	Protobuf Content = codec.ContentProtobuf
)

// Message is what is sent and received.
type Message struct {
	Channel Channel
	Content Content
	Payload []byte        // owned by the message: the client neither keeps nor changes it after the call
	Tags    []string      // routing tags, at most 8 of 1 to 64 bytes
	TTL     time.Duration // whole seconds; 0: none
	Urgent  bool          // ahead of other traffic of a connection, not of its own channel
	Durable bool          // stored before it is acknowledged; sent through the outbox
	Receipt bool          // durable: who gets it tells this user by OnStatus when it was delivered and read

	// Set by the server, ignored when sending.
	Sender string
	Seq    uint64 // place in the channel; 0: ephemeral
	Epoch  uint64 // of the log that Seq belongs to; 0: ephemeral
	Time   time.Time
	Event  GroupEvent // not 0: a change of the group, Change reads it
	Echo   bool       // sent by this very client; seen only with Options.KeepEcho
}

// Text is a text message.
func Text(to Channel, text string) Message {
	return Message{Channel: to, Content: UTF8, Payload: []byte(text)}
}

// Durable is a text message that is stored before it is acknowledged, and about which receipts are wanted.
func Durable(to Channel, text string) Message {
	m := Text(to, text)
	m.Durable, m.Receipt = true, true
	return m
}

// State is the latest value of (Channel, Key, User): typing, presence, a reading. An empty payload means that
// the value is gone.
type State struct {
	Channel Channel
	Key     string
	User    string
	TTL     time.Duration // 0: until the session that set it ends
	Payload []byte
}

// Gap says that messages From to To (both included) of a channel will not come. Those of GapNotSent are there and can be had
// with Pull.
type Gap struct {
	Channel  Channel // Kind codec.KindInbox: positions of the user's inbox; List and Pull say what is there
	From, To uint64
	Reason   uint8 // codec.GapExpired, …
}

// Welcome is what the server said at login.
type Welcome struct {
	User      string
	Node      string
	Session   uint64
	Heartbeat time.Duration // in force
	Time      time.Time     // the server's clock
	MaxFrame  int           // largest body of a frame, bytes
	Window    int           // how many SENDs may be unanswered
	Addr      string        // where the connection goes to
	Epoch     uint64        // of what the server stores; 0: it stores nothing
	Inbox     ResumeState   // what became of the position in the user's inbox
	InboxHead uint64        // the newest position there

	nonce uint64 // highest one stored for this device
}

// Retry says why there is no connection and when the next attempt is made.
type Retry struct {
	Err     error
	After   time.Duration
	Attempt int // 1 for the first since a connection that lasted
}

const (
	maxTags = 8
	maxTag  = 64 // bytes
)

func appendTags(ext codec.TLVs, op string, tags []string) (codec.TLVs, error) {
	if len(tags) > maxTags {
		return nil, invalid(op, "%d tags, at most %d are allowed", len(tags), maxTags)
	}
	for _, t := range tags {
		if len(t) == 0 || len(t) > maxTag {
			return nil, invalid(op, "tag %q has %d bytes, 1 to %d are allowed", t, len(t), maxTag)
		}
		ext = ext.Append(codec.TagRoute, []byte(t))
	}
	return ext, nil
}

// sendFrame checks m against what every server refuses and makes a SEND of it. Req is left to the caller.
func sendFrame(m Message, origin []byte) (codec.Send, error) {
	const op = "send"
	if err := m.Channel.check(op); err != nil {
		return codec.Send{}, err
	}
	if m.Receipt && !m.Durable {
		return codec.Send{}, invalid(op, "receipts are for durable messages only")
	}
	if m.TTL < 0 || m.TTL > maxTTL {
		return codec.Send{}, invalid(op, "ttl %v is not between 0 and %v", m.TTL, maxTTL)
	}
	ext, err := appendTags(codec.TLVs(nil).Append(codec.TagOrigin, origin), op, m.Tags)
	if err != nil {
		return codec.Send{}, err
	}
	if m.TTL > 0 {
		ext = ext.AppendUint32(codec.TagTTL, uint32((m.TTL+time.Second-1)/time.Second))
	}
	s := codec.Send{
		Ext: ext, Kind: m.Channel.Kind, Name: []byte(m.Channel.Name),
		Content: uint8(m.Content), Payload: m.Payload,
	}
	if m.Urgent {
		s.Flags |= codec.MsgUrgent
	}
	if m.Durable {
		s.Flags |= codec.MsgDurable
	}
	if m.Receipt {
		s.Flags |= codec.MsgReceipt
	}
	return s, nil
}

// maxTTL is well inside a u32 of seconds and of a time.Duration.
const maxTTL = 100 * 365 * 24 * time.Hour

// checkSize keeps a frame back that the server would take for malformed, at the price of the connection.
func checkSize(op string, overhead, payload, limit int) error {
	if overhead+payload > limit {
		return &CodeError{Op: op, Code: codec.CodeTooLarge,
			Text: fmt.Sprintf("a payload of %d bytes; the server takes at most %d here", payload, max(0, limit-overhead))}
	}
	return nil
}

// readSend is the message of a SEND, as it was given to Send.
func readSend(s codec.Send) Message {
	return readMessage(codec.Msg{Ext: s.Ext, Flags: s.Flags, Kind: s.Kind, Name: s.Name, Content: s.Content, Payload: s.Payload}, "", nil)
}

func readMessage(m codec.Msg, self string, origin []byte) Message {
	out := Message{
		Channel: channelOf(m.Kind, m.Name, self),
		Content: Content(m.Content),
		Payload: append([]byte(nil), m.Payload...),
		Urgent:  m.Flags&codec.MsgUrgent != 0,
		Durable: m.Flags&codec.MsgDurable != 0,
		Receipt: m.Flags&codec.MsgReceipt != 0,
		Sender:  string(m.Sender),
		Seq:     m.Seq,
	}
	if m.Time != 0 {
		out.Time = time.UnixMilli(int64(m.Time))
	}
	for tag, v := range m.Ext.All() {
		switch {
		case tag == codec.TagRoute:
			out.Tags = append(out.Tags, string(v))
		case tag == codec.TagTTL && len(v) == 4:
			out.TTL = time.Duration(binary.BigEndian.Uint32(v)) * time.Second
		case tag == codec.TagEvent && len(v) == 1 && m.Kind == codec.KindGroup:
			out.Event = GroupEvent(v[0])
		case tag == codec.TagOrigin:
			// The sender is compared too: others see the origin and could hide their messages behind it.
			out.Echo = string(v) == string(origin) && out.Sender == self
		}
	}
	return out
}
