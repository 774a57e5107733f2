package balance

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// The primes of xxHash64 (xxhash_spec.md, XXH64).
const (
	prime1 = 0x9e3779b185ebca87
	prime2 = 0xc2b2ae3d27d4eb4f
	prime3 = 0x165667b19e3779f9
	prime4 = 0x85ebca77c2b2ae63
	prime5 = 0x27d4eb2f165667c5
)

// Hash is the hash that Draw wants, xxHash64, of what calls are kept together by; of several values the hash of each is
// the seed of the next, and that of the first is 0, as in Envoy.
func Hash(key string, seed uint64) uint64 {
	return xxHash64(unsafe.Slice(unsafe.StringData(key), len(key)), seed)
}

// HashBytes is Hash of a text in bytes.
func HashBytes(key []byte) uint64 { return xxHash64(key, 0) }

// xxHash64 is the hash by which Envoy places endpoints on rings and in Maglev tables.
func xxHash64(b []byte, seed uint64) uint64 {
	length := uint64(len(b))
	h := seed + prime5
	if len(b) >= 32 {
		one := uint64(prime1)
		lanes := [4]uint64{seed + one + prime2, seed + prime2, seed, seed - prime1}
		for ; len(b) >= 32; b = b[32:] {
			for i := range lanes {
				lanes[i] = round64(lanes[i], binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		h = bits.RotateLeft64(lanes[0], 1) + bits.RotateLeft64(lanes[1], 7) +
			bits.RotateLeft64(lanes[2], 12) + bits.RotateLeft64(lanes[3], 18)
		for _, lane := range lanes {
			h = (h^round64(0, lane))*prime1 + prime4
		}
	}
	h += length
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round64(0, binary.LittleEndian.Uint64(b)), 27)*prime1 + prime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*prime1, 23)*prime2 + prime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

func round64(lane, input uint64) uint64 {
	return bits.RotateLeft64(lane+input*prime2, 31) * prime1
}
