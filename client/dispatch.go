package client

import "context"

// eventKind says which field of an event counts and which handler gets it.
type eventKind uint8

const (
	eventMessage eventKind = iota
	eventState
	eventGap
	eventConnect
	eventDisconnect
	eventRetry
	eventError
	eventStatus
	eventResume
	eventPosition // a position of the inbox: the handlers are done with all before it
	eventMark     // the same for a place in a channel
)

type event struct {
	kind    eventKind
	message Message
	mark    mark // of a durable message or a GAP: done with when the handler has returned
	gap     Gap
	state   *State
	welcome *Welcome
	retry   *Retry
	status  *Status
	resume  *Resume
	err     error
}

// post queues an event for the handlers and waits while the queue is full: that is the backpressure. It gives up
// when ctx ends, which only loses what a client that is going away would not have seen.
func (c *Client) post(ctx context.Context, ev event) {
	select {
	case c.events <- ev:
	case <-ctx.Done():
	}
}

// deliver is post for what must not be lost when a connection ends: the server would send it again, but the tracker knows it
// already. It gives up only when the client ends.
func (c *Client) deliver(ev event) { c.post(c.life, ev) }

// dispatch is the goroutine that calls the handlers. It ends when Run closes the queue; after the end of ctx
// only the state of the connection is still told.
func (c *Client) dispatch(ctx context.Context) {
	for ev := range c.events {
		if ctx.Err() == nil || ev.kind == eventDisconnect {
			c.call(ev)
		}
	}
}

func (c *Client) call(ev event) {
	o := &c.opt
	switch ev.kind {
	case eventMessage:
		if !ev.message.Echo || o.KeepEcho {
			call1(o.OnMessage, ev.message)
		}
	case eventState:
		call1(o.OnState, *ev.state)
	case eventGap:
		call1(o.OnGap, ev.gap)
	case eventConnect:
		call1(o.OnConnect, *ev.welcome)
	case eventDisconnect:
		call1(o.OnDisconnect, ev.err)
	case eventRetry:
		call1(o.OnRetry, *ev.retry)
	case eventError:
		call1(o.OnError, ev.err)
	case eventStatus:
		call1(o.OnStatus, *ev.status)
	case eventResume:
		call1(o.OnResume, *ev.resume)
	case eventPosition:
		c.track.reached(ev.mark.seq, ev.mark.epoch)
	}
	if ev.mark.place != nil {
		c.track.finished(ev.mark)
	}
}

func call1[T any](handler func(T), v T) {
	if handler != nil {
		handler(v)
	}
}
