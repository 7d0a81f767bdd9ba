package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"gannet/codec"
)

// tick is the unit of a shard's timers: a tenth of a second.
const tick = int64(100 * time.Millisecond)

func ticks(d time.Duration) uint32 { return uint32(max(1, int64(d)/tick)) }

// Shard is one event loop's state. Everything but the last group is owned by the loop.
type Shard struct {
	// Static after construction.
	node  *Node
	cfg   *Config
	index int
	take  func([]item) // takeItems, bound once

	// Places reserved at a time in another shard's inbox. What all shards keep of them for later is at most a quarter
	// of it, so none locks another out.
	creditRun int

	// The turn.
	loop       Loop
	now        int64  // nanoseconds, read at the start of the turn
	nowTick    uint32 // the same in ticks, never 0
	nowMilli   uint64 // wall clock
	lastTurn   int64  // when a socket last brought something, nanoseconds
	inTurn     bool   // settle or finish will come; schedule need not ask for Drain
	unfinished bool   // something waits for finish
	scheduled  bool   // Drain was asked for and has not come yet
	continuing bool   // Slice was asked for and has not come yet

	// Sessions.
	sessions   slab[Session]
	conns      slab[Conn]
	due        slab[uint32] // by when something must be done for the session, in ticks; 0: nothing
	free       uint32       // first free place, +1
	names      names
	rights     []rightsEntry
	freeRights []uint32
	lastRights uint32
	rightsBy   map[string]uint32
	refs       []SessionRef // scratch for look-ups
	sweepAt    int          // chunk the next tick sweeps

	// Rooms.
	subs      slab[subscription]
	freeSub   uint32 // first free place, +1
	freeSubs  int
	rooms     []room // 0 is the room of all
	freeRoom  []uint32
	ready     []uint32 // rooms for which a run can begin
	active    []uint32 // rooms whose run is under way, in turn
	items     uint64   // inbox items taken
	otherWork uint64   // frames and items that had come when a slice last found new ones
	otherAt   int64    // and when that was, nanoseconds

	// What waits to be written.
	outs      []outBuf
	outBytes  int
	block     []byte // free rest of the block that messages are cut from
	closing   []closer
	halves    []slowReader // sessions whose peer sends no more; slow is by when they end
	void      outBuf       // for what is said to a session that has just ended
	backlog   []slowReader // sessions whose connection has an outbound backlog
	backBytes int          // their bytes, at the last tick

	// States this shard keeps for channels it owns, and those its own sessions have set.
	states  stateTable
	owned   map[uint32][]ownedState
	drained uint32 // drain: the place up to which sessions were ended

	// What is durable: see flow.go.
	flows       slab[flow]
	freeFlow    uint32 // first free place, +1
	nflows      int
	tails       map[uint32]*tail           // by session: what arrives while its inbox is read
	tailed      int                        // messages in them
	cursors     map[uint32]*cursor         // by session: the logs that it reads itself
	wanted      map[uint32][]wantedReceipt // by session
	changes     map[uint32][]*Membership   // by session: of its groups, while its login is under way
	posDue      []closer                   // sessions whose POS is to be told
	dirty       []closer                   // sessions whose position moved, or did a second ago
	entries     []Entry                    // for the log
	reads       []*Read                    // for the log
	marks       []Mark                     // for the log
	marksAt     uint32                     // when positions are handed over next, in ticks
	heard       uint64                     // highest place of an inbox heard of
	took        uint64                     // highest place of a commit taken
	commits     []*Commit                  // scratch
	served      []*Read                    // scratch
	readers     []*cursor                  // scratch
	recentBytes int                        // of all rooms
	retry       []closer                   // sessions whose reads the log did not serve

	outboxes []outbox // by shard
	stats    Stats

	// Shared.
	inbox      *Ring[item]
	mail       mail
	wakeLoop   atomic.Pointer[Loop]
	drainUntil atomic.Int64 // clock of the end of the drain; 0: none
	mu         sync.Mutex
	published  Stats // guarded by mu
}

func newShard(n *Node, index int) *Shard {
	sh := &Shard{
		node: n, cfg: &n.cfg, index: index,
		rightsBy: make(map[string]uint32),
		owned:    make(map[uint32][]ownedState),
		inbox:    NewRing[item](n.cfg.InboxCapacity),
		outboxes: make([]outbox, n.cfg.Shards),
	}
	sh.mail.init()
	sh.take = sh.takeItems
	sh.creditRun = min(max(sh.inbox.Cap()/(4*n.cfg.Shards), 1), creditRun)
	sh.states.init()
	sh.tails = make(map[uint32]*tail)
	sh.cursors = make(map[uint32]*cursor)
	sh.wanted = make(map[uint32][]wantedReceipt)
	sh.changes = make(map[uint32][]*Membership)
	sh.rooms = []room{{topic: n.all, groups: make([]group, 1), all: true}}
	n.all.rooms[index] = 1
	sh.begin()
	return sh
}

