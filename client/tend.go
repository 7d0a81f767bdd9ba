package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

const (
	ackEvery  = 200 * time.Millisecond // at most one flush of ACKs in this time
	saveEvery = 500 * time.Millisecond // at most one Save
)

// MarkRead tells that this user has read a channel up to seq: the sender sees it when it wanted receipts, the user's other devices and
// List show fewer unread messages. It is told soon, or on the next connection; read positions never go back.
func (c *Client) MarkRead(ch Channel, seq uint64) error {
	if err := ch.check("mark read"); err != nil {
		return err
	}
	if seq > 0 {
		c.track.read(ch, seq)
	}
	return nil
}

// tend acknowledges what the handlers are done with and sees that holes are filled. One a connection.
func (c *Client) tend(cn *conn) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Time{}
	waiting := true // the timer runs
	for {
		select {
		case <-cn.ctx.Done():
			return
		case <-timer.C:
			waiting = false
		case <-c.track.pulse:
		}
		if c.track.startMending() {
			cn.wg.Go(func() { c.mend(cn) })
		}
		if waiting {
			continue
		}
		if left := ackEvery - time.Since(last); left > 0 {
			timer.Reset(left)
			waiting = true
			continue
		}
		if c.flushAcks(cn.ctx, cn) {
			last = time.Now()
		}
	}
}

// startSaving has positions saved, if they are to be, until the returned function is called.
func (c *Client) startSaving() (stop func()) {
	if c.opt.Positions == nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		c.savePositions(over)
	}()
	return func() {
		close(over)
		<-ended
	}
}

// lastAcks acknowledges what it can before the connection is left.
func (c *Client) lastAcks(cn *conn) {
	ctx, cancel := context.WithTimeout(cn.ctx, linger)
	defer cancel()
	c.flushAcks(ctx, cn)
}

// flushAcks sends the ACKs that are due; sent is false when there were none, or ctx or the connection has ended.
func (c *Client) flushAcks(ctx context.Context, cn *conn) (sent bool) {
	for _, f := range c.track.acks(cn.welcome.User, cn.welcome.MaxFrame, time.Now()) {
		sent = cn.enqueue(ctx, f) == nil
	}
	return sent
}

// mend pulls what is missing, one channel after the other, until there is nothing.
func (c *Client) mend(cn *conn) {
	for failed := 0; ; {
		p, from, n := c.track.toMend()
		if p == nil {
			return
		}
		cl := &call{op: "pull", slots: cn.reads, ch: p.ch, limit: n, mends: p}
		cl.took = func(a answer) { c.mended(cl, a.code) }
		if err := cn.begin(cn.ctx, cl, func(req uint32) []byte { return cn.pullFrame(cl, req, from) }); err != nil {
			return
		}
		c.counts.pulls.Add(1)
		a, err := cn.wait(cn.ctx, cl)
		var refused *CodeError
		switch {
		case a.code.Temporary():
			pause := min(maxPause, firstPause<<min(failed, 16))
			failed++
			if !sleep(cn.ctx, c.opt.uniform(pause/2, pause)) {
				return
			}
		case err != nil && !errors.As(err, &refused):
			return
		default:
			failed = 0
		}
	}
}

// savePositions saves positions when they have moved, until stop is closed.
func (c *Client) savePositions(stop <-chan struct{}) {
	for {
		select {
		case <-c.track.save:
		case <-stop:
			return
		}
		if err := c.saveOnce(); err != nil {
			c.deliver(event{kind: eventError, err: err})
		}
		wait(stop, saveEvery)
	}
}

func (c *Client) saveOnce() error {
	p, ok := c.track.checkpoint()
	if !ok {
		return nil
	}
	if err := c.opt.Positions.Save(p); err != nil {
		c.track.unsaved()
		c.log.Warn("gannet: positions are not saved", "err", err)
		return fmt.Errorf("client: positions are not saved: %w", err)
	}
	return nil
}

// arrive hands on a message with a seq, or a GAP, when it has its turn, and what waited for it. Called by the reader.
func (c *Client) arrive(ch Channel, log bool, it *item) {
	p, v, skipped := c.track.arrived(ch, log, it)
	if skipped != nil {
		c.deliver(*skipped)
	}
	switch v {
	case drop:
		if !it.ev.message.Echo {
			c.counts.duplicates.Add(1)
		}
		return
	case hold:
		c.counts.holes.Add(1)
	case pass:
		c.deliver(it.ev)
	}
	c.passOn(p)
}

// passOn hands on what has its turn in a place, and a position of the inbox that waited for it.
func (c *Client) passOn(p *place) {
	if p == nil {
		return
	}
	for {
		ev, ok := c.track.next(p)
		if !ok {
			break
		}
		c.deliver(ev)
	}
	if pos, epoch := c.track.filled(); pos != 0 {
		c.deliver(event{kind: eventPosition, mark: mark{seq: pos, epoch: epoch}})
	}
}

// gapped takes a GAP. Called by the reader.
func (c *Client) gapped(g Gap) {
	c.counts.gaps.Add(1)
	ev := event{kind: eventGap, gap: g}
	if !g.Channel.Kind.Valid() || g.From == 0 || g.From > g.To {
		c.deliver(ev)
		return
	}
	if g.Reason == codec.GapNotSent {
		if p, skipped := c.track.missing(g.Channel, seqRange{g.From, g.To}); p != nil {
			if skipped != nil {
				c.deliver(*skipped)
			}
			c.passOn(p)
			return
		}
	}
	c.arrive(g.Channel, false, &item{seqRange{g.From, g.To}, ev})
}

// mended ends the PULL of a hole. Called by the reader.
func (c *Client) mended(cl *call, code codec.Code) {
	if code == codec.CodeOK {
		c.leftOut(cl, max(cl.next, 1)-1)
	}
	if gap := c.track.mended(cl.mends, code); gap != nil {
		c.deliver(*gap)
	}
	c.passOn(cl.mends)
}
