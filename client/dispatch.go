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
)

type event struct {
	kind    eventKind
	message Message
	state   State
	gap     Gap
	welcome Welcome
	retry   Retry
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
		call1(o.OnMessage, ev.message)
	case eventState:
		call1(o.OnState, ev.state)
	case eventGap:
		call1(o.OnGap, ev.gap)
	case eventConnect:
		call1(o.OnConnect, ev.welcome)
	case eventDisconnect:
		call1(o.OnDisconnect, ev.err)
	case eventRetry:
		call1(o.OnRetry, ev.retry)
	case eventError:
		call1(o.OnError, ev.err)
	}
}

func call1[T any](handler func(T), v T) {
	if handler != nil {
		handler(v)
	}
}
