// Package auth decides who a connection belongs to and what it may do.
//
// The server calls an Authenticator once when a connection logs in and again when a client brings a fresh
// credential; it does so from a bounded pool of workers, never on an event loop, because checking an RSA
// signature costs tens of microseconds. What comes back is an Identity: the user, the Rights and the time
// until which they hold. Rights are read on the loops for every SEND and SUB, so their checks do not allocate.
//
//	HELLO, AUTH ──Request──▶ Authenticator ──Identity──▶ session
//	                           │
//	                           ├─ Open: whom they say they are, everything allowed
//	                           └─ JWT: a signed token, checked with keys from files
//
// Everything here may be used by many goroutines at once. An Identity and its Rights are never changed
// after they were handed out, so they can be shared. The keys of a JWT are replaced as a whole by Reload;
// a check that is under way keeps the set it began with. The package starts no goroutine and reads no file
// except in NewJWT, Reload and ReadSecret.
package auth
