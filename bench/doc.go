// Package bench puts load on a gannet server and says what came of it: rates, latencies, and every message
// that was lost, doubled or out of order. `gannet bench` calls Run; tests and nightly jobs may as well.
//
//	Run ── coordinator: phases, one look a second ──▶ progress, Report
//	 │ commands, answers
//	 ├─▶ loop 0 ── epoll ── connections 0, 2, 4 …
//	 └─▶ loop 1 ── epoll ── connections 1, 3, 5 …
//
// The coordinator is the caller's goroutine. It starts the loops, asks them for copies of their counters and
// ends them; when Run returns, no goroutine, descriptor or buffer of the run is left. A loop is one goroutine that
// owns its connections, its counters, its histograms and its buffers; nobody else touches them while it runs. A
// connection costs one small struct in a slab, a place to count each stream it receives, and buffers only while a frame
// is unfinished or a socket is full.
//
// Three rules make the numbers worth trusting:
//
//   - Load is an open loop. A pacer says when each send is due, and latency counts from then, so a server that stalls
//     is not asked less often and the wait of every message behind the stall is seen.
//   - Every counted message carries the time it was due, its stream and a number, so receivers find what is missing by
//     themselves. What could not even be sent is counted by reason; achieved and intended rates stand side by side.
//   - The generator reports itself: how late its sends left, how busy its loops were, how much CPU it took, and
//     whether that makes it the bottleneck.
package bench
