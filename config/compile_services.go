package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/snapshot"
)

// A service is one host of the registry as the workload sees it: what a Kubernetes Service says of it, or
// ServiceEntries of one namespace, the oldest first.
type service struct {
	host       string
	namespace  string   // of its documents
	alias      *service // what an ExternalName is another name for, nil where it is no service of the registry
	resolution networking.ServiceEntry_Resolution
	ports      []servicePort
	addresses  []string // virtual IPs
	hidden     bool     // cannot be called: rules lead there
	doc        *document
}

type servicePort struct {
	number   uint32
	name     string
	protocol snapshot.Protocol
	written  string // the protocol as the document has it
	word     string // that, or what stands for it, in capitals
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

// readServices builds the registry from the documents that the workload can see: what its Sidecar lets it call, and
// behind that what the rules it sees and the aliases lead to.
func (c *compiler) readServices(docs []*document) {
	c.register(docs, false, func(d *document, host string) bool { return c.scope.admits(d.key.Namespace, host) })
	if c.scope.doc != nil {
		c.readUnscoped(docs)
		wanted := c.destinations()
		for range longestAlias {
			before := len(c.services)
			for _, s := range c.services {
				if k, ok := s.doc.spec.(*kubeService); ok && k.Spec.isExternal() {
					wanted[canonicalName(k.Spec.ExternalName)] = true
				}
			}
			have := maps.Clone(c.byHost)
			c.register(docs, true, func(_ *document, host string) bool { return wanted[host] && have[host] == nil })
			if len(c.services) == before {
				break
			}
		}
	}
	c.findAliases()
}

// readUnscoped notes what is there, though the Sidecar does not let it be called: rules for it are not for nothing.
func (c *compiler) readUnscoped(docs []*document) {
	c.unscoped = make(map[string]bool)
	for _, d := range docs {
		if d.entry != nil {
			for _, h := range d.entry.GetHosts() {
				c.unscoped[canonicalName(h)] = true
			}
		}
	}
}

// destinations lists the hosts that rules lead to.
func (c *compiler) destinations() map[string]bool {
	hosts := make(map[string]bool)
	for _, v := range c.virtuals {
		for _, r := range append(tcpRules(v.spec), tlsRules(v.spec)...) {
			for _, d := range r.route {
				hosts[resolveHost(d.GetDestination().GetHost(), v.doc.key.Namespace)] = true
			}
		}
		for i := range v.rules {
			r := &v.rules[i]
			add := func(d *networking.Destination) { hosts[resolveHost(d.GetHost(), r.doc.key.Namespace)] = true }
			for _, d := range r.GetRoute() {
				add(d.GetDestination())
			}
			add(r.GetMirror())
			for _, m := range r.GetMirrors() {
				add(m.GetDestination())
			}
		}
	}
	return hosts
}

// register takes in the wanted hosts. A Kubernetes Service has its host, whoever else claims it (istio.io,
// pilot/pkg/model/push_context.go initServiceRegistry); ServiceEntries of its namespace add endpoints. Where
// ServiceEntries of several namespaces declare one host, the workload's own comes first, then the oldest.
func (c *compiler) register(docs []*document, hidden bool, wanted func(d *document, host string) bool) {
	from := len(c.services)
	read := func(of func(d *document) bool) {
		for _, d := range docs {
			if d.entry == nil || !of(d) || !c.sees(d.entry.GetExportTo(), c.mesh.GetDefaultServiceExportTo(), d.key.Namespace) {
				continue
			}
			for i, h := range d.entry.GetHosts() {
				if h = canonicalName(h); wanted(d, h) {
					c.readService(d, i, h)
				}
			}
		}
	}
	own := func(d *document) bool { return d.key.Namespace == c.workload.Namespace }
	read(func(d *document) bool { return d.isService() })
	read(func(d *document) bool { return !d.isService() && own(d) })
	read(func(d *document) bool { return !d.isService() && !own(d) })
	for _, s := range c.services[from:] {
		s.hidden = hidden
	}
}

// declares reports whether the document has a say in what the service's endpoints are.
func (d *document) declares(s *service) bool { return s != nil && s.namespace == d.key.Namespace }

// readService takes in what the document says of its n-th host.
func (c *compiler) readService(d *document, n int, host string) {
	se := d.entry
	s := c.byHost[host]
	taken := s != nil && s.doc.isService()
	if taken {
		c.hostTaken(d, n, s)
	}
	if s == nil {
		s = &service{host: host, namespace: d.key.Namespace, resolution: se.GetResolution(), doc: d}
		c.byHost[host] = s
		c.services = append(c.services, s)
	} else if s.namespace != d.key.Namespace {
		return // another namespace's view of the host
	}
	for _, a := range se.GetAddresses() {
		if ip, err := netip.ParseAddr(a); err == nil && !taken && !slices.Contains(s.addresses, ip.Unmap().String()) {
			s.addresses = append(s.addresses, ip.Unmap().String())
		}
	}
	for i, p := range se.GetPorts() {
		if !d.carries(i) {
			continue
		}
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
		if taken {
			c.add(d.finding(Warning, codeTaken, false, []any{"spec", "ports", i, "number"},
				fmt.Sprintf("%s has no port %d, only %s: the ServiceEntry's is not used", s.doc.key, p.GetNumber(), s.portList()),
				"declare it in the Service"))
			continue
		}
		s.ports = append(s.ports, servicePort{number: p.GetNumber(), name: p.GetName(), protocol: protocol,
			written: p.GetProtocol(), word: protocolWord(p), doc: d, index: i})
	}
}

// hostTaken says what becomes of a ServiceEntry whose host is that of a Kubernetes Service.
func (c *compiler) hostTaken(d *document, i int, s *service) {
	owner := fmt.Sprintf("host %s is that of %s (%s)", s.host, s.doc.key, s.doc.place("metadata", "name"))
	if d.declares(s) {
		c.add(d.finding(Info, codeTaken, false, []any{"spec", "hosts", i},
			owner+": the ServiceEntry's endpoints are added to it; its ports, addresses and resolution are not used", ""))
		return
	}
	c.add(d.finding(Warning, codeTaken, false, []any{"spec", "hosts", i}, owner+": the ServiceEntry is not used for it",
		"give it another host, or move it to namespace "+s.namespace))
}

// place gives file:line of a field, for findings that point at a second document.
func (d *document) place(path ...any) string {
	line, _ := d.at(path...)
	return d.origin.File + ":" + strconv.Itoa(line)
}

// protocolWord gives ServicePort.protocol; where it is missing, the port's name up to the first dash, as Kubernetes services have
// it.
func protocolWord(p *networking.ServicePort) string {
	written := p.GetProtocol()
	if written == "" {
		written, _, _ = strings.Cut(p.GetName(), "-")
	}
	return strings.ToUpper(written)
}

// portProtocol reads a protocol. What is none is taken for HTTP/1.1: it is an HTTP client that calls.
func portProtocol(p *networking.ServicePort) snapshot.Protocol {
	switch protocolWord(p) {
	case "HTTP2", "GRPC":
		return snapshot.HTTP2
	case "HTTPS", "TLS", "TCP", "UDP", "MONGO", "MYSQL", "REDIS":
		return snapshot.Opaque
	}
	return snapshot.HTTP1
}