// Attach gives the shard its loop. It is called on the loop, before any other method is.
func (sh *Shard) Attach(l Loop) {
	sh.loop = l
	sh.wakeLoop.Store(&l)
	l.Wake()
}

// Index is the shard's number in its node.
func (sh *Shard) Index() int { return sh.index }

// Published returns the counters as of the last tick. Any goroutine may call it.
func (sh *Shard) Published() Stats {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.published
}

// wake has the loop call Drain. Any goroutine may call it; before Attach it does nothing, Attach does it.
func (sh *Shard) wake() {
	if l := sh.wakeLoop.Load(); l != nil {
		(*l).Wake()
	}
}

// schedule asks for one Drain at the end of this pass of the loop.
func (sh *Shard) schedule() {
	sh.unfinished = true
	if !sh.scheduled && !sh.inTurn {
		sh.scheduled = true
		sh.loop.Wake()
	}
}

// begin starts a turn.
func (sh *Shard) begin() {
	sh.now = sh.node.clock.Now()
	sh.nowTick = uint32(sh.now/tick) + 1
	sh.nowMilli = sh.node.clock.UnixMilli()
}

// resolve finds a live session; nil when it ended.
func (sh *Shard) resolve(ref SessionRef) *Session {
	if i := ref.Slot(); i < sh.sessions.n {
		if s := sh.sessions.at(i); s.gen == ref.Gen() && s.phase == phaseLive {
			return s
		}
	}
	return nil
}

// resolveAny finds a session that is in the directory, also one that waits for its WELCOME.
func (sh *Shard) resolveAny(ref SessionRef) *Session {
	if i := ref.Slot(); i < sh.sessions.n {
		if s := sh.sessions.at(i); s.gen == ref.Gen() && (s.phase == phaseLive || s.phase == phaseResume) {
			return s
		}
	}
	return nil
}

func (sh *Shard) ref(s *Session) SessionRef { return MakeRef(uint32(sh.index), s.index, s.gen) }

// user is the session's user; it lives as long as the session.
func (sh *Shard) user(s *Session) []byte {
	return sh.names.piece(s.name, int(s.userLen))
}

func (sh *Shard) device(s *Session) []byte {
	n := int(s.userLen)
	return sh.names.piece(s.name, n+int(s.deviceLen))[n:]
}

func (sh *Shard) conn(s *Session) Conn { return *sh.conns.at(s.index) }

func (sh *Shard) info(s *Session) SessionInfo {
	c := sh.conn(s)
	info := SessionInfo{
		Session: s.id, User: string(sh.user(s)), Device: string(sh.device(s)), Class: s.class,
		Shard: sh.index, Heartbeat: s.heartbeat, Subscriptions: s.nsubs,
		LastFrame: time.UnixMilli(int64(sh.nowMilli) - int64(sh.nowTick-s.seen)*tick/int64(time.Millisecond)),
		Outbound:  c.OutboundBuffered(),
	}
	if a := c.RemoteAddr(); a != nil {
		info.Remote = a.String()
	}
	return info
}

// encode cuts the bytes of a message from the shard's block. The garbage collector frees a block when no
// slice of it is used any more; so a message costs no allocation of its own.
func (sh *Shard) encode(m codec.Msg) []byte {
	n := codec.MsgLen(m)
	return codec.AppendMsg(sh.cut(n), m)
}

const blockLen = 64 << 10

// cut returns n bytes of capacity.
func (sh *Shard) cut(n int) []byte {
	if n > blockLen/4 {
		return make([]byte, 0, n)
	}
	if len(sh.block) < n {
		sh.block = make([]byte, blockLen)
	}
	b := sh.block[:0:n]
	sh.block = sh.block[n:]
	return b
}

type rightsEntry struct {
	rights Rights
	key    string
	refs   int
}

// keepRights interns r: sessions with equal rights share one entry.
func (sh *Shard) keepRights(r Rights) uint32 {
	if i := sh.lastRights; int(i) < len(sh.rights) && sh.rights[i].rights == r {
		sh.rights[i].refs++ // most logins have the same as the one before
		return i
	}
	key := r.Key()
	i, ok := sh.rightsBy[key]
	if !ok {
		if n := len(sh.freeRights); n > 0 {
			i, sh.freeRights = sh.freeRights[n-1], sh.freeRights[:n-1]
		} else {
			i = uint32(len(sh.rights))
			sh.rights = append(sh.rights, rightsEntry{})
		}
		sh.rights[i] = rightsEntry{rights: r, key: key}
		sh.rightsBy[key] = i
	}
	sh.rights[i].refs++
	sh.lastRights = i
	return i
}

func (sh *Shard) dropRights(i uint32) {
	e := &sh.rights[i]
	if e.refs--; e.refs == 0 {
		delete(sh.rightsBy, e.key)
		*e = rightsEntry{}
		sh.freeRights = append(sh.freeRights, i)
	}
}
