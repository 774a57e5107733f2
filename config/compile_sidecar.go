package config

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A scope is what the workload may call: the egress of its Sidecar or, without one, everything
// (istio.io, pilot/pkg/model/sidecar.go).
type scope struct {
	doc       *document // the Sidecar; nil for none
	spec      *networking.Sidecar
	listeners []*egress
	groups    [][]*egress // those that share a table; the first is snapshot.Mesh
}

// An egress is one listener: what can be called on its port or, without one, on all ports that no other has.
type egress struct {
	port    uint32
	scope   string // of a listener with a table of its own; "" for the one that all others share
	speech  snapshot.Speech
	first   *routing.VirtualHost // of those that connections can go to
	imports []hostPattern
	except  []hostPattern // of the imports
	claims  []claim       // the VirtualServices that it imports, in order of precedence
	owners  map[string]*virtualService
}

// A claim is the hosts that a VirtualService has on a listener: those that none before it has.
type claim struct {
	v     *virtualService
	hosts []string
}

// A hostPattern is "namespace/dnsName". Both can be "*".
type hostPattern struct{ namespace, host string }

func (p hostPattern) takes(namespace string) bool {
	return p.namespace == "*" || p.namespace == namespace
}

// readScope finds the workload's Sidecar: the first of its namespace that selects it, else the one for the whole
// namespace, else the root namespace's.
func (c *compiler) readScope(docs []*document) {
	own := c.workload.Namespace
	var selected, whole, root *document
	first := func(slot **document, d *document) {
		if *slot == nil {
			*slot = d
		}
	}
	for _, d := range docs {
		s, ok := d.spec.(*networking.Sidecar)
		selector := s.GetWorkloadSelector().GetLabels()
		switch {
		case !ok:
		case len(selector) > 0:
			if d.key.Namespace == own && hasLabels(c.workload.Labels, selector) {
				first(&selected, d)
			}
		case d.key.Namespace == own:
			first(&whole, d)
		case d.key.Namespace == c.root():
			first(&root, d)
		}
	}
	c.scope = &scope{}
	for _, d := range []*document{selected, whole, root} {
		if d != nil {
			c.scope.doc, c.scope.spec = d, d.spec.(*networking.Sidecar)
			break
		}
	}
	c.scope.groups = make([][]*egress, 1)
	for _, l := range c.scope.spec.GetEgress() {
		e := newEgress(l.GetPort().GetNumber(), l.GetHosts(), own)
		e.speech = speechOf(l.GetPort().GetProtocol())
		if e.scope = scopeOf(l); e.scope != "" {
			e.port = 0
			c.scope.groups = append(c.scope.groups, []*egress{e})
		} else {
			c.scope.groups[0] = append(c.scope.groups[0], e)
		}
		c.scope.listeners = append(c.scope.listeners, e)
	}
	if len(c.scope.listeners) == 0 {
		c.scope.listeners = []*egress{newEgress(0, []string{"*/*"}, own)}
		c.scope.groups[0] = c.scope.listeners
	}
}

// newEgress reads hosts, in which "." is the workload's namespace even where the Sidecar is the root's.
func newEgress(port uint32, hosts []string, own string) *egress {
	e := &egress{port: port, owners: make(map[string]*virtualService)}
	for _, h := range hosts {
		p, except := egressHost(h, own)
		if except {
			e.except = append(e.except, p)
		} else {
			e.imports = append(e.imports, p)
		}
	}
	return e
}

// egressHost reads "namespace/dnsName". A "~" before the namespace takes out of what other entries bring in; alone it
// stands for every namespace, so that "~/*" takes out all (IstioEgressListener.hosts).
func egressHost(entry, own string) (p hostPattern, except bool) {
	namespace, host, _ := strings.Cut(entry, "/")
	namespace, except = strings.CutPrefix(namespace, "~")
	switch {
	case namespace == "" && except:
		namespace = "*"
	case namespace == ".":
		namespace = own
	}
	return hostPattern{namespace, canonicalName(host)}, except
}

// on gives the listener of a table that has the port, nil where none has. Those with a port stand before the one without.
func on(group []*egress, port uint32) *egress {
	for _, e := range group {
		if e.port == 0 || e.port == port {
			return e
		}
	}
	return nil
}

// admits reports whether a host of the namespace can be called on some port.
func (s *scope) admits(namespace, host string) bool {
	return slices.ContainsFunc(s.listeners, func(e *egress) bool { return e.admits(namespace, host) })
}

// admits reports whether the listener has a service's host.
func (e *egress) admits(namespace, host string) bool {
	has := func(p hostPattern) bool { return p.takes(namespace) && covers(p.host, host) }
	return slices.ContainsFunc(e.imports, has) && !slices.ContainsFunc(e.except, has)
}

