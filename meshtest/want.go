package meshtest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh"
)

// WantRoute fails the test where the mesh would not send the request to want. Nothing is sent and no
// instance is needed. Headers are written "name: value". The failure tells every rule and why it did or did
// not match.
//
// want is where the request goes as rules write it, "reviews", "reviews/v2" or "reviews:9080/v2" for a
// subset; for a split all of it, in order, "reviews/v1 80%, reviews/v2 20%". It may also be the name of a
// route, the full name of a cluster, "passthrough", or the flag of a rejection: "NR", "NC", "UH".
func (e *Env) WantRoute(method, url, want string, headers ...string) {
	e.t.Helper()
	req, err := newRequest(e.t.Context(), method, url, headers)
	if err != nil {
		e.t.Fatalf("meshtest: %v", err)
	}
	d, err := e.mesh.Explain(req)
	if err != nil {
		e.t.Errorf("%v", err)
		return
	}
	if goes := e.goesTo(d); !e.means(want, goes, d) {
		e.t.Errorf("%s goes to %s, want %s\nwhy:\n%s", requestText(method, url, req.Header), goes, want,
			indent(e.world.names().in(d.String())))
	}
}

// goesTo says where a request goes, in the form of WantRoute.
func (e *Env) goesTo(d mesh.Decision) string {
	switch {
	case d.Verdict == "reject":
		return d.Flag
	case len(d.Destinations) == 0:
		return d.Verdict
	}
	var parts []string
	for _, v := range d.Destinations {
		host, _, subset := cutCluster(v.Cluster)
		s := shortName(host, e.workload.Namespace)
		if subset != "" {
			s += "/" + subset
		}
		if len(d.Destinations) > 1 {
			s += " " + percent(v.Share) + "%"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

// means reports whether want is one of the ways to say where the request goes.
func (e *Env) means(want, goes string, d mesh.Decision) bool {
	if want == goes || want == d.Verdict || d.Route != "" && want == d.Route {
		return true
	}
	parts := strings.Split(want, ",")
	if d.Verdict == "reject" || len(parts) != len(d.Destinations) {
		return false
	}
	for n, v := range d.Destinations {
		where, share, _ := strings.Cut(strings.TrimSpace(parts[n]), " ")
		if where != v.Cluster && !e.isCluster(where, v.Cluster) {
			return false
		}
		share = strings.TrimSpace(share)
		if len(parts) > 1 && strings.TrimSuffix(share, "%") != percent(v.Share) || len(parts) == 1 && share != "" && share != "100%" {
			return false
		}
	}
	return true
}

// isCluster reports whether host[:port][/subset] is the cluster.
func (e *Env) isCluster(where, cluster string) bool {
	host, port, subset := cutCluster(cluster)
	where, wantSubset, _ := strings.Cut(where, "/")
	wantHost, wantPort, hasPort := strings.Cut(where, ":")
	full := fullName(wantHost, e.workload.Namespace, func(name string) bool { return name == host })
	return full == host && wantSubset == subset && (!hasPort || wantPort == port)
}

// cutCluster takes outbound|<port>|<subset>|<host> apart.
func cutCluster(name string) (host, port, subset string) {
	if parts := strings.Split(name, "|"); len(parts) == 4 {
		return parts[3], parts[1], parts[2]
	}
	return name, "", ""
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*10000)/100, 'f', -1, 64)
}

// Distribution makes n GET requests one after the other and fails the test where the shares of the answers
// differ from want by more than the tolerance, both between 0 and 1. A key of want is a version, which is
// the instance's label "version", or labels as in "zone=a,version=v2"; answers of instances that no key
// names have the share 0. A call that gets no answer ends the test. Headers are written "name: value".
func (e *Env) Distribution(n int, url string, want map[string]float64, tolerance float64, headers ...string) {
	e.t.Helper()
	var sum float64
	for _, share := range want {
		sum += share
	}
	if n <= 0 || math.Abs(sum-1) > 1e-6 {
		e.t.Fatalf("meshtest: a distribution has calls and shares that add up to 1; here are %d and %v", n, sum)
	}
	count := make(map[string]int)
	for range n {
		count[group(e.Get(url, headers...).From, want)]++
	}
	var b strings.Builder
	failed := false
	keys := slices.Concat(slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(count)))
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		got := float64(count[k]) / float64(n)
		verdict := "as wanted"
		if math.Abs(got-want[k]) > tolerance {
			failed, verdict = true, "not as wanted"
		}
		fmt.Fprintf(&b, "  %-12s %6s%% of calls, want %s%% ± %s%%: %s\n",
			k, percent(got), percent(want[k]), percent(tolerance), verdict)
	}
	if failed {
		e.t.Errorf("%d × GET %s:\n%s%s", n, url, b.String(), e.failure())
	}
}

// group gives the key that an instance counts for.
func group(i *Instance, want map[string]float64) string {
	if i == nil {
		return "nobody known"
	}
	if _, ok := want[i.labels["version"]]; ok {
		return i.labels["version"]
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if strings.Contains(k, "=") && hasLabels(i, k) {
			return k
		}
	}
	return i.String()
}

func hasLabels(i *Instance, key string) bool {
	for pair := range strings.SplitSeq(key, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if got, ok := i.labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}
