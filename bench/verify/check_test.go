package verify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

// scene is a History written by hand: alice with two devices, bob with two, one direct channel, one topic that all of them follow.
type scene struct {
	*History
	ms            time.Duration // the time
	a1, a2, b1    *Device
	b2, stranger  *Device
	direct, topic ChannelID
	group         ChannelID // of alice's first device
}

const epoch = 77

func newScene() *scene {
	s := &scene{History: NewHistory(1 << 20)}
	s.now = func() time.Duration { s.ms++; return s.ms * time.Millisecond }
	s.a1, s.a2 = s.Device("alice", "1"), s.Device("alice", "2")
	s.b1, s.b2 = s.Device("bob", "1"), s.Device("bob", "2")
	s.stranger = s.Device("carl", "1")
	s.direct = s.Channel(codec.KindDirect, "alice\x1fbob")
	s.topic = s.Channel(codec.KindTopic, "news")
	for _, c := range []ChannelID{s.direct, s.topic} {
		s.Expect(c, s.a1, s.a2, s.b1, s.b2)
	}
	s.group = s.Channel(codec.KindGroup, "team")
	s.Expect(s.group, s.a1)
	for _, d := range []*Device{s.a1, s.a2, s.b1, s.b2} {
		d.From(s.topic, 0)
		d.Link(true)
	}
	return s
}

// send has a message stored under seq and answered.
func (s *scene) send(d *Device, c ChannelID, nonce, seq uint64) ID {
	id := d.Send(c, nonce)
	d.Ack(id, epoch, codec.CodeOK, seq)
	return id
}

// hand gives it to devices.
func (s *scene) hand(c ChannelID, seq uint64, id ID, to ...*Device) {
	for _, d := range to {
		d.Receive(c, epoch, seq, id, Handed)
	}
}

// log is what reading the whole log at the end gives.
func (s *scene) log(c ChannelID, ids ...ID) *Pull {
	p := s.b1.Pull(c, epoch, 1)
	for i, id := range ids {
		p.Message(uint64(i+1), id, false)
	}
	p.Complete()
	return p
}

// three messages from alice's first device, all as it should be.
func (s *scene) three() (ids [3]ID) {
	for i := range ids {
		ids[i] = s.send(s.a1, s.direct, uint64(i+1), uint64(i+1))
	}
	return ids
}

