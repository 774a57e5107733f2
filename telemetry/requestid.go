package telemetry

import (
	"encoding/binary"
	"encoding/hex"
)

// What Envoy writes into x-request-id: in the place of a UUID's version stands why its request is traced (Envoy, UUID request ID
// extension, pack_trace_reason).
const (
	idLength   = 36
	reasonAt   = 14
	notTraced  = '4'
	bySampling = '9'
	byForce    = 'a'
	byClient   = 'b'
)

// idNumber reads the first 32 bits of a UUID, by which all proxies that a request meets sample alike. ok is false for what is
// none.
func idNumber(id string) (n uint32, ok bool) {
	if len(id) != idLength || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return 0, false
	}
	for i := range 8 {
		d := digit(id[i] | 0x20)
		if d > 15 {
			return 0, false
		}
		n = n<<4 | uint32(d)
	}
	return n, true
}

// idTraced tells whether an ID says that its request is traced.
func idTraced(id string) bool {
	if _, ok := idNumber(id); !ok {
		return false
	}
	switch id[reasonAt] {
	case bySampling, byForce, byClient:
		return true
	}
	return false
}

// withReason gives the ID as one that says why its request is traced, or that it is not. What is no UUID stays.
func withReason(id string, reason byte) string {
	if _, ok := idNumber(id); !ok || id[reasonAt] == reason {
		return id
	}
	return id[:reasonAt] + string(rune(reason)) + id[reasonAt+1:]
}

// NewRequestID makes an x-request-id of random bits: a UUID of version 4 (RFC 9562 §5.4).
func NewRequestID(hi, lo uint64) string {
	var s [idLength]byte
	PutRequestID(&s, hi, lo)
	return string(s[:])
}

// PutRequestID is NewRequestID into s.
func PutRequestID(s *[idLength]byte, hi, lo uint64) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi&^0xf000|0x4000)
	binary.BigEndian.PutUint64(b[8:], lo&^(3<<62)|1<<63)
	at := 0
	for i := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			s[at] = '-'
			at++
		}
		hex.Encode(s[at:], b[i:i+1])
		at += 2
	}
}
