package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"gannet/codec"
)

// maxSubscriptions bounds what a client remembers.
const maxSubscriptions = 1 << 16

// subscription is a wish; version tells it from an earlier one for the same topic.
type subscription struct {
	topic   string
	tags    []string
	version uint64
}

// subscriptions is what the application wants to be subscribed to, whatever the connection does.
type subscriptions struct {
	mu      sync.Mutex
	wanted  map[string]subscription // guarded by mu
	version uint64                  // guarded by mu
}

func (s *subscriptions) add(topic string, tags []string) (subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.wanted[topic]; !ok && len(s.wanted) >= maxSubscriptions {
		return subscription{}, &CodeError{Op: "subscribe", Code: codec.CodeRateLimited, Text: "the client remembers no more subscriptions"}
	}
	if s.wanted == nil {
		s.wanted = make(map[string]subscription)
	}
	s.version++
	sub := subscription{topic: topic, tags: slices.Clone(tags), version: s.version}
	s.wanted[topic] = sub
	return sub, nil
}

// drop forgets topic whatever its version; forget only when nobody has asked for it again since.
func (s *subscriptions) drop(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wanted, topic)
}

func (s *subscriptions) forget(sub subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[sub.topic].version == sub.version {
		delete(s.wanted, sub.topic)
	}
}

// holds says whether sub is still what the application wants.
func (s *subscriptions) holds(sub subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted[sub.topic].version == sub.version && sub.version != 0
}

func (s *subscriptions) wants(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.wanted[topic]
	return ok
}

// all returns the wishes, sorted by topic.
func (s *subscriptions) all() []subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]subscription, 0, len(s.wanted))
	for _, sub := range s.wanted {
		list = append(list, sub)
	}
	slices.SortFunc(list, func(a, b subscription) int { return strings.Compare(a.topic, b.topic) })
	return list
}

// inHello puts as many wishes without a filter into h as LoginLimit allows, each with its position, and returns these, in
// the order of h.Positions.
func (s *subscriptions) inHello(h *codec.Hello, at *tracker) []subscription {
	room := codec.LoginLimit - (len(codec.AppendHello(nil, *h)) - codec.HeaderLen)
	var told []subscription
	for _, sub := range s.all() {
		if len(sub.tags) > 0 || positionLen(sub.topic) > room {
			continue
		}
		room -= positionLen(sub.topic)
		epoch, seq := at.from(sub.topic)
		h.Positions.Append(codec.Position{Kind: codec.KindTopic, Name: []byte(sub.topic), Epoch: epoch, Seq: seq})
		told = append(told, sub)
	}
	return told
}

// beyondHello is what a new connection still has to ask for: wishes that HELLO did not carry, and topics in it that
// nobody wants any more.
func (s *subscriptions) beyondHello(told []subscription) (subs []subscription, unsubs []string) {
	known := make(map[string]uint64, len(told))
	for _, sub := range told {
		known[sub.topic] = sub.version
		if !s.wants(sub.topic) {
			unsubs = append(unsubs, sub.topic)
		}
	}
	for _, sub := range s.all() {
		if known[sub.topic] != sub.version {
			subs = append(subs, sub)
		}
	}
	return subs, unsubs
}

// Subscribe notes that topic is wanted, filtered to messages that carry one of tags if there are any, and replaces what
// was noted for it before. With a connection it waits for the server's answer: a refusal is a *CodeError and the
// subscription is forgotten. Without one, or when it ends meanwhile, it returns nil: the wish goes out at the
// next login, and a refusal then goes to OnError as a *SubscriptionError. When ctx ends the wish stays.
func (c *Client) Subscribe(ctx context.Context, topic string, tags ...string) error {
	if err := Topic(topic).check("subscribe"); err != nil {
		return err
	}
	if _, err := appendTags(nil, "subscribe", tags); err != nil {
		return err
	}
	sub, err := c.subs.add(topic, tags)
	if err != nil {
		return err
	}
	cn, err := c.connection()
	if errors.Is(err, ErrNotConnected) {
		return nil
	}
	if err != nil {
		return err
	}
	err = c.subscribe(ctx, cn, sub)
	var refused *CodeError
	switch {
	case errors.As(err, &refused):
		c.subs.forget(sub)
	case errors.Is(err, ErrNotConnected):
		return nil
	}
	return err
}

// Unsubscribe forgets topic and, with a connection, waits for the server's answer.
func (c *Client) Unsubscribe(ctx context.Context, topic string) error {
	if err := Topic(topic).check("unsubscribe"); err != nil {
		return err
	}
	c.subs.drop(topic)
	c.track.drop(topic)
	cn, err := c.connection()
	if err == nil {
		err = cn.unsubscribe(ctx, topic)
	}
	if errors.Is(err, ErrNotConnected) {
		return nil
	}
	return err
}

