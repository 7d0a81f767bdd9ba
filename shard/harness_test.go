package shard

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"gannet/codec"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// fakeClock is moved by hand; step makes it move by itself whenever it is looked at.
type fakeClock struct {
	ns   int64
	step int64
}

const clockEpoch = 1_767_225_600_000 // Unix milliseconds when the clock shows 0

func (c *fakeClock) Now() int64        { c.ns += c.step; return c.ns }
func (c *fakeClock) UnixMilli() uint64 { return clockEpoch + uint64(c.ns/int64(time.Millisecond)) }

// fakeConn behaves as a connection of gnet does: what the kernel does not take waits in pending, a write behind
// what waits is never tried, and one that fails closes the connection before it returns. What was peeked at is
// overwritten as soon as gnet would let go of it, so that who keeps it is caught.
type fakeConn struct {
	loop    *fakeLoop
	session *Session
	in      []byte
	out     []byte // the kernel took it
	pending []byte // it did not
	room    int    // bytes that the kernel still takes; -1: all
	broken  bool   // the next write fails
	writes  int
	shut    bool
	closed  bool
}

var (
	errBroken  = errors.New("broken pipe")
	fakeRemote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
)

func (c *fakeConn) Write(p []byte) (int, error) { return c.Writev([][]byte{p}) }

func (c *fakeConn) Writev(bs [][]byte) (int, error) {
	if c.closed || c.shut {
		c.loop.w.t.Errorf("a write to a connection that is closed (%v) or shut (%v)", c.closed, c.shut)
		return 0, net.ErrClosed
	}
	if len(bs) > iovMax {
		c.loop.w.t.Errorf("%d pieces in one writev", len(bs))
	}
	c.writes++
	if c.broken && len(c.pending) == 0 {
		c.disconnect()
		return 0, errBroken
	}
	n := 0
	for i, p := range bs {
		if len(p) == 0 {
			c.loop.w.t.Errorf("an empty piece in a write")
		}
		n += len(p)
		took := 0
		if len(c.pending) == 0 {
			if took = len(p); c.room >= 0 {
				took = min(took, c.room)
				c.room -= took
			}
		}
		c.out = append(c.out, p[:took]...)
		c.pending = append(c.pending, p[took:]...)
		bs[i] = nil // gnet changes the outer slice as well
	}
	return n, nil
}

// read lets the kernel take n more bytes of what waits; -1: all, now and from now on.
func (c *fakeConn) read(n int) {
	took := len(c.pending)
	if c.room = -1; n >= 0 {
		took = min(took, n)
		c.room = n - took
	}
	c.out = append(c.out, c.pending[:took]...)
	c.pending = append([]byte(nil), c.pending[took:]...)
}

func (c *fakeConn) OutboundBuffered() int { return len(c.pending) }
func (c *fakeConn) InboundBuffered() int  { return len(c.in) }
func (c *fakeConn) RemoteAddr() net.Addr  { return fakeRemote }

func (c *fakeConn) Peek(n int) ([]byte, error) {
	if n > len(c.in) {
		return nil, io.ErrShortBuffer
	}
	if n <= 0 {
		n = len(c.in)
	}
	return c.in[:n:n], nil
}

func (c *fakeConn) Discard(n int) (int, error) {
	if n <= 0 || n > len(c.in) {
		n = len(c.in)
	}
	scribble(c.in[:n])
	c.in = c.in[n:]
	return n, nil
}

func scribble(p []byte) {
	for i := range p {
		p[i] = 0xee
	}
}

// arrive puts bytes into the inbound buffer; what is there moves, as gnet's does after OnTraffic.
func (c *fakeConn) arrive(p []byte) {
	old := c.in
	c.in = append(append(make([]byte, 0, len(old)+len(p)), old...), p...)
	scribble(old)
}

// disconnect closes the connection from outside the shard.
func (c *fakeConn) disconnect() {
	if !c.closed {
		c.closed = true
		c.loop.sh.Closed(c.session, c)
	}
}

// fakeLoop notes what its shard asks for; world gives it.
type fakeLoop struct {
	w         *world
	sh        *Shard
	wakes     int
	continues int
	drains    int
	slices    int
}

func (l *fakeLoop) Wake()     { l.wakes++ }
func (l *fakeLoop) Continue() { l.continues++ }

func (l *fakeLoop) Close(c Conn) {
	f := c.(*fakeConn)
	if f.closed {
		l.w.t.Errorf("the shard closes a connection that is closed")
	}
	f.disconnect()
}

