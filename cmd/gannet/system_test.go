package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gannet/bench"
	"gannet/server/servertest"
)

// These tests run the programs as people do: gannetd in one process, the tool in others.

func TestSystemChat(t *testing.T) {
	t.Parallel()
	_, addr := launchServer(t)
	alice := launchChat(t, addr, "--user", "alice", "--to", "bob")
	bob := launchChat(t, addr, "--user", "bob", "--to", "alice")
	alice.says("good morning, 世界")
	bob.out.await(t, " alice: good morning, 世界\n")
	bob.says("the same to you")
	alice.out.await(t, " bob: the same to you\n")
	alice.out.await(t, " alice → bob: good morning, 世界\n")

	for _, c := range []*program{alice, bob} {
		c.says("/topic lobby")
		c.out.await(t, "* you talk to #lobby\n")
	}
	alice.out.await(t, "* bob is in #lobby\n")
	bob.out.await(t, "* alice is in #lobby\n")
	bob.out.await(t, "* bob is in #lobby\n")
	bob.says("/who")
	bob.out.await(t, "* in #lobby: alice, bob\n")
	alice.says("anybody?")
	bob.out.await(t, " #lobby alice: anybody?\n")
	bob.says("/me waves")
	alice.out.await(t, " * #lobby bob waves\n")
	long := strings.Repeat("so long ", 1000)
	alice.says(long)
	bob.out.await(t, strings.TrimSpace(long)+"\n")

	if code := bob.leaves(); code != 0 {
		t.Errorf("bob's exit code is %d", code)
	}
	alice.out.await(t, "* bob has left #lobby\n")
	alice.says("/quit")
	if code := alice.exit(); code != 0 {
		t.Errorf("alice's exit code is %d", code)
	}
}

// SIGTERM on the server: chats say why there is no connection; a line typed now is not lost in silence. A server that
// dies and comes back is found again.
func TestSystemChatAndServerRestart(t *testing.T) {
	t.Parallel()
	first, addr := launchServer(t, "--drain", "200ms")
	alice := launchChat(t, addr, "--user", "alice", "--topic", "lobby")
	alice.out.await(t, "* alice is in #lobby\n")
	first.signal(syscall.SIGTERM)
	alice.out.await(t, "* no connection (the server is stopping), next try in ")
	if code := first.exit(); code != 0 {
		t.Errorf("the server's exit code is %d", code)
	}
	alice.says("hello?")
	alice.out.await(t, "! not sent: hello?: not connected to a server\n")
	if code := alice.leaves(); code != exitFailed {
		t.Errorf("the chat's exit code is %d, want %d: a line was not sent", code, exitFailed)
	}

	second, addr := launchServer(t)
	alice = launchChat(t, addr, "--user", "alice", "--topic", "lobby")
	bob := launchChat(t, addr, "--user", "bob", "--topic", "lobby")
	alice.out.await(t, "* bob is in #lobby\n")
	second.signal(syscall.SIGKILL)
	second.exit()
	alice.out.await(t, "* no connection (")
	bob.out.await(t, "* no connection (")
	launchServerAt(t, addr)
	alice.out.awaitTimes(t, "* connected to ", 2)
	bob.out.awaitTimes(t, "* connected to ", 2)
	bob.says("we are back")
	alice.out.await(t, " #lobby bob: we are back\n")
	alice.signal(syscall.SIGINT)
	if code := alice.exit(); code != 0 {
		t.Errorf("after Ctrl-C the chat's exit code is %d", code)
	}
	bob.out.await(t, "* alice has left #lobby\n")
}

