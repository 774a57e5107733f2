package conformance

import (
	"net/http"

	"github.com/heddlemesh/mesh/snapshot"
)

// hashRows: loadBalancer.consistentHash. Which endpoint a key leads to is package balance's to prove, against Envoy's
// own figures; here it is that calls of one key stay together, and which calls have one.
func hashRows() []Case {
	const (
		keys    = "§2.3 consistentHash key"
		none    = keys + " (no key in request: random)"
		tables  = "§2.3 consistentHash algorithm"
		cookies = keys + " (cookie with ttl set and absent: generated and Set-Cookie sent; unset: only read); envoy makeSetCookieValue"
		again   = "§2.2 Retries retryIgnorePreviousHosts (off for single-destination consistent hash)"
		levels  = "§2.3 Levels"
	)
	service := static("default/reviews", "9080", "10.0.0.1, labels: {version: v1}", "10.0.0.2, labels: {version: v1}",
		"10.0.0.3, labels: {version: v2}", "10.0.0.4, labels: {version: v2}")
	by := func(hash string) string {
		return service + destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {loadBalancer: {consistentHash: "+hash+"}}")
	}
	with := func(name, value string) Request { return Request{URL: reviewsURL, Header: http.Header{name: {value}}} }
	user := with("X-User", "u{n}")
	byUser := by("{httpHeaderName: x-user}")
	const (
		session = "{httpCookie: {name: session, path: /shop, ttl: 60s}}"
		read    = "{httpCookie: {name: session}}"
	)
	spread := map[string]float64{v1: 25, v2: 25, v3: 25, "10.0.0.4:9080": 25}
	rule := func(http string) string {
		return rules("- {name: r, " + http + "}")
	}
	one := "route: [{destination: {host: reviews}}]"
	downFirst := Upstream{Script: []Behaviour{refused()}}
	return []Case{
		{Name: "header keeps calls together", Cite: keys, Config: byUser, Request: user, Keys: 20, Repeat: 60},
		{Name: "header of any case", Cite: keys, Config: by("{httpHeaderName: X-USER}"), Request: user, Keys: 20, Repeat: 60},
		{Name: "another header does not", Cite: none, Config: byUser, Request: with("X-Other", "u1"), Repeat: 60, Random: true},
		{Name: "header with several values", Cite: keys + "; envoy hash_policy.cc (they are sorted)", Config: byUser,
			Request: Request{URL: reviewsURL, Header: http.Header{"X-User": {"a", "u{n}"}}}, Keys: 20, Repeat: 60},
		{Name: "no header at all", Cite: none, Config: byUser, Request: get(reviewsURL), Repeat: 60, Random: true},
		{Name: "without a key the shares are even", Cite: none, Config: by("{httpHeaderName: x-user, maglev: {}}"), Request: get(reviewsURL), Repeat: 10_000, Shares: spread},
		{Name: "cookie keeps calls together", Cite: keys, Config: by(read), Request: with("Cookie", "a=b; session=u{n}"), Keys: 20, Repeat: 60},
		{Name: "another cookie does not", Cite: none, Config: by(read), Request: with("Cookie", "a=b; sessions=u1"), Repeat: 60, Random: true},
		{Name: "cookie is not made without a ttl", Cite: cookies, Config: by(read), Request: get(reviewsURL), Repeat: 60, Random: true},
		{Name: "cookie is made", Cite: cookies, Config: by(session), Request: get(reviewsURL), Repeat: 60, Random: true,
			Want: Result{Cookie: "session=?; Max-Age=60; Path=/shop; HttpOnly"}},
		{Name: "cookie of the session is made", Cite: cookies + "; ttl 0s", Config: by("{httpCookie: {name: s, ttl: 0s}}"), Request: get(reviewsURL),
			Want: Result{Cookie: "s=?; HttpOnly"}},
		{Name: "cookie is made with attributes", Cite: cookies, Config: by("{httpCookie: {name: s, ttl: 1s, path: /, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}"),
			Request: get(reviewsURL), Want: Result{Cookie: "s=?; Max-Age=1; Path=/; SameSite=Lax; Secure; HttpOnly"}},
		{Name: "who has a cookie keeps it", Cite: cookies, Config: by(session), Request: with("Cookie", "session=u{n}"), Keys: 20, Repeat: 60},
		{Name: "made cookies spread the calls", Cite: cookies, Config: by("{httpCookie: {name: s, ttl: 0s}, maglev: {}}"), Request: get(reviewsURL), Repeat: 10_000, Shares: spread},
		{Name: "query parameter keeps calls together", Cite: keys, Config: by("{httpQueryParameterName: u}"), Request: get(reviewsURL + "?a=b&u={n}"), Keys: 20, Repeat: 60},
		{Name: "another query parameter does not", Cite: none, Config: by("{httpQueryParameterName: u}"), Request: get(reviewsURL + "?uu=1"), Repeat: 60, Random: true},
		{Name: "source address of who calls from here", Cite: none + "; a call that begins here has no source", Config: by("{useSourceIp: true}"),
			Request: user, Repeat: 60, Random: true},
		{Name: "ring of a size", Cite: tables, Config: by("{httpHeaderName: x-user, ringHash: {minimumRingSize: 4096}}"), Request: user, Keys: 20, Repeat: 60},
		{Name: "ring in the old form", Cite: tables + " (old minimumRingSize deprecated)", Config: by("{httpHeaderName: x-user, minimumRingSize: 4096}"), Request: user, Keys: 20, Repeat: 60},
		{Name: "Maglev", Cite: tables, Config: by("{httpHeaderName: x-user, maglev: {}}"), Request: user, Keys: 20, Repeat: 60},
		{Name: "Maglev of a size", Cite: tables, Config: by("{httpHeaderName: x-user, maglev: {tableSize: 1031}}"), Request: user, Keys: 20, Repeat: 60},
		{Name: "subset's hash", Cite: levels, Config: service + destinationRule("default/reviews", `
host: reviews
subsets: [{name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}]`) +
			rule("route: [{destination: {host: reviews, subset: v2}}]"), Request: user, Keys: 20, Repeat: 60},
		{Name: "a retry stays with the hash", Cite: again, Config: byUser, Upstream: Upstream{Down: []string{v1, v2, v3, "10.0.0.4:9080"}}, Request: with("X-User", "u1"),
			Want: Result{Status: 503, Flag: "UF", Attempts: 3, Tried: 1}, Except: map[string]string{"grpc": "a channel leaves out endpoints that it could not connect to, whatever the rule says"}},
		{Name: "a retry goes on where the rule says so", Cite: again, Config: byUser + rule(one+", retries: {attempts: 2, retryIgnorePreviousHosts: true}"),
			Upstream: Upstream{Down: []string{v1, v2, v3, "10.0.0.4:9080"}}, Request: with("X-User", "u1"), Want: Result{Route: "r", Status: 503, Flag: "UF", Attempts: 3, Tried: 3}},
		{Name: "a retry goes on and is served", Cite: again, Config: byUser + rule(one+", retries: {attempts: 2, retryIgnorePreviousHosts: true}"), Upstream: downFirst,
			Request: with("X-User", "u1"), Want: Result{Route: "r", Attempts: 2, Tried: 2}},
	}
}

// hashMutations are faults in what keeps calls together.
func hashMutations() []Mutation {
	hash := func(name string, edit func(*snapshot.HashPolicy)) Mutation {
		return Mutation{Name: name, Groups: []string{"hash"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { edit(&c.Policy.Hash) })
		}}
	}
	return []Mutation{
		hash("what is hashed not read", func(p *snapshot.HashPolicy) { *p = snapshot.HashPolicy{} }),
		hash("cookies not made", func(p *snapshot.HashPolicy) { p.Cookie = nil }),
		hash("cookies always made", func(p *snapshot.HashPolicy) {
			if p.Kind == snapshot.HashCookie {
				p.Cookie = new(snapshot.Cookie)
			}
		}),
		hash("every hash is the source's", func(p *snapshot.HashPolicy) { p.Kind = snapshot.HashSource }),
	}
}
