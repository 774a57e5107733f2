package config

import (
	"fmt"
	"slices"
	"strconv"
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

	routes map[uint32][]*routing.Route // compiled already, by listener port
}

// readVirtualServices takes those that the workload can see and that bind the mesh, the default. Of two
// with the same host the first has it: Istio's IST0109.
func (c *compiler) readVirtualServices(docs []*document) {
	owner := make(map[string]*virtualService)
	for _, d := range docs {
		spec, ok := d.spec.(*networking.VirtualService)
		if !ok || !visible(spec.GetExportTo(), d.key.Namespace, c.workload.Namespace) || !bindsMesh(spec.GetGateways()) {
			continue
		}
		v := &virtualService{doc: d, spec: spec, routes: make(map[uint32][]*routing.Route)}
		for i, h := range spec.GetHosts() {
			host := resolveHost(h, d.key.Namespace)
			if first := owner[host]; first != nil && first != v {
				c.add(d.finding(Error, "IST0109", false, []any{"spec", "hosts", i},
					fmt.Sprintf("host %s belongs to %s (%s) already, which came first; this one's rules for it are not used",
						host, first.doc.key, first.doc.place("spec", "hosts")),
					"merge the two, or give them different hosts"))
				continue
			}
			owner[host] = v
			v.hosts = append(v.hosts, host)
		}
		c.virtuals = append(c.virtuals, v)
	}
}

// bindsMesh reports whether a gateways list, of a VirtualService or a match, includes the mesh's sidecars.
func bindsMesh(gateways []string) bool {
	return len(gateways) == 0 || slices.Contains(gateways, meshGateway)
}

// virtualHosts makes one virtual host for each port of each service, and those that VirtualServices
// declare for hosts that are no service.
func (c *compiler) virtualHosts() []*routing.VirtualHost {
	var hosts []*routing.VirtualHost
	find := c.ownerIndex()
	served := make(map[*virtualService]map[uint32]bool) // HTTP ports of the services a VirtualService has
	for _, s := range c.services {
		v := find(s.host)
		also := append(shortNames(s.host, c.workload.Namespace), s.addresses...)
		for i := range s.ports {
			p := &s.ports[i]
			h := &routing.VirtualHost{Host: s.host, Port: uint16(p.number), Also: also,
				HTTP: p.protocol != snapshot.Opaque}
			def := c.defaultRoute(s, p)
			h.Default = withoutRetry(def)
			switch {
			case !h.HTTP:
			case v == nil || len(v.spec.GetHttp()) == 0:
				h.Routes = []*routing.Route{def}
			default:
				h.Routes = c.routesFor(v, p.number)
				if served[v] == nil {
					served[v] = make(map[uint32]bool)
				}
				served[v][p.number] = true
			}
			hosts = append(hosts, h)
		}
	}
	for _, v := range c.virtuals {
		hosts = append(hosts, c.unregisteredHosts(v, served[v])...)
	}
	return hosts
}

// unregisteredHosts makes virtual hosts for names that are no service of the registry: they answer on the
// HTTP ports of the services that the same VirtualService names, or on port 80 where it names none
// (istio.io, pilot/pkg/networking/core/route buildSidecarVirtualHostsForVirtualService).
func (c *compiler) unregisteredHosts(v *virtualService, ports map[uint32]bool) []*routing.VirtualHost {
	if len(v.spec.GetHttp()) == 0 {
		return nil
	}
	if len(ports) == 0 {
		ports = map[uint32]bool{80: true}
	}
	var hosts []*routing.VirtualHost
	for _, name := range v.hosts {
		if c.isService(name) {
			continue
		}
		for _, port := range sortedKeys(ports) {
			hosts = append(hosts, &routing.VirtualHost{Host: name, Port: uint16(port), HTTP: true,
				Also: shortNames(name, c.workload.Namespace), Routes: c.routesFor(v, port)})
		}
	}
	return hosts
}

// isService reports whether a VirtualService's host is a service, or a wildcard that some service is under.
func (c *compiler) isService(host string) bool {
	if c.byHost[host] != nil {
		return true
	}
	return isWildcard(host) && slices.ContainsFunc(c.services, func(s *service) bool { return covers(host, s.host) })
}

// ownerIndex gives the function that finds the VirtualService of a host: by its name, else by the longest
// wildcard.
func (c *compiler) ownerIndex() func(host string) *virtualService {
	exact := make(map[string]*virtualService)
	var wild []string
	for _, v := range c.virtuals {
		for _, h := range v.hosts {
			exact[h] = v
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
	return &routing.Route{
		Name:   "default",
		Origin: s.doc.key.String() + " (" + p.doc.place("spec", "ports", p.index) + ")",
		Split:  []routing.Destination{{Cluster: name, Index: index, Missing: missing}},
		Retry:  c.retry,
	}
}

// withoutRetry is the same route for traffic that rules of HTTP do not apply to.
func withoutRetry(r *routing.Route) *routing.Route {
	o := *r
	o.Retry = nil
	return &o
}

// originOf says where a rule stands: kind namespace/name http[i] (file:line).
func (d *document) originOf(path ...any) string {
	line, column := d.at(path...)
	return d.key.String() + " " + strings.TrimPrefix(pathString(path), "spec.") +
		" (" + d.origin.File + ":" + strconv.Itoa(line) + ":" + strconv.Itoa(column) + ")"
}
