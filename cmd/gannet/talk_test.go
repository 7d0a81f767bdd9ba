package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"gannet/client"
	"gannet/codec"
)

// parseTool reads a command line as the program does.
func parseTool(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	for _, name := range []string{"GANNET_ADDR", "GANNET_USER", "GANNET_TOKEN"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	tool := new(cli)
	parser, err := kong.New(tool, kong.Exit(func(int) { t.Error("the parser wants to exit") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return tool, err
}

func mustParse(t *testing.T, args ...string) *cli {
	t.Helper()
	tool, err := parseTool(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return tool
}

// transcript collects what a command prints and lets a test wait for a part of it.
type transcript struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at each write
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (tr *transcript) Write(b []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text.Write(b)
	close(tr.changed)
	tr.changed = make(chan struct{})
	return len(b), nil
}

func (tr *transcript) now() (string, chan struct{}) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String(), tr.changed
}

func (tr *transcript) await(t *testing.T, part string) {
	t.Helper()
	tr.awaitTimes(t, part, 1)
}

func (tr *transcript) awaitTimes(t *testing.T, part string, n int) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		text, changed := tr.now()
		if strings.Count(text, part) >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q was not printed %d times:\n%s", part, n, text)
		}
	}
}

// talker is a chat whose standard input the test writes.
type talker struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *transcript
	done chan error
}

func startChat(t *testing.T, h *hub, args ...string) *talker {
	t.Helper()
	r, w := io.Pipe()
	tk := &talker{t: t, in: w, out: newTranscript(), done: make(chan error, 1)}
	cmd := &mustParse(t, append([]string{"chat", "--addr", h.addr}, args...)...).Chat
	go func() { tk.done <- cmd.run(context.Background(), r, newChatScreen(tk.out, nil)) }()
	t.Cleanup(func() { w.Close() })
	tk.out.await(t, "* connected")
	return tk
}

func (tk *talker) says(line string) {
	tk.t.Helper()
	if _, err := io.WriteString(tk.in, line+"\n"); err != nil {
		tk.t.Fatal(err)
	}
}

func (tk *talker) ends() error {
	tk.t.Helper()
	tk.in.Close()
	select {
	case err := <-tk.done:
		return err
	case <-time.After(20 * time.Second):
		tk.t.Fatal("the chat does not end")
		return nil
	}
}

func TestTwoChatsTalk(t *testing.T) {
	h := newHub(t)
	alice := startChat(t, h, "--user", "alice", "--to", "bob")
	bob := startChat(t, h, "--user", "bob", "--to", "alice")
	h.awaitUsers(2)
	alice.says("good morning")
	bob.out.await(t, " alice: good morning\n")
	alice.out.await(t, " alice → bob: good morning\n")
	bob.says("/me waves \x1b[2J")
	alice.out.await(t, " * bob waves \uFFFD[2J\n")
	bob.says("/me")
	bob.out.await(t, "* you are bob, session 0 on node hub\n")
	bob.says("/nonsense")
	bob.out.await(t, "! /nonsense is no command")
	bob.says("/quit")
	if err := bob.ends(); err != nil {
		t.Error(err)
	}
	if err := alice.ends(); err != nil {
		t.Error(err)
	}
}

func TestChatInTopics(t *testing.T) {
	h := newHub(t)
	alice := startChat(t, h, "--user", "alice", "--topic", "room")
	alice.out.await(t, "* alice is in #room\n")
	bob := startChat(t, h, "--user", "bob", "--topic", "room")
	alice.out.await(t, "* bob is in #room\n")
	bob.out.await(t, "* alice is in #room\n")
	bob.out.await(t, "* bob is in #room\n")
	bob.says("/who")
	bob.out.await(t, "* in #room: alice, bob\n")
	bob.says("hello")
	alice.out.await(t, " #room bob: hello\n")

	// Presence and subscription are there again after a reconnect; nobody is announced twice.
	h.drop()
	alice.out.await(t, "* no connection (the server closed it), next try in ")
	alice.out.awaitTimes(t, "* connected", 2)
	bob.out.awaitTimes(t, "* connected", 2)
	bob.says("/topic other")
	alice.out.await(t, "* bob has left #room\n")
	bob.out.await(t, "* bob is in #other\n")
	if text, _ := alice.out.now(); strings.Count(text, "bob is in #room") != 1 || strings.Count(text, "connected to") != 2 {
		t.Errorf("alice saw:\n%s", text)
	}
	if text, _ := bob.out.now(); strings.Count(text, "bob: hello") != 1 {
		t.Errorf("bob saw:\n%s", text)
	}
}

