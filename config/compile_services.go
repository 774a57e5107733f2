package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// A service is one host of the registry as the workload sees it: what ServiceEntries of one namespace say
// of it, the oldest first.
type service struct {
	host       string
	namespace  string // of its ServiceEntry
	resolution networking.ServiceEntry_Resolution
	ports      []servicePort
	addresses  []string // virtual IPs
	doc        *document
}

type servicePort struct {
	number   uint32
	name     string
	protocol snapshot.Protocol
	written  string // the protocol as the document has it
	doc      *document
	index    int // of spec.ports
}

func (s *service) port(number uint32) *servicePort {
	for i := range s.ports {
		if s.ports[i].number == number {
			return &s.ports[i]
		}
	}
	return nil
}

func (s *service) portList() string {
	if len(s.ports) == 0 {
		return "none"
	}
	list := make([]string, len(s.ports))
	for i, p := range s.ports {
		list[i] = strconv.FormatUint(uint64(p.number), 10)
	}
	return strings.Join(list, ", ")
}

// readServices builds the registry from the ServiceEntries that the workload can see. Where several
// namespaces declare one host, the workload's own comes first, then the oldest.
func (c *compiler) readServices(docs []*document) {
	read := func(own bool) {
		for _, d := range docs {
			se, ok := d.spec.(*networking.ServiceEntry)
			if !ok || (d.key.Namespace == c.workload.Namespace) != own ||
				!visible(se.GetExportTo(), d.key.Namespace, c.workload.Namespace) {
				continue
			}
			for _, h := range se.GetHosts() {
				c.readService(d, se, canonicalName(h))
			}
		}
	}
	read(true)
	read(false)
}

func (c *compiler) readService(d *document, se *networking.ServiceEntry, host string) {
	s := c.byHost[host]
	if s == nil {
		s = &service{host: host, namespace: d.key.Namespace, resolution: se.GetResolution(), doc: d}
		c.byHost[host] = s
		c.services = append(c.services, s)
	} else if s.namespace != d.key.Namespace {
		return // another namespace's view of the host
	}
	for _, a := range se.GetAddresses() {
		if ip, err := netip.ParseAddr(a); err == nil && !slices.Contains(s.addresses, ip.String()) {
			s.addresses = append(s.addresses, ip.String())
		}
	}
	for i, p := range se.GetPorts() {
		protocol := portProtocol(p)
		if have := s.port(p.GetNumber()); have != nil {
			if have.protocol != protocol && have.doc != d {
				c.add(d.finding(Warning, "IST0177", false, []any{"spec", "ports", i, "protocol"},
					fmt.Sprintf("%s port %d has protocol %s here and %s in %s (%s); the first is used",
						host, p.GetNumber(), p.GetProtocol(), have.written, have.doc.key, have.doc.place("spec", "ports", have.index)),
					"give both the same protocol"))
			}
			continue
		}
		s.ports = append(s.ports, servicePort{number: p.GetNumber(), name: p.GetName(), protocol: protocol,
			written: p.GetProtocol(), doc: d, index: i})
	}
}

// place gives file:line of a field, for findings that point at a second document.
func (d *document) place(path ...any) string {
	line, _ := d.at(path...)
	return d.origin.File + ":" + strconv.Itoa(line)
}

// portProtocol reads ServicePort.protocol; where it is missing, the port's name up to the first dash, as
// Kubernetes services have it. What is neither is taken for HTTP/1.1: it is an HTTP client that calls.
func portProtocol(p *networking.ServicePort) snapshot.Protocol {
	written := p.GetProtocol()
	if written == "" {
		written, _, _ = strings.Cut(p.GetName(), "-")
	}
	switch strings.ToUpper(written) {
	case "HTTP2", "GRPC":
		return snapshot.HTTP2
	case "HTTPS", "TLS", "TCP", "UDP", "MONGO", "MYSQL", "REDIS":
		return snapshot.Opaque
	}
	return snapshot.HTTP1
}

