package servertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/server"
)

// Patience is how long a test waits for anything before it fails.
const Patience = 20 * time.Second

// Node is a server that runs until the end of the test.
type Node struct {
	*server.Server

	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	err    error         // what it returned; written before ended is closed
}

// Start makes a server and runs it until the test ends. Empty addresses become free ports of 127.0.0.1; an empty
// Drain is 200 ms, an empty Logger writes nothing; messages are stored in memory unless Store or Data says otherwise.
func Start(t testing.TB, o server.Options) *Node {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	n := Run(t, s)
	select {
	case <-s.Ready():
	case <-n.ended:
		t.Fatalf("servertest: the server ended before it was ready: %v", n.err)
	case <-time.After(Patience):
		t.Fatal("servertest: the server does not become ready")
	}
	return n
}

// New makes a server with the defaults of Start and does not run it.
func New(o server.Options) (*server.Server, error) {
	if o.Drain == 0 {
		o.Drain = 200 * time.Millisecond
	}
	if o.Store == "" && o.Data == "" {
		o.Store = "memory"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for left := 20; ; left-- {
		try := o
		if try.Listen == "" {
			try.Listen = Addr()
		}
		if try.Admin == "" {
			try.Admin = Addr()
		}
		s, err := server.New(try)
		if left > 0 && errors.Is(err, unix.EADDRINUSE) && (try.Listen != o.Listen || try.Admin != o.Admin) {
			continue // somebody took the port meanwhile
		}
		return s, err
	}
}

// Run runs s until the test ends.
func Run(t testing.TB, s *server.Server) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{Server: s, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		n.err = s.Run(ctx)
	}()
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("servertest: the server ended with: %v", err)
		}
	})
	return n
}

// Drain tells the server to end and returns at once.
func (n *Node) Drain() { n.cancel() }

// Ended is closed when the server has ended.
func (n *Node) Ended() <-chan struct{} { return n.ended }

// Stop ends the server and returns what Run returned. Further calls return the same.
func (n *Node) Stop() error {
	n.cancel()
	select {
	case <-n.ended:
		return n.err
	case <-time.After(Patience):
		return errors.New("it does not end")
	}
}

// Ports for listening lie below those that outgoing connections get.
const firstPort, ports = 20000, 12000

var lastPort atomic.Uint32

func init() { lastPort.Store(rand.Uint32N(ports)) }

// Addr is an address of 127.0.0.1 on which nobody listened a moment ago and which was not given out lately.
func Addr() string {
	for range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%ports)
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			_ = ln.Close()
			return addr
		}
		if !strings.Contains(err.Error(), "in use") {
			panic("servertest: " + err.Error())
		}
	}
	panic("servertest: no free port")
}
