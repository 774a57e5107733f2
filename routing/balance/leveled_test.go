package balance_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
)

// at makes n endpoints in a locality.
func at(locality string, n int) []*balance.Endpoint {
	all := equal(n)
	for i, e := range all {
		e.Def.Locality = locality
		e.Def.Address = discovery.TCP(fmt.Sprintf("%s-%d", locality, i), 80)
	}
	return all
}

func join(sets ...[]*balance.Endpoint) (all []*balance.Endpoint) {
	for _, s := range sets {
		all = append(all, s...)
	}
	return all
}

func eject(all []*balance.Endpoint) {
	for _, e := range all {
		e.Eject()
	}
}

// wantByLocality holds picks to percentages by locality, within 1.5 points, and checks that endpoints of one
// locality have as many each.
func wantByLocality(t *testing.T, p balance.Picker, want map[string]float64) {
	t.Helper()
	const picks = 10_000
	got, pick := make(map[string]float64), draws(p, 11)
	for range picks {
		e := pick()
		if e == nil {
			got["none"]++
			continue
		}
		got[e.Def.Locality]++
	}
	for l := range got {
		if _, ok := want[l]; !ok {
			t.Errorf("%q has %.0f of %d picks, want none", l, got[l], picks)
		}
	}
	for l, w := range want {
		if g := 100 * got[l] / picks; math.Abs(g-w) > 1.5 {
			t.Errorf("%q has %.2f %% of the picks, want %.2f %%", l, g, w)
		}
	}
}

// TestFailover takes endpoints out near the client and looks where the calls go.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		for name, c := range map[string]struct {
			out   map[string]int // ejected of ten
			panic uint8
			want  map[string]float64
		}{
			"all healthy":        {want: map[string]float64{"us/a": 100}},
			"two of ten":         {out: map[string]int{"us/a": 2}, want: map[string]float64{"us/a": 100}},
			"half of the zone":   {out: map[string]int{"us/a": 5}, want: map[string]float64{"us/a": 70, "us/b": 30}},
			"the zone":           {out: map[string]int{"us/a": 10}, want: map[string]float64{"us/b": 100}},
			"the region":         {out: map[string]int{"us/a": 10, "us/b": 10}, want: map[string]float64{"eu/a": 100}},
			"the region, nearly": {out: map[string]int{"us/a": 9, "us/b": 9}, want: map[string]float64{"us/a": 14, "us/b": 14, "eu/a": 72}},
			"all but one each":   {out: map[string]int{"us/a": 9, "us/b": 9, "eu/a": 9}, want: map[string]float64{"us/a": 34, "us/b": 33, "eu/a": 33}},
			"everything":         {out: map[string]int{"us/a": 10, "us/b": 10, "eu/a": 10}, want: map[string]float64{"none": 100}},
			"everything, panic": {out: map[string]int{"us/a": 10, "us/b": 10, "eu/a": 10}, panic: 1,
				want: map[string]float64{"us/a": 34, "us/b": 33, "eu/a": 33}},
			"panic of one": {out: map[string]int{"us/a": 6, "us/b": 9, "eu/a": 10}, panic: 20,
				want: map[string]float64{"us/a": 80, "us/b": 20}},
		} {
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				sets := map[string][]*balance.Endpoint{"us/a": at("us/a", 10), "us/b": at("us/b", 10), "eu/a": at("eu/a", 10)}
				for l, n := range c.out {
					eject(sets[l][:n])
				}
				p := balance.New(balance.Config{Algorithm: a, PanicThreshold: c.panic,
					Locality: &balance.LocalityPolicy{Failover: []balance.Failover{{From: "us", To: "eu"}}},
					Client:   &balance.Client{Locality: balance.ParseLocality("us/a")},
				}, join(sets["eu/a"], sets["us/b"], sets["us/a"]), 1)
				wantByLocality(t, p, c.want)
				if c.panic == 0 { // what is ejected is not picked
					pick := draws(p, 12)
					for range 2000 {
						if e := pick(); e != nil && !e.Healthy() {
							t.Fatal("an ejected endpoint is picked")
						}
					}
				}
			})
		}
	}
}

