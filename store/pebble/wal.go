package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's WAL is cut into blocks of 32 KiB, a block into chunks: `crc u32, length u16, type u8, log u32, [synced u64,] payload`,
// little endian, the CRC over all behind the length. A record is one chunk or several. synced says up to which offset the file had
// been synced when the chunk was written. A log that was closed ends with a header of the next log's number. (Pebble's package
// record has the details.)
//
// After a crash the last log ends where its last write came to. Pebble takes whatever cannot be read there for that end, unless a
// later block says that it was synced; and synced does not count the blocks that were written whole (Pebble 2.1). One wrong
// byte would take all behind it away in silence, so scanWAL looks closer.
const (
	walBlock       = 32 << 10
	walHeader      = 11 // without synced
	walSyncHeader  = 19
	walFull        = 5 // first of the types without synced: full, first, middle, last
	walSyncFull    = 9 // first of those with it
	walTypeEnd     = 13
	walShortHeader = 7
)

// walEnd is how a log ends.
type walEnd struct {
	size    int64
	records int
	whole   int64 // offset behind the last whole record
	closed  bool  // it was closed
	rest    int64 // bytes behind whole that are not zeros, up to the last of them
	damaged int64 // offset of the chunk that is damaged beyond doubt; −1: none
}

// walNumber is the number of a log's file.
func walNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	return uint32(n), ok && err == nil // chunks hold the low 32 bits
}

// lastWAL is the name of the last log of a folder; "" when there is none.
func lastWAL(fs vfs.FS, dir string) (string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", err
	}
	last, high := "", uint32(0)
	for _, n := range names {
		if num, ok := walNumber(n); ok && (last == "" || num > high) {
			last, high = n, num
		}
	}
	return last, nil
}

// walScan reads one log.
type walScan struct {
	f    io.ReaderAt
	num  uint32
	buf  [walBlock]byte
	n    int   // bytes of buf that are valid
	base int64 // offset of buf
}

// scanWAL finds out how a log ends.
func scanWAL(fs vfs.FS, dir, name string) (e walEnd, err error) {
	num, _ := walNumber(name)
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return e, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return e, err
	}
	e.size, e.damaged = info.Size(), -1
	s := &walScan{f: f, num: num}
	bad, err := s.records(&e)
	if err != nil || e.closed {
		return e, err
	}
	if e.rest, err = s.restBehind(e.whole); err != nil || e.rest == 0 {
		return e, err
	}
	return e, s.judge(&e, bad)
}

// load reads the block at an offset; false at the end of the file.
func (s *walScan) load(at int64) (bool, error) {
	n, err := s.f.ReadAt(s.buf[:], at)
	s.n, s.base = n, at
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n > 0, err
}

// records reads the chunks up to the first that is not one; bad is its offset.
func (s *walScan) records(e *walEnd) (bad int64, err error) {
	inside := false // a record
	for base := int64(0); ; base += walBlock {
		more, err := s.load(base)
		if err != nil || !more {
			return base, err
		}
		at := 0
		for s.n-at >= walShortHeader && !s.padding(at) {
			if s.trailer(at) && !inside {
				e.closed = true
				return base + int64(at), nil
			}
			c, ok := s.chunk(at)
			first := c.part == 0 || c.part == 1
			if !ok || first == inside {
				return base + int64(at), nil
			}
			if inside = c.part == 1 || c.part == 2; !inside {
				e.records++
				e.whole = base + int64(c.end)
			}
			at = c.end
		}
		if s.n < walBlock {
			return base + int64(at), nil
		}
	}
}

// padding tells whether zeros fill the block because no header fits in any more.
func (s *walScan) padding(at int) bool {
	if s.n < walBlock || walBlock-at >= walSyncHeader {
		return false
	}
	for _, b := range s.buf[at:s.n] {
		if b != 0 {
			return false
		}
	}
	return true
}

func (s *walScan) trailer(at int) bool {
	b := s.buf[at:s.n]
	return len(b) >= walHeader && b[6] == walFull && binary.LittleEndian.Uint32(b) == 0 &&
		binary.LittleEndian.Uint16(b[4:]) == 0 && binary.LittleEndian.Uint32(b[7:]) == s.num+1
}

// walChunk is a chunk in its block.
type walChunk struct {
	part   int // of a record: 0 all of it, 1 first, 2 middle, 3 last
	end    int // offset in the block
	synced int64
}

