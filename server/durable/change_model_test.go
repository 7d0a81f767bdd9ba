package durable

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gannet/codec"
)

// groupModel is a group in the plainest words.
type groupModel struct {
	roles map[string]Role
	post  Role
	open  bool
	large bool
}

func (m *groupModel) owners() (n int) {
	for _, r := range m.roles {
		if r == RoleOwner {
			n++
		}
	}
	return n
}

// apply is what a change does; an error leaves all as it was.
func (m groupModels) apply(ch Change, limit int) error {
	g := m[ch.Group]
	if ch.Op == ChangeCreate {
		if g != nil {
			return ErrConflict
		}
		g = &groupModel{roles: map[string]Role{}, post: max(ch.Post, RoleMember), open: ch.Open != nil && *ch.Open}
		for _, u := range ch.Users {
			g.roles[u] = max(ch.Role, RoleMember)
		}
		g.roles[ch.User] = RoleOwner
		g.large = len(g.roles) > limit
		m[ch.Group] = g
		return nil
	}
	if g == nil {
		return ErrNotFound
	}
	next := *g
	next.roles = maps.Clone(g.roles)
	for _, u := range ch.Users {
		role, in := g.roles[u]
		switch {
		case ch.Op == ChangeRemove:
			delete(next.roles, u)
		case ch.Op == ChangeRole && !in:
			return ErrNotFound
		case ch.Op == ChangeAdd || ch.Op == ChangeRole:
			if next.roles[u] = max(ch.Role, RoleMember); in && ch.Role == 0 {
				next.roles[u] = role
			}
			next.large = next.large || !in && len(next.roles) > limit
		}
	}
	switch {
	case ch.Op == ChangeDelete:
		delete(m, ch.Group)
		return nil
	case ch.Op == ChangePolicy:
		if next.post = ch.Post; ch.Post == 0 {
			next.post = g.post
		}
		if ch.Open != nil {
			next.open = *ch.Open
		}
	}
	if next.owners() == 0 {
		return ErrConflict
	}
	m[ch.Group] = &next
	return nil
}

type groupModels map[string]*groupModel

