// Package routing is the compiled route table: which rule takes a request, and which cluster it goes to.
//
// A [Table] is built once from plain [VirtualHost] values and never changes. Every decision is a pure
// function of the table, the request and, for weighted splits, 64 random bits:
//
//	host, _ := table.Lookup(q.Host, q.Port)
//	route, name := host.Match(&q)
//	destination := route.Pick(rand.Uint64())
//
// Rules keep the meaning of Istio's list, first match wins, but the cost of a look-up does not follow
// the length of the list (see index.go). It knows nothing of YAML, endpoints or connections. Layer L3.
package routing
