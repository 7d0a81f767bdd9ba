package bench

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gannet/codec"
)

// RefusedError says that the server sent every connection away with BYE, or refused what its login asked for.
type RefusedError struct {
	Addr   string
	Code   codec.Code
	Reason string // the server's words; may be empty
	Count  int64  // connections that met this code
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("%s let nobody in: %d connections were refused with %s", e.Addr, e.Count, codeName(e.Code))
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// ConnectError says that no connection came to be.
type ConnectError struct {
	Addr  string
	Errno unix.Errno // unwrapped; ETIMEDOUT also stands for a server that never said WELCOME, 0 for one that just closed
	Count int64      // connections that met it
	Why   string     // what came instead of WELCOME, if something did
}

func (e *ConnectError) Error() string {
	switch {
	case e.Why != "":
		return fmt.Sprintf("%s does not speak the gannet protocol: %s", e.Addr, e.Why)
	case e.Errno == closedEOF:
		return fmt.Sprintf("%s closed all of %d connections before WELCOME", e.Addr, e.Count)
	case e.Errno == unix.ETIMEDOUT:
		return fmt.Sprintf("%s did not let any of %d connections in before the login timeout", e.Addr, e.Count)
	}
	return fmt.Sprintf("connecting to %s: %v (all of %d)", e.Addr, e.Errno, e.Count)
}

func (e *ConnectError) Unwrap() error {
	if e.Errno == closedEOF {
		return nil
	}
	return e.Errno
}

// loginError explains a ramp in which nobody got in, by what happened most.
func loginError(addr string, t *counters) error {
	if code, n := most(t.byes); n > 0 {
		return &RefusedError{Addr: addr, Code: code, Reason: t.reasons[code], Count: n}
	}
	if code, n := most(t.refused); n > 0 {
		return &RefusedError{Addr: addr, Code: code, Reason: t.reasons[code], Count: n}
	}
	if errno, n := most(t.connectErrs); n > 0 {
		return &ConnectError{Addr: addr, Errno: errno, Count: n}
	}
	if t.malformed > 0 {
		return &ConnectError{Addr: addr, Count: t.malformed, Why: t.malformedWhy}
	}
	if errno, n := most(t.closes); n > 0 {
		return &ConnectError{Addr: addr, Errno: errno, Count: n}
	}
	return errors.New("no connection logged in")
}

func most[K comparable](t tally[K]) (key K, n int64) {
	for k, v := range t {
		if v > n {
			key, n = k, v
		}
	}
	return key, n
}

func codeName(c codec.Code) string { return fmt.Sprintf("%d %s", uint16(c), c) }

// errnoName is the C name of an errno, as people search for it.
func errnoName(e unix.Errno) string {
	if e == closedEOF {
		return "EOF"
	}
	if s := unix.ErrnoName(e); s != "" {
		return s
	}
	return fmt.Sprintf("errno %d", int(e))
}
