package conformance

import (
	"net/http"

	"github.com/heddlemesh/mesh/routing"
)

// workshopRows: the releases that workshops on Istio practise, on their services. In one, front asks aleph and beth, of
// which beth has a new version; in the other customer asks preference, and that asks recommendation, in two versions.
func workshopRows() []Case {
	const (
		byHeader = "workshop: a header chooses the version; §2.2 HTTPMatchRequest headers"
		canary   = "workshop: the new version gets a share; §2.2 HTTPRouteDestination weight"
		mirror   = "workshop: the new version gets copies; §2.2 Mirror (the caller's answer is the primary's)"
		dark     = "workshop: the new version is released to those who know, and to nobody else"
		many     = 10_000

		beth1, beth2 = "10.1.0.1:8080", "10.1.0.2:8080"
		rec1, rec2   = "10.1.1.1:8080", "10.1.1.2:8080"
	)
	version := func(name, v1, v2 string) string {
		return static("default/"+name, "8080", v1+", labels: {app: "+name+", version: v1}", v2+", labels: {app: "+name+", version: v2}") +
			destinationRule("default/"+name, "host: "+name+"\nsubsets:\n- {name: v1, labels: {version: v1}}\n- {name: v2, labels: {version: v2}}")
	}
	alphabet := static("default/front", "8080", "10.1.0.9") + static("default/aleph", "8080", "10.1.0.8") + version("beth", "10.1.0.1", "10.1.0.2")
	recommended := static("default/customer", "8080", "10.1.1.9") + static("default/preference", "8080", "10.1.1.8") + version("recommendation", "10.1.1.1", "10.1.1.2")
	ruled := func(host, rules string) string {
		return virtualService("default/"+host, "hosts: ["+host+"]\nhttp:\n"+rules)
	}
	to := func(host, subset, more string) string {
		return "[{destination: {host: " + host + ", subset: " + subset + "}" + more + "}]"
	}
	split := func(host, one, two string) string {
		return "[{destination: {host: " + host + ", subset: v1}, weight: " + one + "}, {destination: {host: " + host + ", subset: v2}, weight: " + two + "}]"
	}
	front, customer := labelled("app", "front"), labelled("app", "customer")
	beth, recommendation := get("http://beth:8080/"), get("http://recommendation:8080/")
	with := func(r Request, name, value string) Request {
		r.Header = http.Header{name: {value}}
		return r
	}

	early := alphabet + ruled("beth", "- {name: early, match: [{headers: {x-release: {exact: early}}}], route: "+to("beth", "v2", "")+"}\n- {name: stable, route: "+to("beth", "v1", "")+"}")
	copied := alphabet + ruled("beth", "- {name: stable, route: "+to("beth", "v1", "")+", mirror: {host: beth, subset: v2}, mirrorPercentage: {value: 100}}")
	gone := alphabet + ruled("beth", "- {name: stable, route: "+to("beth", "v1", "")+", mirror: {host: gimel}}")
	hidden := alphabet + ruled("beth", "- {name: dark, match: [{headers: {cookie: {regex: \"^(.*?;)?(user=tester)(;.*)?$\"}}}], route: "+to("beth", "v2", "")+"}\n- {name: open, route: "+to("beth", "v1", "")+"}")
	browsers := recommended + ruled("recommendation", "- {name: safari, match: [{headers: {baggage-user-agent: {regex: \".*Safari.*\"}}}], route: "+to("recommendation", "v2", "")+"}\n- {name: others, route: "+to("recommendation", "v1", "")+"}")
	inside := recommended + ruled("recommendation", "- {name: testers, match: [{sourceLabels: {app: customer}, headers: {x-tester: {}}}], route: "+to("recommendation", "v2", "")+"}\n- {name: all, route: "+to("recommendation", "v1", "")+"}")
	handed := recommended + ruled("recommendation", "- {name: team, delegate: {name: recommendation-team}}") +
		virtualService("default/recommendation-team", "http:\n- {name: canary, match: [{headers: {x-canary: {exact: \"1\"}}}], route: "+to("recommendation", "v2", "")+"}\n- {name: all, route: "+to("recommendation", "v1", "")+"}")

	return []Case{
		{Name: "aleph has one version", Cite: byHeader, Config: early, Workload: front, Request: get("http://aleph:8080/"), Want: Result{Route: "default", Endpoint: "10.1.0.8:8080"}},
		{Name: "beth by header", Cite: byHeader, Config: early, Workload: front, Request: with(beth, "X-Release", "early"), Want: Result{Route: "early", Endpoint: beth2}},
		{Name: "beth by another value", Cite: byHeader, Config: early, Workload: front, Request: with(beth, "X-Release", "late"), Want: Result{Route: "stable", Endpoint: beth1}},
		{Name: "beth without the header", Cite: byHeader, Config: early, Workload: front, Request: beth, Want: Result{Route: "stable", Endpoint: beth1}},
		{Name: "beth 75 to 25", Cite: canary, Config: alphabet + ruled("beth", "- {name: canary, route: "+split("beth", "75", "25")+"}"), Workload: front, Request: beth, Repeat: many, Shares: map[string]float64{beth1: 75, beth2: 25}},
		{Name: "beth 0 to 100", Cite: canary, Config: alphabet + ruled("beth", "- {name: canary, route: "+split("beth", "0", "100")+"}"), Workload: front, Request: beth, Repeat: 200, Shares: map[string]float64{beth1: 0, beth2: 100}},
		{Name: "beth mirrored", Cite: mirror, Config: copied, Workload: front, Request: beth, Want: Result{Route: "stable", Cluster: "outbound|8080|v1|beth.default.svc.cluster.local"}},
		{Name: "beth mirrored to what refuses connections", Cite: mirror, Config: copied, Workload: front, Upstream: Upstream{Down: []string{beth2}}, Request: beth, Want: Result{Route: "stable", Endpoint: beth1}},
		{Name: "beth mirrored to what is not there", Cite: mirror, Config: gone, Workload: front, Request: beth, Want: Result{Route: "stable", Endpoint: beth1}},
		{Name: "beth in the dark, by cookie", Cite: dark, Config: hidden, Workload: front, Request: with(beth, "Cookie", "a=b;user=tester"), Want: Result{Route: "dark", Endpoint: beth2}},
		{Name: "beth in the dark, another's cookie", Cite: dark, Config: hidden, Workload: front, Request: with(beth, "Cookie", "user=guest"), Want: Result{Route: "open", Endpoint: beth1}},
		{Name: "recommendation by browser", Cite: byHeader, Config: browsers, Workload: customer, Request: with(recommendation, "Baggage-User-Agent", "Mozilla/5.0 Safari/605"), Want: Result{Route: "safari", Endpoint: rec2}},
		{Name: "recommendation by another browser", Cite: byHeader, Config: browsers, Workload: customer, Request: with(recommendation, "Baggage-User-Agent", "curl/8"), Want: Result{Route: "others", Endpoint: rec1}},
		{Name: "recommendation 90 to 10", Cite: canary, Config: recommended + ruled("recommendation", "- {name: canary, route: "+split("recommendation", "90", "10")+"}"), Workload: customer, Request: recommendation, Repeat: many, Shares: map[string]float64{rec1: 90, rec2: 10}},
		{Name: "recommendation without rules", Cite: canary, Config: recommended, Workload: customer, Request: recommendation, Want: Result{Route: "default", Cluster: "outbound|8080||recommendation.default.svc.cluster.local"}},
		{Name: "recommendation in the dark, for its caller", Cite: dark, Config: inside, Workload: customer, Request: with(recommendation, "X-Tester", "yes"), Want: Result{Route: "testers", Endpoint: rec2}},
		{Name: "recommendation in the dark, for another caller", Cite: dark, Config: inside, Workload: front, Request: with(recommendation, "X-Tester", "yes"), Want: Result{Route: "all", Endpoint: rec1}},
		{Name: "recommendation by its team's own rules", Cite: byHeader + "; §2.2 Delegate", Config: handed, Workload: customer, Request: with(recommendation, "X-Canary", "1"), Want: Result{Route: "team-canary", Endpoint: rec2}},
	}
}

// workshopMutations are faults that spoil a release.
func workshopMutations() []Mutation {
	return []Mutation{
		{Name: "the new version gets everything", Groups: []string{"workshop"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) {
				for i := range r.Split {
					r.Split[i].Weight = uint32(i)
				}
			})
		}},
		{Name: "copies take the place of the primary", Groups: []string{"workshop"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) {
				for i, m := range r.Mirrors {
					r.Split[i].Cluster, r.Split[i].Index = m.Cluster, m.Index
				}
			})
		}},
	}
}
