package durable

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"gannet/store"
)

func TestGroupSnapshot(t *testing.T) {
	g := &group{Name: "g", Post: RoleAdmin, Since: 5, members: []member{
		{"anna", 5, RoleOwner}, {"bob", 7, RoleMember}, {"carl", 9, RoleAdmin},
	}}
	for _, c := range []struct {
		user   string
		member bool
		post   bool
		from   uint64
	}{
		{"anna", true, true, 5}, {"bob", true, false, 7}, {"carl", true, true, 9}, {"", false, false, 0}, {"ann", false, false, 0}, {"dora", false, false, 0},
	} {
		m, ok := g.member(c.user)
		from, may := g.readableFrom(c.user)
		if ok != c.member || may != c.member || ok && m.User != c.user || g.mayPost(c.user) != c.post || from != c.from {
			t.Errorf("%q: %+v, %v, may post %v, reads from %d, %v", c.user, m, ok, g.mayPost(c.user), from, may)
		}
	}
	g.Open = true
	if from, may := g.readableFrom("carl"); from != 5 || !may {
		t.Errorf("open: from %d, %v", from, may)
	}
	if _, may := g.readableFrom("dora"); may {
		t.Error("who is no member reads an open group")
	}
	next := g.copy()
	next.members[0].Role, next.Open = RoleMember, false
	if m, _ := g.member("anna"); m.Role != RoleOwner || !g.Open {
		t.Error("a copy changed its original")
	}
}

func TestRoles(t *testing.T) {
	for _, r := range []Role{RoleMember, RoleAdmin, RoleOwner} {
		if got, ok := ParseRole(r.String()); got != r || !ok || !r.valid() {
			t.Errorf("%v: %v, %v", r, got, ok)
		}
	}
	for _, name := range []string{"", "none", "Owner", "owners", "role-7"} {
		if r, ok := ParseRole(name); ok {
			t.Errorf("%q is %v", name, r)
		}
	}
	if Role(0).valid() || Role(4).valid() || Role(7).String() != "role-7" {
		t.Error("roles that are none")
	}
}

