package servertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"gannet/codec"
)

// Conn is a client that does nothing by itself: it writes what it is told to and cuts what comes into frames.
type Conn struct {
	*net.TCPConn

	t   testing.TB
	buf []byte // read and not yet handed out
}

// Dial connects; the connection is closed with the test.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	c, err := TryDial(t, addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TryDial is Dial for connections that may fail, and for those that want a dialer of their own.
func TryDial(t testing.TB, addr string, d *net.Dialer) (*Conn, error) {
	if d == nil {
		d = &net.Dialer{}
	}
	if d.Timeout == 0 {
		d.Timeout = Patience
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &Conn{TCPConn: nc.(*net.TCPConn), t: t}, nil
}

// Hello is the HELLO frame of a device that asks for nothing special.
func Hello(user, device string) []byte { return HelloToken(user, device, "") }

// HelloToken is Hello with a credential.
func HelloToken(user, device, token string) []byte {
	return codec.AppendHello(nil, codec.Hello{
		Version: codec.Version, User: []byte(user), Device: []byte(device), Token: []byte(token),
	})
}

// Login connects and logs in.
func Login(t testing.TB, addr, user, device string) *Conn {
	t.Helper()
	c := Dial(t, addr)
	c.Send(Hello(user, device))
	c.Welcome()
	return c
}

// LoginToken is Login with a credential.
func LoginToken(t testing.TB, addr, user, device, token string) *Conn {
	t.Helper()
	c := Dial(t, addr)
	c.Send(HelloToken(user, device, token))
	c.Welcome()
	return c
}

// Send writes frames, or any other bytes.
func (c *Conn) Send(frames ...[]byte) {
	c.t.Helper()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			c.t.Fatalf("writing %d bytes: %v", len(f), err)
		}
	}
}

// ReadFrame returns the next frame, which is the caller's to keep; io.EOF when the stream ended between two.
func (c *Conn) ReadFrame() (codec.Frame, error) { return c.ReadFrameWithin(Patience) }

// ReadFrameWithin is ReadFrame with another deadline.
func (c *Conn) ReadFrameWithin(d time.Duration) (codec.Frame, error) {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return codec.Frame{}, err
	}
	for {
		f, n, err := codec.ConsumeFrame(c.buf, codec.MaxBody)
		if err != nil {
			return f, fmt.Errorf("the server sent what is no frame: %w", err)
		}
		if n > 0 {
			f.Body, f.Ext = append([]byte(nil), f.Body...), append(codec.TLVs(nil), f.Ext...)
			c.buf = append(c.buf[:0], c.buf[n:]...)
			return f, nil
		}
		var piece [16 << 10]byte
		n, err = c.Read(piece[:])
		c.buf = append(c.buf, piece[:n]...)
		if n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) && len(c.buf) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return codec.Frame{}, err
		}
	}
}

// Next returns the next frame.
func (c *Conn) Next() codec.Frame {
	c.t.Helper()
	f, err := c.ReadFrame()
	if err != nil {
		c.t.Fatalf("waiting for a frame: %v", err)
	}
	return f
}

// Expect returns the next frame, which must be of type want and well formed.
func Expect[T any](c *Conn, want codec.Type, consume func(codec.Frame) (T, error)) T {
	c.t.Helper()
	f := c.Next()
	v, err := Read(f, want, consume)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// Read reads a frame, which must be of type want and well formed.
func Read[T any](f codec.Frame, want codec.Type, consume func(codec.Frame) (T, error)) (v T, err error) {
	if f.Type != want {
		return v, fmt.Errorf("got %v, want %v", describe(f), want)
	}
	if v, err = consume(f); err != nil {
		return v, fmt.Errorf("%v: %w", want, err)
	}
	return v, nil
}

func describe(f codec.Frame) string {
	switch f.Type {
	case codec.TypeBye:
		if b, err := codec.ConsumeBye(f); err == nil {
			return fmt.Sprintf("BYE %v %q", b.Code, b.Reason)
		}
	case codec.TypeErr:
		if e, err := codec.ConsumeErr(f); err == nil {
			return fmt.Sprintf("ERR %v %q", e.Code, e.Text)
		}
	}
	return f.Type.String()
}

// Welcome expects WELCOME.
func (c *Conn) Welcome() codec.Welcome {
	c.t.Helper()
	return Expect(c, codec.TypeWelcome, codec.ConsumeWelcome)
}

// Msg expects MSG.
func (c *Conn) Msg() codec.Msg { c.t.Helper(); return Expect(c, codec.TypeMsg, codec.ConsumeMsg) }

// SendAck expects SENDACK.
func (c *Conn) SendAck() codec.SendAck {
	c.t.Helper()
	return Expect(c, codec.TypeSendAck, codec.ConsumeSendAck)
}

// SubAck expects SUBACK.
func (c *Conn) SubAck() codec.SubAck {
	c.t.Helper()
	return Expect(c, codec.TypeSubAck, codec.ConsumeSubAck)
}

// Sub subscribes to a topic, with a filter when tags are given, and wants it granted.
func (c *Conn) Sub(topic string, tags ...string) {
	c.t.Helper()
	s := codec.Sub{Req: 1, Kind: codec.KindTopic, Name: []byte(topic)}
	for _, tag := range tags {
		s.Ext = s.Ext.Append(codec.TagRoute, []byte(tag))
	}
	c.Send(codec.AppendSub(nil, s))
	if a := c.SubAck(); a.Code != codec.CodeOK {
		c.t.Fatalf("SUB to %q: %v", topic, a.Code)
	}
}

// Ping sends PING and wants its PONG next: so all that was sent before is done and nothing else came.
func (c *Conn) Ping() {
	c.t.Helper()
	c.Send(codec.AppendPing(nil, codec.Ping{Data: []byte("are you?")}))
	if p := Expect(c, codec.TypePong, codec.ConsumePing); string(p.Data) != "are you?" {
		c.t.Fatalf("PONG holds %q", p.Data)
	}
}

// Bye expects BYE with the given code next and the end of the stream behind it.
func (c *Conn) Bye(code codec.Code) codec.Bye {
	c.t.Helper()
	b := Expect(c, codec.TypeBye, codec.ConsumeBye)
	if b.Code != code {
		c.t.Fatalf("BYE %v %q, want %v", b.Code, b.Reason, code)
	}
	c.EOF()
	return b
}

// EOF expects the end of the stream.
func (c *Conn) EOF() {
	c.t.Helper()
	if f, err := c.ReadFrame(); !errors.Is(err, io.EOF) {
		if err == nil {
			c.t.Fatalf("got %v, want the end of the stream", describe(f))
		}
		c.t.Fatalf("the stream ended with %v, want EOF", err)
	}
}
