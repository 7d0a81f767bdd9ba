package store

import (
	"bytes"
	"encoding/binary"

	"gannet/codec"
)

// SeqAt is where the seq stands in m's frame. ok is false when m cannot be stored by any implementation: its result is
// CodeInvalid.
func (m *Message) SeqAt() (at int, ok bool) {
	if !m.Kind.Valid() || len(m.Name) == 0 || len(m.Name) > codec.MaxPair || len(m.User) > codec.MaxID {
		return 0, false
	}
	if len(m.Device) > codec.MaxID || len(m.Device) > 0 && (m.Nonce == 0 || len(m.User) == 0) {
		return 0, false
	}
	for _, u := range m.Inbox {
		if len(u) == 0 || len(u) > codec.MaxID {
			return 0, false
		}
	}
	f, n, err := codec.ConsumeFrame(m.Frame, codec.MaxBody)
	if err != nil || n != len(m.Frame) || n == 0 || f.Type != codec.TypeMsg {
		return 0, false
	}
	msg, err := codec.ConsumeMsg(f)
	if err != nil || msg.Seq != 0 || msg.Kind != m.Kind || !bytes.Equal(msg.Name, m.Name) {
		return 0, false
	}
	return len(m.Frame) - len(f.Body) + 3 + len(m.Name), true // behind flags, kind and the name
}

// SetSeq writes the seq that a message got into its frame.
func SetSeq(frame []byte, at int, seq uint64) { binary.BigEndian.PutUint64(frame[at:], seq) }

// Check returns ErrLimit for a record that is outside the limits.
func (r *Record) Check() error {
	if len(r.Owner) > MaxOwner || len(r.Key) == 0 || len(r.Key) > MaxKey || len(r.Value) > MaxValue {
		return ErrLimit
	}
	return nil
}
