package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gannet/codec"
)

// ChangeOp is what a Change does.
type ChangeOp uint8

// Operations. What a change asks for and is so already is done again without an entry: repeating one that had no answer is safe,
// but for ChangeCreate and ChangeDelete, which say that it was done.
const (
	ChangeCreate ChangeOp = iota + 1 // User is its owner, Users its other first members, Post and Open its policy
	ChangeDelete                     // the log and its numbers stay, nobody reads it any more
	ChangeAdd                        // who is in it gets the role too; without a Role they keep theirs
	ChangeRemove                     // users who are not in it are passed over
	ChangeRole                       // of members
	ChangePolicy                     // Post, Open or both
)

// Change asks for a group to be changed. Rights of who asks are not looked at.
type Change struct {
	Op    ChangeOp
	Group string
	By    string   // who asked for it, sender of the entries in the log: "gannet"
	User  string   // one more of Users; for ChangeCreate the owner
	Users []string // at most maxChangeUsers
	Role  Role     // 0: RoleMember for those who are new
	Post  Role     // least role that may post; 0: RoleMember for a new group, else as it is
	Open  *bool    // members read also what was said before they joined; nil: false for a new group, else as it is
}

// ChangeResult is what became of a Change.
type ChangeResult struct {
	Seq     uint64 // of its last entry in the group's log; 0: it was so already
	Members int
}

// maxChangeUsers is how many users a change may name: all of it is one commit.
const maxChangeUsers = 10_000

// Errors of Change, besides those of the store and the context.
var (
	ErrInvalid  = errors.New("durable: invalid request")
	ErrNotFound = errors.New("durable: not found")
	ErrConflict = errors.New("durable: conflict")
)

// errMoved says that a plan is of a group as it was before another change.
var errMoved = errors.New("it was changed meanwhile, try again")

// Change changes a group. When it returns nil the change is on disk and members are being told. After an error of the store or the
// context nobody knows what became of it: ask for it again.
//
// First its entries are written to the group's log, then the records that make it so. A crash between the two leaves
// entries that nothing follows; the change was not acknowledged, and the same again writes them again. The
// other way round a member would be in the group without an entry that says so, and asking again would find nothing to do.
func (l *Log) Change(ctx context.Context, ch Change) (ChangeResult, error) {
	users, err := ch.check()
	if err != nil {
		return ChangeResult{}, err
	}
	select {
	case l.groups.turn <- struct{}{}:
	case <-ctx.Done():
		return ChangeResult{}, fmt.Errorf("durable: waiting to change group %q: %w", ch.Group, ctx.Err())
	}
	defer func() { <-l.groups.turn }()
	p, err := l.plan(ch, users)
	if err != nil {
		return ChangeResult{}, l.why(err)
	}
	if len(p.events) == 0 {
		return ChangeResult{Members: len(p.before.members)}, nil
	}
	var done ChangeResult
	if err := l.do(ctx, p.carryOut); err != nil {
		return done, fmt.Errorf("durable: changing group %q: %w", ch.Group, err)
	}
	if done.Seq = p.last; p.after != nil {
		done.Members = len(p.after.members)
	}
	return done, nil
}

