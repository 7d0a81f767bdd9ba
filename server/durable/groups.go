package durable

import (
	"container/list"
	"errors"
	"fmt"
	"strings"
	"sync"

	"gannet/codec"
	"gannet/store"
)

// Bounds of the cache of groups. Which one is reached first decides.
const (
	cachedGroups  = 10_000
	cachedMembers = 1_000_000
)

// scanPage is how many records one Scan reads.
const scanPage = 1000

// groups knows the groups: snapshots of those used last in memory, all others in the store. Any goroutine reads; changes come from
// the committer alone, one at a time.
type groups struct {
	// Static after construction.
	l    *Log
	most int           // members of a group
	turn chan struct{} // one place: a change is planned and made before the next is planned

	mu     sync.Mutex               // guards all below
	from   *openStore               // what the snapshots were read from
	byName map[string]*list.Element // of cachedGroup
	used   list.List                // the one used last in front
	count  int                      // of members in byName
	loads  map[string]*groupLoad    // that are under way
	held   *heldGroup               // nil: no change is being written
}

// cachedGroup is a snapshot, or why there will be none: damage does not go away by reading it again.
type cachedGroup struct {
	name string
	g    *group
	err  error
}

func (c *cachedGroup) size() int {
	if c.g == nil {
		return 0
	}
	return len(c.g.members)
}

// groupLoad is a snapshot being read. done is closed at its end.
type groupLoad struct {
	done  chan struct{}
	stale bool // guarded by groups.mu: a change began meanwhile, what was read may be half old and half new
	g     *group
	err   error
}

// heldGroup is what readers get while a change of it is being written; g may be nil.
type heldGroup struct {
	name string
	g    *group
}

func newGroups(l *Log) *groups {
	return &groups{
		l: l, most: maxMembers, turn: make(chan struct{}, 1), byName: map[string]*list.Element{}, loads: map[string]*groupLoad{},
	}
}

// get returns a group as it is now; nil when there is none. The error names the group.
func (gs *groups) get(name string) (*group, error) {
	for {
		gs.mu.Lock()
		gs.follow()
		if h := gs.held; h != nil && h.name == name {
			gs.mu.Unlock()
			return h.g, nil
		}
		if e, ok := gs.byName[name]; ok {
			gs.used.MoveToFront(e)
			gs.mu.Unlock()
			c := e.Value.(*cachedGroup)
			return c.g, c.err
		}
		ld, other := gs.loads[name]
		if !other {
			ld = &groupLoad{done: make(chan struct{})}
			gs.loads[name] = ld
		}
		from := gs.from
		gs.mu.Unlock()
		if other {
			<-ld.done
		} else {
			ld.g, ld.err = readGroup(from, name)
			gs.loaded(name, ld)
		}
		if !ld.stale { // final, for done is closed
			return ld.g, ld.err
		}
	}
}

// loaded ends a load. What does not exist is not kept: anybody can ask for any name.
func (gs *groups) loaded(name string, ld *groupLoad) {
	gs.mu.Lock()
	if gs.follow(); gs.loads[name] == ld {
		delete(gs.loads, name)
	}
	if !ld.stale && (ld.g != nil || lasting(ld.err)) {
		gs.keep(&cachedGroup{name: name, g: ld.g, err: ld.err})
	}
	gs.mu.Unlock()
	close(ld.done)
}

// lasting says that reading again would fail again.
func lasting(err error) bool {
	return errors.Is(err, errRecord) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrFormat)
}

// follow forgets everything when the store was reopened: what a failed one showed may not have been written.
func (gs *groups) follow() {
	now := gs.l.store.Load()
	if now == gs.from {
		return
	}
	gs.from = now
	clear(gs.byName)
	gs.used.Init()
	gs.count = 0
	for _, ld := range gs.loads {
		ld.stale = true
	}
}

func (gs *groups) keep(c *cachedGroup) {
	gs.byName[c.name] = gs.used.PushFront(c)
	gs.count += c.size()
	for len(gs.byName) > 1 && (len(gs.byName) > cachedGroups || gs.count > cachedMembers) {
		gs.forget(gs.used.Back().Value.(*cachedGroup).name)
	}
}

func (gs *groups) forget(name string) {
	if e, ok := gs.byName[name]; ok {
		delete(gs.byName, name)
		gs.count -= gs.used.Remove(e).(*cachedGroup).size()
	}
}

// hold begins to write a change: readers get the group as it was, nil or not, until release.
func (gs *groups) hold(name string, now *group) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.held = &heldGroup{name, now}
	gs.forget(name)
	if ld := gs.loads[name]; ld != nil {
		ld.stale = true
		delete(gs.loads, name)
	}
}

// changing says whether a change of a group is being written.
func (gs *groups) changing(name string) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.held != nil && gs.held.name == name
}

