package server

import (
	"context"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"gannet/shard"
)

// loop is one of gnet's event loops as its shard sees it (shard.Loop).
type loop struct {
	// Static after construction.
	srv   *Server
	el    gnet.EventLoop
	sh    *shard.Shard
	drain gnet.Runnable
	slice gnet.Runnable
	tick  gnet.Runnable

	// Slices of a fan-out go on through a descriptor of our own: a task that is enqueued by a task runs in the same
	// pass, before any socket is served; a readable descriptor waits for its turn among them.
	pair int32 // atomic: our end of the socket pair; -1 until it is enrolled

	refused []*refusal // owned by the loop

	tickPending atomic.Bool
	tickPosted  atomic.Int64
	lag         atomic.Int64 // of the last tick, nanoseconds
	maxLag      atomic.Int64 // since it was last asked for
	lateTicks   atomic.Uint64
}

func newLoop(s *Server, el gnet.EventLoop, sh *shard.Shard) *loop {
	lp := &loop{srv: s, el: el, sh: sh, pair: -1}
	task := func(f func()) gnet.Runnable {
		return gnet.RunnableFunc(func(context.Context) error {
			lp.guard(f)
			return nil
		})
	}
	lp.drain = task(sh.Drain)
	lp.slice = task(sh.Slice)
	lp.tick = task(lp.onTick)
	return lp
}

// guard keeps a panic in a turn from ending the process: gnet recovers nowhere.
func (lp *loop) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			lp.srv.panicked(p, debug.Stack())
		}
	}()
	f()
}

// Wake has the shard drained. Any goroutine may call it.
func (lp *loop) Wake() {
	if err := lp.el.Execute(context.Background(), lp.drain); err != nil {
		lp.srv.counters.wakeErrors.Add(1) // only while the engine shuts down
	}
}

var oneByte = []byte{1}

// Continue has the next slice run after the sockets that are ready now.
func (lp *loop) Continue() {
	if fd := atomic.LoadInt32(&lp.pair); fd >= 0 {
		if _, err := unix.Write(int(fd), oneByte); err == nil {
			return
		}
	}
	if err := lp.el.Execute(context.Background(), lp.slice); err != nil {
		lp.srv.counters.wakeErrors.Add(1)
	}
}

// Close closes a connection at once.
func (lp *loop) Close(c shard.Conn) {
	if half, ok := c.(*halfConn); ok {
		half.close()
		return
	}
	_ = lp.el.Close(c.(gnet.Conn))
}

// CloseWrite ends the writing side of a connection.
func (lp *loop) CloseWrite(c shard.Conn) {
	if half, ok := c.(*halfConn); ok {
		half.shut()
		return
	}
	_ = unix.Shutdown(c.(gnet.Conn).Fd(), unix.SHUT_WR)
}

// postTick asks for one tick; a loop that has not come to the last one is not asked again.
func (lp *loop) postTick(now int64) {
	if !lp.tickPending.CompareAndSwap(false, true) {
		lp.lateTicks.Add(1)
		return
	}
	lp.tickPosted.Store(now)
	if err := lp.el.Execute(context.Background(), lp.tick); err != nil {
		lp.tickPending.Store(false)
	}
}

func (lp *loop) onTick() {
	lag := lp.srv.clock.Now() - lp.tickPosted.Load()
	lp.lag.Store(lag)
	if lag > lp.maxLag.Load() {
		lp.maxLag.Store(lag)
	}
	lp.tickPending.Store(false)
	lp.sweepRefused(lp.srv.clock.Now())
	lp.sh.Tick()
}

// pairEnd marks gnet's end of a loop's socket pair.
type pairEnd struct {
	ours int
}

// enrollPairs gives every loop its socket pair. gnet hands descriptors to its loops in turn, and by that also tells
// which loops there are.
func (s *Server) enrollPairs() error {
	for range s.node.Shards() {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socketpair", err)
		}
		f := os.NewFile(uintptr(fds[1]), "loop")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			_ = unix.Close(fds[0])
			return err
		}
		ctx := gnet.NewContext(gnet.NewNetConnContext(context.Background(), c), &pairEnd{ours: fds[0]})
		done, err := s.engine.Register(ctx)
		if err == nil {
			select {
			case r := <-done:
				err = r.Err
			case <-time.After(5 * time.Second):
				err = context.DeadlineExceeded
			}
		}
		if err != nil {
			_ = c.Close()
			_ = unix.Close(fds[0])
			return err
		}
	}
	return nil
}
