package bench

import "gannet/codec"

// broadcast is the scenario of that name. Subscribers come first, subscriber i takes topic i mod n; publishers follow,
// publisher j sends to topic j mod n. Publishers have a loop of their own, so that reading a flood does not delay the
// next message.
type broadcast struct {
	o      *Options
	kind   codec.Kind
	topics [][]byte // one, named all, for kind 4
}

func newBroadcast(o *Options) broadcast {
	b := broadcast{o: o, kind: codec.KindTopic}
	for _, t := range o.Topics {
		b.topics = append(b.topics, []byte(t))
	}
	if o.All {
		b.kind, b.topics = codec.KindAll, [][]byte{[]byte(codec.AllName)}
	}
	return b
}

func (b broadcast) total() int          { return b.o.Conns + b.o.Publishers }
func (b broadcast) loops(asked int) int { return min(asked, b.o.Conns) + 1 }

func (b broadcast) home(i, loops int) int {
	if i >= b.o.Conns {
		return loops - 1
	}
	return i % (loops - 1)
}

func (b broadcast) measuresPings() bool { return false }
func (b broadcast) primary() quantity   { return qDelivery }

func (b broadcast) subscription(i uint32) (codec.Kind, []byte) {
	if b.sends(i) || b.kind == codec.KindAll {
		return b.kind, nil
	}
	return b.kind, b.topics[b.group(i)]
}

func (b broadcast) sends(i uint32) bool    { return int(i) >= b.o.Conns }
func (b broadcast) receives(i uint32) bool { return !b.sends(i) }
func (b broadcast) groups() int            { return len(b.topics) }

func (b broadcast) group(i uint32) int {
	if b.sends(i) {
		i = b.stream(i)
	}
	return int(i) % len(b.topics)
}

func (b broadcast) fan(l *loop, c *conn) int64 { return l.joined[b.group(c.index)] }

func (b broadcast) target(i uint32, name []byte) (codec.Kind, []byte) {
	return b.kind, append(name, b.topics[b.group(i)]...)
}

func (b broadcast) stream(i uint32) uint32 { return i - uint32(b.o.Conns) }

// streams is the most publishers that one topic has.
func (b broadcast) streams() int {
	return (b.o.Publishers + len(b.topics) - 1) / len(b.topics)
}

func (b broadcast) track(i, stream uint32) (int, bool) {
	n := uint32(len(b.topics))
	return int(stream / n), stream < uint32(b.o.Publishers) && stream%n == uint32(b.group(i))
}

func (b broadcast) source(i uint32, track int) (uint32, bool) {
	stream := track*len(b.topics) + b.group(i)
	return uint32(b.o.Conns + stream), stream < b.o.Publishers
}
