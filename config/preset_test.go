package config

import (
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// presetRoute compiles a rule for reviews, "" for none, and gives the route that calls take.
func presetRoute(t *testing.T, o Options, rule string, more ...string) *routing.Route {
	t.Helper()
	docs := append([]string{doc("ServiceEntry", "reviews", reviewsEntry)}, more...)
	if rule != "" {
		docs = append(docs, doc("VirtualService", "reviews", "{hosts: [reviews], http: [{name: r, "+rule+"}]}"))
	}
	w := newWorld(t, o, docs...)
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	host, _ := w.live.Tables[snapshot.Mesh].Lookup(reviewsFQDN, 9080)
	if host == nil {
		t.Fatal("no host")
	}
	return host.Routes[0]
}

// TestProductionRoutes: the preset gives times and a condition of retries to rules that have none; documents go before it.
func TestProductionRoutes(t *testing.T) {
	t.Parallel()
	const to = "route: [{destination: {host: reviews}}], "
	const byDefault = resilience.OnConnectFailure | resilience.OnRefusedStream | resilience.OnUnavailable | resilience.OnCancelled | resilience.OnRetriableStatusCodes
	const s = time.Second
	type times struct{ timeout, perTry time.Duration }
	for name, c := range map[string]struct {
		rule, mesh string
		want       times
		on         resilience.Condition // 0 for no retries
		attempts   int
		says       string
	}{
		"no rule":        {"", "", times{15 * s, 4 * s}, byDefault | resilience.OnReset, 2, "preset production: timeout 15s, perTryTimeout 4s, retryOn reset"},
		"a silent rule":  {to, "", times{15 * s, 4 * s}, byDefault | resilience.OnReset, 2, "preset production: timeout 15s, perTryTimeout 4s, retryOn reset"},
		"its own time":   {to + "timeout: 60s", "", times{60 * s, 0}, byDefault | resilience.OnReset, 2, "preset production: retryOn reset"},
		"no time":        {to + "timeout: 0s", "", times{}, byDefault | resilience.OnReset, 2, "preset production: retryOn reset"},
		"its own tries":  {to + "retries: {attempts: 1, perTryTimeout: 20s}", "", times{0, 20 * s}, byDefault | resilience.OnReset, 1, "preset production: retryOn reset"},
		"its conditions": {to + "retries: {attempts: 5, retryOn: 5xx}", "", times{15 * s, 4 * s}, resilience.On5xx, 5, "preset production: timeout 15s, perTryTimeout 4s"},
		"everything":     {to + "timeout: 3s, retries: {attempts: 5, retryOn: 5xx}", "", times{3 * s, 0}, resilience.On5xx, 5, ""},
		"no retries":     {to + "retries: {attempts: 0}", "", times{15 * s, 0}, 0, 0, "preset production: timeout 15s"},
		"an answer":      {"directResponse: {status: 200}", "", times{}, byDefault | resilience.OnReset, 2, ""},
		"the mesh's conditions": {to, "{defaultHttpRetryPolicy: {attempts: 1, retryOn: 5xx}}", times{15 * s, 4 * s}, resilience.On5xx, 1,
			"preset production: timeout 15s, perTryTimeout 4s"},
		"the mesh's tries": {"", "{defaultHttpRetryPolicy: {attempts: 1, perTryTimeout: 1s}}", times{0, s}, byDefault | resilience.OnReset, 1, "preset production: retryOn reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var more []string
			if c.mesh != "" {
				more = []string{meshDoc("mesh", c.mesh)}
			}
			r := presetRoute(t, Options{Preset: Production}, c.rule, more...)
			got := times{timeout: r.Timeout}
			var on resilience.Condition
			attempts := 0
			if r.Retry != nil {
				got.perTry, on, attempts = r.Retry.PerTry, r.Retry.On, r.Retry.Attempts
			}
			if got != c.want || on != c.on || attempts != c.attempts || r.Preset != c.says {
				t.Errorf("%v, on %v, %d retries, %q; want %v, on %v, %d, %q", got, on, attempts, r.Preset, c.want, c.on, c.attempts, c.says)
			}
		})
	}
}

