package durable

import (
	"sync/atomic"
	"time"

	"gannet/codec"
)

// CommitBuckets are the upper bounds of Stats.CommitTimes but the last, which has none.
var CommitBuckets = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond,
	16 * time.Millisecond, 32 * time.Millisecond, 64 * time.Millisecond, 128 * time.Millisecond, 256 * time.Millisecond, time.Second,
}

// Stats are what a Log has done since it was made, and how it is now.
type Stats struct {
	Commits     uint64 // that stored something
	Messages    uint64 // stored
	Bytes       uint64 // of their frames
	Ephemeral   uint64 // messages to groups that were passed on
	Duplicates  uint64 // messages that had been stored before
	Unavailable uint64 // messages refused because of the store
	Forbidden   uint64 // messages refused because the sender may not post, or there is no such group
	Invalid     uint64 // messages the store took for none
	Busy        uint64 // messages that found no room
	CommitTimes [len(CommitBuckets) + 1]uint64
	CommitTime  time.Duration // sum over all commits

	Marks           uint64 // positions that moved
	MarksIgnored    uint64 // positions beyond the head, of channels that the user has no part in, or of unknown devices
	MarksRefused    uint64 // marks that found no room
	MarksFlushed    uint64 // records written
	Receipts        uint64 // RECEIPT frames handed over
	ReceiptsDropped uint64 // that found no room
	DevicesForgot   uint64 // records of devices not seen for Options.DeviceTTL
	RefusalsDropped uint64 // sessions forgotten of which a message was refused

	Failures  uint64 // of the store
	Reopens   uint64 // that worked
	Recovered uint64 // messages of failed commits that were found stored, and delivered then

	Pending      int // messages that wait
	PendingBytes int
	MarksPending int // devices and conversations with positions not written
	RecentBytes  int // memory for recent messages
	Failed       bool
}

// counters are what Stats is made of.
type counters struct {
	commits, messages, bytes, ephemeral, duplicates, unavailable, forbidden, invalid, busy atomic.Uint64

	times    [len(CommitBuckets) + 1]atomic.Uint64
	duration atomic.Int64

	marks, marksIgnored, marksRefused, marksFlushed, receipts, receiptsDropped, devicesForgot, refusalsDropped atomic.Uint64

	failures, reopens, recovered atomic.Uint64
}

func (c *counters) commit(took time.Duration) {
	i := 0
	for i < len(CommitBuckets) && took > CommitBuckets[i] {
		i++
	}
	c.times[i].Add(1)
	c.duration.Add(int64(took))
	c.commits.Add(1)
}

func (c *counters) refused(code codec.Code) {
	switch code {
	case codec.CodeDuplicate:
		c.duplicates.Add(1)
	case codec.CodeUnavailable:
		c.unavailable.Add(1)
	case codec.CodeForbidden, codec.CodeNotFound:
		c.forbidden.Add(1)
	case codec.CodeInvalid:
		c.invalid.Add(1)
	}
}

// Stats returns the counters of now. Any goroutine may call it.
func (l *Log) Stats() Stats {
	c := &l.stats
	s := Stats{
		Commits: c.commits.Load(), Messages: c.messages.Load(), Bytes: c.bytes.Load(), Ephemeral: c.ephemeral.Load(),
		Duplicates: c.duplicates.Load(), Unavailable: c.unavailable.Load(), Forbidden: c.forbidden.Load(),
		Invalid: c.invalid.Load(), Busy: c.busy.Load(), CommitTime: time.Duration(c.duration.Load()),
		Marks: c.marks.Load(), MarksIgnored: c.marksIgnored.Load(), MarksRefused: c.marksRefused.Load(),
		MarksFlushed: c.marksFlushed.Load(), Receipts: c.receipts.Load(), ReceiptsDropped: c.receiptsDropped.Load(),
		DevicesForgot: c.devicesForgot.Load(), RefusalsDropped: c.refusalsDropped.Load(),
		Failures: c.failures.Load(), Reopens: c.reopens.Load(), Recovered: c.recovered.Load(),
		MarksPending: l.marks.depth(), RecentBytes: l.recents.bytes(), Failed: l.Status() != nil,
	}
	for i := range c.times {
		s.CommitTimes[i] = c.times[i].Load()
	}
	s.Pending, s.PendingBytes = l.pending.depth()
	return s
}
