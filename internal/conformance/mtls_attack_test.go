package conformance

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
)

// eachDoor runs a test at every door of a program under the mode.
func eachDoor(t *testing.T, mode string, test func(t *testing.T, d *door, a *Authority, m *mesh.Mesh, addr string)) {
	for _, d := range doors {
		t.Run(d.name+"/"+mode, func(t *testing.T) {
			t.Parallel()
			a := NewAuthority(t)
			m := inboundMesh(t, peerAuthentication(mode), mesh.WithIdentity(held{a.Material(meshDomain, webID)}))
			test(t, &d, a, m, d.open(t, m))
		})
	}
}

// as is how a client begins who proves itself by a certificate.
func (d *door) as(c tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: d.offers, Certificates: []tls.Certificate{c}}
}

// tells sends bytes, in pieces of n where that is not 0, and gives what comes back.
func tells(t *testing.T, addr, text string, n int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = pieces{c, n}.Write([]byte(text))
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return string(got)
}

// pieces writes so many bytes at a time, all at once where n is 0.
type pieces struct {
	net.Conn
	n int
}

func (p pieces) Write(b []byte) (int, error) {
	step := p.n
	if step == 0 {
		step = max(len(b), 1)
	}
	for i := 0; i < len(b); i += step {
		if n, err := p.Conn.Write(b[i:min(i+step, len(b))]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

func readsFull(r io.Reader, p []byte) bool {
	_, err := io.ReadFull(r, p)
	return err == nil
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// TestStrictHearsNothing is rows C-014 and B-105: under STRICT what is no TLS is closed, and not a byte is answered.
func TestStrictHearsNothing(t *testing.T) {
	t.Parallel()
	eachDoor(t, "STRICT", func(t *testing.T, _ *door, _ *Authority, _ *mesh.Mesh, addr string) {
		for name, text := range map[string]string{
			"HTTP": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "TCP": "\x00\x01\x02", "a byte": "G", "no line": strings.Repeat("x", 16<<10),
			"PROXY": "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", "HTTP/2": preface, "mail": "EHLO a\r\n",
		} {
			for _, n := range []int{0, 1} {
				if got := tells(t, addr, text, n); got != "" && n == 0 || strings.Contains(got, "HTTP") {
					t.Errorf("%s is answered %q", name, got)
				}
				if len(text) > 1<<10 {
					break
				}
			}
		}
	})
}

// TestSniffing is row B-105 under PERMISSIVE: what comes in pieces is what it is whole, and what lies about itself is closed.
func TestSniffing(t *testing.T) {
	t.Parallel()
	eachDoor(t, "PERMISSIVE", func(t *testing.T, d *door, a *Authority, _ *mesh.Mesh, addr string) {
		mine := a.Issue(reviewsID)
		large := d.as(mine)
		for i := range 80 {
			large.NextProtos = append(large.NextProtos, strings.Repeat("x", 250)+fmt.Sprint(i))
		}
		for name, c := range map[string]struct {
			config *tls.Config
			n      int
		}{"hello in pieces": {d.as(mine), 1}, "hello of 20 KB": {large, 0}} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			s := tls.Client(pieces{conn, c.n}, c.config)
			if err := s.Handshake(); err != nil || s.ConnectionState().NegotiatedProtocol != d.offers[2] && s.ConnectionState().NegotiatedProtocol != "istio" {
				t.Errorf("%s: %v, %q", name, err, s.ConnectionState().NegotiatedProtocol)
			}
			_ = conn.Close()
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = pieces{conn, 1}.Write([]byte(preface))
		if frame := make([]byte, 9); !readsFull(conn, frame) || frame[3] != 4 {
			t.Errorf("HTTP/2 in pieces: %q is no SETTINGS frame", frame)
		}
		for name, text := range map[string]string{
			"a byte": "\x16", "a hello larger than any": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 20<<10),
			"HTTP in a hello": "\x16\x03\x01\x00\x10GET / HTTP/1.1\r\n\r\n", "16 KiB without a line": strings.Repeat("x", 16<<10),
		} {
			if got := tells(t, addr, text, 0); strings.Contains(got, " 200 ") {
				t.Errorf("%s is answered %q", name, got)
			}
		}
	})
}

// TestNegativeRules is row C-015: a rule that says who somebody is not lets nobody in of whom that is not known.
func TestNegativeRules(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{
		"ALLOW notNamespaces": policy("p", "{rules: [{from: [{source: {notNamespaces: [foo]}}]}]}"),
		"DENY namespaces":     policy("p", "{action: DENY, rules: [{from: [{source: {namespaces: [foo]}}]}]}"),
		"ALLOW notPrincipals": policy("p", "{rules: [{from: [{source: {notPrincipals: ['*/sa/x']}}]}]}"),
		"DENY principals":     policy("p", "{action: DENY, rules: [{from: [{source: {principals: ['*/sa/x']}}]}]}"),
	} {
		eachDoor(t, "PERMISSIVE", func(t *testing.T, d *door, a *Authority, m *mesh.Mesh, addr string) {
			if err := m.Apply(t.Context(), []byte(peerAuthentication("PERMISSIVE")+rule)); err != nil {
				t.Fatal(err)
			}
			if status, _ := d.knock(t, addr, d.as(a.Issue(reviewsID))); status != http.StatusOK {
				t.Errorf("%s: who is proved gets %d", name, status)
			}
			if status, _ := d.knock(t, addr, nil); status != http.StatusForbidden {
				t.Errorf("%s: in plain text gets %d", name, status)
			}
		})
	}
}

// TestNoResumption is row C-031: a session is never resumed, whatever has changed since, so that each connection is checked whole.
func TestNoResumption(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name   string
		life   time.Duration // of the client's certificate, 0 for hours
		change func(*testing.T, *provedState)
		want   int // of the next connection, with whatever is in the session cache
	}{
		{"nothing", 0, func(*testing.T, *provedState) {}, http.StatusOK},
		{"denied", 0, func(t *testing.T, s *provedState) {
			if err := s.m.Apply(t.Context(), []byte(peerAuthentication("STRICT")+policy("p", "{action: DENY, rules: [{from: [{source: {principals: ['*/sa/reviews']}}]}]}"))); err != nil {
				t.Fatal(err)
			}
		}, http.StatusForbidden},
		{"authority removed", 0, func(t *testing.T, s *provedState) {
			s.fed.give(NewAuthority(t).Material(meshDomain, webID))
			s.gone(t)
		}, 0},
		{"revoked", 0, func(t *testing.T, s *provedState) {
			text, err := os.ReadFile(s.a.Revoke("crl.pem", time.Now().Add(time.Hour), s.leaf))
			if err != nil {
				t.Fatal(err)
			}
			m := s.a.Material(meshDomain, webID)
			if m.Revoked, err = identity.ParseRevocations(text); err != nil {
				t.Fatal(err)
			}
			s.fed.give(m)
			s.gone(t)
		}, 0},
		{"expired", 2 * time.Second, func(t *testing.T, s *provedState) { s.gone(t) }, 0},
		{"TLS of the mesh switched off", 0, func(t *testing.T, s *provedState) {
			if err := s.m.Apply(t.Context(), []byte(peerAuthentication("DISABLE"))); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		for _, d := range doors {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(fmt.Sprint(d.name, "/", step.name, "/", tls.VersionName(version)), func(t *testing.T) {
					t.Parallel()
					s := &provedState{a: NewAuthority(t)}
					s.fed = newFed(s.a.Material(meshDomain, webID))
					s.m = inboundMesh(t, peerAuthentication("STRICT"), mesh.WithIdentity(s.fed))
					addr := d.open(t, s.m)
					kept := &sessions{LRU: tls.NewLRUClientSessionCache(4)}
					var config *tls.Config
					for life := step.life; ; life *= 4 { // on a slow machine it may be over before it is used
						s.leaf = s.a.IssueAs(nil, func(c *x509.Certificate) {
							if life > 0 {
								c.NotAfter = time.Now().Add(life)
							}
						}, reviewsID)
						config = d.as(s.leaf)
						config.ServerName, config.ClientSessionCache, config.MaxVersion = "web", kept, version
						status, caller := d.knock(t, addr, config)
						if status == http.StatusOK && caller == reviewsID {
							break
						}
						if life == 0 || life > time.Minute {
							t.Fatalf("%d as %q", status, caller)
						}
					}
					conn, err := tls.Dial("tcp", addr, config)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					s.idle = conn
					step.change(t, s)
					if status, _ := d.knock(t, addr, config); status != step.want || kept.put.Load() > 0 {
						t.Errorf("status %d, want %d; %d sessions were offered", status, step.want, kept.put.Load())
					}
				})
			}
		}
	}
}

// A proved state is a program and a client that has proved itself to it.
type provedState struct {
	m    *mesh.Mesh
	fed  *fed
	a    *Authority
	leaf tls.Certificate
	idle net.Conn // a connection of the client's
}

// gone waits until the client's connection is closed.
func (s *provedState) gone(t *testing.T) {
	t.Helper()
	_ = s.idle.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, s.idle); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the connection is still open")
	}
}

// sessions counts what it is given to keep.
type sessions struct {
	LRU tls.ClientSessionCache
	put atomic.Int64
}

func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) { return s.LRU.Get(key) }

