package shard

import (
	"cmp"
	"slices"
	"strings"

	"gannet/codec"
	"gannet/store"
	"gannet/store/memory"
)

// modelLog is a Log over a store in memory. Submit, Read and Mark only collect: commits and answers come when the test
// says so, or with auto whenever the world runs. Answers go the way they go on a server, through a Courier and Node.Served.
type modelLog struct {
	w       *world
	store   store.Store
	courier *Courier
	auto    bool

	// What it takes, −1 everything; the rest is refused.
	roomEntries, roomReads, roomMarks int

	late  bool     // what is stored is brought to the shards by a later step of work, in its order
	queue []func() // what is to be brought

	failing codec.Code // commits store nothing and answer this
	broken  codec.Code // reads answer this

	entries []Entry
	reads   []*Read
	marks   []Mark // taken so far
	looked  int    // of marks, by taken
	groups  map[string]*modelGroup
	refused map[SessionRef]Answer // the lowest nonce that was refused for now
}

// modelGroup is a group; its members are mapped to the seq with which they joined.
type modelGroup struct {
	large bool
	from  uint64 // large: what is above this seq is in no inbox
	users map[string]uint64
}

// newLogWorld makes a world with a log that answers at once.
func newLogWorld(t tb, shards int, mutate ...func(*Config)) *world {
	l := &modelLog{
		store: memory.New(memory.Options{}), auto: true, roomEntries: -1, roomReads: -1, roomMarks: -1,
		groups: map[string]*modelGroup{}, refused: map[SessionRef]Answer{},
	}
	w := newWorld(t, shards, append([]func(*Config){func(c *Config) { c.Log = l }}, mutate...)...)
	w.log, l.w, l.courier = l, w, w.node.NewCourier()
	return w
}

// take says how many of n things are taken, and what room is left.
func take(room *int, n int) int {
	if *room < 0 {
		return n
	}
	n = min(n, *room)
	*room -= n
	return n
}

func (l *modelLog) Submit(entries []Entry) int {
	n := take(&l.roomEntries, len(entries))
	l.entries = append(l.entries, entries[:n]...)
	return n
}

func (l *modelLog) Read(reads []*Read) int {
	n := take(&l.roomReads, len(reads))
	l.reads = append(l.reads, reads[:n]...)
	return n
}

func (l *modelLog) Mark(marks []Mark) int {
	n := take(&l.roomMarks, len(marks))
	l.marks = append(l.marks, marks[:n]...)
	return n
}

func (l *modelLog) Epoch() uint64 { return l.store.Epoch() }

// work does a part of what waits, drawn by the world; false when nothing does.
func (l *modelLog) work() bool {
	switch {
	case len(l.queue) > 0 && (!l.auto || len(l.entries)+len(l.reads) == 0 || l.w.rng.IntN(3) == 0):
		l.queue[0]()
		l.queue = l.queue[1:]
	case !l.auto || len(l.entries)+len(l.reads) == 0:
		return false
	case len(l.reads) == 0 || len(l.entries) > 0 && l.w.rng.IntN(2) == 0:
		l.commit(1 + l.w.rng.IntN(len(l.entries)))
	default:
		l.serve(1 + l.w.rng.IntN(len(l.reads)))
	}
	return true
}

// commit stores the n oldest entries, −1 all of them, in one batch, delivers and answers.
func (l *modelLog) commit(n int) {
	if n < 0 || n > len(l.entries) {
		n = len(l.entries)
	}
	if n == 0 {
		return
	}
	entries := l.entries[:n]
	l.entries = l.entries[n:]
	batch, results := []store.Message{}, make([]store.Result, n)
	at, codes := make([]int, n), make([]codec.Code, n)
	for i := range entries {
		e := &entries[i]
		if codes[i] = l.judge(e); codes[i] == codec.CodeOK && e.Flags&codec.MsgDurable != 0 {
			at[i] = len(batch)
			batch = append(batch, l.message(e))
		}
	}
	if len(batch) > 0 {
		if err := l.store.Append(batch, results[:len(batch)]); err != nil {
			l.w.t.Fatalf("appending: %v", err)
		}
	}
	l.then(func() {
		l.deliver(entries, codes, at, batch, results)
		l.send()
	})
}

// then does now or later what comes behind storing.
func (l *modelLog) then(f func()) {
	if l.late {
		l.queue = append(l.queue, f)
	} else {
		f()
	}
}

// deliver gives a commit to the courier.
func (l *modelLog) deliver(entries []Entry, codes []codec.Code, at []int, batch []store.Message, results []store.Result) {
	for i := range entries {
		e := &entries[i]
		a := Answer{Ref: e.Ref, Nonce: e.Nonce, Req: e.Req, Code: codes[i], Time: 7}
		switch {
		case codes[i] != codec.CodeOK:
		case e.Flags&codec.MsgDurable == 0:
			l.pass(e)
		default:
			r := results[at[i]]
			if a.Code, a.Seq, a.Pos = r.Code, r.Seq, r.Pos; a.Code == codec.CodeOK {
				l.bring(&batch[at[i]], r, e.Born, e.Ref)
			}
		}
		l.courier.Answer(a)
	}
}

