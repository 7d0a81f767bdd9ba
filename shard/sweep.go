package shard

import "gannet/codec"

// sweeps is in how many ticks every session is looked at once: within a second of its deadline.
const sweeps = 10

// Tick is called every tenth of a second. It looks after deadlines, lingering connections, backlogs, STATE
// values that expire and an ongoing drain, and publishes the counters.
func (sh *Shard) Tick() {
	sh.begin()
	sh.inTurn, sh.unfinished = true, true // also for what is owed to other shards
	sh.sweep()
	sh.sweepClosing()
	sh.sweepBacklog()
	sh.sweepHalves()
	sh.expireStates()
	sh.sweepLog()
	if sh.drainUntil.Load() != 0 {
		sh.drain()
	}
	sh.publish()
	sh.finish()
}

// sweep looks at the deadlines of a tenth of the sessions (all of them while they fit into one chunk). An array of
// deadlines is read at memory speed, so no timer wheel is needed: ten million take about ten milliseconds in all.
func (sh *Shard) sweep() {
	chunks := len(sh.due.chunks)
	for range (chunks + sweeps - 1) / sweeps {
		if sh.sweepAt >= chunks {
			sh.sweepAt = 0
		}
		base := uint32(sh.sweepAt) << chunkBits
		for j, d := range sh.due.chunks[sh.sweepAt] {
			if d != 0 && d <= sh.nowTick {
				sh.onDue(sh.sessions.at(base + uint32(j)))
			}
		}
		sh.sweepAt++
		sh.spill()
	}
}

// spill writes what has collected, before it is more than the out buffers that are kept from turn to turn.
func (sh *Shard) spill() {
	if len(sh.outs) > keepOuts-chunkLen {
		sh.flushAll()
	}
}

// drain ends its share of the sessions, so that those who reconnect come spread over the drain's time.
func (sh *Shard) drain() {
	left := (sh.drainUntil.Load() - sh.now) / tick
	todo := int(sh.stats.Connections) - len(sh.closing) // those have their BYE
	if left > 1 {
		todo = (todo + int(left) - 1) / int(left)
	}
	for n := uint32(0); n < sh.sessions.n && todo > 0; n++ {
		if sh.drained >= sh.sessions.n {
			sh.drained = 0
		}
		s := sh.sessions.at(sh.drained)
		sh.drained++
		if s.phase != phaseFree && s.phase != phaseClosing {
			sh.bye(s, codec.CodeDraining, "the server is stopping")
			todo--
			sh.spill()
		}
	}
}

// publish copies the counters to where other goroutines can read them.
func (sh *Shard) publish() {
	st := &sh.stats
	st.Subscriptions = int64(sh.subs.n) - int64(sh.freeSubs)
	st.Rooms = int64(len(sh.rooms) - len(sh.freeRoom) - 1)
	st.States = int64(sh.states.n)
	st.Backlogged = int64(len(sh.backlog))
	st.BacklogBytes = int64(sh.backBytes)
	st.InboxDepth = int64(sh.inbox.Len())
	st.InboxCapacity = int64(sh.inbox.Cap())
	st.Flows, st.Cursors = int64(sh.nflows), int64(len(sh.cursors))
	const perPlace = 64 + 16 + 4
	st.SessionBytes = int64(len(sh.sessions.chunks))*chunkLen*perPlace +
		int64(len(sh.names.blocks))*nameBlock + int64(len(sh.subs.chunks))*chunkLen*16 +
		int64(len(sh.flows.chunks))*chunkLen*56
	sh.mu.Lock()
	sh.published = *st
	sh.mu.Unlock()
}
