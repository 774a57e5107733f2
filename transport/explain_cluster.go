package transport

import (
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// An EndpointView is one endpoint of a cluster as it stands.
type EndpointView struct {
	Address  string            `json:"address"`
	Labels   map[string]string `json:"labels,omitempty"`
	Weight   uint32            `json:"weight"`
	Locality string            `json:"locality,omitempty"`
	Workload string            `json:"workload,omitempty"`
	// Priority is 0 for those that are used first, nil where places do not count, and Unused says that calls from
	// here are never sent to the endpoint.
	Priority *int `json:"priority,omitempty"`
	Unused   bool `json:"unused,omitempty"`
	// Warming is the part of its weight that the endpoint has now, 0 for all of it.
	Warming float64 `json:"warming,omitempty"`
	// Ejected is there while outlier detection keeps the endpoint out.
	Ejected *EjectionView  `json:"ejected,omitempty"`
	Counts  balance.Counts `json:"counts"`
}

// view lists all endpoints of a cluster, in the order in which discovery has them.
func (c *cluster) view(now time.Duration) []EndpointView {
	all, policy := c.picker.Load().all, &c.def.Policy
	views := make([]EndpointView, len(all))
	at := make(map[balance.ID]*EndpointView, len(all))
	warm := policy.Factors(all, now)
	ejected := c.ejections(now)
	for i, e := range all {
		views[i] = EndpointView{Address: e.Def.Address.String(), Labels: e.Def.Labels, Weight: max(e.Def.Weight, 1),
			Locality: e.Def.Locality, Workload: e.Def.Workload, Ejected: ejected(e), Counts: e.Counts()}
		if warm[i] < 1 {
			views[i].Warming = warm[i]
		}
		at[e.ID()] = &views[i]
	}
	if policy.Locality == nil {
		return views
	}
	for priority, level := range balance.Priorities(policy.Client.Locality, policy.Client.Labels, policy.Locality, all) {
		for _, g := range level.Groups {
			for _, e := range g.Endpoints {
				at[e.ID()].Priority = &priority
			}
		}
	}
	for i := range views {
		views[i].Unused = views[i].Priority == nil
	}
	return views
}

// explain says how the cluster's policy chooses an endpoint for the request, and secures the connection to it.
func (c *cluster) explain(v *DestinationView, q *call.Request, identified bool) {
	p := &c.def.Policy
	if v.KeptBy = call.Printable(p.Hash.String()); v.KeptBy != "" {
		if hash, ok := hashOf(&p.Hash, q); ok {
			if e := c.picker.Load().Pick(balance.Draw{Hash: hash, Hashed: true}); e != nil {
				v.KeptAt = e.Def.Address.String()
			}
		}
	}
	if p.Locality != nil {
		if v.From = p.Client.Locality.String(); v.From == "" {
			v.From = "no locality: the caller names none (--locality)"
		}
	}
	switch {
	case p.TLS != nil:
		v.TLS = call.Printable(describeTLS(p.TLS))
	case p.Automatic != nil && identified:
		v.TLS = call.Printable("automatic: " + describeTLS(p.Automatic) + ", where the endpoint takes it, else plain text")
	}
	v.Outlier, v.Budget = p.Outlier.String(), p.Budget.String()
	if c.breaker != nil {
		v.Breaker = call.Printable(describeBreaker(c.def.Breaker)) + "; it is " + c.breaker.State() + " in this process"
	}
}

// describeTLS says for people how connections are secured.
func describeTLS(t *snapshot.TLS) string {
	if t.Mesh {
		return describeMesh(t)
	}
	parts := []string{"TLS by the mesh"}
	if t.CertificateFile != "" {
		parts = append(parts, "with certificate "+t.CertificateFile)
	}
	name := t.ServerName
	if name == "" {
		name = "the request's host"
	}
	parts = append(parts, "server name "+name)
	switch {
	case t.SkipVerify:
		return strings.Join(append(parts, "the endpoint is not verified"), ", ")
	case t.CAFile == "":
		parts = append(parts, "verified by the system's authorities")
	default:
		parts = append(parts, "verified by "+t.CAFile)
	}
	if t.Names != "" {
		parts = append(parts, "to be "+strings.ReplaceAll(t.Names, "\n", " or "))
	}
	return strings.Join(parts, ", ")
}

func protocolOf(p *snapshot.Policy) string {
	if p.Connections.ClientProtocol {
		return "the caller's HTTP version"
	}
	return p.Protocol.String()
}

// A ClusterView is one cluster of the live snapshot as it stands.
type ClusterView struct {
	Name      string         `json:"name"`
	Balancer  string         `json:"balancer"`
	Protocol  string         `json:"protocol"`
	Direct    bool           `json:"direct,omitempty"`
	Outlier   string         `json:"outlierDetection,omitempty"` // as in DestinationView, here and below
	Budget    string         `json:"retryBudget,omitempty"`
	Preset    string         `json:"preset,omitempty"`
	Origin    string         `json:"origin,omitempty"` // where its policy and subset were written
	Endpoints []EndpointView `json:"endpoints"`
}

// Clusters lists the clusters of the live snapshot.
func (e *Engine) Clusters() []ClusterView {
	st, now := e.state.Load(), e.now()
	e.sweepAll(st, now)
	views := make([]ClusterView, len(st.clusters))
	for i, c := range st.clusters {
		views[i] = ClusterView{Name: c.def.Name, Balancer: c.def.Policy.Algorithm.String(),
			Protocol: protocolOf(&c.def.Policy), Direct: c.def.Direct, Outlier: c.def.Policy.Outlier.String(), Budget: c.def.Policy.Budget.String(),
			Preset: st.snap.Clusters[i].Preset, Origin: st.snap.Clusters[i].Origin, Endpoints: c.view(now)}
	}
	return views
}

func describeMesh(t *snapshot.TLS) string {
	text := "mutual TLS of the mesh, server name " + t.ServerName
	if t.Names != "" {
		text += ", to be " + strings.ReplaceAll(t.Names, "\n", " or ") + " or the endpoint's service account"
	}
	return text
}
