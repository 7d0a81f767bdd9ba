// Package client is the Go SDK: one Client is one device of one user that connects to a gannet server,
// stays connected and hands what arrives to handlers. Applications and the gannet tool call it; it imports
// codec and the standard library only.
//
//	Send, Post       Send, Subscribe, Pull, …        handlers
//	    │                    │                           ▲
//	    ▼                    ▼ bounded queue             │ dispatcher: one goroutine a Client, bounded queue
//	outbox ──▶ pump ──▶   writer ──▶ net.Conn ──▶ reader ┤
//	    ▲                    ▲                           ▼
//	    └─ SENDACK           └──── ACK, PULL ◀──── tend, tracker
//
// Who owns what:
//   - Run owns the life of the client: it dials, decides when to come back (backoff.go) and starts and ends
//     everything below.
//   - A conn is one welcomed connection with a reader, a writer, a pump and a tend goroutine, and, only when needed, one that
//     renews subscriptions, one that pulls what is missing and one that refreshes the token. It never outlives its turn in Run.
//   - The dispatcher calls all handlers one after the other, in the order in which things came. When a handler
//     is slow the queue fills and the reader waits, so TCP slows the server down; nothing is dropped here.
//   - The queue (queue.go) is the working copy of the Outbox, the tracker (tracker.go) knows what came and what the handlers are done
//     with. Both outlive connections.
//
// Two consequences for handlers. They may call SendAsync, Post and MarkRead freely, but should not wait for an answer (Send, Subscribe,
// Pull, Ping, …): answers come through the same reader, which cannot go on while the queue is full of messages that wait for
// this very handler. And they must not call Close, which waits for them.
//
// # Durable messages
//
// A durable message is kept in the Outbox until the server has stored it or has refused it for good. Retries carry the same
// nonce and the same bytes, go out before anything newer and in order, so the server stores each message once. OnStatus tells how far it has got:
// sent, delivered, read, failed. With a FileOutbox this holds over the end of the process, too.
//
// Received ones are acknowledged when the handler has returned, dropped when they come again, and put in order: what is missing between two of a channel is
// pulled first. OnGap tells what cannot be had any more; nothing is missing in silence. With Positions a later process goes on
// where the handlers of the one before had got to. What they did in the last half second before a crash comes again; an application that
// saves positions together with what it keeps of the messages sees each once.
//
// Without Outbox and Positions all this holds as long as the Client lives. Then a device that begins anew, under the same
// name, goes on from what it had acknowledged.
//
// What survives a reconnect: the outbox, positions, subscriptions, the heartbeat wish and the origin. What does not: requests that are
// still unanswered (ErrLost), ephemeral messages that are on their way, and states set with ttl 0, which end with their session; set
// them again in OnConnect.
package client
