package durable

import (
	"sync"

	"gannet/shard"
)

// pending is what waits for the committer, in the order in which it came. Any goroutine adds, the committer takes.
type pending struct {
	// Static after construction.
	maxEntries, maxBytes int
	wake                 chan struct{} // holds a token when the committer should look

	mu      sync.Mutex // guards all below
	entries []shard.Entry
	count   int  // of entries, and of those that were taken and are not answered
	bytes   int  // of the same
	asleep  bool // the committer waits for wake
	closed  bool
}

func (p *pending) init(maxEntries, maxBytes int) {
	p.maxEntries, p.maxBytes = maxEntries, maxBytes
	p.wake = make(chan struct{}, 1)
	p.asleep = true // the committer begins with waiting
}

// add takes entries up to the first that does not fit. One that is larger than all the room fits when nothing else waits.
func (p *pending) add(entries []shard.Entry) (taken int) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0
	}
	for taken < len(entries) {
		n := len(entries[taken].Buf)
		if p.count == p.maxEntries || p.bytes+n > p.maxBytes && p.count > 0 {
			break
		}
		p.count++
		p.bytes += n
		taken++
	}
	p.entries = append(p.entries, entries[:taken]...)
	wake := p.asleep && taken > 0
	if wake {
		p.asleep = false
	}
	p.mu.Unlock()
	if wake {
		p.poke()
	}
	return taken
}

// poke has the committer look.
func (p *pending) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take exchanges what waits for an empty slice. When nothing does, the next add pokes.
func (p *pending) take(empty []shard.Entry) []shard.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asleep = len(p.entries) == 0; p.asleep {
		return empty
	}
	all := p.entries
	p.entries = empty
	return all
}

// answered makes room: n entries of so many bytes are done with.
func (p *pending) answered(n, bytes int) {
	p.mu.Lock()
	p.count -= n
	p.bytes -= bytes
	p.mu.Unlock()
}

// depth is how many entries are not answered, and their bytes.
func (p *pending) depth() (entries, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.bytes
}

// close refuses what comes from now on.
func (p *pending) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.poke()
}