func TestCheckFinds(t *testing.T) {
	for _, c := range []struct {
		name string
		want string // kinds and counts as Summary says them; "" for none
		says string // in the first finding
		play func(s *scene)
	}{
		{"nothing", "", "", func(*scene) {}},
		{"all in order", "", "", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
		}},
		{"a topic's sender gets its own", "1 lost", "alice/1 never got", func(s *scene) {
			id := s.send(s.a1, s.topic, 1, 1)
			s.hand(s.topic, 1, id, s.a2, s.b1, s.b2)
		}},
		{"own messages come at a resume", "", "", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a1, s.a2, s.b1, s.b2)
			}
		}},
		{"own messages come late, behind those of others", "", "", func(s *scene) {
			one, two := s.send(s.a1, s.direct, 1, 1), s.send(s.b1, s.direct, 1, 2)
			s.hand(s.direct, 1, one, s.a2, s.b1, s.b2)
			s.hand(s.direct, 2, two, s.a1, s.a2, s.b2)
			s.hand(s.direct, 1, one, s.a1)
		}},
		{"own messages come twice", "1 duplicated", "alice/1 got message 0.0", func(s *scene) {
			one := s.send(s.a1, s.direct, 1, 1)
			s.hand(s.direct, 1, one, s.a1, s.a1, s.a2, s.b1, s.b2)
		}},
		{"lost by one device", "1 lost", "bob/2 never got message 0.2 of alice/1 (nonce 3,", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
			}
			s.hand(s.direct, 1, ids[0], s.b2)
			s.hand(s.direct, 2, ids[1], s.b2)
		}},
		{"a gap tells it", "", "", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
			}
			s.b2.Gap(s.direct, epoch, 1, 2, codec.GapExpired)
			s.hand(s.direct, 3, ids[2], s.b2)
		}},
		{"a gap of another channel", "1 lost", "", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
			}
			s.hand(s.direct, 1, ids[0], s.b2)
			s.hand(s.direct, 2, ids[1], s.b2)
			s.b2.Gap(s.topic, epoch, 1, 3, codec.GapExpired)
		}},
		{"a gap of the inbox", "", "", func(s *scene) {
			s.three()
			for _, d := range []*Device{s.a2, s.b1, s.b2} {
				d.InboxGap(epoch, 1, 900, codec.GapExpired)
			}
		}},
		{"a gap of the inbox excuses nothing later", "3 lost", "", func(s *scene) {
			for _, d := range []*Device{s.a2, s.b1, s.b2} {
				d.InboxGap(epoch, 1, 900, codec.GapExpired)
			}
			s.send(s.a1, s.direct, 1, 1)
		}},
		{"the epoch changed", "", "", func(s *scene) {
			s.three()
			for _, d := range []*Device{s.a2, s.b1, s.b2} {
				d.InboxReset(true, 3, 0)
			}
		}},
		{"a position beyond the head", "1 gone", "inbox of bob: bob/1 knew position 900", func(s *scene) { s.b1.InboxReset(false, 900, 800) }},
		{"refused for good", "", "", func(s *scene) {
			s.a1.Ack(s.a1.Send(s.direct, 1), epoch, codec.CodeTooLarge, 0)
		}},
		{"never answered", "2 unanswered", "the last one was none", func(s *scene) {
			s.a1.Send(s.direct, 1)
			s.a1.Ack(s.a1.Send(s.direct, 2), epoch, codec.CodeBusy, 0)
		}},
		{"stored without an answer", "", "", func(s *scene) {
			id := s.a1.Send(s.direct, 1)
			s.a1.Ack(id, epoch, codec.CodeDuplicate, 0)
			s.hand(s.direct, 1, id, s.a2, s.b1, s.b2)
		}},
		{"acknowledged and nowhere", "1 lost", "DUPLICATE, and nobody has it", func(s *scene) {
			s.a1.Ack(s.a1.Send(s.direct, 1), epoch, codec.CodeDuplicate, 0)
		}},
		{"twice to the application", "1 duplicated", "bob/1 got message 0.2 of alice/1", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
				if i == 2 {
					s.hand(s.direct, 3, id, s.b1)
				}
			}
		}},
		{"again and dropped", "", "", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
				s.b1.Receive(s.direct, epoch, uint64(i+1), id, Again)
			}
		}},
		{"again with other contents", "1 number-twice", "number 1 is message 0.0", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			s.b1.Receive(s.direct, epoch, 1, foreignID([]byte("x")), Again)
		}},
		{"behind a higher one", "1 out-of-order, 1 hole", "behind number 3", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
			}
			s.hand(s.direct, 1, ids[0], s.b2)
			s.hand(s.direct, 3, ids[2], s.b2)
			s.hand(s.direct, 2, ids[1], s.b2)
		}},
		{"the gap comes too late", "1 hole", "and no GAP told it", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
			}
			s.hand(s.direct, 1, ids[0], s.b2)
			s.hand(s.direct, 3, ids[2], s.b2)
			s.b2.Gap(s.direct, epoch, 2, 2, codec.GapExpired)
		}},
		{"the first of a topic is passed over", "1 lost, 1 hole", "", func(s *scene) {
			one, two := s.send(s.a1, s.topic, 1, 1), s.send(s.a1, s.topic, 2, 2)
			s.hand(s.topic, 1, one, s.a1, s.a2, s.b1)
			s.hand(s.topic, 2, two, s.a1, s.a2, s.b1, s.b2)
		}},
		{"what was there before it came", "", "", func(s *scene) {
			late := s.Device("dora", "1")
			s.Expect(s.topic, late)
			one, two := s.send(s.a1, s.topic, 1, 1), s.send(s.a1, s.topic, 2, 2)
			late.From(s.topic, 1)
			s.hand(s.topic, 1, one, s.a1, s.a2, s.b1, s.b2)
			s.hand(s.topic, 2, two, s.a1, s.a2, s.b1, s.b2, late)
		}},
		{"stored in another order than sent", "1 out-of-order", "is stored before message 0.0", func(s *scene) {
			one, two := s.send(s.a1, s.direct, 1, 2), s.send(s.a1, s.direct, 2, 1)
			s.hand(s.direct, 1, two, s.a2, s.b1, s.b2)
			s.hand(s.direct, 2, one, s.a2, s.b1, s.b2)
		}},
		{"overtakes one that was refused", "1 out-of-order", "nonce 1 before it stood refused", func(s *scene) {
			one, two := s.a1.Send(s.direct, 1), s.a1.Send(s.topic, 2)
			s.a1.Ack(one, epoch, codec.CodeBusy, 0)
			s.a1.Ack(two, epoch, codec.CodeOK, 1)
			s.a1.Retry(one)
			s.a1.Ack(one, epoch, codec.CodeOK, 1)
			s.hand(s.direct, 1, one, s.a2, s.b1, s.b2)
			s.hand(s.topic, 1, two, s.a1, s.a2, s.b1, s.b2)
		}},
		{"retries in order", "", "", func(s *scene) {
			one, two := s.a1.Send(s.direct, 1), s.a1.Send(s.direct, 2)
			s.a1.Ack(one, epoch, codec.CodeUnavailable, 0)
			s.a1.Ack(two, epoch, codec.CodeUnavailable, 0)
			s.a1.Retry(one)
			s.a1.Retry(two)
			for i, id := range []ID{one, two} {
				s.a1.Ack(id, epoch, codec.CodeOK, uint64(i+1))
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
		}},
		{"a retry stored twice", "1 stored-twice", "message 0.0 of alice/1", func(s *scene) {
			id := s.send(s.a1, s.direct, 1, 1)
			s.hand(s.direct, 1, id, s.a2, s.b1, s.b2)
			s.hand(s.direct, 2, id, s.a2, s.b1, s.b2)
		}},
		{"answered with two numbers", "3 lost, 1 stored-twice", "", func(s *scene) {
			id := s.send(s.a1, s.direct, 1, 1)
			s.a1.Ack(id, epoch, codec.CodeDuplicate, 2)
			s.hand(s.direct, 1, id, s.a2, s.b1, s.b2)
		}},
		{"one number, two messages", "1 number-twice", "as alice/2 got it", func(s *scene) {
			id := s.send(s.a1, s.direct, 1, 1)
			two := s.a1.Send(s.direct, 2)
			s.a1.Ack(two, epoch, codec.CodeTooLarge, 0)
			s.hand(s.direct, 1, two, s.a2)
			s.hand(s.direct, 1, id, s.b1, s.b2)
		}},
		{"received and not in the log", "1 gone", "meanwhile", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			s.Mark("killed")
			s.log(s.direct, ids[:2]...)
		}},
		{"another message in its place", "1 gone", "as the log said to bob/1", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			s.log(s.direct, ids[0], ids[1], foreignID([]byte("x")))
		}},
		{"the log says that it is gone", "", "", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			s.log(s.direct).Gap(1, 3, codec.GapExpired)
		}},
		{"a number that nobody has", "1 hole", "nobody has number 2 to 2", func(s *scene) {
			one, three := s.send(s.a1, s.direct, 1, 1), s.send(s.a1, s.direct, 2, 3)
			s.hand(s.direct, 1, one, s.a2, s.b1, s.b2)
			s.hand(s.direct, 3, three, s.a2, s.b1, s.b2)
			p := s.b1.Pull(s.direct, epoch, 1)
			p.Message(1, one, false)
			p.Message(3, three, false)
			p.Complete()
		}},
		{"a log out of order", "1 out-of-order", "number 1 behind 2", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			p := s.b1.Pull(s.direct, epoch, 1)
			for _, n := range []uint64{2, 1, 3} {
				p.Message(n, ids[n-1], false)
			}
			p.Complete()
		}},
		{"a log that cannot be read", "1 unanswered", "could not be read to the end", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
			}
			s.b1.Pull(s.direct, epoch, 1)
		}},
		{"other bytes", "1 altered", "number 3", func(s *scene) {
			ids := s.three()
			for i, id := range ids {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
				if i < 2 {
					s.hand(s.direct, uint64(i+1), id, s.b2)
				}
			}
			s.b2.Receive(s.direct, epoch, 3, foreignID([]byte("x")), Altered)
		}},
		{"to a stranger", "1 misdirected", "carl/1 got", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
				if i == 0 {
					s.hand(s.direct, 1, id, s.stranger)
				}
			}
		}},
		{"a member joins and leaves", "", "", func(s *scene) {
			one := s.send(s.a1, s.group, 1, 2)
			two := s.send(s.a1, s.group, 2, 4)
			three := s.send(s.a1, s.group, 3, 6)
			s.Join(s.group, 3, s.stranger)
			s.hand(s.group, 2, one, s.a1)
			s.hand(s.group, 4, two, s.a1, s.stranger)
			s.hand(s.group, 6, three, s.a1)
			s.Leave(s.group, 5, s.stranger)
		}},
		{"a member that joined gets nothing", "1 lost", "carl/1 never got message 0.1", func(s *scene) {
			one, two := s.send(s.a1, s.group, 1, 2), s.send(s.a1, s.group, 2, 3)
			s.Join(s.group, 3, s.stranger)
			s.hand(s.group, 2, one, s.a1)
			s.hand(s.group, 3, two, s.a1)
		}},
		{"a member that left and came back", "1 hole", "number 6 at", func(s *scene) {
			s.Join(s.group, 2, s.stranger)
			s.Leave(s.group, 3, s.stranger)
			s.Join(s.group, 5, s.stranger)
			for seq := uint64(2); seq <= 6; seq++ {
				id := s.send(s.a1, s.group, seq, seq)
				s.hand(s.group, seq, id, s.a1)
				if seq == 2 || seq == 6 {
					s.hand(s.group, seq, id, s.stranger)
				}
			}
			s.stranger.Gap(s.group, epoch, 5, 5, codec.GapNotSent)
		}},
		{"a removal overtakes what came before it, and nothing else does", "1 out-of-order", "behind number 4", func(s *scene) {
			s.Join(s.group, 2, s.stranger)
			ids := []ID{0, 0}
			for seq := uint64(2); seq <= 5; seq++ {
				ids = append(ids, s.send(s.a1, s.group, seq, seq))
				s.hand(s.group, seq, ids[seq], s.a1)
			}
			s.Leave(s.group, 5, s.stranger)
			for _, seq := range []uint64{4, 3, 5, 2} { // 2 behind 5 is the removal's doing, 3 behind 4 is not
				s.hand(s.group, seq, ids[seq], s.stranger)
			}
		}},
		{"what is said before a member joins", "1 misdirected", "carl/1 got message 0.0", func(s *scene) {
			one := s.send(s.a1, s.group, 1, 2)
			s.Join(s.group, 3, s.stranger)
			s.hand(s.group, 2, one, s.a1, s.stranger)
		}},
		{"what is said after a member left", "1 misdirected", "carl/1 got message 0.1", func(s *scene) {
			s.Join(s.group, 2, s.stranger)
			one, two := s.send(s.a1, s.group, 1, 2), s.send(s.a1, s.group, 2, 4)
			s.Leave(s.group, 3, s.stranger)
			s.hand(s.group, 2, one, s.a1, s.stranger)
			s.hand(s.group, 4, two, s.a1, s.stranger)
		}},
		{"into another channel", "1 misdirected", "which was sent to direct", func(s *scene) {
			for i, id := range s.three() {
				s.hand(s.direct, uint64(i+1), id, s.a2, s.b1, s.b2)
				if i == 0 {
					s.hand(s.topic, 1, id, s.b1)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene()
			c.play(s)
			v := Check(s.History)
			want := c.want
			if want == "" {
				want = "no findings"
			}
			if v.Summary() != want {
				t.Errorf("found %s, want %s:\n%v", v.Summary(), want, v.Findings)
			}
			if c.says != "" && (len(v.Findings) == 0 || !strings.Contains(v.Findings[0].Text, c.says)) {
				t.Errorf("the first finding does not say %q:\n%v", c.says, v.Findings)
			}
		})
	}
}

