package balance

import (
	"math"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
)

// level makes endpoints 127.0.0.1:90 and up, one for each weight, in one locality for each list.
func level(localities []float64, weights ...[]uint32) *Level {
	l := &Level{}
	port := uint16(90)
	for i, list := range weights {
		g := Group{Weight: localities[i]}
		for _, w := range list {
			g.Endpoints = append(g.Endpoints,
				NewEndpoint(&discovery.Endpoint{Address: discovery.TCP("127.0.0.1", port), Weight: w}, nil))
			port++
		}
		l.Groups = append(l.Groups, g)
	}
	return l
}

// TestRingIsEnvoys has the rings that Envoy's tests expect (ring_hash_lb_test.cc): the same hashes in the same
// order, of the same endpoints.
func TestRingIsEnvoys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		level   *Level
		atLeast uint32
		atMost  float64
		hashes  []uint64
		owners  []uint32
	}{
		"Basic": {
			level([]float64{1}, []uint32{1, 1, 1, 1, 1, 1}), 12, maxRing,
			[]uint64{833437586790550860, 928266305478181108, 1033482794131418490, 3551244743356806947,
				3851675632748031481, 5583722120771150861, 6311230543546372928, 7700377290971790572,
				13144177310400110813, 13444792449719432967, 15516499411664133160, 16117243373044804889},
			[]uint32{4, 2, 0, 5, 3, 1, 1, 3, 5, 2, 4, 0},
		},
		"HostWeightedTinyRing": {
			level([]float64{1}, []uint32{1, 2, 3}), 6, 6,
			[]uint64{928266305478181108, 4443673547860492590, 5583722120771150861, 6311230543546372928,
				13444792449719432967, 16117243373044804889},
			[]uint32{2, 2, 1, 1, 2, 0},
		},
		"LocalityWeightedTinyRing": {
			level([]float64{1, 2, 3}, []uint32{1}, []uint32{1}, []uint32{1}), 6, 6,
			[]uint64{928266305478181108, 4443673547860492590, 5583722120771150861, 6311230543546372928,
				13444792449719432967, 16117243373044804889},
			[]uint32{2, 2, 1, 1, 2, 0},
		},
		"HostAndLocalityWeightedTinyRing": {
			level([]float64{1, 2}, []uint32{1, 2}, []uint32{1, 2}), 9, 9,
			[]uint64{928266305478181108, 3851675632748031481, 5583722120771150861, 6311230543546372928,
				7700377290971790572, 12559126875973811811, 13444792449719432967, 13784988426630141778,
				16117243373044804889},
			[]uint32{2, 3, 1, 1, 3, 3, 2, 3, 0},
		},
	} {
		r := newRing(seatsOf(c.level), c.atLeast, c.atMost)
		if !slices.Equal(r.hashes, c.hashes) || !slices.Equal(r.owners, c.owners) {
			t.Errorf("%s: the ring is %d of %d, want %d of %d", name, r.hashes, r.owners, c.hashes, c.owners)
		}
	}
}

// TestRingSharesAreEnvoys counts as Envoy's tests do (HostWeightedLargeRing, HostAndLocalityWeightedLargeRing).
func TestRingSharesAreEnvoys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		level   *Level
		atLeast uint32
		keys    uint64
		want    []int
	}{
		"weights":                {level([]float64{1}, []uint32{1, 2, 3}), 6144, 6000, []int{987, 1932, 3081}},
		"weights and localities": {level([]float64{1, 2}, []uint32{1, 2}, []uint32{1, 2}), 9216, 9000, []int{924, 2009, 2053, 4014}},
	} {
		r := newRing(seatsOf(c.level), c.atLeast, maxRing)
		if len(r.hashes) != int(c.atLeast) {
			t.Errorf("%s: %d hashes, want %d", name, len(r.hashes), c.atLeast)
		}
		got := make([]int, len(c.want))
		for i := range c.keys {
			got[r.owner(i*(math.MaxUint64/c.keys), 0)]++
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestRingEdges: a hash belongs to the first one that is not below it, and behind the last comes the first.
func TestRingEdges(t *testing.T) {
	t.Parallel()
	r := newRing(seatsOf(level([]float64{1}, []uint32{1, 1, 1, 1, 1, 1})), 12, maxRing)
	for hash, want := range map[uint64]uint32{
		0: 4, 833437586790550860: 4, 833437586790550861: 2, 3551244743356806947: 5, 3551244743356806948: 3,
		16117243373044804880: 0, 16117243373044804889: 0, 16117243373044804890: 4, math.MaxUint64: 4,
	} {
		if got := r.owner(hash, 0); got != want {
			t.Errorf("%d belongs to %d, want %d", hash, got, want)
		}
	}
}

func TestRingSize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		weights []uint32
		atLeast uint32
		atMost  float64
		want    int
	}{
		"default":              {[]uint32{1, 1}, 0, maxRing, 1024},
		"a whole number each":  {[]uint32{1, 1, 1}, 1024, maxRing, 1026},
		"more than the hashes": {make([]uint32, 3000), 1024, maxRing, 3000},
		"for the lightest":     {[]uint32{1, 9999}, 1024, maxRing, 10_000},
		"capped":               {[]uint32{1, math.MaxUint32}, 1024, 5000, 5000},
		"fewer than endpoints": {make([]uint32, 4), 2, 2, 2},
		"not whole":            {[]uint32{1, 1}, 1023, 1023, 1023},
	} {
		r := newRing(seatsOf(level([]float64{1}, c.weights)), c.atLeast, c.atMost)
		if len(r.hashes) != c.want || len(r.owners) != c.want || !slices.IsSorted(r.hashes) {
			t.Errorf("%s: %d hashes, want %d", name, len(r.hashes), c.want)
		}
	}
}

