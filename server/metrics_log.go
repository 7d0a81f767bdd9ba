package server

import (
	"io"
	"strconv"

	"github.com/VictoriaMetrics/metrics"

	"gannet/server/durable"
	"gannet/shard"
)

// writeLog writes the metrics of what is stored.
func (s *Server) writeLog(w io.Writer) {
	st := s.durableLog.Stats()
	count := func(name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }
	gauge := func(name string, v int) { metrics.WriteGaugeUint64(w, name, uint64(max(0, v))) }
	failed := 0
	if st.Failed {
		failed = 1
	}
	gauge("gannet_store_failed", failed)
	gauge("gannet_log_pending", st.Pending)
	gauge("gannet_log_pending_bytes", st.PendingBytes)
	gauge("gannet_log_marks_pending", st.MarksPending)
	gauge("gannet_log_recent_bytes", st.RecentBytes)
	count("gannet_log_commits_total", st.Commits)
	count("gannet_log_messages_total", st.Messages)
	count("gannet_log_bytes_total", st.Bytes)
	count("gannet_log_ephemeral_total", st.Ephemeral)
	for reason, n := range map[string]uint64{
		"duplicate": st.Duplicates, "unavailable": st.Unavailable, "forbidden": st.Forbidden, "invalid": st.Invalid, "busy": st.Busy,
	} {
		count(`gannet_log_refused_total{reason="`+reason+`"}`, n)
	}
	count("gannet_log_marks_total", st.Marks)
	count(`gannet_log_marks_dropped_total{reason="impossible"}`, st.MarksIgnored)
	count(`gannet_log_marks_dropped_total{reason="full"}`, st.MarksRefused)
	count("gannet_log_records_written_total", st.MarksFlushed)
	count("gannet_log_receipts_total", st.Receipts)
	count("gannet_log_receipts_dropped_total", st.ReceiptsDropped)
	count("gannet_log_devices_forgotten_total", st.DevicesForgot)
	count("gannet_log_refusals_forgotten_total", st.RefusalsDropped)
	count("gannet_store_failures_total", st.Failures)
	count("gannet_store_reopens_total", st.Reopens)
	count("gannet_store_recovered_messages_total", st.Recovered)
	s.writeReads(w)
	var sum uint64
	for i, n := range st.CommitTimes {
		sum += n
		le := "+Inf"
		if i < len(durable.CommitBuckets) {
			le = strconv.FormatFloat(durable.CommitBuckets[i].Seconds(), 'g', -1, 64)
		}
		count(`gannet_log_commit_seconds_bucket{le="`+le+`"}`, sum)
	}
	metrics.WriteCounterFloat64(w, "gannet_log_commit_seconds_sum", st.CommitTime.Seconds())
	count("gannet_log_commit_seconds_count", sum)
}

var readNames = [...]string{
	shard.ReadResume: "resume", shard.ReadInbox: "inbox", shard.ReadLog: "log", shard.ReadSub: "sub", shard.ReadPull: "pull", shard.ReadList: "list",
}

// writeReads writes the metrics of the pool that reads for the shards.
func (s *Server) writeReads(w io.Writer) {
	st := s.durableLog.ReadStats()
	for i, n := range st.Served {
		metrics.WriteCounterUint64(w, `gannet_log_reads_total{op="`+readNames[i]+`"}`, n)
	}
	for reason, n := range map[string]uint64{"full": st.Refused, "busy": st.Busy, "failed": st.Failed, "panic": st.Panics, "damaged": st.Damaged, "cut": st.Cut} {
		metrics.WriteCounterUint64(w, `gannet_log_reads_wrong_total{reason="`+reason+`"}`, n)
	}
	metrics.WriteGaugeUint64(w, `gannet_pool_waiting{pool="reads"}`, uint64(max(0, st.Waiting)))
}
