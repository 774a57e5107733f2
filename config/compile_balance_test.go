package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// policyOf compiles reviews under the trafficPolicy and gives what comes out for its port.
func policyOf(t *testing.T, w snapshot.Workload, policy string, more ...string) *snapshot.Policy {
	t.Helper()
	docs := append([]string{doc("ServiceEntry", "reviews", reviewsEntry),
		doc("DestinationRule", "reviews", "{host: reviews, trafficPolicy: "+policy+"}")}, more...)
	world := newWorld(t, Options{Workload: w}, docs...)
	if world.live == nil {
		t.Fatal(world.Status().Refused)
	}
	for i := range world.live.Clusters {
		if world.live.Clusters[i].Name == "outbound|9080||"+reviewsFQDN {
			return &world.live.Clusters[i].Policy
		}
	}
	t.Fatal("no cluster")
	return nil
}

func TestCompilesBalancing(t *testing.T) {
	t.Parallel()
	from := snapshot.Workload{Locality: "eu/a/1", Labels: map[string]string{"app": "web"}}
	client := &balance.Client{Locality: balance.Locality{Region: "eu", Zone: "a", SubZone: "1"}, Labels: from.Labels}
	hash := func(p snapshot.HashPolicy, c balance.Config) snapshot.Policy {
		return snapshot.Policy{Config: c, Hash: p}
	}
	ring, maglev := balance.Config{Algorithm: balance.RingHash}, balance.Config{Algorithm: balance.Maglev}
	header := snapshot.HashPolicy{Kind: snapshot.HashHeader, Name: "x-user", Header: call.NewName("x-user")}
	cookie := func(c *snapshot.Cookie) snapshot.HashPolicy {
		return snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: "s", Cookie: c}
	}
	near := func(p balance.LocalityPolicy) snapshot.Policy {
		return snapshot.Policy{Config: balance.Config{Locality: &p, Client: client}}
	}
	warm := func(seconds, percent, aggression float64) snapshot.Policy {
		return snapshot.Policy{Config: balance.Config{Warmup: balance.Warmup{
			Duration: time.Duration(seconds * float64(time.Second)), MinimumPercent: percent, Aggression: aggression}}}
	}
	for name, c := range map[string]struct {
		policy string
		want   snapshot.Policy
	}{
		"nothing":                {`{}`, snapshot.Policy{}},
		"header":                 {`{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}`, hash(header, ring)},
		"query":                  {`{loadBalancer: {consistentHash: {httpQueryParameterName: u}}}`, hash(snapshot.HashPolicy{Kind: snapshot.HashQuery, Name: "u"}, ring)},
		"source":                 {`{loadBalancer: {consistentHash: {useSourceIp: true}}}`, hash(snapshot.HashPolicy{Kind: snapshot.HashSource}, ring)},
		"cookie, read only":      {`{loadBalancer: {consistentHash: {httpCookie: {name: s}}}}`, hash(cookie(nil), ring)},
		"cookie of the session":  {`{loadBalancer: {consistentHash: {httpCookie: {name: s, ttl: 0s}}}}`, hash(cookie(&snapshot.Cookie{}), ring)},
		"cookie, path and ttl":   {`{loadBalancer: {consistentHash: {httpCookie: {name: s, path: /a, ttl: 60s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}}}}`, hash(cookie(&snapshot.Cookie{TTL: time.Minute, Path: "/a", Attributes: []snapshot.CookieAttribute{{Name: "SameSite", Value: "Strict"}, {Name: "Secure"}}}), ring)},
		"ring of a size":         {`{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 4096}}}}`, hash(header, balance.Config{Algorithm: balance.RingHash, RingSize: 4096})},
		"ring in the old form":   {`{loadBalancer: {consistentHash: {httpHeaderName: x-user, minimumRingSize: 2048}}}`, hash(header, balance.Config{Algorithm: balance.RingHash, RingSize: 2048})},
		"maglev":                 {`{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {}}}}`, hash(header, maglev)},
		"maglev of a size":       {`{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 1031}}}}`, hash(header, balance.Config{Algorithm: balance.Maglev, TableSize: 1031})},
		"warm-up":                {`{loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s}}}`, warm(30, 10, 1)},
		"warm-up in full":        {`{loadBalancer: {warmup: {duration: 30s, minimumPercent: 0, aggression: 2}, simple: LEAST_REQUEST}}`, warm(30, 0, 2)},
		"warm-up, old form":      {`{loadBalancer: {warmupDurationSecs: 45s}}`, warm(45, 10, 1)},
		"panic":                  {`{outlierDetection: {minHealthPercent: 40}}`, func() snapshot.Policy { p := near(balance.LocalityPolicy{}); p.PanicThreshold = 40; return p }()},
		"outlier detection":      {`{outlierDetection: {}}`, near(balance.LocalityPolicy{})},
		"outlier, not near":      {`{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}`, snapshot.Policy{}},
		"failover alone":         {`{loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}}`, snapshot.Policy{}},
		"failover":               {`{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}}`, near(balance.LocalityPolicy{Failover: []balance.Failover{{From: "eu", To: "us"}}})},
		"failoverPriority":       {`{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [version, "tier=1"]}}}`, near(balance.LocalityPolicy{FailoverPriority: []string{"version", "tier=1"}})},
		"distribute, no outlier": {`{loadBalancer: {localityLbSetting: {distribute: [{from: eu/*, to: {"*": 20, "eu/a/*": 50, "eu/*": 30}}]}}}`, near(balance.LocalityPolicy{Distribute: []balance.Distribution{{From: "eu/*", To: []balance.Share{{To: "eu/a/*", Weight: 50}, {To: "eu/*", Weight: 30}, {To: "*", Weight: 20}}}}})},
		"distribute, off":        {`{loadBalancer: {localityLbSetting: {enabled: false, distribute: [{from: eu, to: {eu: 100}}]}}}`, snapshot.Policy{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := policyOf(t, from, c.policy)
			got.Outlier = nil // see TestOutlierDetection
			if !got.Same(&c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestMeshLocality: the mesh's setting counts where the rule has none.
func TestMeshLocality(t *testing.T) {
	t.Parallel()
	off := `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    localityLbSetting: {enabled: false}
`
	if p := policyOf(t, snapshot.Workload{}, `{outlierDetection: {}}`, off); p.Locality != nil {
		t.Errorf("%+v", p.Locality)
	}
	if p := policyOf(t, snapshot.Workload{}, `{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}`, off); p.Locality == nil {
		t.Error("a rule's setting does not replace the mesh's as a whole")
	}
}

// TestMeshDefaultsWithoutARule: what the mesh says of connections and places counts for services that no rule is for.
func TestMeshDefaultsWithoutARule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Workload: snapshot.Workload{Locality: "eu/a/1"}}, doc("ServiceEntry", "reviews", reviewsEntry), `
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  h2UpgradePolicy: UPGRADE
  tcpKeepalive: {time: 60s, probes: 2}
  localityLbSetting: {distribute: [{from: eu/*, to: {eu/*: 100}}]}
`)
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	want := snapshot.Policy{Protocol: snapshot.HTTP2, Connections: snapshot.Connections{KeepAlive: snapshot.KeepAlive{Set: true, Time: time.Minute, Probes: 2}},
		Config: balance.Config{Locality: &balance.LocalityPolicy{Distribute: []balance.Distribution{{From: "eu/*", To: []balance.Share{{To: "eu/*", Weight: 100}}}}},
			Client: &balance.Client{Locality: balance.ParseLocality("eu/a/1")}}}
	if p := &w.live.Clusters[0].Policy; !p.Same(&want) {
		t.Errorf("%+v, want %+v", p, want)
	}
}

// TestHashedRetriesStay: retries stay with a hashed destination unless the rule says otherwise.
func TestHashedRetriesStay(t *testing.T) {
	t.Parallel()
	const hashed = "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"
	for name, c := range map[string]struct {
		policy, http string
		avoids       bool
	}{
		"no rule":                {hashed, "", false},
		"not hashed":             {"{}", "", true},
		"rule":                   {hashed, "{route: [{destination: {host: reviews}}]}", false},
		"rule with retries":      {hashed, "{retries: {attempts: 3}, route: [{destination: {host: reviews}}]}", false},
		"rule that says so":      {hashed, "{retries: {attempts: 3, retryIgnorePreviousHosts: true}, route: [{destination: {host: reviews}}]}", true},
		"rule that says not":     {"{}", "{retries: {attempts: 3, retryIgnorePreviousHosts: false}, route: [{destination: {host: reviews}}]}", false},
		"several destinations":   {hashed, "{route: [{destination: {host: reviews}, weight: 1}, {destination: {host: reviews}, weight: 1}]}", true},
		"destination is missing": {hashed, "{route: [{destination: {host: reviews, subset: none}}]}", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs := []string{doc("ServiceEntry", "reviews", reviewsEntry), doc("DestinationRule", "reviews", "{host: reviews, trafficPolicy: "+c.policy+"}")}
			if c.http != "" {
				docs = append(docs, doc("VirtualService", "reviews", "{hosts: [reviews], http: ["+c.http+"]}"))
			}
			w := newWorld(t, Options{}, docs...)
			v, _ := w.live.Tables[snapshot.Mesh].Lookup(reviewsFQDN, 9080)
			if got := v.Routes[0].Retry.AvoidPrevious; got != c.avoids {
				t.Errorf("avoids endpoints already tried: %v, want %v", got, c.avoids)
			}
		})
	}
}

