package conformance

import (
	"time"

	"github.com/heddlemesh/mesh"
)

// presetRows: what mesh.Production gives to what documents say nothing of, and that they go before it.
func presetRows() []Case {
	const cite = "docs/resilience.md, Presets"
	slow := func(d time.Duration) Behaviour { return Behaviour{After: d} }
	meets := func(script ...Behaviour) Upstream { return Upstream{Script: script} }
	plain := lone() + rules("- {name: r, route: [{destination: {host: reviews}}]}")
	explicitly := Request{Method: "GET", URL: reviewsURL}
	late := func(attempts int, took time.Duration) Result {
		return Result{Route: "r", Status: 504, Flag: "UT", Attempts: attempts, Took: took}
	}
	var failing []Behaviour
	for range 20 {
		failing = append(failing, status(503))
	}
	rows := []Case{
		{Name: "a deadline", Config: ruled("retries: {attempts: 0}"), Upstream: meets(slow(time.Hour)), Want: late(1, 15*time.Second)},
		{Name: "without a rule", Config: lone(), Upstream: meets(slow(time.Hour)), Request: Request{Method: "GET", URL: reviewsURL}, Want: Result{Endpoint: v1, Attempts: 2}},
		{Name: "a try has its time, and another is made", Config: plain, Upstream: meets(slow(time.Hour)), Request: explicitly, Want: Result{Route: "r", Endpoint: v1, Attempts: 2}},
		{Name: "of a POST no other is made", Config: plain, Upstream: meets(slow(time.Hour)), Request: Request{Method: "POST", URL: reviewsURL, Body: "some"}, Want: late(1, 4*time.Second)},
		{Name: "a rule's time counts for its tries too", Config: ruled("timeout: 60s"), Upstream: meets(slow(50 * time.Second)), Request: explicitly, Want: Result{Route: "r", Endpoint: v1, Took: 50 * time.Second}},
		{Name: "a rule without an end", Config: ruled("timeout: 0s"), Upstream: meets(slow(time.Hour)), Request: explicitly, Want: Result{Route: "r", Endpoint: v1, Took: time.Hour}},
		{Name: "a rule's tries", Config: ruled("retries: {attempts: 1, perTryTimeout: 30s, retryOn: connect-failure}"), Upstream: meets(slow(time.Hour)), Request: explicitly, Want: late(1, 30*time.Second)},
		{Name: "the only endpoint stays", Config: ruled("retries: {attempts: 0}"), Upstream: meets(failing...), Request: explicitly, Repeat: 100, Shares: map[string]float64{v1: 100}},
	}
	for i := range rows {
		rows[i].Cite, rows[i].Preset = cite, mesh.Production
		rows[i].Fake = rows[i].Repeat == 0
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}