// brings reports whether the listener has a VirtualService: one that shares a host with it, though it may be the
// wildcard of the two.
func (e *egress) brings(v *virtualService) bool {
	namespace := v.doc.key.Namespace
	return slices.ContainsFunc(v.hosts, func(host string) bool {
		in := func(p hostPattern) bool {
			return p.takes(namespace) && (covers(p.host, host) || covers(host, p.host))
		}
		out := func(p hostPattern) bool { return p.takes(namespace) && covers(p.host, host) }
		return slices.ContainsFunc(e.imports, in) && !slices.ContainsFunc(e.except, out)
	})
}

// checkSidecars finds those of which only one can be in effect: several for a whole namespace (IST0111), and
// several that select one workload (IST0110).
func (c *compiler) checkSidecars(docs []*document) {
	whole := make(map[string]*document)
	selecting := make(map[string][]*document)
	for _, d := range docs {
		s, ok := d.spec.(*networking.Sidecar)
		if !ok {
			continue
		}
		namespace := d.key.Namespace
		if len(s.GetWorkloadSelector().GetLabels()) > 0 {
			selecting[namespace] = append(selecting[namespace], d)
			continue
		}
		first := whole[namespace]
		if first == nil {
			whole[namespace] = d
			continue
		}
		c.add(d.finding(Error, "IST0111", false, []any{"metadata", "name"},
			fmt.Sprintf("%s (%s) is for the whole of namespace %s already and is in effect, %s; this one is not",
				first.key, first.place("metadata", "name"), namespace, before(first, d)),
			"give one of them a workloadSelector, or remove it"))
	}
	var b *backing
	for _, namespace := range sortedKeys(selecting) {
		if len(selecting[namespace]) > 1 {
			if b == nil {
				b = newBacking(docs)
			}
			c.checkSelectors(selecting[namespace], b.workloads[namespace])
		}
	}
}

// checkSelectors takes the workloads that it knows: those of documents, and the caller itself.
func (c *compiler) checkSelectors(sidecars []*document, known []workload) {
	type candidate struct {
		name   string
		labels map[string]string
	}
	var workloads []candidate
	if sidecars[0].key.Namespace == c.workload.Namespace {
		workloads = append(workloads, candidate{"the calling workload", c.workload.Labels})
	}
	for _, w := range known {
		workloads = append(workloads, candidate{w.name, w.entry.GetLabels()})
	}
	told := make(map[*document]bool)
	for _, w := range workloads {
		var first *document
		for _, d := range sidecars {
			if !hasLabels(w.labels, d.spec.(*networking.Sidecar).GetWorkloadSelector().GetLabels()) {
				continue
			}
			if first == nil {
				first = d
				continue
			}
			if !told[d] {
				told[d] = true
				c.add(d.finding(Error, "IST0110", false, []any{"spec", "workloadSelector"},
					fmt.Sprintf("selects %s, as does %s (%s), which is in effect for it, %s",
						w.name, first.key, first.place("spec", "workloadSelector"), before(first, d)),
					"make the selectors exclude each other"))
			}
		}
	}
}

// checkEgress finds hosts of the Sidecar in effect that bring nothing in.
func (c *compiler) checkEgress() {
	for i, l := range c.scope.spec.GetEgress() {
		for j, h := range l.GetHosts() {
			p, except := egressHost(h, c.workload.Namespace)
			if except || isWildcard(p.host) || c.exists(p) {
				continue
			}
			hint := c.hostHint(p.host, p.host)
			if !strings.Contains(p.host, ".") {
				hint = "write the full name, as " + p.host + "." + c.workload.Namespace + ".svc." + clusterDomain
			}
			c.add(c.scope.doc.finding(Warning, "IST0101", false, []any{"spec", "egress", i, "hosts", j},
				fmt.Sprintf("%s brings nothing in: no service and no VirtualService that %s sees has this host", quoted(h), c.workload.Namespace), hint))
		}
	}
}

func (c *compiler) exists(p hostPattern) bool {
	return slices.ContainsFunc(c.services, func(s *service) bool { return p.takes(s.namespace) && s.host == p.host }) ||
		slices.ContainsFunc(c.virtuals, func(v *virtualService) bool {
			return p.takes(v.doc.key.Namespace) && slices.ContainsFunc(v.hosts, func(h string) bool { return covers(h, p.host) })
		})
}

// before says why the one document goes before the other (byPrecedence).
func before(first, second *document) string {
	if first.created.Equal(second.created) {
		return "for it was read first"
	}
	if first.created.IsZero() {
		return "for it has no creationTimestamp, which counts as older"
	}
	return "for it is older"
}
