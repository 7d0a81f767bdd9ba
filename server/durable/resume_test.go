package durable

import (
	"fmt"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

var stateNames = [...]string{"live", "resumed", "gap", "reset", "refused"}

// logsOf writes Read.Logs as text: name=seq/head.
func logsOf(q *shard.Read) string {
	var list []string
	for _, l := range q.Logs {
		list = append(list, fmt.Sprintf("%v %s=%d/%d", l.Kind, l.Name, l.Seq, l.Head))
	}
	return strings.Join(list, ", ")
}

// statesOf writes Read.States as text; wrong tells of an epoch that is not the store's.
func statesOf(q *shard.Read, epoch uint64) string {
	var list []string
	for _, s := range q.States {
		text := fmt.Sprintf("%s %d", stateNames[s.State], s.Head)
		if (s.Epoch == epoch) == (s.State == codec.StateRefused) {
			text += " with a wrong epoch"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

// What a login gets by the position it gives and by what is stored: 10 direct messages, at the places 1 to 10.
func TestResumeInbox(t *testing.T) {
	const ours, other = 1, 2 // epochs
	type stored map[string]uint64
	for _, c := range []struct {
		name    string
		epoch   int
		pos     uint64
		devices stored
		lost    uint64 // places that expired
		state   uint8
		next    uint64
		gap     string
	}{
		{name: "nothing known of the user", next: 0},
		{name: "nothing known of the user, and something expired", lost: 4, next: 4},
		{name: "a known device", devices: stored{"phone": 3}, next: 3},
		{name: "a known device, another further", devices: stored{"phone": 3, "tablet": 8}, next: 3},
		{name: "a known device at the head", devices: stored{"phone": 10}, next: 10},
		{name: "a known device beyond the head", devices: stored{"phone": 99}, next: 10},
		{name: "a new device of a known user", devices: stored{"tablet": 8, "tv": 5}, next: 8},
		{name: "a known device behind what is kept", devices: stored{"phone": 3}, lost: 6, next: 6, gap: "GAP :4-6 expired"},
		{name: "a new device behind what is kept", devices: stored{"tablet": 2}, lost: 6, next: 6, gap: "GAP :3-6 expired"},
		{name: "a position", epoch: ours, pos: 7, devices: stored{"phone": 3}, state: codec.StateResumed, next: 7},
		{name: "a position below what was acknowledged", epoch: ours, pos: 2, devices: stored{"phone": 9}, state: codec.StateResumed, next: 2},
		{name: "position 0 of our epoch", epoch: ours, state: codec.StateResumed, devices: stored{"phone": 9}, next: 0},
		{name: "a position at the head", epoch: ours, pos: 10, state: codec.StateResumed, next: 10},
		{name: "a position of a new device", epoch: ours, pos: 4, state: codec.StateResumed, next: 4},
		{name: "a position just where all is kept", epoch: ours, pos: 6, lost: 6, state: codec.StateResumed, next: 6},
		{name: "a position behind what is kept", epoch: ours, pos: 5, lost: 6, state: codec.StateGap, next: 6, gap: "GAP :6-6 expired"},
		{name: "everything expired", epoch: ours, pos: 5, lost: 10, state: codec.StateGap, next: 10, gap: "GAP :6-10 expired"},
		{name: "beyond the head", epoch: ours, pos: 11, devices: stored{"phone": 3}, state: codec.StateReset, next: 3},
		{name: "far beyond the head", epoch: ours, pos: 1<<64 - 1, state: codec.StateReset, next: 0},
		{name: "another epoch", epoch: other, pos: 7, devices: stored{"phone": 3}, state: codec.StateReset, next: 3},
		{name: "another epoch, position 0", epoch: other, devices: stored{"phone": 3}, state: codec.StateReset, next: 3},
		{name: "no epoch, but a position", pos: 7, devices: stored{"phone": 12}, state: codec.StateReset, next: 10},
		{name: "another epoch and a gap", epoch: other, pos: 7, devices: stored{"phone": 3}, lost: 6, state: codec.StateReset, next: 6, gap: "GAP :4-6 expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *shelf) {
				var all []string
				for i := range uint64(10) {
					if i == c.lost {
						s.now.Add(2 * store.DefaultBucket)
					}
					all = append(all, fmt.Sprintf("ann+bob:%d m", i+1))
					s.say(direct("ann", "bob", "m"))
				}
				if c.lost > 0 {
					if err := s.l.current().Expire(s.now.Load() - store.DefaultBucket); err != nil {
						t.Fatal(err)
					}
					if c.lost == 10 {
						_ = s.l.current().Expire(s.now.Load() + 9*store.DefaultBucket)
					}
				}
				for d, pos := range c.devices {
					s.device("bob", d, pos)
				}
				s.device("bobby", "phone", 6)
				s.device("bo", "b\x1fphone", 6)
				epoch := [...]uint64{0, s.l.current().Epoch(), s.l.current().Epoch() + 1}[c.epoch]
				q := s.ask(shard.Read{Op: shard.ReadResume, User: "bob", Device: "phone", Epoch: epoch, After: c.pos})
				want := append([]string{c.gap}, all[c.next:]...)
				if c.gap == "" {
					want = want[1:]
				}
				if q.Code != codec.CodeOK || q.State != c.state || q.Next != c.next || q.Head != 10 || q.Covered != 10 || q.More || q.N != int(10-c.next) {
					t.Errorf("%v, state %s, next %d, head %d, covered %d, more %v, n %d; want state %s, next %d", q.Code, stateNames[q.State],
						q.Next, q.Head, q.Covered, q.More, q.N, stateNames[c.state], c.next)
				}
				if got := show(t, q.Frames); got != strings.Join(want, ", ") {
					t.Errorf("frames\n %s, want\n %s", got, strings.Join(want, ", "))
				}
				if got := logsOf(q); got != "all all=0/0" {
					t.Errorf("logs %s", got)
				}
			})
		})
	}
}

func TestResumeTellsTheNonce(t *testing.T) {
	s := newShelf(t, inMemory)
	frame := codec.AppendMsg(nil, codec.Msg{Flags: codec.MsgDurable, Kind: codec.KindTopic, Name: []byte("x"), Sender: []byte("ann")})
	m := store.Message{Kind: codec.KindTopic, Name: []byte("x"), User: []byte("ann"), Device: []byte("phone"), Nonce: 77, Time: day, Frame: frame}
	if err := s.l.current().Append([]store.Message{m}, make([]store.Result, 1)); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]uint64{"phone": 77, "tablet": 0} {
		if q := s.ask(shard.Read{Op: shard.ReadResume, User: "ann", Device: device}); q.Nonce != want {
			t.Errorf("nonce of the %s is %d, want %d", device, q.Nonce, want)
		}
	}
}

