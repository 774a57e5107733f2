package balance

import "math/bits"

// An aliasTable draws an index in proportion to its weight, in constant time (Walker's method, built as
// Vose has it). Each column is equally likely, and stands for its own index up to keep and for one other
// beyond. It is immutable.
type aliasTable []aliasColumn

type aliasColumn struct {
	keep  uint64 // the share of the column that is its own, in 2⁻⁶⁴
	other uint32
}

// newAliasTable works in integers, so that no rounding piles up: a share is off by at most 2⁻⁶⁴ for each
// column. The weights are at least 1.
func newAliasTable(weights []uint32) aliasTable {
	n := uint64(len(weights))
	var sum uint64
	for _, w := range weights {
		sum += uint64(w)
	}
	table := make(aliasTable, n)
	// A column holds sum units; an index has n units for each of its weight to put somewhere.
	left := make([]uint64, n)
	stack := make([]uint32, n) // those with less than a column fill it from the front, the others from the back
	small, large := 0, int(n)
	for i, w := range weights {
		left[i] = uint64(w) * n
		if left[i] < sum {
			stack[small] = uint32(i)
			small++
		} else {
			large--
			stack[large] = uint32(i)
		}
	}
	for small > 0 {
		small--
		s, l := stack[small], stack[large]
		keep, _ := bits.Div64(left[s], 0, sum)
		table[s] = aliasColumn{keep, l}
		left[l] -= sum - left[s]
		if left[l] < sum {
			large++
			stack[small] = l
			small++
		}
	}
	for _, l := range stack[large:] { // exactly one column each
		table[l].other = l
	}
	return table
}

// draw turns 64 random bits into an index. Bits that are random in the upper half only are enough for
// shares down to 2⁻³².
func (t aliasTable) draw(rnd uint64) int {
	i, rest := bits.Mul64(rnd, uint64(len(t)))
	if c := &t[i]; rest >= c.keep {
		return int(c.other)
	}
	return int(i)
}
