package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func header(from, to string) (h Header) {
	h.From, _ = netip.ParseAddrPort(from)
	h.To, _ = netip.ParseAddrPort(to)
	return h
}

// v2 makes a header of version 2.
func v2(command, family byte, body string) string {
	return magic + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

const four = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x13\x88\x00\x50"

// summed is a header with a sum of itself, which is off by the number.
func summed(off uint32) string {
	text := []byte(v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(text[len(text)-4:], crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))+off)
	return string(text)
}

// TestParse: what is a header, to the byte, and what is none.
func TestParse(t *testing.T) {
	t.Parallel()
	known := header("192.0.2.1:5000", "192.0.2.2:80")
	for text, want := range map[string]Header{
		"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n":               known,
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n":           header("[2001:db8::1]:1", "[2001:db8::2]:65535"),
		"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 5000 80\r\n": known,
		"PROXY UNKNOWN\r\n":                         {},
		"PROXY UNKNOWN ffff:f 1 2 3\r\n":            {},
		v2(0x21, 0x11, four):                        known,
		v2(0x21, 0x11, four+"\x04\x00\x02ab"):       known,
		v2(0x21, 0x11, four+"\xe0\x00\x00"):         known,
		summed(0):                                   known,
		v2(0x20, 0x11, four):                        {},
		v2(0x20, 0x00, ""):                          {},
		v2(0x21, 0x00, "whatever"):                  {},
		v2(0x21, 0x31, strings.Repeat("\x00", 216)): {},
		v2(0x21, 0x21, strings.Repeat("\x00", 15)+"\x01"+strings.Repeat("\x00", 15)+"\x02"+"\x00\x01\x00\x02"): header("[::1]:1", "[::2]:2"),
	} {
		for n := range text {
			if h, size, err := Parse([]byte(text[:n])); size != 0 || err != nil || h != (Header{}) {
				t.Fatalf("%q of %q: %v, %d, %v", text[:n], text, h, size, err)
			}
		}
		if h, size, err := Parse([]byte(text + "GET / HTTP/1.1")); h != want || size != len(text) || err != nil {
			t.Errorf("%q: %v, %d, %v, want %v", text, h, size, err, want)
		}
	}
	for _, text := range []string{
		"GET / HTTP/1.1\r\n", "\x16\x03\x01", "proxy TCP4 ", " PROXY TCP4", "PROXY  TCP4 192.0.2.1 192.0.2.2 5000 80\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\n", "PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 \r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 05000 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n",
		"PROXY TCP4 192.0.2.01 192.0.2.2 5000 80\r\n", "PROXY TCP4 2001:db8::1 2001:db8::2 5000 80\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 5000 80\r\n",
		"PROXY TCP6 fe80::1%eth0 fe80::2 5000 80\r\n", "PROXY TCP4 localhost 192.0.2.2 5000 80\r\n", "PROXY UDP4 192.0.2.1 192.0.2.2 5000 80\r\n",
		"PROXY \r\n", "PROXY\r\n", "PROXY UNKNOWNS\r\n", "PROXY " + strings.Repeat("x", 200) + "\r\n", "PROXY UNKNOWN" + strings.Repeat(" ", 107) + "\r\n",
		v2(0x11, 0x11, four), v2(0x22, 0x11, four), v2(0x21, 0x12, four), v2(0x21, 0x99, four), v2(0x21, 0x11, four[:11]), v2(0x21, 0x21, four),
		v2(0x21, 0x11, four+"\x04"), v2(0x21, 0x11, four+"\x04\x00\x05ab"), v2(0x21, 0x11, four+"\x03\x00\x01a"), summed(1),
		magic + "\x21\x11\xff\xff", "\r\n\r\n\x00\r\nQUIT\r",
	} {
		if h, n, err := Parse([]byte(text)); !errors.Is(err, ErrHeader) || n != 0 || h != (Header{}) {
			t.Errorf("%q: %v, %d, %v", text, h, n, err)
		}
	}
}

// TestAppend: what is written is read.
func TestAppend(t *testing.T) {
	t.Parallel()
	for _, h := range []Header{header("192.0.2.1:5000", "192.0.2.2:80"), header("[2001:db8::1]:5000", "[::1]:80"), {}} {
		for version := 1; version <= 2; version++ {
			b := Append([]byte("x"), version, h)
			if got, n, err := Parse(b[1:]); got != h || n != len(b)-1 || err != nil {
				t.Errorf("version %d of %v: %v, %v", version, h, got, err)
			}
		}
	}
	if got := Append(nil, 1, header("192.0.2.1:5000", "[2001:db8::1]:80")); string(got) != "PROXY UNKNOWN\r\n" {
		t.Errorf("two families: %q", got)
	}
}

// FuzzParse: it ends, what it has said stays with more bytes, and it is within its bound. What it reads it can write.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nx", "PROXY UNKNOWN\r\n", v2(0x21, 0x11, four), v2(0x20, 0, ""), summed(0), magic} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if n > len(b) || n > MaxHeader || err != nil && n > 0 {
			t.Fatalf("%d bytes of %d, %v", n, len(b), err)
		}
		if n == 0 && err == nil && len(b) >= MaxHeader {
			t.Errorf("%d bytes are not enough", len(b))
		}
		if more, size, again := Parse(append(bytes.Clone(b), 'x')); (n > 0 || err != nil) && (more != h || size != n || !errors.Is(again, err)) {
			t.Errorf("%v, and with another byte %v, %d, %v", h, more, size, again)
		}
		for version := 1; version <= 2 && h.From.IsValid(); version++ {
			if got, _, err := Parse(Append(nil, version, h)); got != h && h.From.Addr().Is4() == h.To.Addr().Is4() || err != nil {
				t.Errorf("version %d of %v: %v, %v", version, h, got, err)
			}
		}
	})
}

// TestListener: the header is taken away by the first read, in whatever pieces it comes, and says who is there.
func TestListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{inner}
	defer l.Close()
	for _, c := range []struct{ sent, from, text string }{
		{"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nhello", "192.0.2.1:5000", "hello"},
		{v2(0x21, 0x11, four) + "hello", "192.0.2.1:5000", "hello"},
		{"PROXY UNKNOWN\r\nhello", "", "hello"},
		{"hello", "", ""},
		{"PROXY TCP4 192.0.2.1", "", ""},
	} {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for i := range len(c.sent) {
				_, _ = client.Write([]byte{c.sent[i]})
			}
			_ = client.(*net.TCPConn).CloseWrite()
		}()
		var text bytes.Buffer
		_, err = io.Copy(&text, conn)
		if text.String() != c.text || (err != nil) != (c.text == "" && !strings.HasPrefix(c.sent, "PROXY")) {
			t.Errorf("%q: %q, %v", c.sent, text.String(), err)
		}
		want, direct := c.from, client.LocalAddr().String()
		if want == "" {
			want, direct = direct, "invalid AddrPort"
		}
		if got := conn.RemoteAddr().String(); got != want {
			t.Errorf("%q: from %s, want %s", c.sent, got, want)
		}
		if got := conn.(*Conn).Direct().String(); got != direct {
			t.Errorf("%q: directly %s, want %s", c.sent, got, direct)
		}
		_, _ = client.Close(), conn.Close()
	}
}
