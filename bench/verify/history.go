package verify

import (
	"fmt"
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
	readers []uint32 // devices that must get its messages
	echo    bool     // also their own
	streams []*stream
	pulls   []*Pull
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
	for _, d := range devices {
		h.channels[c].readers = append(h.channels[c].readers, d.index)
	}
}

// Mark notes what happened to the server; the report shows it.
func (h *History) Mark(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks = append(h.marks, Mark{h.now(), what})
}

// User is the user of a message's sender; "" when the message is of no device of this History.
func (h *History) User(id ID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id.foreign() || int(id.device()) >= len(h.devices) {
		return ""
	}
	return h.devices[id.device()].User
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
