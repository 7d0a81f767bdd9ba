package auth

import (
	"context"
	"fmt"
	"time"

	"gannet/codec"
)

// Request is what a peer says about itself. The strings are copies and may be kept; Token belongs to the
// caller and is not kept.
type Request struct {
	User   string // as claimed in HELLO; may be empty when the token names the user
	Device string // as claimed in HELLO
	Token  []byte // credential from HELLO or AUTH, empty when none was given
	Class  uint8  // device class, codec.Class…
	Remote string // peer address, for logs and rules
}

// Identity is the answer to a Request: who the peer is from now on. It is not changed after it was returned.
type Identity struct {
	User    string    // a valid identifier
	Rights  *Rights   // never nil
	Expires time.Time // from then on the credential would be refused; zero: never
}

// Authenticator checks credentials. A refusal is an *Error; any other error means that the check itself
// could not be made (a context that ended, a service that did not answer) and that the same credential may
// be good later. Implementations are safe for concurrent use and end with their context.
type Authenticator interface {
	Authenticate(ctx context.Context, r Request) (Identity, error)
}

// Error is a refusal. Code ends the connection (300–399); Reason is one short line that may be sent to the
// peer: it never repeats the credential and says nothing about keys.
type Error struct {
	Code   codec.Code
	Reason string

	cause error // for the server's own log; nil when Reason says it all
}

func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("auth: %s: %s (%v)", e.Code, e.Reason, e.cause)
	}
	return fmt.Sprintf("auth: %s: %s", e.Code, e.Reason)
}

// Unwrap returns what the refusal was found by, which may hold details that are not for the peer.
func (e *Error) Unwrap() error { return e.cause }

func refuse(reason string, cause error) *Error {
	return &Error{Code: codec.CodeUnauthorized, Reason: reason, cause: cause}
}

// Open accepts everyone as whom they say, with all rights, for ever. It is for development and for servers
// whose port only trusted peers can reach. Tokens are ignored.
type Open struct{}

// Authenticate returns r.User with Everything. It refuses only a user that is no identifier.
func (Open) Authenticate(ctx context.Context, r Request) (Identity, error) {
	if err := ctx.Err(); err != nil {
		return Identity{}, fmt.Errorf("auth: %w", err)
	}
	if !codec.ValidID([]byte(r.User)) {
		return Identity{}, &Error{Code: codec.CodeMalformed, Reason: "the user is not a valid identifier"}
	}
	return Identity{User: r.User, Rights: Everything}, nil
}
