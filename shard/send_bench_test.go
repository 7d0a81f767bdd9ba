package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

// BenchmarkSend is a SEND of 64 bytes from Traffic until it is written everywhere: alone, with its own turn, and 32 in one
// read, where they share turns and writes.
func BenchmarkSend(b *testing.B) {
	payload := strings.Repeat("x", 64)
	for _, x := range []struct {
		name    string
		members int // in each of two shards
		in      []byte
	}{
		{"direct, same shard", 0, toUser("bob", payload)},
		{"direct, other shard", 0, toUser("carl", payload)},
		{"room of 2", 1, toTopic("t", payload)},
		{"room of 20", 10, toTopic("t", payload)},
		{"room of 2000", 1000, toTopic("t", payload)},
		{"room of 20, acknowledged", 10, message(1, codec.KindTopic, "t", payload)},
		{"PING", 0, ping()},
	} {
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s, %d a read", x.name, batch), func(b *testing.B) {
				w := newQuietWorld(2)
				a := w.login(b, 0, new(quietConn), hello("anna", "d"))
				w.login(b, 0, new(quietConn), hello("bob", "d"))
				w.login(b, 1, new(quietConn), hello("carl", "d"))
				w.crowd(b, 0, x.members, "t")
				w.crowd(b, 1, x.members, "t")
				in := []byte(strings.Repeat(string(x.in), batch))
				writes := quietWrites
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					w.clock.ns += int64(time.Millisecond)
					w.bring(0, a, in)
					w.run()
				}
				messages := float64(b.N * batch)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/messages, "ns/msg")
				b.ReportMetric(float64(quietWrites-writes)/messages, "writes/msg")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
