package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gannet/server/servertest"
)

const asMain = "TEST_RUN_GANNETD"

// TestMain lets this test binary be gannetd itself, so that the tests run the real program.
func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a running gannetd.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	ready  string // the line that says so
	listen string
	admin  string
	stdout *bufio.Reader
	stderr *output
	ended  chan struct{}
	err    error // from Wait; written before ended is closed
}

// output collects what a process says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// environment is this process's without gannetd's own variables.
func environment(more ...string) (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GANNET_") {
			env = append(env, kv)
		}
	}
	return append(append(env, asMain+"=1"), more...)
}

// gannetd runs the program to its end.
func gannetd(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = environment(env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("gannetd %v does not end", args)
	}
	if exit := new(exec.ExitError); err != nil && !errorsAs(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

var readyLine = regexp.MustCompile(`^gannetd (\S+) ready listen=(\S+) admin=(\S+) auth=(\S+)$`)

// start runs gannetd on free ports until it is ready. limit is the number of files it may open, 0 for no limit.
func start(t *testing.T, limit int, env []string, args ...string) *process {
	t.Helper()
	args = append([]string{"--listen", servertest.Addr(), "--admin", servertest.Addr(), "--data", t.TempDir()}, args...)
	name := os.Args[0]
	if limit > 0 {
		args = append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit), name}, args...)
		name = "sh"
	}
	p := &process{t: t, cmd: exec.Command(name, args...), stderr: &output{}, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = environment(env...), p.stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = w
	p.stdout = bufio.NewReader(r)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		_ = r.Close()
		if t.Failed() {
			t.Logf("gannetd wrote:\n%s", p.stderr)
		}
	})
	_ = r.SetReadDeadline(time.Now().Add(servertest.Patience))
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("no line that says ready: %v; it wrote:\n%s", err, p.stderr)
	}
	p.ready = strings.TrimSuffix(line, "\n")
	m := readyLine.FindStringSubmatch(p.ready)
	if m == nil {
		t.Fatalf("the first line is %q", line)
	}
	p.listen, p.admin = m[2], m[3]
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(servertest.Patience):
		p.t.Fatal("gannetd does not end")
		return 0
	}
}
