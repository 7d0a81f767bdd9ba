package durable

import (
	"slices"

	"gannet/codec"
	"gannet/store"
)

// Bounds of channel states: about how many are kept, and how many members of groups they may hold on to.
const (
	maxChannels    = 100_000
	maxHeldMembers = 1_000_000
)

// channel is what the committer knows of a channel. All of it can be found out again.
type channel struct {
	// Static after construction.
	id   store.Channel
	key  string    // convKey
	pair [2]string // the users of a direct channel, in byte order

	ring *ring // of its recent messages; nil: none yet
	last uint64

	// Of a group. group is as of the committer's round; members are its members as inboxes want them.
	group   *group
	round   uint64
	members [][]byte
	of      *group // whose members these are

	asks [2]uint64 // by user of pair: the last message that asks for receipts; 0: none that is known

	planned   uint64 // of a direct channel: messages of round plannedIn
	plannedIn uint64

	// What the round in progress has: the seqs that move the senders' read positions.
	touched bool
	sent    [2]uint64 // of the users of pair; 0: nothing
	answers [2]uint64 // asks of the other user before them
	sender  string    // not direct: who sent the last message, with seq sent[0]
}

// side is the user's place in the pair of a direct channel; −1: not in it.
func (ch *channel) side(user []byte) int {
	switch string(user) {
	case ch.pair[0]:
		return 0
	case ch.pair[1]:
		return 1
	}
	return -1
}

// inboxes are the members of g as Append wants them; the slices never change.
func (ch *channel) inboxes(g *group) [][]byte {
	if ch.of != g {
		all := g.all()
		size := 0
		for i := range all {
			size += len(all[i].User)
		}
		ch.members, ch.of = make([][]byte, len(all)), g
		names := make([]byte, 0, size)
		for i := range all {
			from := len(names)
			names = append(names, all[i].User...)
			ch.members[i] = names[from:len(names):len(names)]
		}
	}
	return ch.members
}

// channels keeps states by kind and name, about max of them: when the young generation is half of that it becomes the old one,
// and what was old and not asked for is forgotten. The committer owns it.
type channels struct {
	half       int
	young, old map[string]*channel
	key        []byte
}

func (cs *channels) init(max int) {
	cs.half = max/2 + 1
	cs.drop()
}

// get returns the state of a channel, nil when it is not known.
func (cs *channels) get(kind codec.Kind, name []byte) *channel {
	cs.key = append(append(cs.key[:0], byte(kind)), name...)
	if ch := cs.young[string(cs.key)]; ch != nil {
		return ch
	}
	ch := cs.old[string(cs.key)]
	if ch != nil {
		delete(cs.old, string(cs.key))
		cs.young[ch.key] = ch
	}
	return ch
}

// age is called between rounds, when no state has anything of a round in it.
func (cs *channels) age() {
	if len(cs.young) > cs.half {
		cs.old, cs.young = cs.young, make(map[string]*channel)
	}
}

// drop forgets everything.
func (cs *channels) drop() { cs.young, cs.old = make(map[string]*channel), nil }

// channel finds the state of a channel or makes it, which reads the store. The first message of a direct channel must not be
// stored before both users have their record of the conversation, nor that of any channel before it is listed among those that have messages:
// what is lacking is left in c.convs, and append writes it.
func (c *committer) channel(kind codec.Kind, name []byte) (*channel, error) {
	if ch := c.channels.get(kind, name); ch != nil {
		return ch, nil
	}
	ch := &channel{id: store.Channel{Kind: kind, Name: string(name)}}
	ch.key = convKey(kind, ch.id.Name)
	head, err := c.log.current().Head(ch.id)
	if err != nil {
		return nil, err
	}
	ch.last = head.Seq
	if a, b, ok := codec.SplitPair(name); kind == codec.KindDirect && ok {
		ch.pair = [2]string{string(a), string(b)}
		if head.Seq == 0 {
			c.convs = append(c.convs, ch.firstRecords()...)
		}
	}
	if head.First > head.Seq {
		c.convs = append(c.convs, keptRecord{}.of(ch.id))
	}
	c.channels.young[ch.key] = ch
	return ch, nil
}

// firstRecords are those of a direct channel that never had a message.
func (ch *channel) firstRecords() []store.Record {
	key, empty := ch.key, convRecord{}.append(nil)
	records := []store.Record{{Owner: convOwner(ch.pair[0]), Key: key, Value: empty}, {Owner: convOwner(ch.pair[1]), Key: key, Value: empty}}
	if ch.pair[0] == ch.pair[1] {
		return slices.Delete(records, 1, 2)
	}
	return records
}
