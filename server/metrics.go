package server

import (
	"fmt"
	"io"
	"strconv"

	"github.com/VictoriaMetrics/metrics"

	"gannet/codec"
	"gannet/shard"
)

// writeMetrics writes the server's own metrics. The shards count in plain fields of their own and publish a copy every
// tenth of a second; nothing is locked or counted here on a message's way.
func (s *Server) writeMetrics(w io.Writer) {
	st := s.node.Stats()
	gauge := func(name string, v int64) { metrics.WriteGaugeUint64(w, name, uint64(max(0, v))) }
	count := func(name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }

	gauge("gannet_connections", st.Connections)
	gauge("gannet_connections_limit", int64(s.opts.Limits.Connections))
	gauge("gannet_sessions", st.Sessions)
	gauge("gannet_subscriptions", st.Subscriptions)
	gauge("gannet_rooms", st.Rooms)
	gauge("gannet_states", st.States)
	gauge("gannet_backlogged_sessions", st.Backlogged)
	gauge("gannet_backlog_bytes", st.BacklogBytes)
	gauge("gannet_session_memory_bytes", st.SessionBytes)
	insecure := int64(0)
	if s.opts.openToOthers() {
		insecure = 1
	}
	gauge("gannet_insecure", insecure)

	count("gannet_connections_opened_total", st.Opened)
	count("gannet_logins_total", st.Logins)
	count("gannet_frames_in_total", st.FramesIn)
	count("gannet_bytes_in_total", st.BytesIn)
	count("gannet_bytes_out_total", st.BytesOut)
	count("gannet_messages_in_total", st.MessagesIn)
	count("gannet_deliveries_total", st.Deliveries)
	count("gannet_writes_total", st.Writes)
	count("gannet_fanout_runs_total", st.Runs)
	count("gannet_fanout_slices_total", st.Slices)
	count("gannet_pings_sent_total", st.Pings)
	count("gannet_publishes_total", st.Publishes)
	count("gannet_closed_by_peer_total", st.ClosedByPeer)
	gauge("gannet_flows", st.Flows)
	gauge("gannet_log_readers", st.Cursors)
	count("gannet_durable_messages_total", st.Durable)
	count("gannet_caught_up_messages_total", st.CaughtUp)
	count("gannet_fell_behind_total", st.Behind)
	count("gannet_redeliveries_total", st.Redeliveries)
	count("gannet_log_reads_refused_total", st.ReadsRefused)
	for _, d := range shard.Drops() {
		count(`gannet_dropped_total{reason="`+d.String()+`"}`, st.Dropped[d])
	}
	for code, n := range st.Byes {
		if n > 0 {
			count(`gannet_byes_total{code="`+codec.Code(code).String()+`"}`, n)
		}
	}
	count(`gannet_connections_refused_total{reason="full"}`, s.counters.refusedFull.Load())
	count(`gannet_connections_refused_total{reason="draining"}`, s.counters.refusedDraining.Load())
	count("gannet_panics_total", s.counters.panics.Load())
	count("gannet_wake_errors_total", s.counters.wakeErrors.Load())
	count("gannet_log_lines_lost_total", s.log.lost.Load())
	count("gannet_memory_trims_total", s.counters.trims.Load())
	writeLatency(w, &st)
	s.writeLoops(w)
	s.writeLog(w)
	s.writeRetention(w)
	s.writePools(w)
}

func writeLatency(w io.Writer, st *shard.Stats) {
	var sum uint64
	for i, n := range st.Latency {
		sum += n
		le := "+Inf"
		if i < len(shard.LatencyBounds) {
			le = strconv.FormatFloat(float64(shard.LatencyBounds[i])/1e9, 'g', -1, 64)
		}
		metrics.WriteCounterUint64(w, `gannet_delivery_seconds_bucket{le="`+le+`"}`, sum)
	}
	metrics.WriteCounterFloat64(w, "gannet_delivery_seconds_sum", float64(st.LatencySum)/1e9)
	metrics.WriteCounterUint64(w, "gannet_delivery_seconds_count", sum)
}

func (s *Server) writeLoops(w io.Writer) {
	for i, lp := range *s.loops.Load() {
		st := lp.sh.Published()
		label := fmt.Sprintf(`{loop="%d"}`, i)
		metrics.WriteGaugeUint64(w, "gannet_loop_connections"+label, uint64(max(0, st.Connections)))
		metrics.WriteGaugeUint64(w, "gannet_inbox_depth"+label, uint64(max(0, st.InboxDepth)))
		metrics.WriteGaugeUint64(w, "gannet_inbox_capacity"+label, uint64(st.InboxCapacity))
		metrics.WriteGaugeFloat64(w, "gannet_loop_lag_seconds"+label, float64(lp.lag.Load())/1e9)
		metrics.WriteGaugeFloat64(w, "gannet_loop_lag_max_seconds"+label, float64(lp.maxLag.Swap(0))/1e9)
		metrics.WriteCounterUint64(w, "gannet_loop_late_ticks_total"+label, lp.lateTicks.Load())
	}
}

func (s *Server) writePools(w io.Writer) {
	if j := s.judge; j != nil {
		metrics.WriteGaugeUint64(w, `gannet_pool_workers{pool="auth"}`, uint64(s.opts.AuthWorkers))
		metrics.WriteGaugeUint64(w, `gannet_pool_busy{pool="auth"}`, uint64(max(0, j.active.Load())))
		metrics.WriteGaugeUint64(w, `gannet_pool_waiting{pool="auth"}`, uint64(len(j.queue)))
		metrics.WriteCounterUint64(w, `gannet_auth_total{result="ok"}`, j.judged.Load())
		metrics.WriteCounterUint64(w, `gannet_auth_total{result="refused"}`, j.refused.Load())
		metrics.WriteCounterUint64(w, `gannet_auth_total{result="failed"}`, j.failed.Load())
		metrics.WriteCounterUint64(w, `gannet_auth_total{result="queue_full"}`, j.full.Load())
	}
	if l := s.lanes; l != nil {
		waiting := 0
		for _, q := range l.queues {
			waiting += len(q)
		}
		metrics.WriteGaugeUint64(w, "gannet_handler_waiting", uint64(waiting))
		metrics.WriteCounterUint64(w, "gannet_handler_dropped_total", l.dropped.Load())
	}
}