func TestCompilesConnections(t *testing.T) {
	t.Parallel()
	pool := func(c snapshot.Connections) snapshot.Policy { return snapshot.Policy{Connections: c} }
	secured := func(t snapshot.TLS) snapshot.Policy { return snapshot.Policy{TLS: &t} }
	upgraded := snapshot.Policy{Protocol: snapshot.HTTP2}
	for name, c := range map[string]struct {
		policy string
		want   snapshot.Policy
	}{
		"idle of HTTP before TCP": {`{connectionPool: {tcp: {idleTimeout: 1s}, http: {idleTimeout: 2s}}}`, pool(snapshot.Connections{Idle: 2 * time.Second})},
		"idle of TCP":             {`{connectionPool: {tcp: {idleTimeout: 1s}}}`, pool(snapshot.Connections{Idle: time.Second})},
		"age":                     {`{connectionPool: {tcp: {maxConnectionDuration: 1m}}}`, pool(snapshot.Connections{MaxAge: time.Minute})},
		"keep-alive":              {`{connectionPool: {tcp: {tcpKeepalive: {time: 60s, interval: 10s, probes: 4}}}}`, pool(snapshot.Connections{KeepAlive: snapshot.KeepAlive{Set: true, Time: time.Minute, Interval: 10 * time.Second, Probes: 4}})},
		"keep-alive of defaults":  {`{connectionPool: {tcp: {tcpKeepalive: {}}}}`, pool(snapshot.Connections{KeepAlive: snapshot.KeepAlive{Set: true}})},
		"one request each":        {`{connectionPool: {http: {maxRequestsPerConnection: 1}}}`, pool(snapshot.Connections{MaxRequests: 1})},
		"two requests each":       {`{connectionPool: {http: {maxRequestsPerConnection: 2}}}`, pool(snapshot.Connections{MaxRequests: 2})},
		"limits": {`{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2, http2MaxRequests: 3}}}`,
			snapshot.Policy{Limits: resilience.Limits{Connections: 1, Pending: 2, Requests: 3}}},
		"pings":                 {`{connectionPool: {http: {http2KeepAlive: {interval: 10s, timeout: 2s}}}}`, pool(snapshot.Connections{Ping: snapshot.Ping{Interval: 10 * time.Second, Timeout: 2 * time.Second}})},
		"upgrade":               {`{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}`, upgraded},
		"no upgrade":            {`{connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}`, snapshot.Policy{}},
		"the caller's protocol": {`{connectionPool: {http: {useClientProtocol: true}}}`, pool(snapshot.Connections{ClientProtocol: true})},
		"tls DISABLE":           {`{tls: {mode: DISABLE}}`, snapshot.Policy{}},
		"tls SIMPLE":            {`{tls: {mode: SIMPLE}}`, secured(snapshot.TLS{})},
		"tls SIMPLE in full":    {`{tls: {mode: SIMPLE, caCertificates: /ca, caCrl: /crl, sni: a.b, subjectAltNames: [a.b, "spiffe://x/y"]}}`, secured(snapshot.TLS{CAFile: "/ca", RevocationFile: "/crl", ServerName: "a.b", Names: "a.b\nspiffe://x/y"})},
		"tls MUTUAL":            {`{tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}`, secured(snapshot.TLS{CertificateFile: "/c", KeyFile: "/k"})},
		"tls SIMPLE has no own": {`{tls: {mode: SIMPLE, clientCertificate: /c, privateKey: /k}}`, secured(snapshot.TLS{})},
		"tls not verified":      {`{tls: {mode: SIMPLE, insecureSkipVerify: true}}`, secured(snapshot.TLS{SkipVerify: true})},
		"tls of the port":       {`{tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 9080}, tls: {mode: SIMPLE, sni: p}}]}`, secured(snapshot.TLS{ServerName: "p"})},
		"tls not of the port":   {`{tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 9080}}]}`, snapshot.Policy{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := policyOf(t, snapshot.Workload{}, c.policy); !got.Same(&c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestServiceNamesOfCertificates: what a ServiceEntry's certificate is for counts where the rule does not say.
func TestServiceNamesOfCertificates(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "api", `{hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, subjectAltNames: [a.example.com, b.example.com]}`)
	names := func(tls string) string {
		w := newWorld(t, Options{}, entry, doc("DestinationRule", "api", "{host: api.example.com, trafficPolicy: {tls: "+tls+"}}"))
		return w.live.Clusters[0].Policy.TLS.Names
	}
	if got := names("{mode: SIMPLE}"); got != "a.example.com\nb.example.com" {
		t.Errorf("%q", got)
	}
	if got := names("{mode: SIMPLE, subjectAltNames: [c]}"); got != "c" {
		t.Errorf("%q", got)
	}
}

// TestPassthrough: PASSTHROUGH and resolution NONE leave the endpoint to the caller, and say what they cannot do.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "api", `{hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}`)
	rule := func(policy string) string {
		return doc("DestinationRule", "api", "{host: api.example.com, trafficPolicy: {"+policy+"}}")
	}
	for policy, found := range map[string]string{
		"loadBalancer: {simple: PASSTHROUGH}":                                              "",
		"loadBalancer: {simple: PASSTHROUGH}, connectionPool: {tcp: {connectTimeout: 1s}}": "connectionPool has no effect",
		"loadBalancer: {simple: PASSTHROUGH}, tls: {mode: SIMPLE}":                         "tls with loadBalancer PASSTHROUGH",
		"portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: PASSTHROUGH}}]":   "",
	} {
		w := newWorld(t, Options{}, entry, rule(policy))
		text := fmt.Sprint(w.Status().Findings)
		if secured := strings.Contains(policy, "SIMPLE"); secured != (len(w.live.Clusters) == 0) || !secured && !w.live.Clusters[0].Direct {
			t.Errorf("%s: %+v", policy, w.live.Clusters)
		}
		if found == "" && strings.Contains(text, "spec.host") || !strings.Contains(text, found) {
			t.Errorf("%s: %s", policy, text)
		}
	}
}

// TestNoTLSWithoutEndpoints: calls of resolution NONE go as the program makes them, which under a tls block they must
// not: not without it.
func TestNoTLSWithoutEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, doc("ServiceEntry", "api", `{hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}`),
		doc("DestinationRule", "api", "{host: api.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}"))
	if len(w.live.Clusters) != 0 {
		t.Fatalf("%+v", w.live.Clusters)
	}
	v, _ := w.live.Tables[snapshot.Mesh].Lookup("api.example.com", 80)
	if d := v.Routes[0].Split[0]; d.Index >= 0 || !strings.Contains(d.Missing, "tls with resolution NONE") {
		t.Errorf("%+v", d)
	}
	if len(w.Status().Findings) == 0 || w.Status().Findings[0].Code != codeUnbuilt {
		t.Errorf("%+v", w.Status().Findings)
	}
}
