package conformance

import (
	"context"
	"regexp"
	"slices"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

// A Mutation is a deliberate fault after which the rows of its groups must no longer all hold: an edit of
// the compiled snapshot, or of the documents where the compiler leaves no trace of what it left out.
type Mutation struct {
	Name   string
	Groups []string
	// Except names drivers, or one group of a driver's rows as "driver/group", in which nothing can notice the
	// fault, and why.
	Except map[string]string
	edit   func(*draft)
	unread *regexp.Regexp // what is cut out of the documents
	// anyHost says that the outbound traffic policy is not read.
	anyHost bool
}

// except says why the driver's rows of the group cannot notice the fault, "" where they have to.
func (m *Mutation) except(driver, group string) string {
	if why := m.Except[driver]; why != "" {
		return why
	}
	return m.Except[driver+"/"+group]
}

// config gives the documents as the mutation wants them read.
func (m *Mutation) config(documents string) string {
	if m == nil || m.unread == nil {
		return documents
	}
	return m.unread.ReplaceAllString(documents, "")
}

// outbound gives the policy as the mutation wants it read.
func (m *Mutation) outbound(p mesh.OutboundTrafficPolicy) mesh.OutboundTrafficPolicy {
	if m != nil && m.anyHost {
		return mesh.AllowAny
	}
	return p
}

// A draft is a snapshot that may be changed: nothing in it that a mutation edits is shared with the live one.
type draft struct {
	hosts    []*routing.VirtualHost
	clusters []snapshot.Cluster
	limits   []snapshot.RateLimit
	outbound snapshot.Outbound
}

// publish puts the mutated copy of the engine's snapshot in the place of it.
func (m *Mutation) publish(e *transport.Engine) error {
	if m == nil || m.edit == nil {
		return nil
	}
	live := e.Snapshot()
	d := draft{clusters: slices.Clone(live.Clusters), limits: slices.Clone(live.Limits), outbound: live.Outbound}
	for _, v := range live.Tables[snapshot.Mesh].VirtualHosts() {
		c := *v
		c.Also, c.Default, c.Limits, c.Routes, c.Conns = slices.Clone(v.Also), copyOf(v.Default), slices.Clone(v.Limits), nil, nil
		for _, r := range v.Routes {
			c.Routes = append(c.Routes, copyOf(r))
		}
		for _, r := range v.Conns {
			c.Conns = append(c.Conns, &routing.ConnRule{Route: copyOf(r.Route), Matches: r.Matches})
		}
		d.hosts = append(d.hosts, &c)
	}
	m.edit(&d)
	return e.Publish(context.Background(), &snapshot.Snapshot{
		Version:  live.Version + ", " + m.Name,
		Tables:   map[string]*routing.Table{snapshot.Mesh: routing.NewTable(d.hosts)},
		Clusters: d.clusters,
		Limits:   d.limits,
		Outbound: d.outbound,
	})
}

func copyOf(r *routing.Route) *routing.Route {
	if r == nil {
		return nil
	}
	c := *r
	c.Split = slices.Clone(r.Split)
	c.Matches = slices.Clone(r.Matches)
	for i := range c.Matches {
		c.Matches[i].Headers = slices.Clone(c.Matches[i].Headers)
		c.Matches[i].Query = slices.Clone(c.Matches[i].Query)
	}
	if r.Retry != nil {
		p := *r.Retry
		c.Retry = &p
	}
	return &c
}

func (d *draft) eachHost(edit func(*routing.VirtualHost)) {
	for _, v := range d.hosts {
		edit(v)
	}
}

func (d *draft) eachRoute(edit func(*routing.Route)) {
	for _, v := range d.hosts {
		for _, r := range v.Routes {
			edit(r)
		}
		for _, r := range v.Conns {
			edit(r.Route)
		}
		if v.Default != nil {
			edit(v.Default)
		}
	}
}

func (d *draft) eachMatch(edit func(*routing.Match)) {
	d.eachRoute(func(r *routing.Route) {
		for i := range r.Matches {
			edit(&r.Matches[i])
		}
	})
}

func (d *draft) eachDestination(edit func(*routing.Destination)) {
	d.eachRoute(func(r *routing.Route) {
		for i := range r.Split {
			edit(&r.Split[i])
		}
	})
}

func (d *draft) eachCluster(edit func(*snapshot.Cluster)) {
	for i := range d.clusters {
		edit(&d.clusters[i])
	}
}

func (d *draft) eachRetry(edit func(*resilience.Retry)) {
	d.eachRoute(func(r *routing.Route) {
		if r.Retry != nil {
			edit(r.Retry)
		}
	})
}

// Mutations gives every fault that the table must notice.
func Mutations() []Mutation {
	return slices.Concat(documentMutations(), lookupMutations(), matchMutations(), targetMutations(), retryMutations(),
		outboundMutations(), delegateMutations(), scopeMutations(), workshopMutations(), actionMutations(),
		hashMutations(), localityMutations(), tlsMutations(), limitMutations(), outlierMutations())
}

// documentMutations are faults in reading the documents: a field is not seen.
func documentMutations() []Mutation {
	unread := func(name, expr string, groups ...string) Mutation {
		return Mutation{Name: name, Groups: groups, unread: regexp.MustCompile(expr)}
	}
	return []Mutation{
		unread("exportTo not read", `exportTo: \[.*\]`, "visibility", "destinationrule", "delegate"),
		unread("gateways not read", `gateways: \[.*?\]`, "workload", "visibility"),
		unread("workloadSelector of a DestinationRule not read", `workloadSelector: \{matchLabels.*\}`, "destinationrule"),
		unread("weight of an endpoint not read", `(?m)(^ *|, )weight: \d+`, "loadbalancer", "endpoints"),
		unread("labels of an endpoint not read", `labels: \{app: reviews\}`, "endpoints"),
		unread("ports of an endpoint not read", `(, |\n *)ports: \{[^}]*\}`, "endpoints"),
		unread("targetPort not read", `, targetPort: \d+`, "endpoints", "destination", "kubernetes"),
		unread("appProtocol not read", `, appProtocol: [\w./]+`, "kubernetes"),
		unread("readiness not read", `(, )?conditions: (\{[^}]*\}|\[.*?\])`, "kubernetes"),
		unread("labels of a Pod not read", `, labels: \{(app|version): .*?\}`, "kubernetes"),
		unread("annotations not read", `, annotations: \{.*?\}`, "kubernetes"),
		unread("publishNotReadyAddresses not read", `publishNotReadyAddresses: true, `, "kubernetes"),
		unread("creation time not read", `creationTimestamp: .*`, "visibility", "destinationrule"),
	}
}

func matches(name, group string, edit func(*routing.Match)) Mutation {
	return Mutation{Name: name, Groups: []string{group}, edit: func(d *draft) { d.eachMatch(edit) }}
}

func retries(name string, edit func(*resilience.Retry)) Mutation {
	return Mutation{Name: name, Groups: []string{"retries", "grpc"}, edit: func(d *draft) { d.eachRetry(edit) }}
}

func balancer(name string, a balance.Algorithm, groups ...string) Mutation {
	return Mutation{Name: name, Groups: groups, edit: func(d *draft) {
		d.eachCluster(func(c *snapshot.Cluster) { c.Policy.Algorithm = a })
	}}
}

// respelled makes another matcher out of what a matcher compares with.
func respelled(m *call.StringMatch, with func(string) call.StringMatch) call.StringMatch {
	c := with(m.Text())
	if m.Folds() {
		c = c.IgnoringCase()
	}
	return c
}
