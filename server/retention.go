package server

import (
	"fmt"
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"gannet/server/durable"
)

// Retention says how long stored messages are kept, by kind of channel. A zero Age or Count means the default given beside it, one below
// zero that nothing is removed for it.
type Retention struct {
	DirectAge   time.Duration // from the message's time: 30 days
	GroupAge    time.Duration // 30 days
	TopicAge    time.Duration // 7 days
	AllAge      time.Duration // 30 days
	DirectCount int           // the latest messages of a channel: all
	GroupCount  int           // all
	TopicCount  int           // 100,000
	AllCount    int           // 100,000
	DeadLetters int           // undelivered messages that are listed: 10,000; less than 0: none
}

// Bounds of Retention.
const (
	day      = 24 * time.Hour
	minAge   = time.Minute
	maxAge   = 100 * 365 * day
	maxCount = 1 << 40
)

func (r *Retention) defaults() {
	or(&r.DirectAge, 30*day)
	or(&r.GroupAge, 30*day)
	or(&r.TopicAge, 7*day)
	or(&r.AllAge, 30*day)
	or(&r.TopicCount, 100_000)
	or(&r.AllCount, 100_000)
	or(&r.DeadLetters, 10_000)
}

func (r *Retention) validate() error {
	for _, f := range []struct {
		name string
		v    time.Duration
	}{
		{"direct_age", r.DirectAge}, {"group_age", r.GroupAge}, {"topic_age", r.TopicAge}, {"all_age", r.AllAge},
	} {
		if f.v >= 0 && (f.v < minAge || f.v > maxAge) {
			return fmt.Errorf("retention.%s: %v is neither for ever nor between %v and %v", f.name, f.v, minAge, maxAge)
		}
	}
	for _, f := range []struct {
		name string
		v    int
	}{
		{"direct_count", r.DirectCount}, {"group_count", r.GroupCount}, {"topic_count", r.TopicCount}, {"all_count", r.AllCount},
	} {
		if f.v > maxCount {
			return fmt.Errorf("retention.%s: %d is above %d", f.name, f.v, maxCount)
		}
	}
	if r.DeadLetters > 1_000_000 {
		return fmt.Errorf("retention.dead_letters: %d is above 1000000", r.DeadLetters)
	}
	return nil
}

// durable is the same for the log, to which zero means for ever, and all.
func (r *Retention) durable() durable.Retention {
	keep := func(age time.Duration, count int) durable.Keep {
		return durable.Keep{Age: max(0, age), Count: uint64(max(0, count))}
	}
	return durable.Retention{
		Direct: keep(r.DirectAge, r.DirectCount), Group: keep(r.GroupAge, r.GroupCount),
		Topic: keep(r.TopicAge, r.TopicCount), All: keep(r.AllAge, r.AllCount),
	}
}

// writeRetention writes the metrics of what was removed and of the dead letters.
func (s *Server) writeRetention(w io.Writer) {
	st := s.durableLog.RetentionStats()
	count := func(name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }
	count("gannet_retention_removed_messages_total", st.Trimmed)
	count("gannet_retention_trims_total", st.Trims)
	count("gannet_retention_expires_total", st.Expires)
	count("gannet_retention_walks_total", st.Walks)
	count("gannet_retention_notes_dropped_total", st.NotesDropped)
	count("gannet_retention_errors_total", st.Errors)
	metrics.WriteGaugeUint64(w, "gannet_dead_letters", st.Letters)
	metrics.WriteGaugeUint64(w, "gannet_dead_letters_bytes", st.LetterBytes)
	for _, reason := range durable.DeadReasons() {
		count(`gannet_dead_letters_added_total{reason="`+reason.String()+`"}`, st.Dead[reason])
	}
	count("gannet_dead_letters_dropped_total", st.DeadDropped)
	count("gannet_dead_letters_replayed_total", st.DeadReplayed)
	count("gannet_dead_letters_cleared_total", st.DeadCleared)
}
