package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// device is a client of a real server that is as a user's phone: it may be cut off, end and begin again, with its outbox and positions on
// disk. It notes what its handlers hear.
type device struct {
	t    *testing.T
	addr string
	opt  Options
	dir  string // of its files; "": in memory

	*Client
	files    []interface{ Close() error }
	mu       sync.Mutex
	nc       net.Conn  // guarded by mu: the latest
	heard    []Message // guarded by mu, over all its lives
	gaps     []Gap     // guarded by mu
	statuses []Status  // guarded by mu
	resumes  []Resume  // guarded by mu
}

func newDevice(t *testing.T, addr, user, name string) *device {
	return &device{t: t, addr: addr, dir: t.TempDir(), opt: Options{User: user, Device: name}}
}

// begin starts the client; it ends with the test at the latest.
func (d *device) begin() *device {
	d.t.Helper()
	opt := d.opt
	opt.Addrs = []string{d.addr}
	opt.OnMessage = func(m Message) { d.note(func() { d.heard = append(d.heard, m) }) }
	opt.OnGap = func(g Gap) { d.note(func() { d.gaps = append(d.gaps, g) }) }
	opt.OnStatus = func(s Status) { d.note(func() { d.statuses = append(d.statuses, s) }) }
	opt.OnResume = func(r Resume) { d.note(func() { d.resumes = append(d.resumes, r) }) }
	opt.uniform = func(min, _ time.Duration) time.Duration { return max(min/8, 10*time.Millisecond) }
	opt.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		d.note(func() { d.nc = nc })
		return nc, err
	}
	if d.dir != "" {
		box, err := OpenOutbox(filepath.Join(d.dir, "outbox"), OutboxOptions{})
		ok(d.t, err)
		at, err := OpenPositions(filepath.Join(d.dir, "positions"))
		ok(d.t, err)
		opt.Outbox, opt.Positions = box, at
		d.files = []interface{ Close() error }{box, at}
	}
	c, err := New(opt)
	ok(d.t, err)
	d.Client = c
	go c.Run(context.Background())
	d.t.Cleanup(d.end)
	return d
}

func (d *device) note(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// end ends the client and gives its files free.
func (d *device) end() {
	d.Client.Close()
	for _, f := range d.files {
		f.Close()
	}
	d.files = nil
}

// cut ends the connection as a network does.
func (d *device) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nc != nil {
		d.nc.Close()
	}
}

// online waits for a login.
func (d *device) online() {
	d.t.Helper()
	eventually(d.t, d.opt.User+" is online", func() bool { _, err := d.connection(); return err == nil })
}

// messages is what was heard.
func (d *device) messages() []Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.heard)
}

func (d *device) lost() []Gap {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.gaps)
}

// texts is what was heard in a channel.
func (d *device) texts(ch Channel) (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.heard {
		if m.Channel == ch {
			list = append(list, string(m.Payload))
		}
	}
	return list
}

// hears waits until what was heard in a channel is want.
func (d *device) hears(ch Channel, want ...string) {
	d.t.Helper()
	for deadline := time.Now().Add(servertest.Patience); ; <-time.After(5 * time.Millisecond) {
		got := d.texts(ch)
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || time.Now().After(deadline) {
			d.t.Fatalf("%s heard %q in %v, want %q (gaps %v, %+v)", d.opt.User, got, ch, want, d.lost(), d.Stats())
		}
	}
}

func (d *device) sends(to Channel, texts ...string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), servertest.Patience)
	defer cancel()
	for _, text := range texts {
		if r, err := d.Send(ctx, Durable(to, text)); err != nil || r.Seq == 0 {
			d.t.Fatalf("%s to %v: %+v, %v", d.opt.User, to, r, err)
		}
	}
}

func (d *device) quiet() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.gaps) > 0 {
		d.t.Errorf("%s heard of gaps: %v", d.opt.User, d.gaps)
	}
}

// status waits for news.
func (d *device) status(what string, is func(Status) bool) {
	d.t.Helper()
	eventually(d.t, d.opt.User+" hears that "+what, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.ContainsFunc(d.statuses, is)
	})
}