func TestVerdictCounts(t *testing.T) {
	s := newScene()
	ids := s.three()
	for i, id := range ids {
		s.hand(s.direct, uint64(i+1), id, s.a2, s.b1)
		s.b1.Receive(s.direct, epoch, uint64(i+1), id, Again)
	}
	s.b2.Gap(s.direct, epoch, 1, 3, codec.GapExpired)
	s.a1.Ack(s.a1.Send(s.direct, 4), epoch, codec.CodeForbidden, 0)
	s.log(s.direct, ids[:]...)
	v := Check(s.History)
	if !v.Clean() || v.Sent != 4 || v.Stored != 3 || v.Refused != 1 || v.Owed != 9 || v.Handed != 6 || v.Repeated != 3 || v.Excused != 3 ||
		v.InLogs != 3 || v.Channels != 1 || v.Gaps != 1 {
		t.Errorf("%+v", v)
	}
}

// Findings beyond MaxFindings of a kind are counted; other kinds still have room.
func TestFindingsAreBounded(t *testing.T) {
	s := newScene()
	const n = 10 * MaxFindings
	for i := range uint64(n) {
		id := s.send(s.a1, s.direct, i+1, i+1)
		s.hand(s.direct, i+1, id, s.a2, s.b1)
	}
	s.b1.InboxReset(false, 5, 4)
	v := Check(s.History)
	if v.Counts[Lost] != n || v.Total() != n+1 || len(v.Findings) != MaxFindings+1 {
		t.Errorf("%s, %d described, want %d lost and 1 gone, %d described", v.Summary(), len(v.Findings), n, MaxFindings+1)
	}
}

