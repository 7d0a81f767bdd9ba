package server_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// hello is a HELLO body with one field changed.
func hello(change func(h *codec.Hello)) []byte {
	h := codec.Hello{Version: codec.Version, User: []byte("mallory"), Device: []byte("d")}
	change(&h)
	return codec.AppendHello(nil, h)
}

// patched is frame with the byte at place replaced.
func patched(frame []byte, place int, b byte) []byte {
	f := append([]byte(nil), frame...)
	f[place] = b
	return f
}

// announced is a header alone: a frame of length bytes that do not come.
func announced(length int, typ codec.Type) []byte {
	return []byte{byte(length >> 16), byte(length >> 8), byte(length), byte(typ)}
}

// longer is frame with bytes behind its last field, its length right.
func longer(frame []byte, extra ...byte) []byte {
	f := append(append([]byte(nil), frame...), extra...)
	n := len(f) - codec.HeaderLen
	f[0], f[1], f[2] = byte(n>>16), byte(n>>8), byte(n)
	return f
}

// counted is a HELLO whose list of positions claims n entries and has none.
func counted(n uint16) []byte {
	f := servertest.Hello("mallory", "d")
	binary.BigEndian.PutUint16(f[len(f)-2:], n)
	return f
}

var badBeforeLogin = []struct {
	name  string
	bytes []byte
	code  codec.Code
}{
	{"wrong magic", patched(servertest.Hello("mallory", "d"), codec.HeaderLen, 'X'), codec.CodeMalformed},
	{"version 0", hello(func(h *codec.Hello) { h.Version = 0 }), codec.CodeVersion},
	{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), codec.CodeMalformed},
	{"TLS", []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01}, codec.CodeMalformed},
	{"MQTT", []byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"), codec.CodeMalformed},
	{"PROXY v1", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), codec.CodeMalformed},
	{"16 MiB announced", announced(codec.MaxBody, codec.TypeHello), codec.CodeMalformed},
	{"one byte over the limit of logins", announced(codec.LoginLimit+1, codec.TypeHello), codec.CodeMalformed},
	{"SEND before HELLO", topicSend(1, "t", "x"), codec.CodeMalformed},
	{"PING before HELLO", codec.AppendPing(nil, codec.Ping{}), codec.CodeMalformed},
	{"type 0", frame(0, ""), codec.CodeMalformed},
	{"type 31", frame(31, ""), codec.CodeMalformed},
	{"skippable type before HELLO", frame(26, ""), codec.CodeMalformed},
	{"empty HELLO", frame(codec.TypeHello, ""), codec.CodeMalformed},
	{"compressed flag", patched(servertest.Hello("mallory", "d"), 3, byte(codec.TypeHello)|codec.FlagCompressed), codec.CodeMalformed},
	{"sealed flag", patched(servertest.Hello("mallory", "d"), 3, byte(codec.TypeHello)|codec.FlagSealed), codec.CodeMalformed},
	{"TLV area past the frame", []byte{0, 0, 3, byte(codec.TypeHello) | codec.FlagExt, 0xff, 0xff, 0}, codec.CodeMalformed},
	{"more positions than there are", counted(1), codec.CodeMalformed},
	{"65,535 positions and none there", counted(65535), codec.CodeMalformed},
	{"bytes behind the last field", longer(servertest.Hello("mallory", "d"), 0), codec.CodeMalformed},
	{"empty device", servertest.Hello("mallory", ""), codec.CodeMalformed},
	{"empty user", servertest.Hello("", "d"), codec.CodeMalformed},
	{"user of 65 bytes", servertest.Hello(strings.Repeat("u", 65), "d"), codec.CodeMalformed},
	{"device of 65 bytes", servertest.Hello("mallory", strings.Repeat("d", 65)), codec.CodeMalformed},
	{"user of 255 bytes", servertest.Hello(strings.Repeat("u", 255), "d"), codec.CodeMalformed},
	{"control character in the user", servertest.Hello("mal\x1flory", "d"), codec.CodeMalformed},
	{"newline in the device", servertest.Hello("mallory", "d\n"), codec.CodeMalformed},
	{"DEL in the user", servertest.Hello("mallory\x7f", "d"), codec.CodeMalformed},
	{"NUL in the user", servertest.Hello("\x00", "d"), codec.CodeMalformed},
	{"broken UTF-8 in the user", servertest.Hello("mal\xfflory", "d"), codec.CodeMalformed},
	{"cut UTF-8 in the device", servertest.Hello("mallory", "\xe2\x82"), codec.CodeMalformed},
	{"surrogate in the device", servertest.Hello("mallory", "\xed\xa0\x80"), codec.CodeMalformed},
}

