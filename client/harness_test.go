package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gannet/codec"
)

// TestMain finds goroutines that are left over. The package gnet of the tests' real server keeps a pool for the life of
// the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"), // idle
	)
}

// harness stands in for the network: the test plays the server at the other end of each pipe. Used inside a synctest bubble,
// so waiting costs no time.
type harness struct {
	t      *testing.T
	peers  chan *peer
	refuse atomic.Bool

	mu    sync.Mutex
	addrs []string // dialled so far
}

func newHarness(t *testing.T) *harness {
	return &harness{t: t, peers: make(chan *peer, 64)}
}

var errRefused = errors.New("connection refused")

func (h *harness) dial(ctx context.Context, addr string) (net.Conn, error) {
	h.mu.Lock()
	h.addrs = append(h.addrs, addr)
	h.mu.Unlock()
	if h.refuse.Load() {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	p := &peer{t: h.t, nc: ours, frames: make(chan codec.Frame, 4096), begun: time.Now()}
	go p.pump()
	h.peers <- p
	return theirs, nil
}

func (h *harness) dialled() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.addrs...)
}

func (h *harness) options() Options {
	return Options{Addrs: []string{"node-1:7000"}, User: "alice", Device: "phone", Dialer: h.dial}
}

// peer returns the server's end of the next connection.
func (h *harness) peer() *peer {
	h.t.Helper()
	select {
	case p := <-h.peers:
		return p
	case <-time.After(time.Hour):
		h.t.Fatal("the client did not connect")
		return nil
	}
}

// run starts a client and stops it at the end of the test; the channel gets what Run returned.
func (h *harness) run(opt Options) (*Client, chan error) {
	h.t.Helper()
	c, err := New(opt)
	if err != nil {
		h.t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- c.Run(context.Background()) }()
	h.t.Cleanup(func() { c.Close() })
	return c, result
}

// connected starts a client and logs it in.
func (h *harness) connected(opt Options) (*Client, *peer) {
	h.t.Helper()
	connected := make(chan struct{}, 64)
	onConnect := opt.OnConnect
	opt.OnConnect = func(w Welcome) {
		if onConnect != nil {
			onConnect(w)
		}
		connected <- struct{}{}
	}
	c, _ := h.run(opt)
	p := h.peer()
	p.login(welcome())
	<-connected
	return c, p
}

func welcome() codec.Welcome {
	return codec.Welcome{
		Version: codec.Version, Heartbeat: 30, Session: 7, Time: uint64(time.Now().UnixMilli()),
		MaxFrame: codec.DefaultLimit, Window: 1024, Node: []byte("node-1"), User: []byte("alice"),
	}
}

// peer is the server's end of one connection; pump reads all the time, as a server does.
type peer struct {
	t      *testing.T
	nc     net.Conn
	frames chan codec.Frame // closed at the end of the stream
	begun  time.Time
}

func (p *peer) pump() {
	defer close(p.frames)
	r := newFrameReader(p.nc, codec.MaxBody)
	for {
		f, err := r.next(time.Time{})
		if err != nil {
			p.nc.Close()
			return
		}
		f.Body = append([]byte(nil), f.Body...)
		f.Ext = append(codec.TLVs(nil), f.Ext...)
		p.frames <- f
		if f.Type == codec.TypeBye {
			p.nc.Close()
			return
		}
	}
}

// next returns the next frame; ok is false at the end of the stream.
func (p *peer) next() (f codec.Frame, ok bool) {
	p.t.Helper()
	select {
	case f, ok = <-p.frames:
		return f, ok
	case <-time.After(24 * time.Hour):
		p.t.Fatal("the client sends nothing")
		return f, false
	}
}

func (p *peer) send(frame []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(frame); err != nil {
		p.t.Errorf("write to the client: %v", err)
	}
}

// expect returns the next frame, which must be of type want and well formed.
func expect[T any](p *peer, want codec.Type, consume func(codec.Frame) (T, error)) T {
	p.t.Helper()
	f, ok := p.next()
	if !ok {
		p.t.Fatalf("the connection ended, want %v", want)
	}
	if f.Type != want {
		p.t.Fatalf("got %v, want %v", f.Type, want)
	}
	v, err := consume(f)
	if err != nil {
		p.t.Fatalf("%v: %v", want, err)
	}
	return v
}

func (p *peer) hello() codec.Hello {
	p.t.Helper()
	return expect(p, codec.TypeHello, codec.ConsumeHello)
}
func (p *peer) sent() codec.Send   { p.t.Helper(); return expect(p, codec.TypeSend, codec.ConsumeSend) }
func (p *peer) sub() codec.Sub     { p.t.Helper(); return expect(p, codec.TypeSub, codec.ConsumeSub) }
func (p *peer) bye() codec.Bye     { p.t.Helper(); return expect(p, codec.TypeBye, codec.ConsumeBye) }
func (p *peer) pinged() codec.Ping { p.t.Helper(); return expect(p, codec.TypePing, codec.ConsumePing) }
func (p *peer) state() codec.StateUpdate {
	p.t.Helper()
	return expect(p, codec.TypeState, codec.ConsumeState)
}

// login answers HELLO; every position of it is live unless w says otherwise.
func (p *peer) login(w codec.Welcome) codec.Hello {
	p.t.Helper()
	h := p.hello()
	for range h.Positions.Len() - w.States.Len() {
		w.States.Append(codec.State{})
	}
	p.send(codec.AppendWelcome(nil, w))
	return h
}

func (p *peer) ack(req uint32, code codec.Code, seq uint64) {
	p.t.Helper()
	p.send(codec.AppendSendAck(nil, codec.SendAck{Req: req, Code: code, Seq: seq, Time: 1000}))
}

func (p *peer) sayBye(b codec.Bye) {
	p.t.Helper()
	p.send(codec.AppendBye(nil, b))
}

func wantCode(t *testing.T, err error, code codec.Code) {
	t.Helper()
	var ce *CodeError
	if !errors.As(err, &ce) || ce.Code != code {
		t.Fatalf("error %v, want a CodeError %v", err, code)
	}
}