// onDisk is a server that keeps what it stores.
func onDisk(t *testing.T, dir, addr string) *servertest.Node {
	return servertest.Start(t, server.Options{Store: "pebble", Data: dir, Listen: addr, Loops: 2})
}

func numbered(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

// Who is offline gets everything later, once and in order, over restarts of both sides.
func TestServerOffline(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), servertest.Addr()
	n := onDisk(t, dir, addr)
	alice, bob := newDevice(t, addr, "alice", "phone").begin(), newDevice(t, addr, "bob", "phone")
	want := numbered("a", 50)
	alice.sends(User("bob"), want...)
	bob.begin().hears(User("alice"), want...)
	bob.end()
	more := numbered("b", 20)
	alice.sends(User("bob"), more...)
	ok(t, n.Stop())

	// Without a server messages wait in the outbox, also over a restart of the app.
	for _, text := range []string{"x", "y"} {
		if _, err := alice.Post(Text(User("bob"), text)); err != nil {
			t.Fatal(err)
		}
	}
	alice.end()
	onDisk(t, dir, addr)
	alice.begin()
	want = append(append(want, more...), "x", "y")
	bob.begin().hears(User("alice"), want...)
	bob.quiet()
	bob.mu.Lock()
	if r := bob.resumes; len(r) != 1 || r[0].State != Resumed || r[0].Channel.Kind != codec.KindInbox {
		t.Errorf("resumes %v", r)
	}
	bob.mu.Unlock()
	for i, m := range bob.messages() {
		if m.Seq != uint64(i+1) || !m.Durable || m.Sender != "alice" || m.Epoch == 0 {
			t.Errorf("message %d: %+v", i, m)
		}
	}
	if st := alice.Stats(); st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	// A device without files begins where it has acknowledged; one that is new where the user's others have.
	bob.end()
	bob.dir = ""
	alice.sends(User("bob"), "again")
	bob.begin().hears(User("alice"), append(want, "again")...)
}

// Sent, delivered, read; the reader's other devices hear of it, and List counts.
func TestServerReceipts(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Loops: 2})
	alice, bob := newDevice(t, n.Addr(), "alice", "phone").begin(), newDevice(t, n.Addr(), "bob", "phone").begin()
	tablet := newDevice(t, n.Addr(), "bob", "tablet").begin()
	bob.online()
	tablet.online()
	alice.online()
	ctx := t.Context()
	alice.sends(User("bob"), "one", "two", "three")
	alice.status("bob has all", func(s Status) bool {
		return s.State == Delivered && s.User == "bob" && s.Seq == 3 && s.Channel == User("bob")
	})
	bob.hears(User("alice"), "one", "two", "three")
	l, err := bob.List(ctx, 0, 10)
	if err != nil || l.Next != 0 || len(l.List) != 1 || l.List[0].Channel != User("alice") || l.List[0].Head != 3 || l.List[0].Unread != 3 || l.List[0].Time.IsZero() {
		t.Fatalf("%+v, %v", l, err)
	}
	ok(t, bob.MarkRead(User("alice"), 2))
	read := func(s Status) bool { return s.State == Read && s.User == "bob" && s.Seq == 2 }
	alice.status("bob has read two", func(s Status) bool { return read(s) && s.Channel == User("bob") })
	tablet.status("it is read", func(s Status) bool { return read(s) && s.Channel == User("alice") })
	eventually(t, "one is unread", func() bool {
		l, err := tablet.List(ctx, 0, 10)
		return err == nil && len(l.List) == 1 && l.List[0].Unread == 1 && l.List[0].Read == 2
	})
	// Who pulls the history learns how far the other is.
	alice.note(func() { alice.statuses = nil })
	if h, err := alice.Last(ctx, User("bob"), 2); err != nil || len(h.Messages) != 2 || string(h.Messages[0].Payload) != "two" || h.Next != 4 || h.Epoch == 0 {
		t.Errorf("%+v, %v", h, err)
	}
	alice.status("bob has read two", read)
}