// check judges a change by itself. users are those it names, in order.
func (ch *Change) check() (users []string, err error) {
	users = slices.Clone(ch.Users)
	if ch.User != "" {
		users = append(users, ch.User)
	}
	or(&ch.By, "gannet")
	if ch.Op == ChangeCreate {
		or(&ch.Post, RoleMember)
		or(&ch.Open, new(bool))
	}
	switch {
	case ch.Op < ChangeCreate || ch.Op > ChangePolicy:
		err = fmt.Errorf("%w: no operation %d", ErrInvalid, ch.Op)
	case !codec.ValidID([]byte(ch.Group)):
		err = fmt.Errorf("%w: %q is no name of a group: 1 to 64 bytes without control characters", ErrInvalid, ch.Group)
	case !codec.ValidID([]byte(ch.By)):
		err = fmt.Errorf("%w: %q is no name of who asked for it", ErrInvalid, ch.By)
	case len(users) > maxChangeUsers:
		err = fmt.Errorf("%w: %d users, at most %d at once", ErrInvalid, len(users), maxChangeUsers)
	case ch.Op == ChangeCreate && ch.User == "":
		err = fmt.Errorf("%w: a group needs an owner", ErrInvalid)
	case len(users) == 0 && ch.Op >= ChangeAdd && ch.Op <= ChangeRole:
		err = fmt.Errorf("%w: name a user", ErrInvalid)
	case ch.Role > RoleOwner || ch.Role == 0 && ch.Op == ChangeRole:
		err = fmt.Errorf("%w: the role must be member, admin or owner", ErrInvalid)
	case ch.Post > RoleOwner || ch.Op == ChangePolicy && ch.Post == 0 && ch.Open == nil:
		err = fmt.Errorf("%w: say who may post, or whether history is open", ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		if !codec.ValidID([]byte(u)) {
			return nil, fmt.Errorf("%w: %q is no user: 1 to 64 bytes without control characters", ErrInvalid, u)
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// plan works out what a change does to the group as it is; nothing is written yet, and no event means nothing will be.
func (l *Log) plan(ch Change, users []string) (*groupPlan, error) {
	before, err := l.groups.get(ch.Group)
	if err != nil {
		return nil, err
	}
	p := &groupPlan{l: l, by: ch.By, name: ch.Group, now: l.now(), before: before}
	if ch.Op == ChangeCreate {
		if before != nil {
			return nil, fmt.Errorf("%w: group %q exists", ErrConflict, ch.Group)
		}
		p.after = &group{Name: ch.Group, Post: ch.Post, Open: *ch.Open, Created: p.now}
		return p, p.create(ch, users)
	}
	if before == nil {
		return nil, fmt.Errorf("%w: no group %q", ErrNotFound, ch.Group)
	}
	p.after = before.copy()
	switch ch.Op {
	case ChangeDelete:
		p.after = nil
		p.gone = before.users()
		p.tell(groupEvent{what: eventDeleted})
		return p, nil
	case ChangeAdd:
		return p, p.add(users, ch.Role)
	case ChangeRemove:
		return p, p.remove(users)
	case ChangeRole:
		for _, u := range users {
			if _, ok := before.member(u); !ok {
				return nil, fmt.Errorf("%w: user %q is no member of group %q", ErrNotFound, u, ch.Group)
			}
		}
		return p, p.add(users, ch.Role)
	}
	p.policy(ch)
	return p, nil
}

func (p *groupPlan) create(ch Change, users []string) error {
	or(&ch.Role, RoleMember)
	names := []string{ch.User} // first, for the entry "created" must have it
	for _, u := range users {
		m := member{User: u, Role: ch.Role}
		if u == ch.User {
			m.Role = RoleOwner
		} else {
			names = append(names, u)
		}
		p.after.add(m)
	}
	p.fresh = users
	p.after.Large = len(users) > p.l.opts.InboxFanout
	p.tell(groupEvent{what: eventCreated, users: names, role: ch.Role, owner: ch.User})
	return p.mayJoin(users)
}

// add adds users; those who are members get the role, unless it is 0.
func (p *groupPlan) add(users []string, as Role) error {
	var raised []string
	for _, u := range users {
		i, ok := p.after.find(u)
		switch {
		case !ok:
			p.fresh = append(p.fresh, u)
		case as != 0 && p.after.members[i].Role != as:
			p.after.members[i].Role = as
			raised = append(raised, u)
		}
	}
	p.roles = raised
	fresh := max(as, RoleMember)
	p.after.insert(p.fresh, fresh)
	if len(p.after.members) > p.l.opts.InboxFanout && len(p.fresh) > 0 && !p.after.Large {
		p.after.Large, p.grows = true, true
		p.events = append(p.events, groupEvent{what: eventGrown})
	}
	p.tell(groupEvent{what: eventAdded, users: p.fresh, role: fresh}) // before what else those who join may read
	p.tell(groupEvent{what: eventRole, users: raised, role: as})
	if err := p.after.checkOwners(); err != nil {
		return err
	}
	return p.mayJoin(p.fresh)
}

func (p *groupPlan) remove(users []string) error {
	for _, u := range users {
		if _, ok := p.before.member(u); ok {
			p.gone = append(p.gone, u)
		}
	}
	p.after.members = slices.DeleteFunc(p.after.members, func(m member) bool {
		_, gone := slices.BinarySearch(p.gone, m.User)
		return gone
	})
	p.tell(groupEvent{what: eventRemoved, users: p.gone})
	return p.after.checkOwners()
}

func (p *groupPlan) policy(ch Change) {
	if ch.Post != 0 {
		p.after.Post = ch.Post
	}
	if ch.Open != nil {
		p.after.Open = *ch.Open
	}
	if p.after.Post != p.before.Post || p.after.Open != p.before.Open {
		p.tell(groupEvent{what: eventPolicy})
	}
}

// mayJoin holds the bounds of groups and users.
func (p *groupPlan) mayJoin(fresh []string) error {
	if n := len(p.after.members); n > p.l.groups.most {
		return fmt.Errorf("%w: group %q would have %d members, the most is %d", ErrConflict, p.name, n, p.l.groups.most)
	}
	for _, u := range fresh {
		found, err := p.l.current().Scan(userGroupsOwner(u), "", maxGroupsPerUser)
		if err != nil {
			return fmt.Errorf("durable: counting the groups of user %q: %w", u, err)
		}
		if len(found) == maxGroupsPerUser {
			return fmt.Errorf("%w: user %q is in %d groups already, the most there may be", ErrConflict, u, maxGroupsPerUser)
		}
	}
	return nil
}

// insert adds users, in order, who are no members.
func (g *group) insert(fresh []string, as Role) {
	if len(fresh) == 0 {
		return
	}
	all := make([]member, 0, len(g.members)+len(fresh))
	rest := g.members
	for _, u := range fresh {
		i, _ := slices.BinarySearchFunc(rest, u, member.compare)
		all = append(append(all, rest[:i]...), member{User: u, Role: as})
		rest = rest[i:]
	}
	g.members = append(all, rest...)
}

// checkOwners counts the owners and wants one.
func (g *group) checkOwners() error {
	g.owners = 0
	for i := range g.members {
		if g.members[i].Role == RoleOwner {
			g.owners++
		}
	}
	if g.owners == 0 {
		return fmt.Errorf("%w: group %q would have no owner; make another member the owner first", ErrConflict, g.Name)
	}
	return nil
}

// users is the name of every member.
func (g *group) users() []string {
	all := make([]string, len(g.members))
	for i := range g.members {
		all[i] = g.members[i].User
	}
	return all
}