func TestBadInputBeforeLogin(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	witness := servertest.Login(t, n.Addr(), "witness", "d")
	want := map[codec.Code]uint64{}
	for _, c := range badBeforeLogin {
		want[c.code]++
		t.Run(c.name, func(t *testing.T) {
			conn := servertest.Dial(t, n.Addr())
			conn.Send(c.bytes)
			if b := conn.Bye(c.code); b.Retry != 0 || len(b.Reason) == 0 {
				t.Errorf("BYE %+v, want no retry and a reason", b)
			}
		})
	}
	witness.Ping() // nobody else noticed
	eventually(t, "every BYE is counted", func() bool {
		st := n.Stats()
		return st.Byes[codec.CodeMalformed] == want[codec.CodeMalformed] && st.Byes[codec.CodeVersion] == want[codec.CodeVersion]
	})
	m := metricsOf(t, n)
	if m["gannet_panics_total"] != 0 {
		t.Errorf("%v panics", m["gannet_panics_total"])
	}
	if got := m[`gannet_byes_total{code="MALFORMED"}`]; got != float64(want[codec.CodeMalformed]) {
		t.Errorf("gannet_byes_total says %v MALFORMED, want %d", got, want[codec.CodeMalformed])
	}
	witness.Close()
	allGone(t, n)
}

