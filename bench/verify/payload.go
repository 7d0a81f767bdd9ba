package verify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// ID names a message: the device that sent it and its number among that device's messages, from 0.
type ID uint64

const foreignBit = 1 << 63

func newID(device, n uint32) ID { return ID(device)<<32 | ID(n) }

// foreignID stands for a payload that is not of this run.
func foreignID(payload []byte) ID { return foreignBit | ID(xxhash.Sum64(payload)) }

func (id ID) foreign() bool  { return id&foreignBit != 0 }
func (id ID) device() uint32 { return uint32(id >> 32) }
func (id ID) number() uint32 { return uint32(id) }

func (id ID) String() string {
	if id.foreign() {
		return fmt.Sprintf("foreign %x", uint64(id&^foreignBit))
	}
	return fmt.Sprintf("%d.%d", id.device(), id.number())
}

// A payload is run u32, checksum u32 (CRC-32C of all the rest), id u64, and padding made of the id; big-endian.
const (
	// MinSize is the shortest payload in bytes.
	MinSize = 16

	checksumAt = 4
	idAt       = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendPayload appends size bytes, at least MinSize.
func appendPayload(dst []byte, run uint32, id ID, size int) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, run)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	for x := uint64(id); len(dst)-start < size; {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		dst = append(dst, byte(x>>56))
	}
	p := dst[start:]
	binary.BigEndian.PutUint32(p[checksumAt:], checksum(p))
	return dst
}

func checksum(p []byte) uint32 {
	return crc32.Update(crc32.Checksum(p[:checksumAt], castagnoli), castagnoli, p[idAt:])
}

// readPayload names a payload. altered says that it was once made by this run and that its bytes are not what they were;
// the id means nothing then. A payload whose mark of the run was hit counts as foreign: what should be in its place tells.
func readPayload(p []byte, run uint32) (id ID, altered bool) {
	if len(p) < MinSize || binary.BigEndian.Uint32(p) != run {
		return foreignID(p), false
	}
	if binary.BigEndian.Uint32(p[checksumAt:]) != checksum(p) {
		return foreignID(p), true
	}
	return ID(binary.BigEndian.Uint64(p[idAt:])), false
}
