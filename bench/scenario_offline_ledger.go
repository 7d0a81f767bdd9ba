package bench

// ledger counts what one device missed and gets later: numbers 1 … n in any order, some missing, some twice. Unlike tracker it
// knows every number for certain, and costs one bit a number from the first one on that is not the next.
type ledger struct {
	got uint32   // different numbers that came
	top uint32   // highest of them
	had []uint64 // bit n-1: number n has come; nil while 1 … top have
}

// observe takes number x of 1 … n.
func (l *ledger) observe(x, n uint32) arrival {
	switch {
	case l.had != nil:
	case x == l.top+1:
		l.top, l.got = x, x
		return arrivedInOrder
	case x <= l.top:
		return arrivedAgain
	default:
		l.had = make([]uint64, (n+63)/64)
		for i := range l.top {
			l.had[i/64] |= 1 << (i % 64)
		}
	}
	word, bit := (x-1)/64, uint64(1)<<((x-1)%64)
	if l.had[word]&bit != 0 {
		return arrivedAgain
	}
	l.had[word] |= bit
	l.got++
	if x < l.top {
		return arrivedLate
	}
	l.top = x
	return arrivedInOrder
}

// missedCounts are of what was missed, at all devices of a loop.
type missedCounts struct {
	received   int64 // for the first time
	duplicated int64
	reordered  int64 // received, behind a higher number
}

// take counts number x of 1 … n in a device's ledger; fresh says that it came for the first time.
func (m *missedCounts) take(l *ledger, x, n uint32) (fresh bool) {
	switch l.observe(x, n) {
	case arrivedAgain:
		m.duplicated++
		return false
	case arrivedLate:
		m.reordered++
	}
	m.received++
	return true
}

func (m *missedCounts) add(d missedCounts) {
	m.received += d.received
	m.duplicated += d.duplicated
	m.reordered += d.reordered
}
