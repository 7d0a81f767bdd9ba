package verify

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
)

// ChannelID is a channel's number in a History.
type ChannelID uint32

// inboxChannel stands for positions of a user's inbox in gaps and resets.
const inboxChannel = ^ChannelID(0)

// History is what happened, as devices saw it. Its methods may be called by any goroutine, those of one Device by one at a time;
// Check may be called at any time.
type History struct {
	began  time.Time
	now    func() time.Duration // since began
	limit  int64
	events atomic.Int64 // sends and receipts that were kept

	mu       sync.Mutex // taken behind a Device's
	devices  []*Device
	channels []*channel
	byName   map[channelKey]ChannelID
	epochs   []uint64 // index in receipts and sends
	marks    []Mark
}

// Mark is something that happened to the server.
type Mark struct {
	At   time.Duration `json:"at_ns"` // since the beginning
	What string        `json:"what"`
}

type channelKey struct {
	kind codec.Kind
	name string
}

type channel struct {
	channelKey
	readers []reader
	echo    bool // also their own
	streams []*stream
	pulls   []*Pull
}

// reader is a device that must get a channel's messages. One that left and came back is there twice.
type reader struct {
	device uint32
	from   uint64 // lowest number that is for it
	until  uint64 // highest number that may still come to it, now that it must get none any more; 0: it has not left
}

func (c *channel) String() string { return fmt.Sprintf("%v %q", c.kind, c.name) }

// NewHistory makes an empty one. It counts as full with limit sends and receipts, of 24 to 40 bytes each.
func NewHistory(limit int) *History {
	h := &History{began: time.Now(), limit: int64(limit), byName: make(map[channelKey]ChannelID)}
	h.now = func() time.Duration { return time.Since(h.began) }
	return h
}

// Full says that nothing more should be sent.
func (h *History) Full() bool { return h.events.Load() >= h.limit }

// Channel is the number of a channel, the name as in MSG.
func (h *History) Channel(kind codec.Kind, name string) ChannelID {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := channelKey{kind, name}
	id, ok := h.byName[k]
	if !ok {
		id = ChannelID(len(h.channels))
		h.byName[k] = id
		h.channels = append(h.channels, &channel{channelKey: k, echo: kind != codec.KindDirect})
	}
	return id
}

func (h *History) kind(c ChannelID) codec.Kind {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.channels[c].kind
}

// Device adds a device.
func (h *History) Device(user, name string) *Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &Device{h: h, index: uint32(len(h.devices)), User: user, Name: name, streams: make(map[ChannelID]*stream)}
	h.devices = append(h.devices, d)
	return d
}

// Expect says that devices must get everything that is sent to a channel.
func (h *History) Expect(c ChannelID, devices ...*Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.channels[c].join(1, devices)
}

// Join says that devices must get everything in a channel from number seq on.
func (h *History) Join(c ChannelID, seq uint64, devices ...*Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.channels[c].join(seq, devices)
}

func (c *channel) join(from uint64, devices []*Device) {
	for _, d := range devices {
		c.readers = append(c.readers, reader{device: d.index, from: from})
	}
}

// Leave says that devices must not get what is above number seq, and need not get what they have not got yet.
func (h *History) Leave(c ChannelID, seq uint64, devices ...*Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.channels[c].readers
	for i := range all {
		if all[i].until == 0 && slices.ContainsFunc(devices, func(d *Device) bool { return d.index == all[i].device }) {
			all[i].until = seq
		}
	}
}

// Mark notes what happened to the server; the report shows it.
func (h *History) Mark(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks = append(h.marks, Mark{h.now(), what})
}

// epoch is the index of an epoch; there are few.
func (h *History) epoch(e uint64) uint16 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, known := range h.epochs {
		if known == e {
			return uint16(i)
		}
	}
	if len(h.epochs) == maxEpochs {
		return maxEpochs - 1
	}
	h.epochs = append(h.epochs, e)
	return uint16(len(h.epochs) - 1)
}

const maxEpochs = 4096 // what comes behind them is taken for one

// stamp is a time in milliseconds since the beginning: 49 days.
type stamp uint32

func (h *History) stamp() stamp { return stamp(h.now() / time.Millisecond) }

func (h *History) time(s stamp) time.Time { return h.began.Add(time.Duration(s) * time.Millisecond) }

// lock stops all writers.
func (h *History) lock() (unlock func()) {
	h.mu.Lock()
	devices := h.devices
	h.mu.Unlock()
	for _, d := range devices {
		d.mu.Lock()
	}
	h.mu.Lock()
	return func() {
		h.mu.Unlock()
		for _, d := range devices {
			d.mu.Unlock()
		}
	}
}
