package balance

import (
	"math"
	"math/bits"
)

// leveled picks a level by what each can take, and an endpoint in it.
type leveled struct {
	list
	levels    []Picker
	upTo      []uint64 // percent of the calls that go to this level or one before
	hashes    bool
	desperate bool
}

func newLeveled(c *Config, levels []Level, loads []int, panics []bool, seed uint64) *leveled {
	p := &leveled{hashes: c.Algorithm.hashes(), desperate: c.PanicThreshold > 0}
	sum := uint64(0)
	for i := range levels {
		sum += uint64(loads[i])
		p.upTo = append(p.upTo, sum)
		in := newLevel(c, &levels[i], health{panics: panics[i]}, mix(seed+uint64(i)))
		for j := range in.Len() {
			p.list = append(p.list, in.At(j))
		}
		p.levels = append(p.levels, in)
	}
	return p
}

// Pick implements Picker. Which level a hash belongs to is part of the hash, as in Envoy. Where the level has
// nothing left that was healthy when it was made, the first one that has takes its place.
func (p *leveled) Pick(d Draw) *Endpoint {
	key := d.Random
	if p.hashes && d.Hashed {
		key = d.Hash
	}
	d.Random = mix(d.Random)
	for i, to := range p.upTo {
		if key%100 < to {
			if e := p.levels[i].Pick(d); e != nil {
				return e
			}
			break
		}
	}
	for _, l := range p.levels {
		if e := l.Pick(d); e != nil {
			return e
		}
	}
	if !p.desperate {
		return nil
	}
	i, _ := bits.Mul64(mix(key), uint64(len(p.list)))
	return p.list[i]
}

// grouped is a level with several localities: it picks one by weight, and an endpoint in it.
type grouped struct {
	list
	groups    []Picker   // those with a share first
	table     aliasTable // over those with a share; nil where none has
	desperate bool
}

// newGrouped weighs the localities as Envoy does (effectiveLocalityWeight): one of which less than 1/1.4 is
// healthy loses that much of its weight.
func newGrouped(c *Config, l *Level, h health, seed uint64) *grouped {
	p := &grouped{list: l.endpoints(), desperate: h.desperate}
	weights := make([]float64, len(l.Groups))
	most := 0.0
	for i, g := range l.Groups {
		able := float64(overProvisioning*Healthy(g.Endpoints)) / float64(100*len(g.Endpoints))
		weights[i] = g.Weight * min(1, able)
		most = max(most, weights[i])
	}
	var shares []uint32
	var without []Picker
	for i := range l.Groups {
		in := newLevel(c, &Level{Groups: l.Groups[i : i+1]}, health{}, mix(seed+uint64(i)))
		if weights[i] == 0 {
			without = append(without, in)
			continue
		}
		p.groups = append(p.groups, in)
		shares = append(shares, uint32(max(math.Round(weights[i]/most*(1<<31)), 1)))
	}
	if len(shares) > 0 {
		p.table = newAliasTable(shares)
	}
	p.groups = append(p.groups, without...)
	return p
}

// Pick implements Picker. Where the locality has nothing left that was healthy when it was made, others take
// its place.
func (p *grouped) Pick(d Draw) *Endpoint {
	from := 0
	if p.table != nil {
		from = p.table.draw(d.Random)
	}
	d.Random = mix(d.Random)
	for i := range p.groups {
		at := from + i
		if at >= len(p.groups) {
			at -= len(p.groups)
		}
		if e := p.groups[at].Pick(d); e != nil {
			return e
		}
	}
	if !p.desperate {
		return nil
	}
	i, _ := bits.Mul64(d.Random, uint64(len(p.list)))
	return p.list[i]
}
