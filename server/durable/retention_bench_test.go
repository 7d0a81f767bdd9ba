package durable

import (
	"fmt"
	"testing"
	"time"

	"gannet/codec"
	"gannet/store"
)

// manyChannels fills channels with messages of 200 bytes.
func manyChannels(b *testing.B, a *attic, kind codec.Kind, channels, messages int) {
	b.Helper()
	payload := make([]byte, 200)
	for i := range channels {
		name := fmt.Sprintf("c%06d", i)
		batch, results := make([]store.Message, messages), make([]store.Result, messages)
		for j := range batch {
			m := codec.Msg{Flags: codec.MsgDurable, Kind: kind, Name: []byte(name), Time: a.now.Load(), Sender: []byte("ann"), Payload: payload}
			batch[j] = store.Message{Kind: kind, Name: m.Name, User: m.Sender, Time: m.Time, Frame: codec.AppendMsg(nil, m)}
		}
		if err := a.do(b.Context(), func(c *committer) error { return c.commit(batch, results) }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTrim is what removing messages of one channel takes; who appends waits for so long at most.
func BenchmarkTrim(b *testing.B) {
	a := newAttic(b, onDisk(b), func(*Options) {})
	const channels = 64
	manyChannels(b, a, codec.KindTopic, channels, 2000)
	s := a.current()
	for i := 0; b.Loop(); i++ {
		if err := s.Trim(store.Channel{Kind: codec.KindTopic, Name: fmt.Sprintf("c%06d", i%channels)}, uint64(2+i/channels)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWalk is what a walk takes for a channel of which nothing is to be removed.
func BenchmarkWalk(b *testing.B) {
	a := newAttic(b, onDisk(b), func(o *Options) { o.Retention.Topic.Age = 16 * time.Hour })
	const channels = walkPage
	manyChannels(b, a, codec.KindTopic, channels, 50)
	for b.Loop() {
		a.pass(time.Second)
		a.retention.walks[codec.KindTopic] = walk{}
		a.retention.turn()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/channels, "ns/channel")
}
