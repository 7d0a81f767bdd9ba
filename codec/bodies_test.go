package codec

import (
	"reflect"

	"pgregory.net/rapid"
)

// body ties the functions of one body type together, so that every property is tested on all of them.
type body struct {
	name       string
	typ        Type
	fromClient bool
	decode     func(Frame) (any, error)
	encode     func([]byte, any) []byte
	gen        func(*rapid.T) any
}

func bodyOf[T any](name string, typ Type, fromClient bool, consume func(Frame) (T, error), app func([]byte, T) []byte, gen func(*rapid.T) T) body {
	return body{
		name: name, typ: typ, fromClient: fromClient,
		decode: func(f Frame) (any, error) { return consume(f) },
		encode: func(dst []byte, v any) []byte { return app(dst, v.(T)) },
		gen:    func(t *rapid.T) any { return gen(t) },
	}
}

// bodies has every body type once, PING and PONG apart, AUTH in both directions.
var bodies = []body{
	bodyOf("HELLO", TypeHello, true, ConsumeHello, AppendHello, genHello),
	bodyOf("WELCOME", TypeWelcome, false, ConsumeWelcome, AppendWelcome, genWelcome),
	bodyOf("AUTH-token", TypeAuth, true, ConsumeAuthToken, AppendAuthToken, func(t *rapid.T) AuthToken {
		return AuthToken{Ext: genExt(t), Token: genBytes(t, "token", 600)}
	}),
	bodyOf("AUTH-result", TypeAuth, false, ConsumeAuthResult, AppendAuthResult, func(t *rapid.T) AuthResult {
		return AuthResult{Ext: genExt(t), Code: Code(u16(t)), Expires: u64(t)}
	}),
	bodyOf("PING", TypePing, true, ConsumePing, AppendPing, genPing),
	bodyOf("PONG", TypePong, false, ConsumePing, AppendPong, genPing),
	bodyOf("BYE", TypeBye, false, ConsumeBye, AppendBye, func(t *rapid.T) Bye {
		return Bye{Ext: genExt(t), Code: Code(u16(t)), Retry: u8(t), MinMs: u32(t), MaxMs: u32(t), Reason: genBytes(t, "reason", 255)}
	}),
	bodyOf("MIGRATE", TypeMigrate, false, ConsumeMigrate, AppendMigrate, func(t *rapid.T) Migrate {
		return Migrate{Ext: genExt(t), Addr: genBytes(t, "addr", 255), Ticket: genBytes(t, "ticket", 600), MinMs: u32(t), MaxMs: u32(t)}
	}),
	bodyOf("SEND", TypeSend, true, ConsumeSend, AppendSend, func(t *rapid.T) Send {
		return Send{Ext: genExt(t), Req: u32(t), Nonce: u64(t), Flags: u8(t) & sendFlags, Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Content: u8(t), Payload: genBytes(t, "payload", 600)}
	}),
	bodyOf("SENDACK", TypeSendAck, false, ConsumeSendAck, AppendSendAck, func(t *rapid.T) SendAck {
		return SendAck{Ext: genExt(t), Req: u32(t), Code: Code(u16(t)), Seq: u64(t), Time: u64(t)}
	}),
	bodyOf("MSG", TypeMsg, false, ConsumeMsg, AppendMsg, genMsg),
	bodyOf("ACK", TypeAck, true, ConsumeAck, AppendAck, genAck),
	bodyOf("SUB", TypeSub, true, ConsumeSub, AppendSub, func(t *rapid.T) Sub {
		return Sub{Ext: genExt(t), Req: u32(t), Mode: u8(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Epoch: u64(t), Seq: u64(t)}
	}),
	bodyOf("SUBACK", TypeSubAck, false, ConsumeSubAck, AppendSubAck, func(t *rapid.T) SubAck {
		return SubAck{Ext: genExt(t), Req: u32(t), Code: Code(u16(t)), State: u8(t), Epoch: u64(t), Head: u64(t)}
	}),
	bodyOf("UNSUB", TypeUnsub, true, ConsumeUnsub, AppendUnsub, func(t *rapid.T) Unsub {
		return Unsub{Ext: genExt(t), Req: u32(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255)}
	}),
	bodyOf("PULL", TypePull, true, ConsumePull, AppendPull, func(t *rapid.T) Pull {
		return Pull{Ext: genExt(t), Req: u32(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), From: u64(t), Limit: u16(t)}
	}),
	bodyOf("RANGE", TypeRange, false, ConsumeRange, AppendRange, func(t *rapid.T) Range {
		return Range{Ext: genExt(t), Req: u32(t), Code: Code(u16(t)), Count: u16(t), Next: u64(t), Epoch: u64(t)}
	}),
	bodyOf("GAP", TypeGap, false, ConsumeGap, AppendGap, func(t *rapid.T) Gap {
		return Gap{Ext: genExt(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), From: u64(t), To: u64(t), Reason: u8(t)}
	}),
	bodyOf("POS", TypePos, false, ConsumePos, AppendPos, func(t *rapid.T) Pos {
		return Pos{Ext: genExt(t), InboxPos: u64(t)}
	}),
	bodyOf("RECEIPT", TypeReceipt, false, ConsumeReceipt, AppendReceipt, func(t *rapid.T) Receipt {
		return Receipt{Ext: genExt(t), Mode: genMode(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Seq: u64(t), User: genBytes(t, "user", 255), Time: u64(t)}
	}),
	bodyOf("STATE", TypeState, true, ConsumeState, AppendState, func(t *rapid.T) StateUpdate {
		return StateUpdate{Ext: genExt(t), Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Key: genBytes(t, "key", 255), User: genBytes(t, "user", 255), TTL: u16(t), Payload: genBytes(t, "payload", 600)}
	}),
	bodyOf("LIST", TypeList, true, ConsumeList, AppendList, func(t *rapid.T) List {
		return List{Ext: genExt(t), Req: u32(t), After: u64(t), Limit: u16(t)}
	}),
	bodyOf("LISTED", TypeListed, false, ConsumeListed, AppendListed, genListed),
	bodyOf("ERR", TypeErr, false, ConsumeErr, AppendErr, func(t *rapid.T) Err {
		return Err{Ext: genExt(t), Req: u32(t), Code: Code(u16(t)), Text: genBytes(t, "text", 255)}
	}),
}

// bodyFor finds the body type of a frame.
func bodyFor(typ Type, fromClient bool) (body, bool) {
	for _, b := range bodies {
		if b.typ == typ && (typ != TypeAuth || b.fromClient == fromClient) {
			return b, true
		}
	}
	return body{}, false
}

func u8(t *rapid.T) uint8   { return rapid.Uint8().Draw(t, "u8") }
func u16(t *rapid.T) uint16 { return rapid.Uint16().Draw(t, "u16") }
func u32(t *rapid.T) uint32 { return rapid.Uint32().Draw(t, "u32") }
func u64(t *rapid.T) uint64 { return rapid.Uint64().Draw(t, "u64") }

// genBytes draws up to limit bytes of any value; the longest and the empty string come often.
func genBytes(t *rapid.T, name string, limit int) []byte {
	n := rapid.OneOf(rapid.Just(0), rapid.Just(limit), rapid.IntRange(0, limit)).Draw(t, name+" length")
	b := make([]byte, n)
	seed := rapid.SliceOfN(rapid.Byte(), 1, 16).Draw(t, name)
	for i := range b {
		b[i] = seed[i%len(seed)]
	}
	return b
}

func genExt(t *rapid.T) (ext TLVs) {
	for range rapid.IntRange(0, 3).Draw(t, "TLVs") {
		ext = ext.Append(Tag(u8(t)), genBytes(t, "value", 255))
	}
	return ext
}

func genMode(t *rapid.T) uint8 {
	return rapid.SampledFrom([]uint8{AckDelivered, AckRead}).Draw(t, "mode")
}

func genLen(t *rapid.T) int { return rapid.IntRange(0, 5).Draw(t, "entries") }

func genHello(t *rapid.T) Hello {
	h := Hello{
		Ext: genExt(t), Version: u8(t), Features: u32(t), Heartbeat: u16(t), Class: u8(t),
		Device: genBytes(t, "device", 255), User: genBytes(t, "user", 255), Token: genBytes(t, "token", 600),
		InboxEpoch: u64(t), InboxPos: u64(t),
	}
	for range genLen(t) {
		h.Positions.Append(Position{Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Epoch: u64(t), Seq: u64(t)})
	}
	return h
}

func genWelcome(t *rapid.T) Welcome {
	w := Welcome{
		Ext: genExt(t), Version: u8(t), Features: u32(t), Heartbeat: u16(t), Session: u64(t), Time: u64(t),
		MaxFrame: u32(t), Window: u16(t), Node: genBytes(t, "node", 255), User: genBytes(t, "user", 255),
		InboxState: u8(t), InboxEpoch: u64(t), InboxHead: u64(t),
	}
	for range genLen(t) {
		w.States.Append(State{State: u8(t), Epoch: u64(t), Head: u64(t)})
	}
	return w
}

func genPing(t *rapid.T) Ping {
	n := rapid.SampledFrom([]int{0, 8}).Draw(t, "data length")
	return Ping{Ext: genExt(t), Data: rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "data")}
}

func genMsg(t *rapid.T) Msg {
	return Msg{
		Ext: genExt(t), Flags: u8(t) & msgFlags, Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Seq: u64(t),
		Time: u64(t), Sender: genBytes(t, "sender", 255), Content: u8(t), Payload: genBytes(t, "payload", 600),
	}
}

func genAck(t *rapid.T) Ack {
	a := Ack{Ext: genExt(t), Mode: genMode(t), InboxPos: u64(t)}
	for range genLen(t) {
		a.Marks.Append(Mark{Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Seq: u64(t)})
	}
	return a
}

func genListed(t *rapid.T) Listed {
	l := Listed{Ext: genExt(t), Req: u32(t), Code: Code(u16(t)), Next: u64(t)}
	for range genLen(t) {
		l.Conversations.Append(Conversation{
			Kind: Kind(u8(t)), Name: genBytes(t, "name", 255), Head: u64(t), Delivered: u64(t), Read: u64(t), Time: u64(t),
		})
	}
	return l
}

// same is reflect.DeepEqual except that nil and empty slices are one: on the wire they are.
func same(a, b any) bool { return sameValue(reflect.ValueOf(a), reflect.ValueOf(b)) }

func sameValue(a, b reflect.Value) bool {
	if a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !sameValue(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		return string(a.Bytes()) == string(b.Bytes())
	default:
		return a.Equal(b)
	}
}
