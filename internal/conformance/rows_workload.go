package conformance

import "github.com/heddlemesh/mesh"

// workloadRows: what a rule says about its caller, and for which gateways it is.
func workloadRows() []Case {
	const (
		labels    = "§2.2 HTTPMatchRequest sourceLabels"
		namespace = "§2.2 HTTPMatchRequest sourceNamespace"
		gateways  = "§2.1 Gateways list; §2.2 HTTPMatchRequest gateways"
		top       = "§2.1 Gateways list; §2.2 Spec gateways"
	)
	web := labelled("app", "web", "version", "v7")
	bound := func(gateways string) string {
		return reviews() + versions() + virtualService("default/reviews", `
hosts: [reviews]
gateways: `+gateways+`
http: [{name: hit, route: [{destination: {host: reviews, subset: v2}}]}]`)
	}
	onlyRule := shop(`
- name: hit
  match: [{sourceNamespace: elsewhere}]
  route: [{destination: {host: reviews, subset: v2}}]`)
	unruled := Result{Route: "default", Cluster: clusterAll}

	rows := []struct {
		name, cite, match, path string
		workload                mesh.Workload
		hit                     bool
	}{
		{"labels of the caller", labels, `[{sourceLabels: {app: web}}]`, "/", web, true},
		{"all labels of the caller", labels, `[{sourceLabels: {app: web, version: v7}}]`, "/", web, true},
		{"other value of a label", labels, `[{sourceLabels: {app: web, version: v8}}]`, "/", web, false},
		{"a label the caller lacks", labels, `[{sourceLabels: {tier: front}}]`, "/", web, false},
		{"a caller without labels", labels, `[{sourceLabels: {app: web}}]`, "/", mesh.Workload{}, false},
		{"labels and path hold", labels, `[{sourceLabels: {app: web}, uri: {prefix: /a}}]`, "/a", web, true},
		{"labels hold, path does not", labels, `[{sourceLabels: {app: web}, uri: {prefix: /a}}]`, "/b", web, false},
		{"second entry for this caller", labels, `[{sourceLabels: {app: api}}, {sourceLabels: {app: web}}]`, "/", web, true},
		{"entry of another caller does not widen the list", labels, `[{sourceLabels: {app: api}}, {uri: {prefix: /a}}]`, "/b", web, false},
		{"namespace of the caller", namespace, `[{sourceNamespace: default}]`, "/", mesh.Workload{}, true},
		{"another namespace", namespace, `[{sourceNamespace: elsewhere}]`, "/", mesh.Workload{}, false},
		{"match for the mesh", gateways, `[{gateways: [mesh]}]`, "/", mesh.Workload{}, true},
		{"match for the mesh and a gateway", gateways, `[{gateways: [default/edge, mesh]}]`, "/", mesh.Workload{}, true},
		{"match for a gateway", gateways, `[{gateways: [default/edge]}]`, "/", mesh.Workload{}, false},
	}
	cases := make([]Case, len(rows), len(rows)+7)
	for i, r := range rows {
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: when(r.match), Workload: r.workload,
			Request: get("http://reviews:9080" + r.path), Want: took(r.hit)}
	}
	byGateway := reviews() + versions() + virtualService("default/reviews", `
hosts: [reviews]
gateways: [default/edge]
http:
- name: hit
  match: [{gateways: [mesh]}]
  route: [{destination: {host: reviews, subset: v2}}]
- name: miss
  route: [{destination: {host: reviews, subset: v1}}]`)
	return append(cases,
		Case{Name: "namespace of a caller elsewhere", Cite: namespace, Config: onlyRule, Workload: in("elsewhere"),
			Request: get("http://reviews.default:9080/"), Want: took(true)},
		Case{Name: "a rule for others only is no catch-all", Cite: namespace + "; §2.2 No rule matches", Config: onlyRule,
			Request: get(reviewsURL), Want: Result{Status: 404, Flag: "NR"}},
		Case{Name: "rules for the mesh", Cite: top, Config: bound("[mesh]"), Request: get(reviewsURL), Want: took(true)},
		Case{Name: "rules for a gateway and the mesh", Cite: top, Config: bound("[default/edge, mesh]"), Request: get(reviewsURL), Want: took(true)},
		Case{Name: "rules for a gateway", Cite: top, Config: bound("[default/edge]"), Request: get(reviewsURL), Want: unruled},
		// The field's comment says that the match's list overrides; istiod looks rules up by the upper one alone.
		Case{Name: "match's list does not widen the rules'", Cite: "§2.2 HTTPMatchRequest gateways; preamble (the code wins): istio pilot/pkg/model/push_context.go getGatewayNames",
			Config: byGateway, Request: get(reviewsURL), Want: unruled})
}
