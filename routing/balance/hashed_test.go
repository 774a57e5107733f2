package balance_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh/routing/balance"
)

var hashing = []balance.Algorithm{balance.RingHash, balance.Maglev}

func hashed(hash uint64) balance.Draw { return balance.Draw{Hash: hash, Hashed: true} }

// owners picks for each of n hashes.
func owners(p balance.Picker, n int, seed uint64) []*balance.Endpoint {
	rnd := random(seed)
	all := make([]*balance.Endpoint, n)
	for i := range all {
		all[i] = p.Pick(hashed(rnd.Uint64()))
	}
	return all
}

// moved is the percentage of hashes that belong to another endpoint.
func moved(a, b []*balance.Endpoint) float64 {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return 100 * float64(n) / float64(len(a))
}

const keys = 20_000

// TestHashedEjectionMovesNoOthers: an ejection moves the ejected endpoint's calls and no other, and they come
// back; so at most 1/n of them and what the endpoint has beyond that.
func TestHashedEjectionMovesNoOthers(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for _, n := range []int{2, 3, 4, 5, 8, 13, 21, 40} {
			all := equal(n)
			p := balance.New(balance.Config{Algorithm: a}, all, 0)
			before := owners(p, keys, 1)
			e := all[n/2]
			e.Eject()
			after := owners(p, keys, 1)
			for i := range before {
				if (before[i] != after[i]) != (before[i] == e) || after[i] == e {
					t.Fatalf("%v of %d: a call of %v goes to %v", a, n, before[i].Def.Address, after[i].Def.Address)
				}
			}
			if m := moved(before, after); m > 100/float64(n)+5 {
				t.Errorf("%v of %d: %.1f %% of the calls move", a, n, m)
			}
			// A picker made now chooses alike.
			if m := moved(after, owners(balance.New(balance.Config{Algorithm: a}, all, 5), keys, 1)); m != 0 {
				t.Errorf("%v of %d: %.1f %% of the calls move to a picker made anew", a, n, m)
			}
			e.Uneject()
			if m := moved(before, owners(p, keys, 1)); m != 0 {
				t.Errorf("%v of %d: %.1f %% of the calls have not come back", a, n, m)
			}
		}
	}
}

// TestHashedRemoval: an endpoint that is gone moves its own calls, which are about 1/n. Maglev moves next to no others.
// The ring of Envoy has as many hashes without it as before, and those that the others get for it move calls
// too: (n-2)/(n(n+1)) of all for a large ring. With 1024 hashes it can be more, above all where n is a power of two: only
// then is nothing rounded up.
func TestHashedRemoval(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for _, n := range []int{2, 3, 4, 5, 6, 8, 10, 13, 16, 17, 20, 32, 33, 50, 64, 100, 300} {
			all := equal(n)
			before := owners(balance.New(balance.Config{Algorithm: a}, all, 0), keys, 2)
			ring := 100 * float64(n-2) / float64(n*(n+1))
			for _, gone := range []int{0, n / 2, n - 1} {
				rest := slices.Delete(slices.Clone(all), gone, gone+1)
				after := owners(balance.New(balance.Config{Algorithm: a}, rest, 0), keys, 2)
				own := 100 * float64(count(before, all[gone])) / keys
				others := moved(before, after) - own
				switch {
				case a == balance.Maglev && others > 1.5:
					t.Errorf("%v: without one of %d %.1f %% of the calls move that were another's", a, n, others)
				case a == balance.RingHash && (others > ring+4.5 || others > 13):
					t.Errorf("%v: without one of %d %.1f %% of the calls move that were another's, want about %.1f %%", a, n, others, ring)
				case a == balance.Maglev && own+others > 100/float64(n)+5:
					t.Errorf("%v: without one of %d %.1f %% of the calls move", a, n, own+others)
				}
			}
		}
	}
}

// TestRingSizeDoesNotMatterToRemoval is why the ring's default size is Envoy's: a larger one does not bring the calls that
// move between those that stay below 5 %, and would not be Envoy's.
func TestRingSizeDoesNotMatterToRemoval(t *testing.T) {
	t.Parallel()
	all := equal(5)
	for _, size := range []uint32{0, 8 << 10, 64 << 10} {
		c := balance.Config{Algorithm: balance.RingHash, RingSize: size}
		before := owners(balance.New(c, all, 0), keys, 2)
		after := owners(balance.New(c, all[1:], 0), keys, 2)
		if others := moved(before, after) - 100*float64(count(before, all[0]))/keys; others < 8 || others > 13 {
			t.Errorf("of %d hashes: %.1f %% of the calls move that were another's, want about 10 %%", size, others)
		}
	}
}

