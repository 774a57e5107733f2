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
		c.checkDestinations(v.doc)
	}
	for _, d := range c.delegated {
		c.checkDestinations(d)
	}
	c.checkDelegates(docs)
	for _, d := range docs {
		if spec, ok := d.spec.(*networking.DestinationRule); ok {
			c.checkRule(d, spec)
		}
	}
	c.checkUnmerged()
	c.checkAliases()
	c.checkSidecars(docs)
	c.checkEgress()
	c.lint(docs)
}

// What becomes of requests whose destination is not there.
const (
	callsFail  = "calls get 503, flag NC"
	connsFail  = "connections are reset, flag NC"
	copiesLost = "copies go nowhere"
)

func (c *compiler) checkDestinations(d *document) {
	spec := d.spec.(*networking.VirtualService)
	for _, rule := range append(tlsRules(spec), tcpRules(spec)...) {
		for j, to := range rule.route {
			c.checkDestination(d, []any{"spec", rule.field, rule.index, "route", j, "destination"}, to.GetDestination(), connsFail)
		}
	}
	for i, rule := range spec.GetHttp() {
		for j, to := range rule.GetRoute() {
			c.checkDestination(d, []any{"spec", "http", i, "route", j, "destination"}, to.GetDestination(), callsFail)
		}
		if m := rule.GetMirror(); m != nil {
			c.checkDestination(d, []any{"spec", "http", i, "mirror"}, m, copiesLost)
		}
		for j, m := range rule.GetMirrors() {
			c.checkDestination(d, []any{"spec", "http", i, "mirrors", j, "destination"}, m.GetDestination(), copiesLost)
		}
	}
}

func (c *compiler) checkDestination(d *document, path []any, dest *networking.Destination, effect string) {
	host := resolveHost(dest.GetHost(), d.key.Namespace)
	s := c.service(host)
	if s == nil {
		c.add(d.finding(Error, "IST0101", false, at(path, "host"),
			fmt.Sprintf("destination host %s (%s) is not in the registry; %s", quoted(dest.GetHost()), host, effect),
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
			fmt.Sprintf("%s has no port %d; %s", host, n, effect), "its ports are "+s.portList()))
	}
	if name := dest.GetSubset(); name != "" {
		rule := c.rule(s)
		if rule == nil {
			c.add(d.finding(Error, "IST0101", false, at(path, "subset"),
				fmt.Sprintf("subset %s of %s is not defined; %s", quoted(name), host, effect),
				"no DestinationRule applies to the host: add one with this subset"))
		} else if rule.subset(name) == nil {
			c.add(d.finding(Error, "IST0101", false, at(path, "subset"),
				fmt.Sprintf("subset %s of %s is not defined; %s", quoted(name), host, effect),
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

// checkUnmerged finds rules for one host that are not merged because they are exported differently: of the second
// nothing is used.
func (c *compiler) checkUnmerged() {
	for _, namespace := range sortedKeys(c.rules) {
		firsts := make(map[ruleKey]*destRule)
		for _, r := range c.rules[namespace] {
			key := ruleKey{namespace, r.host, r.spec.GetWorkloadSelector() != nil}
			first := firsts[key]
			if first == nil {
				firsts[key] = r
			} else if !slices.Equal(r.spec.GetExportTo(), first.spec.GetExportTo()) {
				c.add(r.doc.finding(Warning, codeOvershadowed, false, []any{"spec", "exportTo"},
					fmt.Sprintf("nothing of this rule is used where %s (%s) is seen, which goes before it, %s: rules that are exported differently are not merged",
						first.doc.key, first.doc.place("spec", "host"), before(first.doc, r.doc)), "give both the same exportTo"))
			}
		}
	}
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
		if c.unscoped[host] || !c.sees(spec.GetExportTo(), c.mesh.GetDefaultDestinationRuleExportTo(), d.key.Namespace) {
			return
		}
		c.add(d.finding(Warning, "IST0174", false, []any{"spec", "host"},
			fmt.Sprintf("host %s (%s) is not in the registry", quoted(spec.GetHost()), host), c.hostHint(spec.GetHost(), host)))
		return
	}
	if s.alias != nil {
		c.add(d.finding(Warning, codeDoubtful, false, []any{"spec", "host"},
			fmt.Sprintf("%s is another name of %s (%s): the rules for that host apply to it, not these", host, s.alias.host, s.doc.key),
			"write host: "+s.alias.host))
		return
	}
	for i, sub := range spec.GetSubsets() {
		if !c.selects(s, sub.GetLabels()) {
			c.add(d.finding(Error, "IST0173", false, []any{"spec", "subsets", i, "labels"},
				fmt.Sprintf("no endpoint of %s has the labels of subset %s; calls to it get 503, flag UH", host, quoted(sub.GetName())),
				labelsHint(s.doc)))
		}
	}
}

// labelsHint says where the labels of a service's endpoints are written.
func labelsHint(d *document) string {
	if d.isService() {
		return "compare with the labels of its WorkloadEntries or Pods; an EndpointSlice has none of its own, its endpoints have those " +
			"of the Pods that targetRef names"
	}
	return "compare with the labels of the ServiceEntry's endpoints or of its WorkloadEntries"
}

// selects reports whether some endpoint of the service has the labels. A service without any endpoint yet
// is not held against a subset.
func (c *compiler) selects(s *service, labels map[string]string) bool {
	endpoints := c.endpoints[s.host]
	return len(endpoints) == 0 || slices.ContainsFunc(endpoints, func(e map[string]string) bool { return hasLabels(e, labels) })
}

// readEndpoints notes the labels of every service's endpoints, and finds services that have none, though they
// say where theirs are (IST0127), and EndpointSlices that lead nowhere.
func (c *compiler) readEndpoints(docs []*document) {
	c.endpoints = make(map[string][]map[string]string)
	b := newBacking(docs)
	declared := make(map[Key]*kubeService)
	var without []*document
	for _, d := range docs {
		if d.entry == nil {
			continue
		}
		labels := b.labels(d)
		if d.entry.GetWorkloadSelector() != nil && len(labels) == 0 {
			without = append(without, d)
		}
		if s, ok := d.spec.(*kubeService); ok {
			declared[d.key] = s
			c.checkTargets(d, s, b)
		}
		for _, h := range d.entry.GetHosts() {
			h = canonicalName(h)
			if s := c.byHost[h]; d.declares(s) {
				c.endpoints[h] = append(c.endpoints[h], labels...)
			}
		}
	}
	for _, d := range without {
		// Those of a Service may be in a ServiceEntry too.
		if !d.isService() || len(c.endpoints[d.entry.GetHosts()[0]]) == 0 {
			c.add(noEndpoints(d))
		}
	}
	for _, d := range docs {
		if s, ok := d.spec.(*kubeSlice); ok {
			c.checkSlice(d, s, declared)
		}
	}
}

func noEndpoints(d *document) Finding {
	if d.isService() {
		return d.finding(Warning, "IST0127", false, []any{"spec", "selector"},
			"nothing of namespace "+d.key.Namespace+" has these labels: the service has no endpoints, calls get 503, flag UH",
			"add its EndpointSlices or Pods, or WorkloadEntries with these labels")
	}
	return d.finding(Warning, "IST0127", false, []any{"spec", "workloadSelector"},
		"no WorkloadEntry of namespace "+d.key.Namespace+" has these labels: the service has no endpoints", "")
}