func TestHistoryIsFull(t *testing.T) {
	s := newScene()
	s.limit = 3
	id := s.send(s.a1, s.direct, 1, 1)
	s.hand(s.direct, 1, id, s.a2)
	if s.Full() {
		t.Fatal("full with 2 of 3 events")
	}
	s.hand(s.direct, 1, id, s.b1, s.b2) // what was sent may still come
	for range 10 {
		s.b2.Receive(s.direct, epoch, 1, id, Again)
	}
	if !s.Full() || s.events.Load() != 4 {
		t.Errorf("%d events are kept, want 4", s.events.Load())
	}
	if v := Check(s.History); !v.Clean() || v.Repeated != 10 {
		t.Errorf("%s, %d repeated, want none and 10", v.Summary(), v.Repeated)
	}
}

// model plays a server that keeps its promises, with devices that lose their connections, and a bug if one is planted.
type model struct {
	*History
	rng     *rand.Rand
	devices []*Device
	nonces  []uint64
	at      []map[ChannelID]int // how far each device is in each log
	logs    map[ChannelID][]ID
	bug     func(m *model, d int, c ChannelID, seq uint64, id ID) (handled bool)
}

func newModel(seed uint64) *model {
	m := &model{History: NewHistory(1 << 20), rng: rand.New(rand.NewPCG(seed, 7)), logs: map[ChannelID][]ID{}}
	for i := range 6 {
		m.devices = append(m.devices, m.Device(fmt.Sprint("u", i/2), fmt.Sprint("d", i%2)))
		m.at = append(m.at, map[ChannelID]int{})
	}
	m.nonces = make([]uint64, len(m.devices))
	for i, name := range []string{"u0\x1fu1", "t1", "t2"} {
		kind := codec.KindTopic
		if i == 0 {
			kind = codec.KindDirect
		}
		c := m.Channel(kind, name)
		m.logs[c] = nil
		for j, d := range m.devices {
			if i > 0 || j < 4 {
				m.Expect(c, d)
			}
		}
	}
	return m
}

