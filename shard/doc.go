// Package shard is the state machine of one event loop and all it owns: sessions, subscriptions, rooms,
// timers and what waits to be written. It does no I/O of its own and starts no goroutine: bytes,
// inbox items and ticks go in, writes on a small Conn interface come out, the clock is given to it.
// Package server puts gnet around it; tests and benchmarks drive it with fake connections and fake time.
//
//	            Open, Traffic, Closed                 Tick            Slice
//	sockets ─────────────────────▶ ┌────────────────────────────────────────┐
//	                               │ Shard: sessions, rooms, out buffers    │──▶ Conn.Write
//	other shards, pools, admin ──▶ │ inbox ring ──Drain──▶                  │──▶ other shards' inboxes
//	                               └────────────────────────────────────────┘
//	                                    Node: directory (user → sessions), topics (name → shards)
//
// Who owns what: everything in a Shard is touched by its loop alone, except the inbox ring, which any
// goroutine may push to, and the published copy of its counters. A Node is shared: its directory and its
// topics have locks of their own, held for a look-up and never while anything is written.
//
// Methods of Shard whose names end in nothing special are called on the loop; those that any goroutine may call say so.
//
// A turn is one entry into the shard. What a turn has to say to a connection is collected in an out buffer;
// what it has to say to other shards, in an outbox for each. The end of a pass of the loop (Drain) sends the outboxes
// and writes each connection once.
package shard
