package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// Nothing is left of a server that was run and ended, however much was going on.
func TestNothingIsLeftBehind(t *testing.T) {
	before := openFiles(t)
	leaks := goleak.IgnoreCurrent()
	for range 3 {
		o := withJWT(t)
		o.Handlers.Online = func(server.Session) {}
		n := servertest.Start(t, o)
		for _, device := range []string{"a", "b", "c"} {
			loginExpiring(t, n.Addr(), "alice", device, tokenFor(t, "alice"))
		}
		servertest.Dial(t, n.Addr())
		call(t, n, "GET", "/v1/node", "")
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, append(gnetPool, leaks)...)
	// The tests' own ends stay open until the test is over: four connections a round.
	eventually(t, "the descriptors are given back", func() bool { return openFiles(t) <= before+12 })
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A server that was made and not run, or that could not be made, leaves no goroutine.
func TestNewStartsNothing(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	taken, err := net.Listen("tcp", servertest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := withJWT(t)
	o.Handlers.Online = func(server.Session) {}
	o.Admin = taken.Addr().String()
	if _, err := servertest.New(o); err == nil || !strings.HasPrefix(err.Error(), "admin:") || !strings.Contains(err.Error(), "another server") {
		t.Errorf("error %v, want one that says that the admin port is taken", err)
	}
	goleak.VerifyNone(t, append(gnetPool, leaks)...)
}

func TestPortTaken(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	_, err := servertest.New(server.Options{Listen: n.Addr()})
	if err == nil || !strings.HasPrefix(err.Error(), "listen: "+n.Addr()) || !strings.Contains(err.Error(), "another server") {
		t.Errorf("error %v, want one that names the address", err)
	}
	if _, err = servertest.New(server.Options{Admin: n.AdminAddr()}); err == nil || !strings.HasPrefix(err.Error(), "admin:") {
		t.Errorf("error %v, want one about the admin port", err)
	}
	_, err = servertest.New(server.Options{Listen: "192.0.2.1:7000", Insecure: true})
	if err == nil || !strings.Contains(err.Error(), "does not have that address") {
		t.Errorf("error %v, want one that says that the address is not this machine's", err)
	}
	// The other server was made before the port was taken, and is run behind it.
	first, err := servertest.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := server.New(server.Options{Listen: first.Addr(), Admin: "off", Store: "memory", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	servertest.Run(t, first)
	<-first.Ready()
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("Run: %v, want an error that says that the port is taken", err)
	}
	// Taken between New and Run: an error, not a crash.
	s, err := servertest.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := s.Run(t.Context()); err == nil || errors.Is(err, server.ErrEngine) || !strings.HasPrefix(err.Error(), "listen:") {
		t.Errorf("Run: %v, want an error about the port", err)
	}
}

func TestPortZero(t *testing.T) {
	n := servertest.Start(t, server.Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0"})
	if strings.HasSuffix(n.Addr(), ":0") || strings.HasSuffix(n.AdminAddr(), ":0") {
		t.Fatalf("addresses %s and %s", n.Addr(), n.AdminAddr())
	}
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
	if code, _ := call(t, n, "GET", "/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
}

func TestIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(servertest.Addr())
	n := servertest.Start(t, server.Options{Listen: "[::1]:" + port})
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
}

func TestAdminOff(t *testing.T) {
	n := servertest.Start(t, server.Options{Admin: "off"})
	if n.AdminAddr() != "" {
		t.Errorf("admin at %q", n.AdminAddr())
	}
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
}

func TestRunTwice(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	if err := n.Run(t.Context()); !errors.Is(err, server.ErrStarted) {
		t.Errorf("second Run: %v, want ErrStarted", err)
	}
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
}

func TestRunWithAnEndedContext(t *testing.T) {
	s, err := servertest.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestTwoServers(t *testing.T) {
	one := servertest.Start(t, server.Options{Node: "one", Loops: 2})
	two := servertest.Start(t, server.Options{Node: "two", Loops: 2})
	a1, a2 := servertest.Login(t, one.Addr(), "alice", "d"), servertest.Login(t, two.Addr(), "alice", "d")
	b1, b2 := servertest.Login(t, one.Addr(), "bob", "d"), servertest.Login(t, two.Addr(), "bob", "d")
	b1.Sub("t")
	b2.Sub("t")
	a1.Send(topicSend(0, "t", "on one"))
	a2.Send(topicSend(0, "t", "on two"))
	if m := b1.Msg(); string(m.Payload) != "on one" {
		t.Errorf("got %q", m.Payload)
	}
	if m := b2.Msg(); string(m.Payload) != "on two" {
		t.Errorf("got %q", m.Payload)
	}
	if err := one.Stop(); err != nil {
		t.Error(err)
	}
	a2.Ping()
	b2.Ping()
	eventually(t, "both logins are published", func() bool { return metricsOf(t, two)["gannet_sessions"] == 2 })
}

// Draining: sessions are told over the drain's time, not all at once; who connects is told as well; probes learn it.
func TestDrain(t *testing.T) {
	t.Parallel()
	const sessions, drain = 80, 3 * time.Second
	n := servertest.Start(t, server.Options{Loops: 2, Drain: drain})
	var conns []*servertest.Conn
	for range sessions {
		conns = append(conns, servertest.Login(t, n.Addr(), "alice", fmt.Sprint(len(conns))))
	}
	begun := time.Now()
	n.Drain()
	ended := make(chan time.Duration, sessions)
	for _, c := range conns {
		go func() {
			defer c.Close()
			f, err := c.ReadFrame()
			if err == nil {
				if b, err := servertest.Read(f, codec.TypeBye, codec.ConsumeBye); err == nil && b.Code == codec.CodeDraining && b.Retry == 1 && b.MaxMs > b.MinMs {
					ended <- time.Since(begun)
					return
				}
			}
			ended <- -1
		}()
	}
	eventually(t, "probes learn it", func() bool { code, _ := call(t, n, "GET", "/readyz", ""); return code == 503 })
	c := servertest.Dial(t, n.Addr())
	c.Send(servertest.Hello("late", "d"))
	if b := c.Bye(codec.CodeDraining); b.Retry != 1 {
		t.Errorf("BYE %+v", b)
	}
	if m := metricsOf(t, n); m[`gannet_connections_refused_total{reason="draining"}`] != 1 {
		t.Errorf("refused: %v", m[`gannet_connections_refused_total{reason="draining"}`])
	}
	quarters := [4]int{}
	for range sessions {
		d := <-ended
		if d < 0 {
			t.Fatal("a session did not get BYE DRAINING")
		}
		quarters[min(3, int(4*d/drain))]++
	}
	for i, q := range quarters {
		if q < 3 || q > sessions/2 {
			t.Errorf("BYEs by quarter of the drain: %v; quarter %d has %d", quarters, i, q)
		}
	}
	<-n.Ended()
	if d := time.Since(begun); d > drain+time.Second {
		t.Errorf("the drain took %v, want at most %v", d, drain)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

// Without sessions a drain takes no time.
func TestDrainOfNobody(t *testing.T) {
	n := servertest.Start(t, server.Options{Drain: time.Hour})
	begun := time.Now()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

const starvedEnv = "GANNET_TEST_STARVED"

// When the process runs out of descriptors for a reason outside the server, an accept fails and gnet ends all
// loops: Run says so, so that who watches the process starts it anew.
func TestAcceptThatFailsIsACrash(t *testing.T) {
	if os.Getenv(starvedEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAcceptThatFailsIsACrash$", "-test.v")
		cmd.Env = append(os.Environ(), starvedEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	s, err := servertest.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- s.Run(context.Background()) }()
	<-s.Ready()
	c := servertest.Login(t, s.Addr(), "alice", "d")
	nc, err := net.Dial("tcp", s.AdminAddr()) // takes its place before there is none
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	r.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	addr, _ := net.ResolveTCPAddr("tcp", s.Addr())
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if !errors.Is(err, server.ErrEngine) {
			t.Errorf("Run: %v, want ErrEngine", err)
		}
	case <-time.After(servertest.Patience):
		t.Error("Run goes on")
	}
	c.EOF()
}
