// Package durable keeps messages for the shards: it is the shard.Log of a node, over a store.Store.
//
//	shards ──Submit──▶ pending ──▶ committer (one goroutine) ──▶ store.Append ──▶ shard.Courier ──▶ shards
//	shards ──Read────▶ readers (a bounded pool)              ──▶ store reads  ──▶ Node.Served   ──▶ shards
//	shards ──Mark────▶ marks (joined by device and channel)  ──▶ store.Put, RECEIPTs through the committer
//	admin  ──Change──▶ pending ──▶ committer: groups have one writer
//	every second: retention ──▶ store.Trim, store.Expire, and dead letters for what nobody got
//
// Who owns what: the committer owns the channel states and the courier, and is the only one who appends; readers share the store
// and the recent messages. Nothing here runs on an event loop, and nothing a loop calls here blocks.
package durable
