package codec

// layout describes a body for the tools that show frames: fields with their forms in wire order, then the
// entries of the list whose length is the last field, n.
//
// Forms: u8, u16, u32 and u64 are integers; code is a u16 out of Code; str8 and str16 are text and bytes
// behind a length; GNT is the three bytes of Magic; rest is everything up to the frame's end.
type layout struct {
	body  string
	list  string // name of the list; empty without one
	entry string
}

// layouts mirrors the table of docs/PROTOCOL.md; a test compares the two. AUTH has two.
var layouts = [...]layout{
	TypeHello: {
		body:  "magic GNT, version u8, features u32, heartbeat u16, class u8, device str8, user str8, token str16, inbox_epoch u64, inbox_pos u64, n u16",
		list:  "positions",
		entry: "kind u8, name str8, epoch u64, seq u64",
	},
	TypeWelcome: {
		body:  "version u8, features u32, heartbeat u16, session u64, time u64, max_frame u32, window u16, node str8, user str8, inbox_state u8, inbox_epoch u64, inbox_head u64, n u16",
		list:  "states",
		entry: "state u8, epoch u64, head u64",
	},
	TypeAuth:    {body: "code code, expires u64"},
	TypePing:    {body: "data rest"},
	TypePong:    {body: "data rest"},
	TypeBye:     {body: "code code, retry u8, min_ms u32, max_ms u32, reason str8"},
	TypeMigrate: {body: "addr str8, ticket str16, min_ms u32, max_ms u32"},
	TypeSend:    {body: "req u32, nonce u64, flags u8, kind u8, name str8, content u8, payload rest"},
	TypeSendAck: {body: "req u32, code code, seq u64, time u64"},
	TypeMsg:     {body: "flags u8, kind u8, name str8, seq u64, time u64, sender str8, content u8, payload rest"},
	TypeAck: {
		body:  "mode u8, inbox_pos u64, n u16",
		list:  "marks",
		entry: "kind u8, name str8, seq u64",
	},
	TypeSub:     {body: "req u32, mode u8, kind u8, name str8, epoch u64, seq u64"},
	TypeSubAck:  {body: "req u32, code code, state u8, epoch u64, head u64"},
	TypeUnsub:   {body: "req u32, kind u8, name str8"},
	TypePull:    {body: "req u32, kind u8, name str8, from u64, limit u16"},
	TypeRange:   {body: "req u32, code code, count u16, next u64, epoch u64"},
	TypeGap:     {body: "kind u8, name str8, from u64, to u64, reason u8"},
	TypePos:     {body: "inbox_pos u64"},
	TypeReceipt: {body: "mode u8, kind u8, name str8, seq u64, user str8, time u64"},
	TypeState:   {body: "kind u8, name str8, key str8, user str8, ttl u16, payload rest"},
	TypeList:    {body: "req u32, after u64, limit u16"},
	TypeListed: {
		body:  "req u32, code code, next u64, n u16",
		list:  "conversations",
		entry: "kind u8, name str8, head u64, delivered u64, read u64, time u64",
	},
	TypeErr:             {body: "req u32, code code, text str8"},
	FirstUnknownRequest: {body: "req u32, data rest"},
	LastUnknownRequest:  {body: "req u32, data rest"},
	FirstSkippable:      {body: "data rest"},
	LastSkippable:       {body: "data rest"},
}

var authTokenLayout = layout{body: "token str16"}

// layoutOf returns the layout of a type; ok is false for a type whose arrival ends the connection.
func layoutOf(t Type, fromClient bool) (l layout, ok bool) {
	if t == TypeAuth && fromClient {
		return authTokenLayout, true
	}
	if int(t) >= len(layouts) || layouts[t].body == "" {
		return layout{}, false
	}
	return layouts[t], true
}
