package shard

import (
	"slices"
	"strings"

	"gannet/codec"
)

// subscription ties a session to a room: 16 bytes, no pointers. A session's subscriptions are a list; a
// group's are an array, in which each knows its place.
type subscription struct {
	session uint32
	where   uint32 // room in the high 24 bits, group in the low 8
	pos     uint32 // in the group's members
	next    uint32 // of the session, +1
}

// maxRooms is the number of topics that one shard can have members of.
const maxRooms = 1 << 24

func where(room, group uint32) uint32 { return room<<8 | group }

func (s *subscription) room() uint32  { return s.where >> 8 }
func (s *subscription) group() uint32 { return s.where & 0xff }

// room is what a shard knows of a topic that it has members of.
type room struct {
	topic   *topic
	groups  []group           // 0: those without a filter; then one for each filter in use
	filters map[string]uint32 // filter key → group; nil while nobody filters
	members int
	head    uint64    // what the log has above this seq reaches the room; 0: not known
	readers []*cursor // members that read the log themselves
	recent  recent    // while there are any
	pending batch     // what waits for the next run
	running batch     // what the run under way delivers
	at      int       // group that the run is in
	queued  bool      // in ready or active
	all     bool      // the room of all: its members are the shard's live sessions
}

// group is the members of a room that get the same messages. While a run is under way members[:todo] have not
// been served; removal keeps that split.
type group struct {
	tags    []string // filter; nil: everything
	key     string
	members []uint32 // subscriptions
	todo    int
	away    int    // members with this filter that are not in members
	data    []byte // what the run under way has for this group
	n       int    // messages in data
}

// subscribe makes s a member of a channel. topic is set for what may have kept STATE values.
func (sh *Shard) subscribe(s *Session, kind codec.Kind, name []byte, tags []string) (*topic, codec.Code) {
	switch {
	case kind == codec.KindAll && string(name) == codec.AllName && len(tags) == 0:
		return sh.node.all, codec.CodeOK // every session belongs to it
	case kind == codec.KindGroup:
		return nil, codec.CodeNotFound
	case kind != codec.KindTopic || !codec.ValidID(name):
		return nil, codec.CodeInvalid
	case !sh.rights[s.rights].rights.MaySubscribe(name):
		return nil, codec.CodeForbidden
	}
	if i, ok := sh.find(s, kind, name); ok {
		t := sh.rooms[sh.subs.at(i).room()].topic
		if !sh.refilter(s, i, tags) {
			return nil, codec.CodeRateLimited
		}
		return t, codec.CodeOK
	}
	if int(s.nsubs) >= sh.cfg.MaxSubscriptions || len(sh.rooms) >= maxRooms && len(sh.freeRoom) == 0 {
		return nil, codec.CodeRateLimited
	}
	r := sh.joinRoom(kind, name)
	g, ok := sh.groupFor(r, tags)
	if !ok { // and so the room has members, whose filters they are
		return nil, codec.CodeRateLimited
	}
	i := sh.attach(s, r, g)
	if sh.cfg.Log == nil {
		sh.enter(i, g)
	} else {
		sh.stayAway(s, i, g)
	}
	return sh.rooms[r].topic, codec.CodeOK
}

// attach makes a subscription of s to a room; it is not yet among those who get its runs.
func (sh *Shard) attach(s *Session, r, g uint32) uint32 {
	i := sh.newSub()
	*sh.subs.at(i) = subscription{session: s.index, where: where(r, g), pos: noPos, next: s.subs}
	s.subs = i + 1
	s.nsubs++
	sh.rooms[r].members++
	return i
}

// noPos is the place of a subscription that is not in its group's members.
const noPos = ^uint32(0)

// find returns the session's subscription to a topic.
func (sh *Shard) find(s *Session, kind codec.Kind, name []byte) (uint32, bool) {
	for i := s.subs; i != 0; i = sh.subs.at(i - 1).next {
		if t := sh.rooms[sh.subs.at(i-1).room()].topic; t.kind == kind && t.name == string(name) {
			return i - 1, true
		}
	}
	return 0, false
}

