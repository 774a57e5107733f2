package conformance

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/memory"
)

// Upstream says how the endpoints of a case behave. The zero value is 200 from everybody.
type Upstream struct {
	Down   []string    // addresses that refuse every connection
	TLS    *Secured    // they speak TLS only, nil for plaintext
	Script []Behaviour // what the tries meet, one after the other and whichever endpoint they reach; then 200
	Shadow Behaviour   // what copies meet, at every address of mirrors
}

// A Behaviour is what one try meets.
type Behaviour struct {
	Refuse bool // the connection is refused, After some time
	Stream bool // the connection is made, but its HTTP/2 streams are refused
	Reset  bool // the connection ends after the request and before the answer
	Status int  // of the answer; 0 is 200
	GRPC   int  // the grpc-status of the answer, trailers-only
	Late   bool // the grpc-status comes after a body
	Header http.Header
	After  time.Duration // goes by before the answer, or all time there is
	Half   time.Duration // goes by between half of a body and the rest
}

func refused() Behaviour              { return Behaviour{Refuse: true} }
func refusedStream() Behaviour        { return Behaviour{Stream: true} }
func reset() Behaviour                { return Behaviour{Reset: true} }
func status(code int) Behaviour       { return Behaviour{Status: code} }
func trailersOnly(code int) Behaviour { return Behaviour{GRPC: code} }
func lateStatus(code int) Behaviour   { return Behaviour{GRPC: code, Late: true} }
func marked(code int, header string) Behaviour {
	return Behaviour{Status: code, Header: http.Header{header: {"true"}}}
}

// Secured is how upstreams speak TLS. In the documents of the case "$ca" stands for a file with the authority of their
// certificate, "$other" for one with another authority, "$own" and "$key" for files with a certificate of the caller's
// and its key, "$crl" for one that revokes theirs.
type Secured struct {
	Names  []string // of their certificate
	Caller bool     // who calls has to have a certificate
}

// A Network is all upstreams of a case, in memory: it answers on every address that is dialled and not down,
// and records what arrives. It is safe for concurrent use, but tells apart calls only one after the other.
type Network struct {
	joins *memory.Listener
	tls   *tls.Config       // nil for plaintext
	paths *strings.Replacer // of the files in documents

	mu     sync.Mutex
	down   []string
	script []Behaviour
	shadow Behaviour
	tried  []string
	seen   Result
	copies []Copy
}

// NewNetwork starts the upstreams; they end with the test.
func NewNetwork(t testing.TB, u Upstream) *Network {
	n := &Network{joins: memory.Listen(memory.Addr("network")), down: u.Down, script: u.Script, shadow: u.Shadow, paths: strings.NewReplacer()}
	if u.TLS != nil {
		n.secure(t, u.TLS)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: n, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // of handshakes that fail
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(n.joins)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return n
}

// secure makes certificates for the upstreams and their callers.
func (n *Network) secure(t testing.TB, s *Secured) {
	ca, other := NewAuthority(t), NewAuthority(t)
	theirs := ca.Issue(s.Names...)
	n.tls = &tls.Config{Certificates: []tls.Certificate{theirs}, ClientCAs: ca.Pool(), NextProtos: []string{"h2", "http/1.1"}}
	if n.tls.ClientAuth = tls.VerifyClientCertIfGiven; s.Caller {
		n.tls.ClientAuth = tls.RequireAndVerifyClientCert
		n.tls.MaxVersion = tls.VersionTLS12 // by TLS 1.3 the caller has sent its request before it hears that it may not
	}
	own, key := ca.Files("caller", ca.Issue("caller"))
	n.paths = strings.NewReplacer("$ca", ca.CAFile, "$other", other.CAFile, "$own", own, "$key", key,
		"$crl", ca.Revoke("crl.pem", time.Now().Add(time.Hour), theirs))
}

// files gives documents with the paths of the test's files.
func (n *Network) files(documents string) string { return n.paths.Replace(documents) }

// Dial opens a connection to the upstream of the address.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	at := address
	if network == "unix" {
		at = "unix://" + address
	}
	meets := n.dialled(at)
	if meets.Refuse {
		meets.waits(ctx, meets.After)
		return nil, &net.OpError{Op: "dial", Net: network, Addr: memory.Addr(at),
			Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	client, server := net.Pipe()
	if meets.Stream {
		go refuseStreams(server)
		return client, nil
	}
	var end net.Conn = conn{server, memory.Addr(at)}
	if n.tls != nil {
		end = tls.Server(end, n.tls)
	}
	if err := n.joins.Give(ctx, end); err != nil {
		return nil, err
	}
	return client, nil
}

// dialled says what a new connection to the address meets.
func (n *Network) dialled(at string) Behaviour {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b Behaviour
	if mirrors(at) {
		b.Refuse = slices.Contains(n.down, at)
		return b
	}
	switch {
	case len(n.script) > 0 && (n.script[0].Refuse || n.script[0].Stream):
		b = n.script[0]
		n.script = n.script[1:]
	case slices.Contains(n.down, at):
		b = refused()
	default:
		return b
	}
	n.tried = append(n.tried, at)
	return b
}

// LookupNetIP is the network's DNS: every name below example.com is at 10.0.9.1 and 10.0.9.2, every other at
// 10.0.9.9.
func (n *Network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if strings.HasSuffix(strings.TrimSuffix(host, "."), ".example.com") {
		return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 9, 1}), netip.AddrFrom4([4]byte{10, 0, 9, 2})}, nil
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 9, 9})}, nil
}

