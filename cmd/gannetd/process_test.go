package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server/auth"
	"gannet/server/servertest"
)

func errorsAs[T error](err error, target *T) bool { return errors.As(err, target) }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// SIGTERM: sessions are told over the drain's time, who connects is told too, the exit code is 0.
func TestTerminate(t *testing.T) {
	t.Parallel()
	const sessions, drain = 60, 4 * time.Second
	p := start(t, 0, nil, "--drain", drain.String())
	if !strings.HasSuffix(p.ready, " auth=open") {
		t.Errorf("ready: %q", p.ready)
	}
	var conns []*servertest.Conn
	for i := range sessions {
		conns = append(conns, servertest.Login(t, p.listen, fmt.Sprint("u", i), "d"))
	}
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	times := make(chan time.Duration, sessions)
	for _, c := range conns {
		go func() {
			defer c.Close()
			f, err := c.ReadFrame()
			if err != nil || f.Type != codec.TypeBye {
				times <- -1
				return
			}
			times <- time.Since(begun)
		}()
	}
	first := <-times
	c := servertest.Dial(t, p.listen)
	c.Send(servertest.Hello("late", "d"))
	if b := c.Bye(codec.CodeDraining); b.Retry != 1 || b.MaxMs == 0 {
		t.Errorf("BYE %+v", b)
	}
	last := first
	for range sessions - 1 {
		d := <-times
		if d < 0 {
			t.Fatal("a session got no BYE")
		}
		last = max(last, d)
	}
	if first < 0 || first > drain/2 || last < drain/2 || last > drain {
		t.Errorf("the first BYE after %v, the last after %v, want them spread over %v", first, last, drain)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if d := time.Since(begun); d > drain+time.Second {
		t.Errorf("ended after %v, want at most %v", d, drain)
	}
	if _, err := net.DialTimeout("tcp", p.listen, time.Second); err == nil {
		t.Error("the port still answers")
	}
}

// A peer that keeps its connection open after BYE does not make the drain longer.
func TestTerminateWithPeersThatStay(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, "--drain", "1s")
	servertest.Login(t, p.listen, "alice", "d")
	servertest.Dial(t, p.listen)
	begun := time.Now()
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if d := time.Since(begun); d > 2500*time.Millisecond {
		t.Errorf("ended after %v, want 1 s", d)
	}
}

func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, "--drain", "1h")
	servertest.Login(t, p.listen, "alice", "d")
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	for { // the first is being dealt with
		if code, _ := get(t, "http://"+p.admin+"/readyz"); code == http.StatusServiceUnavailable {
			break
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("ended after %v, want at once", d)
	}
	if !strings.Contains(p.stderr.String(), "second signal") {
		t.Errorf("it wrote %q", p.stderr)
	}
}

// The whole process under a low limit of open files: as many connections as fit, BYE OVERLOADED for the rest,
// and it goes on when some leave.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const files = 1200
	p := start(t, files, nil)
	_, body := get(t, "http://"+p.admin+"/metrics")
	var limit int
	for line := range strings.Lines(body) {
		_, _ = fmt.Sscanf(line, "gannet_connections_limit %d", &limit)
	}
	if limit < 50 || limit > files-1024 {
		t.Fatalf("a limit of %d connections under %d open files", limit, files)
	}
	// The admin port takes its share meanwhile.
	for range 200 {
		c, err := net.Dial("tcp", p.admin)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var living, refused []*servertest.Conn
	for i := range 3 * limit {
		c := servertest.Dial(t, p.listen)
		c.Send(servertest.Hello(fmt.Sprint("u", i), "d"))
		switch f := c.Next(); f.Type {
		case codec.TypeWelcome:
			living = append(living, c)
		case codec.TypeBye:
			if b, err := codec.ConsumeBye(f); err != nil || b.Code != codec.CodeOverloaded {
				t.Fatalf("BYE %+v, %v", b, err)
			}
			refused = append(refused, c) // stays open: the server must not wait for it
		default:
			t.Fatalf("got %v", f.Type)
		}
	}
	if len(living) < limit || len(living) > limit+8 || len(refused) < limit {
		t.Errorf("%d live and %d were refused, the limit is %d", len(living), len(refused), limit)
	}
	for _, c := range living {
		c.Ping()
	}
	for _, c := range append(refused, living[:20]...) {
		c.Close()
	}
	deadline := time.Now().Add(servertest.Patience)
	for got := 0; got < 15; {
		c := servertest.Dial(t, p.listen)
		c.Send(servertest.Hello(fmt.Sprint("late", got), "d"))
		if f := c.Next(); f.Type == codec.TypeWelcome {
			got++
			continue
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("no places become free")
		}
	}
	for _, c := range living[20:] {
		c.Ping()
		c.Close()
	}
	p.signal(syscall.SIGTERM)
}

