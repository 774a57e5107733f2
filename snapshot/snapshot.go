package snapshot

import (
	"context"
	"maps"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
)

// Mesh is the scope of calls that workloads make. A gateway's scope will be its name.
const Mesh = ""

// A Snapshot is one compiled configuration. Nothing in it changes after it is published.
type Snapshot struct {
	Version  string                    // names the configuration in status, logs and errors
	Tables   map[string]*routing.Table // by scope
	Clusters []Cluster                 // routing.Destination.Index points here
}

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
}

// Policy says how a cluster's endpoints are used.
type Policy struct {
	Balancer       balance.Algorithm
	Protocol       Protocol
	ConnectTimeout time.Duration // 0 means 10 s, Istio's default
}

// Same reports whether two definitions of a cluster are alike.
func (c *Cluster) Same(o *Cluster) bool {
	return c.Name == o.Name && c.Set == o.Set && c.Subset == o.Subset && c.Direct == o.Direct &&
		c.Policy == o.Policy && maps.Equal(c.Select, o.Select)
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
}
