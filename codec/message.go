package codec

// Send asks for a message to be delivered (TypeSend).
type Send struct {
	Ext     TLVs
	Req     uint32
	Nonce   uint64
	Flags   uint8
	Kind    Kind
	Name    []byte // the peer for KindDirect
	Content uint8
	Payload []byte
}

// ConsumeSend reads the body of a SEND.
func ConsumeSend(f Frame) (s Send, err error) {
	r := reader{b: f.Body}
	s.Ext = f.Ext
	s.Req = r.u32()
	s.Nonce = r.u64()
	s.Flags = r.u8()
	s.Kind = Kind(r.u8())
	s.Name = r.str8()
	s.Content = r.u8()
	s.Payload = r.rest()
	if err = r.done(); err == nil && s.Flags&^sendFlags != 0 {
		err = ErrUnknownFlags
	}
	return s, err
}

// AppendSend appends a SEND frame.
func AppendSend(dst []byte, s Send) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeSend, s.Ext), s.Req)
	dst = be.AppendUint64(dst, s.Nonce)
	dst = append(dst, s.Flags, byte(s.Kind))
	dst = appendStr8(dst, s.Name)
	dst = append(dst, s.Content)
	dst = append(dst, s.Payload...)
	return end(dst, start)
}

// SendAck answers a SEND (TypeSendAck).
type SendAck struct {
	Ext  TLVs
	Req  uint32
	Code Code
	Seq  uint64 // 0 for an ephemeral message
	Time uint64 // Unix milliseconds
}

// ConsumeSendAck reads the body of a SENDACK.
func ConsumeSendAck(f Frame) (a SendAck, err error) {
	r := reader{b: f.Body}
	a.Ext = f.Ext
	a.Req = r.u32()
	a.Code = Code(r.u16())
	a.Seq = r.u64()
	a.Time = r.u64()
	return a, r.done()
}

// AppendSendAck appends a SENDACK frame.
func AppendSendAck(dst []byte, a SendAck) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeSendAck, a.Ext), a.Req)
	dst = be.AppendUint16(dst, uint16(a.Code))
	dst = be.AppendUint64(dst, a.Seq)
	dst = be.AppendUint64(dst, a.Time)
	return end(dst, start)
}

// Msg is a message on its way to receivers (TypeMsg). Nothing in it depends on who receives it.
type Msg struct {
	Ext     TLVs
	Flags   uint8
	Kind    Kind
	Name    []byte // the pair for KindDirect
	Seq     uint64 // 0: ephemeral
	Time    uint64 // Unix milliseconds
	Sender  []byte
	Content uint8
	Payload []byte
}

// ConsumeMsg reads the body of a MSG.
func ConsumeMsg(f Frame) (m Msg, err error) {
	r := reader{b: f.Body}
	m.Ext = f.Ext
	m.Flags = r.u8()
	m.Kind = Kind(r.u8())
	m.Name = r.str8()
	m.Seq = r.u64()
	m.Time = r.u64()
	m.Sender = r.str8()
	m.Content = r.u8()
	m.Payload = r.rest()
	if err = r.done(); err == nil && m.Flags&^msgFlags != 0 {
		err = ErrUnknownFlags
	}
	return m, err
}

// AppendMsg appends a MSG frame.
func AppendMsg(dst []byte, m Msg) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeMsg, m.Ext), m.Flags, byte(m.Kind))
	dst = appendStr8(dst, m.Name)
	dst = be.AppendUint64(dst, m.Seq)
	dst = be.AppendUint64(dst, m.Time)
	dst = appendStr8(dst, m.Sender)
	dst = append(dst, m.Content)
	dst = append(dst, m.Payload...)
	return end(dst, start)
}

// MsgLen is the number of bytes that AppendMsg appends for m.
func MsgLen(m Msg) int {
	n := HeaderLen + 2 + 1 + len(m.Name) + 16 + 1 + len(m.Sender) + 1 + len(m.Payload)
	if len(m.Ext) > 0 {
		n += 2 + len(m.Ext)
	}
	return n
}

// Ack says how far a device has got (TypeAck). It is cumulative.
type Ack struct {
	Ext      TLVs
	Mode     uint8
	InboxPos uint64
	Marks    Marks
}

// ConsumeAck reads the body of an ACK.
func ConsumeAck(f Frame) (a Ack, err error) {
	r := reader{b: f.Body}
	a.Ext = f.Ext
	a.Mode = r.u8()
	a.InboxPos = r.u64()
	a.Marks.consume(&r)
	if err = r.done(); err == nil && a.Mode != AckDelivered && a.Mode != AckRead {
		err = ErrMode
	}
	return a, err
}

// AppendAck appends an ACK frame.
func AppendAck(dst []byte, a Ack) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeAck, a.Ext), a.Mode)
	dst = be.AppendUint64(dst, a.InboxPos)
	dst = a.Marks.append(dst)
	return end(dst, start)
}

// Receipt tells a sender what was delivered or read (TypeReceipt). It is cumulative.
type Receipt struct {
	Ext  TLVs
	Mode uint8
	Kind Kind
	Name []byte
	Seq  uint64
	User []byte
	Time uint64
}

// ConsumeReceipt reads the body of a RECEIPT.
func ConsumeReceipt(f Frame) (x Receipt, err error) {
	r := reader{b: f.Body}
	x.Ext = f.Ext
	x.Mode = r.u8()
	x.Kind = Kind(r.u8())
	x.Name = r.str8()
	x.Seq = r.u64()
	x.User = r.str8()
	x.Time = r.u64()
	if err = r.done(); err == nil && x.Mode != AckDelivered && x.Mode != AckRead {
		err = ErrMode
	}
	return x, err
}

// AppendReceipt appends a RECEIPT frame.
func AppendReceipt(dst []byte, x Receipt) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeReceipt, x.Ext), x.Mode, byte(x.Kind))
	dst = appendStr8(dst, x.Name)
	dst = be.AppendUint64(dst, x.Seq)
	dst = appendStr8(dst, x.User)
	dst = be.AppendUint64(dst, x.Time)
	return end(dst, start)
}

// StateUpdate is the latest value of (channel, key, user) (TypeState): typing, presence, a sensor's reading.
// An empty payload removes the value.
type StateUpdate struct {
	Ext     TLVs
	Kind    Kind
	Name    []byte // from a client the peer for KindDirect
	Key     []byte
	User    []byte // from a client empty or its own
	TTL     uint16 // seconds; 0: until the session that set it ends
	Payload []byte
}

// ConsumeState reads the body of a STATE.
func ConsumeState(f Frame) (s StateUpdate, err error) {
	r := reader{b: f.Body}
	s.Ext = f.Ext
	s.Kind = Kind(r.u8())
	s.Name = r.str8()
	s.Key = r.str8()
	s.User = r.str8()
	s.TTL = r.u16()
	s.Payload = r.rest()
	return s, r.done()
}

// AppendState appends a STATE frame.
func AppendState(dst []byte, s StateUpdate) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeState, s.Ext), byte(s.Kind))
	dst = appendStr8(dst, s.Name)
	dst = appendStr8(dst, s.Key)
	dst = appendStr8(dst, s.User)
	dst = be.AppendUint16(dst, s.TTL)
	dst = append(dst, s.Payload...)
	return end(dst, start)
}
