package durable

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
	"gannet/store/memory"
)

func ptr[T any](v T) *T { return &v }

// wantLines compares what was told since the last time.
func (w *groupWorld) wantLines(what string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.ear.take(); !slices.Equal(got, want) {
		w.t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// wantMembers compares members, roles and where they joined.
func (w *groupWorld) wantMembers(name string, want ...string) {
	w.t.Helper()
	var got []string
	for _, m := range w.group(name).all() {
		got = append(got, fmt.Sprint(m.User, " ", m.Role, " ", m.Joined))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("members of %q: %q, want %q", name, got, want)
	}
}

func TestChanges(t *testing.T) {
	w := newGroupWorld(t)
	r := w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob", "anna"}, By: "desk"})
	if r != (ChangeResult{Seq: 1, Members: 2}) {
		t.Errorf("created: %+v", r)
	}
	w.wantMembers("g", "anna owner 1", "bob member 1")
	w.wantLines("created", "inbox@1 anna 1", "inbox@1 bob 1")
	r = w.change(Change{Op: ChangeAdd, Group: "g", Users: []string{"carl"}, Role: RoleAdmin})
	if r != (ChangeResult{Seq: 2, Members: 3}) {
		t.Errorf("added: %+v", r)
	}
	w.wantLines("added", "inbox@2 anna 2", "inbox@2 bob 2", "inbox@2 carl 2")
	w.change(Change{Op: ChangeRole, Group: "g", User: "bob", Role: RoleOwner})
	w.wantLines("role", "inbox@3 anna 3", "inbox@3 bob 3", "inbox@3 carl 3")
	w.change(Change{Op: ChangeRemove, Group: "g", Users: []string{"anna", "nobody"}})
	w.wantMembers("g", "bob owner 1", "carl admin 2")
	w.wantLines("removed: to her the last word, without a place", "user anna 4", "inbox@4 bob 4", "inbox@4 carl 4")
	w.change(Change{Op: ChangePolicy, Group: "g", Post: RoleAdmin, Open: ptr(true)})
	w.wantLines("policy", "inbox@5 bob 5", "inbox@5 carl 5")
	if g := w.group("g"); g.Post != RoleAdmin || !g.Open || g.Since != 1 || g.Changed != 5 || g.Created != groupsNow || g.Large {
		t.Errorf("%+v", g)
	}
	w.change(Change{Op: ChangeAdd, Group: "g", User: "anna"})
	w.wantMembers("g", "anna member 6", "bob owner 1", "carl admin 2")
	w.ear.take()
	r = w.change(Change{Op: ChangeDelete, Group: "g"})
	if r != (ChangeResult{Seq: 7}) {
		t.Errorf("deleted: %+v", r)
	}
	w.wantLines("deleted", "user anna 7", "user bob 7", "user carl 7")
	if g, err := w.groups.get("g"); g != nil || err != nil {
		t.Errorf("deleted and still %+v, %v", g, err)
	}
	r = w.change(Change{Op: ChangeCreate, Group: "g", User: "dora", Open: ptr(true)})
	if r.Seq != 8 {
		t.Errorf("made anew it goes on at %d", r.Seq)
	}
	if from, _ := w.group("g").readableFrom("dora"); from != 8 {
		t.Errorf("an open group made anew can be read from %d, before its time", from)
	}
	if got, want := w.refs("anna"), []string{"g 1", "g 2", "g 3", "g 6"}; !slices.Equal(got, want) {
		t.Errorf("anna's inbox refers to %q, want %q", got, want)
	}
}

// Asking again for what is so writes nothing; neither does what is refused.
func TestChangesAgain(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob"}})
	w.change(Change{Op: ChangeAdd, Group: "g", User: "carl", Role: RoleAdmin})
	w.ear.take()
	before := w.group("g")
	for _, ch := range []Change{
		{Op: ChangeAdd, Users: []string{"carl", "bob"}},
		{Op: ChangeAdd, User: "carl", Role: RoleAdmin},
		{Op: ChangeAdd, User: "anna", Role: RoleOwner},
		{Op: ChangeAdd, User: "anna"}, // an owner stays one
		{Op: ChangeRemove, Users: []string{"dora", "emil"}},
		{Op: ChangeRole, User: "bob", Role: RoleMember},
		{Op: ChangePolicy, Post: RoleMember},
		{Op: ChangePolicy, Open: ptr(false)},
	} {
		ch.Group = "g"
		if r := w.change(ch); r != (ChangeResult{Members: 3}) {
			t.Errorf("%+v: %+v", ch, r)
		}
	}
	for _, c := range []struct {
		ch   Change
		want error
		says string
	}{
		{Change{Op: ChangeCreate, User: "anna"}, ErrConflict, `"g" exists`},
		{Change{Op: ChangeRemove, User: "anna"}, ErrConflict, "no owner"},
		{Change{Op: ChangeRemove, Users: []string{"anna", "bob", "carl"}}, ErrConflict, "no owner"},
		{Change{Op: ChangeRole, User: "anna", Role: RoleAdmin}, ErrConflict, "no owner"},
		{Change{Op: ChangeAdd, User: "anna", Users: []string{"dora"}, Role: RoleMember}, ErrConflict, "no owner"},
		{Change{Op: ChangeRole, Users: []string{"bob", "nobody"}, Role: RoleAdmin}, ErrNotFound, `"nobody"`},
	} {
		c.ch.Group = "g"
		w.refuse(c.ch, c.want, c.says)
	}
	for _, op := range []ChangeOp{ChangeDelete, ChangeAdd, ChangeRemove, ChangeRole, ChangePolicy} {
		w.refuse(Change{Op: op, Group: "h", User: "anna", Role: RoleAdmin, Post: RoleAdmin}, ErrNotFound, `"h"`)
	}
	if w.group("g") != before || len(w.entries("g")) != 2 || len(w.ear.take()) != 0 {
		t.Error("something was changed or told")
	}
}

func TestInvalidChanges(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	for name, ch := range map[string]Change{
		"no operation":         {Group: "g"},
		"unknown operation":    {Op: ChangePolicy + 1, Group: "g"},
		"no group":             {Op: ChangeDelete},
		"long group":           {Op: ChangeCreate, Group: strings.Repeat("g", codec.MaxID+1), User: "anna"},
		"control in group":     {Op: ChangeCreate, Group: "a\x1fb", User: "anna"},
		"group not UTF-8":      {Op: ChangeCreate, Group: "\xff", User: "anna"},
		"no owner":             {Op: ChangeCreate, Group: "h", Users: []string{"anna"}},
		"invalid owner":        {Op: ChangeCreate, Group: "h", User: "a\n"},
		"invalid member":       {Op: ChangeCreate, Group: "h", User: "anna", Users: []string{"bob", ""}},
		"invalid by":           {Op: ChangeAdd, Group: "g", User: "bob", By: "\x00"},
		"nobody to add":        {Op: ChangeAdd, Group: "g"},
		"nobody to remove":     {Op: ChangeRemove, Group: "g"},
		"nobody to promote":    {Op: ChangeRole, Group: "g", Role: RoleAdmin},
		"no role":              {Op: ChangeRole, Group: "g", User: "anna"},
		"unknown role":         {Op: ChangeAdd, Group: "g", User: "bob", Role: 4},
		"long user":            {Op: ChangeAdd, Group: "g", User: strings.Repeat("u", codec.MaxID+1)},
		"no policy":            {Op: ChangePolicy, Group: "g"},
		"unknown post":         {Op: ChangePolicy, Group: "g", Post: 4},
		"too many users":       {Op: ChangeAdd, Group: "g", Users: slices.Repeat([]string{"u"}, maxChangeUsers+1)},
		"too many with owners": {Op: ChangeCreate, Group: "h", User: "anna", Users: slices.Repeat([]string{"u"}, maxChangeUsers)},
	} {
		if _, err := w.Change(t.Context(), ch); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.entries("g")) != 1 || len(w.entries("h")) != 0 {
		t.Error("an invalid change left an entry")
	}
}

func TestBoundsOfGroups(t *testing.T) {
	w := newGroupWorld(t)
	var full []store.Record
	for i := range maxGroupsPerUser {
		full = append(full, store.Record{Owner: userGroupsOwner("busy"), Key: fmt.Sprintf("g%04d", i), Value: []byte{}})
	}
	if err := w.store.Put(full, true); err != nil {
		t.Fatal(err)
	}
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	w.refuse(Change{Op: ChangeAdd, Group: "g", Users: []string{"bob", "busy"}}, ErrConflict, `"busy" is in 1000 groups`)
	w.refuse(Change{Op: ChangeCreate, Group: "h", User: "busy"}, ErrConflict, `"busy" is in 1000 groups`)
	w.wantMembers("g", "anna owner 1")
	if names, err := w.GroupsOf("busy"); len(names) != maxGroupsPerUser || names[0] != "g0000" || err != nil {
		t.Errorf("%d groups, %v", len(names), err)
	}
	w.groups.most = 2*scanPage + 7
	users := make([]string, w.groups.most)
	for i := range users {
		users[i] = fmt.Sprintf("u%06d", i)
	}
	w.refuse(Change{Op: ChangeAdd, Group: "g", Users: users}, ErrConflict, "2008 members, the most is 2007")
	w.change(Change{Op: ChangeAdd, Group: "g", Users: users[1:]})
	w.refuse(Change{Op: ChangeAdd, Group: "g", Users: users[:1]}, ErrConflict, "2008 members, the most is 2007")
	w.refuse(Change{Op: ChangeCreate, Group: "h", User: "x", Users: users}, ErrConflict, "2008 members, the most is 2007")
	w.change(Change{Op: ChangeAdd, Group: "g", Users: users[1:2], Role: RoleAdmin})
	if g := w.group("g"); len(g.all()) != w.groups.most || !reflect.DeepEqual(readFresh(t, w, "g"), g) {
		t.Errorf("%d members, or others are stored", len(g.all()))
	}
	w.change(Change{Op: ChangeDelete, Group: "g"})
	if left, err := w.store.Scan(groupOwner("g"), "", 10); len(left) != 1 || left[0].Key != metaKey || err != nil {
		t.Errorf("left of it: %q, %v", left, err)
	}
}

// A group that grows over the limit loses nothing for who is offline: the last reference in the old members' inboxes is the entry
// that says where its log takes over. Who is here goes on from there.
func TestGrowth(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob", "carl", "dora"}})
	w.ear.take()
	r := w.change(Change{Op: ChangeAdd, Group: "g", Users: []string{"emil", "fred", "bob"}, Role: RoleAdmin})
	if r != (ChangeResult{Seq: 4, Members: 6}) {
		t.Errorf("%+v", r)
	}
	if g := w.group("g"); !g.Large || g.LargeFrom != 2 || g.Changed != 4 {
		t.Errorf("%+v", g)
	}
	w.wantMembers("g", "anna owner 1", "bob admin 1", "carl member 1", "dora member 1", "emil admin 3", "fred admin 3")
	var got []string
	for _, e := range w.entries("g") {
		got = append(got, fmt.Sprintf("%s %x %q", e.says.Event, e.Flags, e.says.Users))
	}
	if want := []string{`created 1 ["anna" "bob" "carl" "dora"]`, `grown 1 []`, `added 9 ["emil" "fred"]`, `role 9 ["bob"]`}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	for _, u := range []string{"anna", "bob", "carl", "dora"} {
		if got, want := w.refs(u), []string{"g 1", "g 2"}; !slices.Equal(got, want) {
			t.Errorf("the inbox of %s refers to %q, want %q", u, got, want)
		}
	}
	if got := w.refs("emil"); len(got) != 0 {
		t.Errorf("the inbox of emil, who joined a large group, refers to %q", got)
	}
	all := []string{"anna", "bob", "carl", "dora", "emil", "fred"}
	var want []string
	for _, u := range all {
		want = append(want, "join "+u+" 2", "room "+u+" 3", "room "+u+" 4")
	}
	w.wantLines("grown", append(want, "inbox@2 anna 2", "inbox@2 bob 2", "inbox@2 carl 2", "inbox@2 dora 2")...)

	w.change(Change{Op: ChangeRemove, Group: "g", Users: []string{"bob", "carl", "dora", "emil"}})
	want = []string{"leave bob", "leave carl", "leave dora", "leave emil"}
	for _, u := range all {
		want = append(want, "room "+u+" 5")
	}
	w.wantLines("removed: they hear of it, then no more", want...)
	if g := w.group("g"); !g.Large || g.LargeFrom != 2 || len(g.all()) != 2 {
		t.Errorf("it stays large: %+v", g)
	}
	w.change(Change{Op: ChangeAdd, Group: "g", User: "bob"})
	w.wantLines("added to a large one", "join bob 5", "room bob 6", "room anna 6", "room fred 6")
	w.change(Change{Op: ChangeDelete, Group: "g"})
	w.wantLines("deleted", "room anna 7", "room bob 7", "room fred 7", "leave anna", "leave bob", "leave fred")
	if got := w.refs("bob"); len(got) != 2 {
		t.Errorf("the inbox of bob refers to %q", got)
	}
}

func TestCreatedLarge(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	w.change(Change{Op: ChangeDelete, Group: "g"})
	w.ear.take()
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"b", "c", "d", "e"}, Role: RoleAdmin, Post: RoleAdmin})
	if g := w.group("g"); !g.Large || g.LargeFrom != 2 || g.Since != 3 || g.Post != RoleAdmin {
		t.Errorf("%+v", g)
	}
	w.wantMembers("g", "anna owner 3", "b admin 3", "c admin 3", "d admin 3", "e admin 3")
	w.wantLines("created", "join anna 2", "join b 2", "join c 2", "join d 2", "join e 2",
		"room anna 3", "room b 3", "room c 3", "room d 3", "room e 3")
	if e := w.entries("g")[2]; e.Flags != codec.MsgDurable|codec.MsgLog {
		t.Errorf("flags %x", e.Flags)
	}
	if got := w.refs("b"); len(got) != 0 {
		t.Errorf("an inbox refers to %q", got)
	}
}

