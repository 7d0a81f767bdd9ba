package pebble

import (
	"bytes"
	"cmp"
	"slices"
)

// cache keeps states by name, about max of them: when the young generation is half of that it becomes the old one, and what
// was old and not asked for is forgotten. Nothing is lost by it: states can be loaded again.
type cache[T any] struct {
	half       int
	young, old map[string]*T
}

func (c *cache[T]) init(max int) {
	c.half = max/2 + 1
	c.young = make(map[string]*T)
}

func (c *cache[T]) get(name []byte) *T {
	if v := c.young[string(name)]; v != nil {
		return v
	}
	v := c.old[string(name)]
	if v != nil {
		delete(c.old, string(name))
		c.young[string(name)] = v
	}
	return v
}

func (c *cache[T]) put(name string, v *T) { c.young[name] = v }

// age is called between batches, when no state has anything pending.
func (c *cache[T]) age() {
	if len(c.young) > c.half {
		c.old, c.young = c.young, make(map[string]*T)
	}
}

// drop forgets everything.
func (c *cache[T]) drop() { c.young, c.old = make(map[string]*T), nil }

// headState is a channel's head, with what the batch in progress has for it.
type headState struct {
	channel []byte // appendChannel
	seq     uint64
	bucket  int64       // of the last chunk; −1: there is none
	rec     *headRecord // what is written, when the batch in progress may have to change it

	from, to int32 // first and last of its messages in the batch, linked by DB.link
	count    int   // their number
}

// deviceState is a device's highest nonce, with what the batch in progress has for it.
type deviceState struct {
	device []byte // appendDevice
	high   uint64
	since  uint64 // nonces stored since the last trim

	from, to int32 // first and last of its nonces in DB.stamps that are above all before; to −1: none
	odd      []oddNonce
}

// oddNonce is one that is not above all before.
type oddNonce struct{ nonce, seq uint64 }

// userState is what the batch in progress has for a user's inbox.
type userState struct {
	user     []byte
	from, to int32 // first and last in DB.refs; to −1: none
}

// pending is what the batch in progress has: per channel, device and user a chain through a flat slice. Copying frames into a
// buffer a channel and references into a buffer a user, made anew for each batch, was a third of Append's time and nearly
// all of its allocations; the slices and states here are used again.
type pending struct {
	link    []int32 // by message: the next one of its channel, −1: none
	refs    []refEntry
	stamps  []stampEntry
	heads   []*headState
	devices []*deviceState
	users   []*userState
	last    uint32              // bucket of the batch before
	latest  uint64              // Time
	refused map[string]struct{} // devices that had a message refused as unavailable
}

type refEntry struct {
	head *headState
	msg  int32
	next int32
}

type stampEntry struct {
	nonce, seq uint64
	next       int32
}

// sort puts the keys to write in order. With messages of thousands of users nearly all of Append's time goes into finding the
// keys' places in the memtable; from one key to the next the way is short.
func (p *pending) sort() {
	slices.SortFunc(p.heads, func(a, b *headState) int { return bytes.Compare(a.channel, b.channel) })
	slices.SortFunc(p.devices, func(a, b *deviceState) int { return bytes.Compare(a.device, b.device) })
	slices.SortFunc(p.users, func(a, b *userState) int {
		return cmp.Or(cmp.Compare(len(a.user), len(b.user)), bytes.Compare(a.user, b.user)) // the length is in front
	})
}

// reset forgets the batch; the states it touched have nothing pending from here on.
func (p *pending) reset() {
	for _, h := range p.heads {
		h.count, h.rec = 0, nil
	}
	for _, dev := range p.devices {
		dev.to, dev.odd = -1, nil
	}
	for _, u := range p.users {
		u.to = -1
	}
	clear(p.refs) // pointers
	clear(p.heads)
	clear(p.devices)
	clear(p.users)
	p.link, p.refs, p.stamps = p.link[:0], p.refs[:0], p.stamps[:0]
	p.heads, p.devices, p.users = p.heads[:0], p.devices[:0], p.users[:0]
	p.latest, p.refused = 0, nil
}
