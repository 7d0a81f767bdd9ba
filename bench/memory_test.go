package bench

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// peerEnv makes the test binary a peer: it listens where the variable says, until its standard input ends.
const peerEnv = "GANNET_BENCH_TEST_PEER"

func servePeerProcess() {
	ln, err := net.Listen("tcp", os.Getenv(peerEnv))
	if err != nil {
		os.Exit(1)
	}
	p := servePeer(ln, script{})
	os.Stdout.WriteString("ready\n")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends with the parent
	p.close()
}

// startPeerProcess runs a peer whose memory is not ours.
func startPeerProcess(t *testing.T) (addr string) {
	t.Helper()
	ln := listenLow(t)
	addr = ln.Addr().String()
	ln.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), peerEnv+"="+addr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the peer: %v", err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the peer said %q: %v", line, err)
	}
	return addr
}

// heapWhileHolding is the memory of this process, stacks included, while n subscribed connections are up.
func heapWhileHolding(t *testing.T, addr string, n int) (bytes int64) {
	t.Helper()
	o := Options{Scenario: ScenarioConn, Addr: addr, Conns: n, Topics: []string{"news"}, For: 1100 * time.Millisecond, Loops: 1}
	r, err := Run(t.Context(), o, func(s Snapshot) {
		if s.Connections == int64(n) {
			bytes = liveBytes()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Connections.Up != int64(n) || bytes == 0 {
		t.Fatalf("%d of %d up: %+v", r.Connections.Up, n, r.Errors)
	}
	return bytes
}

func liveBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestMemoryPerConnection(t *testing.T) {
	addr := startPeerProcess(t)
	heapWhileHolding(t, addr, 10) // what is made once
	small, large := 200, 2200
	a := heapWhileHolding(t, addr, small)
	b := heapWhileHolding(t, addr, large)
	each := (b - a) / int64(large-small)
	t.Logf("%d B for %d connections, %d B for %d: %d B a connection", a, small, b, large, each)
	if each > 256 {
		t.Errorf("%d B a connection, want 256 at most", each)
	}
}

func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 104 {
		t.Errorf("a connection takes %d bytes in the slab, want 104 at most", n)
	}
}
