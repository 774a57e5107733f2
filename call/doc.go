// Package call holds what every layer says about one call: the request as matchers see it, canonical
// hosts and paths, string matchers, and how an attempt ended.
//
// It is not a router and does no input or output. A driver fills a [Request] from whatever its protocol
// gives it, the engine answers with a decision, and each attempt ends in one [Outcome]:
//
//	q := call.Request{
//		Method: "GET", Scheme: "http", Host: "reviews", Port: 9080,
//		Authority: "reviews:9080", Path: "/reviews/1", Headers: call.HTTPHeaders(req.Header),
//	}
//
// Layer L0: the standard library only.
package call
