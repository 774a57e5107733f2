package config

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// policyBlocks are the parts of a policy that settings for a port have too.
type policyBlocks interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}

// A lintedPolicy is one place where a policy is written.
type lintedPolicy struct {
	path   fieldPath
	blocks policyBlocks
	above  *networking.TrafficPolicy // whose blocks it inherits, nil where it inherits none
	labels map[string]string         // of its subset
	port   bool                      // settings for one port
}

func (l *linter) destinationRule(p fieldPath, r *networking.DestinationRule) {
	host := resolveHost(r.GetHost(), l.d.key.Namespace)
	s := l.byHost[host]
	if s != nil && s.alias != nil {
		s = nil // checkRule says that the rule is not used
	}
	whole := r.GetTrafficPolicy()
	l.trafficPolicy(p.at("trafficPolicy"), host, s, whole, nil, nil)
	for i, sub := range r.GetSubsets() {
		at := p.at("subsets", i)
		l.trafficPolicy(at.at("trafficPolicy"), host, s, sub.GetTrafficPolicy(), whole, sub.GetLabels())
		if sub.GetTrafficPolicy() != nil && !isWildcard(host) && !l.usedSubsets[subsetKey{host, sub.GetName()}] {
			l.inform(at.at("trafficPolicy"), codeUnusedPolicy,
				fmt.Sprintf("no rule of these documents sends to subset %s: its policy is for no call", quoted(sub.GetName())),
				"name the subset in a VirtualService, or write the policy beside subsets")
		}
	}
	if s != nil {
		l.overshadowed(p, r, s)
	}
}

// trafficPolicy looks at one policy and its settings for ports. above is the policy that it overrides.
func (l *linter) trafficPolicy(p fieldPath, host string, s *service, t, above *networking.TrafficPolicy, labels map[string]string) {
	if t == nil {
		return
	}
	l.policy(host, s, lintedPolicy{path: p, blocks: t, above: above, labels: labels})
	beside := blockNames(t)
	for _, name := range blockNames(above) {
		if !isIn(name, beside...) {
			beside = append(beside, name)
		}
	}
	for i, port := range t.GetPortLevelSettings() {
		at := p.at("portLevelSettings", i)
		l.policy(host, s, lintedPolicy{path: at, blocks: port, labels: labels, port: true})
		var dropped []string
		for _, name := range beside {
			if !isIn(name, blockNames(port)...) {
				dropped = append(dropped, name)
			}
		}
		n := port.GetPort().GetNumber()
		if s != nil && s.port(n) == nil {
			l.warn(at.at("port", "number"), codePortUnknown, fmt.Sprintf("%s has no port %d: these settings are for nothing", s.host, n),
				"its ports are "+s.portList())
		} else if len(dropped) > 0 {
			l.warn(at, codePortDrops, fmt.Sprintf("port %d has no %s: settings for a port replace the whole policy, and do not add to it",
				n, listed(dropped)), "repeat here what shall hold for the port too")
		}
	}
}

func blockNames(t policyBlocks) []string {
	var names []string
	if t.GetLoadBalancer() != nil {
		names = append(names, "loadBalancer")
	}
	if t.GetConnectionPool() != nil {
		names = append(names, "connectionPool")
	}
	if t.GetOutlierDetection() != nil {
		names = append(names, "outlierDetection")
	}
	if t.GetTls() != nil {
		names = append(names, "tls")
	}
	return names
}

func (l *linter) policy(host string, s *service, t lintedPolicy) {
	l.algorithm(t.path.at("loadBalancer"), t.blocks.GetLoadBalancer())
	l.pool(t.path.at("connectionPool"), t.blocks.GetConnectionPool())
	if t.blocks.GetOutlierDetection() != nil {
		l.outlier(s, &t)
	}
	if t.blocks.GetTls() != nil {
		l.tls(host, s, &t)
	}
}

func (l *linter) algorithm(p fieldPath, lb *networking.LoadBalancerSettings) {
	if lb == nil {
		return
	}
	for _, name := range setFields(lb) {
		if name != "simple" || lb.GetSimple() != networking.LoadBalancerSettings_UNSPECIFIED {
			return
		}
	}
	l.inform(p, codeNoAlgorithm, "loadBalancer names no algorithm: LEAST_REQUEST is taken, as without it", "write simple: LEAST_REQUEST, or remove it")
}

