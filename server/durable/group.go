package durable

import (
	"cmp"
	"fmt"
	"slices"

	"gannet/codec"
	"gannet/store"
)

// Role is what a member of a group may do; a higher one may all that a lower one may. 0 is none.
type Role uint8

// Roles.
const (
	RoleMember Role = 1
	RoleAdmin  Role = 2
	RoleOwner  Role = 3
)

var roleNames = [...]string{"none", "member", "admin", "owner"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role-%d", uint8(r))
}

func (r Role) valid() bool { return r >= RoleMember && r <= RoleOwner }

// ParseRole is the role of a name; false for others, "none" among them.
func ParseRole(name string) (Role, bool) {
	i := slices.Index(roleNames[1:], name)
	return Role(i + 1), i >= 0
}

// Bounds of groups.
const (
	maxMembers       = 100_000
	maxGroupsPerUser = 1_000
)

// member is a user's place in a group.
type member struct {
	User   string
	Joined uint64 // seq of the entry that added it, the first one when the change needed several
	Role   Role
}

func (m member) compare(user string) int { return cmp.Compare(m.User, user) }

// group is a group at one moment: a change makes another one, so any goroutine may keep and read it.
type group struct {
	Name      string
	Post      Role   // least role that may post
	Open      bool   // members read also what was said before they joined
	Large     bool   // messages are not in inboxes: members read the group's own log; for ever
	LargeFrom uint64 // Large: the log has what inboxes have not above this seq, that of the entry "grown" if there is one
	Since     uint64 // seq of the entry that made the group; below are messages of groups that had its name before
	Created   uint64 // Unix milliseconds
	Changed   uint64 // seq of the last entry of the last change: tells two snapshots apart

	members []member // by user
	owners  int
}

// member finds a user; false when it is none.
func (g *group) member(user string) (member, bool) {
	if i, ok := g.find(user); ok {
		return g.members[i], true
	}
	return member{}, false
}

func (g *group) find(user string) (int, bool) {
	return slices.BinarySearchFunc(g.members, user, member.compare)
}

// all is every member by user. Do not change it.
func (g *group) all() []member { return g.members }

func (g *group) mayPost(user string) bool {
	m, ok := g.member(user)
	return ok && m.Role >= g.Post
}

// readableFrom is the lowest seq that a user may read; false when it is no member.
func (g *group) readableFrom(user string) (uint64, bool) {
	m, ok := g.member(user)
	if g.Open {
		return g.Since, ok
	}
	return m.Joined, ok
}

// channel is the group's log.
func (g *group) channel() store.Channel { return store.Channel{Kind: codec.KindGroup, Name: g.Name} }

// copy is a group for a change to work on.
func (g *group) copy() *group {
	next := *g
	next.members = slices.Clone(g.members)
	return &next
}

// Records of a group, see records.go. Meta comes first in a Scan.
const (
	metaKey      = "\x01meta"
	memberPrefix = "\x02"
)

// Flags of the meta record.
const (
	metaOpen    = 1 << iota
	metaLarge   // for ever
	metaDeleted // its log and head stay, and so does this record
)

// meta is the value of the record that says that the group exists, or that it did.
func (g *group) meta(deleted bool) []byte {
	var flags uint64
	if g.Open {
		flags |= metaOpen
	}
	if g.Large {
		flags |= metaLarge
	}
	if deleted {
		flags |= metaDeleted
	}
	b := appendUint(appendUint(appendUint(nil, recordVersion), uint64(g.Post)), flags)
	for _, v := range []uint64{g.LargeFrom, g.Since, g.Created, g.Changed} {
		b = appendUint(b, v)
	}
	return b
}

// readMeta makes a group without members of a meta record.
func readMeta(name string, b []byte) (g *group, deleted bool, err error) {
	v, err := openValue(b)
	if err != nil {
		return nil, false, err
	}
	post, flags := v.uint(), v.uint()
	g = &group{
		Name: name, Post: Role(min(post, 255)), Open: flags&metaOpen != 0, Large: flags&metaLarge != 0,
		LargeFrom: v.uint(), Since: v.uint(), Created: v.uint(), Changed: v.uint(),
	}
	if v.err() != nil || !g.Post.valid() || g.Since == 0 || g.Changed < g.Since || flags >= metaDeleted<<1 {
		return nil, false, errRecord
	}
	return g, flags&metaDeleted != 0, nil
}

func (m member) append(b []byte) []byte {
	return appendUint(appendUint(appendUint(b, recordVersion), uint64(m.Role)), m.Joined)
}

func readMember(user string, b []byte) (member, error) {
	v, err := openValue(b)
	if err != nil {
		return member{}, err
	}
	m := member{User: user, Role: Role(min(v.uint(), 255)), Joined: v.uint()}
	if v.err() != nil || !m.Role.valid() || m.Joined == 0 || !codec.ValidID([]byte(user)) {
		return m, errRecord
	}
	return m, nil
}
