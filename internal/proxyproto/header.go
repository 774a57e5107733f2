// Package proxyproto reads and writes the PROXY protocol, versions 1 and 2: who has made a connection, told by the one who passes it
// on (HAProxy, "The PROXY protocol", https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt). It is strict: what the
// specification does not have is refused, for whoever can make a header be read in two ways can be taken for somebody else.
//
// It knows of no mesh and uses the standard library alone. Layer L0.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// MaxHeader bounds a header, in bytes. Version 1 has 107 at the most; of version 2 a sender is to keep to 536 (§2.2).
const MaxHeader = 2 << 10

const (
	maxLine = 107
	prefix  = "PROXY "
	magic   = "\r\n\r\n\x00\r\nQUIT\n"
	fixed   = 16 // of a header of version 2
)

// ErrHeader is why a connection that does not begin with a header is closed.
var ErrHeader = errors.New("no header of the PROXY protocol")

// A Header is what one says. Where it names nobody (UNKNOWN, LOCAL), both are invalid, and the connection's own addresses count.
type Header struct{ From, To netip.AddrPort }

// Parse reads the header that b begins with, of n bytes. n is 0 where b may be the beginning of one and has too little of it. It
// allocates only for an error.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case begins(b, magic):
		return parse2(b)
	case begins(b, prefix):
		return parse1(b)
	}
	return h, 0, ErrHeader
}

// begins reports whether b begins like text, as far as it goes.
func begins(b []byte, text string) bool {
	k := min(len(b), len(text))
	return string(b[:k]) == text[:k]
}

// parse1 reads a line: PROXY TCP4 192.0.2.1 192.0.2.2 5000 80.
func parse1(b []byte) (h Header, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	switch {
	case end < 0 && len(b) < maxLine:
		return h, 0, nil
	case end < len(prefix)+1 || b[end-1] != '\r':
		return h, 0, ErrHeader
	}
	words := strings.Split(string(b[len(prefix):end-1]), " ")
	n = end + 1
	switch {
	case words[0] == "UNKNOWN":
		return h, n, nil
	case len(words) != 5:
		return h, 0, ErrHeader
	}
	h.From, err = addrPort(words[0], words[1], words[3])
	if err == nil {
		h.To, err = addrPort(words[0], words[2], words[4])
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

func addrPort(family, address, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || ip.Zone() != "" || strconv.FormatUint(n, 10) != port ||
		!(family == "TCP4" && ip.Is4() || family == "TCP6" && ip.Is6()) {
		return netip.AddrPort{}, ErrHeader
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

// parse2 reads version, command, family, length, addresses and what follows them.
func parse2(b []byte) (h Header, n int, err error) {
	if len(b) > 12 && b[12] != 0x20 && b[12] != 0x21 || len(b) > 13 && !families[b[13]] {
		return h, 0, ErrHeader
	}
	if len(b) < fixed {
		return h, 0, nil
	}
	size := fixed + int(binary.BigEndian.Uint16(b[14:]))
	if size > MaxHeader {
		return h, 0, ErrHeader
	}
	if len(b) < size {
		return h, 0, nil
	}
	body := b[fixed:size]
	width := 0
	switch b[13] {
	case 0x11:
		width = 4
	case 0x21:
		width = 16
	}
	if width > 0 {
		if len(body) < 2*width+4 {
			return h, 0, ErrHeader
		}
		from, _ := netip.AddrFromSlice(body[:width])
		to, _ := netip.AddrFromSlice(body[width : 2*width])
		ports := body[2*width:]
		h.From = netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(ports))
		h.To = netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(ports[2:]))
		if !sound(b[:size], fixed+2*width+4) {
			return Header{}, 0, ErrHeader
		}
	}
	if b[12] == 0x20 { // LOCAL: the sender's own connection
		h = Header{}
	}
	return h, size, nil
}

// families are those of version 2 that a connection of bytes can have: unspecified, TCP over IPv4 and IPv6, a Unix stream.
var families = map[byte]bool{0x00: true, 0x11: true, 0x21: true, 0x31: true}

// sound walks the fields behind the addresses (§2.2.1), and checks the one that is a sum over the header (PP2_TYPE_CRC32C).
func sound(header []byte, at int) bool {
	const crc32c = 0x03
	for at < len(header) {
		if len(header)-at < 3 {
			return false
		}
		kind, size := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		if at += 3; len(header)-at < size {
			return false
		}
		if kind == crc32c {
			if size != 4 {
				return false
			}
			table := crc32.MakeTable(crc32.Castagnoli)
			sum := crc32.Update(0, table, header[:at])
			sum = crc32.Update(sum, table, make([]byte, 4))
			if sum = crc32.Update(sum, table, header[at+4:]); sum != binary.BigEndian.Uint32(header[at:]) {
				return false
			}
		}
		at += size
	}
	return true
}

// Append appends the header of a version, 1 or 2, to b. Addresses of two families, or none, are UNKNOWN or LOCAL.
func Append(b []byte, version int, h Header) []byte {
	from, to := h.From.Addr().Unmap(), h.To.Addr().Unmap()
	four := from.Is4() && to.Is4()
	known := four || from.Is6() && to.Is6()
	if version == 1 {
		if !known {
			return append(b, "PROXY UNKNOWN\r\n"...)
		}
		family := "TCP6 "
		if four {
			family = "TCP4 "
		}
		b = append(append(b, prefix...), family...)
		b = append(from.WithZone("").AppendTo(b), ' ')
		b = append(to.WithZone("").AppendTo(b), ' ')
		b = append(strconv.AppendUint(b, uint64(h.From.Port()), 10), ' ')
		return append(strconv.AppendUint(b, uint64(h.To.Port()), 10), "\r\n"...)
	}
	b = append(b, magic...)
	switch {
	case !known:
		return append(b, 0x20, 0, 0, 0)
	case four:
		b = append(b, 0x21, 0x11, 0, 12)
	default:
		b = append(b, 0x21, 0x21, 0, 36)
	}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, h.From.Port()), h.To.Port())
}
