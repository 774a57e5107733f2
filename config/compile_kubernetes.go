package config

import (
	"cmp"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/discovery"
)

// isService reports a Kubernetes Service.
func (d *document) isService() bool {
	_, ok := d.spec.(*kubeService)
	return ok
}

// carries reports whether the i-th port of the document's entry is one that the mesh knows. Those of a Service
// that are for UDP and SCTP are in the entry, so that indexes agree, and nowhere else.
func (d *document) carries(i int) bool {
	s, ok := d.spec.(*kubeService)
	return !ok || s.Spec.Ports[i].carried()
}

// targetName is the name in the targetPort of the i-th port, "" where it is a number or nothing.
func (d *document) targetName(i int) string {
	if s, ok := d.spec.(*kubeService); ok && !s.Spec.isExternal() {
		return s.Spec.Ports[i].TargetPort.name
	}
	return ""
}

// exportTo is the Service's, nil where it has none.
func (d *document) exportTo() []string {
	text := d.annotations[exportToAnnotation]
	if text == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// entry gives what the Service amounts to as a ServiceEntry: its host, fixed endpoints by selector and, for an
// ExternalName, the name to resolve, on the service's own ports (istio.io, serviceregistry/kube/conversion.go).
func (s *kubeService) entry(d *document) *networking.ServiceEntry {
	spec := &s.Spec
	se := &networking.ServiceEntry{
		Hosts:      []string{d.key.Name + "." + d.key.Namespace + ".svc." + clusterDomain},
		Location:   networking.ServiceEntry_MESH_INTERNAL,
		Resolution: networking.ServiceEntry_STATIC,
		ExportTo:   d.exportTo(),
	}
	switch {
	case spec.isExternal():
		se.Location = networking.ServiceEntry_MESH_EXTERNAL
		se.Resolution = networking.ServiceEntry_DNS
		se.Endpoints = []*networking.WorkloadEntry{{Address: spec.ExternalName, Labels: d.labels}}
	default:
		se.Addresses = spec.virtualIPs()
		if len(spec.Selector) > 0 {
			se.WorkloadSelector = &networking.WorkloadSelector{Labels: spec.Selector}
		}
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		port := &networking.ServicePort{Number: uint32(p.Port), Name: p.Name, Protocol: p.declared()}
		if port.Protocol == "" {
			port.Protocol = "HTTP" // Istio would look at the bytes; here it is an HTTP client that calls
		}
		if !spec.isExternal() {
			port.TargetPort = uint32(p.TargetPort.number)
		}
		se.Ports = append(se.Ports, port)
	}
	return se
}

// longestAlias is how many ExternalNames may lead one to the next. A ring leads nowhere.
const longestAlias = 8

// findAliases joins each ExternalName that is the name of another service to it: it has the ports, endpoints
// and policies of that service (istio.io, ExternalName as alias, since 1.21).
func (c *compiler) findAliases() {
	names := func(s *service) *service {
		if k, ok := s.doc.spec.(*kubeService); ok && k.Spec.isExternal() {
			return c.byHost[canonicalName(k.Spec.ExternalName)]
		}
		return nil
	}
	for _, s := range c.services {
		to := names(s)
		for range longestAlias {
			next := (*service)(nil)
			if to != nil {
				next = names(to)
			}
			if next == nil {
				break
			}
			to = next
		}
		if to != nil && names(to) == nil {
			s.alias = to
		}
	}
}

// service gives the service of a host, or what it is an alias of.
func (c *compiler) service(host string) *service {
	s := c.byHost[host]
	if s != nil && s.alias != nil {
		return s.alias
	}
	return s
}

// serviceKey is the key of the Service that an EndpointSlice belongs to.
func (d *document) serviceKey() Key {
	return Key{Kind: "Service", Namespace: d.key.Namespace, Name: d.labels[serviceNameLabel]}
}

// sliceEndpoints makes the endpoints of an EndpointSlice for the i-th port of its Service, which the slice's port
// of the same name leads to. Only those that are ready count, and those whose slice does not say, unless
// the Service publishes all.
func (b *backing) sliceEndpoints(d *document, service *kubeServiceSpec, i int) []discovery.Endpoint {
	slice := d.spec.(*kubeSlice)
	var list []discovery.Endpoint
	for j := range slice.Ports {
		if slice.Ports[j].Name != service.Ports[i].Name {
			continue
		}
		port := slice.Ports[j].number(&service.Ports[i])
		for k := range slice.Endpoints {
			e := &slice.Endpoints[k]
			if ready := e.Conditions.Ready; ready != nil && !*ready && !service.PublishNotReadyAddresses {
				continue
			}
			pod := b.podOf(d, e)
			made := discovery.Endpoint{Labels: pod.GetLabels(), ServiceAccount: pod.GetServiceAccount(),
				Locality: pod.GetLocality(), Resolve: slice.AddressType == "FQDN"}
			if made.Locality == "" {
				made.Locality = e.locality()
			}
			if e.TargetRef.Name != "" {
				made.Workload = Key{Kind: cmp.Or(e.TargetRef.Kind, "Pod"), Namespace: d.key.Namespace, Name: e.TargetRef.Name}.String()
			}
			for _, a := range e.Addresses {
				made.Address = discovery.TCP(a, port)
				list = append(list, made)
			}
		}
	}
	return list
}

// number is the port's own or, where it says none, the one that the Service leads to.
func (p *kubeSlicePort) number(of *kubeServicePort) uint16 {
	switch {
	case p.Port != nil:
		return uint16(*p.Port)
	case of.TargetPort.number != 0:
		return uint16(of.TargetPort.number)
	}
	return uint16(of.Port)
}

// podOf gives the Pod that an endpoint of the slice refers to, nil where it is not among the documents.
func (b *backing) podOf(slice *document, e *kubeEndpoint) *networking.WorkloadEntry {
	if e.TargetRef.Kind != "Pod" {
		return nil
	}
	pod := b.pods[Key{Kind: "Pod", Namespace: slice.key.Namespace, Name: e.TargetRef.Name}]
	if pod == nil {
		return nil
	}
	return pod.entry
}

// locality is region/zone, as far as the endpoint says.
func (e *kubeEndpoint) locality() string {
	region := e.DeprecatedTopology[regionLabel]
	if region == "" && e.Zone == "" {
		return ""
	}
	return strings.TrimSuffix(region+"/"+e.Zone, "/")
}

// entry gives what the Pod amounts to as a WorkloadEntry, without the ports.
func (p *kubePod) entry(d *document) *networking.WorkloadEntry {
	we := &networking.WorkloadEntry{Address: p.Status.PodIP, Labels: d.labels, ServiceAccount: p.Spec.ServiceAccountName,
		Locality: d.labels[localityLabel]}
	if !strings.Contains(we.Locality, "/") {
		we.Locality = strings.ReplaceAll(we.Locality, ".", "/")
	}
	return we
}

// serves reports whether the Pod takes calls to the service of the document. One that says nothing of its
// readiness does.
func (p *kubePod) serves(d *document) bool {
	if s, ok := d.spec.(*kubeService); ok && s.Spec.PublishNotReadyAddresses {
		return true
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == "Ready" && c.Status != "True" {
			return false
		}
	}
	return !p.Metadata.DeletionTimestamp.there
}

// port gives the number of a container's port.
func (p *kubePod) port(name string) (uint16, bool) {
	for i := range p.Spec.Containers {
		ports := p.Spec.Containers[i].Ports
		for j := range ports {
			if ports[j].Name == name && 0 < ports[j].ContainerPort && ports[j].ContainerPort <= 65535 {
				return uint16(ports[j].ContainerPort), true
			}
		}
	}
	return 0, false
}
