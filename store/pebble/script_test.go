package pebble

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"gannet/codec"
	"gannet/store"
	"gannet/store/storetest"
)

// script is a seeded workload: batches whose results are known in advance, so that whatever a crash leaves can be judged.
type script struct {
	steps []step
	first uint64 // of nonces
}

// step is a batch with the results that it must have, and what is done behind it.
type step struct {
	sent    []sent
	results []store.Result
	trim    uint64 // below, of topic c0; 0: no
	expire  uint64 // before; 0: no
	record  string // put with sync; "": no
}

type sent struct {
	channel int
	device  int
	nonce   uint64
	size    int
	time    uint64
	users   [2]int
}

const scriptChannels, scriptDevices, scriptUsers = 5, 4, 6

// newScript draws n steps.
func newScript(rng *rand.Rand, n int) *script {
	s := &script{first: 1}
	var seqs [scriptChannels]uint64
	var nonces [scriptDevices]uint64
	var place uint64
	known := map[[2]uint64]uint64{} // device, nonce → seq
	for i := range n {
		var st step
		time := uint64(storetest.Day + i/8*storetest.Bucket)
		for range rng.IntN(12) + 1 {
			v := sent{
				channel: rng.IntN(scriptChannels), device: rng.IntN(scriptDevices), size: rng.IntN(300), time: time,
				users: [2]int{rng.IntN(scriptUsers), rng.IntN(scriptUsers)},
			}
			if rng.IntN(10) == 0 {
				v.size = 20_000
			}
			if nonces[v.device]++; rng.IntN(6) == 0 && nonces[v.device] > 3 {
				nonces[v.device]--
				v.nonce = nonces[v.device] - rng.Uint64N(3) // a retry
			} else {
				v.nonce = nonces[v.device]
			}
			key := [2]uint64{uint64(v.device), v.nonce}
			if seq, dup := known[key]; dup {
				st.results = append(st.results, store.Result{Code: codec.CodeDuplicate, Seq: seq})
			} else {
				seqs[v.channel]++
				place++
				known[key] = seqs[v.channel]
				st.results = append(st.results, store.Result{Seq: seqs[v.channel], Pos: place})
			}
			st.sent = append(st.sent, v)
		}
		switch rng.IntN(10) {
		case 0:
			st.trim = seqs[0] / 2
		case 1:
			st.expire = time - uint64(rng.IntN(3))*storetest.Bucket
		case 2:
			st.record = fmt.Sprint("k", i)
		}
		s.steps = append(s.steps, st)
	}
	return s
}

func scriptChannel(i int) store.Channel {
	return store.Channel{Kind: codec.KindGroup, Name: fmt.Sprint("c", i)}
}

func (v sent) message(seq uint64) store.Message {
	c := scriptChannel(v.channel)
	m := store.Message{
		Kind: c.Kind, Name: []byte(c.Name), User: []byte("u"), Device: fmt.Append(nil, "d", v.device), Nonce: v.nonce, Time: v.time,
		Inbox: [][]byte{fmt.Append(nil, "u", v.users[0]), fmt.Append(nil, "u", v.users[1])},
	}
	payload := bytes.Repeat(fmt.Append(nil, v.device, ":", v.nonce, " "), v.size/8+1)
	m.Frame = codec.AppendMsg(nil, codec.Msg{Kind: c.Kind, Name: m.Name, Seq: seq, Time: v.time, Sender: m.User, Payload: payload})
	return m
}

// append submits step i; an error is the store's.
func (s *script) append(d *DB, i int) error {
	st := &s.steps[i]
	batch := make([]store.Message, len(st.sent))
	for j, v := range st.sent {
		batch[j] = v.message(0)
	}
	results := make([]store.Result, len(batch))
	if err := d.Append(batch, results); err != nil {
		return err
	}
	if fmt.Sprint(results) != fmt.Sprint(st.results) {
		return fmt.Errorf("step %d: results %v, want %v", i, results, st.results)
	}
	return nil
}

// after does what follows step i.
func (s *script) after(d *DB, i int) error {
	st := &s.steps[i]
	if st.trim > 0 {
		if err := d.Trim(scriptChannel(0), st.trim); err != nil {
			return err
		}
	}
	if st.expire > 0 {
		if err := d.Expire(st.expire); err != nil {
			return err
		}
	}
	if st.record != "" {
		return d.Put([]store.Record{{Owner: "script", Key: st.record, Value: []byte(st.record)}}, true)
	}
	return nil
}

// placeAfter is the place when the first n steps are stored.
func (s *script) placeAfter(n int) (place uint64) {
	for _, st := range s.steps[:n] {
		for _, r := range st.results {
			place = max(place, r.Pos)
		}
	}
	return place
}