// Both sides die without warning: what was said is there, once, in order.
func TestSystemDurable(t *testing.T) {
	t.Parallel()
	data, state := t.TempDir(), t.TempDir()
	first, addr := launchServer(t, "--data", data)
	alice := launchChat(t, addr, "--user", "alice", "--to", "bob", "--state", state)
	alice.says("one")
	alice.out.await(t, "✓ one\n")
	first.signal(syscall.SIGKILL)
	first.exit()
	alice.out.await(t, "* no connection (")
	alice.says("two")
	alice.out.await(t, " alice → bob: two\n")
	alice.signal(syscall.SIGKILL)
	alice.exit()

	launchServerAt(t, addr, "--data", data)
	alice = launchChat(t, addr, "--user", "alice", "--to", "bob", "--state", state)
	alice.out.await(t, "* 1 lines of the last time are still to be sent\n")
	alice.out.await(t, "✓ two\n")
	alice.out.await(t, " alice → bob: one\n")
	if code, out, errs := gannet(t, "", "send", "--addr", addr, "--user", "alice", "--to", "bob", "--durable", "three"); code != 0 || out != "3\n" {
		t.Errorf("send: exit code %d, %q, %q", code, out, errs)
	}
	inbox := t.TempDir()
	for _, want := range []string{"one two", "three"} {
		args := []string{"sub", "--addr", addr, "--user", "bob", "--state", inbox, "-q", "--timeout", "20s", "--count", fmt.Sprint(len(strings.Fields(want)))}
		code, out, errs := gannet(t, "", args...)
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, line[strings.LastIndexByte(line, ' ')+1:len(line)-1])
		}
		if code != 0 || strings.Join(got, " ") != want {
			t.Errorf("sub: exit code %d, %q, want %q; %s", code, got, want, errs)
		}
	}
	if code := alice.leaves(); code != 0 {
		t.Errorf("alice's exit code is %d", code)
	}
}

func TestSystemSendAndSub(t *testing.T) {
	t.Parallel()
	_, addr := launchServer(t)
	sub := launch(t, "gannet", "sub", "--addr", addr, "--user", "ada", "--topic", "news", "--tag", "sport", "--json", "--count", "3", "--timeout", "30s")
	sub.errs.await(t, "subscribed to news\n")
	plain := launch(t, "gannet", "sub", "--addr", addr, "--user", "bob", "--topic", "news", "--count", "4", "--timeout", "30s")
	plain.errs.await(t, "subscribed to news\n")
	for _, s := range []struct {
		stdin string
		args  []string
	}{
		{"", []string{"--topic", "news", "untagged"}},
		{"", []string{"--topic", "news", "--tag", "sport", "a", "draw"}},
		{"from a pipe\n", []string{"--topic", "news", "--tag", "sport"}},
		{"", []string{"--topic", "news", "--tag", "politics", "--json", `{"vote":3}`}},
		{"", []string{"--to", "ada", "--json", `{"t":21.5}`}},
	} {
		code, out, errs := gannet(t, s.stdin, append([]string{"send", "--addr", addr, "--user", "cron"}, s.args...)...)
		if code != 0 || out != "" || errs != "" {
			t.Fatalf("send %v: exit code %d, %q, %q", s.args, code, out, errs)
		}
	}
	if code := sub.exit(); code != 0 {
		t.Fatalf("sub's exit code is %d", code)
	}
	out, _ := sub.out.now()
	var got []line
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		got = append(got, l)
	}
	if len(got) != 3 || *got[0].Text != "a draw" || *got[1].Text != "from a pipe" || got[0].Channel != "news" || got[0].Tags[0] != "sport" ||
		string(got[2].JSON) != `{"t":21.5}` || got[2].Kind != "direct" || got[2].Channel != "cron" || got[2].Sender != "cron" || got[2].Time.IsZero() {
		t.Errorf("sub --json printed:\n%s", out)
	}
	if code := plain.exit(); code != 0 {
		t.Fatalf("sub's exit code is %d", code)
	}
	out, _ = plain.out.now()
	if lines := strings.Split(out, "\n"); len(lines) != 5 || !strings.HasSuffix(lines[0], " topic:news cron untagged") || !strings.HasSuffix(lines[3], ` topic:news cron {"vote":3}`) {
		t.Errorf("sub printed:\n%s", out)
	}
	if code, _, errs := gannet(t, "", "sub", "--addr", addr, "--count", "1", "--timeout", "100ms"); code != exitFailed || !strings.Contains(errs, "fewer than 1 messages came within 100ms") {
		t.Errorf("sub that hears nothing: exit code %d, %q", code, errs)
	}
}

