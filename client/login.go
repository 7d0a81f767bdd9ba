package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"gannet/codec"
)

// target is where the next connection goes to. A ticket takes the token's place.
type target struct {
	addr   string
	ticket []byte
}

// connect dials and logs in. Everything is done when it returns; on an error nothing is left open.
func (c *Client) connect(ctx context.Context, t target) (*conn, error) {
	token := string(t.ticket)
	if len(t.ticket) == 0 {
		var err error
		if token, err = c.token(ctx); err != nil {
			return nil, err
		}
		c.expiry = tokenExpiry(token)
	} else if e := tokenExpiry(token); !e.IsZero() {
		c.expiry = e
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	nc, err := c.dial(ctx, t.addr)
	if err != nil {
		return nil, fmt.Errorf("client: connect to %s: %w", t.addr, err)
	}
	cn := newConn(nc, &c.opt)
	// Ending ctx interrupts the login; deadlines are not enough for that.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	err = c.login(cn, token)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		cn.end(err)
		return nil, loginError(t.addr, err, ctx.Err())
	}
	nc.SetDeadline(time.Time{})
	cn.welcome.Addr = t.addr
	return cn, nil
}

// loginError: what the server said comes first, then that time was up, then what the socket said.
func loginError(addr string, err, ctxErr error) error {
	var bye *ByeError
	if errors.As(err, &bye) {
		return err
	}
	if ctxErr != nil {
		err = fmt.Errorf("no answer to HELLO: %w", ctxErr)
	}
	return fmt.Errorf("client: log in at %s: %w", addr, err)
}

func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := c.opt.Dialer(ctx, addr)
	if err != nil || c.opt.TLS == nil {
		return nc, err
	}
	conf := c.opt.TLS
	if conf.ServerName == "" && !conf.InsecureSkipVerify {
		conf = conf.Clone()
		if conf.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			conf.ServerName = addr
		}
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// login sends HELLO and reads up to WELCOME.
func (c *Client) login(cn *conn, token string) error {
	if len(token) > codec.LoginLimit {
		return fmt.Errorf("a token of %d bytes does not fit into HELLO", len(token))
	}
	cn.wish = c.heartbeatWish()
	h := codec.Hello{
		Version: codec.Version, Heartbeat: seconds(cn.wish), Class: uint8(c.opt.Class),
		Device: []byte(c.opt.Device), User: []byte(c.opt.User), Token: []byte(token),
	}
	c.track.atHello(&h, time.Now())
	cn.told = c.subs.inHello(&h, &c.track)
	cn.logs = c.track.inHello(&h)
	b := codec.AppendHello(nil, h)
	if len(b)-codec.HeaderLen > codec.LoginLimit {
		return fmt.Errorf("a token of %d bytes does not fit into HELLO", len(token))
	}
	if _, err := cn.nc.Write(b); err != nil {
		return err
	}
	for {
		f, err := cn.in.next(time.Time{}) // the deadline is that of connect
		if err != nil {
			return err
		}
		switch f.Type {
		case codec.TypeWelcome:
			return cn.welcomed(f)
		case codec.TypeBye:
			b, err := codec.ConsumeBye(f)
			if err != nil {
				return err
			}
			return byeError(b)
		case codec.FirstSkippable, codec.LastSkippable:
		default:
			return fmt.Errorf("%w: %v before WELCOME", codec.ErrMalformed, f.Type)
		}
	}
}

func (cn *conn) welcomed(f codec.Frame) error {
	w, err := codec.ConsumeWelcome(f)
	if err != nil {
		return err
	}
	if w.Version != codec.Version {
		return fmt.Errorf("the server chose protocol version %d, this client speaks %d", w.Version, codec.Version)
	}
	cn.welcome = Welcome{
		User:      string(w.User),
		Node:      string(w.Node),
		Session:   w.Session,
		Heartbeat: time.Duration(w.Heartbeat) * time.Second,
		Time:      time.UnixMilli(int64(w.Time)),
		MaxFrame:  int(min(w.MaxFrame, codec.MaxBody)),
		Window:    int(w.Window),
		Epoch:     w.InboxEpoch,
		Inbox:     ResumeState(w.InboxState),
		InboxHead: w.InboxHead,
	}
	cn.welcome.nonce, _ = w.Ext.Uint64(codec.TagNonce)
	if cn.welcome.MaxFrame == 0 {
		cn.welcome.MaxFrame = codec.DefaultLimit
	}
	if cn.welcome.Window == 0 {
		cn.welcome.Window = 1024
	}
	if w.Time != 0 {
		cn.skew = time.Until(cn.welcome.Time)
	}
	for s := range w.States.All() {
		cn.states = append(cn.states, s)
	}
	cn.setHeartbeat(w.Heartbeat)
	cn.window = make(chan struct{}, cn.welcome.Window)
	cn.in.limit = min(cn.welcome.MaxFrame+frameSlack, codec.MaxBody)
	return nil
}
