// Package pebble is the embedded store: a Pebble database in one folder, synced by group commit.
//
//	h kind name                        → heads: first seq kept, the buckets it has messages in
//	m bucket kind len name seq         → chunk of MSG frames, all that one commit had for the channel
//	i bucket len user pos              → chunk of references, all that one commit had for the user's inbox
//	n len user len device nonce        → chunk of (nonce, seq), all that one commit had of the device
//	r len owner key                    → record
//	b bucket                           → first place of the bucket
//	M name                             → meta: format, epoch, place
//
// Few big keys instead of many small ones: a commit costs a key a channel, a user and a device, whatever the number of
// messages. A bucket is a day; what expires has it in front, so a day goes with one range deletion.
//
// One goroutine appends and owns the caches of heads and devices. Readers use iterators of their own and skip chunks above
// the last synced place: Pebble shows a batch before its sync is done.
//
// In the folder are Pebble's tables and manifest, the log of what is not in tables yet in wal/, and
//
//	LOCK             held by who has it open
//	CLEAN            sums of the small files, from a clean stop up to the next start; backups have one too (seal.go)
//	MANIFEST-….sum   sums of the manifest, which Pebble reads no further than it can (manifest.go)
//	RESTORING        a restore has not finished (backup.go)
//
// Tables have checksums of their own. So behind a clean stop every byte that matters is guarded, and behind a crash every byte but
// for the last commits of the log: Check tells which is the case.
//
// What fails, fails the whole store (store.ErrFailed) and reading goes on: an error of the WAL (fs.go says why Pebble does not
// hear of it), of a flush or of a compaction. Damaged data does not: who reads it gets store.ErrCorrupt, and a message
// that needs it CodeUnavailable.
package pebble
