package shard

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"gannet/codec"
)

var shardConns = flag.Int("shard.conns", 1_000_000, "connections of BenchmarkMillion")

// million is a node with many sessions, logged in over 2 shards by real frames, each subscribed to one of many topics.
type million struct {
	*quietWorld
	conns    []quietConn
	sessions []*Session
	memory   map[string]float64 // bytes a session
}

const millionTopics = 10_000

func newMillion(b *testing.B, n int) *million {
	m := &million{conns: make([]quietConn, n), sessions: make([]*Session, n), memory: map[string]float64{}}
	before := heapInUse()
	m.quietWorld = newQuietWorld(2, func(c *Config) { c.Events = 0 })
	var in, device []byte
	device = []byte("phone")
	for i := range m.conns {
		user := fmt.Appendf(nil, "user-%08d", i)
		in = codec.AppendHello(in[:0], codec.Hello{Version: 1, Class: codec.ClassMobile, Device: device, User: user})
		in = codec.AppendSub(in, codec.Sub{Req: 1, Kind: codec.KindTopic, Name: fmt.Appendf(nil, "topic-%05d", i%millionTopics)})
		m.sessions[i] = m.login(b, i%2, &m.conns[i], in)
		m.clock.ns += int64(5*time.Second) / int64(n) // well under a heartbeat in all
		if i%64 == 0 {
			m.run()
		}
	}
	m.node.Trim()
	m.run()
	m.measure(float64(heapInUse()-before), float64(n))
	return m
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}

// measure notes the bytes a session, in all and in parts.
func (m *million) measure(total, n float64) {
	m.memory["all"] = total / n
	rest := total
	part := func(name string, bytes int) {
		m.memory[name] = float64(bytes) / n
		rest -= float64(bytes)
	}
	var slabs, names, subs, members int
	for _, l := range m.loops {
		sh := l.sh
		slabs += len(sh.sessions.chunks) * chunkLen * (64 + 16 + 4)
		names += len(sh.names.blocks) * nameBlock
		subs += len(sh.subs.chunks) * chunkLen * 16
		for r := range sh.rooms {
			for g := range sh.rooms[r].groups {
				members += 4 * cap(sh.rooms[r].groups[g].members)
			}
		}
	}
	part("slabs", slabs)
	part("names", names)
	part("subscriptions", subs)
	part("members", members)
	part("directory", m.node.dir.Bytes())
	m.memory["rest"] = rest / n
}

// BenchmarkMillion reports the memory of a session (B/session, ours only) and the time of what touches every session.
func BenchmarkMillion(b *testing.B) {
	began := time.Now()
	m := newMillion(b, *shardConns)
	took := time.Since(began)
	n := float64(len(m.sessions))
	b.Run("memory", func(b *testing.B) {
		for name, v := range m.memory {
			b.ReportMetric(v, "B/session:"+name)
		}
		b.ReportMetric(float64(took.Nanoseconds())/n, "ns/login")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("sweep", func(b *testing.B) { m.sweep(b) })
	b.Run("sweep with a PING for all", func(b *testing.B) { m.pings(b) })
	b.Run("broadcast", func(b *testing.B) { m.broadcast(b, 64) })
	b.Run("lookup", func(b *testing.B) { m.lookup(b) })
	runtime.KeepAlive(m)
}

// sweep looks once at the deadline of every session; none is due.
func (m *million) sweep(b *testing.B) {
	for b.Loop() {
		for _, l := range m.loops {
			l.sh.begin()
			for range sweeps {
				l.sh.sweep()
			}
		}
	}
	perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(perOp/float64(len(m.sessions)), "ns/session")
	b.ReportMetric(perOp/1e6, "ms/sweep")
}

// pings lets a heartbeat of silence pass for all sessions at once.
func (m *million) pings(b *testing.B) {
	pong := codec.AppendPong(nil, codec.Ping{})
	longest := time.Duration(0)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		for i, s := range m.sessions {
			m.bring(i%2, s, pong)
		}
		m.run()
		writes := quietWrites
		m.clock.ns += int64(31 * time.Second)
		b.StartTimer()
		for range sweeps {
			m.clock.ns += tick
			for _, l := range m.loops {
				t := time.Now()
				l.sh.Tick()
				longest = max(longest, time.Since(t))
			}
			m.run()
		}
		if got := quietWrites - writes; got != len(m.sessions) {
			b.Fatalf("%d PINGs for %d sessions", got, len(m.sessions))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(m.sessions)), "ns/session")
	b.ReportMetric(float64(longest.Nanoseconds())/1e6, "ms/longest-tick")
}

// broadcast sends one message to all sessions.
func (m *million) broadcast(b *testing.B, size int) {
	in := message(0, codec.KindAll, "all", strings.Repeat("x", size))
	for b.Loop() {
		writes := quietWrites
		m.clock.ns += int64(time.Millisecond)
		m.bring(0, m.sessions[0], in)
		for busy := true; busy; {
			busy = false
			for _, l := range m.loops {
				if busy = busy || l.wake || l.goOn; l.wake {
					l.wake = false
					l.sh.Drain()
				}
				if l.goOn {
					l.goOn = false
					m.clock.step = int64(50 * time.Microsecond) // a slice of ten looks at the clock
					l.sh.Slice()
					m.clock.step = 0
				}
			}
		}
		if got := quietWrites - writes; got != len(m.sessions) {
			b.Fatalf("%d deliveries for %d sessions", got, len(m.sessions))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(m.sessions)), "ns/delivery")
}

func (m *million) lookup(b *testing.B) {
	var buf []SessionRef
	user := []byte("user-00000000")
	i := 0
	for b.Loop() {
		i = (i*1_103_515_245 + 12345) & (1<<31 - 1)
		for k, at := len(user)-1, i%len(m.sessions); k > 4; k, at = k-1, at/10 {
			user[k] = byte('0' + at%10)
		}
		if buf = m.node.dir.Lookup(m.node.dir.Hash(user), buf[:0]); len(buf) != 1 {
			b.Fatalf("%s: %d sessions", user, len(buf))
		}
	}
}
