package bench

// outbox is what a connection sends durably and has no answer for yet. Messages are numbered from 1; they are sent in order,
// and again from the lowest unanswered one after a refusal that passes or a new login, as rule 3 of the protocol wants it.
//
//	1 … low-1 answered │ low … next-1 sent │ next … high-1 to be sent
type outbox struct {
	low, next, high uint64
	limit           uint64  // of messages unanswered, by WELCOME
	retryAt         int64   // ns; nothing is sent before; 0: at once
	dues            []int64 // by number: when it was due, ns; 0: answered
}

func newOutbox(window int) *outbox {
	return &outbox{low: 1, next: 1, high: 1, limit: uint64(window), dues: make([]int64, window)}
}

func (o *outbox) at(n uint64) *int64 { return &o.dues[n%uint64(len(o.dues))] }

// full says that no message more can be added.
func (o *outbox) full() bool { return o.high-o.low == uint64(len(o.dues)) }

// add takes the next message, due at a time that is not 0, when the box is not full.
func (o *outbox) add(due int64) {
	*o.at(o.high) = due
	o.high++
}

// take returns the next message to be sent; ok is false when there is none, or too many are unanswered.
func (o *outbox) take() (n uint64, due int64, ok bool) {
	for o.next < o.high && *o.at(o.next) == 0 {
		o.next++ // it was answered before it was to be sent again
	}
	if o.next == o.high || o.next-o.low >= o.limit {
		return 0, 0, false
	}
	o.next++
	return o.next - 1, *o.at(o.next - 1), true
}

// untake gives back what take returned last.
func (o *outbox) untake() { o.next-- }

// find is the number that a SENDACK's req means; ok is false when no such message waits for an answer.
func (o *outbox) find(req uint32) (n uint64, ok bool) {
	n = o.low + uint64(req-uint32(o.low))
	return n, n < o.next && *o.at(n) != 0
}

// answer ends message n and returns when it was due.
func (o *outbox) answer(n uint64) (due int64) {
	due = *o.at(n)
	*o.at(n) = 0
	for o.low < o.next && *o.at(o.low) == 0 {
		o.low++
	}
	return due
}

// rewind has everything unanswered sent again, not before a time.
func (o *outbox) rewind(retryAt int64) { o.next, o.retryAt = o.low, retryAt }
