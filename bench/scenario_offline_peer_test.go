package bench

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gannet/codec"
)

// shelf makes a peer of a server that keeps messages: what is sent to a user waits for its second login.
type shelf struct {
	back func(c *peerConn, n int, kept [][]byte) // the n-th login of a device after its first, with what is kept for it, oldest first
	code func(s codec.Send) codec.Code           // answers a SEND before it is kept; nil: OK

	mu     sync.Mutex
	kept   map[string][][]byte // MSGs by user
	logins map[string]int
	hellos map[string][]codec.Hello // of each login: epoch and position alone
	acks   []uint64                 // positions
}

const (
	shelfEpoch = 77
	shelfPos   = 1000 // of everybody, at the first login
)

func newShelf(t *testing.T, s *shelf) *peer {
	s.kept, s.logins, s.hellos = map[string][][]byte{}, map[string]int{}, map[string][]codec.Hello{}
	return newPeer(t, script{greet: s.greet, code: s.keep, onFrame: s.look})
}

func (s *shelf) keep(m codec.Send) codec.Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code != nil {
		if code := s.code(m); code != codec.CodeOK {
			return code
		}
	}
	s.kept[string(m.Name)] = append(s.kept[string(m.Name)], codec.AppendMsg(nil, codec.Msg{
		Flags: codec.MsgDurable, Kind: codec.KindDirect, Name: []byte("a\x1fb"), Seq: 1, Sender: []byte("a"), Payload: m.Payload,
	}))
	return codec.CodeOK
}

func (s *shelf) look(f codec.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f.Type {
	case codec.TypeHello:
		if h, err := codec.ConsumeHello(f); err == nil {
			user := string(h.User)
			s.hellos[user] = append(s.hellos[user], codec.Hello{InboxEpoch: h.InboxEpoch, InboxPos: h.InboxPos})
		}
	case codec.TypeAck:
		if a, err := codec.ConsumeAck(f); err == nil && a.Mode == codec.AckDelivered {
			s.acks = append(s.acks, a.InboxPos)
		}
	}
}

func (s *shelf) greet(c *peerConn) {
	s.mu.Lock()
	n, kept := s.logins[c.user], s.kept[c.user]
	s.logins[c.user]++
	s.mu.Unlock()
	if n == 0 || kept == nil {
		c.write(shelfWelcome(codec.StateLive))
		return
	}
	s.back(c, n, kept)
}

func shelfWelcome(state uint8) []byte {
	return codec.AppendWelcome(nil, codec.Welcome{
		Version: 1, Heartbeat: 60, MaxFrame: codec.DefaultLimit, Window: 1024, InboxState: state, InboxEpoch: shelfEpoch, InboxHead: shelfPos,
	})
}

// resume sends what a device missed and the position behind it.
func resume(c *peerConn, msgs [][]byte, pos uint64) {
	c.write(codec.AppendPos(slices.Concat(shelfWelcome(codec.StateResumed), slices.Concat(msgs...)), codec.Pos{InboxPos: pos}))
}

func shelfOptions(p *peer) OfflineOptions {
	return OfflineOptions{
		Addr: p.addr, Devices: 6, Missed: 20, Writers: 2, Window: 5, Loops: 2, LoginTimeout: 20 * time.Second, Quiet: 20 * time.Second,
	}
}

// What the peer does to what was missed must come out in the counts, message by message.
func TestOfflineFindsLossDuplicatesAndReordering(t *testing.T) {
	s := &shelf{back: func(c *peerConn, _ int, kept [][]byte) {
		switch strings.TrimPrefix(c.user, "offline-") {
		case "0": // 5 is lost
			kept = slices.Delete(slices.Clone(kept), 4, 5)
		case "1": // 1 … 3 twice, the second time behind the others
			kept = slices.Concat(kept, kept[:3])
		case "2": // 7 and 8 change places
			kept = slices.Clone(kept)
			kept[6], kept[7] = kept[7], kept[6]
		case "3": // somebody else's
			kept = slices.Concat(s20th(kept), kept)
		case "4": // everything is lost
			kept = nil
		}
		resume(c, kept, shelfPos+500)
	}}
	p := newShelf(t, s)
	o := shelfOptions(p)
	o.Quiet = time.Second // what is lost never comes
	r := mustCatchUp(t, o)
	got := r.Offline
	if got.Lost != 21 || got.Duplicated != 3 || got.Reordered != 1 || got.Received != 6*20-21 || got.CaughtUp != 4 || got.Behind != 2 || got.OK() {
		t.Errorf("%+v; want 21 lost, 3 duplicated, 1 reordered, 4 caught up", got)
	}
	wantCounts(t, &r, map[string]float64{"foreign": 1, "catch_up.lost": 21, "catch_up.duplicated": 3, "catch_up.reordered": 1, "catch_up.behind": 2})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range o.Devices {
		h := s.hellos[fmt.Sprintf("offline-%d", i)]
		if len(h) != 2 || h[0].InboxEpoch != 0 || h[0].InboxPos != 0 || h[1].InboxEpoch != shelfEpoch || h[1].InboxPos != shelfPos {
			t.Errorf("device %d said HELLO with %+v, want the position of its first login in the second", i, h)
		}
	}
	if len(s.acks) != o.Devices || slices.ContainsFunc(s.acks, func(pos uint64) bool { return pos != shelfPos+500 }) {
		t.Errorf("acknowledged %v, want every POS", s.acks)
	}
}

