package shard

import "gannet/codec"

// Drop is why a message did not reach a session, or a request was refused.
type Drop uint8

// Reasons of drops.
const (
	DropSlowReader    Drop = iota // the reader's backlog is at its limit
	DropInboxFull                 // another shard's inbox had no place: BUSY
	DropRoomFull                  // too much waits for the topic already: BUSY
	DropRateLimited               // the sender is over its rate
	DropForbidden                 // the sender has no right
	DropInvalid                   // the request was not valid
	DropUnsupported               // groups and durable messages
	DropStaleSession              // the session ended while the message was on its way
	DropStateLimit                // no place for one more STATE value
	DropAdminInbox                // a publish from outside found an inbox full
	DropLogFull                   // the log had no place for a durable message: BUSY
	DropStore                     // the store refused a durable message or could not be written
	DropWindow                    // more unanswered durable messages than the window: BUSY
	DropBlocked                   // behind a durable message that was refused and has not come again
	DropCatchingUp                // an ephemeral message for a reader that is still being fed from the log
	DropReceipt                   // a receipt that is no longer tracked
	DropMark                      // an acknowledgement that cannot be true
	DropMarksFull                 // an acknowledgement that the log did not take in time
	DropNoSubscribers             // nobody listens (not an error)
	drops
)

var dropNames = [drops]string{
	DropSlowReader: "slow_reader", DropInboxFull: "inbox_full", DropRoomFull: "room_full",
	DropRateLimited: "rate_limited", DropForbidden: "forbidden", DropInvalid: "invalid",
	DropUnsupported: "unsupported", DropStaleSession: "stale_session", DropStateLimit: "state_limit",
	DropAdminInbox: "admin_inbox_full", DropLogFull: "log_full", DropStore: "store", DropWindow: "window",
	DropBlocked: "blocked", DropCatchingUp: "catching_up", DropReceipt: "receipt", DropMark: "mark",
	DropMarksFull: "marks_full", DropNoSubscribers: "no_subscribers",
}

func (d Drop) String() string { return dropNames[d] }

// Drops lists all reasons.
func Drops() []Drop {
	all := make([]Drop, drops)
	for i := range all {
		all[i] = Drop(i)
	}
	return all
}

// LatencyBounds are the upper bounds of the buckets of Stats.Latency, in nanoseconds; one more bucket
// takes the rest.
var LatencyBounds = [...]int64{
	50e3, 100e3, 200e3, 500e3, 1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1e9, 2e9, 5e9,
}

const byeCodes = 400 // codes are below

// Stats are a shard's counters since its start, and gauges of now.
type Stats struct {
	// Gauges.
	Connections   int64
	Sessions      int64 // logged in
	Subscriptions int64
	Rooms         int64
	States        int64
	Backlogged    int64 // readers the kernel does not take everything for
	BacklogBytes  int64
	InboxDepth    int64
	InboxCapacity int64
	SessionBytes  int64 // memory of the slabs, names and subscriptions
	Flows         int64 // sessions that take part in durable messages
	Cursors       int64 // logs that sessions read themselves

	// Counters.
	Opened       uint64
	Logins       uint64
	BytesIn      uint64
	BytesOut     uint64
	FramesIn     uint64
	MessagesIn   uint64 // SENDs and STATEs admitted
	Deliveries   uint64 // messages written to sessions
	Writes       uint64
	Runs         uint64 // fan-outs to rooms
	Slices       uint64
	Pings        uint64 // sent for silence
	Durable      uint64 // durable messages stored for sessions of this shard
	CaughtUp     uint64 // messages sent from the log
	Behind       uint64 // times a reader fell behind
	Redeliveries uint64
	ReadsRefused uint64 // reads that the log did not take
	Publishes    uint64 // messages from outside the connections; counted by the Node
	Dropped      [drops]uint64
	Byes         [byeCodes]uint64 // by code
	ClosedByPeer uint64
	Latency      [len(LatencyBounds) + 1]uint64 // deliveries, from received to written
	LatencySum   uint64                         // nanoseconds
}

func (st *Stats) drop(d Drop, n int) { st.Dropped[d] += uint64(n) }

func (st *Stats) bye(c codec.Code) {
	if c < byeCodes {
		st.Byes[c]++
	}
}

func (st *Stats) latency(ns int64, n int) {
	i := 0
	for i < len(LatencyBounds) && ns > LatencyBounds[i] {
		i++
	}
	st.Latency[i] += uint64(n)
	st.LatencySum += uint64(ns) * uint64(n)
}

// Add adds o to st.
func (st *Stats) Add(o *Stats) {
	st.Connections += o.Connections
	st.Sessions += o.Sessions
	st.Subscriptions += o.Subscriptions
	st.Rooms += o.Rooms
	st.States += o.States
	st.Backlogged += o.Backlogged
	st.BacklogBytes += o.BacklogBytes
	st.InboxDepth += o.InboxDepth
	st.InboxCapacity += o.InboxCapacity
	st.SessionBytes += o.SessionBytes
	st.Flows += o.Flows
	st.Cursors += o.Cursors
	st.Durable += o.Durable
	st.CaughtUp += o.CaughtUp
	st.Behind += o.Behind
	st.Redeliveries += o.Redeliveries
	st.ReadsRefused += o.ReadsRefused
	st.Opened += o.Opened
	st.Logins += o.Logins
	st.BytesIn += o.BytesIn
	st.BytesOut += o.BytesOut
	st.FramesIn += o.FramesIn
	st.MessagesIn += o.MessagesIn
	st.Deliveries += o.Deliveries
	st.Writes += o.Writes
	st.Runs += o.Runs
	st.Slices += o.Slices
	st.Pings += o.Pings
	st.Publishes += o.Publishes
	st.ClosedByPeer += o.ClosedByPeer
	st.LatencySum += o.LatencySum
	for i := range st.Dropped {
		st.Dropped[i] += o.Dropped[i]
	}
	for i := range st.Byes {
		st.Byes[i] += o.Byes[i]
	}
	for i := range st.Latency {
		st.Latency[i] += o.Latency[i]
	}
}