// endpointSets builds what discovery publishes: for each port of each ServiceEntry's hosts the endpoints
// written in it or, by its workloadSelector, those of the namespace's WorkloadEntries. Services that the
// workload cannot see get none.
func endpointSets(docs []*document, w snapshot.Workload) map[discovery.Key]*discovery.Set {
	c := &compiler{workload: w, byHost: make(map[string]*service)}
	docs = byPrecedence(docs)
	c.readServices(docs)
	workloads := workloadEntries(docs)
	all := make(map[discovery.Key][]discovery.Endpoint)
	for _, s := range c.services {
		for _, p := range s.ports {
			all[discovery.Key{Host: s.host, Port: uint16(p.number)}] = nil
		}
	}
	for _, d := range docs {
		se, ok := d.spec.(*networking.ServiceEntry)
		if !ok {
			continue
		}
		for _, h := range se.GetHosts() {
			s := c.byHost[canonicalName(h)]
			if s == nil || s.namespace != d.key.Namespace || s.resolution == networking.ServiceEntry_NONE {
				continue
			}
			for _, p := range se.GetPorts() {
				key := discovery.Key{Host: s.host, Port: uint16(p.GetNumber())}
				all[key] = append(all[key], entryEndpoints(s, se, p, workloads[d.key.Namespace])...)
			}
		}
	}
	sets := make(map[discovery.Key]*discovery.Set, len(all))
	for key, endpoints := range all {
		sets[key] = discovery.NewSet(endpoints...)
	}
	return sets
}

// workloadEntries gives the WorkloadEntries by namespace.
func workloadEntries(docs []*document) map[string][]*document {
	m := make(map[string][]*document)
	for _, d := range docs {
		if _, ok := d.spec.(*networking.WorkloadEntry); ok {
			m[d.key.Namespace] = append(m[d.key.Namespace], d)
		}
	}
	return m
}

func entryEndpoints(s *service, se *networking.ServiceEntry, p *networking.ServicePort, workloads []*document) []discovery.Endpoint {
	if sel := se.GetWorkloadSelector(); sel != nil {
		var list []discovery.Endpoint
		for _, d := range workloads {
			we := d.spec.(*networking.WorkloadEntry)
			if !hasLabels(we.GetLabels(), sel.GetLabels()) {
				continue
			}
			e, ok := endpoint(se, we, p)
			if ok {
				e.Workload = d.key.Namespace + "/" + d.key.Name
				list = append(list, e)
			}
		}
		return list
	}
	if len(se.GetEndpoints()) == 0 && se.GetResolution() != networking.ServiceEntry_STATIC && !isWildcard(s.host) {
		// A DNS entry without endpoints resolves its own host.
		return []discovery.Endpoint{{Address: discovery.TCP(s.host, targetPort(p)), Resolve: resolves(se, s.host)}}
	}
	list := make([]discovery.Endpoint, 0, len(se.GetEndpoints()))
	for _, we := range se.GetEndpoints() {
		if e, ok := endpoint(se, we, p); ok {
			list = append(list, e)
		}
	}
	return list
}

// resolves reports whether every address of the name is to be an endpoint. With DNS_ROUND_ROBIN the name itself
// is the endpoint, and is looked up whenever a connection is opened.
func resolves(se *networking.ServiceEntry, address string) bool {
	return se.GetResolution() == networking.ServiceEntry_DNS && !isIP(address)
}

func targetPort(p *networking.ServicePort) uint16 {
	if t := p.GetTargetPort(); t != 0 {
		return uint16(t)
	}
	return uint16(p.GetNumber())
}

// endpoint makes one endpoint of a service port. An entry without an address, known by its network only,
// cannot be reached from here and makes none.
func endpoint(se *networking.ServiceEntry, we *networking.WorkloadEntry, p *networking.ServicePort) (discovery.Endpoint, bool) {
	e := discovery.Endpoint{Labels: we.GetLabels(), Weight: we.GetWeight(), Locality: we.GetLocality(),
		Network: we.GetNetwork(), ServiceAccount: we.GetServiceAccount()}
	if we.GetAddress() == "" {
		return e, false
	}
	if path, ok := strings.CutPrefix(we.GetAddress(), "unix://"); ok {
		e.Address = discovery.Unix(path)
		return e, true
	}
	port := targetPort(p)
	if n, ok := we.GetPorts()[p.GetName()]; ok {
		port = uint16(n)
	}
	e.Address = discovery.TCP(we.GetAddress(), port)
	e.Resolve = resolves(se, we.GetAddress())
	return e, true
}
