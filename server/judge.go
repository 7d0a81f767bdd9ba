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
	active atomic.Int64 // workers that look at the queue
	ctx    context.Context
	cancel context.CancelFunc

	judged, refused, failed, full atomic.Uint64
}

func newJudge(s *Server, a auth.Authenticator) (*judge, error) {
	j := &judge{s: s, auth: a, queue: make(chan shard.AuthRequest, s.opts.AuthQueue)}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	var err error
	j.pool, err = ants.NewPool(s.opts.AuthWorkers, ants.WithNonblocking(true),
		ants.WithPanicHandler(func(p any) { s.panicked(p, debug.Stack()) }))
	if err != nil {
		return nil, fmt.Errorf("auth: making the pool: %w", err)
	}
	return j, nil
}

// Authenticate is shard.Host's: it queues a credential, or says that too many wait.
func (s *Server) Authenticate(r shard.AuthRequest) bool {
	j := s.judge
	select {
	case j.queue <- r:
	default:
		j.full.Add(1)
		return false
	}
	if j.active.Load() < int64(s.opts.AuthWorkers) {
		_ = j.pool.Submit(j.work) // when all workers are busy, one of them will come to it
	}
	return true
}

// work judges until nothing waits. A request that comes between the last look at the queue and the end of the
// worker is seen by the second look.
func (j *judge) work() {
	j.active.Add(1)
	for {
		j.empty()
		j.active.Add(-1)
		if len(j.queue) == 0 {
			return
		}
		j.active.Add(1)
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
	defer func() { j.s.node.Answer(r.Ref, answer) }()
	ctx, cancel := context.WithTimeout(j.ctx, j.s.opts.AuthTimeout)
	defer cancel()
	id, err := j.auth.Authenticate(ctx, auth.Request{
		User: r.User, Device: r.Device, Token: r.Token, Class: r.Class, Remote: addrString(r.Remote),
	})
	var refusal *auth.Error
	switch {
	case errors.As(err, &refusal):
		j.refused.Add(1)
		answer.Code, answer.Reason = refusal.Code, refusal.Reason
	case err != nil:
		j.failed.Add(1)
		j.s.log.refused(codec.CodeOverloaded, "authenticator: "+err.Error(), r.Remote)
		answer.Code = codec.CodeOverloaded
	case r.User != "" && id.User != r.User:
		j.refused.Add(1)
		answer.Code, answer.Reason = codec.CodeUnauthorized, "the credential is another user's"
	case !codec.ValidID([]byte(id.User)):
		j.failed.Add(1)
		j.s.log.refused(codec.CodeInternal, "authenticator returned an invalid user id", r.Remote)
	default:
		j.judged.Add(1)
		answer = shard.AuthAnswer{User: id.User, Rights: id.Rights, Expires: id.Expires}
	}
}

func (j *judge) stop() {
	j.cancel()
	j.pool.Release()
}
