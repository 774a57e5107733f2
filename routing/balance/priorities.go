package balance

import (
	"slices"
	"sort"
	"strings"
)

// A Level is the endpoints of one priority. Lower levels get what the higher ones cannot take.
type Level struct {
	Groups []Group
}

// endpoints lists a level's endpoints in a slice of their own.
func (l *Level) endpoints() list {
	var all list
	for i := range l.Groups {
		all = append(all, l.Groups[i].Endpoints...)
	}
	return slices.Clip(all)
}

// A Group is a level's endpoints in one locality. Its weight is a share in the level's calls, relative to the
// other groups.
type Group struct {
	Locality  Locality
	Weight    float64
	Endpoints []*Endpoint
}

// Priorities sorts endpoints into levels, the one to be used first being the first, and says how the calls of a
// level are split among localities, as seen from a client with that place and those labels. Levels and groups
// without endpoints are left out; groups are in the order of their localities. It is what istiod does for one
// client (applyLocalityWeights, applyLocalityFailover, applyFailoverPriorities), but for weights: those of
// istiod are rounded up to whole numbers.
func Priorities(from Locality, labels map[string]string, policy *LocalityPolicy, endpoints []*Endpoint) []Level {
	if len(policy.Distribute) > 0 {
		groups := byLocality(endpoints)
		for i := range policy.Distribute {
			if from.in(policy.Distribute[i].From) {
				groups = policy.Distribute[i].apply(groups)
				break
			}
		}
		if len(groups) == 0 {
			return nil
		}
		return []Level{{groups}}
	}
	byRank := make(map[int][]*Endpoint)
	for _, e := range endpoints {
		r := policy.rank(e, from, labels)
		byRank[r] = append(byRank[r], e)
	}
	ranks := make([]int, 0, len(byRank))
	for r := range byRank {
		ranks = append(ranks, r)
	}
	slices.Sort(ranks)
	levels := make([]Level, len(ranks))
	for i, r := range ranks {
		levels[i].Groups = byLocality(byRank[r])
	}
	return levels
}

// rank orders an endpoint among the others: first by labels, then by place.
func (p *LocalityPolicy) rank(e *Endpoint, from Locality, labels map[string]string) int {
	const places = 5
	at := ParseLocality(e.Def.Locality)
	if len(p.FailoverPriority) == 0 {
		return p.distance(from, at)
	}
	rank := 0
	if len(labels) > 0 {
		for i, l := range p.FailoverPriority {
			key, want, given := strings.Cut(l, "=")
			if !given {
				want = label(key, labels, from, "")
			}
			if label(key, e.Def.Labels, at, e.Def.Network) != want {
				rank = len(p.FailoverPriority) - i
				break
			}
		}
	}
	if len(p.Failover) > 0 {
		rank = rank*places + p.distance(from, at)
	}
	return rank
}

// distance is how far away a place is: 0 for the same subzone, 1 for the same zone, 2 for the same region, 3
// for the region that comes next, 4 for the others. Where nothing says which comes next it is all of them.
func (p *LocalityPolicy) distance(from, at Locality) int {
	switch {
	case at.Region != from.Region:
		for _, f := range p.Failover {
			if f.From == from.Region {
				if f.To == at.Region {
					return 3
				}
				return 4
			}
		}
		return 3
	case at.Zone != from.Zone:
		return 2
	case at.SubZone != from.SubZone:
		return 1
	}
	return 0
}

// byLocality sorts endpoints by locality. Each has the weight of its endpoints together.
func byLocality(endpoints []*Endpoint) []Group {
	index := make(map[string]int)
	var groups []Group
	for _, e := range endpoints {
		i, ok := index[e.Def.Locality]
		if !ok {
			i = len(groups)
			index[e.Def.Locality] = i
			groups = append(groups, Group{Locality: ParseLocality(e.Def.Locality)})
		}
		groups[i].Endpoints = append(groups[i].Endpoints, e)
	}
	for i := range groups {
		groups[i].Weight = float64(weightOf(groups[i].Endpoints))
	}
	sortGroups(groups)
	return groups
}

func weightOf(endpoints []*Endpoint) (sum uint64) {
	for _, e := range endpoints {
		sum += uint64(e.weight())
	}
	return sum
}

// apply weighs the groups by the distribution and leaves out those that it does not name.
func (d *Distribution) apply(groups []Group) []Group {
	taken := make([]bool, len(groups))
	var named []Group
	for _, s := range d.To {
		var sum float64
		var own []Group
		for i, g := range groups {
			if !taken[i] && g.Locality.in(s.To) {
				taken[i] = true
				sum += g.Weight
				own = append(own, g)
			}
		}
		for _, g := range own {
			if g.Weight *= float64(s.Weight) / sum; g.Weight > 0 {
				named = append(named, g)
			}
		}
	}
	sortGroups(named)
	return named
}

// sortGroups uses what every program has already: slices.SortFunc is 8 KB more for each type.
func sortGroups(groups []Group) {
	sort.Slice(groups, func(i, j int) bool { return groups[i].Locality.String() < groups[j].Locality.String() })
}
