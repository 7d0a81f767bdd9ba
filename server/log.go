package server

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
	"gannet/shard"
)

// limitedLog writes at most one line a second about what clients do wrong, and says how many it left out. The loops
// only queue such lines; a goroutine of Run writes them, so an output that nobody reads stops no loop.
type limitedLog struct {
	*slog.Logger
	lines     chan func()
	lost      atomic.Uint64 // lines that found the queue full
	mu        sync.Mutex
	last      time.Time
	skipped   int
	lastPanic time.Time
}

func (l *limitedLog) refused(code codec.Code, reason string, remote net.Addr) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.last) < time.Second {
		l.skipped++
		l.mu.Unlock()
		return
	}
	skipped := l.skipped
	l.last, l.skipped = now, 0
	l.mu.Unlock()
	l.queue(func() {
		l.Info("connection ended", "code", code.String(), "reason", reason, "remote", addrString(remote), "more_since_last", skipped)
	})
}

// queued is the number of lines that may wait for the output.
const queued = 16

func (l *limitedLog) queue(line func()) {
	select {
	case l.lines <- line:
	default:
		l.lost.Add(1)
	}
}

// start writes what is queued until stop; stop writes the rest, but does not wait long for an output that is stuck.
func (l *limitedLog) start() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case line := <-l.lines:
				line()
			case <-done:
				for len(l.lines) > 0 {
					(<-l.lines)()
				}
				return
			}
		}
	}()
	return func() {
		close(done)
		select {
		case <-ended:
		case <-time.After(time.Second):
		}
	}
}

// panicked writes down one panic a second; all of them are counted.
func (l *limitedLog) panicked(p any, stack []byte) {
	l.mu.Lock()
	now := time.Now()
	write := now.Sub(l.lastPanic) >= time.Second
	if write {
		l.lastPanic = now
	}
	l.mu.Unlock()
	if write {
		l.queue(func() {
			l.Error("panic; what it was about was given up, the server goes on", "panic", fmt.Sprint(p), "stack", string(stack))
		})
	}
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// Refused is shard.Host's.
func (s *Server) Refused(c shard.Conn, code codec.Code, reason string) {
	s.log.refused(code, reason, c.RemoteAddr())
}

// gnetLog passes gnet's own lines on.
type gnetLog struct{ *slog.Logger }

func (l gnetLog) Debugf(string, ...any)          {}
func (l gnetLog) Infof(string, ...any)           {}
func (l gnetLog) Warnf(format string, a ...any)  { l.Warn(fmt.Sprintf(format, a...), "from", "gnet") }
func (l gnetLog) Errorf(format string, a ...any) { l.Error(fmt.Sprintf(format, a...), "from", "gnet") }
func (l gnetLog) Fatalf(format string, a ...any) { l.Error(fmt.Sprintf(format, a...), "from", "gnet") }
