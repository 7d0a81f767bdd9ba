package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/panjf2000/ants/v2"

	"gannet/codec"
	"gannet/server/auth"
	"gannet/shard"
)

// judge has credentials checked off the loops: a bounded queue and a pool of few workers. Few, because a
// thousand runnable goroutines would be in the way of the loops.
type judge struct {
	s      *Server
	auth   auth.Authenticator
	queue  chan shard.AuthRequest
	pool   *ants.Pool
	active atomic.Int64 // workers that look at the queue, at most Options.AuthWorkers
	ctx    context.Context
	cancel context.CancelFunc

	judged, refused, failed, full atomic.Uint64
}

func newJudge(s *Server, a auth.Authenticator) *judge {
	j := &judge{s: s, auth: a, queue: make(chan shard.AuthRequest, s.opts.AuthQueue)}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

func (j *judge) start() (err error) {
	// active bounds the workers, not the pool: one that is just ending still counts there, and a credential that is
	// refused a worker for that would wait for the next login.
	j.pool, err = ants.NewPool(-1, ants.WithNonblocking(true),
		ants.WithPanicHandler(func(p any) { j.s.panicked(p, debug.Stack()) }))
	if err != nil {
		return fmt.Errorf("auth: making the pool: %w", err)
	}
	return nil
}

// Authenticate is shard.Host's: it queues a credential, or says that too many wait.
func (s *Server) Authenticate(r shard.AuthRequest) bool {
	j := s.judge
	if len(r.Token) > auth.MaxToken { // AUTH frames may be longer than HELLO: not kept while it waits
		j.refused.Add(1)
		s.node.Answer(r.Ref, shard.AuthAnswer{Code: codec.CodeUnauthorized, Reason: "the token is too long"})
		return true
	}
	select {
	case j.queue <- r:
	default:
		j.full.Add(1)
		return false
	}
	if j.enter() && j.pool.Submit(j.work) != nil {
		j.active.Add(-1) // only while the server stops
	}
	return true
}

// enter takes the place of one more worker. When all are taken, one of those who have them comes to what waits.
func (j *judge) enter() bool {
	for {
		n := j.active.Load()
		if n >= int64(j.s.opts.AuthWorkers) {
			return false
		}
		if j.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// work judges until nothing waits. A request that comes between the last look at the queue and the end of the
// worker is seen by the second look.
func (j *judge) work() {
	for {
		j.empty()
		j.active.Add(-1)
		if len(j.queue) == 0 || !j.enter() {
			return
		}
	}
}

func (j *judge) empty() {
	for {
		select {
		case r := <-j.queue:
			j.one(r)
		default:
			return
		}
	}
}

// one judges a credential; whatever happens, the shard gets an answer.
func (j *judge) one(r shard.AuthRequest) {
	answer := shard.AuthAnswer{Code: codec.CodeInternal, Reason: "the credential could not be judged"}
	defer func() {
		if p := recover(); p != nil {
			j.failed.Add(1)
			j.s.panicked(p, debug.Stack())
		}
		j.s.node.Answer(r.Ref, answer)
	}()
	ctx, cancel := context.WithTimeout(j.ctx, j.s.opts.AuthTimeout)
	defer cancel()
	id, err := j.auth.Authenticate(ctx, auth.Request{
		User: r.User, Device: r.Device, Token: r.Token, Class: r.Class, Remote: addrString(r.Remote),
	})
	var refusal *auth.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code.EndsConnection():
		j.refused.Add(1)
		answer.Code, answer.Reason = refusal.Code, refusal.Reason
	case err != nil:
		j.failed.Add(1)
		j.s.log.refused(codec.CodeOverloaded, "authenticator: "+err.Error(), r.Remote)
		answer.Code = codec.CodeOverloaded
	case r.User != "" && id.User != r.User:
		j.refused.Add(1)
		answer.Code, answer.Reason = codec.CodeUnauthorized, "the credential is another user's"
	case !codec.ValidID([]byte(id.User)), id.Rights == nil:
		j.failed.Add(1)
		j.s.log.refused(codec.CodeInternal, "authenticator returned an invalid user id or no rights", r.Remote)
	default:
		j.judged.Add(1)
		answer = shard.AuthAnswer{User: id.User, Rights: id.Rights, Expires: id.Expires}
	}
}

func (j *judge) stop() {
	j.cancel()
	if j.pool != nil {
		j.pool.Release()
	}
}
