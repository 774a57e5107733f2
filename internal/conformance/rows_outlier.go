package conformance

import (
	"net/http"
	"strings"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// outlierRows: DestinationRule trafficPolicy.outlierDetection. There is one endpoint, so that the script's failures are in
// a row, and calls after its ejection get UH.
func outlierRows() []Case {
	const (
		counts  = "§2.3 outlierDetection; §3.5 1, 2"
		limits  = "§3.5 3 (maxEjectionPercent)"
		between = "§2.3 outlierDetection minHealthPercent"
	)
	one := static("default/reviews", "9080", "10.0.0.1")
	ejecting := func(outlier string) string {
		return one + destinationRule("default/reviews", "host: reviews\ntrafficPolicy:\n  outlierDetection: "+outlier) +
			rules("- {name: r, route: [{destination: {host: reviews}}], retries: {attempts: 0}}")
	}
	meets := func(script ...Behaviour) Upstream { return Upstream{Script: script} }
	// With one endpoint, that which is ejected after n of 100 calls leaves UH for the others.
	after := func(n float64) map[string]float64 { return map[string]float64{v1: n, "UH": 100 - n} }
	all := map[string]float64{v1: 100}
	three := func() []Behaviour { return []Behaviour{status(500), status(502), status(503)} }
	many := func(b Behaviour, n int) (script []Behaviour) {
		for range n {
			script = append(script, b)
		}
		return script
	}
	rows := []Case{
		{Name: "one error", Cite: counts, Config: ejecting("{consecutive5xxErrors: 1, maxEjectionPercent: 100}"), Upstream: meets(status(500)), Shares: after(1)},
		{Name: "forty errors", Cite: counts, Config: ejecting("{consecutive5xxErrors: 40, maxEjectionPercent: 100}"), Upstream: meets(many(status(503), 40)...), Shares: after(40)},
		{Name: "fewer errors than the threshold", Cite: counts, Config: ejecting("{consecutive5xxErrors: 4, maxEjectionPercent: 100}"), Upstream: meets(three()...), Shares: all},
		{Name: "an answer in between", Cite: counts, Config: ejecting("{consecutive5xxErrors: 4, maxEjectionPercent: 100}"),
			Upstream: meets(append(append(three(), status(404)), three()...)...), Shares: all},
		{Name: "off by 0", Cite: counts + "; 0 off", Config: ejecting("{consecutive5xxErrors: 0, maxEjectionPercent: 100}"), Upstream: meets(many(status(500), 60)...), Shares: all},
		{Name: "five by default", Cite: counts + "; default 5", Config: ejecting("{maxEjectionPercent: 100}"), Upstream: meets(many(status(500), 5)...), Shares: after(5)},
		{Name: "gateway errors", Cite: counts, Config: ejecting("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, maxEjectionPercent: 100}"), Upstream: meets(status(502), status(504)), Shares: after(2)},
		{Name: "gateway errors, not 500", Cite: counts, Config: ejecting("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, maxEjectionPercent: 100}"), Upstream: meets(many(status(500), 60)...), Shares: all},
		{Name: "a reset is a 5xx", Cite: counts, Config: ejecting("{consecutive5xxErrors: 1, maxEjectionPercent: 100}"), Upstream: meets(reset()),
			Shares: map[string]float64{"UC": 1, "UH": 99}},
		{Name: "split: no answer counts apart", Cite: "§2.3 splitExternalLocalOriginErrors, consecutiveLocalOriginFailures", Config: ejecting(
			"{consecutive5xxErrors: 1, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 50, maxEjectionPercent: 100}"),
			Upstream: Upstream{Down: []string{v1}}, Shares: map[string]float64{"UF": 50, "UH": 50}},
		{Name: "codes in the place of 5xx", Cite: "§2.3 outlierDetectionHttpErrorCodes", Config: ejecting("{consecutive5xxErrors: 1, outlierDetectionHttpErrorCodes: [418], maxEjectionPercent: 100}"),
			Upstream: meets(append(many(status(500), 40), status(418))...), Shares: after(41)},
		{Name: "10 % of a small pool", Cite: limits + "; §6.10", Config: ejecting("{consecutive5xxErrors: 1}"), Upstream: meets(many(status(500), 60)...), Shares: all},
		{Name: "in panic all are used", Cite: between + "; §3.5 8", Config: ejecting("{consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: 50}"), Upstream: meets(status(500)), Shares: all},
	}
	for i := range rows {
		rows[i].Request = Request{Method: "GET", URL: reviewsURL}
	}
	// The same by grpc-status: UNAVAILABLE is 503, INTERNAL is 500.
	const mapped = "§3.5 2; Envoy, grpcToHttpStatus"
	const unavailable, internal, notFound = 14, 13, 5
	rpc := func(outlier string) string {
		return strings.Replace(ejecting(outlier), "name: http, protocol: HTTP", "name: grpc, protocol: GRPC", 1)
	}
	for _, c := range []Case{
		{Name: "rpc, one error", Config: rpc("{consecutive5xxErrors: 1, maxEjectionPercent: 100}"), Upstream: meets(trailersOnly(internal)), Shares: after(1)},
		{Name: "rpc, forty errors", Config: rpc("{consecutive5xxErrors: 40, maxEjectionPercent: 100}"), Upstream: meets(many(trailersOnly(unavailable), 40)...), Shares: after(40)},
		{Name: "rpc, not found", Config: rpc("{consecutive5xxErrors: 1, maxEjectionPercent: 100}"), Upstream: meets(trailersOnly(notFound)), Shares: all},
		{Name: "rpc, gateway errors", Config: rpc("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, maxEjectionPercent: 100}"), Upstream: meets(many(trailersOnly(unavailable), 2)...), Shares: after(2)},
		{Name: "rpc, codes are of HTTP", Config: rpc("{consecutive5xxErrors: 1, outlierDetectionHttpErrorCodes: [503], maxEjectionPercent: 100}"), Upstream: meets(trailersOnly(unavailable)), Shares: all},
		{Name: "rpc, 10 % of a small pool", Config: rpc("{consecutive5xxErrors: 1}"), Upstream: meets(many(trailersOnly(internal), 60)...), Shares: all},
		{Name: "rpc, in panic", Config: rpc("{consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: 50}"), Upstream: meets(trailersOnly(internal)), Shares: all},
		{Name: "rpc, split", Config: rpc("{consecutive5xxErrors: 1, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 50, maxEjectionPercent: 100}"),
			Upstream: Upstream{Down: []string{v1}}, Shares: map[string]float64{"UF": 50, "UH": 50}},
	} {
		c.Cite = mapped
		c.Request = Request{Method: "POST", URL: reviewsURL + "shop.Reviews/Get", Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}}
		rows = append(rows, c)
	}
	for i := range rows {
		rows[i].Repeat = 100
	}
	return rows
}

// outlierMutations are faults in judging endpoints.
func outlierMutations() []Mutation {
	policy := func(name string, edit func(*snapshot.Policy)) Mutation {
		return Mutation{Name: name, Groups: []string{"outlier"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { edit(&c.Policy) })
		}}
	}
	judges := func(name string, edit func(*resilience.Outlier)) Mutation {
		return policy(name, func(p *snapshot.Policy) {
			if p.Outlier != nil {
				other := *p.Outlier
				edit(&other)
				p.Outlier = &other
			}
		})
	}
	return []Mutation{
		policy("nothing is ejected", func(p *snapshot.Policy) { p.Outlier = nil }),
		judges("everybody may be ejected", func(p *resilience.Outlier) { p.MaxPercent = 100 }),
		judges("any failure ejects", func(p *resilience.Outlier) { p.Consecutive5xx = 1 }),
		judges("gateway errors do not count", func(p *resilience.Outlier) { p.ConsecutiveGateway = 0 }),
		judges("codes forgotten", func(p *resilience.Outlier) { p.Codes = nil }),
		judges("local failures do not count apart", func(p *resilience.Outlier) { p.SplitLocal = false }),
		policy("no panic", func(p *snapshot.Policy) { p.PanicThreshold = 0 }),
	}
}
