package config

import (
	"fmt"
	"slices"
	"strings"
)

// checkTargets finds ports of a Service whose targetPort is a name that nothing its selector picks has.
func (c *compiler) checkTargets(d *document, s *kubeService, b *backing) {
	if d.entry.GetWorkloadSelector() == nil || len(b.slices[d.key]) > 0 {
		return // the ports of EndpointSlices have numbers
	}
	for i := range s.Spec.Ports {
		name := d.targetName(i)
		if name == "" {
			continue
		}
		picked := b.selected(d)
		if len(picked) > 0 && !slices.ContainsFunc(picked, func(w workload) bool { _, ok := w.port(d, i); return ok }) {
			c.add(d.finding(Warning, "IST0127", false, []any{"spec", "ports", i, "targetPort"},
				fmt.Sprintf("no WorkloadEntry or Pod that the selector picks has a port %s: port %s has no endpoints",
					quoted(name), &s.Spec.Ports[i]),
				"name it in the WorkloadEntry's ports or the Pod's containers, or write its number"))
		}
	}
}

// checkSlice finds an EndpointSlice that leads nowhere: its Service is missing, or has no such port.
func (c *compiler) checkSlice(d *document, slice *kubeSlice, declared map[Key]*kubeService) {
	key := d.serviceKey()
	if key.Name == "" {
		return // validate has said so
	}
	service := declared[key]
	if service == nil {
		c.add(d.finding(Error, "IST0101", false, []any{"metadata", "labels", serviceNameLabel},
			fmt.Sprintf("there is no Service %s in namespace %s: the endpoints belong to nothing", quoted(key.Name), key.Namespace),
			c.serviceHint(key, declared)))
		return
	}
	var names []string
	for i := range service.Spec.Ports {
		names = append(names, quoted(service.Spec.Ports[i].Name))
	}
	for i := range slice.Ports {
		name := slice.Ports[i].Name
		if slices.Contains(names, quoted(name)) {
			continue
		}
		c.add(d.finding(Warning, codeDoubtful, false, []any{"ports", i, "name"},
			fmt.Sprintf("%s has no port named %s: the endpoints' port is not used", key, quoted(name)),
			"its ports are named "+strings.Join(names, ", ")))
	}
}

// serviceHint finds the Service that an EndpointSlice was probably meant for.
func (c *compiler) serviceHint(key Key, declared map[Key]*kubeService) string {
	if c.hints < maxHints {
		c.hints++
		var names []string
		for k := range declared {
			if k.Namespace == key.Namespace {
				names = append(names, k.Name)
			}
		}
		slices.Sort(names)
		if near, ok := nearest(key.Name, names); ok {
			return "did you mean " + quoted(near) + "?"
		}
	}
	return "add the Service to the documents"
}

// checkAliases finds an ExternalName that can be called on no port. One that names a service of the registry has
// that service's ports.
func (c *compiler) checkAliases() {
	for _, s := range c.services {
		if k, ok := s.doc.spec.(*kubeService); ok && k.Spec.isExternal() && s.alias == nil && len(s.ports) == 0 {
			c.add(s.doc.finding(Warning, codeDoubtful, false, []any{"spec", "externalName"},
				fmt.Sprintf("%s is no service of the registry, and the Service has no ports: nothing can call it", quoted(k.Spec.ExternalName)),
				"declare the ports that it is called on"))
		}
	}
}
