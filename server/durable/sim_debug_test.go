package durable

import (
	"fmt"
	"os"
)

func (s *sim) debug(format string, args ...any) {
	if os.Getenv("SIMDEBUG") != "" {
		fmt.Printf("%d: %s\n", s.steps, fmt.Sprintf(format, args...))
	}
}

func (s *sim) debugState() {
	if os.Getenv("SIMDEBUG") != "2" {
		return
	}
	line := ""
	for _, l := range s.loops {
		line += fmt.Sprint(" ", l.wakes, "/", l.continues)
	}
	r := s.log.readers
	e, b := s.log.pending.depth()
	line += fmt.Sprint(" reads ", r.fast.n, "+", r.slow.n, " answers ", len(s.answers), " pending ", e, "/", b, " unsent ", s.courier.unsent, " rng ", s.rng.Uint32())
	for _, d := range s.devices {
		if c := d.conn; c != nil {
			line += fmt.Sprint(" ", len(c.wire), ",", len(c.in), ",", len(c.out), ",", len(c.pending))
		}
	}
	s.debug("%s", line)
}
