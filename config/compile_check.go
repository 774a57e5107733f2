package config

import (
	"fmt"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// checkReferences finds what points at something that is not there. None of it refuses the set: it is
// served as Istio serves it, with 503 and flag NC or UH.
func (c *compiler) checkReferences(docs []*document) {
	c.readEndpoints(docs)
	for _, v := range c.virtuals {
		for i, rule := range v.spec.GetHttp() {
			for j, d := range rule.GetRoute() {
				c.checkDestination(v.doc, []any{"spec", "http", i, "route", j, "destination"}, d.GetDestination())
			}
		}
	}
	for _, d := range docs {
		if spec, ok := d.spec.(*networking.DestinationRule); ok {
			c.checkRule(d, spec)
		}
	}
}

func (c *compiler) checkDestination(d *document, path []any, dest *networking.Destination) {
	host := resolveHost(dest.GetHost(), d.key.Namespace)
	s := c.byHost[host]
	if s == nil {
		c.add(d.finding(Error, "IST0101", false, at(path, "host"),
			fmt.Sprintf("destination host %s (%s) is not in the registry; calls get 503, flag NC", quoted(dest.GetHost()), host),
			c.hostHint(dest.GetHost(), host)))
		return
	}
	n := dest.GetPort().GetNumber()
	if n == 0 && len(s.ports) > 1 {
		c.add(d.finding(Error, "IST0112", false, path,
			fmt.Sprintf("%s has several ports (%s) and the destination names none; the port that the caller used is taken", host, s.portList()),
			"add destination.port.number"))
	}
	if n != 0 && s.port(n) == nil {
		c.add(d.finding(Error, "IST0101", false, at(path, "port", "number"),
			fmt.Sprintf("%s has no port %d; calls get 503, flag NC", host, n), "its ports are "+s.portList()))
	}
	if name := dest.GetSubset(); name != "" {
		rule := c.rule(s)
		if rule == nil {
			c.add(d.finding(Error, "IST0101", false, at(path, "subset"),
				fmt.Sprintf("subset %s of %s is not defined; calls get 503, flag NC", quoted(name), host),
				"no DestinationRule applies to the host: add one with this subset"))
		} else if rule.subset(name) == nil {
			c.add(d.finding(Error, "IST0101", false, at(path, "subset"),
				fmt.Sprintf("subset %s of %s is not defined; calls get 503, flag NC", quoted(name), host),
				fmt.Sprintf("%s (%s) applies to the host%s", rule.first.doc.key, rule.first.doc.place("spec", "host"), rule.subsetList())))
		}
	}
}

func at(path []any, more ...any) []any { return append(slices.Clip(path), more...) }

// maxHints bounds how often the whole registry is searched for a name alike.
const maxHints = 20

// hostHint finds what a host that is not there was probably meant to be.
func (c *compiler) hostHint(written, resolved string) string {
	if s := c.byHost[written]; s != nil && written != resolved {
		return fmt.Sprintf("%s (%s) declares the literal name %s; a short name in a rule means %s: write the ServiceEntry's host that way",
			s.doc.key, s.doc.place("spec", "hosts"), quoted(written), quoted(resolved))
	}
	if c.hints < maxHints {
		c.hints++
		if near, ok := nearest(resolved, sortedKeys(c.byHost)); ok {
			return "did you mean " + quoted(near) + "?"
		}
	}
	return "add a ServiceEntry for it"
}

// checkRule: a DestinationRule for nothing (IST0174), and subsets that select nothing (IST0173).
func (c *compiler) checkRule(d *document, spec *networking.DestinationRule) {
	host := resolveHost(spec.GetHost(), d.key.Namespace)
	var s *service
	if s = c.byHost[host]; s == nil && isWildcard(host) {
		for _, candidate := range c.services {
			if covers(host, candidate.host) {
				return // subsets of a wildcard rule mean other endpoints for each host
			}
		}
	}
	if s == nil {
		if !visible(spec.GetExportTo(), d.key.Namespace, c.workload.Namespace) {
			return
		}
		c.add(d.finding(Warning, "IST0174", false, []any{"spec", "host"},
			fmt.Sprintf("host %s (%s) is not in the registry", quoted(spec.GetHost()), host), c.hostHint(spec.GetHost(), host)))
		return
	}
	for i, sub := range spec.GetSubsets() {
		if !c.selects(s, sub.GetLabels()) {
			c.add(d.finding(Error, "IST0173", false, []any{"spec", "subsets", i, "labels"},
				fmt.Sprintf("no endpoint of %s has the labels of subset %s; calls to it get 503, flag UH", host, quoted(sub.GetName())),
				"compare with the labels of the ServiceEntry's endpoints or of its WorkloadEntries"))
		}
	}
}

// selects reports whether some endpoint of the service has the labels. A service without any endpoint yet
// is not held against a subset.
func (c *compiler) selects(s *service, labels map[string]string) bool {
	endpoints := c.endpoints[s.host]
	return len(endpoints) == 0 || slices.ContainsFunc(endpoints, func(e map[string]string) bool { return hasLabels(e, labels) })
}

// readEndpoints notes the labels of every service's endpoints, and which selectors select nothing
// (IST0127).
func (c *compiler) readEndpoints(docs []*document) {
	c.endpoints = make(map[string][]map[string]string)
	workloads := workloadEntries(docs)
	for _, d := range docs {
		se, ok := d.spec.(*networking.ServiceEntry)
		if !ok {
			continue
		}
		var labels []map[string]string
		for _, e := range se.GetEndpoints() {
			labels = append(labels, e.GetLabels())
		}
		if sel := se.GetWorkloadSelector(); sel != nil {
			for _, w := range workloads[d.key.Namespace] {
				if l := w.spec.(*networking.WorkloadEntry).GetLabels(); hasLabels(l, sel.GetLabels()) {
					labels = append(labels, l)
				}
			}
			if len(labels) == 0 {
				c.add(d.finding(Warning, "IST0127", false, []any{"spec", "workloadSelector"},
					"no WorkloadEntry of namespace "+d.key.Namespace+" has these labels: the service has no endpoints", ""))
			}
		}
		for _, h := range se.GetHosts() {
			h = canonicalName(h)
			if s := c.byHost[h]; s != nil && s.namespace == d.key.Namespace {
				c.endpoints[h] = append(c.endpoints[h], labels...)
			}
		}
	}
}
