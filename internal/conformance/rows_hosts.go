package conformance

import "github.com/heddlemesh/mesh"

// hostRows: which service a name means, and which rules go with it.
func hostRows() []Case {
	return append(nameRows(), append(wildcardRows(), ruleHostRows()...)...)
}

func nameRows() []Case {
	const (
		names = "§2.1 Names by which a Kubernetes service is reachable"
		out   = "§2.1 outboundTrafficPolicy: ALLOW_ANY"
		which = "DESIGN.md §5 Which host"
		other = "10.0.0.9:9080"
	)
	config := serviceEntry("default/reviews", `
hosts: [reviews.default.svc.cluster.local]
addresses: [10.96.0.1]
location: MESH_INTERNAL
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
endpoints: [{address: 10.0.0.1}]`) +
		static("other/reviews", "9080", "10.0.0.9") +
		static("other/ratings", "9080", "10.0.1.9") +
		static("default/web", "80", "10.0.2.1") +
		staticHost("other/legacy", "legacy", "9080", "10.0.3.1")

	rows := []struct {
		name, cite, url string
		host            string
		workload        mesh.Workload
		want            Result
	}{
		{name: "short name", cite: names, url: reviewsURL, want: Result{Cluster: clusterAll, Endpoint: v1, Host: "reviews:9080", Route: "default"}},
		{name: "svc.ns", cite: names, url: "http://reviews.default:9080/", want: Result{Cluster: clusterAll, Endpoint: v1, Host: "reviews.default:9080"}},
		{name: "svc.ns.svc", cite: names, url: "http://reviews.default.svc:9080/", want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "FQDN", cite: names, url: "http://reviews.default.svc.cluster.local:9080/", want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "upper case", cite: names + "; RFC 9110 §4.2.3", url: "http://REVIEWS:9080/", want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "mixed case FQDN", cite: names + "; RFC 9110 §4.2.3", url: "http://Reviews.Default.svc.Cluster.local:9080/", want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "trailing dot", cite: names, url: "http://reviews.default.svc.cluster.local.:9080/", want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "short name is of the caller's namespace", cite: names, url: reviewsURL, workload: in("other"), want: Result{Cluster: "outbound|9080||reviews.other.svc.cluster.local", Endpoint: other}},
		{name: "svc.ns reaches another namespace", cite: names, url: "http://reviews.default:9080/", workload: in("other"), want: Result{Cluster: clusterAll, Endpoint: v1}},
		{name: "short name of another namespace passes through", cite: names, url: "http://ratings:9080/", want: Result{Cluster: passthrough, Endpoint: "ratings:9080"}},
		{name: "half a cluster domain is no name", cite: names, url: "http://reviews.default.svc.cluster:9080/", want: Result{Cluster: passthrough, Endpoint: "reviews.default.svc.cluster:9080"}},
		{name: "unknown host passes through", cite: out, url: "http://nowhere.example.com/x?y=1", want: Result{Cluster: passthrough, Endpoint: "nowhere.example.com:80", Host: "nowhere.example.com", Path: "/x?y=1"}},
		{name: "unknown address passes through", cite: out, url: "http://10.96.0.200:9080/", want: Result{Cluster: passthrough, Endpoint: "10.96.0.200:9080"}},
		{name: "undeclared port passes through", cite: out + "; DESIGN.md §5", url: "http://reviews:1234/", want: Result{Cluster: passthrough, Endpoint: "reviews:1234"}},
		{name: "virtual IP", cite: names + " (VIP); §2.5 addresses", url: "http://10.96.0.1:9080/", want: Result{Cluster: clusterAll, Endpoint: v1, Host: "10.96.0.1:9080"}},
		{name: "virtual IP on an undeclared port passes through", cite: out, url: "http://10.96.0.1:81/", want: Result{Cluster: passthrough, Endpoint: "10.96.0.1:81"}},
		{name: "no port is port 80", cite: which, url: "http://web/", want: Result{Cluster: "outbound|80||web.default.svc.cluster.local", Endpoint: "10.0.2.1:80", Host: "web"}},
		{name: "port 80 is never guessed", cite: which, url: "http://reviews/", want: Result{Cluster: passthrough, Endpoint: "reviews:80"}},
		{name: "Host header before the URL", cite: which, url: "http://192.0.2.1:9080/", host: "reviews", want: Result{Cluster: clusterAll, Endpoint: v1, Host: "reviews"}},
		{name: "the port is the URL's, not the Host header's", cite: which, url: reviewsURL, host: "reviews:1234", want: Result{Cluster: clusterAll, Endpoint: v1, Host: "reviews:1234"}},
		{name: "dotless ServiceEntry host is itself", cite: "§2.5 hosts; §2.1 Short host names (rules only)", url: "http://legacy:9080/", want: Result{Cluster: "outbound|9080||legacy", Endpoint: "10.0.3.1:9080"}},
	}
	cases := make([]Case, len(rows))
	for i, r := range rows {
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: config, Workload: r.workload,
			Request: Request{URL: r.url, Host: r.host}, Want: r.want}
	}
	return cases
}