// pool: a limit of 0 is none.
func (l *linter) pool(p fieldPath, pool *networking.ConnectionPoolSettings) {
	tcp, http := p.at("tcp"), p.at("http")
	for _, limit := range []struct {
		path fieldPath
		n    int32
	}{
		{tcp.at("maxConnections"), pool.GetTcp().GetMaxConnections()},
		{http.at("http1MaxPendingRequests"), pool.GetHttp().GetHttp1MaxPendingRequests()},
		{http.at("http2MaxRequests"), pool.GetHttp().GetHttp2MaxRequests()},
		{http.at("maxRetries"), pool.GetHttp().GetMaxRetries()},
	} {
		if limit.n == 0 && l.written(limit.path) {
			l.inform(limit.path, codeZero, fieldName(limit.path)+" 0 is no limit, which is the default", "write 1 or more, or remove it")
		}
	}
}

// tls: a block takes the place of automatic mTLS, whatever it says.
func (l *linter) tls(host string, s *service, t *lintedPolicy) {
	p, tls := t.path.at("tls"), t.blocks.GetTls()
	if tls.GetInsecureSkipVerify().GetValue() {
		code := codeUnverified
		if t.port {
			code = codeUnverifiedPort
		}
		l.warn(p.at("insecureSkipVerify"), code, "the certificate of "+host+" is not verified: anybody can answer in its place",
			"write caCertificates, or nothing for the system's")
	}
	if !l.written(p.at("mode")) {
		l.warn(p, codeNotAutomatic, "tls without a mode is DISABLE: connections are in plain text, and automatic mTLS is off", "write mode, or remove the block")
		return
	}
	if tls.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
		return
	}
	message := "mode " + tls.GetMode().String() + " takes the place of automatic mTLS"
	switch {
	case isWildcard(host) && coversMesh(host):
		l.warn(p, codeNotAutomatic, message+" for every service that "+quoted(host)+" covers, those of the mesh too",
			"name the hosts that need it, or write ISTIO_MUTUAL")
	case s != nil && s.doc.entry.GetLocation() == networking.ServiceEntry_MESH_INTERNAL:
		l.inform(p, codeNotAutomatic, message+" for a service of the mesh", "remove the block, or write ISTIO_MUTUAL, where its workloads speak mTLS")
	}
}

// coversMesh reports a wildcard that takes services of the cluster.
func coversMesh(wildcard string) bool {
	suffix := strings.TrimPrefix(wildcard[1:], ".")
	return suffix == "" || strings.HasSuffix("svc."+clusterDomain, suffix) || strings.HasSuffix(suffix, ".svc."+clusterDomain)
}

// overshadowed finds a rule whose policy another has the place of. Those that are not merged at all checkUnmerged finds.
func (l *linter) overshadowed(p fieldPath, r *networking.DestinationRule, s *service) {
	used := l.rule(s)
	if used == nil || used.first.doc == l.d || used.first.host != s.host {
		return
	}
	first := fmt.Sprintf("%s (%s)", used.first.doc.key, used.first.doc.place("spec", "host"))
	if used.first.doc.key.Namespace != l.d.key.Namespace {
		if l.sees(r.GetExportTo(), l.mesh.GetDefaultDestinationRuleExportTo(), l.d.key.Namespace) {
			l.inform(p.at("host"), codeOvershadowed, fmt.Sprintf("calls from namespace %s follow %s and not this rule", l.workload.Namespace, first), "")
		}
		return
	}
	// A rule with a selector goes before one without, by design.
	if (r.GetWorkloadSelector() != nil) != (used.first.spec.GetWorkloadSelector() != nil) || !slices.Equal(r.GetExportTo(), used.first.spec.GetExportTo()) {
		return
	}
	if r.GetTrafficPolicy() != nil && used.policy.doc != l.d {
		by := used.policy.doc
		l.warn(p.at("trafficPolicy"), codeOvershadowed, fmt.Sprintf("not used: the policy for %s is that of %s (%s), which goes before it, %s",
			s.host, by.key, by.place("spec", "host"), before(by, l.d)),
			"merge the two, or give the policy to subsets")
	}
	for i, sub := range r.GetSubsets() {
		if have := used.subset(sub.GetName()); have != nil && have.doc != l.d {
			l.warn(p.at("subsets", i, "name"), codeOvershadowed, fmt.Sprintf("not used: subset %s of %s is that of %s (%s), which goes before it, %s",
				quoted(sub.GetName()), s.host, have.doc.key, have.doc.place("spec", "subsets", have.index), before(have.doc, l.d)), "give it another name, or remove one of them")
		}
	}
}
