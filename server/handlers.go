package server

import (
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"gannet/codec"
	"gannet/shard"
)

// Session is a session as handlers see it.
type Session struct {
	ID     uint64
	User   string
	Device string
	Class  uint8
}

// Message is a message as handlers see it. Its slices are shared: they must not be changed.
type Message struct {
	From    Session
	Kind    codec.Kind
	Name    string // the pair for direct messages
	Flags   uint8
	Time    uint64 // Unix milliseconds
	Content uint8
	Ext     codec.TLVs
	Payload []byte
}

// Handlers tell an embedding program what happens. They run off the loops, one at a time and in order for each
// user, several users side by side. When they are too slow for what comes, events are dropped and counted
// (gannet_handler_dropped_total); connections do not wait for them. Nil handlers cost nothing.
type Handlers struct {
	Online  func(Session)
	Offline func(Session, codec.Code) // CodeOK: the client left by itself
	Message func(Message)             // SENDs that were accepted for delivery
}

func (h *Handlers) events() (k shard.EventKind) {
	if h.Online != nil {
		k |= shard.EventOnline
	}
	if h.Offline != nil {
		k |= shard.EventOffline
	}
	if h.Message != nil {
		k |= shard.EventMessage
	}
	return k
}

const laneCount = 8

// lanes run the handlers: a user's events always take the same lane, so they stay in order.
type lanes struct {
	h        Handlers
	panicked func(p any, stack []byte)
	seed     maphash.Seed
	queues   [laneCount]chan shard.Event
	wg       sync.WaitGroup
	done     chan struct{}
	dropped  atomic.Uint64
}

func newLanes(h Handlers, queue int, panicked func(p any, stack []byte)) *lanes {
	l := &lanes{h: h, panicked: panicked, seed: maphash.MakeSeed(), done: make(chan struct{})}
	for i := range l.queues {
		l.queues[i] = make(chan shard.Event, max(1, queue/laneCount))
	}
	return l
}

func (l *lanes) start() {
	for _, q := range l.queues {
		l.wg.Go(func() { l.run(q) })
	}
}

// Event is shard.Host's.
func (s *Server) Event(e shard.Event) {
	l := s.lanes
	select {
	case l.queues[maphash.String(l.seed, e.User)%laneCount] <- e:
	default:
		l.dropped.Add(1)
	}
}

// run calls handlers until stop, then for what still waits.
func (l *lanes) run(queue chan shard.Event) {
	for {
		select {
		case e := <-queue:
			l.call(e)
		case <-l.done:
			for {
				select {
				case e := <-queue:
					l.call(e)
				default:
					return
				}
			}
		}
	}
}

// call runs a handler. What clients send may make it panic; that costs the event, not the process.
func (l *lanes) call(e shard.Event) {
	defer func() {
		if p := recover(); p != nil {
			l.panicked(p, debug.Stack())
		}
	}()
	who := Session{ID: e.Session, User: e.User, Device: e.Device, Class: e.Class}
	switch e.Kind {
	case shard.EventOnline:
		l.h.Online(who)
	case shard.EventOffline:
		l.h.Offline(who, e.Code)
	case shard.EventMessage:
		f, _, err := codec.ConsumeFrame(e.Frame, codec.MaxBody)
		if err != nil {
			return
		}
		m, err := codec.ConsumeMsg(f)
		if err != nil {
			return
		}
		l.h.Message(Message{
			From: who, Kind: m.Kind, Name: string(m.Name), Flags: m.Flags, Time: m.Time,
			Content: m.Content, Ext: m.Ext, Payload: m.Payload,
		})
	}
}

func (l *lanes) stop() {
	close(l.done)
	l.wg.Wait()
}
