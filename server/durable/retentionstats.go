package durable

import "sync/atomic"

// RetentionStats are what the retention has done since the log was made, and what dead letters there are.
type RetentionStats struct {
	Trimmed      uint64 // messages removed from channels one by one
	Trims        uint64 // times that was done
	Expires      uint64 // times that whole days were looked for to be removed
	Walks        uint64 // through all channels of a kind
	NotesDropped uint64 // channels too long that found no room; the next walk finds them
	Errors       uint64 // times that something could not be read or written

	Dead         map[DeadReason]uint64 // messages that became dead letters, by reason
	DeadDropped  uint64                // letters that made room for others
	DeadReplayed uint64                // sent again
	DeadCleared  uint64

	Letters     uint64 // on the list
	LetterBytes uint64
}

type retentionCounters struct {
	trimmed, trims, expires, walks, notesDropped, errors atomic.Uint64

	dead                                   [len(deadReasons)]atomic.Uint64
	deadDropped, deadReplayed, deadCleared atomic.Uint64

	letters, letterBytes atomic.Uint64
}

// RetentionStats returns the counters of now. Any goroutine may call it.
func (l *Log) RetentionStats() RetentionStats {
	c := &l.retention.stats
	s := RetentionStats{
		Trimmed: c.trimmed.Load(), Trims: c.trims.Load(), Expires: c.expires.Load(), Walks: c.walks.Load(),
		NotesDropped: c.notesDropped.Load(), Errors: c.errors.Load(), Dead: map[DeadReason]uint64{},
		DeadDropped: c.deadDropped.Load(), DeadReplayed: c.deadReplayed.Load(), DeadCleared: c.deadCleared.Load(),
		Letters: c.letters.Load(), LetterBytes: c.letterBytes.Load(),
	}
	for _, reason := range DeadReasons() {
		s.Dead[reason] = c.dead[reason].Load()
	}
	return s
}
