package codec

import "testing"

var (
	hotSend = Send{
		Ext: TLVs(nil).Append(TagOrigin, []byte("01234567")), Req: 7, Nonce: 99, Flags: MsgDurable, Kind: KindTopic,
		Name: []byte("news"), Content: ContentText, Payload: make([]byte, 100),
	}
	hotMsg = Msg{
		Ext: hotSend.Ext, Flags: MsgDurable, Kind: KindTopic, Name: []byte("news"), Seq: 41, Time: 1767225600000,
		Sender: []byte("u1"), Content: ContentText, Payload: make([]byte, 100),
	}
	hotPing  = Ping{Data: []byte("12345678")}
	hotHello = Hello{
		Version: 1, Heartbeat: 30, Class: ClassMobile, Device: []byte("phone"), User: []byte("u1"), Token: make([]byte, 200),
		Positions: positions(Position{Kind: KindTopic, Name: []byte("a"), Epoch: 1, Seq: 2}, Position{Kind: KindTopic, Name: []byte("b")}),
	}
	hotAck = Ack{Mode: AckRead, InboxPos: 9, Marks: marks(Mark{Kind: KindTopic, Name: []byte("a"), Seq: 2})}
)

// hot is a frame whose cost counts: encode appends it, decode reads it from its bytes.
type hot struct {
	name   string
	encode func([]byte) []byte
	decode func(testing.TB)
}

func hotOf[T any](name string, v T, app func([]byte, T) []byte, consume func(Frame) (T, error)) hot {
	wire := app(nil, v)
	return hot{name, func(dst []byte) []byte { return app(dst, v) }, func(tb testing.TB) {
		f, _, err := ConsumeFrame(wire, DefaultLimit)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := consume(f); err != nil {
			tb.Fatal(err)
		}
	}}
}

var hotPath = []hot{
	hotOf("SEND", hotSend, AppendSend, ConsumeSend),
	hotOf("MSG", hotMsg, AppendMsg, ConsumeMsg),
	hotOf("PING", hotPing, AppendPing, ConsumePing),
	hotOf("HELLO", hotHello, AppendHello, ConsumeHello),
	hotOf("ACK", hotAck, AppendAck, ConsumeAck),
}

// BenchmarkDecode cuts a frame off the stream and reads its body. SEND and MSG have an origin and 100 bytes of payload.
func BenchmarkDecode(b *testing.B) {
	for _, h := range hotPath {
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.decode(b)
			}
		})
	}
}

// BenchmarkEncode appends a frame to a buffer that has room for it.
func BenchmarkEncode(b *testing.B) {
	for _, h := range hotPath {
		b.Run(h.name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = h.encode(buf[:0])
			}
		})
	}
}
