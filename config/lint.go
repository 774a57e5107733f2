package config

import (
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	"github.com/heddlemesh/mesh/discovery"
)

// Lints are about documents that are carried out as they stand, which is hardly what their author expects. A
// Warning is certain: what is written has no effect, or not the one that its words promise. An Info may well
// be meant. None of them refuses, unless the configuration is strict.
const (
	codeNeverRetried   = "HDL0101" // a per-try timeout that is never retried
	codeTriesTooLong   = "HDL0102" // tries that together exceed the timeout
	codeNotIdempotent  = "HDL0103" // retry conditions on methods that are not repeated
	codeRetriesNothing = "HDL0104" // retryOn that never applies
	codeNoTimeout      = "HDL0105" // a timeout of 0s
	codeNoFault        = "HDL0106" // a fault that is never injected
	codeMirrorsWrites  = "HDL0107" // a mirror of methods that change something
	codeLoneWeight     = "HDL0108" // a weight without effect

	codePortDrops       = "HDL0111" // portLevelSettings that drop what stands beside them
	codePortUnknown     = "HDL0112" // portLevelSettings for a port that there is not
	codeNeverEjects     = "HDL0113" // outlierDetection in a pool that is too small for it
	codeTurnsOnFailover = "HDL0114" // outlierDetection that turns on locality failover
	codeNeverReached    = "HDL0115" // a threshold behind another
	codeZero            = "HDL0116" // a zero that means the default
	codeNotAutomatic    = "HDL0117" // a tls block that switches automatic mTLS off
	codeNoAlgorithm     = "HDL0118" // a loadBalancer that says nothing
	codeUnusedPolicy    = "HDL0119" // a subset's policy that no rule leads to
	codeOvershadowed    = "HDL0120" // a DestinationRule behind another

	codeNoResolution = "HDL0121" // a ServiceEntry without resolution
	codeNoLocation   = "HDL0122" // a ServiceEntry without location
	codeRegistryOnly = "HDL0123" // a Sidecar that blocks by a zero value
	codeNotHTTP      = "HDL0124" // a rule of a policy that asks for something of HTTP on a port of TCP

	codeGateway = "HDL0125" // a Gateway that istiod refuses

	codeEmptyListener = "HDL0126" // a listener for calls whose port no host has

	// istioctl's.
	codeNoWorkload      = "IST0127" // a selector that picks nothing
	codeUnverified      = "IST0128" // TLS without verification of the server
	codeUnverifiedPort  = "IST0129" // the same for one port
	codeGatewayHost     = "IST0132" // a host that no gateway of the rule serves
	codeNeedsAddresses  = "IST0134" // a TCP service that takes its port on every address
	codeSameGatewayHost = "IST0145" // two gateways that serve the same
)

// A linter looks over the documents of one compilation.
type linter struct {
	*compiler
	d     *document
	found int // in d
	// usedSubsets has every host and subset that a rule of the set leads to.
	usedSubsets map[subsetKey]bool
	// sets are the endpoints of the set's services, made when the first lint asks for them.
	sets map[discovery.Key]*discovery.Set
	// backs is the workloads of the set, made as sets is.
	backs *backing
	docs  []*document
}

type subsetKey struct{ host, subset string }

// lint looks for what is accepted and hardly meant.
func (c *compiler) lint(docs []*document) {
	l := linter{compiler: c, docs: docs, usedSubsets: subsetsInUse(docs)}
	p := fieldPath{"spec"}
	for _, d := range docs {
		l.d, l.found = d, 0
		switch s := d.spec.(type) {
		case *networking.VirtualService:
			l.virtualService(p, s)
		case *networking.DestinationRule:
			l.destinationRule(p, s)
		case *networking.ServiceEntry:
			l.serviceEntry(p, s)
		case *networking.Sidecar:
			l.sidecar(p, s)
		case *security.AuthorizationPolicy:
			l.policySelector(p.at("selector"), s.GetSelector().GetMatchLabels())
			l.authorizationPolicy(p, s)
		case *security.RequestAuthentication:
			l.policySelector(p.at("selector"), s.GetSelector().GetMatchLabels())
		case *security.PeerAuthentication:
			l.policySelector(p.at("selector"), s.GetSelector().GetMatchLabels())
		}
	}
	l.gateways()
}

func (l *linter) warn(p fieldPath, code, message, hint string) {
	l.say(Warning, p, code, message, hint)
}
func (l *linter) inform(p fieldPath, code, message, hint string) { l.say(Info, p, code, message, hint) }

// say keeps a finding while there are few of the document.
func (l *linter) say(level Level, p fieldPath, code, message, hint string) {
	if l.found++; l.found <= maxDocumentFindings {
		l.add(l.d.finding(level, code, false, p, message, hint))
	}
}

// written reports whether the document has the field, be it with its zero value.
func (l *linter) written(p fieldPath) bool {
	return l.d.has(p)
}

// backing gives the workloads of the set.
func (l *linter) backing() *backing {
	if l.backs == nil {
		l.backs = newBacking(l.docs)
	}
	return l.backs
}

// endpoints gives the endpoints of the set's services.
func (l *linter) endpoints() map[discovery.Key]*discovery.Set {
	if l.sets == nil {
		l.sets = endpointSets(l.docs, l.workload)
	}
	return l.sets
}

// endpointsOf lists the endpoints of a service's port that has most. known says that they are what they seem: a
// name may stand for any number.
func (l *linter) endpointsOf(s *service) (list []*discovery.Endpoint, known bool) {
	var most *discovery.Set
	for _, p := range s.ports {
		set := l.endpoints()[discovery.Key{Host: s.host, Port: uint16(p.number)}]
		if set != nil && (most == nil || set.Len() > most.Len()) {
			most = set
		}
	}
	if most == nil {
		return nil, false
	}
	known = s.resolution == networking.ServiceEntry_STATIC
	for i := range most.Len() {
		list = append(list, most.At(i))
		known = known && !most.At(i).Resolve
	}
	return list, known
}

// subsetsInUse lists the subsets that rules of the documents send to.
func subsetsInUse(docs []*document) map[subsetKey]bool {
	used := make(map[subsetKey]bool)
	for _, d := range docs {
		v, ok := d.spec.(*networking.VirtualService)
		if !ok {
			continue
		}
		use := func(dest *networking.Destination) {
			if dest.GetSubset() != "" {
				used[subsetKey{resolveHost(dest.GetHost(), d.key.Namespace), dest.GetSubset()}] = true
			}
		}
		for _, r := range v.GetHttp() {
			for _, to := range r.GetRoute() {
				use(to.GetDestination())
			}
			for _, m := range r.GetMirrors() {
				use(m.GetDestination())
			}
			use(r.GetMirror())
		}
		for _, r := range append(tlsRules(v), tcpRules(v)...) {
			for _, to := range r.route {
				use(to.GetDestination())
			}
		}
	}
	return used
}
