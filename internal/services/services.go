// Package services writes documents of many services, to measure what a mesh of thousands takes. It is for tests.
//
// Layer L0.
package services

import (
	"fmt"
	"strings"
)

const (
	entry = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: svc-%[1]d}
spec:
  hosts: [svc-%[1]d.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.%[2]d.%[3]d.1, labels: {app: svc-%[1]d, version: v1}}
  - {address: 10.%[2]d.%[3]d.2, labels: {app: svc-%[1]d, version: v1}}
  - {address: 10.%[2]d.%[3]d.3, labels: {app: svc-%[1]d, version: v2}}
`
	rules = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc-%[1]d}
spec:
  hosts: [svc-%[1]d]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: svc-%[1]d, subset: v2}}]
  - route: [{destination: {host: svc-%[1]d, subset: v1}, weight: 90}, {destination: {host: svc-%[1]d, subset: v2}, weight: 10}]
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx"}
    timeout: 10s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc-%[1]d}
spec:
  host: svc-%[1]d
  trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 100}}, outlierDetection: {consecutive5xxErrors: 5}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
`
)

// YAML gives n services of three endpoints each, where nobody listens: Entry(0), Entry(1), …; ruled ones have a VirtualService and a
// DestinationRule with two subsets each too.
func YAML(n int, ruled bool) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(Entry(i))
		if ruled {
			fmt.Fprintf(&b, rules, i)
		}
	}
	return b.String()
}

// Entry gives the service svc-i alone.
func Entry(i int) string { return fmt.Sprintf(entry, i, i/250, i%250) }
