package codec

import (
	"encoding/hex"
	"strings"
)

// golden is one vector before it is written out: a valid frame and who sends it.
type golden struct {
	name string
	from string // client or server
	wire []byte
}

// flawed is a frame that must be refused with err once limit is in force.
type flawed struct {
	name  string
	from  string
	wire  []byte
	limit int
	err   error
}

const maxU64 = 1<<64 - 1

var (
	id64  = []byte(strings.Repeat("n", MaxID))
	trace = []byte("\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36\x00\xf0\x67\xaa\x0b\xa9\x02\xb7\x01")
	u1    = []byte("u1")
	pair  = AppendPair(nil, []byte("u2"), u1)
)

func positions(ps ...Position) (l Positions) {
	for _, p := range ps {
		l.Append(p)
	}
	return l
}

func states(ss ...State) (l States) {
	for _, s := range ss {
		l.Append(s)
	}
	return l
}

func marks(ms ...Mark) (l Marks) {
	for _, m := range ms {
		l.Append(m)
	}
	return l
}

func conversations(cs ...Conversation) (l Conversations) {
	for _, c := range cs {
		l.Append(c)
	}
	return l
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// exampleGoldens are the frames of the worked example in docs/PROTOCOL.md, in its order.
var exampleGoldens = []golden{
	{"example-hello", "client", AppendHello(nil, Hello{Version: 1, Heartbeat: 30, Class: ClassMobile, Device: []byte("phone"), User: u1, Token: []byte("t0k")})},
	{"example-welcome", "server", AppendWelcome(nil, Welcome{Version: 1, Heartbeat: 30, Session: 7, Time: 1767225600000, MaxFrame: DefaultLimit, Window: 1024, Node: []byte("n1"), User: u1})},
	{"example-sub", "client", AppendSub(nil, Sub{Req: 1, Mode: SubFromNow, Kind: KindTopic, Name: []byte("news")})},
	{"example-suback", "server", AppendSubAck(nil, SubAck{Req: 1})},
	{"example-send", "client", AppendSend(nil, Send{Ext: TLVs(nil).Append(TagOrigin, []byte{0xca, 0xfe}), Req: 2, Kind: KindTopic, Name: []byte("news"), Content: ContentText, Payload: []byte("hi")})},
	{"example-sendack", "server", AppendSendAck(nil, SendAck{Req: 2, Time: 1767225601000})},
	{"example-msg", "server", AppendMsg(nil, Msg{Ext: TLVs(nil).Append(TagOrigin, []byte{0xca, 0xfe}), Kind: KindTopic, Name: []byte("news"), Time: 1767225601000, Sender: u1, Content: ContentText, Payload: []byte("hi")})},
}

var loginGoldens = []golden{
	{"hello-with-positions", "client", AppendHello(nil, Hello{
		Ext: TLVs(nil).Append(TagTrace, trace), Version: 1, Features: 0x80000001, Heartbeat: 300, Class: ClassIoT,
		Device: []byte("sensor-4"), User: []byte("größe"), Token: unhex("00ff10"), InboxEpoch: 0x1122334455667788, InboxPos: 4097,
		Positions: positions(
			Position{Kind: KindTopic, Name: []byte("news"), Epoch: 9, Seq: 41},
			Position{Kind: KindGroup, Name: id64, Epoch: maxU64, Seq: maxU64},
			Position{Kind: KindAll, Name: []byte(AllName)}),
	})},
	{"hello-token-longer-than-255", "client", AppendHello(nil, Hello{Version: 1, Device: []byte("d"), Token: []byte(strings.Repeat("x", 256))})},
	{"hello-later-version", "client", AppendHello(nil, Hello{Version: 255, Device: []byte("d"), User: []byte("u")})},
	{"welcome-resumed", "server", AppendWelcome(nil, Welcome{
		Ext: TLVs(nil).AppendUint64(TagNonce, 12), Version: 1, Features: 1, Heartbeat: 60, Session: maxU64, Time: 1767225600000,
		MaxFrame: MaxBody, Window: 65535, Node: id64, User: u1, InboxState: StateResumed, InboxEpoch: 5, InboxHead: 77,
		States: states(State{StateLive, 9, 41}, State{StateGap, maxU64, maxU64}, State{StateRefused, 0, 0}),
	})},
	{"auth-token", "client", AppendAuthToken(nil, AuthToken{Token: []byte("eyJhbGciOi.x.y")})},
	{"auth-token-empty", "client", AppendAuthToken(nil, AuthToken{})},
	{"auth-ok", "server", AppendAuthResult(nil, AuthResult{Expires: 1767229200000})},
	{"auth-refused", "server", AppendAuthResult(nil, AuthResult{Code: CodeUnauthorized})},
	{"ping-empty", "client", AppendPing(nil, Ping{})},
	{"ping-data", "server", AppendPing(nil, Ping{Data: unhex("0001020304fffeff")})},
	{"ping-heartbeat-wish", "client", AppendPing(nil, Ping{Ext: TLVs(nil).AppendUint16(TagHeartbeat, 300)})},
	{"pong-empty", "server", AppendPong(nil, Ping{})},
	{"pong-heartbeat-and-data", "server", AppendPong(nil, Ping{Ext: TLVs(nil).AppendUint16(TagHeartbeat, 300), Data: []byte("pingdata")})},
	{"bye-draining", "server", AppendBye(nil, Bye{Code: CodeDraining, Retry: 1, MinMs: 1000, MaxMs: 30000, Reason: []byte("node is going down")})},
	{"bye-from-client", "client", AppendBye(nil, Bye{})},
	{"bye-longest-reason", "server", AppendBye(nil, Bye{Code: CodeMalformed, Reason: []byte(strings.Repeat("é", 200))})},
	{"migrate", "server", AppendMigrate(nil, Migrate{Addr: []byte("192.0.2.7:7000"), Ticket: []byte("ticket"), MinMs: 0, MaxMs: 1<<32 - 1})},
}

var messageGoldens = []golden{
	{"send-durable-direct", "client", AppendSend(nil, Send{
		Ext: TLVs(nil).Append(TagTrace, trace).Append(TagOrigin, []byte("0123456789abcdef")), Req: 1<<32 - 1, Nonce: maxU64,
		Flags: MsgDurable | MsgReceipt | MsgUrgent, Kind: KindDirect, Name: []byte("u2"), Content: ContentJSON, Payload: []byte(`{"a":1}`),
	})},
	{"send-empty-payload", "client", AppendSend(nil, Send{Kind: KindTopic, Name: []byte("t")})},
	{"send-unknown-tlv", "client", AppendSend(nil, Send{Ext: TLVs(nil).Append(99, nil).Append(255, []byte{0}), Kind: KindGroup, Name: []byte("g"), Content: 128, Payload: []byte{0}})},
	{"send-longer-than-255", "client", AppendSend(nil, Send{Req: 3, Kind: KindAll, Name: []byte(AllName), Payload: []byte(strings.Repeat("\x00\xff", 150))})},
	{"sendack-duplicate", "server", AppendSendAck(nil, SendAck{Req: 9, Code: CodeDuplicate, Seq: 4, Time: 1767225600000})},
	{"sendack-busy", "server", AppendSendAck(nil, SendAck{Req: 1<<32 - 1, Code: CodeBusy})},
	{"msg-direct", "server", AppendMsg(nil, Msg{Flags: MsgDurable | MsgReceipt, Kind: KindDirect, Name: pair, Seq: 1, Time: 1767225600000, Sender: u1, Content: ContentText, Payload: []byte("grüße\n")})},
	{"msg-every-flag", "server", AppendMsg(nil, Msg{
		Ext: TLVs(nil).Append(TagRoute, []byte("red")).Append(TagRoute, []byte("blue")).AppendUint32(TagTTL, 3600), Flags: 0x0f, Kind: KindTopic,
		Name: id64, Seq: maxU64, Time: maxU64, Sender: id64, Content: 255, Payload: []byte{0x08, 0x96, 0x01},
	})},
	{"msg-longest-pair", "server", AppendMsg(nil, Msg{Kind: KindDirect, Name: AppendPair(nil, id64, id64), Sender: id64})},
	{"ack-inbox", "client", AppendAck(nil, Ack{Mode: AckDelivered, InboxPos: 4097})},
	{"ack-list", "client", AppendAck(nil, Ack{Mode: AckRead, Marks: marks(
		Mark{KindDirect, pair, 7}, Mark{KindTopic, []byte("t"), maxU64}, Mark{KindAll, []byte(AllName), 0})})},
	{"receipt-read", "server", AppendReceipt(nil, Receipt{Mode: AckRead, Kind: KindDirect, Name: pair, Seq: 7, User: []byte("u2"), Time: 1767225600000})},
	{"receipt-delivered-ext", "server", AppendReceipt(nil, Receipt{Ext: TLVs(nil).Append(TagApplication, []byte("x")), Mode: AckDelivered, Kind: KindGroup, Name: []byte("g"), Seq: maxU64, User: id64, Time: maxU64})},
	{"state-typing", "client", AppendState(nil, StateUpdate{Kind: KindDirect, Name: []byte("u2"), Key: []byte("typing"), TTL: 10, Payload: []byte{1}})},
	{"state-removed", "server", AppendState(nil, StateUpdate{Kind: KindTopic, Name: []byte("room"), Key: []byte("hand"), User: u1})},
}

var channelGoldens = []golden{
	{"sub-from-position-filtered", "client", AppendSub(nil, Sub{
		Ext: TLVs(nil).Append(TagRoute, []byte("red")).Append(TagRoute, []byte("blue")), Req: 4, Mode: SubFromPosition,
		Kind: KindTopic, Name: id64, Epoch: 9, Seq: 41,
	})},
	{"suback-gap", "server", AppendSubAck(nil, SubAck{Req: 4, State: StateGap, Epoch: 9, Head: 100})},
	{"suback-not-found", "server", AppendSubAck(nil, SubAck{Req: 5, Code: CodeNotFound})},
	{"unsub", "client", AppendUnsub(nil, Unsub{Req: 6, Kind: KindTopic, Name: []byte("news")})},
	{"unsub-empty-name", "client", AppendUnsub(nil, Unsub{Req: 6, Kind: KindTopic})},
	{"pull", "client", AppendPull(nil, Pull{Req: 7, Kind: KindDirect, Name: pair, From: 1, Limit: 65535})},
	{"range", "server", AppendRange(nil, Range{Req: 7, Count: 2, Next: 3, Epoch: 9})},
	{"range-not-found", "server", AppendRange(nil, Range{Ext: TLVs(nil).Append(TagTrace, trace), Req: 7, Code: CodeNotFound})},
	{"gap-inbox", "server", AppendGap(nil, Gap{Kind: KindInbox, From: 1, To: 99, Reason: GapExpired})},
	{"gap-channel", "server", AppendGap(nil, Gap{Kind: KindGroup, Name: []byte("g"), From: 5, To: maxU64, Reason: GapNotSent})},
	{"pos", "server", AppendPos(nil, Pos{InboxPos: 4098})},
	{"list", "client", AppendList(nil, List{Req: 8, After: 0, Limit: 50})},
	{"listed-empty", "server", AppendListed(nil, Listed{Req: 8, Code: CodeNotFound})},
	{"listed", "server", AppendListed(nil, Listed{Req: 8, Next: 2, Conversations: conversations(
		Conversation{KindDirect, pair, 7, 7, 6, 1767225600000}, Conversation{KindGroup, id64, maxU64, 0, 0, 1})})},
	{"err", "server", AppendErr(nil, Err{Req: 9, Code: CodeInvalid, Text: []byte("unknown request")})},
	{"err-no-req", "server", AppendErr(nil, Err{Code: CodeForbidden})},
	// A decoder reads an EXT area of no bytes; an encoder leaves the flag out.
	{"ext-area-empty", "client", unhex("000002 24 0000")},
}

var flawedFrames = []flawed{
	{"length-over-limit-on-four-bytes", "client", unhex("000005 04"), 4, ErrTooLarge},
	{"hello-over-4-kib-on-four-bytes", "client", unhex("001001 01"), LoginLimit, ErrTooLarge},
	{"longest-length", "server", unhex("ffffff 0a"), DefaultLimit, ErrTooLarge},
	{"tls-client-hello", "client", unhex("16030100f8010000f4"), LoginLimit, ErrTooLarge},
	{"http-request", "client", []byte("GET / HTTP/1.1\r\n"), LoginLimit, ErrTooLarge},
	{"flag-compressed-on-four-bytes", "client", unhex("000008 44"), 0, ErrReservedFlag},
	{"flag-sealed-on-four-bytes", "server", unhex("000008 84"), 0, ErrReservedFlag},
	{"ext-without-length", "client", unhex("000001 24 00"), 0, ErrTruncated},
	{"ext-longer-than-frame", "client", unhex("000004 24 0003 0500"), 0, ErrTruncated},
	{"tlv-without-length", "client", unhex("000003 24 0001 05"), 0, ErrTLV},
	{"tlv-longer-than-area", "client", unhex("000005 24 0003 050261"), 0, ErrTLV},
	{"tlv-reaching-into-body", "client", unhex("00000d 24 0003 0502aa bbbbbbbbbbbbbbbb"), 0, ErrTLV},
	{"type-0", "client", unhex("000000 00"), 0, ErrUnknownType},
	{"type-28", "client", unhex("000004 1c 00000001"), 0, ErrUnknownType},
	{"type-31", "server", unhex("000000 1f"), 0, ErrUnknownType},
	{"hello-wrong-magic", "client", unhex("000003 01 474e55"), 0, ErrMagic},
	{"hello-magic-cut", "client", unhex("000002 01 474e"), 0, ErrMagic},
	{"hello-nothing-behind-magic", "client", unhex("000003 01 474e54"), 0, ErrTruncated},
	{"hello-list-shorter-than-n", "client", cutBody(AppendHello(nil, Hello{Version: 1, Device: []byte("d"), Positions: positions(Position{Kind: KindTopic, Name: []byte("t")})}), 1), 0, ErrTruncated},
	{"hello-list-longer-than-n", "client", growBody(AppendHello(nil, Hello{Version: 1, Device: []byte("d")}), 19), 0, ErrTrailing},
	{"welcome-n-without-entries", "server", setLast(AppendWelcome(nil, Welcome{Version: 1}), 1), 0, ErrTruncated},
	{"auth-client-layout-from-server", "server", AppendAuthToken(nil, AuthToken{Token: []byte("abc")}), 0, ErrTruncated},
	{"auth-server-layout-from-client", "client", AppendAuthResult(nil, AuthResult{Expires: 1}), 0, ErrTrailing},
	{"auth-token-past-frame", "client", unhex("000003 03 0002 61"), 0, ErrTruncated},
	{"ping-one-byte", "client", unhex("000001 04 00"), 0, ErrBodyLength},
	{"pong-nine-bytes", "server", unhex("000009 05 000102030405060708"), 0, ErrBodyLength},
	{"bye-empty", "server", unhex("000000 06"), 0, ErrTruncated},
	{"migrate-cut", "server", cutBody(AppendMigrate(nil, Migrate{Addr: []byte("a:1")}), 4), 0, ErrTruncated},
	{"send-name-past-frame", "client", unhex("000010 08 00000001 0000000000000000 00 03 05 61"), 0, ErrTruncated},
	{"send-flag-log", "client", AppendSend(nil, Send{Flags: MsgLog, Kind: KindTopic, Name: []byte("t")}), 0, ErrUnknownFlags},
	{"send-flag-unknown", "client", AppendSend(nil, Send{Flags: 0x10, Kind: KindTopic, Name: []byte("t")}), 0, ErrUnknownFlags},
	{"sendack-trailing", "server", growBody(AppendSendAck(nil, SendAck{}), 1), 0, ErrTrailing},
	{"msg-flag-unknown", "server", AppendMsg(nil, Msg{Flags: 0x80, Kind: KindTopic, Name: []byte("t")}), 0, ErrUnknownFlags},
	{"msg-cut-in-sender", "server", unhex("000016 0a 00 03 01 74 0000000000000000 0000000000000000 02 61"), 0, ErrTruncated},
	{"ack-mode-0", "client", AppendAck(nil, Ack{Mode: 0}), 0, ErrMode},
	{"ack-mode-3", "client", AppendAck(nil, Ack{Mode: 3}), 0, ErrMode},
	{"ack-n-without-entries", "client", setLast(AppendAck(nil, Ack{Mode: AckRead}), 255), 0, ErrTruncated},
	{"sub-cut", "client", cutBody(AppendSub(nil, Sub{Kind: KindTopic, Name: []byte("t")}), 1), 0, ErrTruncated},
	{"suback-trailing", "server", growBody(AppendSubAck(nil, SubAck{}), 1), 0, ErrTrailing},
	{"unsub-name-past-frame", "client", unhex("000006 0e 00000001 03 01"), 0, ErrTruncated},
	{"pull-cut", "client", cutBody(AppendPull(nil, Pull{Name: []byte("t")}), 2), 0, ErrTruncated},
	{"range-trailing", "server", growBody(AppendRange(nil, Range{}), 4), 0, ErrTrailing},
	{"gap-cut", "server", cutBody(AppendGap(nil, Gap{}), 1), 0, ErrTruncated},
	{"pos-cut", "server", cutBody(AppendPos(nil, Pos{}), 1), 0, ErrTruncated},
	{"receipt-mode-0", "server", AppendReceipt(nil, Receipt{Kind: KindDirect, Name: pair}), 0, ErrMode},
	{"state-cut-in-key", "client", unhex("000006 14 03 01 74 04 6b 65"), 0, ErrTruncated},
	{"list-trailing", "client", growBody(AppendList(nil, List{}), 1), 0, ErrTrailing},
	{"listed-list-cut", "server", cutBody(AppendListed(nil, Listed{Conversations: conversations(Conversation{Name: []byte("g")})}), 8), 0, ErrTruncated},
	{"err-text-past-frame", "server", unhex("000008 17 00000001 0067 02 61"), 0, ErrTruncated},
}

// setBody announces the body length that a changed frame has.
func setBody(b []byte) []byte {
	n := len(b) - HeaderLen
	b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

func cutBody(b []byte, n int) []byte  { return setBody(b[:len(b)-n]) }
func growBody(b []byte, n int) []byte { return setBody(append(b, make([]byte, n)...)) }

func setLast(b []byte, v byte) []byte {
	b[len(b)-1] = v
	return b
}
