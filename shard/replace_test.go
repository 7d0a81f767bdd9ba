package shard

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestReplacedOnTheSameShard(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	old := w.login(0, "anna", "phone", "t")
	other := w.login(0, "anna", "tablet")
	fresh := w.login(0, "anna", "phone")
	old.want("BYE REPLACED")
	if !old.shut {
		t.Error("the old connection is not shut")
	}
	other.alive()
	fresh.alive()
	fresh.ask(toTopic("t", "hi"))
	old.want()
	fresh.want()
}

func TestReplacedOnAnotherShard(t *testing.T) {
	w := newWorld(t, 3)
	defer w.end()
	old := w.login(0, "anna", "phone")
	fresh := w.login(2, "anna", "phone")
	same := w.login(1, "bob", "phone")
	old.want("BYE REPLACED")
	fresh.alive()
	same.alive()
}

// TestReplaceRace has both sessions of a device opened before either shard hears of the other.
func TestReplaceRace(t *testing.T) {
	w := newWorld(t, 2)
	defer w.end()
	a, b := w.open(0), w.open(1)
	a.send(hello("anna", "phone"))
	b.send(hello("anna", "phone"))
	w.run()
	a.want("WELCOME anna 60s", "BYE REPLACED")
	b.want("WELCOME anna 60s")
}

// TestNewsOfAnOlderSession: the news of a session reaches a newer one; the older one ends.
func TestNewsOfAnOlderSession(t *testing.T) {
	for _, shards := range []int{1, 2} {
		w := newWorld(t, shards)
		fresh := w.login(0, "anna", "phone")
		older := w.login(shards-1, "anna", "tablet")
		// As if both had been the same device, and older had its number first.
		fresh.session.id, older.session.id = older.session.id, fresh.session.id
		sh := w.node.Shard(0)
		news := &command{user: "anna", device: "phone", session: older.session.id, from: w.node.Shard(shards - 1).ref(older.session)}
		copy(w.node.Shard(shards-1).device(older.session), "phone")
		older.session.deviceLen = 5
		sh.tryPush(item{op: opReplace, ref: sh.ref(fresh.session), cmd: news})
		w.run()
		older.want("BYE REPLACED")
		fresh.alive()
		older.session.deviceLen = 6
	}
}

// TestOneSessionADevice logs devices in on random shards, lets the news travel in random orders, and requires that the
// newest session of each device is the one that stays.
func TestOneSessionADevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 4).Draw(t, "shards")
		w := newWorld(t, shards, func(c *Config) { c.InboxCapacity = rapid.SampledFrom([]int{16, 1024}).Draw(t, "inbox") })
		w.seed(rapid.Uint64().Draw(t, "seed"))
		defer w.end()
		newest := map[string]*client{}
		for range rapid.IntRange(2, 40).Draw(t, "logins") {
			c := w.open(rapid.IntRange(0, shards-1).Draw(t, "shard"))
			c.user = fmt.Sprint("user", rapid.IntRange(0, 1).Draw(t, "user"))
			device := fmt.Sprint("device", rapid.IntRange(0, 2).Draw(t, "device"))
			c.send(hello(c.user, device))
			newest[c.user+device] = c
			w.clock.ns += int64(rapid.IntRange(0, 100_000).Draw(t, "ns"))
			for range rapid.IntRange(0, 4).Draw(t, "steps") {
				w.step()
			}
		}
		w.run()
		w.tick() // what found a full inbox goes now
		for key, c := range newest {
			if got := c.take(); len(got) != 1 || !c.session.Live() {
				t.Errorf("%s: the newest session got %q", key, got)
			}
		}
		if n := w.node.Online(); n != len(newest) {
			t.Errorf("%d sessions of %d devices", n, len(newest))
		}
		for _, c := range w.conns {
			if !c.closed && !c.session.Live() && !c.shut {
				t.Errorf("an older session is neither live nor shut")
			}
		}
	})
}
