package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server/servertest"
	"gannet/store/pebble"
)

// fill sends durable messages to a topic until a server has acknowledged n of them.
func fill(t *testing.T, addr string, n int) {
	t.Helper()
	c := servertest.Login(t, addr, "alice", "phone")
	defer c.Close()
	for i := range n {
		c.Send(codec.AppendSend(nil, codec.Send{
			Req: uint32(i + 1), Nonce: uint64(i + 1), Flags: codec.MsgDurable, Kind: codec.KindTopic, Name: []byte("news"),
			Content: codec.ContentText, Payload: fmt.Append(nil, "message ", i),
		}))
		f := c.Next()
		for f.Type == codec.TypePos {
			f = c.Next()
		}
		if a, err := servertest.Read(f, codec.TypeSendAck, codec.ConsumeSendAck); err != nil || a.Code != codec.CodeOK {
			t.Fatalf("message %d: %v, %v", i, a.Code, err)
		}
	}
}

// stopped is the data folder of a gannetd that stored n messages and was ended by a signal.
func stopped(t *testing.T, n int, s syscall.Signal) string {
	t.Helper()
	dir := t.TempDir()
	p := start(t, 0, nil, "--data", dir, "--drain", "10ms")
	fill(t, p.listen, n)
	p.signal(s)
	p.exit()
	return dir
}

// snapshot is the names and bytes of all files below a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		fmt.Fprintf(&b, "%s %x\n", name, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// oneLine wants exit code 1 and one line on standard error that says all of what is given.
func oneLine(t *testing.T, code int, stderr string, says ...string) {
	t.Helper()
	bad := code != 1 || !strings.HasPrefix(stderr, "gannetd: ") || strings.Count(stderr, "\n") != 1
	for _, s := range says {
		bad = bad || !strings.Contains(stderr, s)
	}
	if bad {
		t.Errorf("exit code %d, %q; want 1 and one line that says %q", code, stderr, says)
	}
}

func serve(t *testing.T, dir string) (code int, stderr string) {
	t.Helper()
	code, _, stderr = gannetd(t, nil, "--listen", servertest.Addr(), "--admin", "off", "--data", dir)
	return code, stderr
}

func TestCheckOfASoundFolder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by   syscall.Signal
		says string
	}{{syscall.SIGTERM, ", stopped cleanly\n"}, {syscall.SIGKILL, "not stopped cleanly"}} {
		dir := stopped(t, 20, c.by)
		before := snapshot(t, dir)
		code, stdout, stderr := gannetd(t, nil, "--check", "--data", dir)
		if code != 0 || stderr != "" || !strings.HasSuffix(stdout, "\nsound\n") || !strings.Contains(stdout, "20 messages") || !strings.Contains(stdout, c.says) {
			t.Errorf("%v: exit code %d, %q\n%s", c.by, code, stderr, stdout)
		}
		if snapshot(t, dir) != before {
			t.Errorf("%v: the check changed something", c.by)
		}
	}
}

func TestCheckThatCannotBeDone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, 0, nil, "--data", dir)
	code, stdout, stderr := gannetd(t, nil, "--check", "--data", dir)
	oneLine(t, code, stderr, "in use", "stop that gannetd", fmt.Sprint("process ", p.cmd.Process.Pid))
	if stdout != "" {
		t.Errorf("it printed %q", stdout)
	}
	none := filepath.Join(dir, "none")
	code, _, stderr = gannetd(t, nil, "--check", "--data", none)
	oneLine(t, code, stderr, none)
	if _, err := os.Stat(none); err == nil {
		t.Error("the check made the folder")
	}
	empty := t.TempDir()
	code, _, stderr = gannetd(t, nil, "--check", "--data", empty)
	oneLine(t, code, stderr, "no store")
	if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
		t.Errorf("the check made %v, %v", names, err)
	}
	code, _, stderr = gannetd(t, nil, "--check", "--data", os.Args[0])
	oneLine(t, code, stderr, "not a directory")
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, 0, nil, "--data", dir)
	code, stderr := serve(t, dir)
	oneLine(t, code, stderr, "in use by another gannetd", fmt.Sprint("process ", p.cmd.Process.Pid), "--data")
	fill(t, p.listen, 1) // the first one did not notice
}

