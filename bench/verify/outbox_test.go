package verify

import (
	"math/rand/v2"
	"slices"
	"testing"

	"gannet/codec"
)

// fill puts n messages with nonces 10, 20, … into an outbox.
func fill(b *outbox, n int) {
	for i := range n {
		b.add(outgoing{id: newID(0, uint32(i)), nonce: uint64(10 * (i + 1))})
	}
}

// takeAll takes what may be sent and returns the nonces and the reqs.
func takeAll(b *outbox, window int) (nonces []uint64, reqs []uint32) {
	for {
		o, _ := b.take(window)
		if o == nil {
			return nonces, reqs
		}
		nonces, reqs = append(nonces, o.nonce), append(reqs, o.req)
	}
}

func wantNonces(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestOutboxGoesOnWithinTheWindow(t *testing.T) {
	var b outbox
	fill(&b, 5)
	nonces, reqs := takeAll(&b, 3)
	wantNonces(t, nonces, 10, 20, 30)
	if o, stale, known := b.answer(reqs[1], codec.CodeOK); !known || stale || o.nonce != 20 {
		t.Errorf("answer to the second: %+v, stale %v, known %v", o, stale, known)
	}
	nonces, _ = takeAll(&b, 3)
	wantNonces(t, nonces, 40)
	if _, _, known := b.answer(reqs[1], codec.CodeOK); known {
		t.Error("an answer is taken twice")
	}
	if b.answer(reqs[0], codec.CodeDuplicate); b.open() != 3 || b.flying() != 2 {
		t.Errorf("%d open and %d on their way, want 3 and 2", b.open(), b.flying())
	}
}

func TestOutboxGoesBackToARefusal(t *testing.T) {
	var b outbox
	fill(&b, 5)
	_, first := takeAll(&b, 4) // 10 to 40
	b.answer(first[0], codec.CodeOK)
	if _, stale, known := b.answer(first[1], codec.CodeBusy); stale || !known {
		t.Errorf("refusal: stale %v, known %v", stale, known)
	}
	b.answer(first[2], codec.CodeBusy) // 40 is still on its way
	nonces, again := takeAll(&b, 4)
	wantNonces(t, nonces, 20, 30, 40)
	if _, stale, known := b.answer(first[3], codec.CodeBusy); !stale || !known {
		t.Errorf("a refusal of a try that another one followed: stale %v, known %v", stale, known)
	}
	nonces, _ = takeAll(&b, 4)
	wantNonces(t, nonces, 50)
	for _, req := range again {
		b.answer(req, codec.CodeOK)
	}
	if b.open() != 1 {
		t.Errorf("%d open, want 1", b.open())
	}
}

func TestOutboxBeginsAnewAfterAReconnect(t *testing.T) {
	var b outbox
	fill(&b, 4)
	_, reqs := takeAll(&b, 10)
	b.answer(reqs[2], codec.CodeOK)
	b.rewind()
	nonces, _ := takeAll(&b, 10)
	wantNonces(t, nonces, 10, 20, 40)
	if _, _, known := b.answer(reqs[0], codec.CodeOK); known {
		t.Error("an answer of the old connection is taken")
	}
}

func TestOutboxRefusedForGood(t *testing.T) {
	var b outbox
	fill(&b, 2)
	_, reqs := takeAll(&b, 10)
	if o, _, known := b.answer(reqs[0], codec.CodeTooLarge); !known || o.nonce != 10 || b.open() != 1 {
		t.Errorf("%+v, known %v, %d open", o, known, b.open())
	}
	if _, _, known := b.answer(999, codec.CodeOK); known {
		t.Error("an answer to nothing is taken")
	}
}

// A server that follows rule 3 and may refuse, lose answers with the connection and answer late stores everything once and in order.
func TestOutboxAgainstRule3(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var b outbox
		const n = 60
		var stored []uint64
		blocked := uint64(0)
		type answer struct {
			req  uint32
			code codec.Code
		}
		var waiting []answer
		added := 0
		for step := 0; added < n || b.open() > 0; step++ {
			if step > 100_000 {
				t.Fatalf("seed %d: %d still open", seed, b.open())
			}
			switch rng.IntN(12) {
			case 0:
				b.rewind()
				waiting, blocked = nil, 0
			case 1, 2, 3:
				if added < n {
					added++
					b.add(outgoing{id: newID(0, uint32(added)), nonce: uint64(added)})
				}
			case 4, 5, 6:
				if o, _ := b.take(8); o != nil {
					code := codec.CodeOK
					switch {
					case blocked != 0 && o.nonce > blocked, rng.IntN(8) == 0:
						code = codec.CodeBusy
						if blocked == 0 || o.nonce < blocked {
							blocked = o.nonce
						}
					case slices.Contains(stored, o.nonce):
						code = codec.CodeDuplicate
					default:
						stored = append(stored, o.nonce)
					}
					if code != codec.CodeBusy && o.nonce == blocked {
						blocked = 0
					}
					waiting = append(waiting, answer{o.req, code})
				}
			default:
				if len(waiting) > 0 {
					i := rng.IntN(len(waiting))
					b.answer(waiting[i].req, waiting[i].code)
					waiting = slices.Delete(waiting, i, i+1)
				}
			}
		}
		if len(stored) != n || !slices.IsSorted(stored) {
			t.Fatalf("seed %d: stored %v", seed, stored)
		}
	}
}

func TestSeqSet(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var s seqSet
		want := map[uint64]bool{}
		for range 200 {
			from := rng.Uint64N(120)
			to := from + rng.Uint64N(4)
			if rng.IntN(20) == 0 {
				to = from - min(from, 1) // an empty range, or one number
			}
			s.add(from, to)
			for x := from; x <= to; x++ {
				want[x] = true
			}
			for x := range uint64(130) {
				if s.has(x) != want[x] {
					t.Fatalf("seed %d: has(%d) is %v after adding %d to %d: %v", seed, x, s.has(x), from, to, s.spans)
				}
			}
			for i := 1; i < len(s.spans); i++ {
				if s.spans[i].from <= s.spans[i-1].to+1 {
					t.Fatalf("seed %d: spans that should be one: %v", seed, s.spans)
				}
			}
			if up := s.upTo(); want[up+1] || len(want) > 0 && !want[up] {
				t.Fatalf("seed %d: up to %d: %v", seed, up, s.spans)
			}
		}
	}
	var s seqSet
	s.add(5, ^uint64(0))
	s.add(1, 4)
	if !s.has(^uint64(0)) || !s.has(1) || len(s.spans) != 1 {
		t.Errorf("up to the last number: %v", s.spans)
	}
}
