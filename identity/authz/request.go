package authz

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// A Peer is who a verified certificate says the caller is. The zero Peer is nobody: a caller in plain text, or one
// whose certificate names no workload.
type Peer struct {
	Principal      string // "cluster.local/ns/default/sa/reviews"
	TrustDomain    string // "cluster.local"
	Namespace      string // "default"
	ServiceAccount string // "default/reviews"
}

// A Token is what a verified token says. Nothing in it changes.
type Token interface {
	Principal() string // issuer/subject
	Audiences() []string
	Presenter() string // the authorized party, azp
	// Claim gives the values of a claim, by its keys from the outermost: several of a list. ok is false where there
	// is none, or where it is neither text nor a list of texts.
	Claim(keys []string) (values []string, ok bool)
}

// A Request is one request as policies see it. Fill it in and call Prepare; it is then only read. It may be used
// again.
type Request struct {
	*call.Request // Method, Path, Headers and Source, which is the address at the other end of the connection
	// Authority is the Host header or :authority as it came, "" for none.
	Authority string
	Peer      Peer
	Token     Token          // nil for none
	Local     netip.AddrPort // where the request came in; invalid or with port 0 where that is not known
	// Remote is who has made the connection, where its other end says by the PROXY protocol that it passes on another's: then
	// remote.ip is his address. Invalid for nobody.
	Remote netip.Addr
	SNI    string // "" for a connection without TLS
	// Hops says whom x-forwarded-for is believed of: the client's address is the last but Hops-1 in it, for Hops proxies have
	// each written down who asked them. Where the field is not there it is Source. 0 believes nobody.
	Hops int

	paths  [readings]string
	spelt  int // how many of paths there are
	hosts  [2]string
	hosted int
}

// Prepare finds the readings of path and host. It reports false where the host has no canonical form: such a request
// is refused (400) and not decided on. It allocates only where a reading differs from what came.
func (q *Request) Prepare() bool {
	q.spelt = readPath(&q.paths, q.Path)
	q.hosted = 0
	if q.Authority == "" {
		return true
	}
	var ok bool
	q.hosted, ok = readHost(&q.hosts, q.Authority)
	return ok
}

var forwardedFor = call.NewName("x-forwarded-for")

// ParsePrincipal makes a peer of a SPIFFE ID of Istio's form, "spiffe://cluster.local/ns/default/sa/web", with or without
// the scheme.
func ParsePrincipal(s string) (Peer, error) {
	principal := strings.TrimPrefix(s, "spiffe://")
	parts := strings.Split(principal, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" || slices.Contains(parts, "") {
		return Peer{}, fmt.Errorf("%q is no identity of a workload: write spiffe://<trust domain>/ns/<namespace>/sa/<service account>", s)
	}
	return Peer{Principal: principal, TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[2] + "/" + parts[4]}, nil
}