// TestFailoverWithoutNewPicker: a level that is gone since the picker was made passes its calls on at once.
func TestFailoverWithoutNewPicker(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		near, mid, far := at("us/a", 3), at("us/b", 3), at("eu/a", 3)
		p := balance.New(balance.Config{Algorithm: a, Locality: &balance.LocalityPolicy{},
			Client: &balance.Client{Locality: balance.ParseLocality("us/a")}}, join(far, near, mid), 1)
		eject(near)
		wantByLocality(t, p, map[string]float64{"us/b": 100})
		eject(mid)
		wantByLocality(t, p, map[string]float64{"eu/a": 100})
		eject(far)
		wantByLocality(t, p, map[string]float64{"none": 100})
		near[0].Uneject()
		wantByLocality(t, p, map[string]float64{"us/a": 100})
	}
}

// TestDistribute: localities have the shares that the rule says, however many endpoints are there.
func TestDistribute(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			near, mid, far, other := at("us/a", 2), at("us/b", 10), at("eu/a", 5), at("ap/a", 50)
			config := balance.Config{Algorithm: a, RingSize: 1 << 16,
				Locality: &balance.LocalityPolicy{Distribute: []balance.Distribution{
					{From: "us/*", To: []balance.Share{{To: "us/a", Weight: 70}, {To: "us/b", Weight: 20}, {To: "eu/*", Weight: 10}}},
				}},
				Client: &balance.Client{Locality: balance.ParseLocality("us/a")}}
			all := join(near, mid, far, other)
			p := balance.New(config, all, 1)
			if p.Len() != 17 {
				t.Errorf("the picker has %d endpoints, want 17: ap/a is not named", p.Len())
			}
			wantByLocality(t, p, map[string]float64{"us/a": 70, "us/b": 20, "eu/a": 10})
			if a == balance.RingHash || a == balance.Maglev {
				return // Envoy does not weigh localities by their health there
			}
			near[0].Eject() // 70 % of it can be used: 49 of 79 are left
			wantByLocality(t, balance.New(config, all, 1), map[string]float64{"us/a": 62.03, "us/b": 25.32, "eu/a": 12.66})
			near[1].Eject()
			want := map[string]float64{"us/b": 66.67, "eu/a": 33.33}
			wantByLocality(t, balance.New(config, all, 1), want)
			eject(join(mid, far))
			wantByLocality(t, balance.New(config, all, 1), map[string]float64{"none": 100})
			wantByLocality(t, p, map[string]float64{"none": 100})
			config.PanicThreshold = 50
			wantByLocality(t, balance.New(config, all, 1), map[string]float64{"us/a": 100. * 2 / 17, "us/b": 100. * 10 / 17, "eu/a": 100. * 5 / 17})
		})
	}
}

// TestFailoverKeepsHashes: a spill moves the calls that the level cannot take, always the same ones, and no
// others.
func TestFailoverKeepsHashes(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		near, far := at("us/a", 10), at("eu/a", 10)
		config := balance.Config{Algorithm: a, Locality: &balance.LocalityPolicy{},
			Client: &balance.Client{Locality: balance.ParseLocality("us/a")}}
		all := join(near, far)
		before := owners(balance.New(config, all, 1), keys, 7)
		eject(near[:4]) // 84 % can be taken
		after := owners(balance.New(config, all, 2), keys, 7)
		spilled := 0
		for i, e := range after {
			if e.Def.Locality == "eu/a" {
				spilled++
			} else if before[i].Healthy() && before[i] != e {
				t.Fatalf("%v: a call moved within the locality", a)
			}
		}
		if share := 100 * float64(spilled) / keys; math.Abs(share-16) > 1.5 {
			t.Errorf("%v: %.1f %% of the hashes spill, want 16 %%", a, share)
		}
		if m := moved(after, owners(balance.New(config, all, 3), keys, 7)); m != 0 {
			t.Errorf("%v: %.1f %% of the hashes differ from picker to picker", a, m)
		}
	}
}

func TestNoLevel(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		config := balance.Config{Algorithm: a, PanicThreshold: 50, Locality: &balance.LocalityPolicy{
			Distribute: []balance.Distribution{{From: "*", To: []balance.Share{{To: "eu", Weight: 100}}}}}}
		for _, all := range [][]*balance.Endpoint{nil, at("us/a", 3)} {
			if p := balance.New(config, all, 1); p.Len() != 0 || draws(p, 1)() != nil {
				t.Errorf("%v: picked of %d", a, p.Len())
			}
		}
	}
}
