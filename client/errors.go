package client

import (
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

// Errors of methods; test with errors.Is.
var (
	// ErrClosed: Run has returned or Close was called; make a new Client.
	ErrClosed = errors.New("the client is closed")
	// ErrNotConnected: there is no welcomed connection right now; Run is working on the next one.
	ErrNotConnected = errors.New("not connected to a server")
	// ErrLost is an ErrNotConnected whose request was under way: it may or may not have been carried out.
	ErrLost = fmt.Errorf("%w: the connection ended before the answer came", ErrNotConnected)
	// ErrBusy: the outgoing queue or the outbox is full, the message of SendAsync or Post was not taken.
	ErrBusy = errors.New("too much is waiting to be sent")
)

// CodeError is a request that failed: by the server's answer, or because the client saw that
// the server would refuse it (names, tags, size).
type CodeError struct {
	Op   string // what was asked for: "send", "subscribe", …
	Code codec.Code
	Text string // for people; may be empty
}

func (e *CodeError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Code)
	}
	return fmt.Sprintf("%s: %v: %s", e.Op, e.Code, e.Text)
}

// Temporary says that the same request may succeed later (codes 1–99).
func (e *CodeError) Temporary() bool { return e.Code.Temporary() }

// SubscriptionError is a subscription that was in force, or asked for without a connection, and that the server
// refused later; the client has forgotten it. It goes to OnError and wraps a *CodeError.
type SubscriptionError struct {
	Topic string
	Err   error
}

func (e *SubscriptionError) Error() string {
	return fmt.Sprintf("subscription to %q is gone: %v", e.Topic, e.Err)
}

func (e *SubscriptionError) Unwrap() error { return e.Err }

// ByeError is a connection that the server ended with BYE. Run returns it when the client is not to come back.
type ByeError struct {
	Code   codec.Code
	Retry  bool          // the server wants to see the client again,
	Min    time.Duration // not before,
	Max    time.Duration // not after
	Reason string        // for people; may be empty
}

func (e *ByeError) Error() string {
	s := fmt.Sprintf("the server ended the connection: %v", e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if hint := byeHints[e.Code]; hint != "" {
		s += " (" + hint + ")"
	}
	return s
}

// Final says that the client must not come back without a change: a code of 300–399, or the server's wish.
func (e *ByeError) Final() bool { return !e.Retry || e.Code >= 300 && e.Code <= 399 }

// byeHints tells what to do about the codes that end Run.
var byeHints = map[codec.Code]string{
	codec.CodeUnauthorized: "check the token and that it belongs to this user",
	codec.CodeExpired:      "get a new token",
	codec.CodeReplaced:     "the same user and device logged in elsewhere; give each its own device name",
	codec.CodeKicked:       "an operator ended this session",
	codec.CodeMalformed:    "client and server do not understand each other; compare their versions",
	codec.CodeVersion:      "the server speaks another protocol version; update the client",
}

func byeError(b codec.Bye) *ByeError {
	return &ByeError{
		Code:   b.Code,
		Retry:  b.Retry == 1,
		Min:    time.Duration(b.MinMs) * time.Millisecond,
		Max:    time.Duration(b.MaxMs) * time.Millisecond,
		Reason: string(b.Reason),
	}
}
