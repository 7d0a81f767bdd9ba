package shard

const (
	chunkBits = 8
	chunkLen  = 1 << chunkBits
)

// slab is an array that grows by chunks and never moves what it holds, so pointers into it stay good and
// growth copies nothing. Without pointers in T the garbage collector does not look inside.
type slab[T any] struct {
	chunks []*[chunkLen]T
	n      uint32 // indices below n were handed out
}

func (s *slab[T]) at(i uint32) *T { return &s.chunks[i>>chunkBits][i&(chunkLen-1)] }

// grow hands out the next index that was never used.
func (s *slab[T]) grow() uint32 {
	if int(s.n>>chunkBits) == len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkLen]T))
	}
	s.n++
	return s.n - 1
}

// phase is where a session is in its life.
type phase uint8

const (
	phaseFree    phase = iota
	phaseNew           // open, no HELLO yet
	phaseAuth          // HELLO is being judged off the loop
	phaseResume        // judged and in the directory; where it goes on is being read
	phaseLive          // welcomed
	phaseClosing       // BYE is written; what comes is discarded until the peer closes or LingerTimeout
)

// Flags of a session.
const (
	flagPinged  = 1 << iota // a PING is out and nothing came since
	flagBacklog             // in Shard.backlog: the kernel did not take everything
	flagRefresh             // an AUTH is being judged
	flagStates              // has an entry in Shard.owned
	flagShut                // the writing side is closed
	flagHalf                // the peer sends no more: in Shard.halves
	flagAllAway             // no member of the room of all: it reads that log itself, or gets a message on its own
	flagPos                 // in Shard.posDue
	flagReading             // a log that it reads itself is being read
)

// Session is one connection's state in the slab: 64 bytes, no pointers. Owned by the loop of its shard. Times are
// ticks (tenths of a second since the shard's start), 0 for never.
type Session struct {
	id         uint64 // from Node.nextSession; a higher one is newer
	index      uint32 // its own place in the slab
	gen        uint32 // counts the uses of this place, from 1
	name       uint32 // user and device in Shard.names
	userLen    uint8
	deviceLen  uint8
	phase      phase
	class      uint8
	heartbeat  uint16 // seconds
	nsubs      uint16
	subs       uint32 // first subscription, +1
	seen       uint32 // when the last frame came
	expires    uint32 // when the credential ends
	partial    uint32 // by when the unfinished frame must be complete
	rights     uint32 // in Shard.rights
	out        uint32 // its out buffer, +1; in a free place the next free one, +1
	flow       uint32 // in Shard.flows, +1; 0: nothing durable yet
	rateAt     uint32 // when rateTokens was last filled
	rateTokens uint16
	flags      uint16
}

// Live says whether the session is logged in.
func (s *Session) Live() bool { return s.phase == phaseLive }

// names is an arena for the names of a shard's sessions. Pieces are cut in units of 8 bytes and reused by size.
type names struct {
	blocks [][]byte
	used   uint32                // units handed out of blocks
	free   [nameUnits + 1]uint32 // first free piece of each size in units, +1
}

const (
	nameUnit      = 8
	nameBlock     = 64 << 10
	nameUnits     = (2*64 + nameUnit - 1) / nameUnit // user and device at their longest
	unitsPerBlock = nameBlock / nameUnit
)

func units(n int) uint32 { return uint32(n+nameUnit-1) / nameUnit }

func (a *names) piece(at uint32, n int) []byte {
	o := at % unitsPerBlock * nameUnit
	return a.blocks[at/unitsPerBlock][o : o+uint32(n) : o+uint32(n)]
}

// put stores user and device side by side.
func (a *names) put(user, device []byte) uint32 {
	n := len(user) + len(device)
	u := units(n)
	at := a.free[u]
	if at != 0 {
		at--
		a.free[u] = be.Uint32(a.piece(at, 4))
	} else {
		if a.used%unitsPerBlock+u > unitsPerBlock || a.used == uint32(len(a.blocks))*unitsPerBlock {
			a.used = uint32(len(a.blocks)) * unitsPerBlock
			a.blocks = append(a.blocks, make([]byte, nameBlock))
		}
		at = a.used
		a.used += u
	}
	p := a.piece(at, n)
	copy(p[copy(p, user):], device)
	return at
}

func (a *names) drop(at uint32, n int) {
	u := units(n)
	be.PutUint32(a.piece(at, 4), a.free[u])
	a.free[u] = at + 1
}
