package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"gannet/codec"
)

// The journal of a FileOutbox: journalMagic, then records
//
//	mark 4 bytes, len u32, crc u32, body: len bytes
//
// crc is CRC-32C of len and body. The mark is there to find the next record behind a damaged one. Bodies, by their first byte:
//
//	recordAdd     id u64, data = the rest
//	recordDone    id u64
//	recordSettle  from u64, shift u64
//	recordLast    id u64: the highest one given out before a compaction
const (
	journalMagic = "GNTBOX1\n"
	recordHead   = 12 // bytes before the body

	recordAdd    = 1
	recordDone   = 2
	recordSettle = 3
	recordLast   = 4
)

var recordMark = [4]byte{0xf5, 'G', 'N', 0xf4}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one entry of a journal.
type record struct {
	op   byte
	id   uint64 // from of recordSettle
	arg  uint64 // shift of recordSettle
	data []byte // of recordAdd
}

func appendRecord(b []byte, r record) []byte {
	b = append(b, recordMark[:]...)
	n := len(b)
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint64(append(b, r.op), r.id)
	if r.op == recordSettle {
		b = binary.BigEndian.AppendUint64(b, r.arg)
	}
	b = append(b, r.data...)
	body := b[n+8:]
	binary.BigEndian.PutUint32(b[n:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[n+4:], recordSum(b[n:n+4], body))
	return b
}

func recordSum(length, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, body)
}

// recordLen is how many bytes a message of so many takes in a journal.
func recordLen(data int) int64 { return int64(recordHead + 1 + 8 + data) }

var (
	errJournal = errors.New("damaged record")
	errUnknown = errors.New("a record of an unknown kind, perhaps of a newer version")
)

// maxRecord is longer than any body, so that a damaged length is noticed early.
const maxRecord = codec.MaxBody + 64

// consumeRecord reads the record at the front of b; n is its length. Data points into b.
func consumeRecord(b []byte) (r record, n int, err error) {
	if len(b) < recordHead || !bytes.Equal(b[:4], recordMark[:]) {
		return r, 0, errJournal
	}
	size := int(binary.BigEndian.Uint32(b[4:]))
	if size < 9 || size > maxRecord || size > len(b)-recordHead {
		return r, 0, errJournal
	}
	body := b[recordHead : recordHead+size]
	if recordSum(b[4:8], body) != binary.BigEndian.Uint32(b[8:]) {
		return r, 0, errJournal
	}
	r.op, r.id, r.data = body[0], binary.BigEndian.Uint64(body[1:]), body[9:]
	switch {
	case r.op == recordAdd:
	case r.op == recordSettle && len(r.data) == 8:
		r.arg, r.data = binary.BigEndian.Uint64(r.data), nil
	case (r.op == recordDone || r.op == recordLast) && len(r.data) == 0:
		r.data = nil
	default:
		return r, 0, errUnknown
	}
	return r, recordHead + size, nil
}

// nextRecord finds the first whole record in b; -1 when there is none.
func nextRecord(b []byte) int {
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], recordMark[:])
		if i < 0 {
			return -1
		}
		at += i
		if _, _, err := consumeRecord(b[at:]); err == nil {
			return at
		}
	}
}

// replay takes the records of a journal, without its magic, one after the other. used is how many bytes of it are good: what
// follows was not written to its end. When there are whole records behind something damaged, that is an error, unless
// skip has it left out and counted.
func replay(b []byte, skip bool, take func(at int, r record)) (used, skipped int, err error) {
	for used < len(b) {
		r, n, err := consumeRecord(b[used:])
		if err == nil {
			take(used, r)
			used += n
			continue
		}
		if errors.Is(err, errUnknown) {
			return used, skipped, fmt.Errorf("at byte %d: %w", used, err)
		}
		next := nextRecord(b[used+1:])
		switch {
		case next < 0:
			return used, skipped, nil
		case !skip:
			return used, skipped, fmt.Errorf("damaged at byte %d, and there are whole records behind: restore it, or open it with Repair to go on without what is damaged", used)
		}
		skipped += next + 1
		used += next + 1
	}
	return used, skipped, nil
}
