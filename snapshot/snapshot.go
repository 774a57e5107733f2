package snapshot

import (
	"context"
	"maps"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// Mesh is the scope of calls that workloads make. A listener with hosts of its own has its scope (Egress.Scope).
const Mesh = ""

// A Snapshot is one compiled configuration. Nothing in it changes after it is published.
type Snapshot struct {
	Version   string                    // names the configuration in status, logs and errors
	Tables    map[string]*routing.Table // by scope
	Clusters  []Cluster                 // routing.Destination.Index points here
	Outbound  Outbound                  // what becomes of calls to what Tables do not know
	Egress    []Egress                  // listeners that a sidecar has for calls
	Limits    []RateLimit               // of what is received, and those that routing.VirtualHost.Limits points to
	Inbound   Inbound                   // what is taken of callers
	Service   string                    // the host of the service that the workload is an endpoint of, "" for none or several
	Metrics   *telemetry.View           // what becomes of Istio's metrics on their way out, nil for what they are
	AccessLog *accesslog.Plan           // what is logged, nil for nothing
	Tracing   *telemetry.Tracing        // what becomes of spans, nil for what holds without documents
	// Authentication verifies the tokens of requests that come in; nil looks at none.
	Authentication *jwt.Set
	// Authorization decides about requests that come in to the workload, ConnAuthorization about connections that are not
	// HTTP; nil lets all in.
	Authorization, ConnAuthorization *authz.Set
	// Provider is whom the CUSTOM policies of Authorization ask; nil where nobody is, or where it is not known who that
	// is: then what they match is refused.
	Provider *external.Provider
}

// Outbound says what becomes of calls to hosts that the configuration does not know.
type Outbound uint8

const (
	OutboundUnset Outbound = iota // as the program has set it
	AllowAny                      // they pass through to the host itself
	RegistryOnly                  // they are rejected
)

// A Cluster is one (host, port, subset) with one traffic policy.
type Cluster struct {
	Name   string // opaque and unique in the snapshot
	Set    discovery.Key
	Subset string            // "" for none
	Select map[string]string // labels that an endpoint of the set needs to belong to the cluster
	Policy Policy
	// Direct says that the cluster has no endpoints of its own: the call goes to the host it names, as
	// the program would have sent it (ServiceEntry.resolution NONE).
	Direct bool
	// Breaker is the circuit breaker of the cluster's service, the same for all its clusters. Default: none.
	Breaker *Breaker
	// Origin says where its subset and policy were written, for people: kind, name, field, file:line:column. ""
	// where no rule has a say. It is no part of what the cluster is: see Same.
	Origin string
	// Preset says which parts of Policy are a preset's, for people; "" for none. It is no part of it either.
	Preset string
}

// Same reports whether two definitions of a cluster are alike, wherever they were written.
func (c *Cluster) Same(o *Cluster) bool {
	return c.Name == o.Name && c.Set == o.Set && c.Subset == o.Subset && c.Direct == o.Direct &&
		c.Policy.Same(&o.Policy) && c.Breaker.same(o.Breaker) && maps.Equal(c.Select, o.Select)
}

// Protocol is what a service port speaks.
type Protocol uint8

const (
	HTTP1  Protocol = iota // HTTP/1.1
	HTTP2                  // HTTP/2; over plaintext by prior knowledge (h2c). gRPC ports are this
	Opaque                 // TLS, TCP and whatever else rules of HTTP do not apply to
)

func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2"
	}
	return "opaque"
}

// A Source hands over compiled configuration. Run calls publish for each snapshot, one at a time, and
// returns when ctx ends or there is nothing more to come. publish returns when the snapshot is live, or
// says why it is not. The endpoints a snapshot draws on are in the source's discovery.Registry before it
// is published, and leave it only after a snapshot without them is.
type Source interface {
	Run(ctx context.Context, publish func(context.Context, *Snapshot) error) error
}

// Workload says for whom a snapshot is compiled: what is visible, which rules apply and which names are
// short all depend on it.
type Workload struct {
	Namespace      string // "default" where empty
	Name           string
	ServiceAccount string // "default" where empty
	Labels         map[string]string
	// Locality is where the workload runs, "region/zone/subzone" of which the later parts can be missing; "" where
	// that is not known. Locality settings compare endpoints with it.
	Locality string
}