// A small group over a limit that was lowered grows with the next who joins, not with anything else.
func TestGrowthAfterTheLimitWasLowered(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob", "carl"}})
	w = groupWorldOn(t, w.store.Store, func(o *Options) { o.InboxFanout = 2 })
	w.change(Change{Op: ChangeRole, Group: "g", User: "bob", Role: RoleAdmin})
	w.wantLines("role", "inbox@2 anna 2", "inbox@2 bob 2", "inbox@2 carl 2")
	w.change(Change{Op: ChangeAdd, Group: "g", User: "dora"})
	if g := w.group("g"); !g.Large || g.LargeFrom != 3 {
		t.Errorf("%+v", g)
	}
}

// Joining makes the conversation, read up to there; leaving ends it.
func TestConversationsOfMembers(t *testing.T) {
	w := newGroupWorld(t)
	conv := func(user string) string {
		v, err := w.store.Get(convOwner(user), convKey(codec.KindGroup, "g"))
		if v == nil || err != nil {
			return fmt.Sprint("none ", err)
		}
		c, err := readConv(v)
		return fmt.Sprint(c, err)
	}
	want := func(user, as string) {
		t.Helper()
		if got := conv(user); got != as {
			t.Errorf("conversation of %s: %s, want %s", user, got, as)
		}
	}
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob", "carl"}})
	w.change(Change{Op: ChangePolicy, Group: "g", Post: RoleAdmin})
	w.change(Change{Op: ChangeAdd, Group: "g", User: "dora"})
	want("anna", "{1 1} <nil>")
	want("dora", "{3 3} <nil>")
	w.change(Change{Op: ChangeRemove, Group: "g", User: "bob"})
	want("bob", "none <nil>")
	w.change(Change{Op: ChangeAdd, Group: "g", Users: []string{"bob", "emil"}})
	want("bob", "{6 6} <nil>") // grown, added
	w.change(Change{Op: ChangeDelete, Group: "g"})
	want("anna", "none <nil>")
}

