// Package balance holds the long-lived record of an endpoint and the pickers that choose among them, one
// file for each algorithm.
//
// A [Picker] is immutable and made anew whenever a cluster's endpoints change; what must outlive that —
// requests in flight, failures in a row, ejection, when it joined — stands in the [Endpoint] records, which
// pickers share:
//
//	p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, endpoints, rand.Uint64())
//	e := p.Pick(balance.Draw{Random: rand.Uint64(), Now: now})
//
// What the places of endpoints mean is decided before any of them is picked: [Priorities] sorts them into
// levels, and of those each gets what the ones before cannot take.
//
// Pickers know nothing of retries or subsets, and nothing of why an endpoint is ejected: whoever calls decides
// what to do with the choice, and hands in randomness, hash and time. Layer L2.
package balance
