// Package balance holds the long-lived record of an endpoint and the pickers that choose among them, one
// file for each algorithm.
//
// A [Picker] is immutable and made anew whenever a cluster's endpoints change; what must outlive that —
// requests in flight, failures in a row — stands in the [Endpoint] records, which pickers share:
//
//	p := balance.New(balance.LeastRequest, endpoints, rand.Uint64())
//	e := p.Pick(rand.Uint64())
//
// Pickers know nothing of health, retries or subsets: whoever calls decides what to do with the choice.
// Layer L2.
package balance
