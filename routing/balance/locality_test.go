package balance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
)

func TestParseLocality(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Locality{
		"": {}, "us": {Region: "us"}, "us/a": {Region: "us", Zone: "a"}, "us/a/1": {"us", "a", "1"},
		"us/a/1/x": {"us", "a", "1/x"}, "us//1": {"us", "", "1"},
	} {
		got := ParseLocality(s)
		if got != want || got.String() != s {
			t.Errorf("%q is %+v, written %q, want %+v", s, got, got, want)
		}
	}
}

func TestLocalityIn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at, pattern string
		want        bool
	}{
		"itself":                  {"us/a/1", "us/a/1", true},
		"another subzone":         {"us/a/1", "us/a/2", false},
		"its zone":                {"us/a/1", "us/a", true},
		"its zone, with a star":   {"us/a/1", "us/a/*", true},
		"its region":              {"us/a/1", "us", true},
		"its region, with a star": {"us/a/1", "us/*", true},
		"stars":                   {"us/a/1", "us/*/1", true},
		"everywhere":              {"us/a/1", "*", true},
		"nowhere is everywhere":   {"", "*", true},
		"another region":          {"us/a/1", "eu/*", false},
		"another zone":            {"us/a/1", "us/b/*", false},
		"a prefix of a name":      {"us-east/a", "us", false},
		"no region":               {"us/a/1", "", false},
		"less than asked for":     {"us", "us/a", false},
	} {
		if got := ParseLocality(c.at).in(c.pattern); got != c.want {
			t.Errorf("%s: %q in %q is %v", name, c.at, c.pattern, got)
		}
	}
}

// placed makes endpoints out of "locality" or "locality weight" or "locality weight key=value,key=value".
func placed(specs ...string) []*Endpoint {
	all := make([]*Endpoint, len(specs))
	for i, s := range specs {
		def := &discovery.Endpoint{Address: discovery.TCP(fmt.Sprintf("10.1.%d.%d", i/256, i%256), 80)}
		words := append(strings.Split(s, " "), "", "")
		def.Locality = words[0]
		fmt.Sscan(words[1], &def.Weight)
		for pair := range strings.SplitSeq(words[2], ",") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				if def.Labels == nil {
					def.Labels = map[string]string{}
				}
				def.Labels[k] = v
			}
		}
		all[i] = NewEndpoint(def, nil)
	}
	return all
}

