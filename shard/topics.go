package shard

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"gannet/codec"
)

// topic is a channel as the whole node knows it: which shards have members, and how much waits for them. It
// exists while a shard has members or its owner keeps STATE values.
type topic struct {
	kind   codec.Kind
	name   string
	owner  int             // the shard that keeps its STATE values: a hash of the name
	mask   []atomic.Uint64 // a bit a shard that has members
	queued atomic.Int64    // bytes admitted and not yet being written, all shards together
	states atomic.Int32    // STATE values kept
	told   atomic.Uint64   // highest seq of the log that a Courier has brought to the shards with members; 0: not known
	rooms  []uint32        // by shard: its room, +1; each entry is touched by its shard alone
	refs   int             // guarded by the stripe's lock
}

func newTopic(kind codec.Kind, name string, shards int) *topic {
	return &topic{
		kind: kind, name: name,
		owner: int(xxhash.Sum64String(name) % uint64(shards)),
		mask:  make([]atomic.Uint64, (shards+63)/64),
		rooms: make([]uint32, shards),
	}
}

func (t *topic) setMember(shard int, on bool) {
	if on {
		t.mask[shard/64].Or(1 << (shard % 64))
	} else {
		t.mask[shard/64].And(^uint64(1 << (shard % 64)))
	}
}

func (t *topic) hasMember(shard int) bool { return t.mask[shard/64].Load()&(1<<(shard%64)) != 0 }

func (t *topic) members() int {
	n := 0
	for i := range t.mask {
		n += bits.OnesCount64(t.mask[i].Load())
	}
	return n
}

// admit says whether one more message of n bytes may go to each shard that has members. Judged at the source:
// either all shards get a message or none does.
func (t *topic) admit(n, limit int) bool {
	q := t.queued.Load()
	return q == 0 || q+int64(n) <= int64(limit)*int64(max(1, t.members()))
}

// topics finds a topic by its name. It is striped; the locks are held for a look-up only.
type topics struct {
	shards  int
	stripes [64]topicStripe
}

type topicStripe struct {
	mu sync.RWMutex
	m  map[string]*topic
	_  [32]byte
}

func (ts *topics) init(shards int) {
	ts.shards = shards
	for i := range ts.stripes {
		ts.stripes[i].m = make(map[string]*topic)
	}
}

func (ts *topics) stripe(name []byte) *topicStripe {
	return &ts.stripes[xxhash.Sum64(name)%uint64(len(ts.stripes))]
}

// get returns the topic, nil when nobody listens and nothing is kept.
func (ts *topics) get(name []byte) *topic {
	st := ts.stripe(name)
	st.mu.RLock()
	t := st.m[string(name)]
	st.mu.RUnlock()
	return t
}

// acquire returns the topic and holds it until release.
func (ts *topics) acquire(kind codec.Kind, name []byte) *topic {
	st := ts.stripe(name)
	st.mu.Lock()
	t := st.m[string(name)]
	if t == nil {
		t = newTopic(kind, string(name), ts.shards)
		st.m[t.name] = t
	}
	t.refs++
	st.mu.Unlock()
	return t
}

func (ts *topics) release(t *topic) {
	if t.kind == codec.KindAll {
		return
	}
	st := ts.stripe([]byte(t.name))
	st.mu.Lock()
	if t.refs--; t.refs == 0 {
		delete(st.m, t.name)
	}
	st.mu.Unlock()
}

// len is the number of topics known.
func (ts *topics) len() int {
	n := 0
	for i := range ts.stripes {
		st := &ts.stripes[i]
		st.mu.RLock()
		n += len(st.m)
		st.mu.RUnlock()
	}
	return n
}
