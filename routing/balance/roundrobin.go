package balance

import (
	"slices"
	"sync/atomic"
)

// roundRobin is ROUND_ROBIN over endpoints of equal weight.
type roundRobin struct {
	pool
	_    [64]byte // next is written by every pick: keep it off the pool
	next atomic.Uint64
	_    [56]byte
}

func newRoundRobin(all pool, seed uint64) *roundRobin {
	p := &roundRobin{pool: all}
	p.next.Store(seed % uint64(len(p.list)))
	return p
}

// Pick implements Picker.
func (p *roundRobin) Pick(d Draw) *Endpoint {
	e := p.turn()
	if p.usable(e) && p.warm.over(d.Now) {
		return e
	}
	return p.nextTurn(e, d)
}

func (p *roundRobin) turn() *Endpoint {
	return p.list[(p.next.Add(1)-1)%uint64(len(p.list))]
}

// maxTurns bounds the turns that one pick passes over: each is a write that all picks share.
const maxTurns = 64

// nextTurn passes over turns of endpoints that are ejected, and of those that warm up as often as they must
// wait: the others keep their order. After many in a row it draws.
func (p *roundRobin) nextTurn(e *Endpoint, d Draw) *Endpoint {
	most, rnd := p.warm.most(d.Now), d.Random
	for range maxTurns {
		rnd = mix(rnd)
		if p.keeps(e, rnd, d.Now, most) {
			return e
		}
		e = p.turn()
	}
	return p.otherwise(rnd, d.Now)
}

// weightedRoundRobin is ROUND_ROBIN over endpoints of different weight, by static strides (gRFC A58).
// Positions are counted through the list again and again; one passage is a generation. An endpoint of
// weight w has its turn in w of most generations, evenly spread: when (w·generation + offset) mod most
// is in the top w values. Over most generations each has exactly its weight, and where weights have a
// common divisor, over that much fewer.
//
// It differs from A58 in the offset: a different one for each endpoint, so that light endpoints of the
// same weight have their turns in different generations and not one after the other; and in claiming a
// position only when it is somebody's turn, so that passing over costs no shared write.
type weightedRoundRobin struct {
	pool
	strides []stride
	most    uint32 // the largest weight
	_       [64]byte
	next    atomic.Uint64 // position
	_       [56]byte
}

type stride struct{ weight, offset uint32 }

// maxStride bounds weights, so that a stride times a generation stays within 32 bits.
const maxStride = 1<<16 - 1

func newWeightedRoundRobin(all pool, seed uint64) *weightedRoundRobin {
	p := &weightedRoundRobin{pool: all, strides: make([]stride, len(all.list)), most: slices.Max(all.weights)}
	scale := max(uint64(p.most), maxStride)
	p.most = min(p.most, maxStride)
	// Multiples of the golden section of the cycle are spread evenly however many there are.
	golden := uint64(float64(p.most)*0.618) | 1
	for i, w := range p.weights {
		if scale > maxStride {
			w = uint32(max((uint64(w)*maxStride+scale/2)/scale, 1))
		}
		p.strides[i] = stride{weight: w, offset: uint32(uint64(i) * golden % uint64(p.most))}
	}
	p.next.Store(seed % (uint64(len(p.list)) * uint64(p.most)))
	return p
}

// Pick implements Picker. A turn that its endpoint cannot have, ejected or warming up, goes to one drawn by
// weight, in the same shares: to look for the next turn could take a generation of them.
func (p *weightedRoundRobin) Pick(d Draw) *Endpoint {
	e := p.turn()
	if p.usable(e) && (p.warm.over(d.Now) || p.keeps(e, d.Random, d.Now, p.warm.most(d.Now))) {
		return e
	}
	return p.otherwise(mix(d.Random), d.Now)
}

func (p *weightedRoundRobin) turn() *Endpoint {
	for {
		from := p.next.Load()
		index, steps := p.seek(from)
		if p.next.CompareAndSwap(from, from+steps) {
			return p.list[index]
		}
	}
}

// seek finds the first position from at on that is somebody's turn: its endpoint, and how far behind it
// the next search begins. It ends within one generation, because the heaviest has its turn in each.
func (p *weightedRoundRobin) seek(at uint64) (index int, steps uint64) {
	n := uint64(len(p.strides))
	generation := uint32(at / n % uint64(p.most))
	index = int(at % n)
	for steps = 1; ; steps++ {
		s := &p.strides[index]
		if (s.weight*generation+s.offset)%p.most >= p.most-s.weight {
			return index, steps
		}
		if index++; index == len(p.strides) {
			index = 0
			generation++ // at most once, and not past what 32 bits hold
		}
	}
}
