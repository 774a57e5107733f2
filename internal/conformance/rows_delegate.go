package conformance

import (
	"net/http"
	"regexp"

	"github.com/heddlemesh/mesh/routing"
)

// delegateRows: rules that hand over to those of another VirtualService. The rule "miss" stands below them.
func delegateRows() []Case {
	const (
		cite     = "§2.2 Delegate"
		where    = cite + " (namespace; default: root's)"
		both     = cite + " (each delegate match is intersected with the root match)"
		conflict = cite + " (conflict: that route is dropped)"
		regex    = cite + " (a regex on either side forbids any match of that property on the other)"
		inherits = cite + " (fields set in the delegate win, unset ones are inherited)"
		export   = cite + "; istio mergeVirtualServicesIfNeeded: exportTo of the delegate, for the root's namespace"
	)
	toV := func(subset string) string {
		return "route: [{destination: {host: " + reviewsHost + ", subset: " + subset + "}}]"
	}
	root := func(rule string) string {
		return reviews() + versions() + virtualService("default/root", "hosts: [reviews]\nhttp:\n- "+rule+"\n- {name: miss, "+toV("v1")+"}")
	}
	leaf := func(name, rules string) string { return virtualService(name, "http:\n"+rules) }
	// narrowed: the root hands over what meets one match list, and the delegate takes what meets the other.
	narrowed := func(above, own string) string {
		return root("{name: r, match: "+above+", delegate: {name: leaf}}") + leaf("default/leaf", "- {name: l, match: "+own+", "+toV("v2")+"}")
	}
	hit, miss := Result{Route: "r-l", Cluster: clusterV2, Endpoint: v2}, took(false)
	handed := "{name: r, delegate: {name: leaf}}"
	all := leaf("default/leaf", "- {name: l, "+toV("v2")+"}")
	elsewhere := func(exportTo string) string {
		return root("{name: r, delegate: {name: leaf, namespace: other}}") + leaf("other/leaf", "- {name: l, "+toV("v2")+"}\n"+exportTo)
	}
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	at := func(path string) Request { return get("http://reviews:9080" + path) }
	with := func(path, name, value string) Request {
		r := at(path)
		r.Header = header(name, value)
		return r
	}

	return []Case{
		{Name: "a delegate's rule", Cite: cite, Config: root(handed) + all, Request: at("/"), Want: hit},
		{Name: "its name without the root's", Cite: cite, Config: root("{delegate: {name: leaf}}") + all, Request: at("/"), Want: Result{Route: "l", Endpoint: v2}},
		{Name: "the root's name alone", Cite: cite, Config: root(handed) + leaf("default/leaf", "- "+toV("v2")), Request: at("/"), Want: Result{Route: "r", Endpoint: v2}},
		{Name: "of another namespace", Cite: where, Config: root("{name: r, delegate: {name: leaf, namespace: other}}") + leaf("other/leaf", "- {name: l, "+toV("v2")+"}") + leaf("default/leaf", "- {name: wrong, "+toV("v3")+"}"), Request: at("/"), Want: hit},
		{Name: "of the root's namespace", Cite: where, Config: root(handed) + leaf("other/leaf", "- {name: wrong, "+toV("v3")+"}") + all, Request: at("/"), Want: hit},
		{Name: "short destination is of the delegate's namespace", Cite: where + "; §2.1 Short host names",
			Config:  root("{name: r, delegate: {name: leaf, namespace: other}}") + ratings() + static("other/ratings", "9080", "10.0.1.9") + leaf("other/leaf", "- {name: l, route: [{destination: {host: ratings}}]}"),
			Request: at("/"), Want: Result{Route: "r-l", Cluster: "outbound|9080||ratings.other.svc.cluster.local", Endpoint: "10.0.1.9:9080"}},
		{Name: "a delegate answers to no host itself", Cite: cite + "; §2.2 Spec hosts", Config: reviews() + versions() + all, Request: at("/"), Want: Result{Route: "default", Cluster: clusterAll}},
		{Name: "its rules in their order", Cite: both, Config: root(handed) + leaf("default/leaf", "- {name: first, match: [{uri: {prefix: /a}}], "+toV("v3")+"}\n- {name: l, "+toV("v2")+"}"), Request: at("/b"), Want: hit},
		{Name: "what it does not take goes on", Cite: both, Config: root(handed) + leaf("default/leaf", "- {name: l, match: [{uri: {prefix: /a}}], "+toV("v2")+"}"), Request: at("/b"), Want: miss},

		{Name: "both conditions hold", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{headers: {x-user: {exact: jason}}}]"), Request: with("/a/1", "X-User", "jason"), Want: hit},
		{Name: "the root's alone holds", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{headers: {x-user: {exact: jason}}}]"), Request: at("/a/1"), Want: miss},
		{Name: "the delegate's alone holds", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{headers: {x-user: {exact: jason}}}]"), Request: with("/b", "X-User", "jason"), Want: miss},
		{Name: "the root's condition on a delegate without", Cite: both, Config: root("{name: r, match: [{uri: {prefix: /a}}], delegate: {name: leaf}}") + all, Request: at("/b"), Want: miss},
		{Name: "longer prefix", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{uri: {prefix: /a/b}}]"), Request: at("/a/b/c"), Want: hit},
		{Name: "longer prefix takes no more", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{uri: {prefix: /a/b}}]"), Request: at("/a/c"), Want: miss},
		{Name: "exact within a prefix", Cite: both, Config: narrowed("[{uri: {prefix: /a}}]", "[{uri: {exact: /a/b}}]"), Request: at("/a/b"), Want: hit},
		{Name: "one of the root's matches is enough", Cite: both, Config: narrowed("[{uri: {prefix: /a}}, {uri: {prefix: /b}}]", "[{uri: {exact: /b/1}}]"), Request: at("/b/1"), Want: hit},
		{Name: "labels of the caller at both", Cite: both, Config: narrowed("[{sourceLabels: {app: web}}]", "[{sourceLabels: {tier: front}}]"), Workload: labelled("app", "web", "tier", "front"), Request: at("/"), Want: hit},
		{Name: "labels of the caller at one", Cite: both, Config: narrowed("[{sourceLabels: {app: web}}]", "[{sourceLabels: {tier: front}}]"), Workload: labelled("tier", "front"), Request: at("/"), Want: miss},

		{Name: "wider prefix", Cite: conflict, Config: narrowed("[{uri: {prefix: /a/b}}]", "[{uri: {prefix: /a}}]"), Request: at("/a/b"), Want: miss},
		{Name: "prefix within exact", Cite: conflict, Config: narrowed("[{uri: {exact: /a}}]", "[{uri: {prefix: /a}}]"), Request: at("/a"), Want: miss},
		{Name: "another value of one header", Cite: conflict, Config: narrowed("[{headers: {x-user: {exact: jason}}}]", "[{headers: {x-user: {exact: vera}}}]"), Request: with("/", "X-User", "vera"), Want: miss},
		{Name: "ignoreUriCase at one", Cite: cite + " (ignoreUriCase must be equal)", Config: narrowed("[{uri: {prefix: /a}, ignoreUriCase: true}]", "[{uri: {prefix: /a}}]"), Request: at("/a"), Want: miss},
		{Name: "one match against all makes the rule void", Cite: conflict, Config: narrowed("[{uri: {prefix: /a}}]", "[{uri: {exact: /a/b}}, {uri: {exact: /b}}]"), Request: at("/a/b"), Want: miss},
		{Name: "the other rules of the delegate stand", Cite: conflict,
			Config:  root("{name: r, match: [{uri: {prefix: /a}}], delegate: {name: leaf}}") + leaf("default/leaf", "- {name: void, match: [{uri: {prefix: /b}}], "+toV("v3")+"}\n- {name: l, match: [{uri: {prefix: /a/b}}], "+toV("v2")+"}"),
			Request: at("/a/b"), Want: hit},
		{Name: "expression beside a prefix", Cite: regex, Config: narrowed("[{uri: {prefix: /a}}]", `[{uri: {regex: "/a/.*"}}]`), Request: at("/a/b"), Want: miss},
		{Name: "expression alone", Cite: regex, Config: narrowed("[{headers: {x-user: {exact: jason}}}]", `[{uri: {regex: "/a/.*"}}]`), Request: with("/a/b", "X-User", "jason"), Want: hit},

		{Name: "missing delegate", Cite: cite + "; istio: the rule is left out", Config: root(handed), Request: at("/"), Want: miss},
		{Name: "missing delegate and no other rule", Cite: cite + "; §2.2 no rule matches: 404", Config: reviews() + virtualService("default/root", "hosts: [reviews]\nhttp: [{delegate: {name: leaf}}]"), Request: at("/"), Want: Result{Status: 404, Flag: "NR"}},
		{Name: "a delegate with hosts is none", Cite: cite + " (has no hosts)", Config: root(handed) + virtualService("default/leaf", "hosts: [ratings]\nhttp: [{name: l, "+toV("v2")+"}]"), Request: at("/"), Want: miss},
		{Name: "exported to nobody else", Cite: export, Config: elsewhere(`exportTo: ["."]`), Request: at("/"), Want: miss},
		{Name: "exported to the root's namespace", Cite: export, Config: elsewhere(`exportTo: [default]`), Request: at("/"), Want: hit},
		{Name: "exported to a third namespace", Cite: export, Config: elsewhere(`exportTo: [third]`), Request: at("/"), Want: miss},

		{Name: "rewrite is inherited", Cite: inherits, Config: root("{name: r, match: [{uri: {prefix: /a}}], rewrite: {uri: /new}, delegate: {name: leaf}}") + all, Request: at("/a/1"), Want: Result{Route: "r-l", Endpoint: v2, Path: "/new/1"}},
		{Name: "the delegate's rewrite wins", Cite: inherits, Config: root("{name: r, match: [{uri: {prefix: /a}}], rewrite: {uri: /new}, delegate: {name: leaf}}") + leaf("default/leaf", "- {name: l, rewrite: {uri: /own}, "+toV("v2")+"}"), Request: at("/a/1"), Want: Result{Route: "r-l", Endpoint: v2, Path: "/own/1"}},
		{Name: "headers are inherited", Cite: inherits, Config: root("{name: r, headers: {request: {set: {x-by: root}}}, delegate: {name: leaf}}") + all, Request: at("/"), Want: Result{Route: "r-l", Endpoint: v2, Header: header("X-By", "root")}},
		{Name: "the delegate's headers win as a whole", Cite: inherits, Config: root("{name: r, headers: {request: {set: {x-by: root, x-root: yes!}}}, delegate: {name: leaf}}") + leaf("default/leaf", "- {name: l, headers: {request: {set: {x-by: leaf}}}, "+toV("v2")+"}"), Request: at("/"), Want: Result{Route: "r-l", Endpoint: v2, Header: http.Header{"X-By": {"leaf"}, "X-Root": nil}}},
		{Name: "retries are inherited", Cite: inherits, Config: root("{name: r, retries: {attempts: 0}, delegate: {name: leaf}}") + all, Upstream: Upstream{Down: []string{v2}}, Request: at("/"), Want: Result{Route: "r-l", Status: 503, Flag: "UF", Attempts: 1}},
		{Name: "direct response is inherited", Cite: inherits + "; istio translateRoute: it goes before route", Config: root("{name: r, directResponse: {status: 299}, delegate: {name: leaf}}") + all, Request: at("/"),
			Want: Result{Route: "r-l", Status: 299, Attempts: anyAttempts}, Except: map[string]string{"grpc": "an RPC is not answered by an HTTP status"}},
	}
}

// delegateMutations are faults in handing over.
func delegateMutations() []Mutation {
	return []Mutation{
		{Name: "delegate's namespace not read", Groups: []string{"delegate"}, unread: regexp.MustCompile(`, namespace: other`)},
		{Name: "what the root says not inherited", Groups: []string{"delegate"}, unread: regexp.MustCompile(` (rewrite|retries|directResponse): \{[^}]*\},`)},
		{Name: "conditions of rules not read", Groups: []string{"delegate", "workshop"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) { r.Matches = nil })
		}},
		{Name: "header conditions of rules not read", Groups: []string{"delegate", "workshop"}, edit: func(d *draft) {
			d.eachMatch(func(m *routing.Match) { m.Headers = nil })
		}},
		{Name: "path conditions of rules not read", Groups: []string{"delegate"}, edit: func(d *draft) {
			d.eachMatch(func(m *routing.Match) { m.PathKind = routing.PathAny })
		}},
	}
}
