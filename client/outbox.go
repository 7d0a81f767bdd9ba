package client

import (
	"slices"
	"sync"
)

// Outbox keeps durable messages until the server has answered for them. A Client uses one alone; it is for one device of one user.
// FileOutbox keeps them on disk, MemoryOutbox as long as the process lives. An application may bring its own: its methods
// must not call the Client.
//
// Messages have IDs that grow. What the server dedupes by is the nonce, ID + shift, where the shift is that of the last Settle whose
// from is at most ID, 0 without one. So a message keeps its nonce, and nonces that were given out may be skipped but never
// stand for another message.
type Outbox interface {
	// Load returns what is kept. A Client calls it once, before anything else.
	Load() (OutboxState, error)
	// Add keeps a message; its ID is higher than any before. Data stays as it is.
	Add(id uint64, data []byte) error
	// Sync returns when all that was added before is as safe as this outbox makes it. Other methods may be called meanwhile.
	Sync() error
	// Done forgets a message. When that is lost the message is sent again, which the server notices.
	Done(id uint64) error
	// Settle sets the shift of the messages from an ID on, kept and to come, all at once and as safely as Sync, and says that
	// messages may have been sent from now on.
	Settle(from, shift uint64) error
}

// OutboxState is what an Outbox holds.
type OutboxState struct {
	Entries []OutboxEntry // by ID
	Last    uint64        // the highest ID ever added, also of what is done; 0: none
	Shift   uint64        // for what is added next
	Settled bool          // Settle was called
}

// OutboxEntry is one message.
type OutboxEntry struct {
	ID    uint64
	Nonce uint64 // ID + shift
	Data  []byte // what to send; an outbox does not look into it
}

// MemoryOutbox is an Outbox without a disk. It may be given to a later Client of the same device.
type MemoryOutbox struct {
	mu    sync.Mutex
	state OutboxState // guarded by mu
}

// Load implements Outbox.
func (o *MemoryOutbox) Load() (OutboxState, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.state
	s.Entries = slices.Clone(s.Entries)
	return s, nil
}

// Add implements Outbox.
func (o *MemoryOutbox) Add(id uint64, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.Entries = append(o.state.Entries, OutboxEntry{ID: id, Nonce: id + o.state.Shift, Data: data})
	o.state.Last = id
	return nil
}

// Sync implements Outbox.
func (o *MemoryOutbox) Sync() error { return nil }

// Done implements Outbox.
func (o *MemoryOutbox) Done(id uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.state.Entries
	if len(list) > 0 && list[0].ID == id { // the usual case
		list[0] = OutboxEntry{}
		o.state.Entries = list[1:]
		return nil
	}
	if i, ok := slices.BinarySearchFunc(list, id, OutboxEntry.compare); ok {
		o.state.Entries = slices.Delete(list, i, i+1)
	}
	return nil
}

// Settle implements Outbox.
func (o *MemoryOutbox) Settle(from, shift uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.settle(from, shift)
	return nil
}

func (e OutboxEntry) compare(id uint64) int {
	switch {
	case e.ID < id:
		return -1
	case e.ID > id:
		return 1
	}
	return 0
}

// settle is what Settle does to a state.
func (s *OutboxState) settle(from, shift uint64) {
	i, _ := slices.BinarySearchFunc(s.Entries, from, OutboxEntry.compare)
	for ; i < len(s.Entries); i++ {
		s.Entries[i].Nonce = s.Entries[i].ID + shift
	}
	s.Shift, s.Settled = shift, true
}