func (m *model) step() {
	d := m.rng.IntN(len(m.devices))
	c := ChannelID(m.rng.IntN(3))
	if c == 0 {
		d = m.rng.IntN(4)
	}
	if m.rng.IntN(3) > 0 {
		m.catchUp(d, c, 1+m.rng.IntN(4))
		return
	}
	m.nonces[d] += 1 + m.rng.Uint64N(2)
	dev := m.devices[d]
	id := dev.Send(c, m.nonces[d])
	if m.rng.IntN(10) == 0 {
		dev.Ack(id, epoch, codec.CodeBusy, 0)
		dev.Retry(id)
	}
	m.logs[c] = append(m.logs[c], id)
	code, seq := codec.CodeOK, uint64(len(m.logs[c]))
	if m.rng.IntN(10) == 0 { // the answer was lost with the connection
		dev.Retry(id)
		if code = codec.CodeDuplicate; m.rng.IntN(2) == 0 {
			seq = 0
		}
	}
	dev.Ack(id, epoch, code, seq)
}

func (m *model) catchUp(d int, c ChannelID, most int) {
	log := m.logs[c]
	for at := m.at[d][c]; at < len(log) && most > 0; most-- {
		at++
		m.at[d][c] = at
		if m.bug != nil && m.bug(m, d, c, uint64(at), log[at-1]) {
			continue
		}
		if c == 0 && log[at-1].device() == uint32(d) && m.rng.IntN(2) == 0 {
			continue // its own
		}
		m.devices[d].Receive(c, epoch, uint64(at), log[at-1], Handed)
		if m.rng.IntN(20) == 0 {
			m.devices[d].Receive(c, epoch, uint64(at), log[at-1], Again)
		}
	}
}