func TestGroupRecordsRoundTrip(t *testing.T) {
	for _, g := range []*group{
		{Name: "g", Post: RoleMember, Since: 1, Changed: 1},
		{Name: "g", Post: RoleOwner, Open: true, Large: true, LargeFrom: 1<<64 - 1, Since: 7, Changed: 1<<64 - 1, Created: groupsNow},
	} {
		for _, deleted := range []bool{false, true} {
			b := g.meta(deleted)
			got, del, err := readMeta("g", b)
			if err != nil || del != deleted || !reflect.DeepEqual(got, g) {
				t.Errorf("%+v came back as %+v, %v, %v", g, got, del, err)
			}
			for n := range b {
				if _, _, err := readMeta("g", b[:n]); !errors.Is(err, errRecord) {
					t.Errorf("%d of %d bytes: %v", n, len(b), err)
				}
			}
		}
	}
	m := member{"anna", 1 << 40, RoleAdmin}
	b := m.append(nil)
	if got, err := readMember("anna", b); got != m || err != nil {
		t.Errorf("%+v came back as %+v, %v", m, got, err)
	}
	for n := range b {
		if _, err := readMember("anna", b[:n]); !errors.Is(err, errRecord) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

// Damage is told by the name of the group, by every reader, and stays told until the store is another.
func TestDamagedGroups(t *testing.T) {
	meta := (&group{Post: RoleMember, Since: 1, Changed: 2}).meta(false)
	gone := (&group{Post: RoleMember, Since: 1, Changed: 2}).meta(true)
	owner, other := member{Joined: 1, Role: RoleOwner}.append(nil), member{Joined: 2, Role: RoleMember}.append(nil)
	newer := appendUint(nil, recordVersion+1)
	for name, records := range map[string]map[string][]byte{
		"meta empty":           {metaKey: {}, memberPrefix + "a": owner},
		"meta cut":             {metaKey: meta[:3], memberPrefix + "a": owner},
		"meta long":            {metaKey: append(slices.Clone(meta), 0), memberPrefix + "a": owner},
		"meta role":            {metaKey: (&group{Post: 4, Since: 1, Changed: 2}).meta(false), memberPrefix + "a": owner},
		"meta since":           {metaKey: (&group{Post: 1, Changed: 2}).meta(false), memberPrefix + "a": owner},
		"meta changed":         {metaKey: (&group{Post: 1, Since: 3, Changed: 2}).meta(false), memberPrefix + "a": owner},
		"meta flags":           {metaKey: {1, 1, 8, 0, 1, 0, 2}, memberPrefix + "a": owner},
		"meta missing":         {memberPrefix + "a": owner},
		"meta newer":           {metaKey: newer, memberPrefix + "a": owner},
		"member cut":           {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": other[:2]},
		"member role 0":        {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": member{Joined: 1}.append(nil)},
		"member role 4":        {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": member{Joined: 1, Role: 4}.append(nil)},
		"member role 257":      {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": {1, 0x81, 2, 1}},
		"member joined 0":      {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": member{Role: 1}.append(nil)},
		"member newer":         {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "b": newer},
		"member without name":  {metaKey: meta, memberPrefix + "a": owner, memberPrefix: other},
		"member invalid name":  {metaKey: meta, memberPrefix + "a": owner, memberPrefix + "\x7f": other},
		"no owner":             {metaKey: meta, memberPrefix + "b": other},
		"nobody":               {metaKey: meta},
		"something else":       {metaKey: meta, memberPrefix + "a": owner, "\x03b": other},
		"deleted with members": {metaKey: gone, memberPrefix + "a": owner},
	} {
		w := newGroupWorld(t)
		for key, value := range records {
			if err := w.store.Put([]store.Record{{Owner: groupOwner("team"), Key: key, Value: value}}, true); err != nil {
				t.Fatal(err)
			}
		}
		want := errRecord
		if strings.Contains(name, "newer") {
			want = store.ErrFormat
		}
		for range 2 {
			if g, err := w.groups.get("team"); g != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), `"team"`) {
				t.Errorf("%s: %+v, %v", name, g, err)
			}
		}
		w.refuse(Change{Op: ChangeAdd, Group: "team", User: "x"}, want, `"team"`)
		w.refuse(Change{Op: ChangeCreate, Group: "team", User: "x"}, want, `"team"`)
		if _, err := w.Group("team", "", 1); !errors.Is(err, want) {
			t.Errorf("%s: the admin is told %v", name, err)
		}
		w.change(Change{Op: ChangeCreate, Group: "other", User: "x"})
		reads := 0
		w.store.scans(func(string, string) error { reads++; return nil })
		if _, err := w.groups.get("team"); err == nil || reads != 0 {
			t.Errorf("%s: read again %d times, %v", name, reads, err)
		}
	}
}

// What fails for now is tried again, and no user can fill the cache with names that do not exist.
func TestWhatIsNotCached(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	w = groupWorldOn(t, w.store.Store)
	broken := errors.New("input/output error")
	w.store.scans(func(string, string) error { return broken })
	if _, err := w.groups.get("g"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := w.groups.of("anna"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	w.store.scans(nil)
	w.group("g")
	for i := range 100 {
		if g, err := w.groups.get(fmt.Sprint("no", i)); g != nil || err != nil {
			t.Fatal(g, err)
		}
	}
	if n := len(w.groups.byName); n != 1 {
		t.Errorf("%d groups are cached", n)
	}
	if err := w.store.Put([]store.Record{{Owner: userGroupsOwner("anna"), Key: "a\x01", Value: []byte{}}}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.groups.of("anna"); !errors.Is(err, errRecord) || !strings.Contains(err.Error(), `"anna"`) {
		t.Errorf("a damaged list of groups: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := newGroupWorld(t)
	gs := newGroups(w.Log)
	of := func(name string, members int) *cachedGroup {
		return &cachedGroup{name: name, g: &group{Name: name, members: make([]member, members)}}
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.follow()
	for i := range 2 * cachedGroups {
		gs.keep(of(fmt.Sprint(i), 1))
	}
	if len(gs.byName) != cachedGroups || gs.used.Len() != cachedGroups || gs.count != cachedGroups {
		t.Errorf("%d groups, %d in the list, %d members", len(gs.byName), gs.used.Len(), gs.count)
	}
	if gs.byName[fmt.Sprint(cachedGroups-1)] != nil || gs.byName[fmt.Sprint(cachedGroups)] == nil {
		t.Error("it is not the oldest that goes")
	}
	gs.keep(of("large", cachedMembers-10))
	if gs.count > cachedMembers || len(gs.byName) != 11 || gs.byName["large"] == nil {
		t.Errorf("%d members in %d groups", gs.count, len(gs.byName))
	}
	gs.keep(of("larger than all", 2*cachedMembers)) // it is in use: one is always kept
	if len(gs.byName) != 1 || gs.count != 2*cachedMembers {
		t.Errorf("%d members in %d groups", gs.count, len(gs.byName))
	}
	gs.keep(of("next", 1))
	if len(gs.byName) != 1 || gs.count != 1 {
		t.Errorf("%d members in %d groups", gs.count, len(gs.byName))
	}
}

// A snapshot whose reading a change overtook is not handed out and does not come back: it may be half old and half new.
func TestLoadAndChange(t *testing.T) {
	w := newGroupWorld(t, func(o *Options) { o.InboxFanout = 2 * scanPage })
	users := make([]string, scanPage+10)
	for i := range users {
		users[i] = fmt.Sprintf("user%05d", i)
	}
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: users})

	halfway, goOn := make(chan struct{}), make(chan struct{})
	w.groups.mu.Lock()
	w.groups.forget("g")
	w.groups.mu.Unlock()
	var once sync.Once
	w.store.scans(func(owner, after string) error {
		if owner == groupOwner("g") && after != "" {
			once.Do(func() { close(halfway); <-goOn })
		}
		return nil
	})
	type answer struct {
		g   *group
		err error
	}
	read := func() chan answer {
		got := make(chan answer, 1)
		go func() {
			g, err := w.groups.get("g")
			got <- answer{g, err}
		}()
		return got
	}
	first := read()
	<-halfway
	second := read() // waits for the first, or comes late
	before := readFresh(t, w, "g")
	w.groups.hold("g", before) // as a change does
	if a := <-read(); a.g != before || a.err != nil {
		t.Errorf("while it is written: %v, %v", a.g, a.err)
	}
	after := before.copy()
	after.Changed++
	w.groups.release("g", after)
	close(goOn)
	if a := <-first; a.g != after || a.err != nil {
		t.Errorf("a reader that was overtaken got %p, %v, want %p", a.g, a.err, after)
	}
	if a := <-second; a.g != after && a.g != before || a.err != nil {
		t.Errorf("who waited for it got %p, %v, want %p or %p", a.g, a.err, before, after)
	}
	if g := w.group("g"); g != after {
		t.Errorf("what was read before the change came back: changed at %d, not %d", g.Changed, after.Changed)
	}
}

// Readers that load a group again and again while it changes never see half of a change, and never go back.
func TestReadersDuringChanges(t *testing.T) {
	w := newGroupWorld(t, func(o *Options) { o.InboxFanout = 2 * scanPage })
	users := make([]string, scanPage)
	for i := range users {
		users[i] = fmt.Sprintf("m%05d", i)
	}
	w.change(Change{Op: ChangeCreate, Group: "g", User: "m", Users: users})
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				w.groups.mu.Lock()
				w.groups.forget("g")
				w.groups.mu.Unlock()
				g, err := w.groups.get("g")
				if err != nil {
					t.Error(err)
					return
				}
				_, first := g.member("a") // on the first page of a load
				_, second := g.member("z")
				if first != second || g.Changed < last {
					t.Errorf("changed at %d after %d: a %v, z %v", g.Changed, last, first, second)
					return
				}
				last = g.Changed
			}
		})
	}
	for i := range 24 {
		w.change(Change{Op: []ChangeOp{ChangeAdd, ChangeRemove}[i%2], Group: "g", Users: []string{"a", "z"}})
	}
	close(stop)
	readers.Wait()
}

// A store that was opened again may have what the one before it only seemed to lack: nothing is taken from memory any more.
func TestGroupsAfterReopening(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	w.change(Change{Op: ChangeCreate, Group: "h", User: "anna"})
	w.group("g")
	bob := store.Record{Owner: groupOwner("g"), Key: memberPrefix + "bob", Value: member{Joined: 1, Role: RoleMember}.append(nil)}
	if err := w.store.Store.Put([]store.Record{bob}, true); err != nil {
		t.Fatal(err)
	}
	w.wantMembers("g", "anna owner 1")
	w.store.failPut(store.ErrFailed)
	w.refuse(Change{Op: ChangeAdd, Group: "h", User: "bob"}, store.ErrFailed, `"h"`)
	w.await("the store is open again", func() bool { return w.Status() == nil })
	w.wantMembers("g", "anna owner 1", "bob member 1")
	w.wantMembers("h", "anna owner 1")
	w.change(Change{Op: ChangeAdd, Group: "h", User: "bob"})
	w.wantMembers("h", "anna owner 1", "bob member 3")
}

// readFresh reads past the cache.
func readFresh(t testing.TB, w *groupWorld, name string) *group {
	t.Helper()
	g, err := readGroup(w.store.Store, name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