// judge says whether an entry is stored.
func (l *modelLog) judge(e *Entry) codec.Code {
	if before, ok := l.refused[e.Ref]; ok && e.Nonce != 0 {
		if e.Nonce > before.Nonce {
			return before.Code
		}
		delete(l.refused, e.Ref)
	}
	code := l.failing
	if g := l.groups[string(e.Name())]; e.Kind == codec.KindGroup && code == codec.CodeOK {
		if g == nil {
			code = codec.CodeNotFound
		} else if _, ok := g.users[string(e.Sender())]; !ok {
			code = codec.CodeForbidden
		}
	}
	if before, ok := l.refused[e.Ref]; code.Temporary() && e.Nonce != 0 && (!ok || e.Nonce < before.Nonce) {
		l.refused[e.Ref] = Answer{Nonce: e.Nonce, Code: code}
	}
	return code
}

func (l *modelLog) message(e *Entry) store.Message {
	m := store.Message{
		Kind: e.Kind, Name: e.Name(), User: e.Sender(), Device: e.Device(), Nonce: e.Nonce,
		Time: l.w.clock.UnixMilli(), Frame: e.Frame(), Inbox: l.inboxes(e.Kind, e.Name()),
	}
	if m.Inbox == nil {
		m.Frame[e.FlagsAt()] |= codec.MsgLog
	}
	return m
}

// inboxes is whose inbox gets a reference; nil: it is read from the channel's own log.
func (l *modelLog) inboxes(kind codec.Kind, name []byte) (users [][]byte) {
	switch kind {
	case codec.KindDirect:
		a, b, _ := codec.SplitPair(name)
		return [][]byte{a, b}
	case codec.KindGroup:
		if g := l.groups[string(name)]; !g.large {
			return g.sorted()
		}
	}
	return nil
}

func (g *modelGroup) sorted() [][]byte {
	users := [][]byte{}
	for u := range g.users {
		users = append(users, []byte(u))
	}
	slices.SortFunc(users, func(a, b []byte) int { return cmp.Compare(string(a), string(b)) })
	return users
}

// bring gives a stored message to the courier.
func (l *modelLog) bring(m *store.Message, r store.Result, born int64, sender SessionRef) {
	if m.Inbox == nil {
		l.courier.Room(m.Kind, m.Name, r.Seq, m.Frame, born)
	}
	if m.Kind == codec.KindGroup {
		sender = 0 // a group's message goes to the session that sent it too
	}
	for i, u := range m.Inbox {
		if i == 0 || string(u) != string(m.Inbox[0]) {
			l.courier.Inbox(u, r.Pos, m.Frame, born, sender)
		}
	}
}

// pass gives an ephemeral message of a group to the courier.
func (l *modelLog) pass(e *Entry) {
	g := l.groups[string(e.Name())]
	if g.large {
		l.courier.Room(e.Kind, e.Name(), 0, e.Frame(), e.Born)
		return
	}
	for _, u := range g.sorted() {
		l.courier.User(u, e.Frame(), e.Born, 0)
	}
}

// post stores a message that comes from no session, for what was said before a test begins; it is delivered as any other.
func (l *modelLog) post(kind codec.Kind, name, sender, payload string, tags ...string) (seq uint64) {
	if kind == codec.KindDirect {
		name = string(codec.AppendPair(nil, []byte(sender), []byte(name)))
	}
	e := NewEntry(codec.Msg{
		Ext: routes(tags...), Flags: codec.MsgDurable, Kind: kind, Name: []byte(name), Sender: []byte(sender), Payload: []byte(payload),
	}, l.w.clock.ns)
	m := l.message(&e)
	r := make([]store.Result, 1)
	if err := l.store.Append([]store.Message{m}, r); err != nil || r[0].Code != codec.CodeOK {
		l.w.t.Fatalf("post: %v, %v", r[0].Code, err)
	}
	l.then(func() {
		l.bring(&m, r[0], e.Born, 0)
		l.send()
	})
	return r[0].Seq
}

// send hands the commits over, as Courier.Send does on a server, where the loops go on while it waits.
func (l *modelLog) send() {
	for i, c := range l.courier.commits {
		for c != nil && len(l.w.loops[i].sh.mail.slots) == courierDepth && l.w.step() {
		}
	}
	l.courier.Send(nil)
}

// group makes a group.
func (l *modelLog) group(name string, large bool, users ...string) {
	l.groups[name] = &modelGroup{large: large, users: map[string]uint64{}}
	l.add(name, users...)
}

// add adds members, with an entry in the group's log.
func (l *modelLog) add(name string, users ...string) {
	g := l.groups[name]
	head, _ := l.store.Head(store.Channel{Kind: codec.KindGroup, Name: name})
	for _, u := range users {
		g.users[u] = head.Seq + 1
	}
	if g.large {
		l.then(func() {
			for _, u := range users {
				l.courier.Join([]byte(u), name, head.Seq)
			}
		})
	}
	l.post(codec.KindGroup, name, "admin", "+"+strings.Join(users, ","))
}

// remove removes a member; who leaves does not read the entry that says so.
func (l *modelLog) remove(name, user string) {
	delete(l.groups[name].users, user)
	l.then(func() { l.courier.Leave([]byte(user), name) })
	l.post(codec.KindGroup, name, "admin", "-"+user)
}

// grow makes a group large: the entry that says so is the last one in inboxes.
func (l *modelLog) grow(name string) {
	g := l.groups[name]
	g.from = l.post(codec.KindGroup, name, "admin", "grown")
	g.large = true
	l.then(func() {
		for _, u := range g.sorted() {
			l.courier.Join(u, name, g.from)
		}
		l.send()
	})
}
