package verify

import (
	"net"
	"sync"
	"testing"

	"gannet/codec"
	"gannet/server/servertest"
)

// proxy stands between real sockets and lets frames through, or not.
type proxy struct {
	addr   string
	server string
	ln     net.Listener
	// toClient and toServer return what goes on in place of a frame; nil functions let everything through. They are called under mu.
	toClient func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte
	toServer func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte

	mu   sync.Mutex
	legs map[*leg]bool
	n    int // frames of the kind that a plant counts
	wg   sync.WaitGroup
}

// leg is one connection through the proxy.
type leg struct {
	client, server net.Conn
	user           string
	held           [][]byte
}

// newProxy lets clients through to a server until the test ends.
func newProxy(t *testing.T, server string) *proxy {
	p := &proxy{addr: servertest.Addr(), server: server, legs: map[*leg]bool{}}
	var err error
	if p.ln, err = net.Listen("tcp", p.addr); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.ln.Close()
		p.mu.Lock()
		for l := range p.legs {
			l.close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (l *leg) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = c.Close()
			continue
		}
		l := &leg{client: c, server: s}
		p.mu.Lock()
		p.legs[l] = true
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(l, l.client, l.server, &p.toServer) })
		p.wg.Go(func() { p.pass(l, l.server, l.client, &p.toClient) })
	}
}

// pass takes frames from one side to the other until either ends.
func (p *proxy) pass(l *leg, from, to net.Conn, change *func(*proxy, *leg, codec.Frame, []byte) [][]byte) {
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.legs, l)
		p.mu.Unlock()
	}()
	var buf []byte
	var piece [16 << 10]byte
	for {
		n, err := from.Read(piece[:])
		buf = append(buf, piece[:n]...)
		var out []byte
		p.mu.Lock()
		for {
			f, size, err := codec.ConsumeFrame(buf, codec.MaxBody)
			if err != nil || size == 0 {
				break
			}
			if f.Type == codec.TypeHello {
				if h, err := codec.ConsumeHello(f); err == nil {
					l.user = string(h.User)
				}
			}
			frames := [][]byte{buf[:size:size]}
			if *change != nil {
				frames = (*change)(p, l, f, buf[:size:size])
			}
			for _, x := range frames {
				out = append(out, x...)
			}
			buf = buf[size:]
		}
		if len(out) > 0 {
			_, werr := to.Write(out)
			if err == nil {
				err = werr
			}
		}
		p.mu.Unlock()
		if err != nil {
			return // io.EOF as well
		}
	}
}

// everyNth says that it is time for a fault.
func (p *proxy) everyNth(n int) bool { p.n++; return p.n%n == 0 }

// ofType is a change of frames of one type; everything else passes.
func ofType(typ codec.Type, change func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte) func(*proxy, *leg, codec.Frame, []byte) [][]byte {
	return func(p *proxy, l *leg, f codec.Frame, raw []byte) [][]byte {
		if f.Type != typ {
			return [][]byte{raw}
		}
		return change(p, l, f, raw)
	}
}