// TestMaglevIsEnvoys has the tables that Envoy's tests expect (maglev_lb_test.cc).
func TestMaglevIsEnvoys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		level *Level
		size  uint32
		want  maglev
	}{
		"Basic":    {level([]float64{1}, []uint32{1, 1, 1, 1, 1, 1}), 7, maglev{2, 4, 0, 1, 5, 0, 3}},
		"Weighted": {level([]float64{1}, []uint32{1, 2}), 17, maglev{1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1}},
		"LocalityWeightedSameLocalityWeights": {
			level([]float64{1, 1}, []uint32{1}, []uint32{2}), 17,
			maglev{1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1},
		},
		"LocalityWeightedDifferentLocalityWeights": {
			level([]float64{8, 2}, []uint32{1}, []uint32{2}), 17,
			maglev{1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0},
		},
	} {
		if got := newMaglev(seatsOf(c.level), c.size); !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestMaglevLopsided is LocalityWeightedLopsided: the light have one place each, the heavy one has the rest.
func TestMaglevLopsided(t *testing.T) {
	t.Parallel()
	l := level([]float64{127, 1}, []uint32{1}, make([]uint32, 1023))
	places := make(map[*Endpoint]int)
	seats := seatsOf(l)
	for _, owner := range newMaglev(seats, 0) {
		places[seats[owner].endpoint]++
	}
	for i, e := range l.endpoints() {
		if n := places[e]; i > 0 && n != 1 || i == 0 && n != defaultTable-1023 {
			t.Fatalf("endpoint %d has %d places", i, n)
		}
	}
}

// TestMaglevRounds compares the table with one that is made as Envoy makes it: by asking each endpoint in each
// round.
func TestMaglevRounds(t *testing.T) {
	t.Parallel()
	for name, weights := range map[string][]uint32{
		"equal":    {7, 7, 7},
		"mixed":    {1, 2, 3, 4, 5, 6, 7},
		"coprime":  {7, 11, 13, 17, 19, 23, 29},
		"steep":    {1, 1000, 3, 30, 300, 77},
		"extremes": {math.MaxUint32, 1, math.MaxUint32 - 1, 1 << 16},
	} {
		seats := seatsOf(level([]float64{1}, weights))
		if got, want := newMaglev(seats, 5003), askEachRound(seats, 5003); !slices.Equal(got, want) {
			t.Errorf("%s: the tables differ", name)
		}
	}
}

func askEachRound(seats []seat, size uint32) maglev {
	table, free, most := make(maglev, size), int(size), 0.0
	place, skip, target := make([]uint64, len(seats)), make([]uint64, len(seats)), make([]float64, len(seats))
	taken := make([]bool, size)
	for i, s := range seats {
		place[i] = xxHash64([]byte(s.key), 0) % uint64(size)
		skip[i] = xxHash64([]byte(s.key), 1)%uint64(size-1) + 1
		most = max(most, s.share)
	}
	for round := 1.0; free > 0; round++ {
		for i, s := range seats {
			if float64(round*s.share) < target[i] || free == 0 {
				continue
			}
			target[i] += most
			for taken[place[i]] {
				place[i] = (place[i] + skip[i]) % uint64(size)
			}
			table[place[i]], taken[place[i]] = uint32(i), true
			free--
		}
	}
	return table
}

func TestMaglevTableSize(t *testing.T) {
	t.Parallel()
	for asked, want := range map[uint32]uint32{
		0: 65_537, 1: 2, 2: 2, 8: 11, 65_537: 65_537, 65_536: 65_537, 5_000_011: 5_000_011, math.MaxUint32: 5_000_011,
	} {
		if got := tableSize(asked); got != want {
			t.Errorf("for %d the table has %d places, want %d", asked, got, want)
		}
	}
	for size := range uint32(40) { // each of them can be filled
		if m := newMaglev(seatsOf(level([]float64{1}, []uint32{1, 2, 3})), size+1); len(m) < int(size)+1 {
			t.Errorf("a table of %d has %d places", size+1, len(m))
		}
	}
}

// TestHashedDuplicates: of endpoints with the same address one counts, whichever order they come in.
func TestHashedDuplicates(t *testing.T) {
	t.Parallel()
	one := level([]float64{1}, []uint32{1, 5, 2}).endpoints()
	for _, a := range []Algorithm{RingHash, Maglev} {
		twice := append(slices.Clone(one), level([]float64{1}, []uint32{4, 1}).endpoints()...)
		p := New(Config{Algorithm: a}, twice, 0)
		slices.Reverse(twice)
		q := New(Config{Algorithm: a}, twice, 0)
		if p.Len() != 3 || q.Len() != 3 {
			t.Errorf("%v: %d and %d endpoints, want 3", a, p.Len(), q.Len())
		}
		for i := range uint64(1000) {
			d := Draw{Hash: mix(i), Hashed: true}
			if p.Pick(d) != q.Pick(d) {
				t.Fatalf("%v: the order decides about duplicates", a)
			}
		}
	}
}
