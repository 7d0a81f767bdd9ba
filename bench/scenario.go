package bench

import "gannet/codec"

// scenario says what the connections of a run do, by their indices 0 … total-1. It is static after construction; all
// loops use it at the same time.
type scenario interface {
	total() int                                 // connections
	loops(asked int) int                        // loops to run them on
	home(i, loops int) int                      // the loop of connection i
	measuresPings() bool                        // PINGs count from the first on, not only while messages are counted
	primary() quantity                          // what the scenario is about, once connections are up
	subscription(i uint32) (codec.Kind, []byte) // what i subscribes to; an empty name: nothing

	sends(i uint32) bool
	receives(i uint32) bool
	groups() int                                       // sets of receivers
	group(i uint32) int                                // the one that i is in, or sends to
	fan(l *loop, c *conn) int64                        // how many receive a message of c
	target(i uint32, name []byte) (codec.Kind, []byte) // where i sends; appended to name

	stream(i uint32) uint32                            // the number of i's stream
	streams() int                                      // streams that one receiver takes, at most
	track(i, stream uint32) (track int, ok bool)       // which of them this is at receiver i; false: none of this run
	source(i uint32, track int) (from uint32, ok bool) // the sender of a track of receiver i; false: there is none
}

func newScenario(o *Options) scenario {
	switch o.Scenario {
	case ScenarioP2P:
		return pairs{o}
	case ScenarioBroadcast:
		return newBroadcast(o)
	}
	return newHold(o)
}
