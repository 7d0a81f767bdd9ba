package crashtest

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var gannetd = flag.String("gannetd", "", "use this server instead of building one")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	sync.Once
	dir string
	err error
}

// binary is the server's path; the first call builds it.
func binary(t *testing.T) string {
	t.Helper()
	if *gannetd != "" {
		return *gannetd
	}
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "gannet-crashtest"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir+"/", "gannet/cmd/gannetd").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "gannetd")
}

// patience is how long a test waits for a server to start or to end.
const patience = 30 * time.Second

// process is a server that runs until it is killed.
type process struct {
	cmd   *exec.Cmd
	ready chan string   // its first line
	ended chan struct{} // closed when it has
	errs  tail
}

// start runs the server; it is killed with the test at the latest.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary(t), args...), ready: make(chan string, 1), ended: make(chan struct{})}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GANNET_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Stderr = &p.errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				p.ready <- lines.Text()
			}
		}
		_ = p.cmd.Wait() // how it ended is seen in ProcessState
	}()
	t.Cleanup(p.kill)
	return p
}

// await waits until clients can connect.
func (p *process) await(t *testing.T) {
	t.Helper()
	select {
	case line := <-p.ready:
		if !strings.Contains(line, " ready ") {
			t.Fatalf("the server's first line is %q", line)
		}
	case <-p.ended:
		t.Fatalf("the server ended (%v) before it was ready:\n%s", p.cmd.ProcessState, p.errs.String())
	case <-time.After(patience):
		t.Fatalf("the server does not become ready:\n%s", p.errs.String())
	}
}

// kill ends it with SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it is over
	<-p.ended
}

// tail keeps the end of what a process writes.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailMax = 64 << 10

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len()+len(p) > tailMax {
		w.buf.Next(w.buf.Len() - tailMax/2)
	}
	return w.buf.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
