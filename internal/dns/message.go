package dns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// The types and codes of RFC 1035 §3.2, RFC 3596, RFC 6891 and RFC 9460 that are told apart here.
const (
	typeA     = 1
	typeCNAME = 5
	typeSOA   = 6
	typeAAAA  = 28
	typeOPT   = 41
	typeSVCB  = 64
	typeHTTPS = 65
	typeANY   = 255
	classIN   = 1

	codeFormat         = 1
	codeServerFailure  = 2
	codeNoName         = 3
	codeNotImplemented = 4
	codeBadVersion     = 16
)

// The bits of the second word of a header (RFC 1035 §4.1.1, RFC 4035 §3).
const (
	bitResponse      = 1 << 15
	maskOpcode       = 0xf << 11
	bitAuthoritative = 1 << 10
	bitTruncated     = 1 << 9
	bitRecurse       = 1 << 8
	bitRecursion     = 1 << 7 // is to be had
	bitAuthentic     = 1 << 5
	bitUnchecked     = 1 << 4
	maskCode         = 0xf
)

const (
	headerLen   = 12
	maxName     = 255
	maxMessage  = 1<<16 - 1
	plainUDP    = 512  // what fits without EDNS
	largestUDP  = 4096 // of ours, whatever the client could take
	upstreamUDP = 1232 // what we take ourselves: no fragments (DNS flag day 2020)
	optLen      = 11
)

var errMalformed = errors.New("malformed DNS message")

func word(b []byte, at int) int { return int(binary.BigEndian.Uint16(b[at:])) }

// skipName gives the end of a name (RFC 1035 §4.1.4). What a pointer points to is not looked at.
func skipName(b []byte, at int) (end int, ok bool) {
	for n := 0; at < len(b) && n < maxName; {
		switch l := int(b[at]); {
		case l == 0:
			return at + 1, true
		case l&0xc0 == 0xc0:
			return at + 2, at+2 <= len(b)
		case l&0xc0 != 0:
			return 0, false
		default:
			at += 1 + l
			n += 1 + l
		}
	}
	return 0, false
}

// A record is one resource record, by where it stands in its message.
type record struct {
	start, end int // end is that of its data too
	kind       int
	ttl        int // where the TTL stands
	data       int
}

// life gives the TTL in seconds. One with the highest bit is none (RFC 2181 §8).
func (r *record) life(b []byte) uint32 {
	if ttl := binary.BigEndian.Uint32(b[r.ttl:]); ttl < 1<<31 {
		return ttl
	}
	return 0
}

// The sections of a message that have records.
const (
	inAnswer = iota
	inAuthority
	inAdditional
)

// records reads what follows the question, which is one or none. It gives the end of the last record; ok is false for what is
// malformed. each may be nil.
func records(b []byte, each func(section int, r *record)) (end int, ok bool) {
	if len(b) < headerLen || word(b, 4) > 1 {
		return 0, false
	}
	at := headerLen
	if word(b, 4) == 1 {
		if at, ok = skipName(b, at); !ok || at+4 > len(b) {
			return 0, false
		}
		at += 4
	}
	for section := range 3 {
		for range word(b, 6+2*section) {
			r := record{start: at}
			if at, ok = skipName(b, at); !ok || at+10 > len(b) {
				return 0, false
			}
			r.kind, r.ttl, r.data = word(b, at), at+4, at+10
			if at = r.data + word(b, at+8); at > len(b) {
				return 0, false
			}
			if r.end = at; each != nil {
				each(section, &r)
			}
		}
	}
	return at, true
}

// A query is what a client asks. It is reused, and belongs to one goroutine.
type query struct {
	id, flags uint16
	question  []byte        // as it was sent: name, type and class
	name      []byte        // in small letters, with dots and without the last; what cannot be written so has a zero byte
	room      [maxName]byte // of name
	kind      int
	class     int
	edns      bool
	dnssec    bool // wants to see it (DO)
	limit     int  // bytes of an answer by UDP
}

// read takes a message apart. drop says that it gets no answer, and otherwise code is that of the refusal, 0 for none.
func (q *query) read(b []byte) (code int, drop bool) {
	*q = query{limit: plainUDP}
	if len(b) < headerLen || word(b, 2)&bitResponse != 0 {
		return 0, true
	}
	q.id, q.flags = uint16(word(b, 0)), uint16(word(b, 2))
	switch {
	case q.flags&maskOpcode != 0:
		return codeNotImplemented, false
	case word(b, 4) != 1 || word(b, 6) != 0 || word(b, 8) != 0 || !q.ask(b):
		q.question = nil
		return codeFormat, false
	}
	options, version := 0, byte(0)
	_, ok := records(b, func(_ int, r *record) {
		if r.kind != typeOPT {
			return
		}
		options++
		if b[r.start] != 0 {
			options = 2 // its name is not the root
		}
		q.edns = true
		q.limit = min(max(word(b, r.ttl-2), plainUDP), largestUDP)
		version, q.dnssec = b[r.ttl+1], b[r.ttl+2]&0x80 != 0
	})
	switch {
	case !ok || options > 1:
		return codeFormat, false
	case version != 0:
		return codeBadVersion, false
	}
	return 0, false
}

