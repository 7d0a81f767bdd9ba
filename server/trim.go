package server

import (
	"runtime/debug"
	"time"

	"gannet/store"
)

// startTrimmer gives memory back to the system once after a burst: when logins and deliveries have come to rest for
// a few seconds, the heap still holds what the burst needed. At rest this costs one collection.
func (s *Server) startTrimmer() (stop func()) {
	debug.FreeOSMemory() // what parsing flags and starting needed
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		var last, trimmed uint64
		quiet := 0
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			st := s.node.Stats()
			work := st.Opened + st.FramesIn + st.Writes
			if work-last > uint64(st.Connections)/10+100 {
				quiet = 0
			} else {
				quiet++
			}
			last = work
			switch {
			case quiet == trimAfter-1 && work-trimmed > trimWork:
				s.node.Trim()
				s.restStore()
			case quiet == trimAfter && work-trimmed > trimWork:
				debug.FreeOSMemory()
				s.counters.trims.Add(1)
				trimmed = work
			}
		}
	}()
	return func() { close(done); <-ended }
}

// restStore lets the store have less in memory; one that cannot has nothing to give.
func (s *Server) restStore() {
	err := s.durableLog.WithStore(func(st store.Store) error {
		if r, ok := st.(interface{ Rest() error }); ok {
			return r.Rest()
		}
		return nil
	})
	if err != nil {
		s.log.Warn("the store was not written out at rest", "error", err)
	}
}

const (
	trimAfter = 5    // seconds of rest
	trimWork  = 1000 // events since the last time, below which it is not worth a collection
)
