package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gannet/codec"
	"gannet/server/servertest"
)

// storeNews sends n durable messages to a topic and returns the server's epoch.
func storeNews(t *testing.T, addr, user string, n int) (epoch uint64) {
	t.Helper()
	c := servertest.Dial(t, addr)
	defer c.Close()
	c.Send(servertest.Hello(user, "phone"))
	epoch = c.Welcome().InboxEpoch
	for i := range n {
		c.Send(codec.AppendSend(nil, codec.Send{
			Req: uint32(i + 1), Nonce: uint64(i + 1), Flags: codec.MsgDurable, Kind: codec.KindTopic, Name: []byte("news"),
			Content: codec.ContentText, Payload: fmt.Append(nil, user, i),
		}))
		f := c.Next()
		for f.Type == codec.TypePos {
			f = c.Next()
		}
		if a, err := servertest.Read(f, codec.TypeSendAck, codec.ConsumeSendAck); err != nil || a.Code != codec.CodeOK {
			t.Fatalf("message %d: %v, %v", i, a.Code, err)
		}
	}
	return epoch
}

// A running server is backed up, goes on, loses everything, and is started again with the backup.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	dir, admin := t.TempDir(), servertest.Addr()
	data, backups := filepath.Join(dir, "data"), filepath.Join(dir, "backups")
	p, addr := launchServer(t, "--data", data, "--admin", admin, "--backup-dir", backups, "--drain", "10ms")
	epoch := storeNews(t, addr, "alice", 7)
	code, stdout, stderr := gannet(t, "", "backup", "--admin", admin, "one")
	made := filepath.Join(backups, "one")
	if code != 0 || !strings.HasPrefix(stdout, made+": ") || !strings.Contains(stdout, fmt.Sprint("epoch ", epoch)) {
		t.Fatalf("backup: exit code %d, %q %q", code, stdout, stderr)
	}
	for name, want := range map[string]int{"one": exitRefused, "../two": exitRefused} {
		if code, _, stderr = gannet(t, "", "backup", "--admin", "http://"+admin+"/", name); code != want || stderr == "" {
			t.Errorf("backup %s: exit code %d, %q, want %d", name, code, stderr, want)
		}
	}
	storeNews(t, addr, "bob", 3)
	if code, _, stderr = gannet(t, "", "restore", "--from", made, "--data", data); code != 1 || !strings.Contains(stderr, "a gannetd uses it") {
		t.Errorf("restore into the data of a running server: exit code %d, %q", code, stderr)
	}
	p.signal(syscall.SIGKILL)
	p.exit()
	if code, _, stderr = gannet(t, "", "restore", "--from", made, "--data", data); code != 1 || !strings.Contains(stderr, "not empty") {
		t.Errorf("restore into a folder that is not empty: exit code %d, %q", code, stderr)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = gannet(t, "", "restore", "--from", made, "--data", data)
	if code != 0 || !strings.Contains(stdout, "7 messages") || !strings.Contains(stdout, "\nsound\n") || !strings.Contains(stdout, fmt.Sprintf("(it was %d)", epoch)) {
		t.Fatalf("restore: exit code %d, %q\n%s", code, stderr, stdout)
	}
	_, addr = launchServer(t, "--data", data)
	if again := storeNews(t, addr, "carol", 1); again == epoch {
		t.Error("clients are not told that the server went back in time")
	}
	c := servertest.Login(t, addr, "dave", "phone")
	c.Send(codec.AppendPull(nil, codec.Pull{Req: 1, Kind: codec.KindTopic, Name: []byte("news"), From: 1, Limit: 100}))
	for seq := uint64(1); seq <= 8; {
		f := c.Next()
		if f.Type != codec.TypeMsg {
			continue
		}
		m, err := codec.ConsumeMsg(f)
		if err != nil || m.Seq != seq || string(m.Sender) == "bob" {
			t.Fatalf("got message %d of %s, %v, want %d", m.Seq, m.Sender, err, seq)
		}
		seq++
	}
}

func TestBackupIsRefused(t *testing.T) {
	t.Parallel()
	admin := servertest.Addr()
	launchServer(t, "--admin", admin, "--admin-token", "0123456789abcdef")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--admin", admin, "one"}, exitRefused, "token"},
		{[]string{"--admin", admin, "--token", "0123456789abcdef", "one"}, exitRefused, "--backup-dir"},
		{[]string{"--admin", servertest.Addr(), "one"}, exitNoServer, "--admin"},
		{[]string{"--admin", "http://%zz", "one"}, exitFailed, "--admin"},
		{[]string{"--admin", admin}, 80, "<name>"},
	} {
		if code, stdout, stderr := gannet(t, "", append([]string{"backup"}, c.args...)...); code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, %q %q, want %d and %q", c.args, code, stdout, stderr, c.code, c.says)
		}
	}
}

func TestRestoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	p, addr := launchServer(t, "--data", source, "--drain", "10ms")
	storeNews(t, addr, "alice", 7)
	refused := func(from, to string, says ...string) {
		t.Helper()
		code, stdout, stderr := gannet(t, "", "restore", "--from", from, "--data", to)
		bad := code != 1 || strings.Contains(stdout, "start it")
		for _, s := range says {
			bad = bad || !strings.Contains(stderr, s)
		}
		if bad {
			t.Errorf("restore --from %s --data %s: exit code %d, %q %q, want 1 and %q", from, to, code, stdout, stderr, says)
		}
	}
	refused(source, filepath.Join(dir, "a"), "a gannetd uses it", source)
	p.signal(syscall.SIGTERM)
	p.exit()
	refused(filepath.Join(dir, "none"), filepath.Join(dir, "b"), "none")
	refused(t.TempDir(), filepath.Join(dir, "c"), "no finished backup")
	refused(os.Args[0], filepath.Join(dir, "d"), "is a file")
	refused(source, os.Args[0], "not a directory")
	refused(source, filepath.Join(source, "below"), "lies in the backup")

	tables, err := filepath.Glob(filepath.Join(source, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(tables[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(source, filepath.Join(dir, "e"), "damaged", source)
	if err := os.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	refused(source, filepath.Join(dir, "f"), filepath.Base(strings.TrimSuffix(tables[0], ".sst")))
	refused(source, filepath.Join(dir, "f"), "broken off")
	code, _, stderr := gannet(t, "", "restore", "--from", source)
	if code != 80 || !strings.Contains(stderr, "--data") {
		t.Errorf("without --data: exit code %d, %q", code, stderr)
	}
}
