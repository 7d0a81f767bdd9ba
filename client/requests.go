package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"gannet/codec"
)

// answer is what SENDACK, SUBACK and ERR have in common.
type answer struct {
	code codec.Code
	seq  uint64
	time uint64 // Unix milliseconds
	text string

	state codec.State // of a SUBACK
}

func (a answer) err(op string) error {
	if a.code == codec.CodeOK {
		return nil
	}
	return &CodeError{Op: op, Code: a.code, Text: a.text}
}

// call is a request that has not been answered. Its slot is held until the answer comes, also when nobody
// waits any more: the server counts it so, too.
type call struct {
	op       string
	slots    chan struct{}
	answered chan answer // one place

	// What the reader does with the answer before anything that follows it on the wire; the fields that are not needed are zero.
	took    func(answer)
	ch      Channel        // of a PULL
	limit   int            // of a PULL
	history *History       // of a PULL: filled by the reader until it is answered
	mends   *place         // of a PULL that fills a hole
	next    uint64         // of a PULL: from its RANGE
	gaps    []Gap          // of a PULL that fills a hole: ascending, what its RANGE leaves out and is not told yet
	listed  *Conversations // of a LIST: filled by the reader
}

// connection returns the welcomed connection.
func (c *Client) connection() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case c.current == nil || c.current.ctx.Err() != nil: // it has ended just now
		return nil, ErrNotConnected
	}
	return c.current, nil
}

// start begins a request that needs nothing but its answer.
func (cn *conn) start(ctx context.Context, op string, slots chan struct{}, encode func(req uint32) []byte) (*call, error) {
	cl := &call{op: op, slots: slots}
	return cl, cn.begin(ctx, cl, encode)
}

// begin takes a slot, numbers a request and queues it. It blocks while there is no slot or no room.
func (cn *conn) begin(ctx context.Context, cl *call, encode func(req uint32) []byte) error {
	select {
	case cl.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("client: %s: too many requests are unanswered: %w", cl.op, ctx.Err())
	case <-cn.ctx.Done():
		return ErrNotConnected
	}
	cl.answered = make(chan answer, 1)
	req := cn.register(cl)
	if err := cn.enqueue(ctx, encode(req)); err != nil {
		cn.mu.Lock()
		delete(cn.pending, req)
		cn.mu.Unlock()
		<-cl.slots
		return fmt.Errorf("client: %s: %w", cl.op, err)
	}
	return nil
}

func (cn *conn) register(cl *call) (req uint32) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for {
		cn.req++
		if _, taken := cn.pending[cn.req]; !taken && cn.req != 0 {
			cn.pending[cn.req] = cl
			return cn.req
		}
	}
}

// enqueue hands a frame to the writer; it blocks while the queue is full.
func (cn *conn) enqueue(ctx context.Context, frame []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case cn.out <- frame:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the outgoing queue is full: %w", ctx.Err())
	case <-cn.ctx.Done():
		return ErrNotConnected
	}
}

// answered hands an answer to whoever waits. Called by the reader; an unknown req is nobody's business any more.
func (cn *conn) answered(req uint32, a answer) {
	if cl := cn.unanswered(req); cl != nil {
		cl.end(a)
	}
}

// unanswered takes a request out.
func (cn *conn) unanswered(req uint32) *call {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cl := cn.pending[req]
	delete(cn.pending, req)
	return cl
}

func (cl *call) end(a answer) {
	<-cl.slots
	if cl.took != nil {
		cl.took(a)
	}
	cl.answered <- a
}

func (cn *conn) wait(ctx context.Context, cl *call) (answer, error) {
	select {
	case a := <-cl.answered:
		return a, a.err(cl.op)
	case <-ctx.Done():
		return answer{}, fmt.Errorf("client: %s: no answer yet: %w", cl.op, ctx.Err())
	case <-cn.ctx.Done():
	}
	select { // the answer may have come last
	case a := <-cl.answered:
		return a, a.err(cl.op)
	default:
		return answer{}, fmt.Errorf("client: %s: %w", cl.op, ErrLost)
	}
}

// SendResult is what the server said to a message that it took.
type SendResult struct {
	ID   uint64    // of a durable message, as in Status
	Seq  uint64    // 0 for an ephemeral message, and for a durable one that was stored so long ago that its number is no longer known
	Time time.Time // the message's time, from the server's clock
}

// Send sends m and waits for the server's answer. A refusal is a *CodeError.
//
// An ephemeral message blocks while `window` sends are unanswered or the outgoing queue is full, until ctx ends.
// ErrNotConnected means that nothing was sent; after ErrLost, and after the end of ctx, the message may have been delivered.
//
// A durable one goes through the outbox: with or without a connection, as often as it takes, in the order of the calls. It is
// stored when Send returns nil; a refusal is one for good. When ctx ends first the message stays in the outbox and is still sent.
func (c *Client) Send(ctx context.Context, m Message) (SendResult, error) {
	if m.Durable {
		return c.sendDurable(ctx, m)
	}
	s, err := sendFrame(m, c.opt.Origin)
	if err != nil {
		return SendResult{}, err
	}
	cn, err := c.connection()
	if err != nil {
		return SendResult{}, err
	}
	if err := cn.checkSend(s); err != nil {
		return SendResult{}, err
	}
	cl, err := cn.start(ctx, "send", cn.window, func(req uint32) []byte {
		s.Req = req
		return codec.AppendSend(nil, s)
	})
	if err != nil {
		return SendResult{}, err
	}
	a, err := cn.wait(ctx, cl)
	if err != nil {
		return SendResult{}, err
	}
	return SendResult{Seq: a.seq, Time: time.UnixMilli(int64(a.time))}, nil
}