// logShelf has a topic of 9 messages of which 3 are gone, all with 5, a large group with 20 whose members joined at 1 (and carl at 15) and
// that grew at 8, a small one, and one that bob is not in.
func logShelf(t *testing.T, s *shelf) {
	t.Helper()
	for range 9 {
		s.say(posted(codec.KindTopic, "news", "n"))
	}
	for range 5 {
		s.say(posted(codec.KindAll, "all", "a"))
	}
	for range 20 {
		s.say(posted(codec.KindGroup, "large", "l"))
	}
	s.say(posted(codec.KindGroup, "small", "s"), posted(codec.KindGroup, "foreign", "f"))
	if err := s.l.current().Trim(store.Channel{Kind: codec.KindTopic, Name: "news"}, 4); err != nil {
		t.Fatal(err)
	}
	s.group(group{Name: "large", Large: true, LargeFrom: 8}, map[string]uint64{"bob": 1, "carl": 15})
	s.group(group{Name: "small"}, map[string]uint64{"bob": 1})
	s.group(group{Name: "foreign", Large: true}, nil)
}

// A login is remembered: where the inbox begins, and the logs that no position was stored of.
func TestResumeIsRemembered(t *testing.T) {
	s := newShelf(t, inMemory)
	logShelf(t, s)
	s.say(direct("ann", "bob", "1"), direct("ann", "bob", "2"))
	s.device("bob", "tablet", 36)
	first := shard.Read{Op: shard.ReadResume, User: "bob", Device: "phone", Positions: []shard.LogPosition{
		{Kind: codec.KindTopic, Name: "news", Epoch: s.l.current().Epoch(), Seq: 5}, {Kind: codec.KindGroup, Name: "large", Epoch: s.l.current().Epoch(), Seq: 12}}}
	if a := s.ask(first); a.Code != codec.CodeOK || a.Next != 36 {
		t.Fatalf("%v, next %d", a.Code, a.Next)
	}
	rec, known, err := s.l.device("bob", "phone")
	marks := fmt.Sprint(rec.Logs)
	if err != nil || !known || rec.Pos != 36 || rec.Seen != day || marks != fmt.Sprint([]logMark{{codec.KindGroup, "large", 12}, {codec.KindAll, "all", 5}}) {
		t.Errorf("%+v, %v, %v", rec, known, err)
	}
	s.say(posted(codec.KindAll, "all", "while it is away"), direct("ann", "bob", "3"))
	a := s.ask(shard.Read{Op: shard.ReadResume, User: "bob", Device: "phone"})
	if got := logsOf(a); got != "all all=5/6, group large=12/20" || a.Next != 36 {
		t.Errorf("the next login: next %d, logs %s", a.Next, got)
	}
}

