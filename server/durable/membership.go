package durable

import (
	"encoding/json"
	"fmt"
	"slices"

	"gannet/codec"
	"gannet/store"
)

// Every change of a group is one or more entries of its log: durable messages with codec.TagEvent and a payload in JSON, eventPayload.

// eventKind is the value of codec.TagEvent.
type eventKind uint8

const (
	eventCreated eventKind = 1 // users are the first members
	eventDeleted eventKind = 2
	eventAdded   eventKind = 3
	eventRemoved eventKind = 4
	eventRole    eventKind = 5 // users got a role
	eventPolicy  eventKind = 6
	eventGrown   eventKind = 7 // the last one in inboxes: what follows is read from the group's log
)

var eventNames = [...]string{
	eventCreated: "created", eventDeleted: "deleted", eventAdded: "added", eventRemoved: "removed", eventRole: "role",
	eventPolicy: "policy", eventGrown: "grown",
}

// eventPayload is what an entry says, in the words of docs/PROTOCOL.md.
type eventPayload struct {
	Event string   `json:"event"`
	Users []string `json:"users,omitempty"`
	Role  string   `json:"role,omitempty"`  // of the users: created, added, role
	Owner string   `json:"owner,omitempty"` // created; it is among the users
	Post  string   `json:"post,omitempty"`  // created, policy
	Open  *bool    `json:"open,omitempty"`  // created, policy
	By    string   `json:"by"`
}

// Bounds of one entry: it fits the smallest max_frame, codec.LoginLimit, with room for all but the list of users, whose names
// may be six times as long in JSON.
const (
	eventUsers = 500
	eventBytes = codec.LoginLimit - 1100
)

// groupEvent is one entry.
type groupEvent struct {
	what  eventKind
	users []string
	role  Role
	owner string
}

// groupPlan is a change that is worked out but for its seqs. The committer's goroutine owns it while it is carried out.
type groupPlan struct {
	l      *Log
	by     string
	name   string
	now    uint64 // Unix milliseconds
	before *group // nil: it is made
	after  *group // nil: it is deleted
	events []groupEvent
	fresh  []string // users who join, in order
	roles  []string // members whose role changes
	gone   []string // members who leave
	grows  bool     // from inboxes to its own log
	last   uint64   // seq of the last entry, once stored
}

// tell adds an entry, or as many as it takes to name all users.
func (p *groupPlan) tell(e groupEvent) {
	users := e.users
	if len(users) == 0 && e.what != eventDeleted && e.what != eventPolicy {
		return
	}
	for {
		n, bytes := 0, 0
		for n < min(len(users), eventUsers) {
			if bytes += jsonLen(users[n]); bytes > eventBytes {
				break
			}
			n++
		}
		e.users, users = users[:n], users[n:]
		if p.events = append(p.events, e); len(users) == 0 {
			return
		}
		if e.what == eventCreated { // it was made once
			e.what, e.owner = eventAdded, ""
		}
	}
}

// jsonLen is the length of a user in a list.
func jsonLen(user string) int {
	b, _ := json.Marshal(user) // a string never fails
	return len(b) + 1
}

// viaLog says that an entry is read from the group's own log.
func (p *groupPlan) viaLog(e *groupEvent) bool {
	if e.what == eventGrown {
		return false
	}
	if p.after == nil {
		return p.before.Large
	}
	return p.after.Large
}

// frame encodes an entry with seq 0.
func (p *groupPlan) frame(e *groupEvent) []byte {
	says := eventPayload{Event: eventNames[e.what], Users: e.users, Owner: e.owner, By: p.by}
	if e.role != 0 {
		says.Role = e.role.String()
	}
	if e.what == eventCreated || e.what == eventPolicy {
		says.Post, says.Open = p.after.Post.String(), &p.after.Open
	}
	payload, _ := json.Marshal(says) // strings and bools never fail
	flags := uint8(codec.MsgDurable)
	if p.viaLog(e) {
		flags |= codec.MsgLog
	}
	return codec.AppendMsg(nil, codec.Msg{
		Ext: codec.TLVs(nil).Append(codec.TagEvent, []byte{byte(e.what)}), Flags: flags, Kind: codec.KindGroup, Name: []byte(p.name),
		Time: p.now, Sender: []byte(p.by), Content: codec.ContentJSON, Payload: payload,
	})
}

