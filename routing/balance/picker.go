package balance

import "time"

// A Draw is what one pick depends on beside the endpoints.
type Draw struct {
	// Random is 64 uniformly random bits, new for each pick.
	Random uint64
	// Hash is the hash of what calls are kept together by, where Hashed says that the call has one: xxHash64
	// of a header's value, say. Without one RingHash and Maglev pick at random, as Envoy does; the other
	// algorithms never look.
	Hash   uint64
	Hashed bool
	// Step asks for the Step-th other endpoint in the order that Hash gives: 0 is the hash's own endpoint,
	// 1 what would be if that one were not there, and so on up to 15. Where there are fewer it begins again. It
	// is how a retry goes on to an endpoint that the call has not tried, and all retries on one hash to the
	// same one. Where there is no hash to follow, new random bits do as much.
	Step uint8
	// Now is the time by the clock of Endpoint.Join. Only Warmup wants it.
	Now time.Duration
}

// A Picker chooses among a fixed list of endpoints. It is safe for concurrent use, takes no lock, reads
// no clock and does not allocate.
//
// It passes over endpoints that are ejected at that moment (Endpoint.Eject), whether or not they were when it
// was made. While none is, that costs one load, of memory that the attempt is about to write. Otherwise who
// draws an ejected endpoint draws again, and after some such draws compares all of them, so that the others
// have exactly the shares they would have without it. With half of the endpoints ejected that is another draw
// or two and one comparison in 65,536 picks; at worst it is one in each, whose price grows with the list.
//
// What depends on how many are healthy — panic, and which levels and localities of a LocalityPolicy take how
// much — is reckoned once, in New: who ejects or unejects makes a new picker when it can, as for a change of
// endpoints. Until then a picker is right about which endpoints are ejected, and behind about that.
type Picker interface {
	// Pick chooses an endpoint, nil where there is none that can be used.
	Pick(d Draw) *Endpoint
	// Len is the number of endpoints and At the i-th of them, healthy or not, for whoever needs to look
	// further: a retry that avoids what it has tried, a driver that connects beforehand. Endpoints to which a
	// LocalityPolicy sends nothing are not among them.
	Len() int
	At(i int) *Endpoint
}

// New makes a picker over the endpoints, whose weights and health it reads once and whose slice it copies.
// The seed decides where round robin begins: it should be random, so that a fleet of clients that hear of the
// same endpoints at the same time do not all begin with the same one. What RingHash and Maglev choose depends
// neither on the seed nor on the order of the endpoints.
func New(c Config, endpoints []*Endpoint, seed uint64) Picker {
	levels := []Level{{Groups: []Group{{Endpoints: endpoints, Weight: 1}}}}
	if c.Locality != nil {
		client := c.Client
		if client == nil {
			client = new(Client)
		}
		levels = Priorities(client.Locality, client.Labels, c.Locality, endpoints)
	}
	loads, panics := spread(levels, c.PanicThreshold)
	if len(levels) > 1 {
		return newLeveled(&c, levels, loads, panics, seed)
	}
	var all Level
	if len(levels) == 1 {
		all = levels[0]
	}
	return newLevel(&c, &all, health{panics: panics[0], desperate: c.PanicThreshold > 0}, seed)
}

// newLevel makes the picker over one level. In panic its localities do not count.
func newLevel(c *Config, l *Level, h health, seed uint64) Picker {
	if h.panics && len(l.Groups) > 1 {
		l = &Level{Groups: []Group{{Endpoints: l.endpoints(), Weight: 1}}}
	}
	all := l.endpoints()
	switch {
	case len(all) < 2:
		return &lone{pool{list: all, health: h}}
	case c.Algorithm.hashes():
		return newHashed(c, l, h)
	case len(l.Groups) > 1:
		return newGrouped(c, l, h, seed)
	}
	return newDrawing(c, all, h, seed)
}

// newDrawing makes the picker of an algorithm that does not hash.
func newDrawing(c *Config, all list, h health, seed uint64) Picker {
	p := pool{list: all, health: h}
	weights, equal := weightsOf(all)
	if !equal {
		p.weights, p.table = weights, newAliasTable(weights)
	}
	if c.Algorithm == Random {
		if equal {
			return &random{p}
		}
		return &weightedRandom{p}
	}
	p.warm = newWarming(c.Warmup, all)
	switch {
	case c.Algorithm == RoundRobin && equal:
		return newRoundRobin(p, seed)
	case c.Algorithm == RoundRobin:
		return newWeightedRoundRobin(p, seed)
	case equal:
		return &leastRequest{p}
	default:
		return &weightedLeastRequest{p}
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

// lone leaves no choice, whatever the algorithm: it has one endpoint at most.
type lone struct{ pool }

// Pick implements Picker.
func (p *lone) Pick(Draw) *Endpoint {
	if len(p.list) == 0 || !p.usable(p.list[0]) && !p.desperate {
		return nil
	}
	return p.list[0]
}
