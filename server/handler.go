package server

import (
	"errors"
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/shard"
)

// handler is gnet's view of the server. Its callbacks run on the loops, except OnBoot, OnShutdown and OnTick.
type handler struct {
	gnet.BuiltinEventEngine
	s *Server
}

// OnBoot fires before the loops exist.
func (h *handler) OnBoot(e gnet.Engine) gnet.Action {
	h.s.engine = e
	return gnet.None
}

// OnTick runs on a goroutine of its own, for the first time when all loops exist.
func (h *handler) OnTick() (time.Duration, gnet.Action) {
	s := h.s
	if !s.booted.Swap(true) {
		s.bootResult <- s.enrollPairs()
	}
	now := s.clock.Now()
	for _, lp := range *s.loops.Load() {
		lp.postTick(now)
	}
	return tickEvery, gnet.None
}

const tickEvery = 100 * time.Millisecond

// OnOpen takes a new connection, or refuses it when there are too many. With SO_REUSEPORT it runs on the loop that
// accepted, so the cap is exact but for one connection a loop.
func (h *handler) OnOpen(c gnet.Conn) (out []byte, action gnet.Action) {
	s := h.s
	if p, ok := c.Context().(*pairEnd); ok {
		atomic.StoreInt32(&s.loopOf(c.EventLoop()).pair, int32(p.ours))
		return nil, gnet.None
	}
	defer h.guard(c, &action)
	open := s.open.Add(1)
	lp := s.loopOf(c.EventLoop())
	switch {
	case s.node.Draining():
		s.counters.refusedDraining.Add(1)
		return nil, lp.refuse(c, s.byeDraining)
	case open > int64(s.opts.Limits.Connections):
		s.counters.refusedFull.Add(1)
		s.log.refused(codec.CodeOverloaded, "too many connections", c.RemoteAddr())
		return nil, lp.refuse(c, s.byeOverloaded)
	}
	c.SetContext(lp.sh.Open(c))
	return nil, gnet.None
}

// OnTraffic hands readable bytes to the shard.
func (h *handler) OnTraffic(c gnet.Conn) (action gnet.Action) {
	defer h.guard(c, &action)
	switch ctx := c.Context().(type) {
	case *shard.Session:
		h.s.loopOf(c.EventLoop()).sh.Traffic(ctx)
	case *pairEnd:
		_, _ = c.Discard(-1)
		h.s.loopOf(c.EventLoop()).sh.Slice()
	case *refusal:
		_, _ = c.Discard(-1)
	}
	return gnet.None
}

// OnClose tells the shard, unless it closed the connection itself. A peer that only closed its writing side gets
// what this pass of the loop has for it: the answers to what it sent last.
func (h *handler) OnClose(c gnet.Conn, err error) (action gnet.Action) {
	defer h.guard(c, &action)
	switch ctx := c.Context().(type) {
	case *pairEnd:
		lp := h.s.loopOf(c.EventLoop())
		atomic.StoreInt32(&lp.pair, -1)
		_ = unix.Close(ctx.ours)
		return gnet.None
	case *refusal:
		ctx.closed = true
		h.s.refusals.Add(-1)
		return gnet.None
	case *shard.Session:
		sh := h.s.loopOf(c.EventLoop()).sh
		half := false
		defer func() { // also when something panics
			if !half {
				defer h.s.open.Add(-1)
				sh.Closed(ctx, c)
			}
		}()
		if errors.Is(err, io.EOF) {
			if ctx.Live() {
				sh.Drain()
			}
			half = h.takeHalf(c, ctx)
		}
	default:
		h.s.open.Add(-1)
	}
	return gnet.None
}

// guard ends the connection whose callback panicked, instead of the process.
func (h *handler) guard(c gnet.Conn, action *gnet.Action) {
	if p := recover(); p != nil {
		h.s.panicked(p, debug.Stack())
		*action = gnet.Close
	}
}

// loopOf finds our side of one of gnet's loops; the first connection of a loop, usually the socket pair's, makes
// it. There are as many loops as shards.
func (s *Server) loopOf(el gnet.EventLoop) *loop {
	for _, lp := range *s.loops.Load() {
		if lp.el == el {
			return lp
		}
	}
	s.loopsMu.Lock()
	defer s.loopsMu.Unlock()
	old := *s.loops.Load()
	lp := newLoop(s, el, s.node.Shard(len(old)))
	loops := append(old[:len(old):len(old)], lp)
	s.loops.Store(&loops)
	lp.sh.Attach(lp)
	return lp
}
