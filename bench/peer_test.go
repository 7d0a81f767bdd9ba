package bench

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"gannet/codec"
)

func TestMain(m *testing.M) {
	if os.Getenv(peerEnv) != "" {
		servePeerProcess()
		return
	}
	// The package gnet of the tests' real server keeps a pool for the life of the process.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"), // idle
	)
}

// script is what the peer does other than a good server. Zero values mean: be one.
type script struct {
	greet   func(c *peerConn)                           // instead of WELCOME
	relay   func(n int64, to string, msg []byte) []byte // what to put on the wire for the n-th MSG, counted from 1
	code    func(s codec.Send) codec.Code               // answer to a SEND that asks for one; refused ones are not relayed
	onSend  func(c *peerConn, n int64) (goOn bool)      // before the n-th SEND is handled; false closes
	onPing  func(c *peerConn) (goOn bool)
	onFrame func(f codec.Frame)

	maxFrame  uint32
	heartbeat uint16
	pinging   bool // PING right behind WELCOME
	dribble   int  // write at most that many bytes at a time
}

// peer is a scripted server on loopback: it knows logins, direct messages, topics and broadcasts to all.
type peer struct {
	script
	ln   net.Listener
	addr string
	wg   sync.WaitGroup
	gone chan struct{} // closed at the end of the test

	sends, msgs, pings, pongs, byes atomic.Int64

	mu     sync.Mutex
	users  map[string]*peerConn
	topics map[string][]*peerConn
	conns  map[*peerConn]bool
}

// peerConn is one connection at the peer.
type peerConn struct {
	p    *peer
	nc   net.Conn
	user string
	mu   sync.Mutex // one writer at a time
}

// listenLow listens on a loopback port that no connect is given by the kernel.
func listenLow(tb testing.TB) net.Listener {
	tb.Helper()
	var err error
	for range 200 {
		var ln net.Listener
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))); err == nil {
			return ln
		}
	}
	tb.Fatalf("no free port: %v", err)
	return nil
}

func newPeer(tb testing.TB, s script) *peer {
	tb.Helper()
	p := servePeer(listenLow(tb), s)
	tb.Cleanup(p.close)
	return p
}

func servePeer(ln net.Listener, s script) *peer {
	p := &peer{
		script: s, ln: ln, addr: ln.Addr().String(), gone: make(chan struct{}),
		users: map[string]*peerConn{}, topics: map[string][]*peerConn{}, conns: map[*peerConn]bool{},
	}
	p.wg.Add(1)
	go p.accept()
	return p
}

func (p *peer) close() {
	close(p.gone)
	p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.nc.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *peer) accept() {
	defer p.wg.Done()
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			return
		}
		c := &peerConn{p: p, nc: nc}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Add(1)
		go c.serve()
	}
}

func (c *peerConn) serve() {
	defer c.p.wg.Done()
	defer c.leave()
	buf := make([]byte, 0, 2048)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, cap(buf))...)[:len(buf)]
		}
		n, err := c.nc.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			f, n, err := codec.ConsumeFrame(rest, codec.MaxBody)
			if err != nil {
				return
			}
			if n == 0 {
				break
			}
			if c.p.onFrame != nil {
				c.p.onFrame(f)
			}
			if !c.handle(f) {
				return
			}
			rest = rest[n:]
		}
		buf = buf[:copy(buf, rest)]
	}
}

func (c *peerConn) leave() {
	c.nc.Close()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	delete(c.p.conns, c)
	if c.p.users[c.user] == c {
		delete(c.p.users, c.user)
	}
}

// write sends bytes whole; an error means that the reader has left.
func (c *peerConn) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for step := c.p.dribble; step > 0 && len(b) > step; b = b[step:] {
		if _, err := c.nc.Write(b[:step]); err != nil {
			return
		}
	}
	_, _ = c.nc.Write(b)
}

func (c *peerConn) handle(f codec.Frame) (goOn bool) {
	switch f.Type {
	case codec.TypeHello:
		return c.hello(f)
	case codec.TypeSub:
		s, err := codec.ConsumeSub(f)
		if err != nil {
			return false
		}
		c.p.mu.Lock()
		c.p.topics[string(s.Name)] = append(c.p.topics[string(s.Name)], c)
		c.p.mu.Unlock()
		c.write(codec.AppendSubAck(nil, codec.SubAck{Req: s.Req}))
	case codec.TypePing:
		c.p.pings.Add(1)
		if c.p.onPing != nil && !c.p.onPing(c) {
			return false
		}
		p, err := codec.ConsumePing(f)
		if err != nil {
			return false
		}
		c.write(codec.AppendPong(nil, p))
	case codec.TypePong:
		c.p.pongs.Add(1)
	case codec.TypeBye:
		c.p.byes.Add(1)
		return false
	case codec.TypeSend:
		return c.send(f)
	}
	return true
}

func (c *peerConn) hello(f codec.Frame) bool {
	h, err := codec.ConsumeHello(f)
	if err != nil {
		return false
	}
	c.user = string(h.User)
	if c.p.greet != nil {
		c.p.greet(c)
		return true
	}
	c.p.mu.Lock()
	c.p.users[c.user] = c
	c.p.mu.Unlock()
	w := codec.Welcome{Version: 1, Heartbeat: max(h.Heartbeat, c.p.heartbeat), MaxFrame: max(c.p.maxFrame, codec.DefaultLimit), Window: 1024, User: h.User}
	if c.p.heartbeat > 0 {
		w.Heartbeat = c.p.heartbeat
	}
	out := codec.AppendWelcome(nil, w)
	if c.p.pinging {
		out = codec.AppendPing(out, codec.Ping{Data: []byte("12345678")})
	}
	c.write(out)
	return true
}

// receivers are the connections that a SEND is for, and the name it has for them.
func (p *peer) receivers(from string, s codec.Send) (to []*peerConn, name []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s.Kind {
	case codec.KindDirect:
		if c := p.users[string(s.Name)]; c != nil {
			to = append(to, c)
		}
		return to, codec.AppendPair(nil, []byte(from), s.Name)
	case codec.KindAll:
		for _, c := range p.users {
			to = append(to, c)
		}
	default:
		to = append(to, p.topics[string(s.Name)]...)
	}
	return to, s.Name
}

func (c *peerConn) send(f codec.Frame) bool {
	s, err := codec.ConsumeSend(f)
	if err != nil {
		return false
	}
	n := c.p.sends.Add(1)
	if c.p.onSend != nil && !c.p.onSend(c, n) {
		return false
	}
	code := codec.CodeOK
	if s.Req != 0 {
		if c.p.code != nil {
			code = c.p.code(s)
		}
		c.write(codec.AppendSendAck(nil, codec.SendAck{Req: s.Req, Code: code}))
	}
	if code != codec.CodeOK {
		return true
	}
	to, name := c.p.receivers(c.user, s)
	msg := codec.AppendMsg(nil, codec.Msg{Kind: s.Kind, Name: name, Sender: []byte(c.user), Payload: s.Payload})
	for _, r := range to {
		n, out := c.p.msgs.Add(1), msg
		if c.p.relay != nil {
			out = c.p.relay(n, r.user, msg)
		}
		r.write(out)
	}
	return true
}
