package balance

import (
	"maps"
	"slices"
	"strconv"
)

// An Algorithm names how a picker chooses (DestinationRule loadBalancer.simple and .consistentHash).
type Algorithm uint8

// The zero value is what Istio uses where a rule names nothing, or UNSPECIFIED or LEAST_CONN.
const (
	LeastRequest Algorithm = iota
	RoundRobin
	Random
	RingHash // consistentHash.ringHash, and consistentHash that names no algorithm
	Maglev   // consistentHash.maglev
)

// String gives Istio's or, where Istio has none, Envoy's name of the algorithm.
func (a Algorithm) String() string {
	switch a {
	case LeastRequest:
		return "LEAST_REQUEST"
	case RoundRobin:
		return "ROUND_ROBIN"
	case Random:
		return "RANDOM"
	case RingHash:
		return "RING_HASH"
	case Maglev:
		return "MAGLEV"
	}
	return "Algorithm(" + strconv.Itoa(int(a)) + ")"
}

// hashes reports whether the algorithm looks at Draw.Hash.
func (a Algorithm) hashes() bool { return a == RingHash || a == Maglev }

// A Config says how the endpoints of a cluster are chosen (DestinationRule trafficPolicy.loadBalancer). Its
// zero value is LEAST_REQUEST over all endpoints alike. It is a value, and what it points to is not changed
// once it is in use. It can be compared with ==, but what that finds different can be Same.
type Config struct {
	Algorithm Algorithm
	// RingSize is the least number of hashes on the ring of RingHash (ringHash.minimumRingSize). Default
	// 1024; more than 8,388,608 counts as that.
	RingSize uint32
	// TableSize is the size of Maglev's table (maglev.tableSize). Default 65,537. A size that is not prime
	// counts as the next one that is, beyond 5,000,011 as that.
	TableSize uint32
	// PanicThreshold is the percentage of healthy endpoints below which health does not count and all are
	// used (outlierDetection.minHealthPercent; Envoy's healthy_panic_threshold). Default 0: never.
	PanicThreshold uint8
	// Warmup is how endpoints that have just joined get their share. Default: at once.
	Warmup Warmup
	// Locality is what the places of the endpoints mean. Default: nothing.
	Locality *LocalityPolicy
	// Client is from where the endpoints are seen, for Locality. Default: from nowhere, without labels.
	Client *Client
}

// A Client is where a caller runs and what it is labelled with, which is what a LocalityPolicy compares
// endpoints with.
type Client struct {
	Locality Locality
	Labels   map[string]string
}

// Same reports whether both choose alike.
func (c *Config) Same(o *Config) bool {
	a, b := *c, *o
	a.Locality, a.Client, b.Locality, b.Client = nil, nil, nil, nil
	return a == b && c.Locality.same(o.Locality) && c.Client.same(o.Client)
}

func (c *Client) same(o *Client) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Locality == o.Locality && maps.Equal(c.Labels, o.Labels)
}

func (p *LocalityPolicy) same(o *LocalityPolicy) bool {
	if p == nil || o == nil {
		return p == o
	}
	return slices.Equal(p.Failover, o.Failover) && slices.Equal(p.FailoverPriority, o.FailoverPriority) &&
		slices.EqualFunc(p.Distribute, o.Distribute, func(a, b Distribution) bool {
			return a.From == b.From && slices.Equal(a.To, b.To)
		})
}