// From a new key to a chat and a benchmark with tokens.
func TestSystemTokens(t *testing.T) {
	t.Parallel()
	key, tokenFile := filepath.Join(t.TempDir(), "dev.key"), filepath.Join(t.TempDir(), "token")
	code, token, notes := gannet(t, "", "token", "--new-key", key, "--user", "ada")
	if code != 0 || strings.Count(token, ".") != 2 || !strings.Contains(notes, "gannetd --auth jwt --auth-keys "+key) {
		t.Fatalf("token: exit code %d, %q, %q", code, token, notes)
	}
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	_, listen, _ := gannet(t, "", "token", "--key", key, "--user", "mute", "--sub", "news")
	_, addr := launchServer(t, "--auth", "jwt", "--auth-keys", key)

	chat := launchChat(t, addr, "--token-file", tokenFile, "--topic", "news")
	chat.out.await(t, "* connected to "+addr+" as ada\n")
	for _, tc := range []struct {
		args []string
		want int
		errs string
	}{
		{[]string{"--token", strings.TrimSpace(token), "--topic", "news", "with a token"}, 0, ""},
		{[]string{"--topic", "news", "hi"}, exitRefused, "a token is required"},
		{[]string{"--token", "nonsense", "--topic", "news", "hi"}, exitRefused, "the token is malformed"},
		{[]string{"--token-file", tokenFile, "--user", "bob", "--topic", "news", "hi"}, exitRefused, "not the token's subject"},
		{[]string{"--token", strings.TrimSpace(listen), "--topic", "news", "hi"}, exitRefused, "FORBIDDEN"},
		{[]string{"--token-file", tokenFile, "--all", "hi"}, exitRefused, "FORBIDDEN"},
	} {
		code, _, errs := gannet(t, "", append([]string{"send", "--addr", addr}, tc.args...)...)
		if code != tc.want || !strings.Contains(errs, tc.errs) || (tc.errs == "") != (errs == "") || strings.Count(errs, "\n") > 1 {
			t.Errorf("send %v: exit code %d, %q; want %d, %q", tc.args, code, errs, tc.want, tc.errs)
		}
	}
	chat.out.await(t, " #news ada: with a token\n")

	code, _, errs := gannet(t, "", "bench", "broadcast", "--addr", addr, "-n", "10", "--all", "--for", "200ms", "--warmup", "0s", "--rate", "100",
		"--token-key", key, "--assert", "lost=0,received=200,refused=0,connections=11")
	if code != 0 {
		t.Errorf("bench with tokens: exit code %d, %s", code, errs)
	}
	code, _, errs = gannet(t, "", "bench", "conn", "--addr", addr, "-n", "3", "--hold", "100ms")
	if code != exitFailed || !strings.Contains(errs, "a token is required") || !strings.Contains(errs, "--token-key") {
		t.Errorf("bench without tokens: exit code %d, %q", code, errs)
	}
}