// batch is the entries as messages. References go to those who may read them when all is done: to who leaves an entry is only sent.
func (p *groupPlan) batch() []store.Message {
	readers := p.after
	if p.grows {
		readers = p.before // of the one entry before its own log takes over
	}
	inboxes := readers.inboxes()
	batch := make([]store.Message, len(p.events))
	for i := range p.events {
		e := &p.events[i]
		m := store.Message{Kind: codec.KindGroup, Name: []byte(p.name), User: []byte(p.by), Time: p.now, Frame: p.frame(e)}
		if !p.viaLog(e) {
			m.Inbox = inboxes
		}
		batch[i] = m
	}
	return batch
}

// inboxes is every member whose inbox gets the group's messages; a nil group has none.
func (g *group) inboxes() [][]byte {
	if g == nil || g.Large {
		return nil
	}
	all := make([][]byte, len(g.members))
	for i := range g.members {
		all[i] = []byte(g.members[i].User)
	}
	return all
}

// carryOut writes the change and tells it, on the committer's goroutine.
func (p *groupPlan) carryOut(c *committer) error {
	gs := p.l.groups
	now, err := gs.get(p.name)
	if err != nil {
		return err
	}
	if changedAt(now) != changedAt(p.before) { // the store was reopened, and a change that had failed is there
		return errMoved
	}
	batch := p.batch()
	results := make([]store.Result, len(batch))
	gs.hold(p.name, now)
	if err := p.append(c, batch, results); err != nil {
		gs.release(p.name, now)
		return err
	}
	p.number(results)
	err = p.l.put(p.records(), true)
	if err != nil {
		gs.release(p.name, nil)
		c.doubt = &doubt{p, batch, results}
	} else {
		gs.release(p.name, p.after)
		p.joined()
	}
	p.deliver(c.courier, batch, results, err == nil)
	return err
}

func (p *groupPlan) joined() {
	p.l.marks.joined(p.fresh, store.Channel{Kind: codec.KindGroup, Name: p.name}, p.last)
}

// doubt is a change whose records could not be written: they may be in the store that is opened next.
type doubt struct {
	p       *groupPlan
	batch   []store.Message
	results []store.Result
}

// resolve tells a change in doubt to those who were not told of it, if it has come about.
func (c *committer) resolve() error {
	d := c.doubt
	if d == nil {
		return nil
	}
	g, err := c.log.groups.get(d.p.name)
	if err != nil {
		return err
	}
	c.doubt = nil
	if (g == nil) != (d.p.after == nil) || g != nil && g.Changed != d.p.last {
		return nil // it has not
	}
	d.p.joined()
	d.p.deliverLate(c.courier, d.batch, d.results)
	c.courier.Send(c.log.stop)
	return nil
}

func changedAt(g *group) uint64 {
	if g == nil {
		return 0
	}
	return g.Changed
}

func (p *groupPlan) append(c *committer, batch []store.Message, results []store.Result) error {
	if err := c.commit(batch, results); err != nil {
		return err
	}
	for _, r := range results {
		if r.Code != codec.CodeOK { // they are of one channel, so none was stored
			return fmt.Errorf("the store answered %v, try again", r.Code)
		}
	}
	return nil
}

// number fills in what only the store knew. Who joins reads all entries of the change but the one in the old members' inboxes.
func (p *groupPlan) number(results []store.Result) {
	joined := results[0].Seq
	p.last = results[len(results)-1].Seq
	g := p.after
	if g == nil {
		return
	}
	g.Changed = p.last
	if p.before == nil {
		g.Since = joined
		if g.Large {
			g.LargeFrom = joined - 1
		}
	}
	if p.grows {
		g.LargeFrom = joined
		joined = results[1].Seq
	}
	if len(p.fresh) == 0 {
		return
	}
	for i := range g.members {
		if g.members[i].Joined == 0 {
			g.members[i].Joined = joined
		}
	}
}

