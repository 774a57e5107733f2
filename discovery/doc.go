// Package discovery says which endpoints a service has, and tells when that changes.
//
// A [Registry] holds one immutable [Set] for each port of each service. Whoever knows endpoints publishes
// sets, the engine subscribes; neither knows the other, and a change of endpoints compiles nothing:
//
//	var r discovery.Registry
//	r.Publish(discovery.Key{Host: "reviews.default.svc.cluster.local", Port: 9080}, discovery.NewSet(endpoints...))
//
// It does not balance, filter by subset or connect. Layer L1.
package discovery