// ServeHTTP is every upstream: it records the request and answers as the script says.
func (n *Network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = append(body, " cut off: "+err.Error()...)
	}
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	seen := Result{Endpoint: at.String(), Proto: r.Proto, Host: r.Host, Path: r.RequestURI, Header: r.Header, Body: string(body)}
	if r.TLS != nil {
		seen.SNI = r.TLS.ServerName
		if len(r.TLS.PeerCertificates) > 0 {
			seen.Caller = r.TLS.PeerCertificates[0].Subject.CommonName
		}
	}
	b := n.arrived(seen, r.Method)
	if !b.waits(r.Context(), b.After) {
		panic(http.ErrAbortHandler)
	}
	if b.Reset {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			_ = c.Close() // over HTTP/2 the panic ends the stream only
		}
		panic(http.ErrAbortHandler)
	}
	for name, values := range b.Header {
		w.Header()[name] = values
	}
	if b.Status == 0 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		answerRPC(w, b)
	} else if b.Status != 0 {
		w.WriteHeader(b.Status)
	}
	if b.Half > 0 {
		_, _ = io.WriteString(w, half)
		_ = http.NewResponseController(w).Flush()
		if !b.waits(r.Context(), b.Half) {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, half)
	}
}

// half of a body.
const half = "half"

// waits lets time go by. It reports false where the caller has gone meanwhile.
func (b *Behaviour) waits(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// mirrors reports an address of mirrors.
func mirrors(at string) bool { return strings.HasPrefix(at, "10.8.0.") }

// connKey is where the context of a request has its connection.
type connKey struct{}

// answerRPC answers as gRPC does: with an empty message and then the status, or with the status alone.
func answerRPC(w http.ResponseWriter, b Behaviour) {
	status := strconv.Itoa(b.GRPC)
	w.Header().Set("Content-Type", "application/grpc")
	if b.GRPC != 0 && !b.Late {
		w.Header().Set("Grpc-Status", status)
		return
	}
	_, _ = w.Write(make([]byte, 5))
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
}

func (n *Network) arrived(r Result, method string) Behaviour {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mirrors(r.Endpoint) {
		n.copies = append(n.copies, Copy{At: r.Endpoint, Method: method, Host: r.Host, Path: r.Path, Header: r.Header, Body: r.Body})
		return n.shadow
	}
	n.seen = r
	n.tried = append(n.tried, r.Endpoint)
	if len(n.script) == 0 {
		return Behaviour{}
	}
	b := n.script[0]
	n.script = n.script[1:]
	return b
}

// Begin forgets what earlier calls did.
func (n *Network) Begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tried, n.seen, n.copies = nil, Result{}, nil
}

// Seen gives the upstreams' side of the call since Begin.
func (n *Network) Seen() Result {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.seen
	slices.Sort(n.tried)
	r.Tried = len(slices.Compact(n.tried))
	r.Copies = n.copies
	slices.SortFunc(r.Copies, func(a, b Copy) int { return strings.Compare(a.At, b.At) })
	return r
}

// conn is the upstream's end of a connection.
type conn struct {
	net.Conn
	at net.Addr
}

func (c conn) LocalAddr() net.Addr { return c.at }
