package conformance

import "github.com/heddlemesh/mesh/snapshot"

// tlsRows: trafficPolicy.tls of modes DISABLE, SIMPLE and MUTUAL, which come from files.
func tlsRows() []Case {
	const (
		mode   = "§2.3 tls mode"
		system = "§2.3 tls caCertificates (SIMPLE without it: OS trust store)"
		sans   = "§2.3 tls subjectAltNames"
		auto   = sans + " (if empty verified against SNI/host)"
		sni    = "§2.3 tls sni (unset: host header of request)"
		entry  = "§2.5 subjectAltNames"
		levels = "§2.3 Levels"
		skip   = "§2.3 tls insecureSkipVerify"
		crl    = "§2.3 tls caCrl"
	)
	const host, url = "api.example.com", "http://api.example.com/x"
	service := func(more string) string {
		return serviceEntry("default/api", `
hosts: [api.example.com]
ports:
- {number: 80, name: http, protocol: HTTP, targetPort: 443}
resolution: STATIC
endpoints: [{address: 10.0.0.1}]`+more)
	}
	under := func(tls string) string {
		return service("") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {tls: "+tls+"}")
	}
	of := func(names ...string) Upstream { return Upstream{TLS: &Secured{Names: names}} }
	mutual := Upstream{TLS: &Secured{Names: []string{host}, Caller: true}}
	api := of(host)
	refused := Result{Status: 503, Flag: "UF", Attempts: 3}
	secured := func(name string) Result { return Result{Endpoint: "10.0.0.1:443", Host: host, SNI: name} }
	const spiffe = "spiffe://cluster.local/ns/default/sa/api"
	rows := []Case{
		{Name: "SIMPLE", Cite: mode, Config: under("{mode: SIMPLE, caCertificates: $ca}"), Upstream: api, Want: secured(host)},
		{Name: "DISABLE", Cite: mode, Config: under("{mode: DISABLE}"), Want: Result{Endpoint: "10.0.0.1:443", Host: host}},
		{Name: "DISABLE is the default of a block", Cite: mode, Config: under("{}"), Want: Result{Endpoint: "10.0.0.1:443", Host: host}},
		{Name: "TLS to who speaks plaintext", Cite: mode, Config: service("") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 50ms}}, tls: {mode: SIMPLE, insecureSkipVerify: true}}"), Want: refused},
		{Name: "the system's authorities", Cite: system, Config: under("{mode: SIMPLE}"), Upstream: api, Want: refused},
		{Name: "another authority", Cite: mode, Config: under("{mode: SIMPLE, caCertificates: $other}"), Upstream: api, Want: refused},
		{Name: "authority that is not there", Cite: mode, Deviation: "istiod does not look at files, Envoy keeps the cluster warming",
			Config: under("{mode: SIMPLE, caCertificates: /nowhere/ca.pem}"), Upstream: api, Want: refused},
		{Name: "certificate of another host", Cite: auto, Config: under("{mode: SIMPLE, caCertificates: $ca}"), Upstream: of("other.example.com"), Want: refused},
		{Name: "certificate with a wildcard", Cite: auto, Config: under("{mode: SIMPLE, caCertificates: $ca}"), Upstream: of("*.example.com"), Want: secured(host)},
		{Name: "subjectAltNames", Cite: sans, Config: under("{mode: SIMPLE, caCertificates: $ca, subjectAltNames: [other.example.com]}"), Upstream: of("other.example.com"), Want: secured(host)},
		{Name: "one of several subjectAltNames", Cite: sans, Config: under(`{mode: SIMPLE, caCertificates: $ca, subjectAltNames: [x, "` + spiffe + `"]}`), Upstream: of(spiffe), Want: secured(host)},
		{Name: "subjectAltNames in place of the host", Cite: sans, Config: under("{mode: SIMPLE, caCertificates: $ca, subjectAltNames: [other.example.com]}"), Upstream: api, Want: refused},
		{Name: "subjectAltNames of the service", Cite: entry, Config: service("\nsubjectAltNames: ['"+spiffe+"']") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {tls: {mode: SIMPLE, caCertificates: $ca}}"),
			Upstream: of(spiffe), Want: secured(host)},
		{Name: "subjectAltNames of the rule before the service's", Cite: entry, Config: service("\nsubjectAltNames: ['"+spiffe+"']") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {tls: {mode: SIMPLE, caCertificates: $ca, subjectAltNames: [x]}}"),
			Upstream: of(spiffe), Want: refused},
		{Name: "sni", Cite: sni, Config: under("{mode: SIMPLE, caCertificates: $ca, sni: inner.example.com, subjectAltNames: [api.example.com]}"), Upstream: api, Want: secured("inner.example.com")},
		{Name: "sni is the name that is verified", Cite: auto, Config: under("{mode: SIMPLE, caCertificates: $ca, sni: inner.example.com}"), Upstream: api, Want: refused},
		{Name: "insecureSkipVerify", Cite: skip, Config: under("{mode: SIMPLE, insecureSkipVerify: true}"), Upstream: of("other.example.com"), Want: secured(host)},
		{Name: "revoked", Cite: crl, Config: under("{mode: SIMPLE, caCertificates: $ca, caCrl: $crl}"), Upstream: api, Want: refused},
		{Name: "MUTUAL", Cite: mode, Config: under("{mode: MUTUAL, caCertificates: $ca, clientCertificate: $own, privateKey: $key}"), Upstream: mutual,
			Want: Result{Endpoint: "10.0.0.1:443", Host: host, SNI: host, Caller: "caller"}},
		{Name: "SIMPLE to who asks for a certificate", Cite: mode, Config: under("{mode: SIMPLE, caCertificates: $ca}"), Upstream: mutual, Want: refused},
		{Name: "the port's", Cite: levels, Config: service("") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: $ca}}]}"),
			Upstream: api, Want: secured(host)},
		{Name: "another port's", Cite: levels, Config: service("") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE, caCertificates: $ca}}]}"),
			Want: Result{Endpoint: "10.0.0.1:443"}},
		{Name: "HTTP/2", Cite: mode + "; §2.3 h2UpgradePolicy", Config: service("") + destinationRule("default/api", "host: api.example.com\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, tls: {mode: SIMPLE, caCertificates: $ca}}"),
			Upstream: api, Want: Result{Endpoint: "10.0.0.1:443", Host: host, SNI: host, Proto: "HTTP/2.0"}},
		{Name: "a rewritten authority is the server's name", Cite: sni + "; §2.2 Rewrite authority", Config: under("{mode: SIMPLE, caCertificates: $ca}") + virtualService("default/api", `
hosts: [api.example.com]
http: [{name: r, rewrite: {authority: other.example.com}, route: [{destination: {host: api.example.com}}]}]`), Upstream: of("other.example.com"),
			Want:   Result{Route: "r", Endpoint: "10.0.0.1:443", Host: "other.example.com", SNI: "other.example.com"},
			Except: map[string]string{"grpc": "the connections of a channel are to its own host; an RPC's authority does not change them"}},
	}
	for i := range rows {
		rows[i].Request = get(url)
	}
	return rows
}

// tlsMutations are faults in how connections are secured.
func tlsMutations() []Mutation {
	tls := func(name string, edit func(*snapshot.TLS)) Mutation {
		return Mutation{Name: name, Groups: []string{"tls"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Policy.TLS != nil {
					t := *c.Policy.TLS
					edit(&t)
					c.Policy.TLS = &t
				}
			})
		}}
	}
	return []Mutation{
		{Name: "connections not secured", Groups: []string{"tls"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Policy.TLS = nil })
		}},
		tls("endpoints not verified", func(t *snapshot.TLS) { t.SkipVerify = true }),
		tls("endpoints always verified", func(t *snapshot.TLS) { t.SkipVerify = false }),
		tls("sni not read", func(t *snapshot.TLS) { t.ServerName = "" }),
		tls("subjectAltNames not read", func(t *snapshot.TLS) { t.Names = "" }),
		tls("clientCertificate not read", func(t *snapshot.TLS) { t.CertificateFile, t.KeyFile = "", "" }),
		tls("caCertificates not read", func(t *snapshot.TLS) { t.CAFile = "" }),
		tls("caCrl not read", func(t *snapshot.TLS) { t.RevocationFile = "" }),
	}
}
