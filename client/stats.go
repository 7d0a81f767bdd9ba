package client

import "sync/atomic"

// Stats are what a client has counted since New.
type Stats struct {
	Duplicates uint64 // messages that came again and were dropped
	Holes      uint64 // messages that came before one that was missing
	Pulls      uint64 // PULLs made to fill holes
	Gaps       uint64 // GAPs that the server sent
	Retries    uint64 // refusals for now of durable messages
	Waiting    int    // messages in the outbox
	Bytes      int    // of these
}

type counters struct{ duplicates, holes, pulls, gaps, retries atomic.Uint64 }

// Stats returns the counters.
func (c *Client) Stats() Stats {
	c.queue.mu.Lock()
	n, held := c.queue.n, c.queue.held
	c.queue.mu.Unlock()
	return Stats{
		Duplicates: c.counts.duplicates.Load(), Holes: c.counts.holes.Load(), Pulls: c.counts.pulls.Load(),
		Gaps: c.counts.gaps.Load(), Retries: c.counts.retries.Load(), Waiting: n, Bytes: held,
	}
}
