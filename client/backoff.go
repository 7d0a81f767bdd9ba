package client

import (
	"errors"
	"time"

	"gannet/codec"
)

const (
	// settled is how long a welcomed connection must last for the backoff to begin anew.
	settled    = 10 * time.Second
	maxBackoff = 60 * time.Second
)

// ending is how one attempt or connection ended.
type ending struct {
	err      error
	welcomed bool
	lived    time.Duration // since WELCOME
	ticket   bool          // it was made with the ticket of a MIGRATE
	renew    bool          // a fresh token can be had
}

// backoff decides whether and when to come back. It is owned by Run.
//
// With a BYE the pause is uniform inside its window; otherwise uniform over 2ⁿ seconds, at most maxBackoff
// ("full jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that clients that lost
// one server together do not return together.
type backoff struct {
	uniform func(min, max time.Duration) time.Duration
	n       int  // attempts since a connection that lasted
	renewed bool // the one more try with a fresh token was made
}

// next returns the pause before the next attempt; ok is false when there must not be one.
func (b *backoff) next(e ending) (pause time.Duration, ok bool) {
	if e.lived >= settled {
		b.n, b.renewed = 0, false
	}
	var bye *ByeError
	switch {
	case !errors.As(e.err, &bye):
		return b.grow(), true
	case bye.Final() && e.ticket && !e.welcomed:
		// The ticket was refused, not the user: back to the usual address and token.
		return b.grow(), true
	case bye.Final():
		expired := bye.Code == codec.CodeUnauthorized || bye.Code == codec.CodeExpired
		if !expired || !e.renew || b.renewed {
			return 0, false
		}
		b.renewed = true
		return b.grow(), true
	case bye.Max == 0:
		// No window: a server that keeps saying so must not be asked in a tight loop.
		return b.grow(), true
	}
	b.n++
	return b.uniform(bye.Min, max(bye.Min, bye.Max)), true
}

func (b *backoff) grow() time.Duration {
	window := maxBackoff
	if b.n < 6 {
		window = time.Second << b.n
	}
	b.n++
	return b.uniform(0, window)
}
