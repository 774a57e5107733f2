package config

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// makesEndpoints reports a kind whose documents come and go without a compilation.
func makesEndpoints(kind string) bool {
	return kind == "WorkloadEntry" || kind == "EndpointSlice" || kind == "Pod"
}

// A backing is what endpoints are made of, but for those that are written in ServiceEntries.
type backing struct {
	workloads map[string][]workload // by namespace
	slices    map[Key][]*document   // EndpointSlices, by the key of their Service
	pods      map[Key]*workload
}

// A workload is one thing that runs: a WorkloadEntry, one written in a ServiceEntry, or a Pod.
type workload struct {
	entry *networking.WorkloadEntry
	name  string   // kind namespace/name, "" within a ServiceEntry
	pod   *kubePod // what the entry was made of, nil where it was written
}

func newBacking(docs []*document) *backing {
	b := &backing{
		workloads: make(map[string][]workload),
		slices:    make(map[Key][]*document),
		pods:      make(map[Key]*workload),
	}
	for _, d := range docs {
		w := workload{name: d.key.String()}
		switch s := d.spec.(type) {
		case *networking.WorkloadEntry:
			w.entry = s
		case *kubePod:
			w.entry, w.pod = s.entry(d), s
			b.pods[d.key] = &w
		case *kubeSlice:
			b.slices[d.serviceKey()] = append(b.slices[d.serviceKey()], d)
			continue
		default:
			continue
		}
		b.workloads[d.key.Namespace] = append(b.workloads[d.key.Namespace], w)
	}
	return b
}

// endpointSets builds what discovery publishes: for each port of each service the endpoints written in its
// ServiceEntries, those of its EndpointSlices and, by its selector, those of the namespace's workloads.
// Services that the workload cannot see get none, and an alias has those of what it stands for.
func endpointSets(docs []*document, w snapshot.Workload) map[discovery.Key]*discovery.Set {
	c := newCompiler(w, NoPreset)
	docs = byPrecedence(docs)
	c.readMesh(docs)
	c.readPeerAuthentications(docs)
	c.readScope(docs)
	if c.scope.doc != nil { // its rules say what else there is
		c.readVirtualServices(docs)
	}
	c.readServices(docs)
	b := newBacking(docs)
	all := make(map[discovery.Key][]discovery.Endpoint)
	for _, s := range c.services {
		if s.alias != nil {
			continue
		}
		for _, p := range s.ports {
			all[discovery.Key{Host: s.host, Port: uint16(p.number)}] = nil
		}
	}
	for _, d := range docs {
		for _, h := range d.entry.GetHosts() {
			s := c.byHost[canonicalName(h)]
			if !d.declares(s) || s.alias != nil || s.resolution == networking.ServiceEntry_NONE {
				continue
			}
			for i, p := range d.entry.GetPorts() {
				if d.carries(i) && s.port(p.GetNumber()) != nil {
					key := discovery.Key{Host: s.host, Port: uint16(p.GetNumber())}
					all[key] = append(all[key], c.proving(d, b.endpoints(s, d, i))...)
				}
			}
		}
	}
	sets := make(map[discovery.Key]*discovery.Set, len(all))
	for key, endpoints := range all {
		sets[key] = discovery.NewSet(endpoints...)
	}
	return sets
}

// endpoints gives those that one document declares for its i-th port.
func (b *backing) endpoints(s *service, d *document, i int) []discovery.Endpoint {
	se, p := d.entry, d.entry.GetPorts()[i]
	var list []discovery.Endpoint
	add := func(w *workload) {
		if e, ok := w.endpoint(d, i); ok {
			list = append(list, e)
		}
	}
	if k, ok := d.spec.(*kubeService); ok {
		for _, slice := range b.slices[d.key] {
			list = append(list, b.sliceEndpoints(slice, &k.Spec, i)...)
		}
	}
	switch {
	case se.GetWorkloadSelector() != nil:
		for _, w := range b.selected(d) {
			if w.pod == nil || w.pod.serves(d) {
				add(&w)
			}
		}
	case len(se.GetEndpoints()) == 0 && se.GetResolution() != networking.ServiceEntry_STATIC && !isWildcard(s.host) && !s.doc.isService():
		// A DNS entry without endpoints resolves its own host.
		list = append(list, discovery.Endpoint{Address: discovery.TCP(s.host, targetPort(p)), Resolve: resolves(se, s.host)})
	default:
		for _, we := range se.GetEndpoints() {
			add(&workload{entry: we})
		}
	}
	return list
}

// selected lists the workloads that the document's selector picks in its namespace. Pods are left out where a
// Service has EndpointSlices: those are what Kubernetes itself has made of them.
func (b *backing) selected(d *document) []workload {
	var list []workload
	sliced := d.isService() && len(b.slices[d.key]) > 0
	for _, w := range b.workloads[d.key.Namespace] {
		if !(sliced && w.pod != nil) && hasLabels(w.entry.GetLabels(), d.entry.GetWorkloadSelector().GetLabels()) {
			list = append(list, w)
		}
	}
	return list
}

// labels lists the labels of every endpoint that the document declares, ready or not.
func (b *backing) labels(d *document) []map[string]string {
	var labels []map[string]string
	for _, e := range d.entry.GetEndpoints() {
		labels = append(labels, e.GetLabels())
	}
	if d.entry.GetWorkloadSelector() != nil {
		for _, w := range b.selected(d) {
			labels = append(labels, w.entry.GetLabels())
		}
	}
	if d.isService() {
		for _, slice := range b.slices[d.key] {
			for _, e := range slice.spec.(*kubeSlice).Endpoints {
				labels = append(labels, b.podOf(slice, &e).GetLabels())
			}
		}
	}
	return labels
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

// endpoint makes the workload's endpoint of the document's i-th port. An entry without an address, known by its
// network only, cannot be reached from here and makes none.
func (w *workload) endpoint(d *document, i int) (discovery.Endpoint, bool) {
	we := w.entry
	e := discovery.Endpoint{Labels: we.GetLabels(), Weight: we.GetWeight(), Locality: we.GetLocality(),
		Network: we.GetNetwork(), ServiceAccount: we.GetServiceAccount(), Workload: w.name}
	if we.GetAddress() == "" {
		return e, false
	}
	if path, ok := strings.CutPrefix(we.GetAddress(), "unix://"); ok {
		e.Address = discovery.Unix(path)
		return e, true
	}
	port, ok := w.port(d, i)
	e.Address = discovery.TCP(we.GetAddress(), port)
	e.Resolve = resolves(d.entry, we.GetAddress())
	return e, ok
}

// port gives the workload's port for the document's i-th. A WorkloadEntry's ports go before a number, by the name
// of the service's port; a name in targetPort is looked up with the workload, which has no endpoint where it
// has no such port (istio.io, kube/controller findServiceTargetPort).
func (w *workload) port(d *document, i int) (uint16, bool) {
	p := d.entry.GetPorts()[i]
	name := d.targetName(i)
	if w.pod != nil {
		if name == "" {
			return targetPort(p), true
		}
		return w.pod.port(name)
	}
	key := name
	if key == "" {
		key = p.GetName()
	}
	if n, ok := w.entry.GetPorts()[key]; ok {
		return uint16(n), true
	}
	return targetPort(p), name == ""
}
