package bench

import (
	"maps"
	"syscall"

	"gannet/codec"
)

// closedEOF stands in a tally of errnos for a connection that the server closed in an orderly way, without BYE.
const closedEOF = syscall.Errno(0)

// tally counts rare things by what they are.
type tally[K comparable] map[K]int64

func (t *tally[K]) add(k K) {
	if *t == nil {
		*t = make(tally[K])
	}
	(*t)[k]++
}

func (t *tally[K]) merge(from tally[K]) {
	if *t == nil && len(from) > 0 {
		*t = make(tally[K])
	}
	for k, n := range from {
		(*t)[k] += n
	}
}

func (t tally[K]) sum() (n int64) {
	for _, v := range t {
		n += v
	}
	return n
}

// counters is what one loop has counted since its start. Messages of the warm-up are in none of them.
type counters struct {
	up      int64 // logged in now
	logins  int64 // ever logged in, subscription included
	failed  int64 // ended before that
	dropped int64 // ended after it, and not by us

	sent       int64
	acked      int64 // SENDACK OK
	received   int64 // for the first time
	duplicated int64
	reordered  int64 // received, behind a higher number
	foreign    int64 // MSGs that are not this run's
	expected   int64 // receptions that the sends not refused should have caused

	unsentClosed int64 // due, but the sender's connection was gone
	unsentFull   int64 // due, but the sender's socket was full and so was its buffer
	unsentBehind int64 // due, but the generator did not get to it before the end
	late         int64 // sent more than lateAfter behind schedule
	control      int64 // PINGs and PONGs not sent because socket and buffer were full

	malformed int64 // connections ended because what came was not the protocol

	lastLogin, lastSend, lastReceived int64 // times, ns; 0: never
	busy                              int64 // ns not spent waiting

	connectErrs tally[syscall.Errno] // connects that failed; ETIMEDOUT: no WELCOME in time
	closes      tally[syscall.Errno] // connections that ended without BYE
	byes        tally[codec.Code]
	refused     tally[codec.Code] // requests answered with a code other than OK

	reasons      map[codec.Code]string // the first reason that came with each code
	malformedWhy string                // the first
}

// clone is a copy that shares nothing with c.
func (c *counters) clone() counters {
	d := *c
	d.connectErrs = maps.Clone(c.connectErrs)
	d.closes = maps.Clone(c.closes)
	d.byes = maps.Clone(c.byes)
	d.refused = maps.Clone(c.refused)
	d.reasons = maps.Clone(c.reasons)
	return d
}

// add sums up loops; times become the latest.
func (c *counters) add(d *counters) {
	c.up += d.up
	c.logins += d.logins
	c.failed += d.failed
	c.dropped += d.dropped
	c.sent += d.sent
	c.acked += d.acked
	c.received += d.received
	c.duplicated += d.duplicated
	c.reordered += d.reordered
	c.foreign += d.foreign
	c.expected += d.expected
	c.unsentClosed += d.unsentClosed
	c.unsentFull += d.unsentFull
	c.unsentBehind += d.unsentBehind
	c.late += d.late
	c.control += d.control
	c.malformed += d.malformed
	c.lastLogin = max(c.lastLogin, d.lastLogin)
	c.lastSend = max(c.lastSend, d.lastSend)
	c.lastReceived = max(c.lastReceived, d.lastReceived)
	c.busy += d.busy
	c.connectErrs.merge(d.connectErrs)
	c.closes.merge(d.closes)
	c.byes.merge(d.byes)
	c.refused.merge(d.refused)
	for code, why := range d.reasons {
		c.explain(code, why)
	}
	if c.malformedWhy == "" {
		c.malformedWhy = d.malformedWhy
	}
}

// explain keeps the first reason for a code.
func (c *counters) explain(code codec.Code, why string) {
	if why == "" {
		return
	}
	if c.reasons == nil {
		c.reasons = make(map[codec.Code]string)
	}
	if _, ok := c.reasons[code]; !ok {
		c.reasons[code] = why
	}
}

// settled is how many connections are past their login, well or badly.
func (c *counters) settled() int64 { return c.logins + c.failed }

// errors is the sum of everything that should not have happened.
func (c *counters) errors() int64 {
	return c.failed + c.dropped + c.refused.sum() + c.control + c.unsentClosed + c.unsentFull + c.unsentBehind
}