func TestTooFewDescriptors(t *testing.T) {
	p := exitOf(t, `ulimit -n 200 && exec "$0" --listen `+servertest.Addr()+` --admin off --data `+t.TempDir())
	if p.code != 1 || !strings.Contains(p.stderr, "ulimit -n") {
		t.Errorf("exit code %d: %q, want 1 and what to do", p.code, p.stderr)
	}
}

type result struct {
	code   int
	stderr string
}

// exitOf runs a shell line in which $0 is gannetd.
func exitOf(t *testing.T, line string) result {
	t.Helper()
	cmd := newShell(t, line)
	var errs strings.Builder
	cmd.Stderr = &errs
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), errs.String()}
}

func TestPortTaken(t *testing.T) {
	p := start(t, 0, nil)
	for _, args := range [][]string{
		{"--listen", p.listen, "--admin", "off"},
		{"--listen", servertest.Addr(), "--admin", p.admin},
	} {
		code, _, stderr := gannetd(t, nil, append(args, "--data", t.TempDir())...)
		if code != 1 || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, "another server") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}

// --auth jwt with a key file: a token of that key gets in, SIGHUP takes another key.
func TestJWT(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.key")
	keys := [2]string{strings.Repeat("first-key-", 4), strings.Repeat("second-key-", 4)}
	write := func(key string) {
		if err := os.WriteFile(file, []byte("text:"+key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(keys[0])
	p := start(t, 0, nil, "--auth", "jwt", "--auth-keys", file)
	if !strings.HasSuffix(p.ready, " auth=jwt") {
		t.Errorf("ready: %q", p.ready)
	}
	knock := func(key string) codec.Type {
		t.Helper()
		token, err := auth.Grant{User: "alice", Expires: time.Now().Add(time.Hour)}.Sign([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		c := servertest.Dial(t, p.listen)
		defer c.Close()
		c.Send(servertest.HelloToken("alice", "d", token))
		return c.Next().Type
	}
	if got := [2]codec.Type{knock(keys[0]), knock(keys[1])}; got != [2]codec.Type{codec.TypeWelcome, codec.TypeBye} {
		t.Errorf("with the first key %v", got)
	}
	write(keys[1])
	p.signal(syscall.SIGHUP)
	for deadline := time.Now().Add(servertest.Patience); knock(keys[1]) != codec.TypeWelcome; {
		if time.Now().After(deadline) {
			t.Fatal("the new key is not taken")
		}
	}
	if got := knock(keys[0]); got != codec.TypeBye {
		t.Errorf("the old key gets %v", got)
	}
	write("short") // the old ones stay
	p.signal(syscall.SIGHUP)
	for deadline := time.Now().Add(servertest.Patience); !strings.Contains(p.stderr.String(), "not reloaded"); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is said about a bad key")
		}
	}
	if got := knock(keys[1]); got != codec.TypeWelcome {
		t.Errorf("after a bad reload the key gets %v", got)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