// What a device said before its user left and came back is not laid over the place where he joined again.
func TestReadPositionOfWhoComesBack(t *testing.T) {
	w := newGroupWorld(t)
	position := func() convRecord {
		rec, _, err := w.conv("bob", codec.KindGroup, "g")
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: []string{"bob"}})
	w.change(Change{Op: ChangePolicy, Group: "g", Open: ptr(true)})
	w.Mark([]shard.Mark{{User: "bob", Device: "d", Mode: codec.AckRead, Kind: codec.KindGroup, Name: "g", Seq: 2}})
	want := string(convRecord{2, 2}.append(nil))
	w.await("it is written that bob read up to 2", func() bool {
		v, err := w.store.Get(convOwner("bob"), convKey(codec.KindGroup, "g"))
		return err == nil && string(v) == want
	})
	w.change(Change{Op: ChangeRemove, Group: "g", User: "bob"})
	w.change(Change{Op: ChangePolicy, Group: "g", Post: RoleAdmin})
	w.change(Change{Op: ChangeAdd, Group: "g", User: "bob"})
	if got := position(); got != (convRecord{5, 5}) {
		t.Errorf("bob came back at 5, and is at %+v", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = groupWorldOn(t, w.store.Store)
	if got := position(); got != (convRecord{5, 5}) {
		t.Errorf("bob came back at 5, and after a restart is at %+v", got)
	}
}

// A failure between the entry and the records: the change was not acknowledged, it is not made, and the same again makes it. Who is here has
// heard what the log says.
func TestFailureBetweenEntryAndRecords(t *testing.T) {
	for _, large := range []bool{false, true} {
		users := []string{"bob", "carl"}
		if large {
			users = []string{"bob", "carl", "dora", "emil", "fred"}
		}
		for name, ch := range map[string]Change{
			"add":    {Op: ChangeAdd, User: "gerd", Users: []string{"hans"}},
			"remove": {Op: ChangeRemove, Users: []string{"bob"}},
			"role":   {Op: ChangeRole, User: "bob", Role: RoleOwner},
			"policy": {Op: ChangePolicy, Post: RoleOwner},
			"delete": {Op: ChangeDelete},
			"create": {Op: ChangeCreate, User: "xaver", Users: []string{"zoe"}},
		} {
			w := newGroupWorld(t)
			w.change(Change{Op: ChangeCreate, Group: "g", User: "anna", Users: users})
			ch.Group = "g"
			if ch.Op == ChangeCreate {
				ch.Group = "h"
			}
			before, _ := w.groups.get(ch.Group)
			w.ear.take()
			broken := errors.New("input/output error")
			w.store.failPut(broken)
			if _, err := w.Change(t.Context(), ch); !errors.Is(err, broken) {
				t.Fatalf("%s: %v", name, err)
			}
			if after, err := w.groups.get(ch.Group); !reflect.DeepEqual(after, before) || err != nil {
				t.Errorf("%s: not written and yet %+v", name, after)
			}
			for _, line := range w.ear.take() {
				if strings.HasPrefix(line, "join") || strings.HasPrefix(line, "leave") || strings.Contains(line, "gerd") || strings.Contains(line, "zoe") {
					t.Errorf("%s: told %q", name, line)
				}
			}
			again := groupWorldOn(t, w.store.Store) // after a crash
			first := len(again.entries(ch.Group))
			again.change(ch)
			if n := len(again.entries(ch.Group)); n <= first {
				t.Errorf("%s: the same again wrote no entry", name)
			}
			after, _ := again.groups.get(ch.Group)
			if after == nil != (ch.Op == ChangeDelete) || reflect.DeepEqual(after, before) {
				t.Errorf("%s: again, and now %+v", name, after)
			}
		}
	}
}

func TestChangeGivenUp(t *testing.T) {
	w := newGroupWorld(t)
	w.groups.turn <- struct{}{} // another change that does not end
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Change(ctx, Change{Op: ChangeCreate, Group: "g", User: "anna"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-w.groups.turn
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
}

// A plan is of a group as it was; when another change came between it is not carried out.
func TestChangeOvertaken(t *testing.T) {
	w := newGroupWorld(t)
	w.change(Change{Op: ChangeCreate, Group: "g", User: "anna"})
	p, err := w.plan(Change{Op: ChangeAdd, Group: "g", By: "n"}, []string{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	w.change(Change{Op: ChangeAdd, Group: "g", User: "carl"})
	if err := w.do(t.Context(), p.carryOut); !errors.Is(err, errMoved) {
		t.Errorf("got %v", err)
	}
	w.wantMembers("g", "anna owner 1", "carl member 2")
}

func TestGroupForAdmin(t *testing.T) {
	w := newGroupWorld(t, func(o *Options) { o.InboxFanout = 3 })
	w.change(Change{Op: ChangeCreate, Group: "g", User: "b", Users: []string{"d", "f", "h"}, Open: ptr(true)})
	w.change(Change{Op: ChangeCreate, Group: "f", User: "b"})
	for _, c := range []struct {
		after string
		limit int
		users string
		more  bool
	}{
		{"", 10, "bdfh", false}, {"", 2, "bd", true}, {"b", 2, "df", true}, {"c", 2, "df", true}, {"d", 2, "fh", false}, {"h", 2, "", false}, {"x", 2, "", false}, {"", 0, "", true},
	} {
		info, err := w.Group("g", c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var users string
		for _, m := range info.Page {
			users += m.User
		}
		if users != c.users || info.More != c.more {
			t.Errorf("%d after %q: %q, more %v, want %q, %v", c.limit, c.after, users, info.More, c.users, c.more)
		}
		if info.Page = nil; !reflect.DeepEqual(info, GroupInfo{Name: "g", Post: RoleMember, Open: true, Large: true, Since: 1, Head: 1, Created: groupsNow, Members: 4, More: c.more}) {
			t.Errorf("%+v", info)
		}
	}
	if _, err := w.Group("h", "", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if names, err := w.GroupsOf("b"); !slices.Equal(names, []string{"f", "g"}) || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := w.GroupsOf("x"); len(names) != 0 || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

// Many users need many entries, all of them written at once; each fits the smallest frame a server may be told to allow.
func TestLongEntries(t *testing.T) {
	for name, user := range map[string]func(int) string{
		"short":   func(i int) string { return strconv.Itoa(i) },
		"long":    func(i int) string { return fmt.Sprintf("%064d", i) },
		"escaped": func(i int) string { return strings.Repeat("<", 59) + fmt.Sprintf("%05d", i) },
		"quotes":  func(i int) string { return strings.Repeat(`"`, 59) + fmt.Sprintf("%05d", i) },
	} {
		w := groupWorldOn(t, memory.New(memory.Options{}))
		users := make([]string, 1200)
		for i := range users {
			users[i] = user(i)
		}
		half := len(users) / 2
		long := strings.Repeat("<", codec.MaxID)
		w.change(Change{Op: ChangeCreate, Group: long, User: long, Users: users[:half], By: long, Post: RoleMember, Open: ptr(false), Role: RoleMember})
		w.change(Change{Op: ChangeAdd, Group: long, Users: users[half:], By: long})
		w.change(Change{Op: ChangeRemove, Group: long, Users: users[1:], By: long})
		g := w.group(long)
		entries := w.entries(long) // none over the limit, or this fails
		told, _ := w.replay(long)
		if len(g.all()) != 2 || len(told) != 2 || told[users[0]] != RoleMember || told[long] != RoleOwner {
			t.Errorf("%s: %d members, the entries tell %d", name, len(g.all()), len(told))
		}
		if m, _ := g.member(users[0]); m.Joined != 1 {
			t.Errorf("%s: joined at %d", name, m.Joined)
		}
		most, created := 0, 0
		for _, e := range entries {
			most = max(most, len(e.says.Users))
			if e.event == eventCreated {
				created++
			}
		}
		if most > eventUsers || name == "short" && most != eventUsers || name == "long" && most > 50 || created != 1 || len(entries) < 6 {
			t.Errorf("%s: %d entries, up to %d users, %d creations", name, len(entries), most, created)
		}
	}
}
