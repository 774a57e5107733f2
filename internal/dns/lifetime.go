package dns

import (
	"encoding/binary"
	"time"
)

// How long answers are kept at the most: those with data, and those that say that there is none (RFC 2308 §5).
const (
	longestLife     = 24 * time.Hour
	longestNegative = 3 * time.Hour
)

// A lifetime is for how long an answer is good.
type lifetime struct {
	time.Duration
	data bool // it has what was asked for
}

// lifetimeOf reads it: of data the shortest TTL of the answer, its CNAMEs among them; that there is none, as long as the SOA
// beside it says (RFC 2308 §5). It is zero for what must not be kept.
func lifetimeOf(b []byte) lifetime {
	const none = 1<<32 - 1
	shortest, denied := uint32(none), uint32(none)
	asked, found := 0, false
	if len(b) < headerLen {
		return lifetime{}
	}
	if word(b, 4) == 1 {
		if end, ok := skipName(b, headerLen); ok && end+2 <= len(b) {
			asked = word(b, end)
		}
	}
	_, ok := records(b, func(section int, r *record) {
		switch {
		case section == inAnswer:
			shortest = min(shortest, r.life(b))
			found = found || r.kind == asked || asked == typeANY
		case section == inAuthority && r.kind == typeSOA && r.end-r.data >= 20:
			least := record{ttl: r.end - 4} // its MINIMUM (RFC 2308 §4)
			denied = min(denied, r.life(b), least.life(b))
		}
	})
	seconds := func(n uint32, most time.Duration) time.Duration {
		return min(time.Duration(n)*time.Second, most)
	}
	switch code := word(b, 2) & maskCode; {
	case !ok || word(b, 2)&bitTruncated != 0 || code != 0 && code != codeNoName:
		return lifetime{}
	case code == 0 && found:
		return lifetime{seconds(shortest, longestLife), true}
	case denied == none:
		return lifetime{}
	}
	return lifetime{seconds(min(shortest, denied), longestNegative), false}
}

// age takes what has passed from every TTL of a message.
func age(b []byte, passed time.Duration) {
	gone := uint32(passed / time.Second)
	records(b, func(_ int, r *record) {
		if r.kind != typeOPT {
			left := r.life(b)
			binary.BigEndian.PutUint32(b[r.ttl:], left-min(left, gone))
		}
	})
}