func (l *fakeLoop) CloseWrite(c Conn) {
	f := c.(*fakeConn)
	if f.closed || f.shut || len(f.pending) > 0 {
		l.w.t.Errorf("CloseWrite: closed %v, shut %v, %d bytes not yet with the kernel", f.closed, f.shut, len(f.pending))
	}
	f.shut = true
}

// fakeHost answers credentials when it is told to.
type fakeHost struct {
	full    bool // refuse more credentials
	asked   []AuthRequest
	events  []Event
	refused []codec.Code
}

func (h *fakeHost) Authenticate(r AuthRequest) bool {
	if h.full {
		return false
	}
	h.asked = append(h.asked, r)
	return true
}

func (h *fakeHost) Event(e Event)                             { h.events = append(h.events, e) }
func (h *fakeHost) Refused(_ Conn, code codec.Code, _ string) { h.refused = append(h.refused, code) }

// testRights are the rights of a test: the patterns of topics that are allowed, "*" for all.
type testRights struct {
	pub, sub string
	all      bool
}

func (r *testRights) MayPublish(topic []byte) bool   { return r.pub == "*" || r.pub == string(topic) }
func (r *testRights) MaySubscribe(topic []byte) bool { return r.sub == "*" || r.sub == string(topic) }
func (r *testRights) MayBroadcast() bool             { return r.all }
func (r *testRights) Key() string {
	if r.all {
		return r.pub + "\n" + r.sub + "\nall"
	}
	return r.pub + "\n" + r.sub
}

var everything = &testRights{"*", "*", true}

// world is a node whose shards are driven by one goroutine, in an order drawn from a seed.
type world struct {
	t     tb
	clock *fakeClock
	host  *fakeHost
	node  *Node
	loops []*fakeLoop
	conns []*fakeConn
	rng   *rand.Rand
	log   *modelLog // nil: Config.Log is
}

// newWorld makes a world in which everyone may do everything, unless mutate says otherwise.
func newWorld(t tb, shards int, mutate ...func(*Config)) *world {
	cfg := Config{Shards: shards, InboxCapacity: 1024, OpenRights: everything, Events: EventOnline | EventOffline}
	for _, f := range mutate {
		f(&cfg)
	}
	w := &world{
		t: t, clock: &fakeClock{ns: int64(10 * time.Second)}, host: &fakeHost{},
	}
	w.seed(1)
	w.node = NewNode(cfg, w.clock, w.host)
	for i := range shards {
		l := &fakeLoop{w: w, sh: w.node.Shard(i)}
		w.loops = append(w.loops, l)
		l.sh.Attach(l)
	}
	w.run()
	return w
}

// seed chooses the order in which the loops come to their turns.
func (w *world) seed(n uint64) { w.rng = rand.New(rand.NewPCG(n, 0)) }

// judged is a Config whose logins go through Host.Authenticate.
func judged(c *Config) { c.OpenRights = nil }

// step does one thing that a loop was asked for; false when there is none.
func (w *world) step() bool {
	n := len(w.loops)
	for k, first := 0, w.rng.IntN(2*n); k < 2*n; k++ {
		l := w.loops[(first+k)%(2*n)/2]
		switch drain := (first+k)%2 == 0; {
		case drain && l.wakes > 0:
			l.wakes--
			l.drains++
			l.sh.Drain()
			return true
		case !drain && l.continues > 0:
			l.continues--
			l.slices++
			l.sh.Slice()
			return true
		}
	}
	return false
}

// run goes on until no loop has anything to do.
func (w *world) run() {
	w.t.Helper()
	for n := 0; w.step() || w.log != nil && w.log.work(); n++ {
		if n > 1_000_000 {
			w.t.Fatalf("the shards never come to rest")
		}
	}
}

// tick lets a tenth of a second pass.
func (w *world) tick() {
	w.clock.ns += tick
	for _, l := range w.loops {
		l.sh.Tick()
	}
	w.run()
}

// pass lets time pass, in ticks.
func (w *world) pass(d time.Duration) {
	for n := int64(d) / tick; n > 0; n-- {
		w.tick()
	}
}

// stats are the sum of the shards' counters of now.
func (w *world) stats() Stats {
	var sum Stats
	for _, l := range w.loops {
		l.sh.publish()
		st := l.sh.Published()
		sum.Add(&st)
	}
	return sum
}

func (w *world) wantDrops(d Drop, n uint64) {
	w.t.Helper()
	if got := w.stats().Dropped[d]; got != n {
		w.t.Errorf("%v drops for %v, want %v", got, d, n)
	}
}
