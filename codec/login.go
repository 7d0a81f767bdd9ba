package codec

// Hello is the first frame of a connection (TypeHello).
type Hello struct {
	Ext        TLVs
	Version    uint8
	Features   uint32
	Heartbeat  uint16 // wish, seconds
	Class      uint8
	Device     []byte
	User       []byte
	Token      []byte
	InboxEpoch uint64
	InboxPos   uint64
	Positions  Positions
}

// ConsumeHello reads the body of a HELLO. A wrong magic is ErrMagic. Of a later version only the
// layout up to Version is judged here; the layout of HELLO never changes.
func ConsumeHello(f Frame) (h Hello, err error) {
	r := reader{b: f.Body}
	if m := r.take(len(Magic)); r.bad || string(m) != Magic {
		return h, ErrMagic
	}
	h.Ext = f.Ext
	h.Version = r.u8()
	h.Features = r.u32()
	h.Heartbeat = r.u16()
	h.Class = r.u8()
	h.Device = r.str8()
	h.User = r.str8()
	h.Token = r.str16()
	h.InboxEpoch = r.u64()
	h.InboxPos = r.u64()
	h.Positions.consume(&r)
	return h, r.done()
}

// AppendHello appends a HELLO frame.
func AppendHello(dst []byte, h Hello) []byte {
	start := len(dst)
	dst = begin(dst, TypeHello, h.Ext)
	dst = append(dst, Magic...)
	dst = append(dst, h.Version)
	dst = be.AppendUint32(dst, h.Features)
	dst = be.AppendUint16(dst, h.Heartbeat)
	dst = append(dst, h.Class)
	dst = appendStr8(dst, h.Device)
	dst = appendStr8(dst, h.User)
	dst = appendStr16(dst, h.Token)
	dst = be.AppendUint64(dst, h.InboxEpoch)
	dst = be.AppendUint64(dst, h.InboxPos)
	dst = h.Positions.append(dst)
	return end(dst, start)
}

// Welcome answers HELLO (TypeWelcome).
type Welcome struct {
	Ext        TLVs
	Version    uint8
	Features   uint32
	Heartbeat  uint16 // in force, seconds
	Session    uint64
	Time       uint64 // Unix milliseconds
	MaxFrame   uint32 // bytes of body
	Window     uint16 // unanswered SENDs
	Node       []byte
	User       []byte
	InboxState uint8
	InboxEpoch uint64
	InboxHead  uint64
	States     States // one for each of HELLO's positions
}

// ConsumeWelcome reads the body of a WELCOME.
func ConsumeWelcome(f Frame) (w Welcome, err error) {
	r := reader{b: f.Body}
	w.Ext = f.Ext
	w.Version = r.u8()
	w.Features = r.u32()
	w.Heartbeat = r.u16()
	w.Session = r.u64()
	w.Time = r.u64()
	w.MaxFrame = r.u32()
	w.Window = r.u16()
	w.Node = r.str8()
	w.User = r.str8()
	w.InboxState = r.u8()
	w.InboxEpoch = r.u64()
	w.InboxHead = r.u64()
	w.States.consume(&r)
	return w, r.done()
}

// AppendWelcome appends a WELCOME frame.
func AppendWelcome(dst []byte, w Welcome) []byte {
	start := len(dst)
	dst = begin(dst, TypeWelcome, w.Ext)
	dst = append(dst, w.Version)
	dst = be.AppendUint32(dst, w.Features)
	dst = be.AppendUint16(dst, w.Heartbeat)
	dst = be.AppendUint64(dst, w.Session)
	dst = be.AppendUint64(dst, w.Time)
	dst = be.AppendUint32(dst, w.MaxFrame)
	dst = be.AppendUint16(dst, w.Window)
	dst = appendStr8(dst, w.Node)
	dst = appendStr8(dst, w.User)
	dst = append(dst, w.InboxState)
	dst = be.AppendUint64(dst, w.InboxEpoch)
	dst = be.AppendUint64(dst, w.InboxHead)
	dst = w.States.append(dst)
	return end(dst, start)
}

// AuthToken is AUTH from the client (TypeAuth): a fresh credential before the old one expires.
type AuthToken struct {
	Ext   TLVs
	Token []byte
}

// ConsumeAuthToken reads the body of a client's AUTH.
func ConsumeAuthToken(f Frame) (a AuthToken, err error) {
	r := reader{b: f.Body}
	a.Ext = f.Ext
	a.Token = r.str16()
	return a, r.done()
}

