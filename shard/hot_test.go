package shard

import (
	"testing"

	"gannet/codec"
)

// A room that never rests lets those in who have caught up, however long a read takes.
func TestJoinAHotRoom(t *testing.T) {
	for _, kind := range []codec.Kind{codec.KindTopic, codec.KindAll} {
		for delay := range 6 {
			w := newLogWorld(t, 1, patient)
			name := "t"
			if kind == codec.KindAll {
				name = "all"
			}
			first := w.listen(w.login(0, "anna", "d", "t"))
			w.log.auto = false
			seq := uint64(0)
			post := func() {
				seq++
				w.log.post(kind, name, "bob", payloadOf(seq, 100))
				w.run()
			}
			for range 20 {
				post()
			}
			c := w.open(0)
			c.user = "bert"
			l := w.listen(c)
			l.ask(back("bert", "d", 0, 0, at(kind, name, w.log.Epoch(), 0)))
			for range 100 {
				reads := w.log.reads
				w.log.reads = nil
				for _, r := range reads {
					w.log.answer(r)
				}
				for range delay {
					post()
				}
				for _, r := range reads {
					w.node.Served(r)
				}
				w.run()
				post()
			}
			l.skipOne()
			l.hear(nil)
			first.hear(nil)
			if st := w.stats(); st.Cursors != 0 || l.next[kind.String()+" "+name] != seq+1 {
				t.Errorf("%v, %d messages while a read is under way: after %d messages it has %d, %d cursors", kind, delay, seq, l.next[kind.String()+" "+name]-1, st.Cursors)
			}
			w.log.auto = true
			w.run()
			w.end()
		}
	}
}
