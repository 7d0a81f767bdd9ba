// Package client is the Go SDK: one Client is one device of one user that connects to a gannet server,
// stays connected and hands what arrives to handlers. Applications and the gannet tool call it; it imports
// codec and the standard library only.
//
//	Send, Subscribe, …          handlers
//	      │                         ▲
//	      ▼ bounded queue           │ dispatcher: one goroutine a Client, bounded queue
//	   writer ──▶ net.Conn ──▶ reader
//
// Who owns what:
//   - Run owns the life of the client: it dials, decides when to come back (backoff.go) and starts and ends
//     everything below.
//   - A conn is one welcomed connection with one reader and one writer goroutine, and, only when needed, one that
//     renews subscriptions and one that refreshes the token. It never outlives its turn in Run.
//   - The dispatcher calls all handlers one after the other, in the order in which things came. When a handler
//     is slow the queue fills and the reader waits, so TCP slows the server down; nothing is dropped here.
//
// Two consequences for handlers. They may call SendAsync freely, but should not wait for an answer (Send, Subscribe,
// Ping, …): answers come through the same reader, which cannot go on while the queue is full of messages that wait for
// this very handler. And they must not call Close, which waits for them.
//
// What survives a reconnect: subscriptions, the heartbeat wish and the origin. What does not: requests that are
// still unanswered (ErrLost) and states set with ttl 0, which end with their session; set them again in OnConnect.
package client
