package snapshot

import (
	"slices"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
)

// Policy says how a cluster's endpoints are used (DestinationRule trafficPolicy). Its zero value is Istio's
// default. What it points to is not changed once it is in use.
type Policy struct {
	// Config is how an endpoint is chosen.
	balance.Config
	// Hash is what calls are kept together by, where Config hashes. Default: nothing, and the choice is random.
	Hash           HashPolicy
	Protocol       Protocol
	ConnectTimeout time.Duration // covers the TLS handshake; 0 means 10 s, Istio's default
	Connections    Connections
	Limits         resilience.Limits
	// TLS is what the mesh itself secures connections with, below http URLs. Default nil: plain text.
	TLS *TLS
	// Automatic is what it takes for TLS with endpoints that take mutual TLS of the mesh (discovery.Endpoint.MTLS), in a
	// program that has an identity, where TLS is nil (MeshConfig.enableAutoMtls). Default nil: nothing.
	Automatic *TLS
	// Outlier says which endpoints are ejected. Default nil: none.
	Outlier *resilience.Outlier
	// Budget bounds the retries under way. Default: nothing does.
	Budget resilience.Budget
	// ProxyProtocol is the version, 1 or 2, of the header that connections which are not HTTP begin with. Default 0: none.
	ProxyProtocol uint8
}

// Same reports whether both use endpoints alike.
func (p *Policy) Same(o *Policy) bool {
	return p.Config.Same(&o.Config) && p.Hash.same(&o.Hash) && p.Protocol == o.Protocol &&
		p.ConnectTimeout == o.ConnectTimeout && p.Connections == o.Connections && p.Limits == o.Limits && p.TLS.Same(o.TLS) &&
		p.Automatic.Same(o.Automatic) && p.Outlier.Same(o.Outlier) && p.Budget == o.Budget && p.ProxyProtocol == o.ProxyProtocol
}

// A HashKind is what calls are kept together by (DestinationRule loadBalancer.consistentHash).
type HashKind uint8

const (
	HashNothing HashKind = iota
	HashHeader           // httpHeaderName
	HashCookie           // httpCookie
	HashSource           // useSourceIp
	HashQuery            // httpQueryParameterName
)

// A HashPolicy says which part of a request is hashed. A request that does not have it is not kept with others.
type HashPolicy struct {
	Kind   HashKind
	Name   string     // of header, cookie or query parameter
	Header *call.Name // for HashHeader
	// Cookie makes the cookie for a request that has none. Default nil: none is made.
	Cookie *Cookie
}

// A Cookie is how a cookie is made (consistentHash.httpCookie with a ttl).
type Cookie struct {
	TTL        time.Duration // 0 for a cookie of the session
	Path       string        // "" for none
	Attributes []CookieAttribute
}

// A CookieAttribute goes into a Set-Cookie as it is: "SameSite=Strict", or "Secure" without a value.
type CookieAttribute struct{ Name, Value string }

func (p *HashPolicy) same(o *HashPolicy) bool {
	return p.Kind == o.Kind && p.Name == o.Name && p.Cookie.same(o.Cookie)
}

func (c *Cookie) same(o *Cookie) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.TTL == o.TTL && c.Path == o.Path && slices.Equal(c.Attributes, o.Attributes)
}

// String says what is hashed, for people; "" for nothing.
func (p *HashPolicy) String() string {
	switch p.Kind {
	case HashHeader:
		return "header " + p.Name
	case HashCookie:
		if p.Cookie != nil {
			return "cookie " + p.Name + " (made where it is missing)"
		}
		return "cookie " + p.Name
	case HashSource:
		return "source address"
	case HashQuery:
		return "query parameter " + p.Name
	}
	return ""
}

// Connections says how long connections to an endpoint live and what they speak (DestinationRule
// connectionPool). It is comparable; its zero value is the default of everything.
type Connections struct {
	Idle        time.Duration // without a request (http.idleTimeout, else tcp.idleTimeout)
	MaxAge      time.Duration // tcp.maxConnectionDuration
	MaxRequests int           // on one connection, 0 for any number (http.maxRequestsPerConnection)
	KeepAlive   KeepAlive
	Ping        Ping
	// ClientProtocol takes HTTP/2 for callers that speak it and HTTP/1.1 for others (http.useClientProtocol).
	ClientProtocol bool
}

// A KeepAlive is how the system probes idle TCP connections (tcp.tcpKeepalive); what is 0 is the system's own.
type KeepAlive struct {
	Set            bool
	Time, Interval time.Duration
	Probes         int
}

// A Ping is how HTTP/2 connections are probed (http.http2KeepAlive).
type Ping struct{ Interval, Timeout time.Duration }

// TLS is how connections are secured: by files (DestinationRule trafficPolicy.tls, modes SIMPLE and MUTUAL), or by the
// program's identity. It is comparable.
type TLS struct {
	// Mesh has the program show its SVID, and the endpoint be verified by SPIFFE's rules (ISTIO_MUTUAL). Of the rest
	// only ServerName, Names, Accounts, Aliases and TLS13 count then.
	Mesh bool
	// TLS13 speaks TLS 1.3 and nothing older (MeshConfig.meshMTLS.minProtocolVersion).
	TLS13 bool
	// Accounts are service accounts that the endpoint may be, one a line, as namespace/account, beside Names. The
	// endpoint's own is added where it is known. With neither any identity that is believed will do.
	Accounts string
	// Aliases are trust domains that the program's own authorities speak for as well, one a line.
	Aliases string

	CertificateFile, KeyFile string // the mesh's own; "" for none
	CAFile                   string // "" for the system's authorities
	RevocationFile           string // CRLs; "" for none
	// ServerName is sent as SNI. "" stands for the host of the request.
	ServerName string
	// Names are what the endpoint's certificate may be for, one a line: DNS names, addresses, URIs, mail addresses.
	// "" stands for the host of the request.
	Names      string
	SkipVerify bool // whoever it is
}

// Same reports whether both secure alike. nil is plain text.
func (t *TLS) Same(o *TLS) bool {
	if t == nil || o == nil {
		return t == o
	}
	return *t == *o
}
