package pebble

import (
	"encoding/binary"

	"gannet/codec"
)

var be = binary.BigEndian

const (
	prefixMeta   = 'M'
	prefixHead   = 'h'
	prefixMsg    = 'm'
	prefixInbox  = 'i'
	prefixNonce  = 'n'
	prefixRecord = 'r'
	prefixBucket = 'b'
)

var (
	keyFormat = []byte("Mformat")
	keyEpoch  = []byte("Mepoch")
	keyPlace  = []byte("Mplace")
)

// appendChannel appends what names a channel in keys and caches; no channel's is a prefix of another's.
func appendChannel(dst []byte, kind codec.Kind, name []byte) []byte {
	return append(append(dst, byte(kind), byte(len(name))), name...)
}

func appendHeadKey(dst []byte, channel []byte) []byte {
	return append(append(dst, prefixHead), channel...)
}

func appendMsgPrefix(dst []byte, bucket uint32, channel []byte) []byte {
	return append(be.AppendUint32(append(dst, prefixMsg), bucket), channel...)
}

func appendMsgKey(dst []byte, bucket uint32, channel []byte, seq uint64) []byte {
	return be.AppendUint64(appendMsgPrefix(dst, bucket, channel), seq)
}

func appendInboxPrefix(dst []byte, bucket uint32, user []byte) []byte {
	dst = be.AppendUint32(append(dst, prefixInbox), bucket)
	return append(append(dst, byte(len(user))), user...)
}

func appendInboxKey(dst []byte, bucket uint32, user []byte, pos uint64) []byte {
	return be.AppendUint64(appendInboxPrefix(dst, bucket, user), pos)
}

// appendDevice appends what names a device in keys and caches.
func appendDevice(dst, user, device []byte) []byte {
	dst = append(append(dst, byte(len(user))), user...)
	return append(append(dst, byte(len(device))), device...)
}

func appendNonceKey(dst, device []byte, nonce uint64) []byte {
	return be.AppendUint64(append(append(dst, prefixNonce), device...), nonce)
}

func appendRecordPrefix(dst []byte, owner string) []byte {
	dst = be.AppendUint16(append(dst, prefixRecord), uint16(len(owner)))
	return append(dst, owner...)
}

func appendRecordKey(dst []byte, owner, key string) []byte {
	return append(appendRecordPrefix(dst, owner), key...)
}

func bucketKey(bucket uint32) []byte { return be.AppendUint32([]byte{prefixBucket}, bucket) }

// lastU64 is the number at a key's end.
func lastU64(key []byte) uint64 { return be.Uint64(key[len(key)-8:]) }

// successor is the first key behind all that begin with prefix.
func successor(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