// startSub asks for a topic, from its position if there is one.
func (c *Client) startSub(ctx context.Context, cn *conn, sub subscription) (*call, error) {
	ext, err := appendTags(nil, "subscribe", sub.tags)
	if err != nil {
		return nil, err
	}
	cl := &call{op: "subscribe", slots: cn.reads, took: func(a answer) {
		if a.code == codec.CodeOK {
			c.subscribed(sub, a.state)
		}
	}}
	return cl, cn.begin(ctx, cl, func(req uint32) []byte {
		m := codec.Sub{Ext: ext, Req: req, Mode: codec.SubFromNow, Kind: codec.KindTopic, Name: []byte(sub.topic)}
		if m.Epoch, m.Seq = c.track.from(sub.topic); m.Epoch != 0 {
			m.Mode = codec.SubFromPosition
		}
		return codec.AppendSub(nil, m)
	})
}

// subscribed takes what the server said about a topic.
func (c *Client) subscribed(sub subscription, s codec.State) {
	state := ResumeState(s.State)
	if m, ok := c.track.subscribed(sub.topic, len(sub.tags) > 0, state, s.Epoch, s.Head); ok {
		c.deliver(event{kind: eventMark, mark: m})
	}
	c.tellResume(Resume{Topic(sub.topic), state, s.Head})
}

func (c *Client) tellResume(r Resume) {
	if r.State != Live && c.opt.OnResume != nil {
		c.deliver(event{kind: eventResume, resume: &r})
	}
}

func (c *Client) subscribe(ctx context.Context, cn *conn, sub subscription) error {
	cl, err := c.startSub(ctx, cn, sub)
	if err != nil {
		return err
	}
	_, err = cn.wait(ctx, cl)
	return err
}

func (cn *conn) unsubscribe(ctx context.Context, topic string) error {
	cl, err := cn.start(ctx, "unsubscribe", cn.others, func(req uint32) []byte {
		return codec.AppendUnsub(nil, codec.Unsub{Req: req, Kind: codec.KindTopic, Name: []byte(topic)})
	})
	if err != nil {
		return err
	}
	_, err = cn.wait(ctx, cl)
	return err
}

// renewOffLoop asks for what HELLO could not carry. The requests are pipelined; those the server refuses for now are
// asked again after a pause, those it refuses for good are forgotten and reported.
func (c *Client) renewOffLoop(cn *conn, subs []subscription, unsubs []string) {
	for _, topic := range unsubs {
		if !c.subs.wants(topic) && cn.unsubscribe(cn.ctx, topic) != nil && cn.ctx.Err() != nil {
			return
		}
	}
	for n := 0; len(subs) > 0; n++ {
		subs = c.renewOnce(cn, subs)
		if len(subs) == 0 {
			return
		}
		pause := time.NewTimer(c.opt.uniform(0, min(maxBackoff, time.Second<<min(n, 6))))
		select {
		case <-pause.C:
		case <-cn.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// renewOnce returns the subscriptions to ask for again.
func (c *Client) renewOnce(cn *conn, subs []subscription) (again []subscription) {
	calls := make([]*call, len(subs))
	for i, sub := range subs {
		if c.subs.holds(sub) {
			if cl, err := c.startSub(cn.ctx, cn, sub); err == nil {
				calls[i] = cl
			}
		}
	}
	for i, sub := range subs {
		if calls[i] == nil {
			continue
		}
		_, err := cn.wait(cn.ctx, calls[i])
		var refused *CodeError
		switch {
		case err == nil:
			if !c.subs.wants(sub.topic) { // given up while the answer was under way
				_ = cn.unsubscribe(cn.ctx, sub.topic)
			}
		case !errors.As(err, &refused): // the connection has ended
		case refused.Temporary():
			again = append(again, sub)
		default:
			c.lost(cn, sub, refused)
		}
	}
	return again
}

// resumed takes what WELCOME says about the positions of HELLO, before anything else comes.
func (c *Client) resumed(cn *conn) {
	c.tellResume(Resume{State: cn.welcome.Inbox, Head: cn.welcome.InboxHead})
	for i, s := range cn.states {
		switch {
		case i < len(cn.told) && s.State == codec.StateRefused:
			c.lost(cn, cn.told[i], &CodeError{Op: "subscribe", Code: codec.CodeForbidden})
		case i < len(cn.told):
			c.subscribed(cn.told[i], s)
		case i < len(cn.told)+len(cn.logs):
			c.tellResume(Resume{cn.logs[i-len(cn.told)], ResumeState(s.State), s.Head})
		}
	}
}

func (c *Client) lost(cn *conn, sub subscription, err error) {
	c.subs.forget(sub)
	c.post(cn.ctx, event{kind: eventError, err: &SubscriptionError{Topic: sub.topic, Err: err}})
}