// History in pieces; what has run out is named.
func TestServerHistory(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	alice := newDevice(t, n.Addr(), "alice", "phone").begin()
	alice.online()
	ctx := t.Context()
	if h, err := alice.Last(ctx, User("bob"), 20); err != nil || len(h.Messages) != 0 || h.Next != 1 {
		t.Errorf("empty: %+v, %v", h, err)
	}
	alice.sends(User("bob"), numbered("", 30)...)
	var got []string
	next := uint64(0)
	for range 10 {
		h, err := alice.Pull(ctx, User("bob"), next, 7)
		ok(t, err)
		if len(h.Messages) == 0 {
			break
		}
		for _, m := range h.Messages {
			got = append(got, string(m.Payload))
			if m.Channel != User("bob") || m.Sender != "alice" || m.Epoch != h.Epoch {
				t.Errorf("%+v", m)
			}
		}
		next = h.Next
	}
	if !slices.Equal(got, numbered("", 30)) || next != 31 {
		t.Errorf("%q, next %d", got, next)
	}
	short := Durable(User("bob"), "gone soon")
	short.TTL = time.Second
	if _, err := alice.Send(ctx, short); err != nil {
		t.Fatal(err)
	}
	alice.sends(User("bob"), "stays")
	eventually(t, "it has run out", func() bool {
		h, err := alice.Last(ctx, User("bob"), 3)
		return err == nil && len(h.Messages) == 2 && slices.Equal(h.Gaps, []Gap{{User("bob"), 31, 31, codec.GapExpired}})
	})
	if g := alice.lost(); len(g) != 0 {
		t.Errorf("history's gaps went to OnGap: %v", g)
	}
	_, err := alice.Pull(ctx, Group("strangers"), 1, 5)
	wantCode(t, err, codec.CodeNotFound)
	_, err = alice.Pull(ctx, User("bob"), 1, 0)
	wantCode(t, err, codec.CodeInvalid)
	_, err = alice.Pull(ctx, Channel{}, 1, 1)
	wantCode(t, err, codec.CodeInvalid)
	_, err = alice.List(ctx, 0, 0)
	wantCode(t, err, codec.CodeInvalid)
	for i := range 25 {
		alice.sends(User(fmt.Sprintf("friend-%02d", i)), "hi")
	}
	seen := map[Channel]bool{}
	for after, pages := uint64(0), 0; ; pages++ {
		l, err := alice.List(ctx, after, 10)
		ok(t, err)
		for _, conv := range l.List {
			if seen[conv.Channel] || conv.Unread != 0 {
				t.Errorf("%+v, seen %v", conv, seen[conv.Channel])
			}
			seen[conv.Channel] = true
		}
		if after = l.Next; after == 0 {
			if len(seen) != 26 || pages != 2 {
				t.Errorf("%d conversations on %d more pages", len(seen), pages)
			}
			break
		}
	}
	// More at once than the server answers at once.
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if h, err := alice.Pull(ctx, User("bob"), 1, 5); err != nil || len(h.Messages) != 5 {
				t.Errorf("%d messages, %v", len(h.Messages), err)
			}
		})
	}
	wg.Wait()
}