// s20th is the last message with a stream that is not the device's.
func s20th(kept [][]byte) [][]byte {
	b := slices.Clone(kept[len(kept)-1])
	b[len(b)-64+8] ^= 0xff // the payload is 64 bytes, its stream stands behind the time
	return [][]byte{b}
}

// A device that is sent away comes back when it is told, and goes on from the last POS; what it was sent behind that comes again.
func TestOfflineComesBackAfterBye(t *testing.T) {
	const wait = 150 * time.Millisecond
	var mu sync.Mutex
	sent, came := map[string]time.Time{}, map[string]time.Time{}
	s := &shelf{back: func(c *peerConn, n int, kept [][]byte) {
		switch n {
		case 1:
			bye := codec.Bye{Code: codec.CodeOverloaded, Retry: 1, MinMs: uint32(wait.Milliseconds()), MaxMs: uint32(wait.Milliseconds()) + 20}
			mu.Lock()
			sent[c.user] = time.Now()
			mu.Unlock()
			c.write(codec.AppendBye(nil, bye))
		case 2:
			mu.Lock()
			came[c.user] = time.Now()
			mu.Unlock()
			resume(c, kept[:8], shelfPos+8)
			c.write(slices.Concat(kept[8:10]...))
			_ = c.nc.(interface{ CloseWrite() error }).CloseWrite()
		default:
			resume(c, kept[8:], shelfPos+20)
		}
	}}
	p := newShelf(t, s)
	o := shelfOptions(p)
	r := mustCatchUp(t, o)
	got, n := r.Offline, int64(o.Devices)
	if got.CaughtUp != n || got.Lost != 0 || got.Reordered != 0 || got.Duplicated != 2*n || got.Welcome["resumed"] != 2*n {
		t.Errorf("%+v; want all caught up, 2 messages of each duplicated", got)
	}
	wantCounts(t, &r, map[string]float64{"byes": float64(n), "failed": float64(n), "dropped": float64(n), "closed": float64(n)})
	if most := r.Latency[qCatchUp.String()].Min; most < float64(wait.Milliseconds()) {
		t.Errorf("a device was caught up after %v ms, although it had to stay away for %v: the time counts from the first connect", most, wait)
	}
	for user, at := range sent {
		if d := came[user].Sub(at); d < wait {
			t.Errorf("%s came back after %v, not %v", user, d, wait)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, h := range s.hellos {
		if len(h) == 4 && (h[2].InboxPos != shelfPos || h[3].InboxPos != shelfPos+8) {
			t.Errorf("%s came back with %+v", user, h)
		}
	}
}

// Who is told not to come back, or finds nobody for too long, gives up; the run ends without waiting for it.
func TestOfflineGivesUp(t *testing.T) {
	s := &shelf{back: func(c *peerConn, _ int, kept [][]byte) {
		if c.user == "offline-1" {
			c.write(codec.AppendBye(nil, codec.Bye{Code: codec.CodeKicked, Reason: []byte("no")}))
			return
		}
		resume(c, kept, shelfPos+20)
	}}
	p := newShelf(t, s)
	o := shelfOptions(p)
	begun := time.Now()
	r := mustCatchUp(t, o)
	if got := r.Offline; got.CaughtUp != 5 || got.Behind != 1 || got.Lost != 20 {
		t.Errorf("%+v; want one device behind", got)
	}
	if got := r.Errors.Bye[codeName(codec.CodeKicked)]; got != 1 {
		t.Errorf("BYEs %v", r.Errors.Bye)
	}
	if d := time.Since(begun); d > o.Quiet {
		t.Errorf("it took %v", d)
	}
}

// A writer whose messages are refused for now sends them again, in order, as rule 3 of the protocol wants it.
func TestOfflineWritesAgainAfterBusy(t *testing.T) {
	blocked, calls := map[string]uint64{}, 0
	s := &shelf{
		back: func(c *peerConn, _ int, kept [][]byte) { resume(c, kept, shelfPos+20) },
	}
	s.code = func(m codec.Send) codec.Code { // the two writers' streams are told apart by the devices: even and odd
		calls++
		writer := string(m.Name[len(m.Name)-1]&1 + '0')
		switch {
		case blocked[writer] != 0 && blocked[writer] != m.Nonce:
			return codec.CodeBusy
		case blocked[writer] == 0 && calls%17 == 0:
			blocked[writer] = m.Nonce
			return codec.CodeBusy
		}
		delete(blocked, writer)
		return codec.CodeOK
	}
	p := newShelf(t, s)
	o := shelfOptions(p)
	r := mustCatchUp(t, o)
	if got := r.Offline; !got.OK() || got.Received != 120 || got.Duplicated != 0 {
		t.Errorf("%+v; want everything stored once and in order", got)
	}
	if r.Errors.Refused[codeName(codec.CodeBusy)] == 0 {
		t.Error("nothing was refused: nothing to see")
	}
}

// A message that will never be stored ends the run: there would be something missing that nobody lost.
func TestOfflineWriterIsRefused(t *testing.T) {
	s := &shelf{code: func(codec.Send) codec.Code { return codec.CodeForbidden }}
	_, err := RunOffline(t.Context(), shelfOptions(newShelf(t, s)), nil)
	if err == nil || !strings.Contains(err.Error(), "0 of the 120 messages") || !strings.Contains(err.Error(), "FORBIDDEN") {
		t.Errorf("error %v", err)
	}
}
