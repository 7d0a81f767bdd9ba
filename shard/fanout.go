package shard

import (
	"iter"
	"slices"

	"gannet/codec"
)

// batch is messages for one room, joined into the bytes that all members share.
type batch struct {
	first []byte // while there is only one
	buf   []byte // from the second on, all of them
	ends  []int  // where each ends in buf
	n     int
	born  int64  // when the oldest was received
	low   uint64 // lowest seq of the durable ones among them, 0: none
	high  uint64 // and the highest
	brief bool   // there are some that are in no log
}

func (b *batch) add(frame []byte, born int64) {
	switch b.n {
	case 0:
		b.first, b.born = frame, born
	case 1:
		b.buf = append(b.buf[:0], b.first...)
		b.ends = append(b.ends[:0], len(b.buf))
		b.first = nil
		fallthrough
	default:
		b.buf = append(b.buf, frame...)
		b.ends = append(b.ends, len(b.buf))
	}
	b.n++
	b.note(msgSeq(frame))
}

// note keeps the range of seqs.
func (b *batch) note(seq uint64) {
	if seq == 0 {
		b.brief = true
		return
	}
	if b.low == 0 || seq < b.low {
		b.low = seq
	}
	b.high = max(b.high, seq)
}

// all goes over the messages one by one.
func (b *batch) all() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if b.n == 1 {
			yield(b.data())
			return
		}
		from := 0
		for _, end := range b.ends[:b.n] {
			if !yield(b.buf[from:end]) {
				return
			}
			from = end
		}
	}
}

func (b *batch) bytes() int { return len(b.data()) }

func (b *batch) data() []byte {
	switch b.n {
	case 0:
		return nil
	case 1:
		return b.first
	}
	return b.buf
}

// split moves the messages that end beyond max bytes to rest, which is empty. The first message always stays.
func (b *batch) split(max int, rest *batch) {
	if b.n < 2 || len(b.buf) <= max {
		return
	}
	keep := 1
	for keep < b.n && b.ends[keep] <= max {
		keep++
	}
	from := 0
	for i, end := range b.ends {
		if i >= keep {
			rest.add(b.buf[from:end], b.born)
		}
		from = end
	}
	if rest.n == 1 {
		rest.first = slices.Clone(rest.first) // b's buffer will be used again
	}
	b.n, b.ends = keep, b.ends[:keep]
	b.buf = b.buf[:b.ends[keep-1]]
	b.first = b.buf // in case it is the only one
	b.low, b.high, b.brief = 0, 0, false
	for frame := range b.all() {
		b.note(msgSeq(frame))
	}
}

// reset empties the batch; its buffers are used again unless they are large.
func (b *batch) reset() {
	buf, ends := b.buf[:0], b.ends[:0]
	if cap(buf) > keepBuf {
		buf, ends = nil, nil
	}
	*b = batch{buf: buf, ends: ends}
}

// chosen returns the messages that a filter lets through, joined, and their number.
func (b *batch) chosen(tags []string) (data []byte, n int) {
	if b.n == 1 {
		if matches(b.first, tags) {
			return b.first, 1
		}
		return nil, 0
	}
	from := 0
	for _, end := range b.ends {
		if matches(b.buf[from:end], tags) {
			data = append(data, b.buf[from:end]...)
			n++
		}
		from = end
	}
	return data, n
}

// matches says whether a frame carries one of the tags. STATE passes every filter.
func matches(frame []byte, tags []string) bool {
	f, _, _ := codec.ConsumeFrame(frame, codec.MaxBody)
	if f.Type == codec.TypeState {
		return true
	}
	for tag, v := range f.Ext.All() {
		if tag == codec.TagRoute {
			for _, t := range tags {
				if t == string(v) {
					return true
				}
			}
		}
	}
	return false
}

// smallRoom is the number of members up to which a run goes through the out buffers, where it is joined with
// what else a connection gets; above it, it is written in slices.
const smallRoom = 64

