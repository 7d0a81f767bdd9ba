package client

import (
	"context"
	"math"
	"time"

	"gannet/codec"
)

// PullMax is the most messages that one Pull returns.
const PullMax = 1000

// History is a piece of a channel's log.
type History struct {
	Messages []Message // in the order of Seq
	Gaps     []Gap     // what of the piece cannot be had
	Next     uint64    // where to go on; one above the newest message when there is no more
	Epoch    uint64
}

// Pull reads history: messages of a channel from a Seq on (0: from the oldest that is kept), at most limit and PullMax,
// fewer when they are large. Messages that are pulled are not acknowledged and do not go to OnMessage; receipts that are in force go
// to OnStatus. From math.MaxUint64 it returns no message and where the log ends.
func (c *Client) Pull(ctx context.Context, ch Channel, from uint64, limit int) (History, error) {
	const op = "pull"
	if err := ch.check(op); err != nil {
		return History{}, err
	}
	if limit < 1 {
		return History{}, invalid(op, "a limit of %d messages, at least 1 is needed", limit)
	}
	cn, err := c.connection()
	if err != nil {
		return History{}, err
	}
	cl := &call{op: op, slots: cn.reads, ch: ch, history: &History{}, limit: min(limit, PullMax)}
	if err := cn.begin(ctx, cl, func(req uint32) []byte { return cn.pullFrame(cl, req, from) }); err != nil {
		return History{}, err
	}
	if _, err := cn.wait(ctx, cl); err != nil {
		return History{}, err
	}
	return *cl.history, nil
}

func (cn *conn) pullFrame(cl *call, req uint32, from uint64) []byte {
	return codec.AppendPull(nil, codec.Pull{
		Req: req, Kind: cl.ch.Kind, Name: cl.ch.wireName(cn.welcome.User), From: from, Limit: uint16(cl.limit),
	})
}

// Last is Pull of the newest messages.
func (c *Client) Last(ctx context.Context, ch Channel, limit int) (History, error) {
	end, err := c.Pull(ctx, ch, math.MaxUint64, 1)
	if err != nil {
		return History{}, err
	}
	n := uint64(max(1, min(limit, PullMax)))
	return c.Pull(ctx, ch, max(end.Next, n+1)-n, int(n))
}

// Conversation is one channel of this user with the user's own positions.
type Conversation struct {
	Channel   Channel
	Head      uint64 // seq of the newest message
	Delivered uint64
	Read      uint64
	Unread    uint64    // Head − Read
	Time      time.Time // of the newest message; zero when that is gone
}

// Conversations is a piece of the list of them.
type Conversations struct {
	List []Conversation // that with the newest message first
	Next uint64         // where to go on; 0: this is the end
}

// List returns this user's conversations, those with the newest messages first. After is 0 at first, then what Next was. The
// server may return fewer than limit.
func (c *Client) List(ctx context.Context, after uint64, limit int) (Conversations, error) {
	const op = "list"
	if limit < 1 {
		return Conversations{}, invalid(op, "a limit of %d conversations, at least 1 is needed", limit)
	}
	cn, err := c.connection()
	if err != nil {
		return Conversations{}, err
	}
	cl := &call{op: op, slots: cn.reads, listed: &Conversations{}}
	err = cn.begin(ctx, cl, func(req uint32) []byte {
		return codec.AppendList(nil, codec.List{Req: req, After: after, Limit: uint16(min(limit, math.MaxUint16))})
	})
	if err != nil {
		return Conversations{}, err
	}
	if _, err := cn.wait(ctx, cl); err != nil {
		return Conversations{}, err
	}
	return *cl.listed, nil
}

func readConversations(l codec.Listed, self string) Conversations {
	out := Conversations{Next: l.Next}
	for e := range l.Conversations.All() {
		conv := Conversation{
			Channel: channelOf(e.Kind, e.Name, self), Head: e.Head, Delivered: e.Delivered, Read: e.Read,
			Unread: max(e.Head, e.Read) - e.Read,
		}
		if e.Time != 0 {
			conv.Time = time.UnixMilli(int64(e.Time))
		}
		out.List = append(out.List, conv)
	}
	return out
}
