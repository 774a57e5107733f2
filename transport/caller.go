package transport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A Caller is who was proved to be at the other end of a connection that came in, as policies and programs are told of
// him. It is immutable.
type Caller struct {
	identity.Peer
	Forwarded string // x-forwarded-client-cert
	Policy    authz.Peer
}

// Caller says who is at the other end of a connection that Listener or Admit gave, or of what it is a wrapping of; nil where
// nobody was proved to be.
func (e *Engine) Caller(conn net.Conn) *Caller {
	p, ok := e.live.peer(conn)
	if !ok {
		return nil
	}
	return &Caller{p, forwardedCert(e.live.identity.ID(), &p), policyPeer(p)}
}

// Principal is his identity as policies name it, "" for nobody.
func (c *Caller) Principal() string {
	if c == nil {
		return ""
	}
	return c.Policy.Principal
}

type callerKey struct{}

// WithCaller gives a context to which CallerFrom and PeerFromContext answer with the caller; nil changes nothing.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom gives the proved caller of the request that the context is of, nil for nobody.
func CallerFrom(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

type connKey struct{}

// connOf gives the connection that the context's request came on, nil where it is not known.
func connOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// ConnContext gives a connection's context what Handler has to know of it, as http.Server.ConnContext: who its verified peer
// is, and which connection is to be closed when policies do not let its requests in any more. Serve sets it; a server of the
// program's own, behind Listener and Handler, needs it.
func (in *Inbound) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return WithCaller(context.WithValue(ctx, connKey{}, conn), in.engine.Caller(conn))
}

// PeerFromContext says who made the request that the context is of; ok is false where nobody was proved to be.
func PeerFromContext(ctx context.Context) (p identity.Peer, ok bool) {
	if c := CallerFrom(ctx); c != nil {
		return c.Peer, true
	}
	return identity.Peer{}, false
}

// PolicyPeer is who policies take the caller of a context's request for.
func PolicyPeer(ctx context.Context) authz.Peer {
	if c := CallerFrom(ctx); c != nil {
		return c.Policy
	}
	return authz.Peer{}
}

// policyPeer is a verified peer as policies name it.
func policyPeer(p identity.Peer) authz.Peer {
	q := authz.Peer{Principal: strings.TrimPrefix(p.ID.String(), "spiffe://"), TrustDomain: p.ID.TrustDomain()}
	if namespace, account, ok := p.ID.ServiceAccount(); ok {
		q.Namespace, q.ServiceAccount = namespace, namespace+"/"+account
	}
	return q
}

// ForwardedCert is the header by which programs are told who calls.
var ForwardedCert = call.NewName("x-forwarded-client-cert")

// forwardedCert writes its one element in Istio's form, as Envoy does under SANITIZE_SET: By, Hash, Subject, URI and DNS
// (http_conn_man/headers, x-forwarded-client-cert). What a peer says there itself is his own word, and is not passed on
// as it is under APPEND_FORWARD. An ID has no character that would need quotes.
func forwardedCert(own identity.ID, p *identity.Peer) string {
	hash := sha256.Sum256(p.Certificate.Raw)
	s := "By=" + own.String() + ";Hash=" + hex.EncodeToString(hash[:]) + ";Subject=\"" + quoteForwarded(p.Certificate.Subject.String()) +
		"\";URI=" + p.ID.String()
	for _, name := range p.Certificate.DNSNames {
		if strings.ContainsFunc(name, needsQuotes) {
			name = "\"" + quoteForwarded(name) + "\""
		}
		s += ";DNS=" + name
	}
	return s
}

// needsQuotes reports what ends a value that has none, or that no field can hold as it is.
func needsQuotes(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(",;=\"\\", c) }

// quoteForwarded escapes a value for quotes. What a header cannot have is written as RFC 4514 §2.4 writes it in a
// Subject: a backslash and two hexadecimal digits.
func quoteForwarded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteString(`\\`)
			b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// attested gives the header with the caller's own word about who he is replaced by ours: the request's own where nothing
// changes, else a copy.
func (h *handler) attested(r *http.Request, c *Caller) http.Header {
	if !h.in.Identified() {
		return r.Header
	}
	forged := false
	for name := range r.Header {
		forged = forged || forges(name)
	}
	if !forged && c == nil {
		return r.Header
	}
	header := make(http.Header, len(r.Header)+2)
	for name, v := range r.Header {
		if !forges(name) && !PeerField(name) {
			header[name] = v
		}
	}
	if c != nil {
		header[ForwardedCert.Canonical()] = []string{c.Forwarded}
	}
	return header
}

// forges reports a name under which a caller could give himself out for another: some servers take '_' for '-'.
func forges(name string) bool {
	return len(name) == len("x-forwarded-client-cert") && http1.Alike(name, "x-forwarded-client-cert")
}
