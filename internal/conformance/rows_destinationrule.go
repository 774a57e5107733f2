package conformance

import (
	"strings"

	"github.com/heddlemesh/mesh"
)

// destinationRuleRows: which DestinationRule applies. The service is in namespace shop, the caller in
// namespace web; a rule's subset x tells by its version which rule it was.
func destinationRuleRows() []Case {
	const (
		lookup   = "§2.3 Which rule applies"
		step     = lookup + " (first step with a match wins)"
		merge    = lookup + " (several rules for one host in one namespace)"
		specific = lookup + " (the most specific host); §2.1 Wildcards"
		selector = lookup + " (workloadSelector)"
		export   = lookup + "; §2.1 exportTo"
		short    = lookup + "; §2.1 Short host names"

		host = "reviews.shop.svc.cluster.local"
	)
	// dr is a rule whose subsets are given as "x=v1"; extra is further specification.
	dr := func(name, host, subsets string, extra ...string) string {
		spec := "host: \"" + host + "\"\n"
		if subsets != "" {
			spec += "subsets:\n"
		}
		for _, s := range strings.Fields(subsets) {
			subset, version, _ := strings.Cut(s, "=")
			spec += "- {name: " + subset + ", labels: {version: " + version + "}}\n"
		}
		return destinationRule(name, spec+strings.Join(extra, "\n"))
	}
	service := static("shop/reviews", "9080", "10.0.0.1, labels: {version: v1}",
		"10.0.0.2, labels: {version: v2}", "10.0.0.3, labels: {version: v3}") +
		virtualService("shop/reviews", `
hosts: [reviews]
http:
- {name: x, match: [{uri: {prefix: /x}}], route: [{destination: {host: reviews, subset: x}}]}
- {name: y, match: [{uri: {prefix: /y}}], route: [{destination: {host: reviews, subset: y}}]}
- {name: all, route: [{destination: {host: reviews}}]}`)

	client, owner, root := dr("web/a", host, "x=v1"), dr("shop/b", host, "x=v2"), dr("istio-system/c", host, "x=v3")
	none := Result{Status: 503, Flag: "NC"}
	at := func(endpoint string) Result { return Result{Endpoint: endpoint} }
	cart := func() mesh.Workload {
		w := labelled("app", "cart")
		w.Namespace = "web"
		return w
	}()
	forCart, forOthers := "workloadSelector: {matchLabels: {app: cart}}", "workloadSelector: {matchLabels: {app: other}}"
	robin := "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"
	random := "trafficPolicy: {loadBalancer: {simple: RANDOM}}"

	rows := []struct {
		name, cite, config, path string
		workload                 mesh.Workload
		want                     Result
	}{
		{name: "the client's namespace", cite: lookup, config: client, want: at(v1)},
		{name: "the service's namespace", cite: lookup, config: owner, want: at(v2)},
		{name: "the root namespace", cite: lookup, config: root, want: at(v3)},
		{name: "any other namespace never", cite: lookup, config: dr("third/d", host, "x=v1"), want: none},
		{name: "client before service", cite: step, config: owner + client, want: at(v1)},
		{name: "client before root", cite: step, config: root + client, want: at(v1)},
		{name: "service before root", cite: step, config: root + owner, want: at(v2)},
		{name: "nothing of the service's is merged", cite: step + "; nothing is merged across namespaces", config: dr("web/a", host, "y=v1") + owner, want: none},
		{name: "nothing of the root's is merged", cite: step + "; nothing is merged across namespaces", config: dr("shop/b", host, "y=v2") + root, want: none},
		{name: "a client's rule without subsets ends the search", cite: step, config: dr("web/a", host, "", robin) + owner, want: none},
		{name: "client's wildcard before service's exact", cite: step, config: owner + dr("web/a", "*.shop.svc.cluster.local", "x=v1"), want: at(v1)},
		{name: "a client's rule for another host does not end the search", cite: step, config: dr("web/a", "ratings.shop.svc.cluster.local", "x=v1") + owner, want: at(v2)},
		{name: "a client in the root namespace skips its own", cite: lookup + " (skipped when that is the root namespace)", config: root + owner, workload: in("istio-system"), want: at(v2)},
		{name: "a client in the service's namespace", cite: lookup, config: root + owner, workload: in("shop"), want: at(v2)},
		{name: "exact before wildcard", cite: specific, config: dr("web/a", "*.svc.cluster.local", "x=v2") + dr("web/b", host, "x=v1"), want: at(v1)},
		{name: "long wildcard before short", cite: specific, config: dr("web/a", "*.local", "x=v2") + dr("web/b", "*.shop.svc.cluster.local", "x=v1"), want: at(v1)},
		{name: "wildcard and exact are not merged", cite: specific, config: dr("web/a", "*.local", "x=v2") + dr("web/b", host, "y=v1"), want: none},
		{name: "subsets are unioned, the first", cite: merge, config: dr("web/a", host, "x=v1") + dr("web/b", host, "y=v2"), want: at(v1)},
		{name: "subsets are unioned, the second", cite: merge, config: dr("web/a", host, "x=v1") + dr("web/b", host, "y=v2"), path: "y", want: at(v2)},
		{name: "a repeated subset is ignored", cite: merge, config: dr("web/a", host, "x=v1") + dr("web/b", host, "x=v2 y=v3"), want: at(v1)},
		{name: "oldest first", cite: merge + "; §2.1 Conflict order", config: dr("web/a@2024-02-02T00:00:00Z", host, "x=v2") + dr("web/b@2024-01-01T00:00:00Z", host, "x=v1"), want: at(v1)},
		{name: "other exportTo, no merging", cite: merge + "; only when exportTo is equal", config: dr("shop/a", host, "y=v1", `exportTo: ["*"]`) + dr("shop/b", host, "x=v2", `exportTo: ["."]`), want: none},
		{name: "short host is of the rule's namespace", cite: short, config: dr("web/a", "reviews", "x=v1") + dr("shop/b", "reviews", "x=v2"), want: at(v2)},
		{name: "service's rule for itself only", cite: export, config: dr("shop/b", host, "x=v2", `exportTo: ["."]`) + root, want: at(v3)},
		{name: "service's rule for the client", cite: export, config: dr("shop/b", host, "x=v2", `exportTo: [web]`) + root, want: at(v2)},
		{name: "service's rule for somebody else", cite: export, config: dr("shop/b", host, "x=v2", `exportTo: [third]`) + root, want: at(v3)},
		{name: "client's rule for itself only", cite: export, config: dr("web/a", host, "x=v1", `exportTo: ["."]`) + owner, want: at(v1)},
		{name: "root's rule for itself only", cite: export, config: dr("istio-system/c", host, "x=v3", `exportTo: ["."]`), want: none},
		{name: "selector before none", cite: selector, config: dr("web/a", host, "x=v2") + dr("web/b", host, "x=v1", forCart), workload: cart, want: at(v1)},
		{name: "selector before none, written first", cite: selector, config: dr("web/a", host, "x=v1", forCart) + dr("web/b", host, "x=v2"), workload: cart, want: at(v1)},
		{name: "selector of another workload", cite: selector, config: dr("web/a", host, "x=v1", forOthers) + dr("web/b", host, "x=v2"), workload: cart, want: at(v2)},
		{name: "selector counts in its own namespace only", cite: selector + " (same namespace only)", config: dr("shop/b", host, "x=v2", forCart) + root, workload: cart, want: at(v3)},
	}
	cases := make([]Case, len(rows), len(rows)+2)
	for i, r := range rows {
		if r.workload.Namespace == "" {
			r.workload.Namespace = "web"
		}
		if r.path == "" {
			r.path = "x"
		}
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: service + r.config, Workload: r.workload,
			Request: get("http://reviews.shop:9080/" + r.path), Want: r.want}
	}
	return append(cases,
		Case{Name: "top-level policy of the first", Cite: merge, Config: service + dr("web/a", host, "", robin) + dr("web/b", host, "y=v1", random),
			Workload: in("web"), Request: get("http://reviews.shop:9080/"), Repeat: 30, Want: Result{Route: "all"}, Cycle: []string{v1, v2, v3}},
		Case{Name: "policy of the second where the first has none", Cite: merge, Config: service + dr("web/a", host, "y=v1") + dr("web/b", host, "", robin),
			Workload: in("web"), Request: get("http://reviews.shop:9080/"), Repeat: 30, Want: Result{Route: "all"}, Cycle: []string{v1, v2, v3}},
		Case{Name: "no policy of a later step", Cite: step, Config: service + dr("web/a", host, "x=v1", random) + dr("shop/b", host, "", robin),
			Workload: in("web"), Request: get("http://reviews.shop:9080/"), Repeat: 30, Want: Result{Route: "all"}, Random: true})
}
