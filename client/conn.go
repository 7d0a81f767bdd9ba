package client

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
)

const (
	// linger bounds how long a connection that is being left still takes answers.
	linger = time.Second
	// maxOthers bounds the unanswered requests that are not SENDs; SENDs have the server's window, and those that a server
	// with a log has to look up maxReads.
	maxOthers = 256
	maxReads  = 16
	// frameSlack is how much longer than max_frame a received frame may be: a MSG has fields that its SEND has not.
	frameSlack = 256
)

// conn is one connection after WELCOME.
type conn struct {
	// static after the login
	nc      net.Conn
	timeout time.Duration
	welcome Welcome
	skew    time.Duration  // the server's clock minus ours
	wish    time.Duration  // heartbeat asked for in HELLO
	told    []subscription // in HELLO, and behind them
	logs    []Channel      // other channels with positions
	states  []codec.State  // what WELCOME said to each

	ctx    context.Context // ends with the connection; cancelled by end
	cancel context.CancelFunc

	in *frameReader // owned by login, then by the reader

	ranging *call // the PULL whose messages come, nil for none; owned by the reader
	left    int   // how many of them; owned by the reader
	early   []Gap // came just now and may belong to a PULL; owned by the reader

	out     chan []byte   // to the writer, bounded
	control chan []byte   // to the writer, goes first: PING, PONG
	kick    chan struct{} // to the writer: the heartbeat has changed
	window  chan struct{} // a slot an unanswered SEND
	others  chan struct{} // a slot any other unanswered request
	reads   chan struct{} // but for SUB, PULL and LIST
	auth    chan codec.AuthResult
	migrate chan codec.Migrate // to serve

	quitOnce sync.Once
	quitCode codec.Code    // set before quit is closed
	quit     chan struct{} // closed: the writer writes what waits, then BYE, and ends
	written  chan struct{} // closed when the writer has ended
	wg       sync.WaitGroup

	heartbeat atomic.Int64 // in force, a time.Duration

	mu      sync.Mutex
	cause   error                  // guarded by mu: the first reason to end
	pending map[uint32]*call       // guarded by mu, bounded by window and others
	pings   map[uint64]chan uint16 // guarded by mu: heartbeat advice, 0 for none
	req     uint32                 // guarded by mu: the last one given out
	ping    uint64                 // guarded by mu
}

func newConn(nc net.Conn, opt *Options) *conn {
	cn := &conn{
		nc:      nc,
		timeout: opt.Timeout,
		out:     make(chan []byte, opt.Queue),
		control: make(chan []byte, 16),
		kick:    make(chan struct{}, 1),
		others:  make(chan struct{}, maxOthers),
		reads:   make(chan struct{}, maxReads),
		auth:    make(chan codec.AuthResult, 1),
		migrate: make(chan codec.Migrate, 1),
		quit:    make(chan struct{}),
		written: make(chan struct{}),
		pending: make(map[uint32]*call),
		pings:   make(map[uint64]chan uint16),
	}
	cn.ctx, cn.cancel = context.WithCancel(context.Background())
	cn.in = newFrameReader(nc, codec.LoginLimit)
	return cn
}

func (cn *conn) interval() time.Duration { return time.Duration(cn.heartbeat.Load()) }

func (cn *conn) serverNow() time.Time { return time.Now().Add(cn.skew) }

// setHeartbeat takes the interval in force; 0 is no news.
func (cn *conn) setHeartbeat(secs uint16) {
	if secs == 0 {
		if cn.heartbeat.Load() != 0 {
			return
		}
		secs = 60
	}
	d := int64(time.Duration(secs) * time.Second)
	if cn.heartbeat.Swap(d) == d {
		return
	}
	select {
	case cn.kick <- struct{}{}:
	default:
	}
}

// end closes the connection; of several reasons the first counts.
func (cn *conn) end(err error) {
	cn.mu.Lock()
	if cn.cause == nil {
		cn.cause = err
	}
	cn.mu.Unlock()
	cn.cancel()
	cn.nc.Close()
}

// quitWith tells the writer to write what waits and BYE with code, and to end.
func (cn *conn) quitWith(code codec.Code, err error) {
	cn.mu.Lock()
	if cn.cause == nil {
		cn.cause = err
	}
	cn.mu.Unlock()
	cn.quitOnce.Do(func() {
		cn.quitCode = code
		close(cn.quit)
	})
}

// leave ends the connection in good order; answers are still taken until the server closes, for up to linger.
func (cn *conn) leave(err error) {
	cn.quitWith(codec.CodeOK, err)
	wait(cn.ctx.Done(), linger)
	cn.end(err)
}

func wait(done <-chan struct{}, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
