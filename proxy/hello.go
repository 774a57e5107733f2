package proxy

import (
	"encoding/binary"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// maxHello is how much of a ClientHello is looked at. Browsers' have 2 KiB with post-quantum keys.
const maxHello = 16 << 10

// serverName reads the host that a ClientHello names (RFC 8446 §4.1.2, RFC 6066 §3), in canonical form. done is false while b may
// be the beginning of one and has too little of it. A name is "" where there is none, or it is none of a host.
func serverName(b []byte) (name string, done bool) {
	done = extensions(b, func(kind int, extension []byte) bool {
		if kind == 0 {
			name = firstName(extension)
		}
		return kind == 0
	})
	return name, done
}

// offers reads the protocols that a ClientHello offers by ALPN (RFC 7301 §3.1), as serverName reads the host.
func offers(b []byte) (protocols []string, done bool) {
	done = extensions(b, func(kind int, extension []byte) bool {
		if kind != 16 {
			return false
		}
		r := reader{b: extension, ok: true}
		for r.number(2); r.ok && len(r.b) > 0; {
			if name := r.take(r.number(1)); r.ok {
				protocols = append(protocols, string(name))
			}
		}
		return true
	})
	return protocols, done
}

// extensions visits those of a ClientHello until that says that it has what it wants. It reports whether more bytes could bring
// no more.
func extensions(b []byte, visit func(kind int, extension []byte) bool) (done bool) {
	message, whole, ok := handshake(b)
	if !ok {
		return true
	}
	r := reader{b: message, ok: true}
	if kind := r.number(1); kind != 1 && r.ok { // client_hello
		return true
	}
	r.number(3) // the length, of which what follows says the same
	r.skip(2 + 32)
	r.skip(r.number(1)) // the session
	r.skip(r.number(2)) // cipher suites
	r.skip(r.number(1)) // compression
	r.number(2)         // the length of what follows, of which there may be less yet
	for r.ok && len(r.b) > 0 {
		kind, size := r.number(2), r.number(2)
		extension := r.take(size)
		if r.ok && visit(kind, extension) {
			return true
		}
	}
	return whole || len(b) >= maxHello
}

// handshake joins the records of the first handshake message, as far as they are there. whole says that all of it is.
func handshake(b []byte) (message []byte, whole, ok bool) {
	for len(b) > 0 {
		if b[0] != 0x16 || len(b) >= 3 && (b[1] != 3 || b[2] > 4) {
			return nil, false, false
		}
		if len(b) < 5 {
			break
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > 1<<14+256 {
			return nil, false, false
		}
		b = b[5:]
		message = append(message, b[:min(size, len(b))]...)
		b = b[min(size, len(b)):]
		if len(message) >= 4 {
			if n := 4 + (int(message[1])<<16 | int(message[2])<<8 | int(message[3])); len(message) >= n {
				return message[:n], true, true
			}
		}
	}
	return message, false, true
}

// firstName reads a ServerNameList.
func firstName(b []byte) string {
	r := reader{b: b, ok: true}
	r.number(2)
	if kind := r.number(1); kind != 0 { // host_name
		return ""
	}
	name := r.take(r.number(2))
	if !r.ok || strings.ContainsAny(string(name), ":[]@/") {
		return ""
	}
	host, _, err := call.SplitAuthority(string(name))
	if err != nil {
		return ""
	}
	return host
}

// A reader takes bytes from the front, as long as there are any.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) skip(n int) { r.take(n) }

func (r *reader) number(size int) int {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}
