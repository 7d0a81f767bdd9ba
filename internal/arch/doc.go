// Package arch holds tests about the code itself: which package may import which, how long files and functions
// may be, that each package says what it is for and that each module's licence is listed. It has no code that
// anything could import.
//
//	cmd ──▶ server, bench, client, store, codec
//	server ──▶ shard, store, cluster, codec        gnet and ants are imported here (gnet in bench too)
//	shard, client, store, cluster ──▶ codec
//	bench ──▶ client, codec
//	store/memory, store/pebble ──▶ store, codec    cockroachdb's modules are imported in store/pebble alone
//	codec ──▶ the standard library alone
package arch
