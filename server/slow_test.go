package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/shard"
)

// smallWindow is a dialer whose kernel takes little for a client that does not read.
func smallWindow() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if e := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }); e != nil {
			return e
		}
		return err
	}}
}

// outbound is what the server keeps for a user's sessions, the largest of them, in bytes.
func outbound(t *testing.T, n *servertest.Node, user string) (most int, live bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Patience)
	defer cancel()
	infos, err := n.Sessions(ctx, []string{user})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		most = max(most, i.Outbound)
	}
	return most, len(infos) > 0
}

// A reader that does not read costs at most OutBytes; then messages for it are dropped and counted, then it is ended
// with SLOW. Everybody else gets everything.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{SlowReader: 700 * time.Millisecond}})
	slow, err := servertest.TryDial(t, n.Addr(), smallWindow())
	if err != nil {
		t.Fatal(err)
	}
	slow.Send(servertest.Hello("slow", "d"))
	slow.Welcome()
	slow.Sub("flood")
	good := servertest.Login(t, n.Addr(), "good", "d")
	good.Sub("flood")
	from := servertest.Login(t, n.Addr(), "from", "d")

	text := strings.Repeat("x", 32<<10)
	most, ended, sent := 0, false, 0
	for begun := time.Now(); !ended && time.Since(begun) < servertest.Patience; sent++ {
		from.Send(topicSend(1, "flood", text))
		if a := from.SendAck(); a.Code != codec.CodeOK {
			t.Fatalf("SENDACK %+v", a)
		}
		if m := good.Msg(); len(m.Payload) != len(text) {
			t.Fatalf("the good reader got %d bytes, want %d", len(m.Payload), len(text))
		}
		kept, live := outbound(t, n, "slow")
		most, ended = max(most, kept), !live
	}
	t.Logf("%d messages of 32 KiB; at most %d bytes were kept", sent, most)
	if !ended {
		t.Fatal("the slow reader was not ended")
	}
	if most < 256<<10 || most > 1<<20 {
		t.Errorf("%d bytes were kept for the slow reader, want up to 1 MiB", most)
	}
	eventually(t, "the ladder is counted", func() bool {
		st := n.Stats()
		return st.Dropped[shard.DropSlowReader] > 0 && st.Byes[codec.CodeSlow] == 1
	})
	if got := metricsOf(t, n)[`gannet_dropped_total{reason="slow_reader"}`]; got == 0 {
		t.Error("no drop was counted for the slow reader")
	}
	good.Ping()
	for _, c := range []*servertest.Conn{slow, good, from} {
		c.Close()
	}
	allGone(t, n)
}

// A slow reader that reads again in time gets its BYE behind what was kept for it.
func TestSlowReaderReadsItsBye(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Limits: server.Limits{SlowReader: 300 * time.Millisecond}})
	slow, err := servertest.TryDial(t, n.Addr(), smallWindow())
	if err != nil {
		t.Fatal(err)
	}
	slow.Send(servertest.Hello("slow", "d"))
	slow.Welcome()
	text := strings.Repeat("x", 60<<10)
	for i := 0; ; i++ {
		if _, live := outbound(t, n, "slow"); !live {
			break
		}
		if _, code := n.Publish(publication("slow", text)); code != codec.CodeOK && code != codec.CodeBusy {
			t.Fatalf("publishing: %v", code)
		}
		if i > 100_000 {
			t.Fatal("the slow reader was not ended")
		}
	}
	for {
		f, err := slow.ReadFrame()
		if err != nil {
			t.Fatalf("no BYE came: %v", err)
		}
		if f.Type != codec.TypeBye {
			continue
		}
		if b, err := codec.ConsumeBye(f); err != nil || b.Code != codec.CodeSlow || b.Retry != 1 {
			t.Errorf("BYE %+v, %v, want SLOW and to come back", b, err)
		}
		break
	}
	slow.EOF()
}

// However fast messages come and however many loops admit them: what is kept for one reader stays within OutBytes.
func TestBurstToSlowReader(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Loops: 8, Limits: server.Limits{SlowReader: time.Hour}})
	slow, err := servertest.TryDial(t, n.Addr(), smallWindow())
	if err != nil {
		t.Fatal(err)
	}
	slow.Send(servertest.Hello("slow", "d"))
	slow.Welcome()
	slow.Sub("flood")
	p := publication("", strings.Repeat("x", 60<<10))
	p.Kind, p.Name = codec.KindTopic, "flood"
	most, sent := 0, 0
	eventually(t, "messages are dropped for it", func() bool {
		for range 300 { // many more than the loop can write meanwhile
			if _, code := n.Publish(p); code == codec.CodeOK {
				sent++
			}
		}
		kept, _ := outbound(t, n, "slow")
		most = max(most, kept)
		return n.Stats().Dropped[shard.DropSlowReader] > 100
	})
	t.Logf("%d messages of 60 KiB; at most %d bytes were kept", sent, most)
	if most > 1<<20 {
		t.Errorf("%d bytes were kept for a reader, want at most 1 MiB", most)
	}
}

