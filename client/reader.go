package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"gannet/codec"
)

// frameReader cuts frames out of a stream. A frame it returns is valid until the next call.
type frameReader struct {
	nc         net.Conn
	limit      int // largest body
	buf        []byte
	start, end int // the bytes not yet cut
}

const readBuffer = 16 << 10

func newFrameReader(nc net.Conn, limit int) *frameReader {
	return &frameReader{nc: nc, limit: limit, buf: make([]byte, readBuffer)}
}

// next returns the next frame. Each read of the socket waits until deadline at most, if it is not zero.
func (r *frameReader) next(deadline time.Time) (codec.Frame, error) {
	for {
		f, n, err := codec.ConsumeFrame(r.buf[r.start:r.end], r.limit)
		if err != nil {
			return f, err
		}
		if n > 0 {
			r.start += n
			return f, nil
		}
		if err := r.fill(deadline); err != nil {
			return f, err
		}
	}
}

// fill reads once. The buffer doubles while a frame does not fit, so it never holds much more than what has come,
// and shrinks when it is empty.
func (r *frameReader) fill(deadline time.Time) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > 4*readBuffer {
			r.buf = make([]byte, readBuffer)
		}
	}
	if r.end == len(r.buf) {
		next, most := r.buf, r.limit+codec.HeaderLen
		if r.start < len(r.buf)/2 && len(r.buf) < most {
			next = make([]byte, min(2*len(r.buf), most))
		}
		r.end = copy(next, r.buf[r.start:r.end])
		r.start, r.buf = 0, next
	}
	if !deadline.IsZero() {
		if err := r.nc.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	n, err := r.nc.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// read is the reader goroutine.
func (c *Client) read(cn *conn) {
	for {
		f, err := cn.in.next(time.Now().Add(2*cn.interval() + 10*time.Second))
		if err == nil {
			err = c.handle(cn, f)
		}
		if err != nil {
			cn.readEnded(err)
			return
		}
	}
}

func (cn *conn) readEnded(err error) {
	var bye *ByeError
	var timeout net.Error
	switch {
	case errors.As(err, &bye):
	case errors.Is(err, codec.ErrMalformed):
		err = fmt.Errorf("client: from the server: %w", err)
		cn.quitWith(codec.CodeMalformed, err)
		wait(cn.written, linger)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("client: the server was silent for too long: %w", err)
	default:
		err = fmt.Errorf("client: read: %w", err)
	}
	cn.end(err)
}

// handle acts on one frame. An error ends the connection.
func (c *Client) handle(cn *conn, f codec.Frame) error {
	if len(cn.early) > 0 && f.Type != codec.TypeGap && f.Type != codec.TypeRange {
		c.earlyGaps(cn)
	}
	switch f.Type {
	case codec.TypePing, codec.TypePong:
		return cn.handlePing(f)
	case codec.TypeSendAck, codec.TypeSubAck, codec.TypeErr:
		return c.handleAnswer(cn, f)
	case codec.TypeMsg, codec.TypeState, codec.TypeGap, codec.TypePos, codec.TypeReceipt:
		return c.handleEvent(cn, f)
	case codec.TypeRange, codec.TypeListed:
		return c.handleHistory(cn, f)
	case codec.TypeAuth:
		r, err := codec.ConsumeAuthResult(f)
		if err == nil {
			latest(cn.auth, r)
		}
		return err
	case codec.TypeMigrate:
		m, err := codec.ConsumeMigrate(f)
		if err == nil {
			m.Addr, m.Ticket = append([]byte(nil), m.Addr...), append([]byte(nil), m.Ticket...)
			latest(cn.migrate, m)
		}
		return err
	case codec.TypeBye:
		b, err := codec.ConsumeBye(f)
		if err == nil {
			err = byeError(b)
		}
		return err
	}
	if f.Type >= codec.FirstUnknownRequest && f.Type <= codec.LastSkippable {
		return nil
	}
	return fmt.Errorf("%w: unexpected %v", codec.ErrMalformed, f.Type)
}

func (cn *conn) handlePing(f codec.Frame) error {
	p, err := codec.ConsumePing(f)
	if err != nil {
		return err
	}
	if f.Type == codec.TypePing {
		select {
		case cn.control <- codec.AppendPong(nil, codec.Ping{Data: p.Data}):
		default: // full of other control frames, and any frame tells the server the same
		}
		return nil
	}
	secs, _ := p.Ext.Uint16(codec.TagHeartbeat)
	if secs != 0 {
		cn.setHeartbeat(secs)
	}
	cn.ponged(p.Data, secs)
	return nil
}

func (c *Client) handleAnswer(cn *conn, f codec.Frame) error {
	switch f.Type {
	case codec.TypeSendAck:
		a, err := codec.ConsumeSendAck(f)
		if err == nil {
			cn.answered(a.Req, answer{code: a.Code, seq: a.Seq, time: a.Time})
		}
		return err
	case codec.TypeSubAck:
		a, err := codec.ConsumeSubAck(f)
		if err == nil {
			if a.Code == codec.CodeOK && a.State == codec.StateRefused {
				a.Code = codec.CodeForbidden
			}
			cn.answered(a.Req, answer{code: a.Code, state: codec.State{State: a.State, Epoch: a.Epoch, Head: a.Head}})
		}
		return err
	}
	e, err := codec.ConsumeErr(f)
	if err != nil {
		return err
	}
	a := answer{code: e.Code, text: string(e.Text)}
	if e.Req == 0 {
		c.post(cn.ctx, event{kind: eventError, err: a.err("state or ack")})
		return nil
	}
	cn.answered(e.Req, a)
	return nil
}

// latest puts v into a channel of one place; an older value that nobody took gives way. Only the reader sends on ch.
func latest[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}