// A pipe: all lines are sent and answered before the chat ends.
func TestChatFromPipe(t *testing.T) {
	h := newHub(t)
	listener := startChat(t, h, "--user", "bob")
	h.awaitUsers(1)
	var out bytes.Buffer
	cmd := mustParse(t, "chat", "--addr", h.addr, "--user", "alice", "--to", "bob").Chat
	lines := strings.Repeat("line\n", 200) + "last without a line end"
	if err := cmd.run(t.Context(), strings.NewReader(lines), newChatScreen(&out, nil)); err != nil {
		t.Fatal(err)
	}
	listener.out.await(t, "last without a line end\n")
	if text, _ := listener.out.now(); strings.Count(text, " alice: line\n") != 200 {
		t.Errorf("%d lines came", strings.Count(text, " alice: line\n"))
	}

	h.mu.Lock()
	h.refuse = codec.CodeForbidden
	h.mu.Unlock()
	out.Reset()
	err := cmd.run(t.Context(), strings.NewReader("no\n"), newChatScreen(&out, nil))
	if err == nil || !strings.Contains(out.String(), "! not sent: no: send: FORBIDDEN") {
		t.Errorf("error %v, printed:\n%s", err, &out)
	}
	aimless := mustParse(t, "chat", "--addr", h.addr, "--user", "alice").Chat
	if err := aimless.run(t.Context(), strings.NewReader("to nobody\n"), newChatScreen(&out, nil)); err == nil {
		t.Error("a line to nobody is no error")
	}
}

