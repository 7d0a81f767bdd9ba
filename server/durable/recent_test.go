package durable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"gannet/codec"
	"gannet/store"
)

func recentLog(total, channel int) *Log {
	l := &Log{}
	l.recents.init(total, channel)
	return l
}

func news(i int) store.Channel {
	return store.Channel{Kind: codec.KindTopic, Name: fmt.Sprintf("news-%d", i)}
}

func keyOf(ch store.Channel) string { return convKey(ch.Kind, ch.Name) }

// frameOf is a frame of n bytes at least.
func frameOf(ch store.Channel, seq uint64, n int) []byte {
	m := codec.Msg{Kind: ch.Kind, Name: []byte(ch.Name), Seq: seq, Sender: []byte("ann")}
	m.Payload = bytes.Repeat([]byte{byte(seq)}, max(0, n-codec.MsgLen(m)))
	return codec.AppendMsg(nil, m)
}

// Compared with a list of all frames: what comes from memory is right, complete from the oldest kept on, and bounded.
func TestRecentMessages(t *testing.T) {
	for _, c := range []struct {
		name                     string
		total, channel, channels int
		longest                  int
	}{
		{"one channel", 64 << 10, 16 << 10, 1, 300},
		{"many channels", 64 << 10, 16 << 10, 40, 300},
		{"more channels than blocks", 8 << 10, 4 << 10, 100, 200},
		{"frames longer than blocks", 64 << 10, 16 << 10, 3, 8 << 10},
		{"frames too long to be kept", 16 << 10, 4 << 10, 3, 5 << 10},
		{"several stripes", 1 << 20, 16 << 10, 200, 3000},
		{"less than a block", 10, 1, 3, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			l := recentLog(c.total, c.channel)
			rings, all := make([]*ring, c.channels), make([][][]byte, c.channels)
			hits := 0
			for range 5000 {
				i := rng.IntN(c.channels)
				ch := news(i)
				seq := uint64(len(all[i])) + 1
				frame := frameOf(ch, seq, rng.IntN(c.longest))
				all[i] = append(all[i], frame)
				switch rng.IntN(200) {
				case 0: // one is missed
				case 1:
					rings[i] = l.recents.add(nil, keyOf(ch), seq, frame)
				default:
					rings[i] = l.recents.add(rings[i], keyOf(ch), seq, frame)
				}
				i = rng.IntN(c.channels)
				hits += checkRecent(t, l, news(i), all[i], rng)
			}
			if hits == 0 {
				t.Error("nothing ever came from memory")
			}
			if n := l.recents.bytes(); n > max(c.total, 4<<10) {
				t.Errorf("%d bytes are kept, want at most %d", n, c.total)
			}
			for i := range l.recents.stripes {
				checkStripe(t, &l.recents.stripes[i], c.channel)
			}
			l.recents.drop()
			for i := range all {
				if _, _, _, ok := l.recentFrom(news(i), uint64(len(all[i])), 1, 1, nil); ok && len(all[i]) > 0 {
					t.Errorf("channel %d is there after drop", i)
				}
			}
		})
	}
}

// checkRecent asks for a random piece of a channel whose frames are all; it returns 1 when some came.
func checkRecent(t *testing.T, l *Log, ch store.Channel, all [][]byte, rng *rand.Rand) int {
	t.Helper()
	back := uint64(rng.IntN(40))
	from := max(uint64(len(all))+2, back) - back
	limit, maxBytes := rng.IntN(20), rng.IntN(4000)
	got, next, n, ok := l.recentFrom(ch, from, limit, maxBytes, []byte("before"))
	if string(got[:6]) != "before" || !ok && (n > 0 || len(got) > 6) {
		t.Fatalf("%d frames, %d bytes, ok %v", n, len(got), ok)
	}
	if !ok {
		return 0
	}
	from = max(from, 1)
	if next != from+uint64(n) || n > limit {
		t.Fatalf("from %d limit %d: %d frames, next %d", from, limit, n, next)
	}
	var want []byte
	for i := range uint64(n) {
		if want = append(want, all[from+i-1]...); i > 0 && len(want) > maxBytes {
			t.Fatalf("%d bytes, at most %d were wanted", len(want), maxBytes)
		}
	}
	if !bytes.Equal(got[6:], want) {
		t.Fatalf("frames %d to %d of %v are not what was added", from, next-1, ch)
	}
	head := l.recentHead(ch)
	if n == 0 && limit > 0 && from <= head {
		t.Fatalf("no frame from %d on, the head is %d", from, head)
	}
	if n > 0 && n < limit && next <= head && len(want)+len(all[next-1]) <= maxBytes {
		t.Fatalf("%d frames, %d would have had room", n, n+1)
	}
	return min(n, 1)
}

