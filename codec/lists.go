package codec

import "iter"

// list is a counted sequence of entries, kept as it stands on the wire so that reading one allocates nothing.
type list struct {
	n   int
	raw []byte
}

// consume reads `n u16` and n entries: kind u8 and name str8 where named, then fixed bytes. The shape is
// given as numbers because a reader handed to a function value would move to the heap.
func (l *list) consume(r *reader, named bool, fixed int) {
	l.n = int(r.u16())
	all := r.b
	for i := 0; i < l.n && !r.bad; i++ {
		if named {
			r.u8()
			r.str8()
		}
		r.take(fixed)
	}
	if r.bad {
		*l = list{}
		return
	}
	used := len(all) - len(r.b)
	l.raw = all[:used:used]
}

func (l list) append(dst []byte) []byte {
	if l.n > 0xffff {
		panic("codec: list of more than 65535 entries")
	}
	return append(be.AppendUint16(dst, uint16(l.n)), l.raw...)
}

// Len is the number of entries.
func (l list) Len() int { return l.n }

// Position is where a reader of one channel stands: an entry of HELLO.
type Position struct {
	Kind  Kind
	Name  []byte
	Epoch uint64 // 0: none known
	Seq   uint64
}

// Positions is the list in HELLO.
type Positions struct{ list }

func nextPosition(r *reader) Position {
	return Position{Kind: Kind(r.u8()), Name: r.str8(), Epoch: r.u64(), Seq: r.u64()}
}

func (l *Positions) consume(r *reader) { l.list.consume(r, true, 8+8) }

// Append adds an entry.
func (l *Positions) Append(p Position) {
	l.n++
	l.raw = appendStr8(append(l.raw, byte(p.Kind)), p.Name)
	l.raw = be.AppendUint64(be.AppendUint64(l.raw, p.Epoch), p.Seq)
}

// All yields the entries in their order.
func (l Positions) All() iter.Seq[Position] {
	return func(yield func(Position) bool) {
		r := reader{b: l.raw}
		for range l.n {
			if !yield(nextPosition(&r)) {
				return
			}
		}
	}
}

// State says what became of one of HELLO's positions: an entry of WELCOME.
type State struct {
	State uint8
	Epoch uint64
	Head  uint64
}

// States is the list in WELCOME.
type States struct{ list }

func nextState(r *reader) State { return State{State: r.u8(), Epoch: r.u64(), Head: r.u64()} }

func (l *States) consume(r *reader) { l.list.consume(r, false, 1+8+8) }

// Append adds an entry.
func (l *States) Append(s State) {
	l.n++
	l.raw = be.AppendUint64(be.AppendUint64(append(l.raw, s.State), s.Epoch), s.Head)
}

// All yields the entries in their order.
func (l States) All() iter.Seq[State] {
	return func(yield func(State) bool) {
		r := reader{b: l.raw}
		for range l.n {
			if !yield(nextState(&r)) {
				return
			}
		}
	}
}

// Mark is how far a channel was delivered or read: an entry of ACK.
type Mark struct {
	Kind Kind
	Name []byte
	Seq  uint64
}

// Marks is the list in ACK.
type Marks struct{ list }

func nextMark(r *reader) Mark { return Mark{Kind: Kind(r.u8()), Name: r.str8(), Seq: r.u64()} }

func (l *Marks) consume(r *reader) { l.list.consume(r, true, 8) }

// Append adds an entry.
func (l *Marks) Append(m Mark) {
	l.n++
	l.raw = be.AppendUint64(appendStr8(append(l.raw, byte(m.Kind)), m.Name), m.Seq)
}

// All yields the entries in their order.
func (l Marks) All() iter.Seq[Mark] {
	return func(yield func(Mark) bool) {
		r := reader{b: l.raw}
		for range l.n {
			if !yield(nextMark(&r)) {
				return
			}
		}
	}
}

// Conversation is one channel of a user with the user's own positions: an entry of LISTED.
type Conversation struct {
	Kind      Kind
	Name      []byte
	Head      uint64
	Delivered uint64
	Read      uint64
	Time      uint64 // of the head, Unix milliseconds
}

// Conversations is the list in LISTED.
type Conversations struct{ list }

func nextConversation(r *reader) Conversation {
	return Conversation{Kind: Kind(r.u8()), Name: r.str8(), Head: r.u64(), Delivered: r.u64(), Read: r.u64(), Time: r.u64()}
}

func (l *Conversations) consume(r *reader) { l.list.consume(r, true, 8+8+8+8) }

// Append adds an entry.
func (l *Conversations) Append(c Conversation) {
	l.n++
	l.raw = appendStr8(append(l.raw, byte(c.Kind)), c.Name)
	l.raw = be.AppendUint64(be.AppendUint64(l.raw, c.Head), c.Delivered)
	l.raw = be.AppendUint64(be.AppendUint64(l.raw, c.Read), c.Time)
}

// All yields the entries in their order.
func (l Conversations) All() iter.Seq[Conversation] {
	return func(yield func(Conversation) bool) {
		r := reader{b: l.raw}
		for range l.n {
			if !yield(nextConversation(&r)) {
				return
			}
		}
	}
}
