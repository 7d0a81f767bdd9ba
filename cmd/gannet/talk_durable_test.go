package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gannet/client"
	"gannet/server"
	"gannet/server/servertest"
)

// chatAt is startChat for any server.
func chatAt(t *testing.T, addr string, args ...string) *talker {
	t.Helper()
	r, w := io.Pipe()
	tk := &talker{t: t, in: w, out: newTranscript(), done: make(chan error, 1)}
	cmd := &mustParse(t, append([]string{"chat", "--addr", addr}, args...)...).Chat
	go func() { tk.done <- cmd.run(context.Background(), r, newChatScreen(tk.out, nil)) }()
	t.Cleanup(func() { w.Close() })
	tk.out.await(t, "* connected")
	return tk
}

// lacks wants a part not to have been printed.
func (tr *transcript) lacks(t *testing.T, part string) {
	t.Helper()
	if text, _ := tr.now(); strings.Contains(text, part) {
		t.Errorf("%q was printed:\n%s", part, text)
	}
}

// order wants parts to have been printed one behind the other.
func (tr *transcript) order(t *testing.T, parts ...string) {
	t.Helper()
	text, _ := tr.now()
	inOrder(t, text, parts...)
}

// makeGroup makes a group by the admin interface.
func makeGroup(t *testing.T, n *servertest.Node, name, owner string, members ...string) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"name": name, "owner": owner, "members": members})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+n.AdminAddr()+"/v1/groups", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
}

func TestChatTicks(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	alice := chatAt(t, n.Addr(), "--user", "alice", "--to", "bob")
	alice.says("are you there?")
	alice.out.await(t, " alice → bob: are you there?\n✓ are you there?\n")
	alice.says("call me")
	alice.out.await(t, "✓ call me\n")

	// Bob comes later: the history, the count of what is unread, and ticks.
	bob := chatAt(t, n.Addr(), "--user", "bob")
	bob.out.await(t, " 2 unread     alice\n")
	bob.out.await(t, " alice: call me\n") // as it is delivered
	alice.out.await(t, "✓✓ delivered to bob: call me\n")
	bob.says("/to alice")
	bob.out.await(t, "* you talk to alice\n")
	alice.out.await(t, "✓✓ read by bob: call me\n")
	bob.says("/list")
	bob.out.await(t, " all read     alice\n")
	bob.says("here I am")
	alice.out.await(t, " bob: here I am\n")
	bob.out.await(t, "✓✓ read by alice: here I am\n")
	for _, c := range []*talker{alice, bob} {
		if err := c.ends(); err != nil {
			t.Error(err)
		}
	}

	// Again: each line once, in order, own ones as own.
	alice = chatAt(t, n.Addr(), "--user", "alice", "--to", "bob")
	alice.out.await(t, " bob: here I am\n")
	alice.out.order(t, "* you talk to bob\n", " alice → bob: are you there?\n", " alice → bob: call me\n", " bob: here I am\n")
	if text, _ := alice.out.now(); strings.Count(text, "here I am") != 1 || strings.Count(text, "call me\n") != 1 {
		t.Errorf("alice sees:\n%s", text)
	}
	last := chatAt(t, n.Addr(), "--user", "alice", "--to", "bob", "--history", "1")
	last.out.await(t, " bob: here I am\n")
	last.out.lacks(t, "are you there?")

	// What is not stored is gone.
	ephemeral := chatAt(t, n.Addr(), "--user", "bob", "--to", "alice", "--ephemeral")
	ephemeral.says("only now")
	alice.out.await(t, " bob: only now\n")
	ephemeral.out.lacks(t, "✓")
	again := chatAt(t, n.Addr(), "--user", "alice", "--to", "bob")
	again.out.await(t, " bob: here I am\n")
	again.out.lacks(t, "only now")
}

func TestChatInGroup(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	makeGroup(t, n, "team", "alice", "bob")
	alice := chatAt(t, n.Addr(), "--user", "alice", "--group", "team")
	alice.out.await(t, " * team: gannet made the group of alice, bob\n")
	alice.says("hello all")
	alice.out.await(t, "✓ hello all\n")
	bob := chatAt(t, n.Addr(), "--user", "bob")
	bob.out.await(t, " group team\n")
	bob.says("/group team")
	bob.out.await(t, "* you talk to team\n")
	bob.out.await(t, " team alice: hello all\n")
	alice.out.await(t, "✓✓ read by bob: hello all\n")
	bob.says("hello yourself")
	alice.out.await(t, " team bob: hello yourself\n")
	alice.says("/group strangers")
	alice.out.await(t, "! history of strangers: pull: NOT_FOUND")
	alice.says("anybody?")
	alice.out.await(t, "! not sent: anybody?: send: ")
	if err := alice.ends(); err == nil || err.Error() != "1 lines were not sent" {
		t.Errorf("%v", err)
	}
}