// header reads a chunk's header; false when it is none of this log.
func (s *walScan) header(at int) (c walChunk, ok bool) {
	b := s.buf[at:s.n]
	if len(b) < walHeader || b[6] < walFull || b[6] >= walTypeEnd || binary.LittleEndian.Uint32(b[7:]) != s.num {
		return c, false
	}
	size := walHeader
	if c.part = int(b[6]) - walFull; b[6] >= walSyncFull {
		if c.part, size = int(b[6])-walSyncFull, walSyncHeader; len(b) < size {
			return c, false
		}
		c.synced = int64(binary.LittleEndian.Uint64(b[11:]))
	}
	c.end = at + size + int(binary.LittleEndian.Uint16(b[4:]))
	return c, c.end <= s.n
}

// chunk reads a chunk; false when it is none of this log, or damaged.
func (s *walScan) chunk(at int) (walChunk, bool) {
	c, ok := s.header(at)
	return c, ok && binary.LittleEndian.Uint32(s.buf[at:]) == walSum(s.buf[at+6:c.end])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// walSum is the checksum of LevelDB's logs.
func walSum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// restBehind counts the bytes behind an offset up to the last that is not zero: logs are made longer before they are written.
func (s *walScan) restBehind(whole int64) (rest int64, err error) {
	for at := whole; ; at += walBlock {
		more, err := s.load(at)
		if err != nil || !more {
			return rest, err
		}
		for i := s.n - 1; i >= 0; i-- {
			if s.buf[i] != 0 {
				rest = at + int64(i) + 1 - whole
				break
			}
		}
	}
}

// judge looks for a proof that what is at bad had been synced: a header of which one byte is wrong, a chunk behind it that says so,
// or two commits of messages behind it, for none begins before the one before is synced. It follows lengths and blocks
// only: what a message holds must not look like a chunk.
func (s *walScan) judge(e *walEnd, bad int64) error {
	base := bad - bad%walBlock
	more, err := s.load(base)
	if err != nil || !more {
		return err
	}
	at := int(bad - base)
	if s.repairable(at) {
		e.damaged = bad
		return nil
	}
	b := &walBehind{bad: bad}
	if c, ok := s.header(at); ok {
		s.behind(b, c.end)
	}
	for base += walBlock; !b.proof; base += walBlock {
		if more, err = s.load(base); err != nil || !more {
			return err
		}
		s.behind(b, 0)
	}
	e.damaged = bad
	return nil
}

// walBehind is what was found behind something that cannot be read.
type walBehind struct {
	bad     int64
	inside  bool   // a record that was read from its beginning
	record  []byte // so far
	commits int    // of messages
	proof   bool
}

// behind reads the chunks of a block from at on.
func (s *walScan) behind(b *walBehind, at int) {
	for s.n-at >= walShortHeader && !b.proof && !s.padding(at) {
		c, ok := s.chunk(at)
		if !ok {
			b.inside = false
			return
		}
		size := walHeader
		if s.buf[at+6] >= walSyncFull {
			size = walSyncHeader
		}
		if c.part == 0 || c.part == 1 {
			b.inside, b.record = true, b.record[:0]
		}
		b.record = append(b.record, s.buf[at+size:c.end]...)
		if b.inside && (c.part == 0 || c.part == 3) {
			b.inside = false
			if holdsMessages(b.record) {
				b.commits++
			}
		}
		b.proof = c.synced > b.bad || b.commits >= 2
		at = c.end
	}
}

// holdsMessages tells whether a record of the log is a commit of Append: only these have a place.
func holdsMessages(record []byte) bool {
	if len(record) < batchrepr.HeaderLen {
		return false
	}
	for r := batchrepr.Read(record); ; {
		_, key, _, ok, err := r.Next()
		if err != nil || !ok {
			return false
		}
		if bytes.Equal(key, keyPlace) {
			return true
		}
	}
}

// repairable tells whether a chunk is whole when one byte of its header is another. (Its payload can be passed over; a
// header cannot.)
func (s *walScan) repairable(at int) bool {
	end := min(at+walSyncHeader, s.n)
	for i := at; i < end; i++ {
		was := s.buf[i]
		for x := 1; x < 256; x++ {
			s.buf[i] = was ^ byte(x)
			if _, ok := s.chunk(at); ok {
				s.buf[i] = was
				return true
			}
		}
		s.buf[i] = was
	}
	return false
}