// given is an entry of HELLO.
type given struct {
	kind  codec.Kind
	name  string
	epoch int // 0 none, 1 the store's, 2 another
	seq   uint64
}

func TestResumeLogs(t *testing.T) {
	const topic, group, all, direct = codec.KindTopic, codec.KindGroup, codec.KindAll, codec.KindDirect
	const ours, other = 1, 2
	for _, c := range []struct {
		name    string
		user    string
		ask     []given
		stored  []logMark // of the device; nil: it is new
		another []logMark // of another device of the user
		states  string
		logs    string
	}{
		{name: "nothing asked, a new user", logs: "all all=5/5, group large=8/20"},
		{name: "joined behind the growth", user: "carl", logs: "all all=5/5, group large=14/20"},
		{name: "no member of anything", user: "dora", logs: "all all=5/5"},
		{name: "stored positions", stored: []logMark{{all, "all", 2}, {group, "large", 11}}, logs: "all all=2/5, group large=11/20"},
		{name: "stored below the growth", stored: []logMark{{all, "all", 0}, {group, "large", 3}}, logs: "all all=0/5, group large=8/20"},
		{name: "stored beyond the head", stored: []logMark{{all, "all", 50}, {group, "large", 50}}, logs: "all all=5/5, group large=20/20"},
		{name: "a known device that has no position there", stored: []logMark{}, another: []logMark{{group, "large", 17}},
			logs: "all all=5/5, group large=8/20"},
		{name: "a new device goes on where another is", another: []logMark{{group, "large", 17}, {all, "all", 1}},
			logs: "all all=5/5, group large=17/20"},
		{name: "positions", ask: []given{{topic, "news", ours, 5}, {all, "all", ours, 1}, {group, "large", ours, 12}},
			states: "resumed 9, resumed 5, resumed 20", logs: "topic news=5/9, all all=1/5, group large=12/20"},
		{name: "positions count more than stored ones", ask: []given{{group, "large", ours, 12}}, stored: []logMark{{group, "large", 18}, {all, "all", 5}},
			states: "resumed 20", logs: "group large=12/20, all all=5/5"},
		{name: "at the head", ask: []given{{topic, "news", ours, 9}}, states: "resumed 9", logs: "topic news=9/9, all all=5/5, group large=8/20"},
		{name: "just before what is kept", ask: []given{{topic, "news", ours, 3}}, states: "resumed 9", logs: "topic news=3/9, all all=5/5, group large=8/20"},
		{name: "behind what is kept", ask: []given{{topic, "news", ours, 2}}, states: "gap 9", logs: "topic news=2/9, all all=5/5, group large=8/20"},
		{name: "no position", ask: []given{{topic, "news", 0, 0}, {all, "all", 0, 0}, {group, "large", 0, 3}},
			states: "live 9, live 5, live 20", logs: "topic news=9/9, all all=5/5, group large=8/20"},
		{name: "no position, but stored ones", ask: []given{{topic, "news", 0, 0}, {all, "all", 0, 0}, {group, "large", 0, 3}},
			stored: []logMark{{topic, "news", 6}, {all, "all", 3}, {group, "large", 9}},
			states: "live 9, live 5, live 20", logs: "topic news=9/9, all all=3/5, group large=9/20"},
		{name: "another epoch", ask: []given{{topic, "news", other, 5}, {all, "all", other, 1}, {group, "large", other, 12}},
			states: "reset 9, reset 5, reset 20", logs: "topic news=9/9, all all=5/5, group large=8/20"},
		{name: "another epoch, stored ones", ask: []given{{topic, "news", other, 5}, {all, "all", other, 1}, {group, "large", other, 12}},
			stored: []logMark{{topic, "news", 6}, {all, "all", 3}, {group, "large", 9}},
			states: "reset 9, reset 5, reset 20", logs: "topic news=6/9, all all=3/5, group large=9/20"},
		{name: "beyond the head", ask: []given{{topic, "news", ours, 10}, {all, "all", ours, 1<<64 - 1}, {group, "large", ours, 21}},
			states: "reset 9, reset 5, reset 20", logs: "topic news=9/9, all all=5/5, group large=8/20"},
		{name: "a topic that never was", ask: []given{{topic, "void", 0, 0}, {topic, "void2", ours, 0}, {topic, "void3", ours, 1}},
			states: "live 0, resumed 0, reset 0", logs: "topic void=0/0, topic void2=0/0, topic void3=0/0, all all=5/5, group large=8/20"},
		{name: "no right, or no channel", ask: []given{{group, "foreign", ours, 1}, {group, "nowhere", ours, 1}, {direct, "ann\x1fbob", ours, 1},
			{all, "some", ours, 1}, {topic, "", ours, 1}, {topic, "a\x1fb", ours, 1}, {0, "x", ours, 1}, {9, "x", ours, 1}},
			states: strings.TrimSuffix(strings.Repeat("refused 0, ", 8), ", "), logs: "all all=5/5, group large=8/20"},
		{name: "a small group comes through the inbox", ask: []given{{group, "small", ours, 1}, {group, "small", other, 9}},
			states: "live 1, live 1", logs: "all all=5/5, group large=8/20"},
		{name: "twice", ask: []given{{topic, "news", ours, 5}, {topic, "news", ours, 7}, {all, "all", ours, 4}, {all, "all", ours, 5}},
			states: "resumed 9, resumed 9, resumed 5, resumed 5", logs: "topic news=5/9, all all=4/5, group large=8/20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *shelf) {
				logShelf(t, s)
				user := c.user
				if user == "" {
					user = "bob"
				}
				if c.stored != nil {
					s.device(user, "phone", 0, c.stored...)
				}
				if c.another != nil {
					s.device(user, "tablet", 0, c.another...)
				}
				epoch := s.l.current().Epoch()
				var ask []shard.LogPosition
				for _, g := range c.ask {
					ask = append(ask, shard.LogPosition{Kind: g.kind, Name: g.name, Epoch: [...]uint64{0, epoch, epoch + 1}[g.epoch], Seq: g.seq})
				}
				q := s.ask(shard.Read{Op: shard.ReadResume, User: user, Device: "phone", Positions: ask})
				if got := statesOf(q, epoch); q.Code != codec.CodeOK || got != c.states {
					t.Errorf("%v, states %q, want %q", q.Code, got, c.states)
				}
				if got := logsOf(q); got != c.logs {
					t.Errorf("logs %q, want %q", got, c.logs)
				}
			})
		})
	}
}

