package codec

// Sub asks for a subscription (TypeSub). Ext may hold TagRoute filters.
type Sub struct {
	Ext   TLVs
	Req   uint32
	Mode  uint8
	Kind  Kind
	Name  []byte
	Epoch uint64
	Seq   uint64
}

// ConsumeSub reads the body of a SUB.
func ConsumeSub(f Frame) (s Sub, err error) {
	r := reader{b: f.Body}
	s.Ext = f.Ext
	s.Req = r.u32()
	s.Mode = r.u8()
	s.Kind = Kind(r.u8())
	s.Name = r.str8()
	s.Epoch = r.u64()
	s.Seq = r.u64()
	return s, r.done()
}

// AppendSub appends a SUB frame.
func AppendSub(dst []byte, s Sub) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeSub, s.Ext), s.Req)
	dst = append(dst, s.Mode, byte(s.Kind))
	dst = appendStr8(dst, s.Name)
	dst = be.AppendUint64(dst, s.Epoch)
	dst = be.AppendUint64(dst, s.Seq)
	return end(dst, start)
}

// SubAck answers SUB and UNSUB (TypeSubAck).
type SubAck struct {
	Ext   TLVs
	Req   uint32
	Code  Code
	State uint8
	Epoch uint64
	Head  uint64
}

// ConsumeSubAck reads the body of a SUBACK.
func ConsumeSubAck(f Frame) (s SubAck, err error) {
	r := reader{b: f.Body}
	s.Ext = f.Ext
	s.Req = r.u32()
	s.Code = Code(r.u16())
	s.State = r.u8()
	s.Epoch = r.u64()
	s.Head = r.u64()
	return s, r.done()
}

// AppendSubAck appends a SUBACK frame.
func AppendSubAck(dst []byte, s SubAck) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeSubAck, s.Ext), s.Req)
	dst = be.AppendUint16(dst, uint16(s.Code))
	dst = append(dst, s.State)
	dst = be.AppendUint64(dst, s.Epoch)
	dst = be.AppendUint64(dst, s.Head)
	return end(dst, start)
}

// Unsub ends a subscription (TypeUnsub).
type Unsub struct {
	Ext  TLVs
	Req  uint32
	Kind Kind
	Name []byte
}

// ConsumeUnsub reads the body of an UNSUB.
func ConsumeUnsub(f Frame) (u Unsub, err error) {
	r := reader{b: f.Body}
	u.Ext = f.Ext
	u.Req = r.u32()
	u.Kind = Kind(r.u8())
	u.Name = r.str8()
	return u, r.done()
}

// AppendUnsub appends an UNSUB frame.
func AppendUnsub(dst []byte, u Unsub) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeUnsub, u.Ext), u.Req)
	dst = append(dst, byte(u.Kind))
	dst = appendStr8(dst, u.Name)
	return end(dst, start)
}

// Pull asks for history (TypePull).
type Pull struct {
	Ext   TLVs
	Req   uint32
	Kind  Kind
	Name  []byte
	From  uint64
	Limit uint16
}

// ConsumePull reads the body of a PULL.
func ConsumePull(f Frame) (p Pull, err error) {
	r := reader{b: f.Body}
	p.Ext = f.Ext
	p.Req = r.u32()
	p.Kind = Kind(r.u8())
	p.Name = r.str8()
	p.From = r.u64()
	p.Limit = r.u16()
	return p, r.done()
}

// AppendPull appends a PULL frame.
func AppendPull(dst []byte, p Pull) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypePull, p.Ext), p.Req)
	dst = append(dst, byte(p.Kind))
	dst = appendStr8(dst, p.Name)
	dst = be.AppendUint64(dst, p.From)
	dst = be.AppendUint16(dst, p.Limit)
	return end(dst, start)
}

// Range answers PULL (TypeRange); Count MSG frames follow at once.
type Range struct {
	Ext   TLVs
	Req   uint32
	Code  Code
	Count uint16
	Next  uint64
	Epoch uint64
}

// ConsumeRange reads the body of a RANGE.
func ConsumeRange(f Frame) (x Range, err error) {
	r := reader{b: f.Body}
	x.Ext = f.Ext
	x.Req = r.u32()
	x.Code = Code(r.u16())
	x.Count = r.u16()
	x.Next = r.u64()
	x.Epoch = r.u64()
	return x, r.done()
}