// TestNoPreset: without one a rule that says nothing has no times, and nothing of it is a preset's.
func TestNoPreset(t *testing.T) {
	t.Parallel()
	r := presetRoute(t, Options{}, "")
	if r.Timeout != 0 || r.Retry.PerTry != 0 || r.Retry.On&resilience.OnReset != 0 || r.Preset != "" {
		t.Errorf("%+v", r)
	}
	if c := presetCluster(t, NoPreset, "{}"); c.Policy.Outlier != nil || c.Policy.Budget.Limited() || c.Preset != "" {
		t.Errorf("%+v", c)
	}
}

func presetCluster(t *testing.T, p Preset, policy string) snapshot.Cluster {
	t.Helper()
	w := newWorld(t, Options{Preset: p, Workload: snapshot.Workload{Locality: "eu/a"}}, doc("ServiceEntry", "reviews", reviewsEntry),
		doc("DestinationRule", "reviews", "{host: reviews, trafficPolicy: "+policy+"}"))
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	if got := w.Status().Preset; got != p {
		t.Errorf("the status says %v", got)
	}
	for _, c := range w.live.Clusters {
		if c.Name == "outbound|9080||"+reviewsFQDN {
			return c
		}
	}
	t.Fatal("no cluster")
	return snapshot.Cluster{}
}

// TestProductionClusters: ejection and retry budget, by block; a number of retries is a budget too, and places count no more
// than without the preset.
func TestProductionClusters(t *testing.T) {
	t.Parallel()
	outlier := &resilience.Outlier{Consecutive5xx: 5, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxPercent: 50}
	budget := resilience.Budget{Share: true, Percent: 20, Min: 3}
	for policy, want := range map[string]struct {
		outlier *resilience.Outlier
		budget  resilience.Budget
		says    string
	}{
		`{}`: {outlier, budget, "preset production: outlierDetection, retryBudget"},
		`{outlierDetection: {baseEjectionTime: 1s}}`:                                       {&resilience.Outlier{Consecutive5xx: 5, BaseEjection: time.Second, MaxPercent: 10}, budget, "preset production: retryBudget"},
		`{retryBudget: {percent: 50}}`:                                                     {outlier, resilience.Budget{Share: true, Percent: 50, Min: 3}, "preset production: outlierDetection"},
		`{connectionPool: {http: {maxRetries: 7}}}`:                                        {outlier, resilience.Budget{Max: 7}, "preset production: outlierDetection"},
		`{outlierDetection: {}, retryBudget: {}}`:                                          {&resilience.Outlier{Consecutive5xx: 5, MaxPercent: 10}, budget, ""},
		`{portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: RANDOM}}]}`:    {outlier, budget, "preset production: outlierDetection, retryBudget"},
		`{loadBalancer: {simple: PASSTHROUGH}}`:                                            {nil, resilience.Budget{}, ""},
		`{loadBalancer: {simple: RANDOM}, connectionPool: {http: {http2MaxRequests: 10}}}`: {outlier, budget, "preset production: outlierDetection, retryBudget"},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			c := presetCluster(t, Production, policy)
			if !c.Policy.Outlier.Same(want.outlier) || c.Policy.Budget != want.budget || c.Preset != want.says {
				t.Errorf("%+v, %+v, %q; want %+v, %+v, %q", c.Policy.Outlier, c.Policy.Budget, c.Preset, want.outlier, want.budget, want.says)
			}
		})
	}
	if c := presetCluster(t, Production, `{}`); c.Policy.Locality != nil {
		t.Errorf("places count: %+v", c.Policy.Locality)
	}
}

// TestPresetNames: each name is read as it is written.
func TestPresetNames(t *testing.T) {
	t.Parallel()
	for _, name := range PresetNames() {
		if p, ok := PresetOf(name); !ok || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, ok)
		}
	}
	if p, ok := PresetOf("staging"); ok || p != NoPreset {
		t.Errorf("%v, %v", p, ok)
	}
}
