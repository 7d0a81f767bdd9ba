package bench

import (
	"encoding/binary"
	"math/bits"
)

// stampLen is the head of every payload: `due i64 ns`, `stream u32`, `number u32`, big-endian.
const stampLen = 16

// stamp is what a payload says about itself. Streams are salted per run, so messages of another run on the
// same channel are told apart. Number 0 belongs to the warm-up and is not counted.
type stamp struct {
	due    int64 // Unix nanoseconds, see clock
	stream uint32
	number uint32
}

func (s stamp) put(b []byte) {
	binary.BigEndian.PutUint64(b, uint64(s.due))
	binary.BigEndian.PutUint32(b[8:], s.stream)
	binary.BigEndian.PutUint32(b[12:], s.number)
}

func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < stampLen {
		return s, false
	}
	return stamp{
		due:    int64(binary.BigEndian.Uint64(b)),
		stream: binary.BigEndian.Uint32(b[8:]),
		number: binary.BigEndian.Uint32(b[12:]),
	}, true
}

// arrival says what a message was to its receiver.
type arrival uint8

const (
	arrivedInOrder arrival = iota
	arrivedLate            // for the first time, but behind a higher number
	arrivedAgain           // a duplicate
)

// tracker counts one stream at one receiver: numbers 1, 2, 3 … in any order, some missing, some twice. It knows
// the last 64 numbers exactly. Below them it knows only how many came: a number from there counts as late as long as some
// are missing, else as a duplicate, so `got` never exceeds the numbers there are.
type tracker struct {
	seen uint64 // bit d: top-d has come
	top  uint32 // highest number that came; 0: none
	got  uint32 // different numbers that came
}

func (t *tracker) observe(n uint32) arrival {
	if n > t.top {
		t.seen = t.seen<<min(n-t.top, 64) | 1
		t.top = n
		t.got++
		return arrivedInOrder
	}
	if d := t.top - n; d < 64 {
		if t.seen>>d&1 != 0 {
			return arrivedAgain
		}
		t.seen |= 1 << d
	} else if below := t.got - uint32(bits.OnesCount64(t.seen)); below >= t.top-64 {
		return arrivedAgain
	}
	t.got++
	return arrivedLate
}
