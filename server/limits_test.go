package server_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// Twice as many as may: the rest is told so, the living do not notice, and places that become free are used.
func TestTooManyConnections(t *testing.T) {
	const limit, loops = 40, 2
	n := servertest.Start(t, server.Options{Loops: loops, Limits: server.Limits{Connections: limit}})
	var living []*servertest.Conn
	refused := 0
	for i := range 2 * limit {
		c := servertest.Dial(t, n.Addr())
		c.Send(servertest.Hello("user", fmt.Sprint(i))) // in flight when the BYE is written
		f := c.Next()
		if f.Type == codec.TypeWelcome {
			living = append(living, c)
			continue
		}
		b, err := servertest.Read(f, codec.TypeBye, codec.ConsumeBye)
		if err != nil {
			t.Fatal(err)
		}
		if b.Code != codec.CodeOverloaded || b.Retry != 1 || b.MaxMs <= b.MinMs {
			t.Fatalf("BYE %+v, want OVERLOADED and a window to come back in", b)
		}
		c.EOF()
		c.Close()
		refused++
	}
	if len(living) < limit || len(living) > limit+loops-1 {
		t.Errorf("%d connections live, want %d, at most one more a loop beyond the first", len(living), limit)
	}
	for _, c := range living {
		c.Ping()
	}
	eventually(t, "the refused are gone", func() bool { return n.Open() == int64(len(living)) })
	if got := metricsOf(t, n)[`gannet_connections_refused_total{reason="full"}`]; got != float64(refused) {
		t.Errorf("%v refused were counted, want %d", got, refused)
	}

	for _, c := range living[:5] {
		c.Close()
	}
	eventually(t, "five places are free", func() bool { return n.Open() == int64(len(living)-5) })
	for i := range 5 {
		servertest.Login(t, n.Addr(), "late", fmt.Sprint(i)).Ping()
	}
	for _, c := range living[5:] {
		c.Ping()
		c.Close()
	}
}

// Many that are refused at once, and stay: each reads its BYE, few of them are kept, and those not for long.
func TestRefusedThatStay(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{Connections: 2}})
	for i := range 2 {
		servertest.Login(t, n.Addr(), "alice", fmt.Sprint(i))
	}
	var refused []*servertest.Conn
	for range 200 {
		c := servertest.Dial(t, n.Addr())
		refused = append(refused, c)
	}
	for _, c := range refused {
		if b := servertest.Expect(c, codec.TypeBye, codec.ConsumeBye); b.Code != codec.CodeOverloaded {
			t.Fatalf("BYE %+v", b)
		}
		if now, most := n.Refusals(); now > most+2 { // one a loop is counted before it is turned away
			t.Fatalf("%d refused connections are kept, at most %d may", now, most)
		}
	}
	eventually(t, "none of them is kept", func() bool { now, _ := n.Refusals(); return now == 0 })
	if open := n.Open(); open != 2 {
		t.Errorf("%d connections count, want 2", open)
	}
}

