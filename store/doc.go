// Package store declares what gannet keeps on disk or in a cluster, and how: logs of messages, inboxes,
// nonces and small records. Implementations are in its folders; all of them pass the suite in storetest.
//
//	channel log   (kind, name, seq) → the MSG frame as receivers get it; seq has no holes
//	inbox log     (user, pos) → a reference (kind, name, seq); pos is the place of the commit, it grows with holes
//	nonces        (user, device, nonce) → the seq it got; the recent past of each device
//	records       (owner, key) → bytes: cursors, conversations, groups; for the packages above to define
//
// One goroutine appends; it hands over everything that waits, and what Append has returned is synced: nothing of it is
// lost by a crash, and nothing above it is shown to a reader before. Any number of goroutines read.
//
// A store does not know of sessions or shards, and starts no goroutine that outlives Close.
package store
