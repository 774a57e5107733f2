package balance

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

const (
	defaultRing = 1024
	maxRing     = 8 << 20 // Envoy's maximum_ring_size
)

// A ring is the consistent hash of ketama, built as Envoy builds it (RingHashLoadBalancer::Ring), so that for
// the same endpoints and the same hash both choose the same one: each endpoint has hashes on a circle in
// proportion to its share, those of "<address>_0", "<address>_1" and so on, and a call goes to the endpoint of
// the first one that is not below its own.
//
// As in Envoy the circle has about the same number of hashes however many endpoints there are, so that, where
// one of n is gone, the others have more than before. What they get moves calls between them, too, beside the 1/n
// that must move: (n-2)/(n(n+1)) of all where the endpoints are alike and the ring is large. That is 10 % at
// its most, with 4 and 5 endpoints, below 5 % from 17 on, and does not shrink with a larger ring; rounding and
// the small numbers of 1024 add up to 3 %. Maglev moves fewer than 1 %. An ejection moves no others.
type ring struct {
	hashes []uint64 // ascending
	owners []uint32 // whose they are
}

// newRing makes the ring of seats in ascending order of their keys. It has at least the number of hashes
// wanted, by Envoy's rule: so many that the one with the least share has a whole number of them.
func newRing(seats []seat, atLeast uint32, atMost float64) *ring {
	if atLeast == 0 {
		atLeast = defaultRing
	}
	least := 1.0
	for i := range seats {
		least = min(least, seats[i].share)
	}
	scale := min(math.Ceil(least*float64(atLeast))/least, atMost)
	type point struct {
		hash  uint64
		owner uint32
	}
	points := make([]point, 0, int(math.Ceil(scale))+1)
	var key []byte
	target := 0.0 // counted over all endpoints, so that what is not whole adds up
	for i := range seats {
		// Converted, so that no compiler fuses it with the addition: every machine has the same ring.
		target += float64(scale * seats[i].share)
		key = append(append(key[:0], seats[i].key...), '_')
		prefix := len(key)
		for n := uint64(0); float64(len(points)) < target; n++ {
			key = strconv.AppendUint(key[:prefix], n, 10)
			points = append(points, point{xxHash64(key, 0), uint32(i)})
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.owner, b.owner))
	})
	r := &ring{make([]uint64, len(points)), make([]uint32, len(points))}
	for i := range points {
		r.hashes[i], r.owners[i] = points[i].hash, points[i].owner
	}
	return r
}

// owner implements hashTable: the tries go on along the ring.
func (r *ring) owner(hash uint64, try int) uint32 {
	// Of hashes[:low] all are below hash; what is to be found is in hashes[low:low+n] or right behind. It is
	// written without a branch, because which way a search goes cannot be predicted.
	low := 0
	for n := len(r.hashes); n > 0; {
		half := (n + 1) / 2
		_, below := bits.Sub64(r.hashes[low+half-1], hash, 0)
		low += half * int(below)
		n -= half
	}
	return r.owners[(low+try)%len(r.owners)]
}
