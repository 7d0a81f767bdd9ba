package client

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

func msg(kind codec.Kind, name, sender, text string, ext codec.TLVs) []byte {
	return codec.AppendMsg(nil, codec.Msg{
		Ext: ext, Kind: kind, Name: []byte(name), Time: 1234, Sender: []byte(sender),
		Content: codec.ContentText, Payload: []byte(text),
	})
}

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		messages, states, gaps := make(chan Message, 8), make(chan State, 8), make(chan Gap, 8)
		opt.OnMessage = func(m Message) { messages <- m }
		opt.OnState = func(s State) { states <- s }
		opt.OnGap = func(g Gap) { gaps <- g }
		_, p := h.connected(opt)

		ext := codec.TLVs(nil).Append(codec.TagRoute, []byte("t1")).AppendUint32(codec.TagTTL, 9).Append(200, []byte("app")).Append(codec.TagRoute, []byte("t2"))
		p.send(codec.AppendMsg(nil, codec.Msg{
			Ext: ext, Flags: codec.MsgUrgent, Kind: codec.KindDirect, Name: []byte("alice\x1fbob"), Seq: 5, Time: 1234,
			Sender: []byte("bob"), Content: codec.ContentJSON, Payload: []byte("{}"),
		}))
		m := <-messages
		if m.Channel != User("bob") || m.Sender != "bob" || m.Seq != 5 || m.Time.UnixMilli() != 1234 || m.Content != JSON ||
			string(m.Payload) != "{}" || !slices.Equal(m.Tags, []string{"t1", "t2"}) || m.TTL != 9*time.Second || !m.Urgent || m.Echo {
			t.Errorf("message %+v", m)
		}
		// What alice's other device sent to bob belongs to the same conversation.
		p.send(msg(codec.KindDirect, "alice\x1fbob", "alice", "x", nil))
		if m := <-messages; m.Channel != User("bob") || m.Sender != "alice" {
			t.Errorf("message %+v", m)
		}
		p.send(msg(codec.KindDirect, "alice\x1falice", "alice", "x", nil))
		if m := <-messages; m.Channel != User("alice") {
			t.Errorf("to oneself: %+v", m)
		}
		p.send(msg(codec.KindAll, codec.AllName, "root", "x", nil))
		if m := <-messages; m.Channel != All() {
			t.Errorf("to all: %+v", m)
		}

		p.send(codec.AppendState(nil, codec.StateUpdate{Kind: codec.KindTopic, Name: []byte("room"), Key: []byte("presence"), User: []byte("bob"), TTL: 3, Payload: []byte("on")}))
		if s := <-states; s.Channel != Topic("room") || s.Key != "presence" || s.User != "bob" || s.TTL != 3*time.Second || string(s.Payload) != "on" {
			t.Errorf("state %+v", s)
		}
		p.send(codec.AppendGap(nil, codec.Gap{Kind: codec.KindTopic, Name: []byte("room"), From: 3, To: 9, Reason: codec.GapExpired}))
		if g := <-gaps; g != (Gap{Topic("room"), 3, 9, codec.GapExpired}) {
			t.Errorf("gap %+v", g)
		}
	})
}

func TestEcho(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				opt := h.options()
				opt.KeepEcho = keep
				var got []string
				opt.OnMessage = func(m Message) { got = append(got, fmt.Sprint(string(m.Payload), m.Echo)) }
				c, p := h.connected(opt)
				if err := c.SendAsync(Text(Topic("news"), "mine")); err != nil {
					t.Fatal(err)
				}
				s := p.sent()
				p.send(msg(codec.KindTopic, "news", "alice", "mine", s.Ext))
				p.send(msg(codec.KindTopic, "news", "alice", "other device", codec.TLVs(nil).Append(codec.TagOrigin, []byte("x"))))
				p.send(msg(codec.KindTopic, "news", "mallory", "forged", s.Ext))
				synctest.Wait()
				want := []string{"other devicefalse", "forgedfalse"}
				if keep {
					want = append([]string{"minetrue"}, want...)
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

// A slow handler slows the server down; nothing is dropped, the order stays, and heartbeats go on.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total, queue = 100, 4
		h := newHarness(t)
		opt := h.options()
		opt.Queue = queue
		gate := make(chan struct{})
		got := make(chan string, total)
		opt.OnMessage = func(m Message) {
			<-gate
			got <- string(m.Payload)
		}
		_, p := h.connected(opt)
		written := make(chan int, total)
		go func() {
			for i := range total {
				p.nc.Write(msg(codec.KindTopic, "news", "bob", fmt.Sprintf("%0*d", readBuffer/2, i), nil))
				written <- i
			}
		}()
		synctest.Wait()
		// In the handler 1, in the queue 4, with the reader 1, in its buffer at most 2.
		if n := len(written); n > queue+4 {
			t.Errorf("%d messages were taken in", n)
		}
		p.pinged()
		close(gate)
		for i := range total {
			if s := <-got; s != fmt.Sprintf("%0*d", readBuffer/2, i) {
				t.Fatalf("message %d is another one: %s", i, s[len(s)-10:])
			}
		}
	})
}

// Close does not wait for messages that handlers have not seen.
func TestCloseWithSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		seen, disconnected := 0, false
		opt.OnMessage = func(Message) { seen++; time.Sleep(time.Minute) }
		opt.OnDisconnect = func(error) { disconnected = true }
		c, p := h.connected(opt)
		for range 10 {
			p.send(msg(codec.KindTopic, "news", "bob", "x", nil))
		}
		synctest.Wait()
		begin := time.Now()
		c.Close()
		if d := time.Since(begin); seen != 1 || d > time.Minute || !disconnected {
			t.Errorf("%d messages, %v, OnDisconnect %v", seen, d, disconnected)
		}
	})
}

// Frames of any size, cut anywhere, come out whole.
func TestFrameReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stream []byte
		sizes := []int{0, 1, 100, readBuffer - 4, readBuffer, 3 * readBuffer, 200 << 10, 5, 70 << 10, 1}
		for i, n := range sizes {
			body := make([]byte, n)
			for j := range body {
				body[j] = byte(i + j)
			}
			stream = codec.AppendFrame(stream, codec.Frame{Type: codec.FirstSkippable, Body: body})
		}
		for _, chunk := range []int{7, 1000, readBuffer, len(stream)} {
			h := newHarness(t)
			nc, _ := h.dial(t.Context(), "")
			p := h.peer()
			go func() {
				for rest := stream; len(rest) > 0; {
					n := min(chunk, len(rest))
					p.nc.Write(rest[:n])
					rest = rest[n:]
				}
				p.nc.Close()
			}()
			r := newFrameReader(nc, 200<<10)
			for i, n := range sizes {
				f, err := r.next(time.Time{})
				if err != nil || len(f.Body) != n {
					t.Fatalf("chunk %d, frame %d: %d bytes, %v", chunk, i, len(f.Body), err)
				}
				for j := range f.Body {
					if f.Body[j] != byte(i+j) {
						t.Fatalf("chunk %d, frame %d: byte %d differs", chunk, i, j)
					}
				}
				if len(r.buf) > r.limit+codec.HeaderLen {
					t.Fatalf("the buffer has %d bytes", len(r.buf))
				}
			}
			nc.Close()
		}
	})
}
