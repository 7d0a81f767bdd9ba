package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"gannet/codec"
)

// plan makes the devices and says who talks to whom: every user to two others directly, in one topic, in the groups it is in, and to all.
func (r *Run) plan(ctx context.Context) error {
	for u := range r.o.Users {
		for d := range r.o.Devices {
			user, device := r.userName(u), fmt.Sprintf("d%d", d)
			t := &terminal{
				r: r, h: r.h.Device(user, device), user: user, device: device,
				orders: make(chan struct{}, r.o.Window), pulls: make(chan *pullJob, 1), told: make(chan func(*terminal), 16),
				rng:     rand.New(rand.NewPCG(r.o.Seed, uint64(len(r.terminals)+2))),
				follows: make(map[string]*following), subs: make(map[uint32]*following),
			}
			t.every = time.Duration(1+t.rng.Int64N(100)) * time.Millisecond
			r.terminals = append(r.terminals, t)
		}
	}
	for u := range r.o.Users {
		for _, peer := range []int{(u + 1) % r.o.Users, (u + 7) % r.o.Users} {
			pair := string(codec.AppendPair(nil, []byte(r.userName(u)), []byte(r.userName(peer))))
			r.join(codec.KindDirect, pair, u, peer)
		}
		if r.o.Topics > 0 {
			r.join(codec.KindTopic, fmt.Sprintf("%stopic-%d", r.o.UserPrefix, u%r.o.Topics), u)
		}
		if r.o.All {
			r.join(codec.KindAll, codec.AllName, u)
		}
	}
	return r.makeGroups(ctx)
}

func (r *Run) userName(u int) string { return fmt.Sprintf("%s%d", r.o.UserPrefix, u) }

// join makes users readers and writers of a channel, each once.
func (r *Run) join(kind codec.Kind, name string, users ...int) {
	id := r.h.Channel(kind, name)
	for _, u := range users {
		for _, t := range r.terminals[u*r.o.Devices : (u+1)*r.o.Devices] {
			key := t.lookup(kind, name)
			if t.follows[key] != nil {
				continue
			}
			f := &following{id: id, kind: kind, name: name}
			if kind == codec.KindTopic || kind == codec.KindAll {
				f.inLogs, f.sub = true, true
				t.logs = append(t.logs, f)
			}
			t.follows[key] = f
			t.addTarget(target{to: f})
			if kind != codec.KindGroup { // its members are told by who made it
				r.h.Expect(id, t.h)
			}
			r.followers[id] = append(r.followers[id], follower{t, f})
		}
	}
}

// addTarget keeps the targets of a kind together.
func (t *terminal) addTarget(x target) {
	at := len(t.targets)
	for at > 0 && t.targets[at-1].to.kind > x.to.kind {
		at--
	}
	t.targets = append(t.targets, target{})
	copy(t.targets[at+1:], t.targets[at:])
	t.targets[at] = x
}

// dropTarget sends no more to a channel; what is on its way stays.
func (t *terminal) dropTarget(id ChannelID) {
	t.targets = slices.DeleteFunc(t.targets, func(x target) bool { return x.to.id == id })
}