// told writes levels as "locality:weight×endpoints …; …".
func told(levels []Level) string {
	var out []string
	for _, l := range levels {
		var groups []string
		for _, g := range l.Groups {
			groups = append(groups, fmt.Sprintf("%v:%.4g×%d", g.Locality, g.Weight, len(g.Endpoints)))
		}
		out = append(out, strings.Join(groups, " "))
	}
	return strings.Join(out, "; ")
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	spread := []string{"us/a/1", "us/a/2", "us/b/1", "eu/a/1", "ap/a/1", "us/a/1"}
	for name, c := range map[string]struct {
		from      string
		labels    map[string]string
		policy    LocalityPolicy
		endpoints []string
		want      string
	}{
		"by distance": {
			from: "us/a/1", endpoints: spread,
			want: "us/a/1:2×2; us/a/2:1×1; us/b/1:1×1; ap/a/1:1×1 eu/a/1:1×1",
		},
		"levels without endpoints do not count": {
			from: "us/c/1", endpoints: spread,
			want: "us/a/1:2×2 us/a/2:1×1 us/b/1:1×1; ap/a/1:1×1 eu/a/1:1×1",
		},
		"from nowhere": {
			endpoints: append(spread, ""),
			want:      ":1×1; ap/a/1:1×1 eu/a/1:1×1 us/a/1:2×2 us/a/2:1×1 us/b/1:1×1",
		},
		"failover to a region": {
			from: "us/a/1", endpoints: spread, policy: LocalityPolicy{Failover: []Failover{{"eu", "us"}, {"us", "eu"}, {"us", "ap"}}},
			want: "us/a/1:2×2; us/a/2:1×1; us/b/1:1×1; eu/a/1:1×1; ap/a/1:1×1",
		},
		"failover to a region that has none": {
			from: "us/a/1", endpoints: spread, policy: LocalityPolicy{Failover: []Failover{{"us", "sa"}}},
			want: "us/a/1:2×2; us/a/2:1×1; us/b/1:1×1; ap/a/1:1×1 eu/a/1:1×1",
		},
		"a group weighs what its endpoints weigh": {
			from: "eu/a/1", endpoints: []string{"us/a/1 3", "us/a/1 4", "us/b/1 5", "us/b/1"},
			want: "us/a/1:7×2 us/b/1:6×2",
		},
		"distribute": {
			from: "us/a/1", endpoints: spread,
			policy: LocalityPolicy{Distribute: []Distribution{
				{"us/b/*", []Share{{"*", 100}}},
				{"us/a/*", []Share{{"us/a/1", 70}, {"us/b/*", 20}, {"eu", 10}}},
				{"us/*", []Share{{"ap", 100}}},
			}},
			want: "eu/a/1:10×1 us/a/1:70×2 us/b/1:20×1",
		},
		"distribute: a share is split by weight": {
			from: "us/a/1", endpoints: []string{"us/a/1 3", "us/a/2 1", "eu/a/1 9"},
			policy: LocalityPolicy{Distribute: []Distribution{{"us/*", []Share{{"us/*", 80}, {"*", 20}}}}},
			want:   "eu/a/1:20×1 us/a/1:60×1 us/a/2:20×1",
		},
		"distribute: no place matches the client": {
			from: "sa/a/1", endpoints: []string{"us/a/1", "eu/a/1 2"},
			policy: LocalityPolicy{Distribute: []Distribution{{"us/*", []Share{{"us/*", 100}}}}},
			want:   "eu/a/1:2×1 us/a/1:1×1",
		},
		"distribute: nothing where it says": {
			from: "us/a/1", endpoints: []string{"us/a/1"},
			policy: LocalityPolicy{Distribute: []Distribution{{"us/*", []Share{{"eu/*", 100}, {"us/*", 0}}}}},
		},
		"distribute goes before the rest": {
			from: "us/a/1", endpoints: []string{"us/a/1", "eu/a/1"},
			policy: LocalityPolicy{Distribute: []Distribution{{"us", []Share{{"*", 100}}}}, Failover: []Failover{{"us", "eu"}}},
			want:   "eu/a/1:50×1 us/a/1:50×1",
		},
		"by labels": {
			labels: map[string]string{"version": "v2", "tier": "gold"},
			policy: LocalityPolicy{FailoverPriority: []string{"version", "tier"}},
			endpoints: []string{
				"us/a 1 version=v1,tier=gold", "us/a 2 version=v2", "us/a 4 version=v2,tier=gold", "eu/a 8 version=v2,tier=gold", "us/a 16",
			},
			want: "eu/a:8×1 us/a:4×1; us/a:2×1; us/a:17×2",
		},
		"by a label's value": {
			labels:    map[string]string{"version": "v2"},
			policy:    LocalityPolicy{FailoverPriority: []string{"version=v1", "tier"}},
			endpoints: []string{"us/a 1 version=v1,tier=gold", "us/a 2 version=v2", "us/a 4 version=v1", "us/a 8 version="},
			want:      "us/a:4×1; us/a:1×1; us/a:10×2",
		},
		"by labels of place": {
			from: "us/a/1", labels: map[string]string{"app": "x"},
			policy:    LocalityPolicy{FailoverPriority: []string{"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}},
			endpoints: spread,
			want:      "us/a/1:2×2; us/a/2:1×1; us/b/1:1×1; ap/a/1:1×1 eu/a/1:1×1",
		},
		"by labels, of a client that has none": {
			from: "us/a/1", policy: LocalityPolicy{FailoverPriority: []string{"version"}},
			endpoints: []string{"us/a/1 1 version=v1", "eu/a/1"},
			want:      "eu/a/1:1×1 us/a/1:1×1",
		},
		"by labels and then by region": {
			from: "us/a/1", labels: map[string]string{"version": "v2"},
			policy:    LocalityPolicy{FailoverPriority: []string{"version"}, Failover: []Failover{{"us", "eu"}}},
			endpoints: []string{"ap/a/1 1 version=v2", "eu/a/1 1 version=v2", "us/b/1 1 version=v2", "us/a/1", "ap/a/1"},
			want:      "us/b/1:1×1; eu/a/1:1×1; ap/a/1:1×1; us/a/1:1×1; ap/a/1:1×1",
		},
		"nothing": {from: "us/a/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := told(Priorities(ParseLocality(c.from), c.labels, &c.policy, placed(c.endpoints...))); got != c.want {
				t.Errorf("levels %s\n  want %s", got, c.want)
			}
		})
	}
}

