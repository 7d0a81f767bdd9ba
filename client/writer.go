package client

import (
	"bufio"
	"fmt"
	"time"

	"gannet/codec"
)

// write is the writer goroutine: the only one that writes to nc after the login. One write(2) takes
// all that waits.
func (cn *conn) write() {
	defer close(cn.written)
	if err := cn.writeLoop(bufio.NewWriterSize(deadlineWriter{cn}, 32<<10)); err != nil {
		cn.end(fmt.Errorf("client: write: %w", err))
	}
}

func (cn *conn) writeLoop(w *bufio.Writer) error {
	beat := time.NewTimer(cn.interval())
	defer beat.Stop()
	for {
		var b []byte
		select {
		case b = <-cn.control:
		case b = <-cn.out:
		case <-beat.C:
			b = codec.AppendPing(nil, codec.Ping{})
		case <-cn.kick:
			beat.Reset(cn.interval())
			continue
		case <-cn.quit:
			return cn.writeLast(w)
		case <-cn.ctx.Done():
			return nil
		}
		w.Write(b) // bufio keeps the first error for Flush
		cn.writeWaiting(w)
		if err := w.Flush(); err != nil {
			return err
		}
		beat.Reset(cn.interval())
	}
}

// writeWaiting takes what waits, control frames first, until there is nothing or the buffer is nearly full.
func (cn *conn) writeWaiting(w *bufio.Writer) {
	for w.Available() > 0 {
		select {
		case b := <-cn.control:
			w.Write(b)
			continue
		default:
		}
		select {
		case b := <-cn.out:
			w.Write(b)
		default:
			return
		}
	}
}

func (cn *conn) writeLast(w *bufio.Writer) error {
	for len(cn.out)+len(cn.control) > 0 && cn.ctx.Err() == nil {
		cn.writeWaiting(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	w.Write(codec.AppendBye(nil, codec.Bye{Code: cn.quitCode}))
	if err := w.Flush(); err != nil {
		return err
	}
	if half, ok := cn.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// deadlineWriter gives every write a deadline of its own.
type deadlineWriter struct{ cn *conn }

func (d deadlineWriter) Write(p []byte) (int, error) {
	d.cn.nc.SetWriteDeadline(time.Now().Add(d.cn.timeout))
	return d.cn.nc.Write(p)
}
