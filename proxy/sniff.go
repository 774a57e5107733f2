package proxy

import (
	"bytes"
)

// A spoken is what a client's first bytes are.
type spoken uint8

const (
	undecided   spoken = iota // too few bytes
	speaksHTTP1               // a request line of HTTP/1, by its beginning
	speaksHTTP2               // the preface (RFC 9113 §3.4)
	speaksTLS                 // a handshake (RFC 8446 §5.1)
	speaksOther
)

// maxSniffed is how many bytes sniff needs at the most.
const maxSniffed = 32

// sniff tells what is spoken by its first bytes. What it takes for HTTP/1 begins with a method of capital letters, a space and a
// target; whether it is well formed is for the codec. What a program might take for HTTP all the same, small letters or an empty
// line before it, is none here: policies of HTTP then do not count as fulfilled.
func sniff(b []byte) spoken {
	if len(b) == 0 {
		return undecided
	}
	if b[0] == 0x16 {
		return speaksTLS
	}
	if n := min(len(b), len(preface)); bytes.Equal(b[:n], preface[:n]) {
		if n == len(preface) {
			return speaksHTTP2
		}
		return undecided
	}
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z' || c == '-' || c == '_':
			if i == maxSniffed-2 {
				return speaksOther
			}
		case c != ' ' || i == 0:
			return speaksOther
		case i+1 == len(b):
			return undecided
		default:
			return target(b[:i], b[i+1])
		}
	}
	return undecided
}

// target decides by the method and the first byte of what follows it: a path, a URL, the asterisk; of CONNECT, a host.
func target(method []byte, first byte) spoken {
	alphanumeric := 'a' <= first|0x20 && first|0x20 <= 'z' || '0' <= first && first <= '9' || first == '['
	if first == '/' || first == '*' || first|0x20 == 'h' || alphanumeric && string(method) == "CONNECT" {
		return speaksHTTP1
	}
	return speaksOther
}
