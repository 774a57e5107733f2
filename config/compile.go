package config

import (
	"slices"
	"sort"
	"strconv"

	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// compiled is what a set of documents comes to.
type compiled struct {
	snapshot *snapshot.Snapshot
	findings []Finding // about references between documents; none of them refuses
}

// A compiler turns one set of decoded documents into a snapshot for one workload. It lives for one
// compilation.
type compiler struct {
	workload snapshot.Workload
	defaults defaults
	own      *Options // what the program has
	findings []Finding

	mesh      *meshapi.MeshConfig // nil for none
	meshDoc   *document           // where that stands, nil for none
	peers     []*document         // PeerAuthentications, in order of precedence
	scope     *scope
	services  []*service                     // visible to the workload, in order
	byHost    map[string]*service            // by FQDN
	unscoped  map[string]bool                // hosts that are there, whether the Sidecar has them or not; nil without one
	virtuals  []*virtualService              // visible, for the mesh, in order of precedence
	delegates map[Key]*document              // VirtualServices without hosts
	hosted    map[Key]*document              // those with hosts
	delegated []*document                    // those of them that some of virtuals hand over to
	rules     map[string][]*destRule         // by namespace, in order of precedence
	merged    map[ruleKey]*mergedRule        // what merge has merged already
	chosen    map[*service]*mergedRule       // what rule has found already, nil for none
	endpoints map[string][]map[string]string // labels of each service's endpoints, by host
	hints     int
	clusters  []snapshot.Cluster
	clusterAt map[string]int // index by name
	retry     *resilience.Retry
	limits    []snapshot.RateLimit
	limited   []limitedHost   // in order of precedence
	breakers  []breakingHosts // in order of precedence
	here      *balance.Client // see client
}

// compileSet shows the order: the mesh's defaults, what can be seen, then what exists, then which rules apply, and from
// these the routes, which call for their clusters as they name them.
func compileSet(docs []*document, o *Options) compiled {
	c := newCompiler(o.Workload, o.Preset)
	c.own = o
	docs = byPrecedence(docs)
	c.readMesh(docs)
	c.readPeerAuthentications(docs)
	c.readScope(docs)
	c.readVirtualServices(docs)
	c.readServices(docs)
	c.readDestinationRules(docs)
	c.readLimits(docs)
	tables := make(map[string]*routing.Table, len(c.scope.groups))
	var hosts []*routing.VirtualHost
	for i, group := range c.scope.groups {
		own := c.virtualHosts(group)
		c.limitHosts(own)
		hosts = append(hosts, own...)
		scope := snapshot.Mesh
		if i > 0 {
			scope = group[0].scope
		}
		tables[scope] = routing.NewTable(own)
	}
	authentication := c.authentication(docs)
	requests, connections, provider := c.authorization(docs)
	levels := c.telemetryLevels(docs)
	metrics, spans, accessLog := c.metricsView(levels), c.spans(levels), c.accessLog(levels)
	c.checkReferences(docs)
	c.checkLimits(docs, hosts, authentication != nil)
	return compiled{
		snapshot: &snapshot.Snapshot{
			Tables:    tables,
			Clusters:  c.clusters,
			Egress:    c.egress(),
			Outbound:  c.outbound(),
			Limits:    c.limits,
			Inbound:   c.inbound(),
			Service:   c.ownService(docs),
			Metrics:   metrics,
			Tracing:   spans,
			AccessLog: accessLog,

			Authentication: authentication,
			Authorization:  requests, ConnAuthorization: connections,
			Provider: provider,
		},
		findings: c.findings,
	}
}

func newCompiler(w snapshot.Workload, p Preset) *compiler {
	return &compiler{
		workload:  w,
		defaults:  p.defaults(),
		byHost:    make(map[string]*service),
		rules:     make(map[string][]*destRule),
		merged:    make(map[ruleKey]*mergedRule),
		chosen:    make(map[*service]*mergedRule),
		clusterAt: make(map[string]int),
		own:       new(Options),
	}
}

// byPrecedence orders documents as Istio settles conflicts: the oldest first. Where documents have no
// time, as files have not, the order in which they were read decides.
func byPrecedence(docs []*document) []*document {
	docs = slices.Clone(docs)
	sort.SliceStable(docs, func(i, j int) bool { return docs[i].created.Before(docs[j].created) }) // not slices.SortStableFunc: more of every program
	return docs
}

func (c *compiler) add(f Finding) { c.findings = append(c.findings, f) }

// cluster gives the index of the cluster of a service port and subset, making it where it is new. missing
// says why there is none.
func (c *compiler) cluster(host string, port uint32, subset string) (name string, index int, missing string) {
	s := c.service(host)
	if s != nil {
		host = s.host
	}
	name = "outbound|" + strconv.FormatUint(uint64(port), 10) + "|" + subset + "|" + host
	if i, ok := c.clusterAt[name]; ok {
		return name, i, ""
	}
	if s == nil {
		return name, -1, "no Service or ServiceEntry declares host " + host
	}
	p := s.port(port)
	if p == nil {
		return name, -1, host + " has no port " + strconv.FormatUint(uint64(port), 10) + ", only " + s.portList()
	}
	made, missing := c.policy(s, p, subset)
	if missing != "" {
		return name, -1, missing
	}
	if t := c.mesh.GetConnectTimeout(); t != nil && made.Policy.ConnectTimeout == 0 {
		made.Policy.ConnectTimeout = t.AsDuration()
	}
	index = len(c.clusters)
	c.clusterAt[name] = index
	made.Name, made.Set, made.Subset = name, discovery.Key{Host: host, Port: uint16(port)}, subset
	made.Breaker, made.Origin = c.breaker(host), c.clusterOrigin(s, port, subset)
	c.clusters = append(c.clusters, made)
	return name, index, ""
}
