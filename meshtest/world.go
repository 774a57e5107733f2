package meshtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/ca"
)

// A world is what all Envs of a test share: documents, services, instances, network. It is safe for
// concurrent use.
type world struct {
	t        testing.TB
	settings settings
	net      *network
	ctx      context.Context // ends with the test
	end      context.CancelFunc

	authority *ca.Authority            // nil without identities
	declared  atomic.Pointer[declared] // what hosts tells of

	mu       sync.Mutex // guards what follows, and makes changes one at a time
	docs     []*document
	services map[string]*service
	envs     []*Env
	members  []*mesh.Mesh // of instances that have identities
	files    files
}

// declared is documents and services that were live together.
type declared struct {
	docs     []*document
	services map[string]*service
}

// render gives the texts for the meshes, and the names of the files that they stand for.
func render(docs []*document, services map[string]*service) (texts [][]byte, names files) {
	kube := make(map[string]string)
	for _, d := range docs {
		for _, e := range d.entries {
			if e.kube {
				kube[e.hosts[0]] = e.namespace
			}
		}
	}
	for _, d := range docs {
		for _, text := range d.render(services, kube) {
			texts = append(texts, text)
			names = append(names, d.origin.File)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(services)) {
		if declaredAt(docs, host) == "" {
			texts = append(texts, services[host].entry())
			names = append(names, "<the test>")
		}
	}
	return texts, names
}

// apply makes documents and services live for every caller, or for none. w.mu is held.
func (w *world) apply(docs []*document, services map[string]*service) error {
	texts, names := render(docs, services)
	all := w.meshes()
	for n, m := range all {
		err := m.Apply(context.Background(), texts...)
		if err == nil {
			continue
		}
		before, _ := render(w.docs, w.services)
		for _, done := range all[:n] {
			_ = done.Apply(context.Background(), before...) // it was accepted once
		}
		return named(err, names)
	}
	for _, s := range services {
		if ports := declaredPorts(docs, s.host); len(ports) > 0 {
			s.ports = ports
		}
	}
	w.docs, w.services, w.files = docs, services, names
	w.declared.Store(&declared{docs, services})
	return nil
}

// named gives a refusal with the names of the files.
func named(err error, names files) error {
	if refused, ok := errors.AsType[*mesh.ConfigError](err); ok {
		return names.refusal(refused)
	}
	return err
}

// add starts an instance and gives it to its service.
func (w *world) add(namespace, authority string, i *Instance) error {
	host, port, err := call.SplitAuthority(authority)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	host = fullName(host, namespace, func(name string) bool { return w.services[name] != nil || declaredAt(w.docs, name) != "" })
	s := &service{host: host, namespace: namespaceOf(host, namespace)}
	if old := w.services[host]; old != nil {
		s.ports, s.instances = slices.Clone(old.ports), slices.Clone(old.instances)
	}
	target, err := s.port(w.docs, int(port), i.rpc != nil)
	if err != nil {
		return err
	}
	i.world, i.host = w, host
	if err := w.member(i, s.namespace); err != nil {
		return err
	}
	number := w.net.add(i, target)
	i.start(w.settings.seed, number)
	s.instances = append(s.instances, i)
	services := maps.Clone(w.services)
	services[host] = s
	return w.apply(w.docs, services)
}

// port finds the port on which the service's next instance listens, and declares it where the YAML says
// nothing of the service. For gRPC it is one of HTTP/2.
func (s *service) port(docs []*document, asked int, rpc bool) (int, error) {
	where := declaredAt(docs, s.host)
	if where != "" {
		s.ports = declaredPorts(docs, s.host)
	}
	var known []string
	for _, p := range s.ports {
		number, target := portNumbers(p)
		if (asked == 0 || asked == number) && (!rpc || speaksHTTP2(p)) {
			return target, nil
		}
		if asked == number {
			return 0, s.notHTTP2(where, p)
		}
		known = append(known, strconv.Itoa(number))
	}
	if asked == 0 && len(s.ports) > 0 {
		return 0, s.notHTTP2(where, s.ports[0])
	}
	if where != "" {
		return 0, fmt.Errorf("%s (%s) has no port %d; its ports: %s", s.host, where, asked, strings.Join(known, ", "))
	}
	if asked == 0 {
		asked = 80
	}
	protocol := "HTTP"
	if rpc {
		protocol = "GRPC"
	}
	s.ports = append(s.ports, newPort(asked, protocol))
	return asked, nil
}

// hosts lists, as a workload of the namespace writes them, the hosts that the documents or the test declare. It takes no lock: a
// mesh that is made, or changed, dials.
func (w *world) hosts(namespace string) []string {
	known := w.declared.Load()
	var list []string
	for host := range known.services {
		list = append(list, shortName(host, namespace))
	}
	for _, d := range known.docs {
		for _, e := range d.entries {
			for _, host := range e.hosts {
				list = append(list, shortName(host, namespace))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// names gives the files that the meshes' documents stand in.
func (w *world) names() files {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.files
}

// close ends the instances. The meshes have ended before.
func (w *world) close() {
	for _, i := range w.net.all() {
		if err := i.stop(); err != nil {
			w.t.Error(err)
		}
	}
}
