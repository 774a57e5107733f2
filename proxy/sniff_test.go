package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestSniff: what is told by the first bytes, however few come at a time (row B-105).
func TestSniff(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]spoken{
		"GET / HTTP/1.1\r\n":             speaksHTTP1,
		"OPTIONS * HTTP/1.1\r\n":         speaksHTTP1,
		"POST http://a/ HTTP/1.1\r\n":    speaksHTTP1,
		"CONNECT a:1 HTTP/1.1\r\n":       speaksHTTP1,
		"M-SEARCH * HTTP/1.1\r\n":        speaksHTTP1,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n":   speaksHTTP2,
		"PRI / HTTP/1.1\r\n":             speaksHTTP1,
		"\x16\x03\x01":                   speaksTLS,
		"get / HTTP/1.1\r\n":             speaksOther,
		" GET / HTTP/1.1\r\n":            speaksOther,
		"\r\nGET / HTTP/1.1\r\n":         speaksOther,
		"GET key\r\n":                    speaksOther,
		"EHLO example.com\r\n":           speaksOther,
		"\x00\x01":                       speaksOther,
		"SSH-2.0-OpenSSH_9\r\n":          speaksOther,
		strings.Repeat("A", 40) + " / H": speaksOther,
		"*1\r\n$4\r\nPING\r\n":           speaksOther,
		"":                               undecided,
		"PRI * HTTP/2.0\r":               undecided,
		"GE":                             undecided,
		"GET ":                           undecided,
	} {
		got := undecided
		for n := 0; n <= len(text) && got == undecided; n++ {
			got = sniff([]byte(text[:n]))
		}
		if whole := sniff([]byte(text)); got != want || whole != want {
			t.Errorf("%q is %d bit by bit, %d at once, want %d", text, got, whole, want)
		}
	}
}

// FuzzSniff: more bytes never change what was decided, and enough of them always decide.
func FuzzSniff(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02", "EHLO x", "P", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decided := undecided
		for n := range min(len(b), maxSniffed) + 1 {
			switch now := sniff(b[:n]); {
			case decided == undecided:
				decided = now
			case now != decided:
				t.Fatalf("%q is %d, and with %d bytes %d", b, decided, n, now)
			}
		}
		if len(b) >= maxSniffed && decided == undecided {
			t.Errorf("%q is undecided", b)
		}
	})
}

// hello gives the ClientHello that crypto/tls makes.
func hello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan []byte)
	go func() {
		b := make([]byte, 64<<10)
		n, _ := far.Read(b)
		_ = far.Close()
		done <- b[:n]
	}()
	_ = tls.Client(near, config).Handshake()
	return <-done
}

// split makes records of one byte each of a handshake message.
func split(record []byte) []byte {
	var b bytes.Buffer
	for _, c := range record[5:] {
		b.Write([]byte{0x16, 3, 1, 0, 1, c})
	}
	return b.Bytes()
}

// TestServerName: whole, byte by byte, and in records of one byte.
func TestServerName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"reviews.example.com": "reviews.example.com", "REVIEWS.example.com": "reviews.example.com", "": "", "10.0.0.1": ""} {
		whole := hello(t, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		for _, b := range [][]byte{whole, split(whole)} {
			for n := range b {
				if name, done := serverName(b[:n]); done && name != want {
					t.Fatalf("%q: %q after %d of %d bytes", host, name, n, len(b))
				}
			}
			if name, done := serverName(b); name != want || !done {
				t.Errorf("%q: %q, %v", host, name, done)
			}
		}
	}
	for _, b := range []string{"GET / HTTP/1.1\r\n", "\x16\x02\x00\x00\x01\x01", "\x16\x03\x01\x00\x00", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x04\x02\x00\x00\x00"} {
		if name, done := serverName([]byte(b)); name != "" || !done {
			t.Errorf("%q: %q, %v", b, name, done)
		}
	}
}

// TestOffers: what is offered by ALPN, whole, byte by byte, and in records of one byte.
func TestOffers(t *testing.T) {
	t.Parallel()
	for _, want := range [][]string{nil, {"h2"}, {"istio-peer-exchange", "istio"}} {
		whole := hello(t, &tls.Config{ServerName: "a", NextProtos: want, MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}})
		for _, b := range [][]byte{whole, split(whole)} {
			for n := range b {
				if got, done := offers(b[:n]); done && !slices.Equal(got, want) {
					t.Fatalf("%q after %d of %d bytes, want %q", got, n, len(b), want)
				}
			}
			if got, done := offers(b); !slices.Equal(got, want) || !done {
				t.Errorf("%q, %v, want %q", got, done, want)
			}
		}
	}
}

// FuzzServerName: it ends, takes no more than it may, and what it has said stays.
func FuzzServerName(f *testing.F) {
	whole := hello(f, &tls.Config{ServerName: "reviews.example.com", MinVersion: tls.VersionTLS12})
	f.Add(whole)
	f.Add(split(whole))
	f.Add(whole[:60])
	f.Add(hello(f, &tls.Config{ServerName: "a", MinVersion: tls.VersionTLS12, NextProtos: []string{"istio", "h2"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		protocols, enough := offers(b)
		if more, still := offers(append(bytes.Clone(b), 0x16)); enough && (!slices.Equal(more, protocols) || !still) {
			t.Errorf("offers %q, and with another byte %q, %v", protocols, more, still)
		}
		name, done := serverName(b)
		if !done && len(b) >= maxHello {
			t.Errorf("%d bytes are not enough", len(b))
		}
		if more, still := serverName(append(bytes.Clone(b), 0x16)); done && (more != name || !still) {
			t.Errorf("%q, and with another byte %q, %v", name, more, still)
		}
	})
}