// Topics and all go on where they were.
func TestServerTopicsResume(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), servertest.Addr()
	n := onDisk(t, dir, addr)
	alice, bob := newDevice(t, addr, "alice", "phone").begin(), newDevice(t, addr, "bob", "phone")
	bob.begin()
	alice.online()
	bob.online()
	news, sport := Topic("news"), Topic("sport")
	subscribe := func() {
		ok(t, bob.Subscribe(t.Context(), "news"))
		ok(t, bob.Subscribe(t.Context(), "sport", "ball"))
		for i := range 200 { // far more than HELLO holds, and than the server looks up at once
			ok(t, bob.Subscribe(t.Context(), fmt.Sprintf("topic-%03d-%040d", i, i)))
		}
	}
	subscribe()
	ball := func(text string) {
		m := Durable(sport, text)
		m.Tags = []string{"ball"}
		if _, err := alice.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	round := func(name string) {
		alice.sends(news, name+"1", name+"2")
		ball(name + "b")
		alice.sends(sport, "no ball")
		alice.sends(All(), name+"all")
		alice.sends(Topic(fmt.Sprintf("topic-%03d-%040d", 199, 199)), name)
	}
	var wantNews, wantSport, wantAll, wantLast []string
	check := func(name string) {
		t.Helper()
		wantNews, wantSport = append(wantNews, name+"1", name+"2"), append(wantSport, name+"b")
		wantAll, wantLast = append(wantAll, name+"all"), append(wantLast, name)
		bob.hears(news, wantNews...)
		bob.hears(sport, wantSport...)
		bob.hears(All(), wantAll...)
		bob.hears(Topic(fmt.Sprintf("topic-%03d-%040d", 199, 199)), wantLast...)
	}
	round("live")
	check("live")
	bob.end()
	round("away")
	bob.begin()
	subscribe()
	check("away")
	ok(t, n.Stop())
	onDisk(t, dir, addr)
	alice.online()
	round("restarted")
	check("restarted")
	for _, g := range bob.lost() {
		if g.Reason != codec.GapFiltered {
			t.Errorf("gap %v", g)
		}
	}
	alice.quiet()
}

// admin calls the admin interface of a node.
func adminCall(t *testing.T, n *servertest.Node, method, path string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	ok(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.AdminAddr()+path, bytes.NewReader(b))
	ok(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A group: its changes are told, members who are away miss nothing, also while it grows beyond inboxes; who is removed hears no more.
func TestServerGroups(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Loops: 2})
	team := Group("team")
	adminCall(t, n, "POST", "/v1/groups", map[string]any{"name": "team", "owner": "alice", "members": []string{"bob", "carol"}})
	alice, bob := newDevice(t, n.Addr(), "alice", "phone").begin(), newDevice(t, n.Addr(), "bob", "phone").begin()
	bob.online()
	alice.online()
	alice.sends(team, "one", "two")
	said := func(d *device, event GroupEvent) {
		t.Helper()
		eventually(t, fmt.Sprint(d.opt.User, " hears of ", event), func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return slices.ContainsFunc(d.heard, func(m Message) bool { return m.Event == event })
		})
	}
	said(bob, GroupCreated)
	first := bob.messages()[0]
	g, err := first.Change()
	if err != nil || g.Owner != "alice" || !slices.Equal(g.Users, []string{"alice", "bob", "carol"}) || g.Role != RoleMember || g.Open || first.Event.String() != "created" {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := (Message{}).Change(); err == nil {
		t.Error("a message that tells no change was read")
	}
	words := func(d *device) (list []string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, m := range d.heard {
			if m.Channel == team && m.Event == 0 {
				list = append(list, string(m.Payload))
			}
		}
		return list
	}
	hears := func(d *device, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprint(d.opt.User, " hears ", want), func() bool { return slices.Equal(words(d), want) })
	}
	hears(bob, "one", "two")
	bob.end()
	var many []string
	for i := range 600 {
		many = append(many, fmt.Sprint("user-", i))
	}
	alice.sends(team, "three")
	for part := range slices.Chunk(many, 300) {
		adminCall(t, n, "POST", "/v1/groups/team/members", map[string]any{"users": part})
		alice.sends(team, "with "+part[0])
	}
	bob.begin()
	hears(bob, "one", "two", "three", "with user-0", "with user-300")
	said(bob, GroupGrown)
	bob.online()
	for range 3 { // now from the group's own log
		bob.end()
		alice.sends(team, "away")
		bob.begin()
		bob.online()
		alice.sends(team, "here")
	}
	hears(bob, "one", "two", "three", "with user-0", "with user-300", "away", "here", "away", "here", "away", "here")
	adminCall(t, n, "DELETE", "/v1/groups/team/members/bob", map[string]any{})
	said(bob, GroupRemoved)
	alice.sends(team, "without bob")
	_, err = bob.Send(t.Context(), Durable(team, "let me in"))
	var refused *CodeError
	if !errors.As(err, &refused) || refused.Temporary() {
		t.Errorf("%v", err)
	}
	_, err = bob.Pull(t.Context(), team, 1, 10)
	wantCode(t, err, codec.CodeNotFound)
	if w := words(bob); slices.Contains(w, "without bob") {
		t.Errorf("%q", w)
	}
	bob.quiet()
	alice.quiet()
}

