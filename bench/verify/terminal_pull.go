package verify

import (
	"fmt"
	"time"

	"gannet/codec"
)

// pullJob has a terminal read the whole logs of channels, one after the other.
type pullJob struct {
	// Static.
	t    *terminal
	done func() // called once

	// The terminal's, until it has ended.
	left []*following // still to be read

	f       *following // being read
	from    uint64     // where this page begins
	log     *Pull
	req     uint32
	count   int         // messages of the page that are still to come
	next    uint64      // where the next page begins; 0: not known
	gaps    []codec.Gap // of the page
	page    []receipt
	retryAt time.Time // a page was refused for now
}

const (
	pullLimit = 1000
	pullRetry = 20 * time.Millisecond
)

// askPull asks for a page, the same one again after a reconnect.
func (t *terminal) askPull() {
	j := t.pull
	j.retryAt, j.count = time.Time{}, 0
	if j.f == nil {
		if len(j.left) == 0 {
			t.pull = nil
			j.done()
			return
		}
		j.f, j.left, j.log = j.left[0], j.left[1:], nil
		j.from = j.f.base + 1
	}
	j.req++
	j.gaps, j.page, j.next = j.gaps[:0], j.page[:0], 0
	t.out = codec.AppendPull(t.out, codec.Pull{Req: j.req, Kind: j.f.kind, Name: []byte(j.f.name), From: j.from, Limit: pullLimit})
}

// ranged is the answer to a PULL: the GAPs of the page came before it, its messages come now.
func (t *terminal) ranged(x codec.Range) error {
	j := t.pull
	if j == nil || x.Req != j.req || j.count > 0 {
		return errUnexpected
	}
	switch {
	case x.Code.Temporary():
		j.retryAt = time.Now().Add(pullRetry)
		return nil
	case x.Code != codec.CodeOK:
		t.r.complain("PULL of %v %q refused: %v", j.f.kind, j.f.name, x.Code)
		j.begin(t, t.epoch)
		j.f = nil
		t.askPull()
		return nil
	case x.Next < j.from:
		return fmt.Errorf("RANGE goes on with %d after a PULL from %d", x.Next, j.from)
	}
	j.begin(t, x.Epoch)
	j.count, j.next = int(x.Count), x.Next
	t.r.heard()
	t.pageEnd()
	return nil
}

// giveUp notes what was not read to its end; call it when the terminal has ended.
func (j *pullJob) giveUp() {
	if j.f == nil && len(j.left) == 0 {
		return // over
	}
	for j.f != nil || len(j.left) > 0 {
		if j.f == nil {
			j.f, j.left, j.log = j.left[0], j.left[1:], nil
		}
		j.begin(j.t, j.t.epoch)
		j.f = nil
	}
	j.done()
}

// begin notes that the log is being read.
func (j *pullJob) begin(t *terminal, epoch uint64) {
	if j.log == nil {
		j.log = t.h.Pull(j.f.id, epoch, j.f.base+1)
	}
}

// take takes a message of the page; false when none is owed.
func (j *pullJob) take(m codec.Msg, id ID, altered bool) bool {
	if j.f == nil || j.count == 0 || m.Kind != j.f.kind || string(m.Name) != j.f.name {
		return false
	}
	r := receipt{seq: m.Seq, id: id}
	if altered {
		r.how = Altered
	}
	j.page = append(j.page, r)
	j.count--
	return true
}

func (j *pullJob) told(g codec.Gap) { j.gaps = append(j.gaps, g) }

// pageEnd goes on with the next page, or the next channel when this one brought nothing.
func (t *terminal) pageEnd() {
	j := t.pull
	if j.count > 0 {
		return
	}
	for _, g := range j.gaps {
		j.log.Gap(g.From, g.To, g.Reason)
	}
	for _, r := range j.page {
		j.log.Message(r.seq, r.id, r.how == Altered)
	}
	if j.next == j.from {
		j.log.Complete()
		j.f = nil
	}
	j.from = j.next
	t.askPull()
}
