package codec

import "strconv"

// Code is the outcome of a request or the reason of a BYE. The ranges are a contract with clients:
//
//	0        success
//	1–99     the request failed and the same request may succeed later
//	100–199  the request failed and will fail again
//	200–299  the connection ends; reconnect after a time drawn uniformly from BYE's window
//	300–399  the connection ends; do not reconnect without a change
type Code uint16

// Codes.
const (
	CodeOK Code = 0

	CodeBusy        Code = 1
	CodeRateLimited Code = 2
	CodeUnavailable Code = 3 // store or cluster

	CodeForbidden Code = 100
	CodeNotFound  Code = 101
	CodeTooLarge  Code = 102
	CodeInvalid   Code = 103
	CodeDuplicate Code = 104 // already stored; seq is the first one's, 0 if no longer known

	CodeDraining   Code = 200
	CodeSlow       Code = 201 // the reader was too slow
	CodeIdle       Code = 202 // no heartbeat
	CodeOverloaded Code = 203
	CodeInternal   Code = 204
	CodeReset      Code = 205 // the log is another one: reconnect, resume says which

	CodeUnauthorized Code = 300
	CodeExpired      Code = 301
	CodeReplaced     Code = 302 // the same device logged in again
	CodeKicked       Code = 303
	CodeMalformed    Code = 304
	CodeVersion      Code = 305
	CodeTimeout      Code = 306 // no HELLO, or a frame left unfinished
)

var codeNames = map[Code]string{
	CodeOK: "OK", CodeBusy: "BUSY", CodeRateLimited: "RATE_LIMITED", CodeUnavailable: "UNAVAILABLE",
	CodeForbidden: "FORBIDDEN", CodeNotFound: "NOT_FOUND", CodeTooLarge: "TOO_LARGE",
	CodeInvalid: "INVALID", CodeDuplicate: "DUPLICATE", CodeDraining: "DRAINING", CodeSlow: "SLOW",
	CodeIdle: "IDLE", CodeOverloaded: "OVERLOADED", CodeInternal: "INTERNAL", CodeReset: "RESET",
	CodeUnauthorized: "UNAUTHORIZED", CodeExpired: "EXPIRED", CodeReplaced: "REPLACED",
	CodeKicked: "KICKED", CodeMalformed: "MALFORMED", CodeVersion: "VERSION", CodeTimeout: "TIMEOUT",
}

func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "CODE-" + strconv.Itoa(int(c))
}

// Temporary says that the same request may succeed later (1–99).
func (c Code) Temporary() bool { return c >= 1 && c <= 99 }

// EndsConnection says that the peer closes after this code (200–399).
func (c Code) EndsConnection() bool { return c >= 200 && c <= 399 }

// Reconnect says that a client whose connection ended with c should come back (200–299).
func (c Code) Reconnect() bool { return c >= 200 && c <= 299 }