// release ends it: readers get what the group is now; nil: they look into the store.
func (gs *groups) release(name string, now *group) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.held = nil
	if gs.follow(); now != nil {
		gs.keep(&cachedGroup{name: name, g: now})
	}
}

// readGroup reads a group from the store; nil when there is none.
func readGroup(s store.Store, name string) (*group, error) {
	g, err := readRecords(s, name)
	if err != nil {
		return nil, fmt.Errorf("durable: reading group %q: %w", name, err)
	}
	return g, nil
}

func readRecords(s store.Store, name string) (*group, error) {
	page, err := s.Scan(groupOwner(name), "", scanPage)
	if err != nil || len(page) == 0 {
		return nil, err
	}
	if page[0].Key != metaKey {
		return nil, fmt.Errorf("%w: it has %q and no meta record; restore a backup", errRecord, page[0].Key)
	}
	g, deleted, err := readMeta(name, page[0].Value)
	if err != nil {
		return nil, fmt.Errorf("%w: the meta record; restore a backup", err)
	}
	rest := page[1:]
	for len(page) > 0 {
		for _, r := range rest {
			user, ok := strings.CutPrefix(r.Key, memberPrefix)
			m, err := readMember(user, r.Value)
			if err == nil && (!ok || deleted) {
				err = errRecord
			}
			if err != nil {
				return nil, fmt.Errorf("%w: the record %q; restore a backup", err, r.Key)
			}
			g.add(m)
		}
		if len(page) < scanPage {
			break
		}
		if page, err = s.Scan(groupOwner(name), page[len(page)-1].Key, scanPage); err != nil {
			return nil, err
		}
		rest = page
	}
	switch {
	case deleted:
		return nil, nil
	case g.owners == 0:
		return nil, fmt.Errorf("%w: no owner among %d members; restore a backup", errRecord, len(g.members))
	}
	return g, nil
}

// add appends a member that comes behind all others.
func (g *group) add(m member) {
	g.members = append(g.members, m)
	if m.Role == RoleOwner {
		g.owners++
	}
}

// of returns the names of the groups that a user is a member of, in order.
func (gs *groups) of(user string) ([]string, error) {
	found, err := gs.l.current().Scan(userGroupsOwner(user), "", maxGroupsPerUser)
	if err != nil {
		return nil, fmt.Errorf("durable: reading the groups of user %q: %w", user, err)
	}
	names := make([]string, len(found))
	for i, r := range found {
		if names[i] = r.Key; !codec.ValidID([]byte(r.Key)) {
			return nil, fmt.Errorf("durable: reading the groups of user %q: %w: %q is no name of a group", user, errRecord, r.Key)
		}
	}
	return names, nil
}

// GroupInfo is what is known of a group.
type GroupInfo struct {
	Name      string
	Post      Role   // least role that may post
	Open      bool   // members read also what was said before they joined
	Large     bool   // read from its own log, not through inboxes
	LargeFrom uint64 // Large: above this seq
	Since     uint64 // seq of the entry that made it
	Head      uint64 // of its log
	Created   uint64 // Unix milliseconds
	Members   int
	Page      []GroupMember // some of them, by user
	More      bool          // and there are others behind these
}

// GroupMember is a member of a group.
type GroupMember struct {
	User   string
	Role   Role
	Joined uint64 // seq of the entry that says so
}

// Group tells of a group and of at most limit members behind user after ("": from the first). ErrNotFound when there is none.
func (l *Log) Group(name, after string, limit int) (GroupInfo, error) {
	g, err := l.groups.get(name)
	if err != nil {
		return GroupInfo{}, l.why(err)
	}
	if g == nil {
		return GroupInfo{}, fmt.Errorf("%w: no group %q", ErrNotFound, name)
	}
	head, err := l.current().Head(g.channel())
	if err != nil {
		return GroupInfo{}, fmt.Errorf("durable: reading the head of group %q: %w", name, l.why(err))
	}
	at, known := g.find(after)
	if known {
		at++
	}
	end := min(at+limit, len(g.members))
	info := GroupInfo{
		Name: name, Post: g.Post, Open: g.Open, Large: g.Large, LargeFrom: g.LargeFrom, Since: g.Since, Head: head.Seq, Created: g.Created,
		Members: len(g.members), Page: make([]GroupMember, 0, end-at), More: end < len(g.members),
	}
	for _, m := range g.members[at:end] {
		info.Page = append(info.Page, GroupMember{User: m.User, Role: m.Role, Joined: m.Joined})
	}
	return info, nil
}

// GroupsOf returns the names of the groups that a user is a member of, in order.
func (l *Log) GroupsOf(user string) ([]string, error) {
	names, err := l.groups.of(user)
	return names, l.why(err)
}

// why is what befell the store when it was closed because it had failed; otherwise err.
func (l *Log) why(err error) error {
	if failed := l.Status(); failed != nil && errors.Is(err, store.ErrClosed) {
		return failed
	}
	return err
}