// enqueue adds a frame to what waits for a topic's members here. What waits is joined into the next run.
func (sh *Shard) enqueue(t *topic, frame []byte, born int64) {
	r := t.rooms[sh.index]
	if r == 0 {
		t.queued.Add(-int64(len(frame))) // the last member left meanwhile
		return
	}
	rm := &sh.rooms[r-1]
	rm.pending.add(frame, born)
	rm.head = max(rm.head, rm.pending.high)
	if !rm.queued {
		rm.queued = true
		sh.ready = append(sh.ready, r-1)
		sh.schedule()
	}
}

// startRuns begins a run for each room that something waits for and that has none under way.
func (sh *Shard) startRuns() {
	for i := 0; i < len(sh.ready); i++ { // sessions that end in a write may add to it
		r := sh.ready[i]
		rm := &sh.rooms[r]
		small := rm.members <= smallRoom
		if rm.all {
			small = sh.sessions.n <= smallRoom
		}
		sh.startRun(rm)
		sh.meetReaders(r)
		if small {
			sh.runSmall(r)
			if sh.endRun(r) {
				sh.ready = append(sh.ready, r)
			}
		} else {
			sh.active = append(sh.active, r)
		}
	}
	sh.ready = sh.ready[:0]
}

// runMax is about how many bytes one run has: what a reader that does not read is given before its backlog is looked
// at again. The rest of what waits makes further runs.
const runMax = 256 << 10

// startRun makes what waits the run.
func (sh *Shard) startRun(rm *room) {
	rm.pending, rm.running = rm.running, rm.pending
	rm.running.split(runMax, &rm.pending)
	rm.topic.queued.Add(-int64(rm.running.bytes()))
	if len(rm.readers) > 0 {
		sh.keepRecent(rm)
	}
	rm.at = 0
	for i := range rm.groups {
		g := &rm.groups[i]
		if g.todo = len(g.members); rm.all {
			g.todo = int(sh.sessions.n)
		}
		if g.tags == nil {
			g.data, g.n = rm.running.data(), rm.running.n
		} else {
			g.data, g.n = rm.running.chosen(g.tags)
		}
		if g.n == 0 {
			g.todo = 0
		}
	}
	sh.stats.Runs++
}

// endRun forgets the run. It says whether the room has more to do; otherwise the room is out of the queue.
func (sh *Shard) endRun(r uint32) (more bool) {
	rm := &sh.rooms[r]
	for i := range rm.groups {
		rm.groups[i].data = nil
		rm.groups[i].todo = 0
	}
	rm.running.reset()
	if rm.members == 0 && !rm.all {
		sh.closeRoom(r)
		return false
	}
	if rm.pending.n > 0 {
		return true
	}
	rm.queued = false
	if len(rm.readers) > 0 {
		sh.letIn(r)
	}
	return false
}

// runSmall serves all members through their out buffers.
func (sh *Shard) runSmall(r uint32) {
	rm := &sh.rooms[r]
	for i := range rm.groups {
		g := &rm.groups[i]
		for g.todo > 0 {
			g.todo--
			if s := sh.memberAt(rm, g, g.todo); s != nil && !sh.fallBehind(r, i, s, g.todo, len(g.data)) {
				sh.deliverN(s, g.data, g.n, rm.running.born)
			}
		}
	}
	if rm.running.bytes() >= shareAbove {
		rm.running = batch{} // out buffers share its bytes until they are written
	}
}

// memberAt is the session at a place of a group; nil where the room of all has a gap.
func (sh *Shard) memberAt(rm *room, g *group, i int) *Session {
	if rm.all {
		if s := sh.sessions.at(uint32(i)); s.phase == phaseLive && s.flags&flagAllAway == 0 {
			return s
		}
		return nil
	}
	return sh.sessions.at(sh.subs.at(g.members[i]).session)
}

