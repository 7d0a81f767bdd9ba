// Package codec is the wire format of GWP/1 over byte slices: it reads and writes frames and does
// nothing else. No I/O, no clocks, no state; standard library only.
//
//	bytes ──ConsumeFrame──▶ Frame ──ConsumeSend, ConsumeSub, …──▶ Send, Sub, …
//	bytes ◀───────────────AppendSend, AppendSub, …──────────────  Send, Sub, …
//
// Every frame type has one struct, one Append and one Consume function. Consume functions do not copy:
// the slices in their results point into the bytes they were given and live as long as those do.
// Append functions extend dst and return it, as append does; they allocate only when dst must grow.
//
// Incomplete and malformed are different results. ConsumeFrame returns n == 0 and a nil error while more
// bytes are needed, and an error only for bytes that no later byte can repair.
//
// Fields shows any frame as text, for tools and for tests of other implementations; it is not for hot paths.
//
// Syntax lives here; what a peer is allowed to send in which state is decided by the packages that hold the
// state. The format is described in docs/PROTOCOL.md; docs/vectors.json holds its golden vectors.
package codec