// badAfterLogin are the frames that end a live session.
var badAfterLogin = []struct {
	name  string
	bytes []byte
}{
	{"second HELLO", servertest.Hello("mallory", "d")},
	{"WELCOME", frame(codec.TypeWelcome, "")},
	{"MIGRATE", frame(codec.TypeMigrate, "")},
	{"SENDACK", codec.AppendSendAck(nil, codec.SendAck{Req: 1})},
	{"MSG", codec.AppendMsg(nil, codec.Msg{Kind: codec.KindTopic, Name: []byte("t"), Sender: []byte("victim")})},
	{"SUBACK", codec.AppendSubAck(nil, codec.SubAck{Req: 1})},
	{"RANGE", codec.AppendRange(nil, codec.Range{Req: 1})},
	{"GAP", codec.AppendGap(nil, codec.Gap{})},
	{"POS", codec.AppendPos(nil, codec.Pos{})},
	{"RECEIPT", codec.AppendReceipt(nil, codec.Receipt{Mode: 1, Kind: codec.KindTopic, Name: []byte("t"), User: []byte("u")})},
	{"LISTED", codec.AppendListed(nil, codec.Listed{Req: 1})},
	{"ERR", codec.AppendErr(nil, codec.Err{Req: 1})},
	{"type 0", frame(0, "")},
	{"type 28", frame(28, "xxxx")},
	{"type 31", frame(31, "")},
	{"compressed flag", patched(codec.AppendPing(nil, codec.Ping{}), 3, byte(codec.TypePing)|codec.FlagCompressed)},
	{"sealed flag", patched(codec.AppendPing(nil, codec.Ping{}), 3, byte(codec.TypePing)|codec.FlagSealed)},
	{"over max_frame", announced(codec.DefaultLimit+1, codec.TypeSend)},
	{"16 MiB announced", announced(codec.MaxBody, codec.TypeSend)},
	{"unknown SEND flag", codec.AppendSend(nil, codec.Send{Req: 1, Flags: 0x80, Kind: codec.KindTopic, Name: []byte("t")})},
	{"LOG flag in SEND", codec.AppendSend(nil, codec.Send{Req: 1, Flags: codec.MsgLog, Kind: codec.KindTopic, Name: []byte("t")})},
	{"empty SEND", frame(codec.TypeSend, "")},
	{"name past the frame", frame(codec.TypeSend, "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\xfft")},
	{"PING of 3 bytes", frame(codec.TypePing, "abc")},
	{"PONG of 9 bytes", frame(codec.TypePong, "abcdefghi")},
	{"ACK that counts past its frame", frame(codec.TypeAck, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff")},
	{"SUB with a byte too many", longer(codec.AppendSub(nil, codec.Sub{Req: 1, Kind: codec.KindTopic, Name: []byte("t")}), 1)},
	{"UNSUB with a byte too many", longer(codec.AppendUnsub(nil, codec.Unsub{Req: 1, Kind: codec.KindTopic, Name: []byte("t")}), 1)},
	{"AUTH past its frame", frame(codec.TypeAuth, "\xff\xffx")},
	{"request of a later version without req", frame(24, "abc")},
	{"TLV past its area", []byte{0, 0, 5, byte(codec.TypePing) | codec.FlagExt, 0, 3, 2, 9, 'x'}},
}

func TestBadInputAfterLogin(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	witness := servertest.Login(t, n.Addr(), "witness", "d")
	for _, c := range badAfterLogin {
		t.Run(c.name, func(t *testing.T) {
			conn := servertest.Login(t, n.Addr(), "mallory", strings.ReplaceAll(c.name, " ", "-"))
			// What was asked before is answered before the BYE.
			conn.Send(append(codec.AppendPing(nil, codec.Ping{}), c.bytes...))
			servertest.Expect(conn, codec.TypePong, codec.ConsumePing)
			conn.Bye(codec.CodeMalformed)
		})
	}
	witness.Ping()
	if p := metricsOf(t, n)["gannet_panics_total"]; p != 0 {
		t.Errorf("%v panics", p)
	}
	witness.Close()
	allGone(t, n)
}

// What is wrong with a request and not with the connection is answered, and the connection lives.
func TestBadRequestsAreAnswered(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	tags := func(count, size int) (ext codec.TLVs) {
		for range count {
			ext = ext.Append(codec.TagRoute, []byte(strings.Repeat("t", size)))
		}
		return ext
	}
	for _, s := range []struct {
		name string
		send codec.Send
		code codec.Code
	}{
		{"empty name", codec.Send{Kind: codec.KindTopic}, codec.CodeInvalid},
		{"long name", codec.Send{Kind: codec.KindTopic, Name: []byte(strings.Repeat("n", 65))}, codec.CodeInvalid},
		{"control character", codec.Send{Kind: codec.KindTopic, Name: []byte("a\x1fb")}, codec.CodeInvalid},
		{"broken UTF-8", codec.Send{Kind: codec.KindDirect, Name: []byte("\xc3")}, codec.CodeInvalid},
		{"kind 0", codec.Send{Kind: 0, Name: []byte("x")}, codec.CodeInvalid},
		{"kind 9", codec.Send{Kind: 9, Name: []byte("x")}, codec.CodeInvalid},
		{"all by another name", codec.Send{Kind: codec.KindAll, Name: []byte("everyone")}, codec.CodeInvalid},
		{"group", codec.Send{Kind: codec.KindGroup, Name: []byte("g")}, codec.CodeNotFound},
		{"durable", codec.Send{Flags: codec.MsgDurable, Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"nine tags", codec.Send{Ext: tags(9, 1), Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"empty tag", codec.Send{Ext: tags(1, 0), Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"long tag", codec.Send{Ext: tags(1, 65), Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"good", codec.Send{Ext: tags(8, 64), Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeOK},
	} {
		s.send.Req = 7
		c.Send(codec.AppendSend(nil, s.send))
		if a := c.SendAck(); a.Req != 7 || a.Code != s.code {
			t.Errorf("%s: SENDACK %+v, want %v", s.name, a, s.code)
		}
	}
	for _, s := range []struct {
		name string
		sub  codec.Sub
		code codec.Code
	}{
		{"direct", codec.Sub{Kind: codec.KindDirect, Name: []byte("bob")}, codec.CodeInvalid},
		{"group", codec.Sub{Kind: codec.KindGroup, Name: []byte("g")}, codec.CodeNotFound},
		{"empty name", codec.Sub{Kind: codec.KindTopic}, codec.CodeInvalid},
		{"nine tags", codec.Sub{Ext: tags(9, 1), Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"mode 2", codec.Sub{Mode: 2, Kind: codec.KindTopic, Name: []byte("t")}, codec.CodeInvalid},
		{"all", codec.Sub{Kind: codec.KindAll, Name: []byte("all")}, codec.CodeOK},
	} {
		s.sub.Req = 8
		c.Send(codec.AppendSub(nil, s.sub))
		if a := c.SubAck(); a.Req != 8 || a.Code != s.code {
			t.Errorf("SUB %s: SUBACK %+v, want %v", s.name, a, s.code)
		}
	}
	c.Send(frame(24, "\x00\x00\x00\x05what"), frame(25, "\x00\x00\x00\x06"), frame(26, "skipped"), frame(27, ""))
	for _, req := range []uint32{5, 6} {
		if e := servertest.Expect(c, codec.TypeErr, codec.ConsumeErr); e.Req != req || e.Code != codec.CodeInvalid {
			t.Errorf("ERR %+v, want INVALID to req %d", e, req)
		}
	}
	// An ephemeral SEND with req 0 is not answered, but counted.
	before := n.Stats()
	c.Send(topicSend(0, "", "x"))
	c.Ping()
	eventually(t, "the refused SEND is counted", func() bool {
		return metricsOf(t, n)[`gannet_dropped_total{reason="invalid"}`] > 10
	})
	if after := n.Stats(); after.FramesIn < before.FramesIn {
		t.Errorf("frames went back from %d to %d", before.FramesIn, after.FramesIn)
	}
}

// Bytes that come behind what is malformed do not cost the peer its BYE.
func TestByeArrivesWithBytesInFlight(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	flood := make([]byte, 4<<20)
	for i := range 8 {
		c := servertest.Dial(t, n.Addr())
		c.Send(servertest.Hello("mallory", "d"+string(rune('0'+i))))
		c.Welcome()
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(append(frame(31, ""), flood...))
			sent <- err
		}()
		c.Bye(codec.CodeMalformed)
		c.Close()
		<-sent
	}
	allGone(t, n)
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, limits(server.Limits{LoginTimeout: 600 * time.Millisecond, FrameTimeout: 600 * time.Millisecond}))
	timesOut := func(t *testing.T, c *servertest.Conn, begun time.Time) {
		t.Helper()
		if b := c.Bye(codec.CodeTimeout); b.Retry != 0 {
			t.Errorf("BYE %+v, want no retry", b)
		}
		if d := time.Since(begun); d < 500*time.Millisecond || d > 5*time.Second {
			t.Errorf("ended after %v, want about 600 ms", d)
		}
	}
	t.Run("no HELLO", func(t *testing.T) {
		begun := time.Now()
		timesOut(t, servertest.Dial(t, n.Addr()), begun)
	})
	t.Run("half a HELLO", func(t *testing.T) {
		begun := time.Now()
		c := servertest.Dial(t, n.Addr())
		c.Send(servertest.Hello("mallory", "d")[:9])
		timesOut(t, c, begun)
	})
	t.Run("half a frame", func(t *testing.T) {
		c := servertest.Login(t, n.Addr(), "alice", "half")
		begun := time.Now()
		c.Send(append(codec.AppendPing(nil, codec.Ping{}), topicSend(1, "t", "text")[:10]...))
		servertest.Expect(c, codec.TypePong, codec.ConsumePing)
		timesOut(t, c, begun)
	})
	t.Run("HELLO byte by byte", func(t *testing.T) { trickle(t, servertest.Dial(t, n.Addr()), servertest.Hello("alice", "trickle")) })
	t.Run("SEND byte by byte", func(t *testing.T) {
		trickle(t, servertest.Login(t, n.Addr(), "alice", "trickle2"), topicSend(1, "t", strings.Repeat("x", 100)))
	})
	t.Run("whole frames in time", func(t *testing.T) {
		c := servertest.Login(t, n.Addr(), "alice", "steady")
		ping := codec.AppendPing(nil, codec.Ping{})
		for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; {
			c.Send(ping[:2])
			<-time.After(20 * time.Millisecond)
			c.Send(ping[2:])
			servertest.Expect(c, codec.TypePong, codec.ConsumePing)
		}
	})
	allGone(t, n)
}

// trickle sends a frame one byte at a time, too slowly; each byte is no excuse for the next.
func trickle(t *testing.T, c *servertest.Conn, frame []byte) {
	t.Helper()
	begun := time.Now()
	go func() {
		for _, b := range frame[:len(frame)-1] {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			<-time.After(40 * time.Millisecond)
		}
	}()
	c.Bye(codec.CodeTimeout)
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("ended after %v, want about 600 ms", d)
	}
	c.Close()
}

// One log line a second at most, whatever is thrown at the server; none of them from gnet.
func TestLogIsLimited(t *testing.T) {
	t.Parallel()
	var log logBuffer
	n := servertest.Start(t, server.Options{Logger: log.logger(), Limits: server.Limits{Connections: 50}})
	begun := time.Now()
	for i := range 300 {
		nc, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(badBeforeLogin[i%len(badBeforeLogin)].bytes)
		if i%3 == 0 {
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
		_ = nc.Close()
	}
	eventually(t, "all were ended", func() bool { return n.Open() == 0 })
	eventually(t, "a line is written", func() bool { return log.String() != "" })
	most := int(time.Since(begun).Seconds()) + 1
	if got := strings.Count(log.String(), "\n"); got < 1 || got > most {
		t.Errorf("%d log lines, want 1 to %d:\n%s", got, most, log.String())
	}
}

// An output that takes nothing holds up no loop: lines wait, then are counted as lost.
func TestStuckLogHoldsUpNobody(t *testing.T) {
	t.Parallel()
	stuck := make(stuckWriter)
	n := servertest.Start(t, server.Options{Logger: slog.New(slog.NewTextHandler(stuck, nil)), Loops: 2})
	defer close(stuck)
	for i := range 20 { // on both loops
		bad := servertest.Dial(t, n.Addr())
		bad.Send([]byte("GET / HTTP/1.1\r\n\r\n"))
		bad.Bye(codec.CodeMalformed)
		bad.Close()
		servertest.Login(t, n.Addr(), fmt.Sprintf("u%d", i), "d").Ping()
	}
}

// stuckWriter writes nothing until it is closed.
type stuckWriter chan struct{}

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w
	return len(p), nil
}
