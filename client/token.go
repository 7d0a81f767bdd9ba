package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gannet/codec"
)

// token asks for the credential of a new connection; "" without one.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.opt.Token == nil {
		return c.opt.StaticToken, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	t, err := c.opt.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("client: get a token: %w", err)
	}
	return t, nil
}

// refreshOffLoop keeps the credential of cn fresh until cn ends: at 80 % of its remaining life a new one goes out by AUTH.
// After a failure the same rule applies to what then remains. The expiry is what the server's last AUTH said,
// before that what the token itself says; without either there is nothing to do.
func (c *Client) refreshOffLoop(cn *conn) {
	for {
		timer := time.NewTimer(refreshAfter(c.expiry, cn.serverNow()))
		if c.expiry.IsZero() { // unknown
			timer.Stop()
		}
		select {
		case <-cn.ctx.Done():
			timer.Stop()
			return
		case r := <-cn.auth: // nobody asked: the server tells the expiry by itself
			timer.Stop()
			c.learnExpiry(r)
		case <-timer.C:
			if err := c.refreshOnce(cn); err != nil && cn.ctx.Err() == nil {
				c.post(cn.ctx, event{kind: eventError, err: err})
			}
		}
	}
}

func (c *Client) refreshOnce(cn *conn) error {
	t, err := c.token(cn.ctx)
	if err != nil {
		return err
	}
	if err := checkSize("refresh the token", 2, len(t), min(cn.welcome.MaxFrame, 0xffff)); err != nil {
		return err
	}
	if err := cn.enqueue(cn.ctx, codec.AppendAuthToken(nil, codec.AuthToken{Token: []byte(t)})); err != nil {
		return fmt.Errorf("client: refresh the token: %w", err)
	}
	ctx, cancel := context.WithTimeout(cn.ctx, c.opt.Timeout)
	defer cancel()
	select {
	case r := <-cn.auth:
		if r.Code != codec.CodeOK {
			return &CodeError{Op: "refresh the token", Code: r.Code}
		}
		c.expiry = tokenExpiry(t)
		c.learnExpiry(r)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("client: refresh the token: no answer: %w", ctx.Err())
	}
}

func (c *Client) learnExpiry(r codec.AuthResult) {
	if r.Code == codec.CodeOK && r.Expires != 0 {
		c.expiry = time.UnixMilli(int64(min(r.Expires, 1<<60)))
	}
}

// refreshAfter is 80 % of the time to expiry, but never so short that failures make a tight loop.
func refreshAfter(expiry, now time.Time) time.Duration {
	return max(time.Second, expiry.Sub(now)/5*4)
}

// tokenExpiry reads `exp` of a JWT (RFC 7519) without verifying anything: it only times the refresh. Zero when
// the token is none or does not expire.
func tokenExpiry(token string) time.Time {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp float64 `json:"exp"` // seconds, may have a fraction
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 || claims.Exp > 1e12 {
		return time.Time{}
	}
	return time.UnixMilli(int64(claims.Exp * 1000))
}