func TestSystemBench(t *testing.T) {
	t.Parallel()
	_, addr := launchServer(t)
	file := filepath.Join(t.TempDir(), "report.json")
	load := []string{"--rate", "200", "--for", "500ms", "--warmup", "100ms"}
	for _, tc := range []struct {
		args   []string
		assert string
		want   map[string]int64 // up, received
	}{
		{[]string{"conn", "-n", "30", "--hold", "300ms"}, "failed=0,dropped=0,connections=30,login.p99<20s", map[string]int64{"up": 30}},
		{append([]string{"p2p", "-n", "10"}, load...), "lost=0,duplicated=0,reordered=0,received=100,p99<20s", map[string]int64{"up": 10, "received": 100}},
		{append([]string{"broadcast", "-n", "10", "--topic", "a", "--topic", "b"}, load...), "lost=0,received=500,acked=100", map[string]int64{"up": 12, "received": 500}},
		{append([]string{"broadcast", "-n", "10", "--all"}, load...), "lost=0,received=1000", map[string]int64{"up": 11, "received": 1000}},
	} {
		args := append(append([]string{"bench"}, tc.args...), "--addr", addr, "--assert")
		code, out, errs := gannet(t, "", append(args, tc.assert, "--json", "-")...)
		var r bench.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %v in %s", tc.args, err, out)
		}
		if code != 0 || r.Connections.Up != tc.want["up"] || r.Traffic.Received != tc.want["received"] || r.Traffic.Lost != 0 {
			t.Errorf("%v: exit code %d, %+v, %+v\n%s", tc.args, code, r.Connections, r.Traffic, errs)
		}
		if !strings.Contains(errs, tc.args[0]+" against "+addr) { // the table makes room for the JSON
			t.Errorf("%v: no table in %s", tc.args, errs)
		}
	}
	code, out, errs := gannet(t, "", "bench", "conn", "--addr", addr, "-n", "5", "--hold", "100ms", "--json", file, "--assert", "connections>5,dropped=0,failed<0")
	if code != exitFailed || strings.Count(errs, "FAILED ") != 2 || !strings.Contains(errs, "FAILED connections>5: measured 5\n") || !strings.Contains(errs, "2 of 3 assertions failed") {
		t.Errorf("failing assertions: exit code %d, %s", code, errs)
	}
	if !strings.Contains(out, "5 of 5 logged in") {
		t.Errorf("no table:\n%s", out)
	}
	if b, err := os.ReadFile(file); err != nil || !json.Valid(b) {
		t.Errorf("the report of a failed run: %v, %s", err, b)
	}
	if code, _, errs := gannet(t, "", "bench", "conn", "--addr", addr, "--assert", "p99<fast"); code == 0 || !strings.Contains(errs, `"fast" is none`) {
		t.Errorf("a wrong assertion: exit code %d, %s", code, errs)
	}
}

// Ctrl-C ends a run early, with a report.
func TestSystemBenchInterrupted(t *testing.T) {
	t.Parallel()
	_, addr := launchServer(t)
	p := launch(t, "gannet", "bench", "p2p", "--addr", addr, "-n", "4", "--rate", "50", "--for", "1h", "--warmup", "0s")
	p.errs.await(t, "measure")
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out, _ := p.out.now(); !strings.Contains(out, "4 of 4 logged in") || !strings.Contains(out, "lost         0\n") {
		t.Errorf("the report:\n%s", out)
	}
}

// What went over the wire between the tool and the server can be read with the tool.
func TestSystemDecode(t *testing.T) {
	t.Parallel()
	_, addr := launchServer(t)
	tap := newTap(t, addr)
	if code, _, errs := gannet(t, "", "send", "--addr", tap.addr, "--user", "ada", "--device", "laptop", "--topic", "news", "--tag", "sport", "a draw"); code != 0 {
		t.Fatalf("send through the tap: exit code %d, %s", code, errs)
	}
	up, down := tap.files()
	code, out, errs := gannet(t, "", "decode", "--file", up)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	inOrder(t, out, "HELLO", "laptop", "ada", "SEND", "sport", "topic", "news", "a draw", "BYE")
	code, out, errs = gannet(t, "", "decode", "--from", "server", "-f", down)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	inOrder(t, out, "WELCOME", "gannet", "ada", "SENDACK", "OK")
	// From standard input, and damaged.
	b, err := os.ReadFile(up)
	if err != nil {
		t.Fatal(err)
	}
	b[3] |= 0x40
	if code, _, errs := gannet(t, string(b), "decode"); code == 0 || !strings.Contains(errs, "malformed") {
		t.Errorf("a damaged stream: exit code %d, %s", code, errs)
	}
}