// count says how many of the calls are the endpoint's.
func count(all []*balance.Endpoint, of *balance.Endpoint) int {
	n := 0
	for _, e := range all {
		if e == of {
			n++
		}
	}
	return n
}

// TestHashedOrder: what is chosen depends neither on the order of the endpoints nor on the seed, nor on the
// random bits of a call that has a hash.
func TestHashedOrder(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for name, all := range map[string][]*balance.Endpoint{
			"equal": equal(23), "weighted": mixed(23), "steep": endpoints(1, 1000, 3, 30, 7),
		} {
			before := owners(balance.New(balance.Config{Algorithm: a}, all, 1), keys, 3)
			for i := range uint64(3) {
				rnd := random(i)
				rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				p := balance.New(balance.Config{Algorithm: a}, all, rnd.Uint64())
				if m := moved(before, owners(p, keys, 3)); m != 0 {
					t.Errorf("%v, %s: in another order %.1f %% of the calls move", a, name, m)
				}
			}
			p := balance.New(balance.Config{Algorithm: a}, all, 1)
			for range 100 {
				if d := hashed(42); p.Pick(d) != p.Pick(balance.Draw{Hash: 42, Hashed: true, Random: rand.Uint64()}) {
					t.Errorf("%v, %s: random bits decide about a hash", a, name)
				}
			}
		}
	}
}

// TestHashedShares: with a ring of 64 Ki hashes, and with Maglev's own table, each has its share; without a
// hash as with one.
func TestHashedShares(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for name, weights := range map[string][]uint32{
			"equal": {1, 1, 1, 1}, "mixed": {1, 2, 3, 4, 5}, "unset": {0, 1, 0}, "canary": {95, 5}, "ten": make([]uint32, 10),
		} {
			p := balance.New(balance.Config{Algorithm: a, RingSize: 1 << 16}, endpoints(weights...), 0)
			byAddress := make([]uint32, p.Len())
			for i := range byAddress {
				byAddress[i] = p.At(i).Def.Weight
			}
			rnd := random(4)
			wantShares(t, countsOf(t, p, 10_000, func() *balance.Endpoint { return p.Pick(hashed(rnd.Uint64())) }), byAddress, 1.5)
			wantShares(t, countsOf(t, p, 10_000, func() *balance.Endpoint {
				return p.Pick(balance.Draw{Random: rnd.Uint64(), Hash: 42, Step: 3})
			}), byAddress, 1.5)
			if t.Failed() {
				t.Fatalf("%v, %s", a, name)
			}
		}
	}
}

// TestHashedSteps: the steps of a hash are its endpoint and then others, each once, always the same ones.
func TestHashedSteps(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for name, all := range map[string][]*balance.Endpoint{
			"pair": equal(2), "three": equal(3), "many": equal(100), "steep": endpoints(1, 1, 100_000, 1),
		} {
			p := balance.New(balance.Config{Algorithm: a, RingSize: 4096}, all, 0)
			rnd := random(5)
			for range 200 {
				d := hashed(rnd.Uint64())
				var seen []*balance.Endpoint
				for step := range uint8(min(len(all), 16)) {
					d.Step = step
					e := p.Pick(d)
					if e == nil || slices.Contains(seen, e) || p.Pick(d) != e {
						t.Fatalf("%v, %s: step %d of %x is %v", a, name, step, d.Hash, e)
					}
					seen = append(seen, e)
				}
				if d.Step = uint8(len(all)); len(all) < 16 && p.Pick(d) != seen[0] {
					t.Fatalf("%v, %s: the steps do not begin again", a, name)
				}
				if d.Step = math.MaxUint8; p.Pick(d) == nil {
					t.Fatalf("%v, %s: no endpoint at step 255", a, name)
				}
				// Step 1 is what is chosen where the first is ejected.
				seen[0].Eject()
				if d.Step = 0; p.Pick(d) != seen[1] {
					t.Fatalf("%v, %s: an ejection and a step lead to different endpoints", a, name)
				}
				seen[0].Uneject()
			}
		}
	}
}

// TestHashedSpill: the calls of an ejected endpoint are spread over the others by weight.
func TestHashedSpill(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		weights := []uint32{50, 10, 20, 20}
		all := endpoints(weights...)
		p := balance.New(balance.Config{Algorithm: a, RingSize: 1 << 16}, all, 0)
		all[0].Eject()
		rnd := random(6)
		seen := countsOf(t, p, 10_000, func() *balance.Endpoint { return p.Pick(hashed(rnd.Uint64())) })
		if seen[0] != 0 {
			t.Errorf("%v: the ejected endpoint has %d calls", a, seen[0])
		}
		wantShares(t, seen[1:], weights[1:], 1.5)
	}
}
