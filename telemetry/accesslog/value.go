package accesslog

import (
	"net/netip"
	"strconv"
	"time"
)

// A value is what an operator gives.
type value struct {
	kind  kind
	text  string
	tail  string // of a path, behind "?"
	n     int64
	at    netip.AddrPort
	time  time.Time
	clock []clockPart
	most  int // bytes, 0 for all

	header bool // a number that stands in a header, where it is a text
}

type kind uint8

const (
	nothing kind = iota
	text         // of the request, or of whoever answered it
	number
	address
	moment
)

func textOf(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: text, text: s}
}

func numberOf(n int64) value { return value{kind: number, n: n} }

func addressOf(a netip.AddrPort) value {
	if !a.IsValid() {
		return value{}
	}
	return value{kind: address, at: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}

func hostOf(a netip.AddrPort) value {
	if !a.IsValid() {
		return value{}
	}
	return value{kind: address, at: netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), 0)}
}

// pieces gives the text, no longer than it may be.
func (v *value) pieces() (head, tail string) {
	head, tail = v.text, v.tail
	if v.most == 0 {
		return head, tail
	}
	if len(head) >= v.most {
		return head[:v.most], ""
	}
	if rest := v.most - len(head) - 1; tail != "" && len(tail) > rest {
		tail = tail[:rest]
	}
	return head, tail
}

func (v *value) appendText(b []byte, bare bool) []byte {
	switch v.kind {
	case text:
		head, tail := v.pieces()
		b = appendEscaped(b, head, bare)
		if tail != "" {
			b = appendEscaped(append(b, '?'), tail, bare)
		}
		return b
	case nothing:
		return append(b, '-')
	}
	return v.appendPlain(b)
}

// appendJSON appends a value of JSON.
func (v *value) appendJSON(b []byte) []byte {
	switch v.kind {
	case nothing:
		return append(b, "null"...)
	case number:
		if !v.header {
			return strconv.AppendInt(b, v.n, 10)
		}
	}
	return append(v.appendWithin(append(b, '"')), '"')
}

// appendWithin appends what stands in a text of JSON.
func (v *value) appendWithin(b []byte) []byte {
	switch v.kind {
	case text:
		head, tail := v.pieces()
		b = appendJSON(b, head)
		if tail != "" {
			b = appendJSON(append(b, '?'), tail)
		}
		return b
	case nothing:
		return append(b, '-')
	}
	return v.appendPlain(b)
}

// appendPlain appends what has no character to escape.
func (v *value) appendPlain(b []byte) []byte {
	switch v.kind {
	case number:
		return strconv.AppendInt(b, v.n, 10)
	case address:
		if v.at.Port() == 0 {
			return v.at.Addr().AppendTo(b)
		}
		return v.at.AppendTo(b)
	case moment:
		for i := range v.clock {
			b = v.clock[i].append(b, v.time)
		}
	}
	return b
}