// Who asks and does not read the answers is ended as well.
func TestAsksAndDoesNotRead(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	c, err := servertest.TryDial(t, n.Addr(), smallWindow())
	if err != nil {
		t.Fatal(err)
	}
	c.Send(servertest.Hello("asker", "d"))
	c.Welcome()
	var pings []byte
	for range 4096 {
		pings = codec.AppendPing(pings, codec.Ping{Data: []byte("12345678")})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := c.Write(pings); err != nil {
				return
			}
		}
	}()
	most := 0
	eventually(t, "it is ended with SLOW", func() bool {
		kept, _ := outbound(t, n, "asker")
		most = max(most, kept)
		return n.Stats().Byes[codec.CodeSlow] == 1
	})
	if most > 1<<20 {
		t.Errorf("%d bytes of answers were kept, want at most 1 MiB", most)
	}
	c.Close()
	<-done
	allGone(t, n)
}

// Members of a room that reset their connections while it is written to do not cost the others a message.
func TestResetsDuringBroadcast(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	const members, rounds = 200, 10
	var stay []*servertest.Conn
	var leave []*servertest.Conn
	for i := range members {
		c := servertest.Login(t, n.Addr(), fmt.Sprint("u", i), "d")
		c.Sub("news")
		if i%2 == 0 {
			stay = append(stay, c)
		} else {
			if err := c.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			leave = append(leave, c)
		}
	}
	from := servertest.Login(t, n.Addr(), "from", "d")
	text := strings.Repeat("x", 8<<10)
	for r := range rounds {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for _, c := range leave[r*len(leave)/rounds : (r+1)*len(leave)/rounds] {
				_ = c.Close()
			}
		}()
		for i := range 5 {
			from.Send(topicSend(uint32(r*5+i+1), "news", text))
		}
		for range 5 {
			if a := from.SendAck(); a.Code != codec.CodeOK {
				t.Fatalf("SENDACK %+v", a)
			}
		}
		<-gone
	}
	for i, c := range stay {
		for range rounds * 5 {
			if m := c.Msg(); len(m.Payload) != len(text) {
				t.Fatalf("member %d got %d bytes", i, len(m.Payload))
			}
		}
		c.Ping()
		c.Close()
	}
	from.Close()
	if p := metricsOf(t, n)["gannet_panics_total"]; p != 0 {
		t.Errorf("%v panics", p)
	}
	allGone(t, n)
	if st := n.Stats(); st.Subscriptions != 0 || st.Rooms != 0 || st.Backlogged != 0 || st.BacklogBytes != 0 {
		t.Errorf("left behind: %d subscriptions, %d rooms, %d backlogged, %d bytes", st.Subscriptions, st.Rooms, st.Backlogged, st.BacklogBytes)
	}
}

// Half-close by the client: what came before it is done and answered, then the connection closes.
func TestHalfClose(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	bob := servertest.Login(t, n.Addr(), "bob", "d")
	var conns []*servertest.Conn
	for i := range 200 { // many at once, so that some ends come together with what was before them
		c := servertest.Dial(t, n.Addr())
		c.Send(append(servertest.Hello(fmt.Sprint("u", i), "d"), directSend(9, "bob", "last words")...))
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		if m := bob.Msg(); string(m.Payload) != "last words" {
			t.Fatalf("bob got %q", m.Payload)
		}
		c.Welcome()
		if a := c.SendAck(); a.Req != 9 || a.Code != codec.CodeOK {
			t.Errorf("SENDACK %+v", a)
		}
		c.EOF()
	}
	// In the middle of a frame: nobody waits for the rest of it.
	c := servertest.Login(t, n.Addr(), "carol", "d")
	c.Send(topicSend(1, "t", "text")[:7])
	_ = c.CloseWrite()
	c.EOF()
	bob.Close()
	allGone(t, n)
}

// A client's BYE is answered by closing, behind the answers to what it asked before.
func TestClientSaysBye(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	c.Send(append(codec.AppendPing(nil, codec.Ping{}), codec.AppendBye(nil, codec.Bye{})...))
	servertest.Expect(c, codec.TypePong, codec.ConsumePing)
	c.EOF()
	eventually(t, "its end is counted", func() bool { return n.Stats().ClosedByPeer == 1 })
	allGone(t, n)
}

// Drain's deadline holds although a peer does not read its BYE and does not close.
func TestDrainDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	n := servertest.Start(t, server.Options{Drain: 500 * time.Millisecond})
	c, err := servertest.TryDial(t, n.Addr(), smallWindow())
	if err != nil {
		t.Fatal(err)
	}
	c.Send(servertest.Hello("deaf", "d"))
	c.Welcome()
	for range 50 {
		n.Publish(publication("deaf", strings.Repeat("x", 60<<10)))
	}
	begun := time.Now()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("the drain took %v, want 500 ms", d)
	}
	for {
		if _, err := c.ReadFrame(); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				break
			}
			t.Fatal(err)
		}
	}
}
