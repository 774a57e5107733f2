package mesh_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// A rawTLS is a client that shook hands and then writes records of its own: what no TLS library sends. It speaks
// TLS_AES_128_GCM_SHA256.
type rawTLS struct {
	conn   net.Conn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// handshaken shakes hands with the server and takes the keys over.
func handshaken(t *testing.T, s *whoServer, config *tls.Config) *rawTLS {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var keys bytes.Buffer
	config = config.Clone()
	config.KeyLogWriter, config.MinVersion = &keys, tls.VersionTLS13
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("the handshake came to %s, which this test does not speak", tls.CipherSuiteName(suite))
	}
	r := &rawTLS{conn: conn}
	for line := range strings.Lines(keys.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			r.secret, err = hex.DecodeString(words[2])
		}
	}
	if err != nil || r.secret == nil {
		t.Fatalf("no traffic secret: %v", err)
	}
	r.rekey(t, r.secret)
	return r
}

// expand is HKDF-Expand-Label of RFC 8446 §7.1.
func expand(t *testing.T, secret []byte, label string, length int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(length)), byte(len(label)))
	out, err := hkdf.Expand(sha256.New, secret, string(append(append(info, label...), 0)), length)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rawTLS) rekey(t *testing.T, secret []byte) {
	t.Helper()
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	if r.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	r.secret, r.iv, r.seq = secret, expand(t, secret, "iv", 12), 0
}

// write sends a message of a type in one record (RFC 8446 §5.2).
func (r *rawTLS) write(kind byte, message []byte) error {
	inner := append(bytes.Clone(message), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+r.aead.Overhead()))
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(r.seq >> (8 * i))
	}
	r.seq++
	_, err := r.conn.Write(r.aead.Seal(head, nonce, inner, head))
	return err
}

// TestPostHandshakeFloods is row C-020: a caller who has shaken hands, and then sends messages of the handshake without
// end, is closed.
func TestPostHandshakeFloods(t *testing.T) { eachServer(t, testPostHandshakeFloods) }

func testPostHandshakeFloods(t *testing.T, opts ...mesh.InboundOption) {
	a := newAuthority(t)
	s := serveWho(t, a, "STRICT", opts...)
	const handshake, flood = 22, 100_000
	for name, send := range map[string]func(t *testing.T, r *rawTLS) error{
		"KeyUpdate":                func(t *testing.T, r *rawTLS) error { return keyUpdate(t, r, 0) },
		"KeyUpdate, answer wanted": func(t *testing.T, r *rawTLS) error { return keyUpdate(t, r, 1) },
		"Finished": func(_ *testing.T, r *rawTLS) error {
			return r.write(handshake, append([]byte{20, 0, 0, 32}, make([]byte, 32)...))
		},
		"ClientHello": func(_ *testing.T, r *rawTLS) error { // renegotiation, of which TLS 1.3 has none
			return r.write(handshake, append([]byte{1, 0, 0, 64, 3, 3}, make([]byte, 62)...))
		},
		"empty records": func(_ *testing.T, r *rawTLS) error { return r.write(23, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := handshaken(t, s, meshConfig(t, holding(t, a, "client"), false))
			ended := make(chan error, 1)
			go func() { // reads what the server has to say, so that it never waits for us
				_, err := io.Copy(io.Discard, r.conn)
				ended <- err
			}()
			sent := 0
			for ; sent < flood; sent++ {
				if err := send(t, r); err != nil {
					break
				}
			}
			_ = r.conn.SetReadDeadline(time.Now().Add(time.Minute))
			if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is open after %d of them", sent)
			}
		})
	}
	t.Run("others", func(t *testing.T) { // who sends what he should
		t.Parallel()
		r := handshaken(t, s, meshConfig(t, holding(t, a, "client"), false))
		for range 3 {
			if err := keyUpdate(t, r, 0); err != nil {
				t.Fatal(err)
			}
			if err := r.write(23, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			one := make([]byte, 5)
			if _, err := io.ReadFull(r.conn, one); err != nil || one[0] != 23 {
				t.Fatalf("no answer: %v %v", one, err)
			}
			if _, err := io.CopyN(io.Discard, r.conn, int64(binary.BigEndian.Uint16(one[3:]))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// keyUpdate sends one, and changes the key (RFC 8446 §4.6.3).
func keyUpdate(t *testing.T, r *rawTLS, request byte) error {
	if err := r.write(22, []byte{24, 0, 0, 1, request}); err != nil {
		return err
	}
	r.rekey(t, expand(t, r.secret, "traffic upd", sha256.Size))
	return nil
}
