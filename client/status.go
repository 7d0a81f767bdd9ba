package client

import (
	"fmt"
	"time"

	"gannet/codec"
)

// SendState is how far a durable message has got.
type SendState uint8

// States of a durable message, as an app shows them.
const (
	Sending   SendState = iota // in the outbox; not told
	Sent                       // the server has stored it
	Delivered                  // a device of User has it
	Read                       // User has read it
	Failed                     // refused for good, see Err; the outbox has dropped it
)

var sendStateNames = [...]string{Sending: "sending", Sent: "sent", Delivered: "delivered", Read: "read", Failed: "failed"}

func (s SendState) String() string {
	if int(s) < len(sendStateNames) {
		return sendStateNames[s]
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Status is news about durable messages.
//
// Sent and Failed speak of one message of this client, that with ID. Delivered and Read are cumulative: they speak of all messages
// of Channel up to Seq, whichever device of this user sent them, and come for direct channels and small groups when
// Message.Receipt was set. Read with this client's own user as User comes from another device of the user: what the
// channel has up to Seq is no longer unread.
type Status struct {
	State   SendState
	ID      uint64 // what Post returned; 0: cumulative
	Channel Channel
	Seq     uint64    // 0 with Sent: stored long ago, its number is no longer known
	Time    time.Time // the message's with Sent, of the event with Delivered and Read
	User    string    // Delivered, Read: who
	Err     error     // Failed: a *CodeError
}

// ResumeState is what became of a position that this client gave.
type ResumeState uint8

// Resume states.
const (
	Live    ResumeState = codec.StateLive    // none was given: from now, or what the server knows of the device
	Resumed ResumeState = codec.StateResumed // nothing is missing
	Gapped  ResumeState = codec.StateGap     // older than what is kept: OnGap says what is missing
	Reset   ResumeState = codec.StateReset   // void: what the server stores is another log, or was set back
	Refused ResumeState = codec.StateRefused // no right
)

var resumeNames = [...]string{Live: "live", Resumed: "resumed", Gapped: "gap", Reset: "reset", Refused: "refused"}

func (s ResumeState) String() string {
	if int(s) < len(resumeNames) {
		return resumeNames[s]
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Resume says what became of the position in one channel, at a login or a Subscribe.
type Resume struct {
	Channel Channel // Kind codec.KindInbox: the user's inbox
	State   ResumeState
	Head    uint64 // seq of the newest message; of the inbox its newest position
}

func readReceipt(r codec.Receipt, self string) Status {
	s := Status{
		State: Delivered, Channel: channelOf(r.Kind, r.Name, self), Seq: r.Seq,
		User: string(r.User), Time: time.UnixMilli(int64(r.Time)),
	}
	if r.Mode == codec.AckRead {
		s.State = Read
	}
	return s
}