// verify checks that d holds exactly the first n steps for some n from low to high, and returns n. afters is how many steps were
// wholly done: their synced records must be there.
func (s *script) verify(d *DB, low, high, afters int) (n int, err error) {
	for n = low; s.placeAfter(n) != d.Place(); n++ {
		if n == high {
			return 0, fmt.Errorf("place %d is none of those after %d to %d steps", d.Place(), low, high)
		}
	}
	var frames [scriptChannels][][]byte
	refs := map[int][]store.Ref{}
	var nonces [scriptDevices]uint64
	for _, st := range s.steps[:n] {
		for j, v := range st.sent {
			r := st.results[j]
			if r.Code != codec.CodeOK {
				continue
			}
			frames[v.channel] = append(frames[v.channel], v.message(r.Seq).Frame)
			nonces[v.device] = max(nonces[v.device], v.nonce)
			for k, u := range v.users {
				if k == 0 || u != v.users[0] {
					refs[u] = append(refs[u], store.Ref{Pos: r.Pos, Channel: scriptChannel(v.channel), Seq: r.Seq})
				}
			}
		}
	}
	for c := range frames {
		if err := verifyChannel(d, scriptChannel(c), frames[c]); err != nil {
			return n, err
		}
	}
	for u := range scriptUsers {
		if err := verifyInbox(d, fmt.Sprint("u", u), refs[u]); err != nil {
			return n, err
		}
	}
	for v, want := range nonces {
		if got, err := d.Nonce("u", fmt.Sprint("d", v)); err != nil || got != want {
			return n, fmt.Errorf("nonce of d%d is %d, want %d: %w", v, got, want, err)
		}
	}
	for _, st := range s.steps[:afters] {
		if st.record == "" {
			continue
		}
		if v, err := d.Get("script", st.record); err != nil || string(v) != st.record {
			return n, fmt.Errorf("record %s is %q: %w", st.record, v, err)
		}
	}
	return n, nil
}

func verifyChannel(d *DB, c store.Channel, frames [][]byte) error {
	h, err := d.Head(c)
	if err != nil {
		return fmt.Errorf("head of %v: %w", c, err)
	}
	if h.Seq != uint64(len(frames)) || h.First > h.Seq+1 {
		return fmt.Errorf("head of %v is %+v, want seq %d", c, h, len(frames))
	}
	b, first, _, k, err := d.Read(c, 1, 1<<30, 1<<30, nil)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	if uint64(k) != h.Seq+1-h.First || k > 0 && first != h.First {
		return fmt.Errorf("%v: read %d frames from %d; head is %+v", c, k, first, h)
	}
	if !bytes.Equal(b, bytes.Join(frames[h.First-1:], nil)) {
		return fmt.Errorf("%v: the frames differ", c)
	}
	return nil
}

func verifyInbox(d *DB, user string, refs []store.Ref) error {
	got, _, err := d.Inbox(user, 0, 1<<30, nil)
	if err != nil {
		return fmt.Errorf("inbox of %s: %w", user, err)
	}
	first, err := d.InboxFirst(user)
	if err != nil {
		return err
	}
	for len(refs) > 0 && refs[0].Pos <= first {
		refs = refs[1:]
	}
	if fmt.Sprint(got) != fmt.Sprint(refs) {
		return fmt.Errorf("inbox of %s above %d is %v, want %v", user, first, got, refs)
	}
	return nil
}

// retry submits the last steps of the first n again: nothing may be stored twice.
func (s *script) retry(d *DB, n int) error {
	for i := max(0, n-2); i < n; i++ {
		for j, v := range s.steps[i].sent {
			results := make([]store.Result, 1)
			if err := d.Append([]store.Message{v.message(0)}, results); err != nil {
				return err
			}
			want := store.Result{Code: codec.CodeDuplicate, Seq: s.steps[i].results[j].Seq}
			if results[0] != want {
				return fmt.Errorf("retry of step %d, message %d: %+v, want %+v", i, j, results[0], want)
			}
		}
	}
	return nil
}

// goOn judges a store that was reopened behind a crash or an error: between low and high steps are there, and the rest can be
// appended as if nothing had happened.
func (s *script) goOn(d *DB, low, high, afters int) error {
	n, err := s.verify(d, low, high, afters)
	if err == nil {
		err = s.retry(d, n)
	}
	for i := n; i < len(s.steps) && err == nil; i++ {
		err = s.append(d, i)
	}
	if err == nil {
		_, err = s.verify(d, len(s.steps), len(s.steps), afters)
	}
	if err != nil {
		return fmt.Errorf("%d steps were acknowledged, %d submitted, %d found: %w", low, high, n, err)
	}
	return nil
}

// openTest opens a store for a script.
func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	d, err := Open("store", o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return d
}
