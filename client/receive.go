package client

import (
	"fmt"
	"time"

	"gannet/codec"
)

// maxEarly is how many GAPs may come before the RANGE they belong to.
const maxEarly = 256

// handleEvent takes what comes unasked.
func (c *Client) handleEvent(cn *conn, f codec.Frame) error {
	self := cn.welcome.User
	switch f.Type {
	case codec.TypeMsg:
		m, err := codec.ConsumeMsg(f)
		if err == nil {
			c.message(cn, m)
		}
		return err
	case codec.TypeState:
		s, err := codec.ConsumeState(f)
		if err == nil {
			c.post(cn.ctx, event{kind: eventState, state: &State{
				Channel: channelOf(s.Kind, s.Name, self), Key: string(s.Key), User: string(s.User),
				TTL: time.Duration(s.TTL) * time.Second, Payload: append([]byte(nil), s.Payload...),
			}})
		}
		return err
	case codec.TypePos:
		p, err := codec.ConsumePos(f)
		if err != nil {
			return err
		}
		if pos, epoch := c.track.position(p.InboxPos); pos != 0 {
			c.deliver(event{kind: eventPosition, mark: mark{seq: pos, epoch: epoch}})
		}
		return nil
	case codec.TypeReceipt:
		r, err := codec.ConsumeReceipt(f)
		if err == nil && c.opt.OnStatus != nil {
			s := readReceipt(r, self)
			c.deliver(event{kind: eventStatus, status: &s})
		}
		return err
	}
	g, err := codec.ConsumeGap(f)
	if err != nil {
		return err
	}
	gap := Gap{Channel: channelOf(g.Kind, g.Name, self), From: g.From, To: g.To, Reason: g.Reason}
	if len(cn.early) < maxEarly && cn.pulls(gap.Channel) {
		cn.early = append(cn.early, gap)
		return nil
	}
	c.gapped(gap)
	return nil
}

// message takes a MSG: one of a PULL, an ephemeral one, or one that has its place in a channel.
func (c *Client) message(cn *conn, m codec.Msg) {
	out := readMessage(m, cn.welcome.User, c.opt.Origin)
	ev := event{kind: eventMessage, message: out}
	log := m.Flags&codec.MsgLog != 0
	switch cl := cn.ranging; {
	case cl != nil && cl.ch == out.Channel:
		if cl.mends != nil {
			c.leftOut(cl, out.Seq-1)
			c.arrive(out.Channel, log, &item{seqRange{out.Seq, out.Seq}, ev})
		} else {
			out.Epoch = cl.history.Epoch
			cl.history.Messages = append(cl.history.Messages, out)
		}
		if cn.left--; cn.left == 0 {
			c.ranged(cn, codec.CodeOK)
		}
	case out.Seq != 0:
		c.arrive(out.Channel, log, &item{seqRange{out.Seq, out.Seq}, ev})
	case c.opt.OnMessage != nil && (!out.Echo || c.opt.KeepEcho):
		c.post(cn.ctx, ev)
	}
}

// pulls says whether a PULL of this channel is unanswered.
func (cn *conn) pulls(ch Channel) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for _, cl := range cn.pending {
		if cl.ch == ch && (cl.history != nil || cl.mends != nil) {
			return true
		}
	}
	return false
}

// earlyGaps takes GAPs that belonged to no PULL.
func (c *Client) earlyGaps(cn *conn) {
	early := cn.early
	cn.early = nil
	for _, g := range early {
		c.gapped(g)
	}
}

// handleHistory takes RANGE and LISTED.
func (c *Client) handleHistory(cn *conn, f codec.Frame) error {
	if f.Type == codec.TypeListed {
		l, err := codec.ConsumeListed(f)
		if err != nil {
			return err
		}
		if cl := cn.unanswered(l.Req); cl != nil {
			if cl.listed != nil {
				*cl.listed = readConversations(l, cn.welcome.User)
			}
			cl.end(answer{code: l.Code})
		}
		return nil
	}
	r, err := codec.ConsumeRange(f)
	if err != nil {
		return err
	}
	cl := cn.unanswered(r.Req)
	if cl == nil || cl.history == nil && cl.mends == nil {
		return fmt.Errorf("%w: RANGE that answers no PULL", codec.ErrMalformed)
	}
	if int(r.Count) > cl.limit {
		return fmt.Errorf("%w: RANGE of %d messages, %d were asked for", codec.ErrMalformed, r.Count, cl.limit)
	}
	cn.ranging, cn.left = cl, int(r.Count)
	cl.next = r.Next
	for _, g := range cn.early {
		switch {
		case g.Channel != cl.ch:
			c.gapped(g)
		case cl.history != nil:
			cl.history.Gaps = append(cl.history.Gaps, g)
		default:
			cl.gaps = append(cl.gaps, g)
		}
	}
	cn.early = nil
	if cl.history != nil {
		cl.history.Next, cl.history.Epoch = r.Next, r.Epoch
	}
	if r.Count == 0 || r.Code != codec.CodeOK {
		c.ranged(cn, r.Code)
	}
	return nil
}

// ranged ends the PULL whose messages have come.
func (c *Client) ranged(cn *conn, code codec.Code) {
	cl := cn.ranging
	cn.ranging = nil
	cl.end(answer{code: code})
}

// leftOut tells what a PULL that fills a hole does not bring, up to a seq: as its GAPs say, or as it shows.
func (c *Client) leftOut(cl *call, to uint64) {
	for len(cl.gaps) > 0 && cl.gaps[0].From <= to {
		g := cl.gaps[0]
		cl.gaps = cl.gaps[1:]
		c.gapped(g)
	}
	if ev := c.track.giveUp(cl.mends, to); ev != nil {
		c.deliver(*ev)
	}
}