func (m *model) finish() Verdict {
	for d := range m.devices {
		for c := range m.logs {
			if c > 0 || d < 4 {
				m.catchUp(d, c, 1<<30)
			}
		}
	}
	for c, log := range m.logs {
		p := m.devices[0].Pull(c, epoch, 1)
		for i, id := range log {
			p.Message(uint64(i+1), id, false)
		}
		p.Complete()
	}
	return Check(m.History)
}

// Whatever a server that keeps its promises does, nothing is found; one bug at a random place is, and under its name.
func TestRandomHistories(t *testing.T) {
	once := func(bug func(m *model, d int, c ChannelID, seq uint64, id ID)) func(*model) {
		return func(m *model) {
			left := 20 + m.rng.IntN(100)
			m.bug = func(m *model, d int, c ChannelID, seq uint64, id ID) bool {
				if left--; left > 0 || id.device() == uint32(d) {
					return false
				}
				m.bug = nil
				bug(m, d, c, seq, id)
				return true
			}
		}
	}
	for _, c := range []struct {
		want  Kind
		plant func(*model)
	}{
		{"", func(*model) {}},
		{Lost, once(func(*model, int, ChannelID, uint64, ID) {})},
		{Duplicated, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, id, Handed)
			m.devices[d].Receive(c, epoch, seq, id, Handed)
		})},
		{NumberTwice, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, foreignID([]byte("another")), Handed)
		})},
		{StoredTwice, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, id, Handed)
			m.logs[c] = append(m.logs[c], id)
		})},
		{Corrupted, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, foreignID([]byte("broken")), Altered)
		})},
		{OutOfOrder, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, id, Handed)
			if log := m.logs[c]; len(log) > int(seq) {
				m.devices[d].Receive(c, epoch, seq+1, log[seq], Again)
			}
			x, y := m.devices[d].Send(c, 1<<40), m.devices[d].Send(c, 1<<40+1)
			m.logs[c] = append(m.logs[c], y, x)
			m.devices[d].Ack(y, epoch, codec.CodeOK, uint64(len(m.logs[c])-1))
			m.devices[d].Ack(x, epoch, codec.CodeOK, uint64(len(m.logs[c])))
			m.nonces[d] = 1 << 41
		})},
		{Gone, once(func(m *model, d int, c ChannelID, seq uint64, id ID) {
			m.devices[d].Receive(c, epoch, seq, id, Handed)
			m.devices[d].Receive(c, epoch, 1<<20, foreignID([]byte("ghost")), Again)
		})},
	} {
		for seed := range uint64(30) {
			m := newModel(seed)
			c.plant(m)
			for range 400 {
				m.step()
			}
			v := m.finish()
			if c.want == "" && !v.Clean() {
				t.Fatalf("seed %d: found %s in a history without faults, first %v", seed, v.Summary(), v.Findings[0])
			}
			if c.want != "" && v.Counts[c.want] == 0 {
				t.Fatalf("seed %d: found %s, want %s", seed, v.Summary(), c.want)
			}
		}
	}
}

func TestPayloads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for size := MinSize; size < 200; size++ {
		id := newID(rng.Uint32N(1<<31), rng.Uint32())
		p := appendPayload([]byte("before"), 9, id, size)[6:]
		if len(p) != size {
			t.Fatalf("%d bytes, want %d", len(p), size)
		}
		if got, altered := readPayload(p, 9); got != id || altered {
			t.Fatalf("read %v (altered %v), want %v", got, altered, id)
		}
		if got, altered := readPayload(p, 8); !got.foreign() || altered {
			t.Fatalf("of another run: %v (altered %v)", got, altered)
		}
		for bit := checksumAt * 8; bit < len(p)*8; bit++ {
			q := slices.Clone(p)
			q[bit/8] ^= 1 << (bit % 8)
			if got, altered := readPayload(q, 9); !altered || !got.foreign() {
				t.Fatalf("size %d, bit %d flipped: read %v", size, bit, got)
			}
		}
		if got, altered := readPayload(p[:MinSize-1], 9); !got.foreign() || altered {
			t.Fatalf("cut: %v (altered %v)", got, altered)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	m := newModel(1)
	for range 200_000 {
		m.step()
	}
	m.finish()
	for b.Loop() {
		if v := Check(m.History); !v.Clean() {
			b.Fatal(v.Summary())
		}
	}
	b.ReportMetric(float64(m.events.Load()), "events")
}
