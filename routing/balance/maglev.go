package balance

import "math"

const (
	defaultTable = 65_537
	maxTable     = 5_000_011 // Envoy's limit
)

// A maglev is the table of Maglev hashing, built as Envoy builds it (MaglevTable), so that for the same
// endpoints and the same hash both choose the same one. Each endpoint goes through the places in an order of
// its own, which its address gives; in turns they take their next free one, an endpoint with a smaller share
// in fewer of the turns. Of more endpoints than places the last ones get nothing.
type maglev []uint32

// A claim is how far an endpoint has come. It takes a place in round n when n·share reaches target.
type claim struct {
	place, skip   uint32 // next place to look at, and how far it is to the one after
	owner         uint32
	share, target float64
}

// newMaglev makes the table of seats in ascending order of their keys.
func newMaglev(seats []seat, size uint32) maglev {
	size = tableSize(size)
	claims := make([]claim, 0, len(seats))
	most := 0.0
	for i := range seats {
		key := []byte(seats[i].key)
		claims = append(claims, claim{
			place: uint32(xxHash64(key, 0) % uint64(size)),
			skip:  uint32(xxHash64(key, 1)%uint64(size-1)) + 1,
			owner: uint32(i), share: seats[i].share,
		})
		most = max(most, seats[i].share)
	}
	table := make(maglev, size)
	taken := make([]bool, size)
	rounds := newRounds(claims)
	for range table {
		c, round := rounds.next()
		c.target += most
		for taken[c.place] {
			c.advance(size)
		}
		table[c.place], taken[c.place] = c.owner, true
		c.advance(size)
		rounds.again(round)
	}
	return table
}

func (c *claim) advance(size uint32) {
	if c.place += c.skip; c.place >= size {
		c.place -= size
	}
}

// due is the first round after that one in which the endpoint takes a place. The division may be off by a
// rounding; the comparison is Envoy's.
func (c *claim) due(round float64) float64 {
	n := max(math.Floor(c.target/c.share)-1, round+1)
	for range 3 {
		if float64(n*c.share) >= c.target {
			break
		}
		n++
	}
	return n
}

// owner implements hashTable: the tries go on with other hashes.
func (m maglev) owner(hash uint64, try int) uint32 {
	if try > 0 {
		hash = mix(hash + uint64(try))
	}
	return m[hash%uint64(len(m))]
}

// tableSize is the size that a table has for the one asked for. Only where it is prime does each endpoint come
// by every place.
func tableSize(n uint32) uint32 {
	switch {
	case n == 0:
		return defaultTable
	case n >= maxTable:
		return maxTable
	}
	for n = max(n, 2); ; n++ {
		prime := true
		for d := uint32(2); d*d <= n && prime; d++ {
			prime = n%d != 0
		}
		if prime {
			return n
		}
	}
}