// checkStripe counts the blocks.
func checkStripe(t *testing.T, st *recentStripe, channel int) {
	t.Helper()
	seen := map[uint32]bool{}
	for _, b := range st.free {
		seen[b] = true
	}
	n := len(st.free)
	for key, r := range st.rings {
		if len(r.blocks) == 0 || len(r.blocks) > max(channel/recentBlock, 2) || r.key != key || r.first == 0 {
			t.Errorf("%q has %d blocks, key %q, first %d", key, len(r.blocks), r.key, r.first)
		}
		for _, b := range r.blocks {
			seen[b.block] = true
			n++
		}
	}
	listed := 0
	for r := st.front; r != nil; r = r.older {
		listed++
	}
	if n != st.made || len(seen) != st.made || st.made > st.limit || listed != len(st.rings) {
		t.Errorf("%d blocks, %d different, %d made of at most %d; %d rings, %d in the list", n, len(seen), st.made, st.limit, len(st.rings), listed)
	}
}

func TestRecentMessagesWhileTheyAreAdded(t *testing.T) {
	l := recentLog(32<<10, 8<<10)
	ch := news(1)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for from := uint64(1); ; {
				select {
				case <-stop:
					return
				default:
				}
				frames, next, n, ok := l.recentFrom(ch, from, 10, 1<<20, nil)
				if !ok {
					from = max(l.recentHead(ch), 5) - 4
					continue
				}
				for seq := from; n > 0; seq, n = seq+1, n-1 {
					want := frameOf(ch, seq, 200)
					if !bytes.HasPrefix(frames, want) {
						t.Errorf("frame %d is not what was added", seq)
						return
					}
					frames = frames[len(want):]
				}
				from = next
			}
		})
	}
	var r *ring
	for seq := uint64(1); seq <= 20_000; seq++ {
		r = l.recents.add(r, keyOf(ch), seq, frameOf(ch, seq, 200))
		l.recents.add(nil, keyOf(news(int(seq%50)+2)), seq/50+1, frameOf(news(0), 1, 300))
	}
	close(stop)
	wg.Wait()
}

func BenchmarkRecentAdd(b *testing.B) {
	for _, channels := range []int{64, 4000, 100_000} {
		b.Run(fmt.Sprintf("%d channels", channels), func(b *testing.B) {
			l := recentLog(64<<20, 256<<10)
			rings, seqs, frames := make([]*ring, channels), make([]uint64, channels), make([][]byte, channels)
			names := make([]string, channels)
			for i := range frames {
				names[i], frames[i] = keyOf(news(i)), frameOf(news(i), 1, 120)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i++; i == channels {
					i = 0
				}
				seqs[i]++
				rings[i] = l.recents.add(rings[i], names[i], seqs[i], frames[i])
			}
		})
	}
}

func BenchmarkRecentFrom(b *testing.B) {
	l := recentLog(64<<20, 256<<10)
	var r *ring
	for seq := uint64(1); seq <= 3000; seq++ {
		r = l.recents.add(r, keyOf(news(0)), seq, frameOf(news(0), seq, 120))
	}
	buf := make([]byte, 0, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, n, _ := l.recentFrom(news(0), 2800, 100, 64<<10, buf); n != 100 {
			b.Fatal(n)
		}
	}
}
