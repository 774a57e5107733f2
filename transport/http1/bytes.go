package http1

import (
	"encoding/binary"
	"strings"
)

// Classes of bytes, one bit each.
const (
	isToken  = 1 << iota // tchar, RFC 9110 §5.6.2
	isPath               // what the path of a target may hold
	isQuery              // what its query may hold
	isHost               // what a host name may hold
	isHexDig             // RFC 5234 HEXDIG, in either case
)

var classes = func() (t [256]uint8) {
	mark := func(bit uint8, s string) {
		for i := range len(s) {
			t[s[i]] |= bit
		}
	}
	for c := '0'; c <= '9'; c++ {
		mark(isToken|isPath|isQuery|isHost|isHexDig, string(c))
	}
	for c := 'a'; c <= 'z'; c++ {
		mark(isToken|isPath|isQuery|isHost, string(c)+strings.ToUpper(string(c)))
	}
	mark(isHexDig, "abcdefABCDEF")
	mark(isToken, "!#$%&'*+-.^_`|~")
	// RFC 3986 §3.3 pchar and "/", and what browsers leave as it is (WHATWG URL, path percent-encode set).
	mark(isPath|isQuery, "-._~!$&'()*+,;=:@/%[]|^")
	mark(isQuery, "?\\{}`")
	mark(isHost, "-._~")
	return t
}()

func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// text reports whether s is field content: HTAB, SP, VCHAR and obs-text (RFC 9110 §5.5).
func text(b []byte) bool {
	const ones = 0x0101010101010101
	for len(b) >= 8 {
		// A byte below 0x20 or equal to 0x7f sets its high bit in one of the two.
		x := binary.LittleEndian.Uint64(b)
		del := x ^ ones*0x7f
		if ((x-ones*0x20)&^x|(del-ones)&^del)&(ones*0x80) != 0 && !slowText(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return slowText(b)
}

func slowText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim takes optional whitespace off both ends (RFC 9110 §5.6.3).
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// listed reports whether a token stands in a comma-separated value, in any case (RFC 9110 §5.6.1).
func listed(value, token string) bool {
	for value != "" {
		var one string
		one, value, _ = strings.Cut(value, ",")
		if equalFold(trim(one), token) {
			return true
		}
	}
	return false
}

// number reads 1*DIGIT that fits an int64. It takes no sign, no space and no more than 19 digits.
func number(s string) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return int64(n), n <= 1<<63-1
}
