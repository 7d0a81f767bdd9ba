package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"time"

	"gannet/codec"
)

// Class tells the server what kind of device this is; it advises the heartbeat by it.
type Class uint8

// Device classes.
const (
	ClassOther   Class = codec.ClassOther
	ClassMobile  Class = codec.ClassMobile
	ClassDesktop Class = codec.ClassDesktop
	ClassWeb     Class = codec.ClassWeb
	ClassIoT     Class = codec.ClassIoT
	ClassService Class = codec.ClassService
)

// Options says who connects, whereto, and who hears what arrives. Zero values mean the defaults named here; Addrs
// is the only field without one, and User may be empty only with a token.
type Options struct {
	Addrs []string // host:port, at least one; each attempt takes the next
	User  string   // identifier; empty: the token's subject
	// Device names this installation among the user's others: a second login with the same user and device
	// displaces the first. Empty: a random name.
	Device string
	Class  Class

	// Token returns a credential and is called for each connection and before the last one expires. It must
	// return when ctx ends. When it is set, a connection refused with UNAUTHORIZED or EXPIRED is tried once more
	// with a fresh token. StaticToken is for a credential that nobody renews.
	Token       func(ctx context.Context) (string, error)
	StaticToken string

	Heartbeat time.Duration // wish, whole seconds; 0: the server's advice for the class
	Timeout   time.Duration // for a dial with TLS, the login, one write, one token; 10 s
	Queue     int           // bound of the outgoing queue and of the handlers' queue, in frames; 256

	TLS *tls.Config // nil: plain TCP; an empty ServerName becomes the host of the address
	// Dialer replaces net.Dialer, for proxies and tests.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)

	// Origin marks what this client sends (1 to 16 bytes), so that it knows its own messages when a topic, or the log after a
	// reconnect, brings them back; these are dropped unless KeepEcho is set. Empty: made of Device.
	Origin   []byte
	KeepEcho bool

	// Outbox keeps durable messages until the server has them; nil: in memory. It belongs to one device of one user, so with it
	// Device must be set, and to one Client at a time, which calls Load in New. It holds at most OutboxMessages (10,000)
	// and OutboxBytes (64 MiB).
	Outbox         Outbox
	OutboxMessages int
	OutboxBytes    int
	// Positions keeps how far the handlers have got; nil: in memory, as long as the Client lives. The same holds as for Outbox.
	Positions Positions

	// Handlers, all called by one goroutine in order; see the package comment for what they may do. Nil ones
	// are skipped.
	OnMessage    func(Message) // a durable one is acknowledged when it has returned
	OnState      func(State)
	OnGap        func(Gap)    // with codec.GapFiltered nothing is lost
	OnStatus     func(Status) // news about durable messages
	OnResume     func(Resume) // what became of a position; follows OnConnect and subscriptions, not told when it is Live
	OnConnect    func(Welcome)
	OnDisconnect func(err error) // a welcomed connection has ended
	OnRetry      func(Retry)     // the next attempt will be made after a pause
	OnError      func(err error) // what belongs to no call: *SubscriptionError, a refused STATE, a token that could not be refreshed

	Logger *slog.Logger // nil: silent

	// uniform draws from min to max, both included; tests replace it.
	uniform func(min, max time.Duration) time.Duration
}

// validate names the field that is wrong and fills in the defaults.
func (o *Options) validate() error {
	if len(o.Addrs) == 0 {
		return errors.New("client: Options.Addrs is empty: name at least one host:port")
	}
	for _, a := range o.Addrs {
		if o.Dialer != nil {
			break
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("client: Options.Addrs: %w", err)
		}
	}
	if o.Device == "" && (o.Outbox != nil || o.Positions != nil) {
		return errors.New("client: Options.Device is empty: what an Outbox and Positions keep belongs to one device, so name it")
	}
	if o.Device == "" {
		o.Device = "dev-" + hex.EncodeToString(random(6))
	}
	if !codec.ValidID([]byte(o.Device)) {
		return fmt.Errorf("client: Options.Device %q is no identifier: 1 to 64 bytes of UTF-8 without control characters", o.Device)
	}
	withToken := o.Token != nil || o.StaticToken != ""
	if (o.User != "" || !withToken) && !codec.ValidID([]byte(o.User)) {
		return fmt.Errorf("client: Options.User %q is no identifier: 1 to 64 bytes of UTF-8 without control characters", o.User)
	}
	if o.Heartbeat < 0 || o.Heartbeat > maxU16 {
		return fmt.Errorf("client: Options.Heartbeat %v is not between 0 and %v", o.Heartbeat, maxU16)
	}
	if len(o.Origin) > 16 {
		return fmt.Errorf("client: Options.Origin has %d bytes, at most 16 are allowed", len(o.Origin))
	}
	o.defaults()
	return nil
}

func (o *Options) defaults() {
	if len(o.Origin) == 0 {
		sum := sha256.Sum256([]byte(o.Device))
		o.Origin = sum[:8]
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Queue <= 0 {
		o.Queue = 256
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dialer == nil {
		o.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if o.Outbox == nil {
		o.Outbox = new(MemoryOutbox)
	}
	if o.OutboxMessages <= 0 {
		o.OutboxMessages = 10_000
	}
	if o.OutboxBytes <= 0 {
		o.OutboxBytes = 64 << 20
	}
	if o.uniform == nil {
		o.uniform = uniform
	}
}

// maxU16 is the longest time that a u16 of seconds holds.
const maxU16 = 65535 * time.Second

// seconds rounds d up to whole seconds; callers have checked that it fits.
func seconds(d time.Duration) uint16 { return uint16((d + time.Second - 1) / time.Second) }

func uniform(min, max time.Duration) time.Duration {
	if max <= min {
		return min
	}
	return min + time.Duration(mathrand.Int64N(int64(max-min)+1))
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
