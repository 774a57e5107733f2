package config

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A virtualService is one VirtualService that applies to calls of this workload.
type virtualService struct {
	doc   *document
	spec  *networking.VirtualService
	hosts []string // resolved
	rules []rule   // of HTTP

	routes map[uint32][]*routing.Route // compiled already, by listener port
}

// readVirtualServices takes those that the workload can see and that bind the mesh, the default, and joins their
// delegates with them.
func (c *compiler) readVirtualServices(docs []*document) {
	c.readDelegates(docs)
	for _, d := range docs {
		spec, ok := d.spec.(*networking.VirtualService)
		if !ok || isDelegate(spec) || !bindsMesh(spec.GetGateways()) ||
			!c.sees(spec.GetExportTo(), c.mesh.GetDefaultVirtualServiceExportTo(), d.key.Namespace) {
			continue
		}
		v := &virtualService{doc: d, spec: spec, routes: make(map[uint32][]*routing.Route)}
		for _, h := range spec.GetHosts() {
			v.hosts = append(v.hosts, resolveHost(h, d.key.Namespace))
		}
		told, brought := make(map[int]bool), false
		for _, e := range c.scope.listeners {
			if e.brings(v) {
				brought = true
				c.claim(e, v, told)
			}
		}
		if brought {
			v.rules = c.rulesOf(d, spec)
			c.virtuals = append(c.virtuals, v)
		}
	}
}

// claim gives the VirtualService its hosts on the listener. Of two with the same host the first has it, and nothing
// is merged: Istio's IST0109. told are the hosts of which that has been said.
func (c *compiler) claim(e *egress, v *virtualService, told map[int]bool) {
	own := claim{v: v}
	for i, host := range v.hosts {
		first := e.owners[host]
		if first == nil || first == v {
			e.owners[host] = v
			own.hosts = append(own.hosts, host)
			continue
		}
		if !told[i] {
			told[i] = true
			c.add(v.doc.finding(Error, "IST0109", false, []any{"spec", "hosts", i},
				fmt.Sprintf("host %s belongs to %s (%s), which is in effect, %s; this one's rules for it are not used",
					host, first.doc.key, first.doc.place("spec", "hosts"), before(first.doc, v.doc)),
				"merge the two, or give them different hosts"))
		}
	}
	e.claims = append(e.claims, own)
}

// bindsMesh reports whether a gateways list, of a VirtualService or a match, includes the mesh's sidecars.
func bindsMesh(gateways []string) bool {
	return len(gateways) == 0 || slices.Contains(gateways, meshGateway)
}

// virtualHosts makes one virtual host for each port of each service and alias that the listeners of a table have, and those that
// VirtualServices declare for hosts that are no service.
func (c *compiler) virtualHosts(group []*egress) []*routing.VirtualHost {
	var hosts []*routing.VirtualHost
	find := make(map[*egress]func(host string) *virtualService, len(group))
	for _, e := range group {
		find[e] = e.ownerIndex()
	}
	served := make(map[*egress]map[*virtualService]map[uint32]bool) // HTTP ports of the services a VirtualService has
	for _, s := range c.services {
		if s.hidden {
			continue
		}
		to := s
		if s.alias != nil {
			to = s.alias
		}
		also := append(shortNames(s.host, c.workload.Namespace), s.addresses...)
		for i := range to.ports {
			p := &to.ports[i]
			e := on(group, p.number)
			if e == nil || !e.admits(s.namespace, s.host) {
				continue
			}
			v := find[e](s.host)
			if v == nil && to != s {
				v = find[e](to.host)
			}
			h := &routing.VirtualHost{Host: s.host, Port: uint16(p.number), Also: also,
				HTTP: p.protocol != snapshot.Opaque && e.speech <= snapshot.SpeaksHTTP, TLS: p.word == "TLS" || p.word == "HTTPS", UDP: p.word == "UDP",
				Origin: s.hostOrigin(p)}
			def := c.defaultRoute(to, p)
			h.Default = unruled(def)
			if e.first == nil && !h.UDP {
				e.first = h
			}
			c.connRules(h, v, p.number)
			switch {
			case !h.HTTP:
			case v == nil || len(v.spec.GetHttp()) == 0:
				h.Routes = []*routing.Route{def}
			default:
				h.Routes = c.routesFor(v, p.number)
				if served[e] == nil {
					served[e] = make(map[*virtualService]map[uint32]bool)
				}
				if served[e][v] == nil {
					served[e][v] = make(map[uint32]bool)
				}
				served[e][v][p.number] = true
			}
			hosts = append(hosts, h)
		}
	}
	for _, e := range group {
		for i := range e.claims {
			hosts = append(hosts, c.unregisteredHosts(group, e, &e.claims[i], served[e][e.claims[i].v])...)
		}
	}
	return hosts
}

// unregisteredHosts makes virtual hosts for names that are no service of the registry: they answer on the
// HTTP ports of the services that the same VirtualService names, or on port 80 where it names none
// (istio.io, pilot/pkg/networking/core/route buildSidecarVirtualHostsForVirtualService).
func (c *compiler) unregisteredHosts(group []*egress, e *egress, own *claim, ports map[uint32]bool) []*routing.VirtualHost {
	v := own.v
	if len(v.spec.GetHttp()) == 0 {
		return nil
	}
	if len(ports) == 0 {
		ports = map[uint32]bool{80: true}
	}
	var hosts []*routing.VirtualHost
	for _, name := range own.hosts {
		if c.isService(name) {
			continue
		}
		for _, port := range sortedKeys(ports) {
			if on(group, port) != e {
				continue
			}
			hosts = append(hosts, &routing.VirtualHost{Host: name, Port: uint16(port), HTTP: true,
				Also: shortNames(name, c.workload.Namespace), Routes: c.routesFor(v, port),
				Origin: v.doc.originOf("spec", "hosts")})
		}
	}
	return hosts
}

// isService reports whether a VirtualService's host is a service, or a wildcard that some service is under.
func (c *compiler) isService(host string) bool {
	if s := c.byHost[host]; s != nil && !s.hidden {
		return true
	}
	return isWildcard(host) && slices.ContainsFunc(c.services, func(s *service) bool { return !s.hidden && covers(host, s.host) })
}

// ownerIndex gives the function that finds the VirtualService of a host: by its name, else by the longest
// wildcard.
func (e *egress) ownerIndex() func(host string) *virtualService {
	exact := e.owners
	var wild []string
	for _, own := range e.claims {
		for _, h := range own.hosts {
			if isWildcard(h) {
				wild = append(wild, h)
			}
		}
	}
	slices.SortStableFunc(wild, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return func(host string) *virtualService {
		if v := exact[host]; v != nil {
			return v
		}
		for _, w := range wild {
			if covers(w, host) {
				return exact[w]
			}
		}
		return nil
	}
}

// defaultRoute is the route of a service port without rules: all to the service itself.
func (c *compiler) defaultRoute(s *service, p *servicePort) *routing.Route {
	name, index, missing := c.cluster(s.host, p.number, "")
	r := &routing.Route{
		Name:   "default",
		Origin: s.doc.key.String() + " (" + p.doc.place("spec", "ports", p.index) + ")",
		Split:  []routing.Destination{{Cluster: name, Index: index, Missing: missing}},
		Retry:  c.retry,
	}
	c.stays(r, nil)
	c.bound(r, nil)
	return r
}

// unruled is the same route for traffic that rules of HTTP do not apply to.
func unruled(r *routing.Route) *routing.Route {
	o := *r
	o.Retry, o.Timeout, o.Preset = nil, 0, ""
	return &o
}