// Slice goes on with what Drain could not finish in one go: the inbox, and the fan-outs under way, for at most
// Config.Slice. The loop calls it after Continue.
func (sh *Shard) Slice() {
	sh.begin()
	sh.inTurn, sh.unfinished, sh.continuing = true, true, false
	sh.inbox.Drain(drainMax, sh.take)
	sh.takeMail()
	more := !sh.inbox.Empty()
	sh.finish() // which first writes what waits and belongs before what the slice writes
	if more && !sh.continuing {
		sh.continuing = true
		sh.loop.Continue()
	}
}

const (
	sliceCheck = 16   // writes between two looks at the clock
	gapCheck   = 1024 // free places passed over between two looks at the clock
)

// aloneAfter is the time without other work after which slices are longer, in nanoseconds.
const aloneAfter = 20e6

// nextSlice is how long a slice may take. Every slice costs a round of epoll, so it is four times as long when no other
// socket and no inbox item wanted the loop for a while. (Measured with a PING every 2 ms beside 300,000 deliveries a second
// on a full machine: p50 3.8 ms with slices of 200–350 µs, 4.2 ms with 500 µs, 4.7 ms with 1 ms; and
// 5.3 ms when slices grow as soon as nothing came between two of them.)
func (sh *Shard) nextSlice(now int64) int64 {
	if work := sh.stats.FramesIn + sh.items; work != sh.otherWork {
		sh.otherWork, sh.otherAt = work, now
	}
	if now-sh.otherAt > aloneAfter {
		return 4 * int64(sh.cfg.Slice)
	}
	return int64(sh.cfg.Slice)
}

// slice serves the active rooms in turn until the time is used up, then asks to go on after the other sockets.
func (sh *Shard) slice() {
	if len(sh.active) == 0 {
		return
	}
	sh.stats.Slices++
	now := sh.node.clock.Now()
	until := now + sh.nextSlice(now)
	for len(sh.active) > 0 {
		r := sh.active[0]
		done, now := sh.step(r, until)
		if done {
			sh.active = slices.Delete(sh.active, 0, 1)
			if sh.endRun(r) {
				sh.startRun(&sh.rooms[r])
				sh.meetReaders(r)
				sh.active = append(sh.active, r)
			}
		}
		if now >= until {
			// The next slice begins with another room, so that a large one does not hold up the rest.
			if !done && len(sh.active) > 1 {
				sh.active = append(slices.Delete(sh.active, 0, 1), r)
			}
			break
		}
	}
	if len(sh.active) > 0 {
		sh.continuing = true
		sh.loop.Continue()
	}
}

// step goes on with one room's run; done when every member was served.
func (sh *Shard) step(r uint32, until int64) (done bool, now int64) {
	now = sh.node.clock.Now()
	served, gaps, messages := 0, 0, 0
	for sh.rooms[r].at < len(sh.rooms[r].groups) {
		rm := &sh.rooms[r]
		g := &rm.groups[rm.at]
		if g.todo == 0 {
			rm.at++
			continue
		}
		g.todo--
		if s := sh.memberAt(rm, g, g.todo); s != nil {
			if !sh.fallBehind(r, rm.at, s, g.todo, len(g.data)) {
				messages += sh.serve(s, g.data, g.n)
			}
			served++
		} else {
			gaps++
		}
		if served >= sliceCheck || gaps >= gapCheck {
			served, gaps = 0, 0
			if now = sh.node.clock.Now(); now >= until {
				break
			}
		}
	}
	rm := &sh.rooms[r]
	if messages > 0 {
		sh.stats.Deliveries += uint64(messages)
		sh.stats.latency(now-rm.running.born, messages)
	}
	return rm.at >= len(rm.groups), now
}

// serve writes a run to one member; the result is how many messages it got. The session, even the room's
// membership, may have changed when it returns.
func (sh *Shard) serve(s *Session, data []byte, n int) int {
	if sh.overLimit(s, len(data)) {
		sh.stats.drop(DropSlowReader, n)
		return 0
	}
	sh.writeTo(s, sh.conn(s), data)
	return n
}