func TestPrioritiesByNetwork(t *testing.T) {
	t.Parallel()
	all := placed("us/a", "us/a")
	all[1].Def.Network = "n2"
	p := &LocalityPolicy{FailoverPriority: []string{"topology.istio.io/network"}}
	levels := Priorities(Locality{}, map[string]string{"topology.istio.io/network": "n2"}, p, all)
	if len(levels) != 2 || levels[0].Groups[0].Endpoints[0] != all[1] {
		t.Errorf("levels %s", told(levels))
	}
}

func TestConfigSame(t *testing.T) {
	t.Parallel()
	full := func() Config {
		return Config{Algorithm: Maglev, RingSize: 1, TableSize: 2, PanicThreshold: 3, Warmup: Warmup{4, 5, 6},
			Locality: &LocalityPolicy{Distribute: []Distribution{{"a", []Share{{"b", 1}}}},
				Failover: []Failover{{"c", "d"}}, FailoverPriority: []string{"e"}},
			Client: &Client{Locality{Region: "f"}, map[string]string{"g": "h"}}}
	}
	same := func(a, b Config, want bool, what string) {
		t.Helper()
		if a.Same(&b) != want || b.Same(&a) != want {
			t.Errorf("%s: same is not %v", what, want)
		}
	}
	same(Config{}, Config{}, true, "zero")
	same(full(), full(), true, "full")
	same(full(), Config{}, false, "full and zero")
	same(Config{Locality: &LocalityPolicy{}}, Config{}, false, "a policy that says nothing is one")
	for name, change := range map[string]func(*Config){
		"algorithm": func(c *Config) { c.Algorithm = RingHash }, "ring": func(c *Config) { c.RingSize++ },
		"table": func(c *Config) { c.TableSize++ }, "panic": func(c *Config) { c.PanicThreshold++ },
		"duration": func(c *Config) { c.Warmup.Duration++ }, "minimum": func(c *Config) { c.Warmup.MinimumPercent++ },
		"aggression": func(c *Config) { c.Warmup.Aggression++ }, "no policy": func(c *Config) { c.Locality = nil },
		"from":     func(c *Config) { c.Locality.Distribute[0].From = "x" },
		"to":       func(c *Config) { c.Locality.Distribute[0].To[0].To = "x" },
		"failover": func(c *Config) { c.Locality.Failover[0].To = "x" }, "no client": func(c *Config) { c.Client = nil },
		"priority": func(c *Config) { c.Locality.FailoverPriority[0] = "x" },
		"place":    func(c *Config) { c.Client.Locality.Zone = "x" }, "label": func(c *Config) { c.Client.Labels["g"] = "x" },
	} {
		c := full()
		change(&c)
		same(full(), c, false, name)
	}
}