// records are what makes the change so. Joining moves the user's read position to it.
func (p *groupPlan) records() []store.Record {
	owner, g := groupOwner(p.name), p.after
	if g == nil {
		g = p.before.copy()
		g.Changed = p.last
	}
	all := make([]store.Record, 0, 1+3*(len(p.fresh)+len(p.gone))+len(p.roles))
	all = append(all, store.Record{Owner: owner, Key: metaKey, Value: g.meta(p.after == nil)})
	conv := convKey(codec.KindGroup, p.name)
	read := convRecord{Delivered: p.last, Read: p.last}.append(nil)
	for _, u := range p.fresh {
		m, _ := g.member(u)
		all = append(all, store.Record{Owner: owner, Key: memberPrefix + u, Value: m.append(nil)},
			store.Record{Owner: userGroupsOwner(u), Key: p.name, Value: []byte{}},
			store.Record{Owner: convOwner(u), Key: conv, Value: read})
	}
	for _, u := range p.roles {
		m, _ := g.member(u)
		all = append(all, store.Record{Owner: owner, Key: memberPrefix + u, Value: m.append(nil)})
	}
	for _, u := range p.gone {
		all = append(all, store.Record{Owner: owner, Key: memberPrefix + u}, store.Record{Owner: userGroupsOwner(u), Key: p.name},
			store.Record{Owner: convOwner(u), Key: conv})
	}
	return all
}

// deliver tells the entries to who is here. They are in the log even when the change did not come about (done false): then those hear
// of it who read the log now.
func (p *groupPlan) deliver(to carrier, batch []store.Message, results []store.Result, done bool) {
	name, joined, born := []byte(p.name), !done, p.l.clock()
	for i := range batch {
		m, e := &batch[i], &p.events[i]
		if p.viaLog(e) {
			if !joined {
				p.join(to, results[i].Seq-1)
				joined = true
			}
			to.Room(codec.KindGroup, name, results[i].Seq, m.Frame, born)
			continue
		}
		for _, u := range m.Inbox {
			if done || p.before.has(u) {
				to.Inbox(u, results[i].Pos, m.Frame, born, 0)
			}
		}
		for _, u := range p.gone {
			to.User([]byte(u), m.Frame, born, 0)
		}
	}
	if done {
		p.leave(to)
	}
}

// deliverLate tells what deliver has left out when the change was not done.
func (p *groupPlan) deliverLate(to carrier, batch []store.Message, results []store.Result) {
	joined, born := false, p.l.clock()
	for i := range batch {
		if p.viaLog(&p.events[i]) {
			if !joined {
				p.join(to, results[i].Seq-1)
				joined = true
			}
			continue
		}
		for _, u := range batch[i].Inbox {
			if !p.before.has(u) {
				to.Inbox(u, results[i].Pos, batch[i].Frame, born, 0)
			}
		}
	}
	p.leave(to)
}

// leave puts those who were removed out of the room.
func (p *groupPlan) leave(to carrier) {
	if p.before != nil && p.before.Large {
		for _, u := range p.gone {
			to.Leave([]byte(u), p.name)
		}
	}
}

// join makes members of a room of those who read the log from after on.
func (p *groupPlan) join(to carrier, after uint64) {
	users := p.fresh
	if p.grows {
		users = p.after.users()
	}
	for _, u := range users {
		to.Join([]byte(u), p.name, after)
	}
}

// has is member for bytes; a nil group has none.
func (g *group) has(user []byte) bool {
	if g == nil {
		return false
	}
	_, ok := g.member(string(user))
	return ok
}

// joined moves users to the place where they joined a group, as their records say, where a conversation is known from an earlier
// time in it and would be written over them.
func (m *marks) joined(users []string, ch store.Channel, seq uint64) {
	for some := range slices.Chunk(users, flushBatch) {
		m.mu.Lock()
		for _, user := range some {
			if c := m.convs[convID{user, ch}]; c != nil {
				c.rec.Delivered, c.sent = max(c.rec.Delivered, seq), max(c.sent, seq)
				c.head, c.told, c.dirty = max(c.head, seq), max(c.told, seq), true
			}
		}
		m.mu.Unlock()
	}
}