func (sh *Shard) newSub() uint32 {
	if sh.freeSub == 0 {
		return sh.subs.grow()
	}
	i := sh.freeSub - 1
	sh.freeSub = sh.subs.at(i).next
	sh.freeSubs--
	return i
}

// joinRoom finds the shard's room of a topic, or makes it and tells the node.
func (sh *Shard) joinRoom(kind codec.Kind, name []byte) uint32 {
	if t := sh.node.topic(kind, name); t != nil {
		if r := t.rooms[sh.index]; r != 0 {
			return r - 1
		}
	}
	t := sh.node.table(kind).acquire(kind, name)
	var r uint32
	if n := len(sh.freeRoom); n > 0 {
		r, sh.freeRoom = sh.freeRoom[n-1], sh.freeRoom[:n-1]
	} else {
		r = uint32(len(sh.rooms))
		sh.rooms = append(sh.rooms, room{})
	}
	sh.rooms[r] = room{topic: t, groups: make([]group, 1)}
	t.rooms[sh.index] = r + 1
	t.setMember(sh.index, true)
	sh.rooms[r].head = t.told.Load() // behind setMember: what is told from now on comes here
	return r
}

// maxFilters is the number of different filters in a room: each is gone through once a run.
const maxFilters = 255

// groupFor finds the group of a filter, or makes it; false when the room has too many.
func (sh *Shard) groupFor(r uint32, tags []string) (g uint32, ok bool) {
	if len(tags) == 0 {
		return 0, true
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	key := filterKey(tags)
	rm := &sh.rooms[r]
	if g, ok := rm.filters[key]; ok {
		return g, true
	}
	if len(rm.filters) >= maxFilters {
		return 0, false
	}
	if rm.filters == nil {
		rm.filters = make(map[string]uint32)
	}
	g = uint32(len(rm.groups))
	for i := 1; i < len(rm.groups); i++ {
		if rm.groups[i].tags == nil {
			g = uint32(i)
			break
		}
	}
	if int(g) == len(rm.groups) {
		rm.groups = append(rm.groups, group{})
	}
	rm.groups[g] = group{tags: tags, key: key}
	rm.filters[key] = g
	return g, true
}

// filterKey is equal for equal filters only: a tag may hold any byte, so each stands behind its length.
func filterKey(tags []string) string {
	var b strings.Builder
	for _, tag := range tags {
		b.WriteByte(byte(len(tag)))
		b.WriteString(tag)
	}
	return b.String()
}

// enter adds subscription i to group g of its room; it gets what waits for the next run, not what the run under way
// delivers.
func (sh *Shard) enter(i, g uint32) {
	sub := sh.subs.at(i)
	gr := &sh.rooms[sub.room()].groups[g]
	sub.where, sub.pos = where(sub.room(), g), uint32(len(gr.members))
	gr.members = append(gr.members, i)
}

// exit takes subscription i out of its group, keeping the split between served and not yet served.
func (sh *Shard) exit(i uint32) {
	sub := sh.subs.at(i)
	rm := &sh.rooms[sub.room()]
	g := &rm.groups[sub.group()]
	if sub.pos == noPos {
		g.away--
		sh.dropEmpty(rm, sub.group())
		return
	}
	hole := int(sub.pos)
	if hole < g.todo {
		g.todo--
		sh.move(g, g.todo, hole)
		hole = g.todo
	}
	last := len(g.members) - 1
	if hole != last { // else it is i itself, or stands in the hole already
		sh.move(g, last, hole)
	}
	g.members = g.members[:last]
	sub.pos = noPos
	sh.dropEmpty(rm, sub.group())
}

// dropEmpty forgets a filter that nobody has.
func (sh *Shard) dropEmpty(rm *room, i uint32) {
	if g := &rm.groups[i]; i != 0 && len(g.members) == 0 && g.away == 0 {
		delete(rm.filters, g.key)
		*g = group{}
	}
}

func (sh *Shard) move(g *group, from, to int) {
	g.members[to] = g.members[from]
	sh.subs.at(g.members[to]).pos = uint32(to)
}

// refilter moves subscription i of s to the group of another filter. What the run under way still has for it comes at
// once, by the old filter. The session may have ended when it returns.
func (sh *Shard) refilter(s *Session, i uint32, tags []string) bool {
	sub := sh.subs.at(i)
	g, ok := sh.groupFor(sub.room(), tags)
	if !ok || g == sub.group() {
		return ok
	}
	rm := &sh.rooms[sub.room()]
	if sub.pos == noPos {
		rm.groups[g].away++ // first, so that exit does not forget it
		sh.exit(i)
		sub.where = where(sub.room(), g)
		sh.cursorOf(s, i+1).turn++
		return true
	}
	old := &rm.groups[sub.group()]
	data, n := old.data, old.n
	served := int(sub.pos) >= old.todo
	sh.exit(i)
	sh.enter(i, g)
	if !served {
		sh.deliverN(s, data, n, rm.running.born)
	}
	return true
}

// leave ends subscription i of s.
func (sh *Shard) leave(s *Session, i uint32) {
	sub := sh.subs.at(i)
	if c := sh.cursorOf(s, i+1); c != nil {
		sh.unlink(s, c)
	}
	link := &s.subs
	for *link != i+1 {
		link = &sh.subs.at(*link - 1).next
	}
	*link = sub.next
	s.nsubs--
	sh.exit(i)
	r := sub.room()
	*sub = subscription{next: sh.freeSub}
	sh.freeSub = i + 1
	sh.freeSubs++
	rm := &sh.rooms[r]
	if rm.members--; rm.members == 0 && !rm.queued {
		sh.closeRoom(r)
	}
}

// closeRoom forgets a room that nobody is in. While it is queued the queue does it.
func (sh *Shard) closeRoom(r uint32) {
	rm := &sh.rooms[r]
	t := rm.topic
	t.setMember(sh.index, false)
	t.rooms[sh.index] = 0
	t.queued.Add(-int64(rm.pending.bytes()))
	*rm = room{}
	sh.freeRoom = append(sh.freeRoom, r)
	sh.node.table(t.kind).release(t)
}

// sub takes a SUB.
func (sh *Shard) sub(s *Session, f codec.Frame) error {
	m, err := codec.ConsumeSub(f)
	if err != nil {
		return err
	}
	var t *topic
	code := codec.CodeInvalid
	switch {
	case m.Mode > codec.SubFromPosition || !validTags(m.Ext):
	case sh.cfg.Log != nil:
		if code = sh.askSub(s, &m); code == codec.CodeOK {
			return nil // answered when the log has said where the channel stands
		}
	default:
		t, code = sh.subscribe(s, m.Kind, m.Name, filterOf(m.Ext))
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendSubAck(ob.buf, codec.SubAck{Req: m.Req, Code: code})
	if t != nil {
		sh.askStates(s, t)
	}
	return nil
}

func filterOf(ext codec.TLVs) []string {
	var tags []string
	for tag, v := range ext.All() {
		if tag == codec.TagRoute {
			tags = append(tags, string(v))
		}
	}
	return tags
}

// unsub takes an UNSUB.
func (sh *Shard) unsub(s *Session, f codec.Frame) error {
	m, err := codec.ConsumeUnsub(f)
	if err != nil {
		return err
	}
	code := codec.CodeNotFound
	if m.Kind != codec.KindTopic || !codec.ValidID(m.Name) {
		code = codec.CodeInvalid
	} else if i, ok := sh.find(s, m.Kind, m.Name); ok {
		sh.leave(s, i)
		code = codec.CodeOK
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendSubAck(ob.buf, codec.SubAck{Req: m.Req, Code: code})
	return nil
}
