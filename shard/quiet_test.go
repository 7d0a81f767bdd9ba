package shard

import (
	"fmt"
	"net"
	"testing"
)

// quietConn is a connection of one byte, for allocation tests and benchmarks: it takes everything and keeps nothing. What
// the client "sends" next is quietIn: one goroutine drives them all.
type quietConn struct{ _ byte }

var (
	quietIn     []byte
	quietWrites int
	quietBytes  int
)

func (c *quietConn) Write(p []byte) (int, error) {
	quietWrites++
	quietBytes += len(p)
	return len(p), nil
}

func (c *quietConn) Writev(bs [][]byte) (n int, err error) {
	for _, p := range bs {
		n += len(p)
	}
	quietWrites++
	quietBytes += n
	return n, nil
}

func (c *quietConn) OutboundBuffered() int      { return 0 }
func (c *quietConn) InboundBuffered() int       { return len(quietIn) }
func (c *quietConn) RemoteAddr() net.Addr       { return fakeRemote }
func (c *quietConn) Peek(n int) ([]byte, error) { return quietIn[:n], nil }

func (c *quietConn) Discard(n int) (int, error) {
	quietIn = quietIn[n:]
	return n, nil
}

// quietLoop notes what its shard asks for.
type quietLoop struct {
	sh              *Shard
	wake, goOn      bool
	closed, halfway int
}

func (l *quietLoop) Wake()           { l.wake = true }
func (l *quietLoop) Continue()       { l.goOn = true }
func (l *quietLoop) Close(Conn)      { l.closed++ }
func (l *quietLoop) CloseWrite(Conn) { l.halfway++ }

// quietWorld is a node with quiet connections.
type quietWorld struct {
	clock *fakeClock
	node  *Node
	loops []*quietLoop
}

func newQuietWorld(shards int, mutate ...func(*Config)) *quietWorld {
	cfg := Config{Shards: shards, OpenRights: everything, MaxSessionsPerUser: 1 << 20}
	for _, f := range mutate {
		f(&cfg)
	}
	w := &quietWorld{clock: &fakeClock{ns: 1e10}}
	w.node = NewNode(cfg, w.clock, &fakeHost{})
	for i := range shards {
		l := &quietLoop{sh: w.node.Shard(i)}
		w.loops = append(w.loops, l)
		l.sh.Attach(l)
	}
	w.run()
	return w
}

// run goes on until no loop has anything to do.
func (w *quietWorld) run() {
	for busy := true; busy; {
		busy = false
		for _, l := range w.loops {
			if l.wake {
				busy, l.wake = true, false
				l.sh.Drain()
			}
			if l.goOn {
				busy, l.goOn = true, false
				l.sh.Slice()
			}
		}
	}
}

// login opens a session on c.
func (w *quietWorld) login(t testing.TB, shard int, c Conn, in []byte) *Session {
	s := w.loops[shard].sh.Open(c)
	w.bring(shard, s, in)
	if !s.Live() {
		t.Fatalf("login failed")
	}
	return s
}

// bring gives bytes of a session's client to its shard.
func (w *quietWorld) bring(shard int, s *Session, in []byte) {
	quietIn = in
	w.loops[shard].sh.Traffic(s)
}

func (w *quietWorld) crowd(t testing.TB, shard, n int, topic string) {
	for range n {
		w.login(t, shard, new(quietConn), hello("crowd", fmt.Sprint(w.node.Online()), topic))
		w.run()
	}
}