func TestSendAndSub(t *testing.T) {
	h := newHub(t)
	var out bytes.Buffer
	notes := newTranscript()
	sub := mustParse(t, "sub", "--addr", h.addr, "--user", "bob", "--topic", "news", "--json", "--count", "4", "--timeout", "20s").Sub
	done := make(chan error, 1)
	go func() { done <- sub.run(t.Context(), &out, notes) }()
	notes.await(t, "subscribed to news\n")
	send := func(stdin string, args ...string) {
		t.Helper()
		cmd := mustParse(t, append([]string{"send", "--addr", h.addr, "--user", "alice"}, args...)...).Send
		if err := cmd.run(t.Context(), strings.NewReader(stdin), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	send("", "--topic", "news", "--tag", "a", "two", "words")
	send("from a pipe\n", "--to", "bob")
	send("", "--topic", "news", "--json", "--count", "2", "--every", "1ms", `{"a": 1}`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`{"time":"2030-01-02T15:04:05Z","kind":"topic","channel":"news","sender":"alice","content":1,"tags":["a"],"text":"two words"}`,
		`{"time":"2030-01-02T15:04:05Z","kind":"direct","channel":"alice","sender":"alice","content":1,"text":"from a pipe"}`,
		`{"time":"2030-01-02T15:04:05Z","kind":"topic","channel":"news","sender":"alice","content":2,"json":{"a":1}}`,
	}
	if len(lines) != 4 || lines[0] != want[0] || lines[1] != want[1] || lines[2] != want[2] || lines[3] != want[2] {
		t.Errorf("printed:\n%s", &out)
	}
}

func TestSubEnds(t *testing.T) {
	h := newHub(t)
	short := mustParse(t, "sub", "--addr", h.addr, "--user", "bob", "--timeout", "1ms", "-q").Sub
	if err := short.run(t.Context(), io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
	short.Count = 1
	if err := short.run(t.Context(), io.Discard, io.Discard); exitCode(err) != exitFailed {
		t.Errorf("nothing came: %v", err)
	}
}

func TestLines(t *testing.T) {
	m := client.Message{Channel: client.Topic("n"), Sender: "bob", Time: time.Unix(0, 0).UTC(), Content: client.UTF8, Payload: []byte("a\nb\x1b[31m\u202e")}
	if got, want := textLine(m), `1970-01-01T00:00:00.000Z topic:n bob a\nb`+"\uFFFD[31m\uFFFD"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.Content, m.Payload = client.Bytes, []byte{0xff, 0}
	if got := textLine(m); !strings.HasSuffix(got, `bob "\xff\x00"`) {
		t.Errorf("%q", got)
	}
	var l line
	if err := json.Unmarshal([]byte(jsonLine(m)), &l); err != nil || !bytes.Equal(l.Base64, m.Payload) {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestExitCodes(t *testing.T) {
	h := newHub(t)
	run := func(addr string) error {
		return (&mustParse(t, "send", "--addr", addr, "--user", "alice", "--to", "bob", "hi").Send).run(t.Context(), nil, io.Discard)
	}
	set := func(refuse codec.Code, bye *codec.Bye) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refuse, h.bye = refuse, bye
	}
	for _, tc := range []struct {
		refuse codec.Code
		bye    *codec.Bye
		want   int
	}{
		{codec.CodeOK, nil, 0},
		{codec.CodeBusy, nil, exitTemporary},
		{codec.CodeForbidden, nil, exitRefused},
		{codec.CodeOK, &codec.Bye{Code: codec.CodeUnauthorized}, exitRefused},
		{codec.CodeOK, &codec.Bye{Code: codec.CodeOverloaded, Retry: 1, MaxMs: 1000}, exitTemporary},
	} {
		set(tc.refuse, tc.bye)
		if err := run(h.addr); exitCode(err) != tc.want {
			t.Errorf("%+v: exit code %d (%v), want %d", tc, exitCode(err), err, tc.want)
		}
	}
	noFile := mustParse(t, "send", "--addr", h.addr, "--token-file", t.TempDir()+"/none", "--to", "bob", "hi").Send
	if err := noFile.run(t.Context(), nil, io.Discard); exitCode(err) != exitFailed {
		t.Errorf("no token file: exit code %d (%v)", exitCode(err), err)
	}
	h.ln.Close()
	err := run(h.addr)
	if exitCode(err) != exitNoServer || !strings.Contains(err.Error(), `start one with "gannetd"`) || !strings.Contains(err.Error(), h.addr) {
		t.Errorf("no server: exit code %d, %v", exitCode(err), err)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"send", "hi"},
		{"send", "--to", "a", "--topic", "b", "hi"},
		{"chat", "--to", "a", "--topic", "b"},
		{"sub", "--class", "teapot"},
		{"sub", "--token", "a", "--token-file", "b"},
	} {
		if _, err := parseTool(t, args...); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	for stdin, args := range map[string][]string{
		"":  {"send", "--to", "a"},
		"x": {"send", "--to", "a", "--json"},
	} {
		if _, err := mustParse(t, args...).Send.message(strings.NewReader(stdin)); err == nil {
			t.Errorf("%v with %q on standard input was accepted", args, stdin)
		}
	}
}

func TestWhoConnects(t *testing.T) {
	t.Setenv("USER", "carol")
	plain := mustParse(t, "sub").Sub.options()
	if plain.User != "carol" || len(plain.Addrs) != 1 || plain.Addrs[0] != "127.0.0.1:7000" || plain.Class != client.ClassDesktop {
		t.Errorf("%+v", plain)
	}
	if again := mustParse(t, "sub").Sub.options(); again.Device == plain.Device || again.Device == "" {
		t.Errorf("devices %q and %q", plain.Device, again.Device)
	}
	if o := mustParse(t, "sub", "--token", "x").Sub.options(); o.User != "" || o.StaticToken != "x" {
		t.Errorf("with a token: %+v", o)
	}
	t.Setenv("USER", "")
	if o := mustParse(t, "sub").Sub.options(); !strings.HasPrefix(o.User, "guest-") {
		t.Errorf("nobody is %q", o.User)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := mustParse(t, "sub", "--token-file", file).Sub.options()
	if token, err := o.Token(t.Context()); token != "secret" || err != nil || o.User != "" {
		t.Errorf("token %q, %v, %+v", token, err, o)
	}
	if _, err := readToken(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestChatScreenEdits(t *testing.T) {
	var out bytes.Buffer
	s := newChatScreen(&out, func() int { return 20 })
	feed := func(b string) []string {
		lines, _ := s.feed([]byte(b), false)
		return lines
	}
	for keys, want := range map[string]string{
		"hi\r":                       "hi",
		"hx\x7fi\n":                  "hi",
		"first second\x17third\r":    "first third",
		"gone\x15here\r":             "here",
		"a\x1b[Ab\x1b[1;5Cc\x1bxd\r": "abcd",
		"gr\u00fc\u00df\x7f\u00df\r": "gr\u00fc\u00df",
		"a\tb\x00c\r":                "a bc",
		"\u754c\u3000\u7d42\x7f\r":   "\u754c\u3000",
	} {
		if got := feed(keys); len(got) != 1 || got[0] != want {
			t.Errorf("%q gives %q, want %q", keys, got, want)
		}
	}
	feed("half \xc3") // a character cut in two
	if got := feed("\xbc\r"); len(got) != 1 || got[0] != "half \u00fc" {
		t.Errorf("%q", got)
	}
	if _, end := s.feed([]byte("x\x04"), false); end {
		t.Error("Ctrl-D ends in the middle of a line")
	}
	if !s.editing() {
		t.Error("a line is being typed")
	}
	out.Reset()
	s.print("news")
	if got := out.String(); got != "\r\x1b[Knews\n\r\x1b[K> x" {
		t.Errorf("%q", got)
	}
	out.Reset()
	feed(strings.Repeat("y", 30))
	if got := out.String(); got != "\r\x1b[K> "+strings.Repeat("y", 17) {
		t.Errorf("a long line is drawn as %q", got)
	}
	feed("\x15")
	if _, end := s.feed([]byte{4}, false); !end {
		t.Error("Ctrl-D does not end")
	}
}

// The prompt and the line share one row whatever they are made of: a row that wraps cannot be taken away.
func TestChatScreenFitsItsRow(t *testing.T) {
	for _, prompt := range []string{"> ", "bob (alice, carol, dave, eve typing)> ", strings.Repeat("\u754c", 64) + "> "} {
		for _, text := range []string{"", "short", strings.Repeat("x", 100), strings.Repeat("\u754c", 100), strings.Repeat("e\u0301\U0001f469", 100)} {
			for _, width := range []int{8, 20, 80} {
				var out bytes.Buffer
				s := newChatScreen(&out, func() int { return width })
				s.feed([]byte(text), false)
				out.Reset()
				s.drawn = ""
				s.setPrompt(prompt)
				row := strings.TrimPrefix(out.String(), "\r\x1b[K")
				if _, tail, ok := strings.Cut(row, "> "); !ok || cells(row) >= width || !strings.HasSuffix(text, tail) || tail == "" && text != "" {
					t.Errorf("prompt %q, line %q, %d columns: %q takes %d", prompt, text, width, row, cells(row))
				}
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	const family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
	for in, want := range map[string]string{
		"plain": "plain", "a\tb\r\n": `a\tb\r\n`, "\x1b[2J": "\ufffd[2J", "\u202egnp.exe": "\ufffdgnp.exe", "\u009b31m": "\ufffd31m",
		family: family, "\u754c\u3000\u7d42": "\u754c\u3000\u7d42", "non\u00a0breaking": "non\u00a0breaking",
		"\u2028": "\ufffd", "bad\xff": "bad\ufffd",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func TestChatScreenSplits(t *testing.T) {
	s := newChatScreen(io.Discard, nil)
	var got []string
	for _, piece := range []string{"a\nb", "c\n\n", strings.Repeat("x", maxLine+1), "\nend"} {
		lines, _ := s.feed([]byte(piece), false)
		got = append(got, lines...)
	}
	lines, _ := s.feed(nil, true)
	got = append(got, lines...)
	want := []string{"a", "bc", "", strings.Repeat("x", maxLine), "x", "end"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
}