func (s *sessions) Put(key string, c *tls.ClientSessionState) {
	if c != nil {
		s.put.Add(1)
	}
	s.LRU.Put(key, c)
}

// fed is a source that a test feeds.
type fed struct{ news chan feeding }

type feeding struct {
	m     *identity.Material
	taken chan struct{} // closed when it was
}

func newFed(first *identity.Material) *fed {
	f := &fed{make(chan feeding, 1)}
	f.news <- feeding{first, make(chan struct{})}
	return f
}

// give hands material over and waits until it was taken.
func (f *fed) give(m *identity.Material) {
	taken := make(chan struct{})
	f.news <- feeding{m, taken}
	<-taken
}

func (f *fed) String() string { return "the test" }

func (f *fed) Run(ctx context.Context, to *identity.Identity) error {
	for {
		select {
		case n := <-f.news:
			err := to.Take(n.m)
			close(n.taken)
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A flooder writes records of TLS 1.3 that crypto/tls would not.
type flooder struct {
	conn   net.Conn
	secret []byte
	seal   cipher.AEAD
	iv     []byte
	seq    uint64
}

const (
	handshakeRecord   = 22
	applicationRecord = 23
)

// newFlooder shakes hands and takes the connection over.
func newFlooder(t *testing.T, addr string, config *tls.Config) *flooder {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var keys bytes.Buffer
	config.KeyLogWriter, config.MinVersion = &keys, tls.VersionTLS13
	c := tls.Client(conn, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("a machine without AES")
	}
	f := &flooder{conn: conn}
	for line := range strings.Lines(keys.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			f.secret, _ = hex.DecodeString(words[2])
		}
	}
	f.keys(t)
	return f
}

// keys makes those of the secret (RFC 8446 §7.3).
func (f *flooder) keys(t *testing.T) {
	block, err := aes.NewCipher(f.expand(t, "key", 16))
	if err == nil {
		f.seal, err = cipher.NewGCM(block)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.iv, f.seq = f.expand(t, "iv", 12), 0
}

// expand is HKDF-Expand-Label (RFC 8446 §7.1).
func (f *flooder) expand(t *testing.T, label string, n int) []byte {
	label = "tls13 " + label
	info := string([]byte{0, byte(n), byte(len(label))}) + label + "\x00"
	out, err := hkdf.Expand(sha256.New, f.secret, info, n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *flooder) record(kind byte, content string) []byte {
	inner := append([]byte(content), kind)
	head := []byte{applicationRecord, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+f.seal.Overhead()))
	nonce := bytes.Clone(f.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(f.seq >> (56 - 8*i))
	}
	f.seq++
	return f.seal.Seal(head, nonce, inner, head)
}

// update is a KeyUpdate (RFC 8446 §4.6.3), after which everything is under other keys.
func (f *flooder) update(t *testing.T, wantsOne bool) []byte {
	body := "\x18\x00\x00\x01\x00"
	if wantsOne {
		body = "\x18\x00\x00\x01\x01"
	}
	r := f.record(handshakeRecord, body)
	f.secret = f.expand(t, "traffic upd", 32)
	f.keys(t)
	return r
}

// TestFloodAfterHandshake is row C-020: who goes on shaking hands is closed, and nobody else.
func TestFloodAfterHandshake(t *testing.T) {
	t.Parallel()
	eachDoor(t, "STRICT", func(t *testing.T, d *door, a *Authority, _ *mesh.Mesh, addr string) {
		mine := a.Issue(reviewsID)
		closed := func(name string, f *flooder) {
			t.Helper()
			if got, err := io.ReadAll(f.conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s: still open, %d bytes, %v", name, len(got), err)
			}
		}
		for _, wantsOne := range []bool{false, true} {
			f := newFlooder(t, addr, d.as(mine))
			go func() { _, _ = io.Copy(io.Discard, io.LimitReader(f.conn, 1<<20)) }() // who is never read from is another matter
			n := 0
			for ; n < 100_000; n++ {
				if _, err := f.conn.Write(f.update(t, wantsOne)); err != nil {
					break
				}
			}
			if n == 100_000 {
				t.Errorf("100,000 KeyUpdates were taken, answers wanted: %t", wantsOne)
			}
		}
		f := newFlooder(t, addr, d.as(mine))
		_, _ = f.conn.Write(f.record(handshakeRecord, "\x01\x00\x00\x02\x03\x03")) // ClientHello
		closed("another hello", f)
		f = newFlooder(t, addr, d.as(mine))
		_, _ = f.conn.Write(f.record(handshakeRecord, "\x14\x00\x00\x20"+strings.Repeat("\x00", 32))) // Finished
		closed("another end", f)
		f = newFlooder(t, addr, d.as(mine))
		_, _ = f.conn.Write(f.record(handshakeRecord, "\x04\x00\x00\x01\x00")) // NewSessionTicket, which is a server's
		closed("a ticket", f)
		f = newFlooder(t, addr, d.as(mine))
		for range 1000 { // records that say nothing
			if _, err := f.conn.Write(f.record(applicationRecord, "")); err != nil {
				break
			}
		}
		closed("empty records", f)
		if status, _ := d.knock(t, addr, d.as(mine)); status != http.StatusOK {
			t.Errorf("status %d for another", status)
		}
		if d.name == "gRPC" {
			return
		}
		f = newFlooder(t, addr, d.as(mine))
		_, _ = f.conn.Write(f.update(t, false))
		_, _ = f.conn.Write(f.record(applicationRecord, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
		if got, _ := io.ReadAll(f.conn); len(got) < 100 || got[0] != applicationRecord {
			t.Errorf("after a KeyUpdate a request is answered with %d bytes", len(got))
		}
	})
}

// TestProfilesOfTheProgram is row C-032: where a program's own TLS asks different things for different names, a request for a name
// is served on a connection to that name only.
func TestProfilesOfTheProgram(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	open, closed := &tls.Config{Certificates: []tls.Certificate{a.Issue("open.example")}, NextProtos: []string{"h2", "http/1.1"}},
		&tls.Config{Certificates: []tls.Certificate{a.Issue("closed.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool(), NextProtos: []string{"h2", "http/1.1"}}
	several := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == "closed.example" {
			return closed, nil
		}
		return open, nil
	}}
	for name, opts := range map[string][]mesh.InboundOption{"Serve": nil, "server codec": {mesh.WithServerCodec()}} {
		for _, profile := range []struct {
			name  string
			tls   *tls.Config
			other int // for a name that is not the connection's
		}{{"several", several, http.StatusMisdirectedRequest}, {"one", open, http.StatusOK}} {
			m := inboundMesh(t, "", mesh.WithIdentity(held{a.Material(meshDomain, webID)}))
			addr := serveByMesh(t, m, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), append(opts, mesh.WithAppTLS(profile.tls))...)
			for _, proto := range []string{"h2", "http/1.1"} {
				for host, want := range map[string]int{"open.example": http.StatusOK, "OPEN.example:443": http.StatusOK, "closed.example": profile.other} {
					tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "open.example"}}
					tr.Protocols.SetHTTP1(proto != "h2")
					tr.Protocols.SetHTTP2(proto == "h2")
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Host = host
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					tr.CloseIdleConnections()
					if resp.StatusCode != want {
						t.Errorf("%s, %s, %s, %s: %d, want %d", name, profile.name, proto, host, resp.StatusCode, want)
					}
				}
			}
		}
	}
}

// TestCallerIsOneElement is row B-037: whatever a certificate has for names, x-forwarded-client-cert is one element, and reads back as
// what the certificate says.
func TestCallerIsOneElement(t *testing.T) {
	t.Parallel()
	const evil = `a;b,c="d\e";URI=spiffe://evil/x,By=f`
	a := NewAuthority(t)
	for _, d := range doors[:3] { // gRPC's is made by the same function, and tested with the driver
		var mu sync.Mutex
		var told []string
		m := inboundMesh(t, peerAuthentication("STRICT"), mesh.WithIdentity(held{a.Material(meshDomain, webID)}))
		app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, r.Header["X-Forwarded-Client-Cert"]...)
		})
		addr := ""
		switch d.name {
		case "Serve":
			addr = serveByMesh(t, m, app)
		case "server codec":
			addr = serveByMesh(t, m, app, mesh.WithServerCodec())
		default:
			addr = serveByProxy(t, m, app)
		}
		c := a.IssueAs(nil, func(c *x509.Certificate) {
			spelled(2, evil)(c)
			c.Subject.CommonName, c.Subject.Organization = evil+"\r\nX: y\x00ü", []string{`trailing\`}
		}, reviewsID)
		if status, _ := d.knock(t, addr, d.as(c)); status != http.StatusOK {
			t.Fatalf("%s: %d", d.name, status)
		}
		mu.Lock()
		if len(told) != 1 {
			t.Fatalf("%s: %q", d.name, told)
		}
		elements := readForwarded(told[0])
		if len(elements) != 1 || elements[0]["URI"] != reviewsID || elements[0]["By"] != webID || elements[0]["DNS"] != evil {
			t.Errorf("%s: %q reads as %q", d.name, told[0], elements)
		}
		sum := sha256.Sum256(c.Certificate[0])
		if elements[0]["Hash"] != hex.EncodeToString(sum[:]) || !strings.Contains(elements[0]["Subject"], `\0D\0AX`) || strings.ContainsAny(told[0], "\r\n\x00") {
			t.Errorf("%s: %q", d.name, told[0])
		}
		mu.Unlock()
	}
}

// readForwarded reads x-forwarded-client-cert: elements by comma, pairs by semicolon, values in quotes with a backslash before what is
// to be taken as it is.
func readForwarded(s string) (elements []map[string]string) {
	element, key, value, quoted, named := map[string]string{}, "", "", false, false
	flush := func() {
		if key != "" {
			element[key] = value
		}
		key, value, named = "", "", false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
			value += s[i : i+1]
		case c == '"':
			quoted = !quoted
		case quoted:
			value += string(c)
		case c == '=' && !named:
			named = true
		case c == ';':
			flush()
		case c == ',':
			flush()
			elements = append(elements, element)
			element = map[string]string{}
		case named:
			value += string(c)
		default:
			key += string(c)
		}
	}
	flush()
	return append(elements, element)
}