// Lines that are typed without a server wait; with --state they are sent by the next run, whoever reads them later gets them once.
func TestChatKeepsWhatItCannotSend(t *testing.T) {
	addr, data, dir := servertest.Addr(), t.TempDir(), filepath.Join(t.TempDir(), "state")
	start := func() *servertest.Node { return servertest.Start(t, server.Options{Listen: addr, Data: data}) }
	n := start()
	alice := chatAt(t, addr, "--user", "alice", "--to", "bob", "--state", dir)
	alice.says("one")
	alice.out.await(t, "✓ one\n")
	cmd := mustParse(t, "chat", "--addr", addr, "--user", "alice", "--state", dir).Chat
	if err := cmd.run(t.Context(), strings.NewReader(""), newChatScreen(io.Discard, nil)); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("the folder is used twice: %v", err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	alice.out.await(t, "* no connection (")
	alice.says("two")
	alice.says("three")
	alice.out.await(t, " alice → bob: three\n")
	alice.in.Close()
	select { // it waits a while for a server
	case err := <-alice.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(answerTimeout + servertest.Patience):
		t.Fatal("the chat does not end")
	}
	alice.out.await(t, "* 2 lines wait in "+filepath.Join(dir, "user-alice")+" and are sent the next time\n")

	start()
	device, err := os.ReadFile(filepath.Join(dir, "user-alice", "device"))
	if err != nil {
		t.Fatal(err)
	}
	other := mustParse(t, "chat", "--addr", addr, "--user", "alice", "--state", dir, "--device", "another").Chat
	if err := other.run(t.Context(), strings.NewReader(""), newChatScreen(io.Discard, nil)); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(string(device))) {
		t.Errorf("another device: %v", err)
	}
	alice = chatAt(t, addr, "--user", "alice", "--state", dir)
	alice.out.await(t, "* 2 lines of the last time are still to be sent\n")
	alice.out.await(t, "✓ three\n")
	bob := chatAt(t, addr, "--user", "bob", "--to", "alice")
	bob.out.await(t, " alice: three\n")
	bob.out.order(t, " alice: one\n", " alice: two\n", " alice: three\n")
	for _, c := range []*talker{alice, bob} {
		if err := c.ends(); err != nil {
			t.Error(err)
		}
	}
	if text, _ := bob.out.now(); strings.Count(text, " alice: two\n") != 1 {
		t.Errorf("bob sees:\n%s", text)
	}
	// Without a folder the same is a failure.
	empty := filepath.Join(t.TempDir(), "x")
	if err := os.MkdirAll(filepath.Join(empty, "user-alice"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(empty, "user-alice", "device"), []byte("\x01"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := mustParse(t, "chat", "--addr", addr, "--user", "alice", "--state", empty).Chat
	if err := bad.run(t.Context(), strings.NewReader(""), newChatScreen(io.Discard, nil)); err == nil || !strings.Contains(err.Error(), "no name of a device") {
		t.Errorf("a damaged folder: %v", err)
	}
}

func TestSendDurable(t *testing.T) {
	addr := servertest.Addr()
	send := func(args ...string) (out string, err error) {
		var b bytes.Buffer
		cmd := mustParse(t, append([]string{"send", "--addr", addr, "--user", "alice", "--durable"}, args...)...).Send
		err = cmd.run(t.Context(), strings.NewReader(""), &b)
		return b.String(), err
	}
	if _, err := send("--to", "bob", "--timeout", "1500ms", "early"); exitCode(err) != exitNoServer || !strings.Contains(err.Error(), addr) {
		t.Errorf("no server: exit code %d, %v", exitCode(err), err)
	}
	// One that comes while it tries.
	type result struct {
		out string
		err error
	}
	waits := make(chan result, 1)
	go func() {
		out, err := send("--to", "bob", "--count", "2", "hello")
		waits <- result{out, err}
	}()
	n := servertest.Start(t, server.Options{Listen: addr})
	if r := <-waits; r.err != nil || r.out != "1\n2\n" {
		t.Errorf("%q, %v", r.out, r.err)
	}
	if out, err := send("--topic", "news", "stored"); err != nil || out != "1\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := send("--group", "strangers", "hi"); exitCode(err) != exitRefused || out != "" {
		t.Errorf("%q, exit code %d, %v", out, exitCode(err), err)
	}
	makeGroup(t, n, "team", "alice")
	if out, err := send("--group", "team", "hi"); err != nil || out != "2\n" { // 1 made the group
		t.Errorf("%q, %v", out, err)
	}
}

// With a folder each message is printed once, whatever run it comes in.
func TestSubResumes(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	dir := t.TempDir()
	send := func(to client.Channel, texts ...string) {
		t.Helper()
		c, err := client.Dial(t.Context(), client.Options{Addrs: []string{n.Addr()}, User: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, text := range texts {
			if _, err := c.Send(t.Context(), client.Durable(to, text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sub := func(args ...string) (lines []string) {
		t.Helper()
		var out bytes.Buffer
		cmd := mustParse(t, append([]string{"sub", "--addr", n.Addr(), "--user", "bob"}, args...)...).Sub
		if err := cmd.run(t.Context(), &out, io.Discard); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		for line := range strings.Lines(out.String()) {
			lines = append(lines, line[strings.LastIndexByte(line, ' ')+1:len(line)-1])
		}
		return lines
	}
	want := func(got []string, texts string) {
		t.Helper()
		if s := strings.Join(got, " "); s != texts {
			t.Errorf("printed %q, want %q", s, texts)
		}
	}
	send(client.User("bob"), "1", "2", "3", "4", "5")
	want(sub("--state", dir, "--count", "2"), "1 2")
	want(sub("--state", dir, "--count", "1"), "3")
	send(client.User("bob"), "6")
	want(sub("--state", dir, "--timeout", "300ms"), "4 5 6")
	want(sub("--state", dir, "--timeout", "300ms"), "")

	want(sub("--state", dir, "--topic", "news", "--timeout", "300ms"), "")
	send(client.Topic("news"), "a", "b", "c")
	want(sub("--state", dir, "--topic", "news", "--count", "2"), "a b")
	want(sub("--state", dir, "--topic", "news", "--count", "1"), "c")
	want(sub("--state", dir, "--topic", "news", "--timeout", "300ms"), "")
}

// The tick of a line changes where it stands, as long as that is known.
func TestChatScreenTicks(t *testing.T) {
	var out bytes.Buffer
	width, height := 40, 10
	s := newChatScreen(&out, func() int { return width })
	s.height = func() int { return height }
	l := &ownLine{}
	s.printOwn(l, "15:04 alice → bob: hi")
	if got := out.String(); !strings.Contains(got, "15:04 …  alice → bob: hi\n") {
		t.Errorf("%q", got)
	}
	moved := func(state client.SendState) string {
		out.Reset()
		l.state = state
		s.retick(l)
		return out.String()
	}
	want := func(got string, up int, tick string) {
		t.Helper()
		if want := fmt.Sprintf("\x1b7\x1b[%dA\x1b[7G%s\x1b8", up, tick); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	want(moved(client.Sent), 1, "✓ ")
	s.print("one row")
	s.print(strings.Repeat("x", 41)) // two
	s.print("three\nof\nthem")
	want(moved(client.Delivered), 7, "✓✓")
	t.Setenv("NO_COLOR", "")
	want(moved(client.Read), 7, "\x1b[1;36m✓✓\x1b[0m")
	t.Setenv("NO_COLOR", "1")
	want(moved(client.Read), 7, "\x1b[1m✓✓\x1b[0m")
	s.print("1\n2")
	want(moved(client.Failed), 9, "✗ ")
	s.print("it has left the screen")
	if got := moved(client.Sent); got != "" {
		t.Errorf("%q", got)
	}

	height = 1000
	want(moved(client.Sent), 10, "✓ ")
	s.print(strings.Repeat("世", 19)) // fits, whatever is thought of its width
	want(moved(client.Sent), 11, "✓ ")
	s.print(strings.Repeat("✓", 39)) // one row, or two
	if got := moved(client.Sent); got != "" {
		t.Errorf("%q", got)
	}
	l = &ownLine{}
	s.printOwn(l, "15:04 a: again")
	want(moved(client.Sent), 1, "✓ ")
	s.enter = func() error { return nil }
	s.resume() // another width
	if got := moved(client.Read); got != "" {
		t.Errorf("%q", got)
	}
	pipe := newChatScreen(&out, nil)
	out.Reset()
	pipe.printOwn(l, "15:04 a: plain")
	pipe.retick(l)
	if got := out.String(); got != "15:04 a: plain\n" {
		t.Errorf("%q", got)
	}
}

func TestListText(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)
	if got := listText(client.Conversations{}); got != "* no conversations yet" {
		t.Errorf("%q", got)
	}
	got := listText(client.Conversations{Next: 1, List: []client.Conversation{
		{Channel: client.User("bob\x1b"), Unread: 3, Time: at}, {Channel: client.Group("team"), Time: at}, {Channel: client.All()},
	}})
	want := "* 2026-01-02 15:04  3 unread     bob\ufffd\n* 2026-01-02 15:04  all read     group team\n*                   all read     everyone\n* and older ones"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestChangeText(t *testing.T) {
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprint("u", i))
	}
	list, _ := json.Marshal(many)
	for payload, want := range map[string]string{
		`1{"by":"desk","users":["a","b"]}`:            "desk made the group of a, b",
		`2{"by":"desk"}`:                              "desk deleted the group",
		`3{"by":"desk","users":` + string(list) + `}`: "desk added u0, u1, u2, u3, u4, u5, u6, u7, u8 and 11 others",
		`4{"by":"x\u001b[2J","users":["a"]}`:          "x\ufffd[2J removed a",
		`5{"by":"desk","users":["a"],"role":"admin"}`: "desk made a admin",
		`6{"by":"desk","post":"admin"}`:               "desk changed the rules: to post takes the role of admin",
		`7{"by":"desk"}`:                              "the group is a large one now",
		`9{"by":"desk"}`:                              "the group has changed: event-9",
		`3nonsense`:                                   "the group has changed",
	} {
		m := client.Message{Event: client.GroupEvent(payload[0] - '0'), Payload: []byte(payload[1:])}
		if got := changeText(m); got != want {
			t.Errorf("%s: %q, want %q", payload, got, want)
		}
	}
}
