// Package server runs gannet: it puts gnet's event loops around the shards, judges credentials in a bounded
// pool, serves the admin HTTP interface and tells an embedding program what happens.
//
//	               ┌ loop 0 ─ shard 0 ┐
//	clients ─TCP─▶ ├ loop 1 ─ shard 1 ┤ ◀─ inboxes ─▶ pools (credentials), handlers, admin HTTP
//	               └ loop n ─ shard n ┘
//
// cmd/gannetd is a thin main around it; other programs embed it the same way: New with Options, Run with
// a context, Publish, Kick and Sessions from any goroutine.
//
// Goroutines and who ends them: gnet's loops, the ticker, the admin server, the handler lanes and the pool all end
// before Run returns.
package server