// AppendRange appends a RANGE frame.
func AppendRange(dst []byte, x Range) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeRange, x.Ext), x.Req)
	dst = be.AppendUint16(dst, uint16(x.Code))
	dst = be.AppendUint16(dst, x.Count)
	dst = be.AppendUint64(dst, x.Next)
	dst = be.AppendUint64(dst, x.Epoch)
	return end(dst, start)
}

// Gap says which messages will not come (TypeGap): From to To, both included.
type Gap struct {
	Ext    TLVs
	Kind   Kind
	Name   []byte
	From   uint64
	To     uint64
	Reason uint8
}

// ConsumeGap reads the body of a GAP.
func ConsumeGap(f Frame) (g Gap, err error) {
	r := reader{b: f.Body}
	g.Ext = f.Ext
	g.Kind = Kind(r.u8())
	g.Name = r.str8()
	g.From = r.u64()
	g.To = r.u64()
	g.Reason = r.u8()
	return g, r.done()
}

// AppendGap appends a GAP frame.
func AppendGap(dst []byte, g Gap) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeGap, g.Ext), byte(g.Kind))
	dst = appendStr8(dst, g.Name)
	dst = be.AppendUint64(dst, g.From)
	dst = be.AppendUint64(dst, g.To)
	dst = append(dst, g.Reason)
	return end(dst, start)
}

// Pos says that all up to InboxPos in the user's inbox is on the wire before it (TypePos).
type Pos struct {
	Ext      TLVs
	InboxPos uint64
}

// ConsumePos reads the body of a POS.
func ConsumePos(f Frame) (p Pos, err error) {
	r := reader{b: f.Body}
	p.Ext = f.Ext
	p.InboxPos = r.u64()
	return p, r.done()
}

// AppendPos appends a POS frame.
func AppendPos(dst []byte, p Pos) []byte {
	start := len(dst)
	return end(be.AppendUint64(begin(dst, TypePos, p.Ext), p.InboxPos), start)
}

// List asks for the user's conversations, most recent first (TypeList).
type List struct {
	Ext   TLVs
	Req   uint32
	After uint64
	Limit uint16
}

// ConsumeList reads the body of a LIST.
func ConsumeList(f Frame) (l List, err error) {
	r := reader{b: f.Body}
	l.Ext = f.Ext
	l.Req = r.u32()
	l.After = r.u64()
	l.Limit = r.u16()
	return l, r.done()
}

// AppendList appends a LIST frame.
func AppendList(dst []byte, l List) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeList, l.Ext), l.Req)
	dst = be.AppendUint64(dst, l.After)
	dst = be.AppendUint16(dst, l.Limit)
	return end(dst, start)
}

// Listed answers LIST (TypeListed).
type Listed struct {
	Ext           TLVs
	Req           uint32
	Code          Code
	Next          uint64
	Conversations Conversations
}

// ConsumeListed reads the body of a LISTED.
func ConsumeListed(f Frame) (l Listed, err error) {
	r := reader{b: f.Body}
	l.Ext = f.Ext
	l.Req = r.u32()
	l.Code = Code(r.u16())
	l.Next = r.u64()
	l.Conversations.consume(&r)
	return l, r.done()
}

// AppendListed appends a LISTED frame.
func AppendListed(dst []byte, l Listed) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeListed, l.Ext), l.Req)
	dst = be.AppendUint16(dst, uint16(l.Code))
	dst = be.AppendUint64(dst, l.Next)
	dst = l.Conversations.append(dst)
	return end(dst, start)
}

// Err answers a request that failed and has no answer type of its own (TypeErr). Req is 0 for frames
// without a req.
type Err struct {
	Ext  TLVs
	Req  uint32
	Code Code
	Text []byte // for people; cut to 255 bytes
}

// ConsumeErr reads the body of an ERR.
func ConsumeErr(f Frame) (e Err, err error) {
	r := reader{b: f.Body}
	e.Ext = f.Ext
	e.Req = r.u32()
	e.Code = Code(r.u16())
	e.Text = r.str8()
	return e, r.done()
}

// AppendErr appends an ERR frame.
func AppendErr(dst []byte, e Err) []byte {
	start := len(dst)
	dst = be.AppendUint32(begin(dst, TypeErr, e.Ext), e.Req)
	dst = be.AppendUint16(dst, uint16(e.Code))
	dst = appendText8(dst, e.Text)
	return end(dst, start)
}