// Another store under the same address: positions are void, the app hears so, and messages flow.
func TestServerReset(t *testing.T) {
	t.Parallel()
	addr := servertest.Addr()
	n := onDisk(t, t.TempDir(), addr)
	alice, bob := newDevice(t, addr, "alice", "phone").begin(), newDevice(t, addr, "bob", "phone").begin()
	ok(t, bob.Subscribe(t.Context(), "news"))
	bob.online()
	alice.sends(User("bob"), "one", "two")
	alice.sends(Topic("news"), "old")
	bob.hears(User("alice"), "one", "two")
	bob.hears(Topic("news"), "old")
	ok(t, n.Stop())
	n = onDisk(t, t.TempDir(), addr)
	bob.online()
	alice.online()
	eventually(t, "the topic is there again", func() bool { return n.Stats().Subscriptions == 1 })
	alice.sends(User("bob"), "three")
	alice.sends(Topic("news"), "new")
	bob.hears(User("alice"), "one", "two", "three")
	bob.hears(Topic("news"), "old", "new")
	bob.mu.Lock()
	defer bob.mu.Unlock()
	for _, ch := range []Channel{{}, Topic("news")} {
		if !slices.ContainsFunc(bob.resumes, func(r Resume) bool { return r.Channel == ch && r.State == Reset }) {
			t.Errorf("no reset of %v: %v", ch, bob.resumes)
		}
	}
	if m := bob.heard[len(bob.heard)-1]; m.Seq != 1 || m.Epoch == bob.heard[0].Epoch {
		t.Errorf("%+v", m)
	}
}

// Both talk at once, as fast as they can, and both connections fail all the time, as do the apps and the server: everything arrives once and in
// order, and nothing is pulled that need not be.
func TestServerEverythingFails(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	dir, addr := t.TempDir(), servertest.Addr()
	n := onDisk(t, dir, addr)
	users := []string{"alice", "bob", "carol"}
	devices := map[string]*device{}
	for _, u := range users {
		devices[u] = newDevice(t, addr, u, "phone").begin()
		devices[u].online()
	}
	const total = 300
	posted := map[string]int{}
	adminCall(t, n, "POST", "/v1/groups", map[string]any{"name": "team", "owner": "alice", "members": users})
	targets := func(user string) (list []Channel) {
		for _, u := range users {
			if u != user {
				list = append(list, User(u))
			}
		}
		return append(list, Group("team"))
	}
	for step := range total {
		for _, u := range users {
			for _, to := range targets(u) {
				if _, err := devices[u].Post(Text(to, fmt.Sprint(u, " ", step))); err != nil {
					t.Fatal(err)
				}
			}
			posted[u]++
		}
		if rng.IntN(4) == 0 {
			<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		switch d := devices[users[rng.IntN(3)]]; rng.IntN(40) {
		case 0, 1, 2, 3:
			d.cut()
		case 4, 5:
			d.end()
			d.begin()
		case 6:
			ok(t, n.Stop())
			n = onDisk(t, dir, addr)
		}
	}
	for _, u := range users {
		d := devices[u]
		for _, from := range users {
			if from == u {
				continue
			}
			d.hears(User(from), numbered(from+" ", total)...)
			eventually(t, fmt.Sprint(u, " hears all of ", from, " in the group"), func() bool {
				return slices.Equal(d.groupWords(from), numbered(from+" ", total))
			})
		}
		d.quiet()
		if st := d.Stats(); st.Pulls > 20 {
			t.Errorf("%s: %+v", u, st)
		}
	}
	for _, u := range users {
		eventually(t, u+" has nothing left to send", func() bool { return devices[u].Stats().Waiting == 0 })
	}
}

// groupWords is what one user said in the group.
func (d *device) groupWords(from string) (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.heard {
		if m.Channel == Group("team") && m.Event == 0 && m.Sender == from {
			list = append(list, string(m.Payload))
		}
	}
	return list
}
