package bench

// offline is the scenario of that name: devices that fall behind and come back, see RunOffline. Devices come first, the
// writers of what they miss follow, then the pairs of the live traffic, which have a loop of their own, so that reading a flood
// does not delay them.
//
//	0 … devices-1 │ writers: device i misses what writer i mod writers sends │ live pairs: 0 and 1, 2 and 3, …
type offline struct {
	hold
	off *OfflineOptions
}

func newOffline(o *Options, off *OfflineOptions) *offline { return &offline{newHold(o), off} }

// role is what a connection is there for.
type role uint8

const (
	roleDevice role = iota
	roleWriter
	roleLive
)

func (s *offline) role(i uint32) role {
	switch n := int(i); {
	case n < s.off.Devices:
		return roleDevice
	case n < s.off.Devices+s.off.Writers:
		return roleWriter
	}
	return roleLive
}

func (s *offline) loops(asked int) int { return s.deviceLoops(asked) + s.liveLoops() }

func (s *offline) deviceLoops(asked int) int { return min(asked, s.off.Devices) }

func (s *offline) liveLoops() int { return min(s.off.liveConns(), 1) }

func (s *offline) home(i, loops int) int {
	if s.role(uint32(i)) == roleLive {
		return loops - 1
	}
	return i % (loops - s.liveLoops())
}

func (s *offline) measuresPings() bool { return false }
func (s *offline) primary() quantity   { return qDelivery }

func (s *offline) sends(i uint32) bool    { return s.role(i) == roleLive }
func (s *offline) receives(i uint32) bool { return s.role(i) == roleLive }

// fan is of live connections alone, which lie side by side on a loop without others.
func (s *offline) fan(l *loop, c *conn) int64 {
	if l.conns[c.slot^1].joined {
		return 1
	}
	return 0
}

func (s *offline) streams() int { return 1 }

// source is the other one of a live pair.
func (s *offline) source(i uint32, _ int) (uint32, bool) {
	first := uint32(s.off.Devices + s.off.Writers)
	return first + ((i - first) ^ 1), s.role(i) == roleLive
}

// misses is how many messages writer i writes in all.
func (s *offline) misses(i uint32) uint64 {
	return uint64(s.devicesOf(i)) * uint64(s.off.Missed)
}

func (s *offline) devicesOf(writer uint32) int {
	w := int(writer) - s.off.Devices
	return (s.off.Devices - w + s.off.Writers - 1) / s.off.Writers
}

// missed says to which device the n-th message of writer i goes, counted from 1, and which of the device's it is. A
// writer goes round its devices, so that what one of them misses lies scattered among what others do.
func (s *offline) missed(i uint32, n uint64) (to, number uint32) {
	w, of := i-uint32(s.off.Devices), uint64(s.devicesOf(i))
	return w + uint32((n-1)%of)*uint32(s.off.Writers), uint32((n-1)/of) + 1
}

// letter says where the n-th message of a writer or a live connection goes, its stream and its number there.
func (s *offline) letter(i uint32, n uint64) (to, stream, number uint32) {
	if s.role(i) == roleWriter {
		to, number = s.missed(i, n)
		return to, to, number
	}
	to, _ = s.source(i, 0)
	return to, i, uint32(n)
}

// drive makes the loop one of this scenario.
func (s *offline) drive(l *loop) driver {
	o := &offlineLoop{
		loop: l, plan: s, parties: make([]party, len(l.conns)), nonce: uint64(l.start),
		comeback: never, until: never,
	}
	l.opened, l.oldest = len(l.conns), len(l.conns) // it opens and times out by itself
	for i := range l.conns {
		switch s.role(l.conns[i].index) {
		case roleWriter:
			o.parties[i].out = newOutbox(s.off.Window)
		case roleLive:
			o.parties[i].out = newOutbox(liveWindow)
		case roleDevice:
			o.devices++
		}
	}
	return o
}
