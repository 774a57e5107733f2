package balance

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestAliasTableIsExact adds up what each index has of the table and compares it with its weight.
func TestAliasTableIsExact(t *testing.T) {
	t.Parallel()
	cases := map[string][]uint32{
		"two":         {1, 2},
		"equal":       {9, 9, 9, 9},
		"steep":       {1, 10, 100, 1000, 10_000},
		"extremes":    {math.MaxUint32, 1, 1, math.MaxUint32},
		"heavy first": {math.MaxUint32, 1, 2, 3},
		"heavy last":  {1, 2, 3, math.MaxUint32},
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{3, 10, 1000, 10_000} {
		weights := make([]uint32, n)
		for i := range weights {
			weights[i] = max(rnd.Uint32()>>rnd.UintN(32), 1)
		}
		cases["random "+big.NewInt(int64(n)).String()] = weights
	}
	for name, weights := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkAlias(t, weights)
		})
	}
}

func checkAlias(t *testing.T, weights []uint32) {
	t.Helper()
	table := newAliasTable(weights)
	column := new(big.Int).Lsh(big.NewInt(1), 64)
	mass := make([]*big.Int, len(weights))
	sum := new(big.Int)
	for i, w := range weights {
		mass[i] = new(big.Int)
		sum.Add(sum, big.NewInt(int64(w)))
	}
	for i, c := range table {
		keep := new(big.Int).SetUint64(c.keep)
		mass[i].Add(mass[i], keep)
		mass[c.other].Add(mass[c.other], keep.Sub(column, keep))
	}
	// mass/(n·2⁶⁴) is the share, w/sum what it should be: off by at most 1 in each of n columns.
	limit := new(big.Int).Mul(sum, big.NewInt(int64(len(weights))))
	for i, w := range weights {
		got := new(big.Int).Mul(mass[i], sum)
		want := new(big.Int).Mul(column, big.NewInt(int64(w)))
		want.Mul(want, big.NewInt(int64(len(weights))))
		if off := got.Sub(got, want); off.Abs(off).Cmp(limit) > 0 {
			t.Fatalf("index %d, weight %d of %v: the share is off by %v, more than %v", i, w, sum, off, limit)
		}
	}
}

// TestAliasTableDraw walks the edges of columns.
func TestAliasTableDraw(t *testing.T) {
	t.Parallel()
	table := newAliasTable([]uint32{1, 3}) // 0: half its own, half 1's; 1: all its own
	for rnd, want := range map[uint64]int{
		0: 0, 1<<62 - 1: 0, 1 << 62: 1, 1<<63 - 1: 1, 1 << 63: 1, math.MaxUint64: 1,
	} {
		if got := table.draw(rnd); got != want {
			t.Errorf("draw(%#x) = %d, want %d", rnd, got, want)
		}
	}
}
