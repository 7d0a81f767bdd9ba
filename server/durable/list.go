package durable

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

const (
	listMax          = 200  // conversations in one LISTED
	maxConversations = 4096 // of a user that are looked at
	listScan         = 512  // records read at once
	listHead         = 4 + codec.HeaderLen + 2 + 8 + 2
	listEntry        = 1 + 1 + 4*8 // and the name
)

// conversation is an entry of LISTED on its way. order is what LIST goes on behind: the time of the head in the upper 44 bits, 20
// bits of a hash of the channel below them, so that conversations of the same millisecond have an order as well. Conversations that
// share even that are not parted by the end of an answer.
type conversation struct {
	codec.Conversation
	ch    store.Channel
	order uint64
}

const orderBits = 20

// list answers a LIST with the user's direct channels and groups, and all if it was read, the one with the latest message first.
// A conversation that gets a message between two LISTs moves to the front: the second does not show it again.
func (w *reader) list(q *shard.Read) error {
	if q.Limit <= 0 {
		refuse(q, codec.CodeInvalid)
		return nil
	}
	all, err := w.conversations(q.User)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b conversation) int {
		return cmp.Or(cmp.Compare(b.order, a.order), cmp.Compare(a.ch.Kind, b.ch.Kind), cmp.Compare(a.ch.Name, b.ch.Name))
	})
	if q.After != 0 {
		all = all[len(all)-below(all, q.After):]
	}
	answer := codec.Listed{Req: q.Req}
	size, limit := listHead, min(q.Limit, listMax)
	for i := range all {
		c := &all[i]
		size += listEntry + len(c.ch.Name)
		n := answer.Conversations.Len()
		if n > 0 && (n >= limit || size > q.MaxBytes) && c.order != all[i-1].order {
			answer.Next = all[i-1].order
			break
		}
		c.Name = []byte(c.ch.Name)
		answer.Conversations.Append(c.Conversation)
	}
	q.Frames, q.N, q.Next, q.More = codec.AppendListed(nil, answer), answer.Conversations.Len(), answer.Next, answer.Next != 0
	return nil
}

// below is how many conversations of a sorted list come behind a place in the order.
func below(all []conversation, order uint64) int {
	i, _ := slices.BinarySearchFunc(all, order, func(c conversation, o uint64) int {
		if c.order < o {
			return 1
		}
		return -1
	})
	return len(all) - i
}

// conversations finds a user's conversations, at most maxConversations.
func (w *reader) conversations(user string) ([]conversation, error) {
	groups, err := w.l.groups.of(user)
	if err != nil {
		return nil, err
	}
	var found []conversation
	for _, name := range groups {
		ch := store.Channel{Kind: codec.KindGroup, Name: name}
		rec, _, err := w.l.conv(user, ch.Kind, ch.Name)
		if err == nil {
			found, err = w.addConversation(found, user, ch, rec)
		}
		if err != nil {
			return nil, err
		}
	}
	after := ""
	for {
		records, err := w.store.Scan(convOwner(user), after, listScan)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			ch, ok := splitConvKey(r.Key)
			if after = r.Key; !ok || ch.Kind == codec.KindGroup || ch.Kind == codec.KindTopic {
				continue // groups were found by membership; a topic's head is for who may subscribe, now
			}
			if len(found) == maxConversations {
				w.r.counts.cut.Add(1)
				w.r.complain("a user has more conversations than LIST looks at", "user", user, "limit", maxConversations)
				return found, nil
			}
			rec, _, err := w.l.conv(user, ch.Kind, ch.Name)
			if err == nil {
				found, err = w.addConversation(found, user, ch, rec)
			}
			if err != nil {
				return nil, err
			}
		}
		if len(records) < listScan {
			return found, nil
		}
	}
}

// addConversation adds a channel that the user may see and that ever had a message.
func (w *reader) addConversation(found []conversation, user string, ch store.Channel, rec convRecord) ([]conversation, error) {
	v, err := w.view(user, ch)
	if err != nil || !v.ok {
		return found, err
	}
	head, err := w.store.Head(ch)
	if errors.Is(err, store.ErrCorrupt) {
		w.damaged(ch, err)
		return found, nil
	}
	if err != nil || head.Seq == 0 {
		return found, err
	}
	c := conversation{ch: ch}
	c.Kind, c.Head = ch.Kind, head.Seq
	c.Read = min(max(rec.Read, v.joined), head.Seq) // joining moves it, and a client may have said what is not yet
	c.Delivered = min(max(rec.Delivered, c.Read), head.Seq)
	if c.Time, err = w.timeOf(ch, head.Seq); err != nil {
		return found, err
	}
	c.order = min(c.Time, 1<<(64-orderBits)-1)<<orderBits | w.spread(ch)
	return append(found, c), nil
}

// timeOf is the time of a message; 0 when it is gone.
func (w *reader) timeOf(ch store.Channel, seq uint64) (uint64, error) {
	low, n, err := w.read(ch, seq, 1, 1)
	if errors.Is(err, store.ErrCorrupt) {
		w.damaged(ch, err)
		return 0, nil
	}
	if err != nil || n == 0 || low != seq {
		return 0, err
	}
	f, _, err := codec.ConsumeFrame(w.raw, codec.MaxBody)
	if err != nil {
		return 0, err
	}
	m, err := codec.ConsumeMsg(f)
	return m.Time, err
}

// spread is the lower part of a channel's order; never 0, which would ask for the beginning. The epoch in it keeps names from being chosen
// that meet.
func (w *reader) spread(ch store.Channel) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(w.store.Epoch())
	_, _ = d.Write(binary.BigEndian.AppendUint16(nil, uint16(ch.Kind)))
	_, _ = d.WriteString(ch.Name)
	return max(1, d.Sum64()&(1<<orderBits-1))
}
