package durable

import (
	"fmt"

	"gannet/store"
)

// leap is how far the wall clock may be ahead of the time that really passed, in milliseconds, and how long it must stay so until it
// is believed.
const leap = 60 * 60 * 1000

// believedClock is the time by which messages are removed. It is the wall clock, but a wall clock that leaps ahead by more than an hour is
// believed only when it has stood there for an hour: until then time goes on as it really passes. A smaller leap is believed at once, so
// nothing is removed more than an hour too early, and a clock set back only lets things stay longer.
type believedClock struct {
	at    uint64 // Unix milliseconds; 0: it never ran
	mono  int64  // nanoseconds of a clock that nobody sets, at the last look
	ahead bool   // the wall clock is not believed, since
	since int64
}

// look is the time now. wall is in Unix milliseconds, mono in nanoseconds.
func (b *believedClock) look(wall uint64, mono int64) uint64 {
	if b.at == 0 {
		b.at = wall
	}
	passed := b.at + uint64(max(0, mono-b.mono)/1e6)
	switch {
	case wall <= passed+leap, b.ahead && mono-b.since >= leap*1e6:
		b.at, b.ahead = wall, false
	case !b.ahead:
		b.at, b.ahead, b.since = passed, true, mono
	default:
		b.at = passed
	}
	b.mono = mono
	return b.at
}

// The time is written down, so that a wall clock which leapt while nothing ran is not believed at once either.
const (
	ownerRetention = "retention"
	clockKey       = "clock"
	saveEvery      = 60_000 // milliseconds
)

func (r *retention) loadClock() error {
	r.clock.mono = r.l.clock()
	v, err := r.l.current().Get(ownerRetention, clockKey)
	if err != nil || v == nil {
		return err
	}
	rec, err := openValue(v)
	if err != nil {
		return fmt.Errorf("durable: reading the time of the retention: %w", err)
	}
	at := rec.uint()
	if err := rec.err(); err != nil {
		return fmt.Errorf("durable: reading the time of the retention: %w", err)
	}
	r.clock.at, r.saved = at, at
	return nil
}

// saveClock writes the time down, not often.
func (r *retention) saveClock() {
	if r.now >= r.saved && r.now-r.saved < saveEvery {
		return
	}
	v := appendUint(appendUint(nil, recordVersion), r.now)
	if err := r.l.put([]store.Record{{Owner: ownerRetention, Key: clockKey, Value: v}}, false); err == nil {
		r.saved = r.now
	}
}