// The counter of open connections comes back to nothing however connections end: closed, reset, refused, refused and
// reset at once.
func TestOpenConnectionsDoNotDrift(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{Connections: 20}})
	for range 10 {
		var conns []*net.TCPConn
		for i := range 40 {
			nc, err := net.Dial("tcp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			c := nc.(*net.TCPConn)
			if i%4 == 0 {
				_ = c.SetLinger(0)
				_ = c.Close()
				continue
			}
			_, _ = c.Write(servertest.Hello("user", fmt.Sprint(i)))
			if i%4 == 1 {
				_ = c.SetLinger(0)
			}
			if i%4 == 2 {
				_ = c.CloseWrite()
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}
	allGone(t, n)
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
}

// A session may not have more subscriptions than its limit; more are refused and it lives.
func TestManySubscriptions(t *testing.T) {
	const limit, total = 1024, 100_000
	n := servertest.Start(t, server.Options{Loops: 2})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	var subs []byte
	for i := range total {
		subs = codec.AppendSub(subs, codec.Sub{Req: uint32(i + 1), Kind: codec.KindTopic, Name: fmt.Appendf(nil, "t%d", i)})
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(subs)
		sent <- err
	}()
	answered := make([]bool, total+1) // in any order: those that are granted come from the log
	for range total {
		a := c.SubAck()
		want := codec.CodeOK
		if a.Req > limit {
			want = codec.CodeRateLimited
		}
		if a.Req == 0 || int(a.Req) > total || answered[a.Req] || a.Code != want {
			t.Fatalf("SUBACK %+v, want %v, once", a, want)
		}
		answered[a.Req] = true
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	c.Ping()
	eventually(t, "the subscriptions are published", func() bool { return n.Stats().Subscriptions == limit })
	c.Send(codec.AppendUnsub(nil, codec.Unsub{Req: 1, Kind: codec.KindTopic, Name: []byte("t0")}))
	c.SubAck()
	c.Sub("another")
	c.Close()
	eventually(t, "no subscription is left", func() bool { st := n.Stats(); return st.Subscriptions == 0 && st.Rooms == 0 })
}

// heap is the live heap after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// announceMuch has count live sessions announce a frame of 16 MiB and send the first bytes of it. None of it is
// set aside for them: a frame is paid for by its sender, byte by byte.
func announceMuch(t *testing.T, count int) {
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{
		MaxFrame: codec.MaxBody - 256,
	}})
	conns := make([]*net.TCPConn, count)
	for i := range conns {
		// Several addresses: from one, many connections are slow to open.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
		c, err := servertest.TryDial(t, n.Addr(), &d)
		if err != nil {
			t.Fatal(err)
		}
		c.Send(servertest.Hello(fmt.Sprint("u", i), "d"))
		if f, err := c.ReadFrame(); err != nil || f.Type != codec.TypeWelcome {
			t.Fatalf("connection %d: %v, %v, want WELCOME", i, f.Type, err)
		}
		conns[i] = c.TCPConn
	}
	eventually(t, "all logins are published", func() bool { return n.Stats().Sessions == int64(count) })
	in, before := n.Stats().Opened, heap()
	for _, c := range conns {
		if _, err := c.Write(announced(codec.MaxBody-256, codec.TypeSend)); err != nil {
			t.Fatal(err)
		}
	}
	// The bytes count as read only when the frame is complete, so a session that came later and answers says that
	// its loop has seen them; 32 of them are on both loops.
	for i := range 32 {
		servertest.Login(t, n.Addr(), "later", fmt.Sprint(i)).Ping()
	}
	after := heap()
	if st := n.Stats(); st.Sessions < int64(count) || st.Opened < in {
		t.Fatalf("%d sessions live, want %d", st.Sessions, count)
	}
	// gnet keeps 1 KiB for an unfinished frame; its own bytes, the 32 late ones and the collector's noise come on top.
	each := (after - before) / int64(count)
	t.Logf("%d connections that announce 16 MiB: %d bytes of heap each", count, each)
	if each > 4<<10 {
		t.Errorf("%d bytes each, want at most 4 KiB", each)
	}
	for _, c := range conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

func TestAnnouncedBytesCostNothing(t *testing.T) {
	announceMuch(t, min(2000, files(t)/3))
}

// files is how many descriptors this process may have.
func files(t *testing.T) int {
	t.Helper()
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	return int(min(r.Max, 1<<20))
}

// Before the login 16 MiB are refused at the header, for everyone.
func TestAnnouncedBytesAreRefusedBeforeLogin(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{MaxFrame: codec.MaxBody - 256}})
	for range 100 {
		c := servertest.Dial(t, n.Addr())
		c.Send(announced(codec.MaxBody, codec.TypeHello))
		c.Bye(codec.CodeMalformed)
		c.Close()
	}
	allGone(t, n)
}

func TestRateLimit(t *testing.T) {
	n := servertest.Start(t, limits(server.Limits{SendsPerSecond: 5}))
	c := servertest.Login(t, n.Addr(), "alice", "d")
	got := map[codec.Code]int{}
	for range 40 {
		c.Send(topicSend(1, "t", "x"))
		got[c.SendAck().Code]++
	}
	if got[codec.CodeOK] < 10 || got[codec.CodeRateLimited] < 20 || got[codec.CodeOK]+got[codec.CodeRateLimited] != 40 {
		t.Errorf("codes %v, want a burst of 10 OK and RATE_LIMITED", got)
	}
	c.Ping()
}

func TestSessionsPerUser(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2, Limits: server.Limits{SessionsPerUser: 4}})
	var conns []*servertest.Conn
	for i := range 4 {
		conns = append(conns, servertest.Login(t, n.Addr(), "alice", fmt.Sprint(i)))
	}
	c := servertest.Dial(t, n.Addr())
	c.Send(servertest.Hello("alice", "one too many"))
	c.Bye(codec.CodeOverloaded)
	servertest.Login(t, n.Addr(), "bob", "d").Ping()
	for _, c := range conns {
		c.Ping()
	}
}

// Memory that a burst needed is given back after a few seconds of rest.
func TestTrimmer(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	for range 600 {
		c.Ping()
	}
	eventually(t, "memory is given back", func() bool {
		<-time.After(100 * time.Millisecond)
		return metricsOf(t, n)["gannet_memory_trims_total"] == 1
	})
	c.Ping()
}