// AppendAuthToken appends a client's AUTH frame.
func AppendAuthToken(dst []byte, a AuthToken) []byte {
	start := len(dst)
	dst = appendStr16(begin(dst, TypeAuth, a.Ext), a.Token)
	return end(dst, start)
}

// AuthResult is AUTH from the server (TypeAuth).
type AuthResult struct {
	Ext     TLVs
	Code    Code
	Expires uint64 // Unix milliseconds; 0: never
}

// ConsumeAuthResult reads the body of a server's AUTH.
func ConsumeAuthResult(f Frame) (a AuthResult, err error) {
	r := reader{b: f.Body}
	a.Ext = f.Ext
	a.Code = Code(r.u16())
	a.Expires = r.u64()
	return a, r.done()
}

// AppendAuthResult appends a server's AUTH frame.
func AppendAuthResult(dst []byte, a AuthResult) []byte {
	start := len(dst)
	dst = be.AppendUint16(begin(dst, TypeAuth, a.Ext), uint16(a.Code))
	dst = be.AppendUint64(dst, a.Expires)
	return end(dst, start)
}

// Ping is PING or PONG (TypePing, TypePong): Data is empty or 8 bytes that come back.
type Ping struct {
	Ext  TLVs
	Data []byte
}

// ConsumePing reads the body of a PING or PONG.
func ConsumePing(f Frame) (p Ping, err error) {
	if n := len(f.Body); n != 0 && n != 8 {
		return p, ErrBodyLength
	}
	return Ping{Ext: f.Ext, Data: f.Body}, nil
}

// AppendPing appends a PING frame.
func AppendPing(dst []byte, p Ping) []byte { return appendPing(dst, TypePing, p) }

// AppendPong appends a PONG frame.
func AppendPong(dst []byte, p Ping) []byte { return appendPing(dst, TypePong, p) }

func appendPing(dst []byte, t Type, p Ping) []byte {
	start := len(dst)
	return end(append(begin(dst, t, p.Ext), p.Data...), start)
}

// Bye ends a connection (TypeBye). Retry is 1 when the peer should come back after a time drawn uniformly
// from MinMs to MaxMs, 0 when it should not.
type Bye struct {
	Ext    TLVs
	Code   Code
	Retry  uint8
	MinMs  uint32
	MaxMs  uint32
	Reason []byte // for people; cut to 255 bytes
}

// ConsumeBye reads the body of a BYE.
func ConsumeBye(f Frame) (b Bye, err error) {
	r := reader{b: f.Body}
	b.Ext = f.Ext
	b.Code = Code(r.u16())
	b.Retry = r.u8()
	b.MinMs = r.u32()
	b.MaxMs = r.u32()
	b.Reason = r.str8()
	return b, r.done()
}

// AppendBye appends a BYE frame.
func AppendBye(dst []byte, b Bye) []byte {
	start := len(dst)
	dst = be.AppendUint16(begin(dst, TypeBye, b.Ext), uint16(b.Code))
	dst = append(dst, b.Retry)
	dst = be.AppendUint32(dst, b.MinMs)
	dst = be.AppendUint32(dst, b.MaxMs)
	dst = appendText8(dst, b.Reason)
	return end(dst, start)
}

// Migrate sends a client to another node (TypeMigrate).
type Migrate struct {
	Ext    TLVs
	Addr   []byte
	Ticket []byte // goes into HELLO's token
	MinMs  uint32
	MaxMs  uint32
}

// ConsumeMigrate reads the body of a MIGRATE.
func ConsumeMigrate(f Frame) (m Migrate, err error) {
	r := reader{b: f.Body}
	m.Ext = f.Ext
	m.Addr = r.str8()
	m.Ticket = r.str16()
	m.MinMs = r.u32()
	m.MaxMs = r.u32()
	return m, r.done()
}

// AppendMigrate appends a MIGRATE frame.
func AppendMigrate(dst []byte, m Migrate) []byte {
	start := len(dst)
	dst = appendStr8(begin(dst, TypeMigrate, m.Ext), m.Addr)
	dst = appendStr16(dst, m.Ticket)
	dst = be.AppendUint32(dst, m.MinMs)
	dst = be.AppendUint32(dst, m.MaxMs)
	return end(dst, start)
}
