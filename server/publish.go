package server

import (
	"context"

	"gannet/codec"
	"gannet/shard"
)

// Stored is what became of a message that was to be stored.
type Stored struct {
	Code codec.Code // OK; BUSY, UNAVAILABLE: try again; or why not
	Seq  uint64
	Time uint64 // Unix milliseconds
}

// PublishStored has a message from outside the connections stored and then delivered like any durable one; groups take
// ephemeral messages this way too. It is not deduplicated: who repeats it after an error may have it twice. The error is ctx's, when it
// ended before the answer came.
func (s *Server) PublishStored(ctx context.Context, p shard.Publication) (Stored, error) {
	e, code := s.node.Entry(p)
	if code != codec.CodeOK {
		return Stored{Code: code}, nil
	}
	done := make(chan shard.Answer, 1)
	e.Done = func(a shard.Answer) { done <- a }
	if s.durableLog.Submit([]shard.Entry{e}) == 0 {
		return Stored{Code: codec.CodeBusy}, nil
	}
	select {
	case a := <-done:
		return Stored{Code: a.Code, Seq: a.Seq, Time: a.Time}, nil
	case <-ctx.Done():
		return Stored{}, ctx.Err()
	}
}
