package store

import (
	"errors"
	"fmt"

	"gannet/codec"
)

// Channel names a log.
type Channel struct {
	Kind codec.Kind
	Name string // the pair for a direct channel
}

func (c Channel) String() string { return fmt.Sprintf("%v %q", c.Kind, c.Name) }

// Message asks for a message to be stored. Its slices belong to the caller and are not kept after Append returned;
// Frame is written to.
type Message struct {
	Kind   codec.Kind
	Name   []byte   // of the channel: the pair for a direct one
	User   []byte   // the sender
	Device []byte   // of the sender; empty: the message has no nonce and is not deduplicated
	Nonce  uint64   // at least 1 with a Device
	Time   uint64   // Unix milliseconds; decides what Expire removes, never an order
	Frame  []byte   // one MSG frame with seq 0 of the channel Kind and Name; Append writes the seq it gave
	Inbox  [][]byte // users whose inbox gets a reference, 1 to codec.MaxID bytes each; one named twice gets one
}

// Result is what became of a Message. Code is one of
//
//	CodeOK           stored
//	CodeDuplicate    stored before, with Seq, or 0 when the nonce is lower than all that are kept
//	CodeInvalid      not a Message as described there
//	CodeUnavailable  what must be known first (the channel's head, the device's nonces) could not be read; the device's
//	                 later messages in the batch are refused with it too, for none may overtake it
//
// None but the first stores anything, and none touches the rest of the batch.
type Result struct {
	Code codec.Code
	Seq  uint64
	Pos  uint64 // place of the commit; 0 unless CodeOK
}

// Head is where a channel's log stands.
type Head struct {
	First uint64 // lowest seq still kept; Seq+1 when none is
	Seq   uint64 // highest seq given; 0: none yet
}

// Ref is an entry of an inbox.
type Ref struct {
	Pos     uint64
	Channel Channel
	Seq     uint64
}

// Record is a small value of an owner (a user, a channel). A nil Value removes it, an empty one is a value. Owner and Key are
// any bytes; Key is not empty.
type Record struct {
	Owner string
	Key   string
	Value []byte
}

// Limits of a record, bytes.
const (
	MaxOwner = 256
	MaxKey   = 256
	MaxValue = 1 << 20
)

// Errors that every implementation uses. Others wrap what the disk or the network said.
var (
	ErrClosed  = errors.New("store: closed")
	ErrFailed  = errors.New("store: a write failed; reopen it to go on")
	ErrLocked  = errors.New("store: another process has it open")
	ErrFormat  = errors.New("store: made by a newer version")
	ErrCorrupt = errors.New("store: damaged data")
	ErrLimit   = errors.New("store: owner, key or value too long, or key empty")
)

// DefaultBucket is the time in milliseconds that one bucket covers, unless an implementation was told otherwise.
const DefaultBucket = 24 * 60 * 60 * 1000

// DefaultWindow is how many nonces of a device are kept at least.
const DefaultWindow = 1024

// Store keeps messages. Append is called by one goroutine at a time; everything else by any.
//
// Time is cut into buckets, days by default. What a batch stores goes into the bucket of its latest Time, or into the last
// bucket kept if that is later: buckets never go back, whatever a clock does. Expire removes whole buckets.
//
// After Close every method that returns an error returns ErrClosed.
type Store interface {
	// Epoch is a random number made with the store and changed by restore; never 0. Positions and seqs mean
	// something within one epoch only.
	Epoch() uint64

	// Append stores a batch in its order and syncs once; results has room for as many. After an error nothing of
	// the batch counts as stored, though a crash may still bring it back, and the store is failed: every
	// further Append, Put, Trim and Expire is ErrFailed until it is reopened. Reading goes on.
	//
	// Of each device the DefaultWindow highest nonces stored are kept at least, with their seq. A nonce between those
	// that was never stored is stored; one below all that are kept counts as stored.
	Append(batch []Message, results []Result) error

	// Place is the place of the last commit, 0 in a new store: no inbox has anything above it yet.
	Place() uint64

	// Head tells where a channel's log stands; First 1 and Seq 0 for one that has never had a message.
	Head(c Channel) (Head, error)

	// Read appends frames of a channel from seq from on to dst, in order and without a hole between them, at most
	// limit and, beyond the first, at most maxBytes in all. n is their number, first the seq of the first (0 when
	// n is 0), next the seq to go on with. When from was trimmed away or has expired, reading begins at what is
	// kept: first tells. n is 0 when there is nothing at or above from, or limit is 0. It may end early where a
	// Trim or Expire is under way: the end of the log is where n is 0.
	Read(c Channel, from uint64, limit, maxBytes int, dst []byte) (frames []byte, first, next uint64, n int, err error)

	// Inbox appends references of a user's inbox above pos after to dst, in order, at most limit. next is the
	// position that is covered by them: when fewer than limit came, the greater of after and Place at the time
	// of reading. References to what Trim removed stay. Call InboxFirst behind it to learn whether
	// something had expired.
	Inbox(user string, after uint64, limit int, dst []Ref) (refs []Ref, next uint64, err error)

	// InboxFirst is the lowest position from which a user's inbox is complete: readers at a lower one may have
	// missed something that Expire removed.
	InboxFirst(user string) (uint64, error)

	// Nonce is the highest nonce stored for a device; 0: none.
	Nonce(user, device string) (uint64, error)

	// Put writes records, all or none, the last of two for one key; with sync they survive a crash when it returns.
	// Readers may see them before. ErrLimit leaves the store as it was, any other error fails it like Append's.
	Put(records []Record, sync bool) error

	// Get reads a record; nil when there is none.
	Get(owner, key string) ([]byte, error)

	// Scan reads an owner's records with a key above after ("": all), in order of the key, at most limit.
	Scan(owner, after string, limit int) ([]Record, error)

	// Trim removes a channel's messages below seq, at most all there are; its head stays. A crash may undo it.
	Trim(c Channel, below uint64) error

	// Expire removes the messages and inbox references of the buckets that end at or before a time (Unix
	// milliseconds); heads stay. A crash may undo it.
	Expire(before uint64) error

	// Close ends the store; calls under way finish first.
	Close() error
}