func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Errorf("%q is missing or not in its place:\n%s", p, text)
			return
		}
		rest = after
	}
}

// tap passes one connection on and keeps what goes each way.
type tap struct {
	t    *testing.T
	addr string
	dir  string
	wg   sync.WaitGroup
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", servertest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	tp := &tap{t: t, addr: ln.Addr().String(), dir: t.TempDir()}
	tp.wg.Go(func() {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", to, servertest.Patience)
		if err != nil {
			t.Error(err)
			client.Close()
			return
		}
		var both sync.WaitGroup
		both.Go(func() { tp.copy("up", server, client) })
		both.Go(func() { tp.copy("down", client, server) })
		both.Wait()
		client.Close()
		server.Close()
	})
	return tp
}

func (tp *tap) copy(name string, to, from net.Conn) {
	f, err := os.Create(filepath.Join(tp.dir, name))
	if err != nil {
		tp.t.Error(err)
		return
	}
	_, _ = io.Copy(io.MultiWriter(f, to), from) // ends with the connection
	_ = to.(*net.TCPConn).CloseWrite()          // gone already when the other side closed
	if err := f.Close(); err != nil {
		tp.t.Error(err)
	}
}

// files waits for the end of the connection.
func (tp *tap) files() (up, down string) {
	tp.wg.Wait()
	return filepath.Join(tp.dir, "up"), filepath.Join(tp.dir, "down")
}

// Without a server every command says where it looked and what to do, on one line of standard error.
func TestSystemWithoutServer(t *testing.T) {
	t.Parallel()
	addr := servertest.Addr()
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"chat", "--to", "bob"}, exitNoServer},
		{[]string{"send", "--to", "bob", "hi"}, exitNoServer},
		{[]string{"sub", "--topic", "news"}, exitNoServer},
		{[]string{"bench", "conn", "-n", "3"}, exitFailed},
		{[]string{"bench", "p2p", "-n", "4"}, exitFailed},
	} {
		code, out, errs := gannet(t, "", append(tc.args, "--addr", addr)...)
		if code != tc.want || out != "" || !strings.Contains(errs, addr) || !strings.Contains(errs, "gannetd") || !strings.Contains(errs, "--addr") {
			t.Errorf("%v: exit code %d, %q, %q", tc.args, code, out, errs)
		}
	}
	// Something else listens there: it says nothing that we understand.
	ln, err := net.Listen("tcp", servertest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			nc.Close()
		}
	}()
	code, _, errs := gannet(t, "", "send", "--addr", ln.Addr().String(), "--to", "bob", "hi")
	if code == 0 || !strings.Contains(errs, ln.Addr().String()) {
		t.Errorf("against something else: exit code %d, %q", code, errs)
	}
}

func TestSystemUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"chat", "--help"}, {"bench", "--help"}, {"bench", "p2p", "--help"}} {
		if code, out, errs := gannet(t, "", args...); code != 0 || !strings.HasPrefix(out, "Usage: gannet ") || errs != "" {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	for what, args := range map[string][]string{
		"unexpected argument gossip (gannet --help explains":                                             {"gossip"},
		"missing flags: --to=USER or --group=NAME or --topic=NAME or --all (gannet send --help explains": {"send", "hi"},
		"unknown flag --colour (gannet chat --help explains":                                             {"chat", "--colour"},
		`expected one of "conn", "p2p", "broadcast", "offline", "verify" (gannet bench --help explains`:  {"bench"},
	} {
		if code, out, errs := gannet(t, "", args...); code != 80 || out != "" || !strings.Contains(errs, what) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q, want %q", args, code, out, errs, what)
		}
	}
	if code, out, _ := gannet(t, "", "version"); code != 0 || !strings.HasPrefix(out, "gannet ") {
		t.Errorf("version: exit code %d, %q", code, out)
	}
}