func wildcardRows() []Case {
	const (
		cite  = "§2.1 Wildcards; §2.5 hosts"
		short = "outbound|80||*.example.com"
		long  = "outbound|80||*.b.example.com"
		exact = "outbound|80||a.b.example.com"
	)
	// The least specific comes first, so that the order of the documents cannot be the reason.
	config := staticHost("default/short", "*.example.com", "80", "10.0.4.1") +
		staticHost("default/long", "*.b.example.com", "80", "10.0.4.2") +
		staticHost("default/exact", "a.b.example.com", "80", "10.0.4.3")
	rows := []struct {
		name, url, cluster, endpoint string
	}{
		{"wildcard", "http://www.example.com/", short, "10.0.4.1:80"},
		{"wildcard takes several labels", "http://x.y.example.com/", short, "10.0.4.1:80"},
		{"wildcard in upper case", "http://WWW.EXAMPLE.COM/", short, "10.0.4.1:80"},
		{"wildcard does not take its base domain", "http://example.com/", passthrough, "example.com:80"},
		{"wildcard needs the whole label", "http://badexample.com/", passthrough, "badexample.com:80"},
		{"longest wildcard wins", "http://x.b.example.com/", long, "10.0.4.2:80"},
		{"base domain of the longer falls to the shorter", "http://b.example.com/", short, "10.0.4.1:80"},
		{"exact wins over wildcard", "http://a.b.example.com/", exact, "10.0.4.3:80"},
	}
	cases := make([]Case, len(rows))
	for i, r := range rows {
		cases[i] = Case{Name: r.name, Cite: cite, Config: config, Request: get(r.url),
			Want: Result{Cluster: r.cluster, Endpoint: r.endpoint}}
	}
	return cases
}

// ruleHostRows: the hosts of VirtualServices.
func ruleHostRows() []Case {
	const (
		short = "§2.1 Short host names"
		hosts = "§2.2 Spec hosts"
	)
	toRatings := func(name, host string) string {
		return virtualService(name, `
hosts: ["`+host+`"]
http: [{name: `+name[len("default/"):]+`, route: [{destination: {host: ratings.default.svc.cluster.local}}]}]`)
	}
	ruled := func(route string) Result {
		return Result{Route: route, Cluster: "outbound|9080||ratings.default.svc.cluster.local", Endpoint: ratingsAt}
	}
	twins := static("default/reviews", "9080", "10.0.0.1") + static("other/reviews", "9080", "10.0.0.9") +
		static("default/ratings", "9080", "10.0.1.1") + static("other/ratings", "9080", "10.0.1.9")
	inOther := virtualService("other/reviews", `
hosts: [reviews]
http: [{name: r, route: [{destination: {host: ratings}}]}]`)
	ofOther := Result{Route: "r", Cluster: "outbound|9080||ratings.other.svc.cluster.local", Endpoint: "10.0.1.9:9080"}
	web := staticHost("default/api", "api.example.com", "80", "10.0.4.3")
	anyWeb := staticHost("default/any", "*.example.com", "80", "10.0.4.1")

	return []Case{
		{Name: "rule's short host is of the rule's namespace", Cite: short, Config: twins + inOther,
			Request: get("http://reviews.other:9080/"), Want: ofOther},
		{Name: "rule's short host is not of the caller's namespace", Cite: short, Config: twins + inOther,
			Request: get(reviewsURL), Want: Result{Route: "default", Cluster: clusterAll, Endpoint: v1}},
		{Name: "rule's short destination is of the rule's namespace", Cite: short, Config: twins + inOther,
			Workload: in("other"), Request: get(reviewsURL), Want: ofOther},
		{Name: "rule for the FQDN", Cite: hosts, Config: twins + toRatings("default/fqdn", reviewsHost),
			Request: get(reviewsURL), Want: ruled("fqdn")},
		{Name: "rule's host with a dot stays as it is", Cite: short, Config: twins + toRatings("default/dotted", "reviews.default"),
			Request: get(reviewsURL), Want: Result{Route: "default", Cluster: clusterAll, Endpoint: v1}},
		{Name: "rule's wildcard covers a service", Cite: hosts + "; §2.1 Wildcards", Config: ratings() + web + toRatings("default/wild", "*.example.com"),
			Request: get("http://api.example.com/"), Want: ruled("wild")},
		{Name: "exact rule before wildcard rule", Cite: "§2.1 Wildcards (specificity)",
			Config:  ratings() + web + toRatings("default/wild", "*.example.com") + toRatings("default/exact", "api.example.com"),
			Request: get("http://api.example.com/"), Want: ruled("exact")},
		{Name: "longer wildcard rule before shorter", Cite: "§2.1 Wildcards (specificity)",
			Config: ratings() + staticHost("default/deep", "a.b.example.com", "80", "10.0.4.5") +
				toRatings("default/short", "*.example.com") + toRatings("default/long", "*.b.example.com"),
			Request: get("http://a.b.example.com/"), Want: ruled("long")},
		{Name: "exact rule within a wildcard service", Cite: hosts, Config: ratings() + anyWeb + toRatings("default/en", "en.example.com"),
			Request: get("http://en.example.com/"), Want: ruled("en")},
		{Name: "wildcard service outside the exact rule", Cite: hosts, Config: ratings() + anyWeb + toRatings("default/en", "en.example.com"),
			Request: get("http://de.example.com/"), Want: Result{Route: "default", Cluster: "outbound|80||*.example.com", Endpoint: "10.0.4.1:80"}},
		{Name: "rule for a host outside the registry is on port 80", Cite: hosts + " (istio core/route: hosts not in the registry)",
			Config: ratings() + toRatings("default/alias", "shop.internal.example"), Request: get("http://shop.internal.example/"), Want: ruled("alias")},
		{Name: "rule for a host outside the registry is on port 80 only", Cite: hosts + " (istio core/route: hosts not in the registry)",
			Config:  ratings() + toRatings("default/alias", "shop.internal.example"),
			Request: get("http://shop.internal.example:8080/"), Want: Result{Cluster: passthrough, Endpoint: "shop.internal.example:8080"}},
		{Name: "two hosts in one rule", Cite: hosts, Config: ratings() + static("default/details", "9080", "10.0.5.1") + virtualService("default/both", `
hosts: [details, reviews]
http: [{name: both, route: [{destination: {host: ratings}}]}]`), Request: get("http://details:9080/"), Want: ruled("both")},
	}
}