func (m groupModels) of(user string) (names []string) {
	for name, g := range m {
		if _, in := g.roles[user]; in {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func randomChange(r *rand.Rand) Change {
	pick := func(n int) (users []string) {
		for range n {
			users = append(users, fmt.Sprint("user", r.IntN(9)))
		}
		return users
	}
	ch := Change{Group: fmt.Sprint("group", r.IntN(3)), By: "desk", Role: Role(r.IntN(4))}
	ch.Op = []ChangeOp{
		ChangeCreate, ChangeCreate, ChangeDelete, ChangeAdd, ChangeAdd, ChangeAdd, ChangeAdd, ChangeRemove, ChangeRemove, ChangeRole, ChangeRole, ChangePolicy,
	}[r.IntN(12)]
	if ch.Op == ChangeDelete && r.IntN(3) > 0 {
		ch.Op = ChangeAdd
	}
	switch ch.Op {
	case ChangeCreate:
		ch.User, ch.Users = pick(1)[0], pick(r.IntN(7))
	case ChangeAdd, ChangeRemove, ChangeRole:
		ch.Users = pick(1 + r.IntN(3))
	}
	if ch.Op == ChangeRole {
		ch.Role = max(ch.Role, RoleMember)
	}
	if ch.Post = Role(r.IntN(4)); r.IntN(2) == 0 || ch.Post == 0 {
		ch.Open = ptr(r.IntN(2) == 0)
	}
	return ch
}

// Random changes, compared with the model: the snapshots, what is stored, what a client that reads the entries makes of them, whom they
// reach, and what comes back when the cache is empty.
func TestRandomChanges(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		w := newGroupWorld(t)
		model := groupModels{}
		for step := range 150 {
			ch := randomChange(r)
			before := model[ch.Group]
			entries := len(w.entries(ch.Group))
			want := model.apply(ch, w.opts.InboxFanout)
			res, err := w.Change(t.Context(), ch)
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Fatalf("seed %d, step %d, %+v: %v, want %v", seed, step, ch, err, want)
			}
			fresh := w.entries(ch.Group)[entries:]
			if len(fresh) > 0 && res.Seq != fresh[len(fresh)-1].Seq || len(fresh) == 0 && res.Seq != 0 {
				t.Errorf("seed %d, step %d: seq %d after %d entries", seed, step, res.Seq, len(fresh))
			}
			w.compareHeard(before, model[ch.Group], ch.Group, fresh)
			w.compareGroups(model)
			if step%25 == 24 {
				ear := w.ear
				w = groupWorldOn(t, w.store.Store)
				w.ear.rooms, w.ear.heard = ear.rooms, ear.heard
				w.compareGroups(model)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %+v", seed, step, ch)
			}
		}
	}
}

// compareHeard looks who heard the entries of a change: those who belonged to the group before or do now, each once, but nobody an entry that is
// from before his joining.
func (w *groupWorld) compareHeard(before, after *groupModel, name string, fresh []groupEntry) {
	w.t.Helper()
	for _, line := range w.ear.take() {
		if strings.HasPrefix(line, "AGAIN") {
			w.t.Errorf("told twice: %s", line)
		}
	}
	for i := range 9 {
		user := fmt.Sprint("user", i)
		for _, e := range fresh {
			was, is := before != nil && before.roles[user] != 0, after != nil && after.roles[user] != 0
			want := was || is && e.event != eventGrown
			if got := w.ear.heard[user+" "+name][e.Seq]; got != want {
				w.t.Errorf("%s heard %s, seq %d of %s: %v; before %+v, after %+v", user, e.says.Event, e.Seq, name, got, before, after)
			}
		}
	}
}

func (w *groupWorld) compareGroups(model groupModels) {
	w.t.Helper()
	for i := range 3 {
		name := fmt.Sprint("group", i)
		g, err := w.groups.get(name)
		if err != nil {
			w.t.Fatal(err)
		}
		m := model[name]
		if stored := readFresh(w.t, w, name); !reflect.DeepEqual(stored, g) {
			w.t.Errorf("%s: stored %+v, in memory %+v", name, stored, g)
		}
		told, large := w.replay(name)
		if m == nil {
			if g != nil || len(told) != 0 {
				w.t.Errorf("%s is gone, and yet %+v, %v", name, g, told)
			}
			continue
		}
		roles, owners := map[string]Role{}, 0
		for _, e := range g.all() {
			if roles[e.User] = e.Role; e.Role == RoleOwner {
				owners++
			}
		}
		if !maps.Equal(roles, m.roles) || owners != g.owners || g.Post != m.post || g.Open != m.open || g.Large != m.large {
			w.t.Errorf("%s is %+v, want %+v", name, g, m)
		}
		if !maps.Equal(told, m.roles) || large != m.large {
			w.t.Errorf("%s: its entries tell %v, large %v; want %v, %v", name, told, large, m.roles, m.large)
		}
		if room := w.ear.rooms[name]; !g.Large && len(room) > 0 || g.Large && len(room) != len(roles) {
			w.t.Errorf("%s: %d members, large %v, %d in the room", name, len(roles), g.Large, len(room))
		}
	}
	for i := range 9 {
		user := fmt.Sprint("user", i)
		names, err := w.GroupsOf(user)
		convs, err2 := w.store.Scan(convOwner(user), "", 10)
		if want := model.of(user); !slices.Equal(names, want) || len(convs) != len(want) || err != nil || err2 != nil {
			w.t.Errorf("%s: groups %q, %d conversations, %v, %v; want %q", user, names, len(convs), err, err2, want)
		}
	}
}

// replay is what a client makes of the entries: the members, and whether the log took over from inboxes.
func (w *groupWorld) replay(name string) (roles map[string]Role, large bool) {
	w.t.Helper()
	roles = map[string]Role{}
	for _, e := range w.entries(name) {
		role, _ := ParseRole(e.says.Role)
		switch e.event {
		case eventCreated:
			clear(roles)
			large = e.Flags&codec.MsgLog != 0
		case eventDeleted:
			clear(roles)
			large = false
		case eventGrown:
			large = true
		case eventRemoved:
			for _, u := range e.says.Users {
				delete(roles, u)
			}
		}
		if e.event != eventRemoved {
			for _, u := range e.says.Users {
				roles[u] = role
			}
		}
		if e.event == eventCreated {
			roles[e.says.Owner] = RoleOwner
		}
		if inLog := e.Flags&codec.MsgLog != 0; inLog != (large && e.event != eventGrown) && e.event != eventDeleted {
			w.t.Errorf("%s: entry %d, %s, has flags %x", name, e.Seq, e.says.Event, e.Flags)
		}
	}
	return roles, large
}
