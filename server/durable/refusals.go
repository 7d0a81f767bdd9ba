package durable

import (
	"gannet/codec"
	"gannet/shard"
)

// A message that was refused for now must come again before any later one of its session is stored. The shard sees to that from
// when it gets the answer; what was on its way by then is kept apart here, for as long as it may take to arrive.
const (
	maxRefusals = 65536
	refusalTime = int64(60e9) // nanoseconds of the node's clock: the wall clock may be set
)

// refusals remembers the lowest nonce of each session that was refused for now. The committer owns it.
type refusals struct {
	max int
	of  map[shard.SessionRef]refusal
}

type refusal struct {
	nonce uint64
	code  codec.Code
	at    int64 // on the clock of Entry.Born
}

func (r *refusals) init(max int) {
	r.max = max
	r.of = make(map[shard.SessionRef]refusal)
}

// judge is the code with which an entry is to be refused because one before it was, or CodeOK.
func (r *refusals) judge(e *shard.Entry) codec.Code {
	if len(r.of) == 0 || e.Ref == 0 || e.Nonce == 0 {
		return codec.CodeOK
	}
	before, ok := r.of[e.Ref]
	if !ok {
		return codec.CodeOK
	}
	if e.Nonce > before.nonce && e.Born-before.at <= refusalTime {
		return before.code
	}
	delete(r.of, e.Ref)
	return codec.CodeOK
}

// note remembers that an entry is refused, if that is for now.
func (r *refusals) note(l *Log, e *shard.Entry, code codec.Code) {
	if !code.Temporary() || e.Ref == 0 || e.Nonce == 0 {
		return
	}
	now := l.clock()
	before, ok := r.of[e.Ref]
	if !ok && len(r.of) >= r.max {
		r.forget(l, now)
	}
	if !ok || e.Nonce < before.nonce {
		before = refusal{nonce: e.Nonce, code: code}
	}
	before.at = now
	r.of[e.Ref] = before
}

// forget makes room: what is old goes, and if nothing is, any.
func (r *refusals) forget(l *Log, now int64) {
	for ref, f := range r.of {
		if now-f.at > refusalTime {
			delete(r.of, ref)
		}
	}
	for ref := range r.of {
		if len(r.of) < r.max {
			return
		}
		delete(r.of, ref)
		l.stats.refusalsDropped.Add(1)
	}
}
