package bench

import "gannet/codec"

// pairs is the scenario p2p: 0 and 1 talk, 2 and 3 talk, … Both of a pair live on the same loop, side by side.
type pairs struct{ o *Options }

func (p pairs) total() int            { return p.o.Conns }
func (p pairs) loops(asked int) int   { return min(asked, p.o.Conns/2) }
func (p pairs) home(i, loops int) int { return i / 2 % loops }
func (p pairs) measuresPings() bool   { return false }
func (p pairs) primary() quantity     { return qDelivery }

func (p pairs) subscription(uint32) (codec.Kind, []byte) { return codec.KindDirect, nil }

func (p pairs) sends(uint32) bool    { return true }
func (p pairs) receives(uint32) bool { return true }
func (p pairs) groups() int          { return 1 }
func (p pairs) group(uint32) int     { return 0 }

func (p pairs) fan(l *loop, c *conn) int64 {
	if l.conns[c.slot^1].joined {
		return 1
	}
	return 0
}

func (p pairs) target(i uint32, name []byte) (codec.Kind, []byte) {
	return codec.KindDirect, p.o.appendUser(name, i^1)
}

func (p pairs) stream(i uint32) uint32                { return i }
func (p pairs) streams() int                          { return 1 }
func (p pairs) track(i, stream uint32) (int, bool)    { return 0, stream == i^1 }
func (p pairs) source(i uint32, _ int) (uint32, bool) { return i ^ 1, true }
