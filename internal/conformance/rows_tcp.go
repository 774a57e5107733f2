package conformance

// connRuleRows: rules of tcp and tls, on ports that have them.
func connRuleRows(tcp, tls, turns string) []Case {
	const (
		cite = "§2.2 TLSRoute, TCPRoute"
		spec = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: conns}\nspec:\n  hosts: [reviews]\n"
	)
	rule := func(rules string) string { return "---\n" + spec + rules + "\n" }
	all := []string{v1, v2}
	return []Case{
		{Name: "a rule of tcp", Cite: cite, Config: tcp + turns + rule("  tcp: [{route: [{destination: {host: reviews, subset: v2}}]}]"), Repeat: 4,
			Want: Result{Cluster: clusterV2, Endpoint: v2, Route: "default/conns/tcp[0]"}},
		{Name: "the first rule of tcp that matches", Cite: cite, Repeat: 4, Config: tcp + turns + rule(
			"  tcp: [{match: [{port: 9081}], route: [{destination: {host: nobody}}]}, {match: [{port: 9080}], route: [{destination: {host: reviews, subset: v2}}]}, {route: [{destination: {host: nobody}}]}]"),
			Want: Result{Cluster: clusterV2, Endpoint: v2, Route: "default/conns/tcp[1]"}},
		{Name: "no rule of tcp matches", Cite: cite + "; pilot tls.go (the service's own cluster)", Repeat: 10, Cycle: all,
			Config: tcp + turns + rule("  tcp: [{match: [{destinationSubnets: [192.0.2.0/24]}], route: [{destination: {host: nobody}}]}]"),
			Want:   Result{Cluster: clusterAll}},
		{Name: "weights of tcp", Cite: cite, Repeat: 1_000, Shares: map[string]float64{v1: 10, v2: 90},
			Config: tcp + turns + rule("  tcp: [{route: [{destination: {host: reviews, subset: v2}, weight: 80}, {destination: {host: reviews}, weight: 20}]}]")},
		{Name: "a missing subset of tcp", Cite: cite + "; §3.6 NC", Config: tcp + turns + rule("  tcp: [{route: [{destination: {host: reviews, subset: v9}}]}]"),
			Want: Result{Status: 503, Flag: "NC"}},
		{Name: "rules of tcp do not apply to TLS", Cite: cite, Repeat: 10, Cycle: all,
			Config: tls + turns + rule("  tcp: [{route: [{destination: {host: nobody}}]}]"), Want: Result{Cluster: clusterAll}},
	}
}
