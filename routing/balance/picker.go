package balance

import (
	"slices"
	"strconv"
)

// An Algorithm names how a picker chooses (DestinationRule loadBalancer.simple).
type Algorithm uint8

// The zero value is what Istio uses where a rule names nothing, or UNSPECIFIED or LEAST_CONN.
const (
	LeastRequest Algorithm = iota
	RoundRobin
	Random
)

// String gives Istio's name of the algorithm.
func (a Algorithm) String() string {
	switch a {
	case LeastRequest:
		return "LEAST_REQUEST"
	case RoundRobin:
		return "ROUND_ROBIN"
	case Random:
		return "RANDOM"
	}
	return "Algorithm(" + strconv.Itoa(int(a)) + ")"
}

// A Picker chooses among a fixed list of endpoints. It is safe for concurrent use, takes no lock, reads
// no clock and does not allocate.
type Picker interface {
	// Pick chooses an endpoint, nil where there is none. rnd is 64 uniformly random bits, new for each
	// call.
	Pick(rnd uint64) *Endpoint
	// Len is the number of endpoints and At the i-th of them, for whoever needs to look further: a
	// retry that avoids what it has tried.
	Len() int
	At(i int) *Endpoint
}

// New makes a picker over the endpoints, whose weights it reads once and whose slice it copies. The seed
// decides where round robin begins: it should be random, so that a fleet of clients that hear of the same
// endpoints at the same time do not all begin with the same one.
func New(a Algorithm, endpoints []*Endpoint, seed uint64) Picker {
	all := list(slices.Clone(endpoints))
	if len(all) < 2 {
		return &atMostOne{all}
	}
	weights, equal := weightsOf(all)
	switch {
	case a == RoundRobin && equal:
		return newRoundRobin(all, seed)
	case a == RoundRobin:
		return newWeightedRoundRobin(all, weights, seed)
	case a == Random && equal:
		return &random{all}
	case a == Random:
		return &weightedRandom{all, newAliasTable(weights)}
	case equal:
		return &leastRequest{all}
	default:
		return &weightedLeastRequest{all, newAliasTable(weights), weights}
	}
}

func weightsOf(endpoints []*Endpoint) (weights []uint32, equal bool) {
	weights, equal = make([]uint32, len(endpoints)), true
	for i, e := range endpoints {
		weights[i] = e.weight()
		equal = equal && weights[i] == weights[0]
	}
	return weights, equal
}

// list is the part of a picker that all have in common.
type list []*Endpoint

// Len implements Picker.
func (l list) Len() int { return len(l) }

// At implements Picker.
func (l list) At(i int) *Endpoint { return l[i] }

// atMostOne leaves no choice, whatever the algorithm.
type atMostOne struct{ list }

// Pick implements Picker.
func (p *atMostOne) Pick(uint64) *Endpoint {
	if len(p.list) == 0 {
		return nil
	}
	return p.list[0]
}