// SendAsync queues m as an ephemeral message that is never answered, and does not block: ErrBusy when the queue is
// full, ErrNotConnected without a connection. What is queued when the connection ends is lost. A durable m is given to Post.
func (c *Client) SendAsync(m Message) error {
	if m.Durable {
		_, err := c.Post(m)
		return err
	}
	s, err := sendFrame(m, c.opt.Origin)
	if err != nil {
		return err
	}
	cn, err := c.connection()
	if err != nil {
		return err
	}
	if err := cn.checkSend(s); err != nil {
		return err
	}
	select {
	case cn.out <- codec.AppendSend(nil, s):
		return nil
	default:
		return ErrBusy
	}
}

func (cn *conn) checkSend(s codec.Send) error { return checkSend(s, cn.welcome.MaxFrame) }

func checkSend(s codec.Send, limit int) error {
	const fixed = 2 + 4 + 8 + 1 + 1 + 1 + 1 // ext_len, req, nonce, flags, kind, length of the name, content
	return checkSize("send", fixed+len(s.Ext)+len(s.Name), len(s.Payload), limit)
}

// SetState sets this user's value of key in a channel; an empty payload removes it. ttl is in whole seconds, at most
// 65,535; with 0 the value lasts as long as this session. It returns when the frame is queued: the server
// does not answer, a refusal goes to OnError.
func (c *Client) SetState(ctx context.Context, ch Channel, key string, ttl time.Duration, payload []byte) error {
	const op = "state"
	if err := ch.check(op); err != nil {
		return err
	}
	if len(key) > 0xff {
		return invalid(op, "a key of %d bytes, at most 255 are allowed", len(key))
	}
	if ttl < 0 || ttl > maxU16 {
		return invalid(op, "ttl %v is not between 0 and %v", ttl, maxU16)
	}
	cn, err := c.connection()
	if err != nil {
		return err
	}
	const fixed = 1 + 1 + 1 + 1 + 2 // kind, three lengths of which user is empty, ttl
	if err := checkSize(op, fixed+len(ch.Name)+len(key), len(payload), cn.welcome.MaxFrame); err != nil {
		return err
	}
	err = cn.enqueue(ctx, codec.AppendState(nil, codec.StateUpdate{
		Kind: ch.Kind, Name: []byte(ch.Name), Key: []byte(key), TTL: seconds(ttl), Payload: payload,
	}))
	if err != nil {
		return fmt.Errorf("client: %s: %w", op, err)
	}
	return nil
}

// Ping measures the time to the server and back.
func (c *Client) Ping(ctx context.Context) (rtt time.Duration, err error) {
	cn, err := c.connection()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := cn.pingPong(ctx, nil); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// SetHeartbeat wishes for another heartbeat (whole seconds, more than 0), for instance when a phone goes to the background, and
// returns the one in force, which the server decides. The wish goes into all later logins too; without a
// connection that is all, and the result is 0.
func (c *Client) SetHeartbeat(ctx context.Context, d time.Duration) (inForce time.Duration, err error) {
	if d <= 0 || d > maxU16 {
		return 0, invalid("heartbeat", "%v is not between 1s and %v", d, maxU16)
	}
	c.mu.Lock()
	c.heartbeat = d
	c.mu.Unlock()
	cn, err := c.connection()
	if errors.Is(err, ErrNotConnected) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	advice, err := cn.pingPong(ctx, codec.TLVs(nil).AppendUint16(codec.TagHeartbeat, seconds(d)))
	if err != nil {
		return 0, err
	}
	if advice == 0 {
		return cn.interval(), nil
	}
	return time.Duration(advice) * time.Second, nil
}

// maxPings bounds the PINGs that wait for their PONG.
const maxPings = 64

func (cn *conn) pingPong(ctx context.Context, ext codec.TLVs) (advice uint16, err error) {
	pong := make(chan uint16, 1)
	cn.mu.Lock()
	if len(cn.pings) >= maxPings {
		cn.mu.Unlock()
		return 0, ErrBusy
	}
	cn.ping++
	id := cn.ping
	cn.pings[id] = pong
	cn.mu.Unlock()
	defer func() {
		cn.mu.Lock()
		delete(cn.pings, id)
		cn.mu.Unlock()
	}()

	data := binary.BigEndian.AppendUint64(nil, id)
	select {
	case cn.control <- codec.AppendPing(nil, codec.Ping{Ext: ext, Data: data}):
	case <-ctx.Done():
		return 0, fmt.Errorf("client: ping: %w", ctx.Err())
	case <-cn.ctx.Done():
		return 0, ErrNotConnected
	}
	select {
	case advice = <-pong:
		return advice, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("client: ping: no answer yet: %w", ctx.Err())
	case <-cn.ctx.Done():
		return 0, fmt.Errorf("client: ping: %w", ErrLost)
	}
}

// ponged is called by the reader.
func (cn *conn) ponged(data []byte, advice uint16) {
	if len(data) != 8 {
		return
	}
	id := binary.BigEndian.Uint64(data)
	cn.mu.Lock()
	pong := cn.pings[id]
	delete(cn.pings, id)
	cn.mu.Unlock()
	if pong != nil {
		pong <- advice
	}
}