// ask reads the question, whose name has no pointers.
func (q *query) ask(b []byte) bool {
	q.name = q.room[:0]
	at := headerLen
	for {
		if at >= len(b) {
			return false
		}
		l := int(b[at])
		at++
		if l == 0 {
			break
		}
		if l > 63 || at+l > len(b) || at+l-headerLen > maxName-1 {
			return false
		}
		if len(q.name) > 0 {
			q.name = append(q.name, '.')
		}
		for _, c := range b[at : at+l] {
			if c == '.' {
				c = 0
			}
			q.name = append(q.name, lower(c))
		}
		at += l
	}
	if at+4 > len(b) {
		return false
	}
	q.question, q.kind, q.class = b[headerLen:at+4], word(b, at), word(b, at+2)
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// own keeps what the query says when the message that it was read from is gone.
func (q *query) own() *query {
	kept := *q
	kept.question = slices.Clone(q.question)
	kept.name = kept.room[:len(q.name)]
	return &kept
}

// begin writes the header and the question of an answer of our own.
func (q *query) begin(out []byte, flags, code int) []byte {
	flags |= bitResponse | bitRecursion | int(q.flags)&(maskOpcode|bitRecurse|bitUnchecked) | code&maskCode
	out = binary.BigEndian.AppendUint16(out, q.id)
	out = binary.BigEndian.AppendUint16(out, uint16(flags))
	questions := byte(0)
	if len(q.question) > 0 {
		questions = 1
	}
	out = append(out, 0, questions, 0, 0, 0, 0, 0, 0)
	return append(out, q.question...)
}

// finish adds what a client that knows EDNS is to see of it. The message is all of out.
func (q *query) finish(out []byte, code int) []byte {
	if !q.edns {
		return out
	}
	binary.BigEndian.PutUint16(out[10:], uint16(word(out, 10)+1))
	return appendOPT(out, largestUDP, byte(code>>4), q.dnssec)
}

func appendOPT(out []byte, size uint16, code byte, dnssec bool) []byte {
	out = append(out, 0, 0, typeOPT)
	out = binary.BigEndian.AppendUint16(out, size)
	do := byte(0)
	if dnssec {
		do = 0x80
	}
	return append(out, code, 0, do, 0, 0, 0)
}

// fail is an answer that has nothing but a code.
func (q *query) fail(out []byte, code int) []byte { return q.finish(q.begin(out, 0, code), code) }

// cut is an answer by UDP that tells the client to come by TCP.
func (q *query) cut(out []byte, code int) []byte {
	return q.finish(q.begin(out, bitTruncated, code), code)
}

// request writes the message that asks a name server the same.
func (q *query) request(out []byte, id uint16, edns bool) []byte {
	out = binary.BigEndian.AppendUint16(out, id)
	out = binary.BigEndian.AppendUint16(out, q.flags&(bitRecurse|bitAuthentic|bitUnchecked))
	additional := byte(0)
	if edns {
		additional = 1
	}
	out = append(out, 0, 1, 0, 0, 0, 0, 0, additional)
	out = append(out, q.question...)
	if edns {
		out = appendOPT(out, upstreamUDP, 0, q.dnssec)
	}
	return out
}

// answeredBy reports whether a message is a well-formed answer to the query with the id. A server that knows no EDNS may leave
// the question out of its refusal. An OPT is of the additional section (RFC 6891 §6.1.1): one elsewhere would be the client's.
func (q *query) answeredBy(b []byte, id uint16) bool {
	if len(b) < headerLen || word(b, 0) != int(id) || word(b, 2)&bitResponse == 0 || word(b, 2)&maskOpcode != 0 {
		return false
	}
	astray := false
	if _, ok := records(b, func(section int, r *record) { astray = astray || r.kind == typeOPT && section != inAdditional }); !ok || astray {
		return false
	}
	if word(b, 4) == 0 {
		code := word(b, 2) & maskCode
		return code == codeFormat || code == codeNotImplemented
	}
	n := len(q.question)
	return len(b) >= headerLen+n && sameQuestion(b[headerLen:headerLen+n], q.question)
}

// sameQuestion holds questions against each other: letters of names in any case, type and class as they are.
func sameQuestion(a, b []byte) bool {
	n := len(a) - 4
	if len(a) != len(b) || !bytes.Equal(a[n:], b[n:]) {
		return false
	}
	for i := range n { // the length of a label is never a letter's code
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
