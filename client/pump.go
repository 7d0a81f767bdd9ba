package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

// Pauses before a message that was refused for now is sent again; they double.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// pump sends what is in the outbox over cn, in order of nonce, and again what is refused for now. One a connection.
//
// After a refusal the server refuses everything that follows, until the refused message comes again. So the pump waits until nothing is on
// its way, pauses, and begins anew with the oldest message, alone: only when that is stored the others follow.
func (c *Client) pump(cn *conn) {
	q := &c.queue
	for failed := 0; ; failed++ {
		err := q.settle(cn.welcome.nonce, time.Now())
		if err == nil {
			break
		}
		if failed == 0 {
			c.post(cn.ctx, event{kind: eventError, err: fmt.Errorf("client: durable messages wait: %w", err)})
		}
		if !sleep(cn.ctx, maxPause) {
			return
		}
	}
	var above uint64 // all up to this ID is sent, in this round
	var refusals int // in a row
	alone := false
	for {
		flying, refused, passed := q.turn()
		if passed {
			alone, refusals = false, 0
		}
		switch {
		case refused != codec.CodeOK && flying == 0:
			pause := min(maxPause, firstPause<<min(refusals, 16))
			refusals++
			if !sleep(cn.ctx, c.opt.uniform(pause/2, pause)) {
				return
			}
			above, alone = 0, true
			q.again()
			continue
		case refused != codec.CodeOK, alone && flying > 0:
		default:
			if p := q.next(above); p != nil {
				if above = p.id; c.launch(cn, p) != nil {
					return
				}
				continue
			}
		}
		select {
		case <-q.wake:
		case <-cn.ctx.Done():
			return
		}
	}
}

// launch sends one message; an error means that the connection has ended.
func (c *Client) launch(cn *conn, p *parcel) error {
	if len(p.data)-codec.HeaderLen > cn.welcome.MaxFrame {
		c.queue.notSent()
		c.finish(cn, p, fate{err: &CodeError{Op: "send", Code: codec.CodeTooLarge, Text: "the server takes less than it did when this was kept"}})
		return nil
	}
	cl := &call{op: "send", slots: cn.window, ch: p.channel, took: func(a answer) { c.acknowledged(cn, p, a) }}
	c.track.sending(p.channel)
	err := cn.begin(cn.ctx, cl, func(req uint32) []byte { return p.frame(req) })
	if err != nil {
		c.queue.notSent()
	}
	return err
}

// frame is the SEND with req and nonce, the rest byte for byte as the first time.
func (p *parcel) frame(req uint32) []byte {
	b := append([]byte(nil), p.data...)
	at := codec.HeaderLen
	if b[3]&codec.FlagExt != 0 {
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	binary.BigEndian.PutUint32(b[at:], req)
	binary.BigEndian.PutUint64(b[at+4:], p.nonce)
	return b
}

// acknowledged takes the answer to a durable SEND. Called by the reader.
func (c *Client) acknowledged(cn *conn, p *parcel, a answer) {
	stored := a.code == codec.CodeOK || a.code == codec.CodeDuplicate
	over := c.queue.answered(a.code)
	own := uint64(0)
	if stored {
		own = a.seq
	}
	moved := c.track.sent(p.channel, own)
	switch {
	case !over:
		c.counts.retries.Add(1)
		c.log.Info("gannet: the server refuses a message for now", "id", p.id, "code", a.code)
	case stored:
		c.finish(cn, p, fate{res: SendResult{ID: p.id, Seq: a.seq, Time: time.UnixMilli(int64(a.time))}})
	default:
		c.finish(cn, p, fate{err: a.err("send")})
	}
	c.queue.notify()
	c.passOn(moved)
}

// finish takes a message out of the outbox and tells what became of it.
func (c *Client) finish(cn *conn, p *parcel, o fate) {
	if !c.queue.remove(p) {
		return
	}
	err := c.queue.store.Done(p.id)
	if was := c.queue.failing.Swap(err != nil); err != nil && !was {
		c.post(cn.ctx, event{kind: eventError, err: fmt.Errorf("client: messages from %d on will be sent again after a restart: %w", p.id, err)})
	}
	if p.waiter != nil {
		p.waiter <- o
	}
	s := &Status{State: Sent, ID: p.id, Channel: p.channel, Seq: o.res.Seq, Time: o.res.Time}
	if o.err != nil {
		s.State, s.Err = Failed, o.err
	}
	if c.opt.OnStatus != nil {
		c.deliver(event{kind: eventStatus, status: s})
	}
}

// submit puts a durable message into the outbox. Without a waiter it does not wait for room there.
func (c *Client) submit(ctx context.Context, m Message, waiter chan fate) (*parcel, error) {
	m.Durable = true
	s, err := sendFrame(m, c.opt.Origin)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	closed, cn := c.closed, c.current
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	limit := codec.MaxBody
	if cn != nil {
		limit = cn.welcome.MaxFrame
	}
	if err := checkSend(s, limit); err != nil {
		return nil, err
	}
	p, err := c.queue.add(ctx, m.Channel, codec.AppendSend(nil, s), waiter)
	var refused *CodeError
	if err != nil && !errors.Is(err, ErrBusy) && !errors.As(err, &refused) {
		err = fmt.Errorf("client: send: %w", err)
	}
	return p, err
}

// Post puts m into the outbox, as a durable message, and returns its ID, which is at least 1. It does not wait for the server: what
// becomes of the message goes to OnStatus. It does not need a connection; ErrBusy means that the outbox is full. With a FileOutbox
// it returns when the message is on disk.
func (c *Client) Post(m Message) (id uint64, err error) {
	p, err := c.submit(context.Background(), m, nil)
	if err != nil {
		return 0, err
	}
	return p.id, nil
}

// sendDurable is Send of a durable message.
func (c *Client) sendDurable(ctx context.Context, m Message) (SendResult, error) {
	waiter := make(chan fate, 1)
	p, err := c.submit(ctx, m, waiter)
	if err != nil {
		return SendResult{}, err
	}
	select {
	case o := <-waiter:
		return o.res, o.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.ended:
		err = ErrClosed
	}
	select { // the answer may have come last
	case o := <-waiter:
		return o.res, o.err
	default:
		return SendResult{ID: p.id}, fmt.Errorf("client: send: no answer yet, the message stays in the outbox: %w", err)
	}
}

// Pending is a durable message that the server has not answered.
type Pending struct {
	ID      uint64
	Message Message
}

// Pending returns what is in the outbox, oldest first: after a start with an Outbox that was used before, what is still to be sent.
func (c *Client) Pending() []Pending {
	c.queue.mu.Lock()
	list := make([]*parcel, 0, c.queue.n)
	for _, p := range c.queue.list {
		if !p.done {
			list = append(list, p)
		}
	}
	c.queue.mu.Unlock()
	out := make([]Pending, 0, len(list))
	for _, p := range list {
		if s, err := readParcel(p.data); err == nil { // it was read before
			out = append(out, Pending{p.id, readSend(s)})
		}
	}
	return out
}
