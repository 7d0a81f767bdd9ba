package durable

import "time"

func (s *sim) someone() *simDevice { return s.devices[s.rng.IntN(len(s.devices))] }

// step does one thing, drawn by how often it happens in a thousand; false when there was nothing of that kind to do.
func (s *sim) step() bool {
	d := s.someone()
	switch n := s.rng.IntN(1000); {
	case n < 300:
		return s.turnLoop()
	case n < 400:
		return s.commit()
	case n < 500:
		return s.serveReads()
	case n < 600:
		return s.bringAnswers()
	case n < 640:
		if !s.courier.unsent {
			return false
		}
		s.courier.send()
	case n < 740:
		if d.conn == nil || len(d.conn.wire) == 0 || d.conn.closed {
			return false
		}
		d.conn.arrive(1 + s.rng.IntN(len(d.conn.wire)))
	case n < 880:
		if d.conn == nil || d.stalled > s.steps {
			return false
		}
		d.read()
		d.post()
	case n < 925:
		if len(d.outbox) > 30 {
			return false
		}
		d.compose()
		d.post()
	case n < 930:
		d.whisper()
	case n < 940:
		d.acknowledge()
	case n < 950:
		d.saved = d.now.clone()
	case n < 960:
		return s.pass()
	default:
		return s.upset(d)
	}
	return true
}

// upset does what happens seldom.
func (s *sim) upset(d *simDevice) bool {
	switch n := s.rng.IntN(700); {
	case n < 100:
		if d.conn != nil {
			return false
		}
		d.connect()
	case n < 110:
		d.drop()
	case n < 118:
		if d.conn != nil {
			d.connect()
		}
	case n < 140:
		d.stalled = s.steps + s.rng.IntN(3000)
	case n < 155:
		d.browse()
	case n < 160:
		d.turnAway()
	case n < 175:
		return s.change()
	case n < 178:
		if s.rng.IntN(3) > 0 {
			return false
		}
		s.disk.failing = []diskFailure{failsBefore, failsAfter}[s.rng.IntN(2)]
		s.failures++
	case n < 182:
		s.disk.unread = s.log.failed.Load() == nil
	case n < 220:
		s.disk.unread = false
		return s.mend()
	case n < 260:
		s.log.marks.look()
		if n < 245 {
			s.log.marks.flush(false)
		}
	case n < 263:
		s.clock.wall += int64([]time.Duration{time.Hour, -time.Hour}[s.rng.IntN(2)].Milliseconds())
	case n < 266:
		s.node.Kick(d.user, "", "")
	case n == 266:
		if s.rng.IntN(5) > 0 {
			return false
		}
		s.restart()
	case n < 270:
		for range 200 {
			s.pass()
		}
	default:
		return false
	}
	return true
}

func (s *sim) run(steps int) {
	for s.steps < steps {
		if s.step() {
			s.steps++
		}
	}
}