func TestSub(t *testing.T) {
	const topic, group, all = codec.KindTopic, codec.KindGroup, codec.KindAll
	s := newShelf(t, inMemory)
	logShelf(t, s)
	s.device("bob", "phone", 0, logMark{group, "large", 11})
	ours := s.l.current().Epoch()
	for _, c := range []struct {
		name string
		q    shard.Read
		want string
	}{
		{"topic from now", shard.Read{Kind: topic, Name: "news", Epoch: ours, After: 5}, "OK live head=9 next=9"},
		{"topic from a position", shard.Read{Kind: topic, Name: "news", Mode: 1, Epoch: ours, After: 5}, "OK resumed head=9 next=5"},
		{"topic behind what is kept", shard.Read{Kind: topic, Name: "news", Mode: 1, Epoch: ours, After: 1}, "OK gap head=9 next=1"},
		{"topic beyond its head", shard.Read{Kind: topic, Name: "news", Mode: 1, Epoch: ours, After: 10}, "OK reset head=9 next=9"},
		{"topic of another epoch", shard.Read{Kind: topic, Name: "news", Mode: 1, Epoch: ours + 1, After: 5}, "OK reset head=9 next=9"},
		{"topic without a position", shard.Read{Kind: topic, Name: "news", Mode: 1}, "OK live head=9 next=9"},
		{"topic that never was", shard.Read{Kind: topic, Name: "void", Mode: 1, Epoch: ours}, "OK resumed head=0 next=0"},
		{"all from now", shard.Read{Kind: all, Name: "all"}, "OK live head=5 next=5"},
		{"all from a position", shard.Read{Kind: all, Name: "all", Mode: 1, Epoch: ours, After: 2}, "OK resumed head=5 next=2"},
		{"large group from now", shard.Read{Kind: group, Name: "large"}, "OK live head=20 next=20"},
		{"large group from a position", shard.Read{Kind: group, Name: "large", Mode: 1, Epoch: ours, After: 12}, "OK resumed head=20 next=12"},
		{"large group from where the device is", shard.Read{Kind: group, Name: "large", Mode: 1}, "OK live head=20 next=11"},
		{"small group", shard.Read{Kind: group, Name: "small", Mode: 1, Epoch: ours, After: 0}, "OK live head=1 next=1 small"},
		{"group of others", shard.Read{Kind: group, Name: "foreign"}, "NOT_FOUND live head=0 next=0"},
		{"no group", shard.Read{Kind: group, Name: "nowhere", Mode: 1}, "NOT_FOUND live head=0 next=0"},
		{"direct", shard.Read{Kind: codec.KindDirect, Name: "ann\x1fbob"}, "INVALID live head=0 next=0"},
		{"all under another name", shard.Read{Kind: all, Name: "some"}, "INVALID live head=0 next=0"},
		{"no name", shard.Read{Kind: topic}, "INVALID live head=0 next=0"},
		{"no kind", shard.Read{Name: "x"}, "INVALID live head=0 next=0"},
	} {
		c.q.Op, c.q.User, c.q.Device = shard.ReadSub, "bob", "phone"
		q := s.ask(c.q)
		got := fmt.Sprintf("%v %s head=%d next=%d", q.Code, stateNames[q.State], q.Head, q.Next)
		if q.Small {
			got += " small"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// One damaged group must not keep its members out.
func TestDamagedGroupDoesNotStopALogin(t *testing.T) {
	s := newShelf(t, inMemory)
	logShelf(t, s)
	s.say(line{kind: codec.KindGroup, name: "broken", from: "ann", text: "x", inbox: []string{"bob"}}, direct("ann", "bob", "hi"))
	s.put(groupOwner("broken"), metaKey, []byte{1, 99})
	s.put(userGroupsOwner("bob"), "broken", []byte{})
	ours := s.l.current().Epoch()
	q := s.ask(shard.Read{Op: shard.ReadResume, User: "bob", Device: "phone", Positions: []shard.LogPosition{{Kind: codec.KindGroup, Name: "broken", Epoch: ours}}})
	if got := logsOf(q); q.Code != codec.CodeOK || got != "all all=5/5, group large=8/20" || statesOf(q, ours) != "refused 0" {
		t.Errorf("%v, logs %q, states %s", q.Code, got, statesOf(q, ours))
	}
	if got := show(t, q.Frames); got != "GAP broken:1-1 not sent, ann+bob:1 hi" {
		t.Errorf("frames %q", got)
	}
	for _, op := range []shard.ReadOp{shard.ReadLog, shard.ReadSub, shard.ReadPull} {
		if q := s.ask(shard.Read{Op: op, User: "bob", Kind: codec.KindGroup, Name: "broken", Limit: 1}); q.Code != codec.CodeUnavailable {
			t.Errorf("operation %d of it is answered %v", op, q.Code)
		}
	}
	if got := show(t, s.ask(shard.Read{Op: shard.ReadList, User: "bob", Limit: 9}).Frames); got != "LISTED 0 OK large=20/1/1 small=1/1/1" && got != "LISTED 0 OK small=1/1/1 large=20/1/1" {
		t.Errorf("LIST: %s", got)
	}
	if s.w.r.counts.damaged.Load() == 0 {
		t.Error("nothing was counted as damaged")
	}
}
