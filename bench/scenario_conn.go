package bench

import "gannet/codec"

// hold is the scenario conn: connections log in, perhaps subscribe, and stay.
type hold struct {
	o     *Options
	topic []byte
}

func newHold(o *Options) hold {
	h := hold{o: o}
	if len(o.Topics) > 0 {
		h.topic = []byte(o.Topics[0])
	}
	return h
}

func (h hold) total() int            { return h.o.Conns }
func (h hold) loops(asked int) int   { return min(asked, h.o.Conns) }
func (h hold) home(i, loops int) int { return i % loops }
func (h hold) measuresPings() bool   { return true }
func (h hold) primary() quantity     { return qPing }

func (h hold) subscription(uint32) (codec.Kind, []byte) { return codec.KindTopic, h.topic }

func (h hold) sends(uint32) bool             { return false }
func (h hold) receives(uint32) bool          { return true }
func (h hold) groups() int                   { return 1 }
func (h hold) group(uint32) int              { return 0 }
func (h hold) fan(*loop, *conn) int64        { return 0 }
func (h hold) stream(uint32) uint32          { return 0 }
func (h hold) streams() int                  { return 0 }
func (h hold) track(_, _ uint32) (int, bool) { return 0, false }

func (h hold) source(uint32, int) (uint32, bool)          { return 0, false }
func (h hold) target(uint32, []byte) (codec.Kind, []byte) { return codec.KindTopic, h.topic }
