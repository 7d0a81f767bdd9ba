package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"gannet/bench"
	"gannet/codec"
	"gannet/server/auth"
)

func benchParse(t *testing.T, args ...string) *benchCmd {
	t.Helper()
	var c benchCmd
	k, err := kong.New(&c, kong.Exit(func(int) { t.Fatalf("%q: kong wanted to exit", args) }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(args); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return &c
}

func TestBenchDefaultsAreValid(t *testing.T) {
	t.Setenv("GANNET_ADDR", "")
	os.Unsetenv("GANNET_ADDR")
	c := benchParse(t, "p2p")
	o, err := c.P2P.options(c.P2P.load(bench.ScenarioP2P))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.Addr != "127.0.0.1:7000" || o.Conns != 1000 || o.Rate != 1000 || o.Size != 64 || !o.Acks ||
		o.Heartbeat != 15*time.Second || o.For != 10*time.Second || o.Warmup != time.Second || o.Token != nil {
		t.Errorf("defaults %+v", o)
	}
}

func TestBenchFlagsReachTheOptions(t *testing.T) {
	t.Setenv("GANNET_ADDR", "10.0.0.1:9")
	c := benchParse(t, "broadcast", "-n", "50", "-r", "2.5", "--topic", "a", "--topic", "b", "--publishers", "4", "--no-acks",
		"--source", "127.0.0.2,127.0.0.3", "--ramp", "500", "--for", "3s", "--passive")
	o, err := c.Broadcast.options(c.Broadcast.load(bench.ScenarioBroadcast))
	if err != nil {
		t.Fatal(err)
	}
	if o.Addr != "10.0.0.1:9" || o.Conns != 50 || o.Rate != 2.5 || o.Acks || len(o.Sources) != 2 || o.Ramp != 500 || o.For != 3*time.Second || !o.Passive {
		t.Errorf("options %+v", o)
	}
	if len(c.Broadcast.Topic) != 2 || c.Broadcast.Publishers != 4 {
		t.Errorf("broadcast %+v", c.Broadcast)
	}
	c.Broadcast.Source = "here"
	if _, err := c.Broadcast.options(bench.Options{}); err == nil || !strings.Contains(err.Error(), "--source") {
		t.Errorf("a bad source: %v", err)
	}
}

func TestBenchTokens(t *testing.T) {
	key := filepath.Join(t.TempDir(), "bench.key")
	if err := os.WriteFile(key, []byte("text:0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := benchParse(t, "conn", "--token-key", key)
	o, err := c.Conn.options(bench.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := server.Authenticate(t.Context(), auth.Request{User: "bench-7", Token: []byte(o.Token("bench-7"))})
	if err != nil || id.User != "bench-7" || !id.Rights.All {
		t.Errorf("the server makes of a token %+v, %v; want bench-7 with every right", id, err)
	}
	c.Conn.TokenKey = filepath.Join(t.TempDir(), "none.key")
	if _, err := c.Conn.options(bench.Options{}); err == nil || !strings.Contains(err.Error(), "--token-key") {
		t.Errorf("a missing key: %v", err)
	}
}

func TestBenchJudge(t *testing.T) {
	asserts, err := bench.ParseAssertions("lost=0,sent=5,p99<1s")
	if err != nil {
		t.Fatal(err)
	}
	r := &bench.Report{Scenario: bench.ScenarioP2P, Traffic: bench.Traffic{Sent: 5, Lost: 2}}
	var out bytes.Buffer
	if err := benchJudge(&out, asserts, r); err == nil || !strings.Contains(err.Error(), "2 of 3") {
		t.Errorf("error %v, want 2 of 3 failed", err)
	}
	if got := strings.Count(out.String(), "FAILED "); got != 2 || !strings.Contains(out.String(), "lost=0: measured 2") {
		t.Errorf("a line for each failure:\n%s", &out)
	}
	if err := benchJudge(&out, asserts[1:2], r); err != nil {
		t.Errorf("sent=5 holds: %v", err)
	}
}

func TestBenchAdvice(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&bench.ConnectError{Addr: "127.0.0.1:7000", Errno: unix.ECONNREFUSED, Count: 9}, "gannetd"},
		{&bench.RefusedError{Code: codec.CodeUnauthorized, Reason: "no token"}, "--token-key"},
		{&bench.RefusedError{Code: codec.CodeReplaced}, "--user-prefix"},
	} {
		got := benchAdvise(tc.err)
		if !errors.Is(got, tc.err) || !strings.Contains(got.Error(), tc.want) || !strings.HasPrefix(got.Error(), tc.err.Error()) {
			t.Errorf("%v became %v, want it with %q behind", tc.err, got, tc.want)
		}
	}
	plain := errors.New("something else")
	if got := benchAdvise(plain); got != plain {
		t.Errorf("%v became %v", plain, got)
	}
}

func TestBenchProgress(t *testing.T) {
	s := bench.Snapshot{Asked: 10, Second: bench.Second{At: 1, Phase: bench.PhaseMeasure, Connections: 10}}
	var pipe, terminal bytes.Buffer
	for _, p := range []*benchProgress{{out: &pipe}, {out: &terminal, width: func() int { return 20 }}} {
		p.show(s)
		p.show(s)
		p.end()
	}
	if got := strings.Count(pipe.String(), "\n"); got != 2 || strings.Contains(pipe.String(), "\x1b") {
		t.Errorf("in a pipe: %q, want a plain line for each", pipe.String())
	}
	if got := terminal.String(); strings.Count(got, "\n") != 1 || strings.Count(got, "\r") != 2 {
		t.Errorf("on a terminal: %q, want one line, rewritten", got)
	}
}

func TestBenchJSON(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	want := bench.Report{Scenario: bench.ScenarioConn, Traffic: bench.Traffic{Sent: 3}}
	if err := benchWriteJSON(name, &want); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got bench.Report
	if err := json.Unmarshal(data, &got); err != nil || got.Scenario != want.Scenario || got.Traffic != want.Traffic {
		t.Errorf("the file holds %+v, %v", got, err)
	}
	if err := benchWriteJSON(filepath.Join(name, "x"), &want); err == nil || !strings.Contains(err.Error(), "--json") {
		t.Errorf("a file that cannot be: %v", err)
	}
	if err := benchWriteJSON("", &want); err != nil {
		t.Errorf("no file asked for: %v", err)
	}
}