// Damage is told in a line at the start, and in full by the check.
func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(b []byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":   func([]byte) []byte { return nil },
		"changed":   func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
	} {
		for _, kind := range []string{"MANIFEST-", ".sst"} {
			dir := stopped(t, 20, syscall.SIGTERM)
			names, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(names, func(e os.DirEntry) bool {
				return strings.Contains(e.Name(), kind) && !strings.HasSuffix(e.Name(), ".sum")
			})
			name := filepath.Join(dir, names[i].Name())
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := gannetd(t, nil, "--check", "--data", dir)
			if code != 2 || !strings.Contains(stderr, "damaged") || !strings.Contains(stdout, "DAMAGED "+names[i].Name()) && kind != ".sst" ||
				!strings.Contains(stdout, strings.TrimSuffix(names[i].Name(), ".sst")) {
				t.Errorf("check of a folder with %s %s: exit code %d, %q\n%s", names[i].Name(), what, code, stderr, stdout)
			}
			if what == "changed" && kind == ".sst" {
				continue // the rest of it is served
			}
			code, stderr = serve(t, dir)
			oneLine(t, code, stderr, strings.TrimSuffix(names[i].Name(), ".sst"), "--check --data "+dir)
		}
	}
}

func TestNewerFolder(t *testing.T) {
	t.Parallel()
	dir := stopped(t, 1, syscall.SIGKILL)
	names, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("markers %v, %v", names, err)
	}
	if err := os.Rename(names[0], names[0]+"9"); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	code, stderr := serve(t, dir)
	oneLine(t, code, stderr, "newer version", "--data")
	code, _, stderr = gannetd(t, nil, "--check", "--data", dir)
	oneLine(t, code, stderr, "newer version")
	if snapshot(t, dir) != before {
		t.Error("something was changed")
	}
}

func TestFolderThatIsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		code, stderr := serve(t, dir)
		oneLine(t, code, stderr, dir, "is a file", "--data")
	}
}

func TestHalfRestoredFolder(t *testing.T) {
	t.Parallel()
	dir := stopped(t, 1, syscall.SIGTERM)
	if err := os.WriteFile(filepath.Join(dir, "RESTORING"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stderr := serve(t, dir)
	oneLine(t, code, stderr, dir, "restore", "broken off")
}

func TestReadOnlyDisk(t *testing.T) {
	dir := stopped(t, 3, syscall.SIGTERM)
	mountTmpfs(t, dir+"-ro", "size=16m")
	if out, err := exec.Command("cp", "-a", dir, dir+"-ro/data").CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	if err := unix.Mount("", dir+"-ro", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a file system cannot be made read-only here: %v", err)
	}
	for _, d := range []string{dir + "-ro/data", dir + "-ro/new"} {
		code, stderr := serve(t, d)
		oneLine(t, code, stderr, d, "read-only file system", "--data")
	}
	if code, stdout, stderr := gannetd(t, nil, "--check", "--data", dir+"-ro/data"); code != 0 || !strings.Contains(stdout, "3 messages") {
		t.Errorf("check: exit code %d, %q\n%s", code, stderr, stdout)
	}
}

// mountTmpfs mounts a small file system of its own for a test.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

// A folder of another user. Who is root can be another user for a moment; who is not takes rights from a folder.
func TestFolderOfSomeoneElse(t *testing.T) {
	dir := stopped(t, 1, syscall.SIGTERM)
	cmd := exec.Command(os.Args[0], "--listen", servertest.Addr(), "--admin", "off", "--data", dir)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		for up := filepath.Dir(dir); up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
			if err := os.Chmod(up, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	} else if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	cmd.Env = environment()
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Skipf("another user cannot run this test's program: %v", err)
	}
	_ = cmd.Wait()
	oneLine(t, cmd.ProcessState.ExitCode(), errs.String(), dir, "cannot be written by user", "chown")
	if os.Getuid() == 0 && !strings.Contains(errs.String(), "it belongs to user 0") {
		t.Errorf("it does not say whose it is: %q", errs.String())
	}
}

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	p := start(t, 0, nil, "--data", dir, "--store", "memory")
	fill(t, p.listen, 2)
	if pebble.Exists(dir) {
		t.Error("a store in memory made a folder")
	}
}

// What was acknowledged is there when the next gannetd starts, however the last one ended.
func TestDataSurvive(t *testing.T) {
	t.Parallel()
	for _, by := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		dir := stopped(t, 20, by)
		p := start(t, 0, nil, "--data", dir, "--store-cache", "2097152", "--store-memtable", "1048576")
		c := servertest.Login(t, p.listen, "bob", "phone")
		c.Send(codec.AppendPull(nil, codec.Pull{Req: 1, Kind: codec.KindTopic, Name: []byte("news"), From: 1, Limit: 100}))
		for seq := uint64(1); seq <= 20; {
			f := c.Next()
			if f.Type == codec.TypePos || f.Type == codec.TypeRange {
				continue
			}
			if m, err := servertest.Read(f, codec.TypeMsg, codec.ConsumeMsg); err != nil || m.Seq != seq {
				t.Fatalf("%v: got message %d, %v, want %d", by, m.Seq, err, seq)
			}
			seq++
		}
	}
}
