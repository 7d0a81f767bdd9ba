package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gannet/server/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); dir != "" && err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// binaries builds the programs once, as users have them, into a folder of their own.
var binaries = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "gannet-test"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "gannet/cmd/gannet", "gannet/cmd/gannetd").CombinedOutput()
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// command is a program of ours that is not started yet. It sees no variable that could change what it does.
func command(t *testing.T, ctx context.Context, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, name), args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GANNET_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	return cmd
}

// gannet runs the tool to its end.
func gannet(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*servertest.Patience)
	defer cancel()
	cmd := command(t, ctx, "gannet", args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("gannet %v does not end; it wrote:\n%s%s", args, &out, &errs)
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// program is a process that runs beside the test, which writes its standard input.
type program struct {
	t         *testing.T
	cmd       *exec.Cmd
	in        io.WriteCloser
	out, errs *transcript
	ended     chan struct{} // closed when it has
}

func launch(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: command(t, context.Background(), name, args...), out: newTranscript(), errs: newTranscript(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errs
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			out, _ := p.out.now()
			errs, _ := p.errs.now()
			t.Logf("%s %v wrote:\n%s%s", name, args, out, errs)
		}
	})
	return p
}

func (p *program) says(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(servertest.Patience):
		p.t.Fatal("it does not end")
		return 0
	}
}

// leaves ends standard input and returns the exit code.
func (p *program) leaves() int {
	p.t.Helper()
	_ = p.in.Close()
	return p.exit()
}

var readyLine = regexp.MustCompile(`(?m)^gannetd \S+ ready listen=(\S+) `)

// launchServer runs gannetd on a free port until it is ready.
func launchServer(t *testing.T, args ...string) (p *program, addr string) {
	t.Helper()
	return launchServerAt(t, servertest.Addr(), args...)
}

func launchServerAt(t *testing.T, listen string, args ...string) (p *program, addr string) {
	t.Helper()
	if !slices.Contains(args, "--data") {
		args = append(args, "--data", t.TempDir())
	}
	if !slices.Contains(args, "--admin") {
		args = append(args, "--admin", "off")
	}
	p = launch(t, "gannetd", append([]string{"--listen", listen}, args...)...)
	p.out.await(t, "\n")
	text, _ := p.out.now()
	m := readyLine.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the server's first line is %q", text)
	}
	return p, m[1]
}

// launchChat runs a chat until it is connected.
func launchChat(t *testing.T, addr string, args ...string) *program {
	t.Helper()
	p := launch(t, "gannet", append([]string{"chat", "--addr", addr}, args...)...)
	p.out.await(t, "* connected to "+addr)
	return p
}
