package balance

import (
	"slices"
	"testing"
)

// TestSpread has the tables of Envoy's documents on priority levels and panic thresholds beside cases of our
// own.
func TestSpread(t *testing.T) {
	t.Parallel()
	type level struct{ healthy, total int }
	percent := func(healthy ...int) (levels []level) {
		for _, h := range healthy {
			levels = append(levels, level{h, 100})
		}
		return levels
	}
	none := func(n int) []bool { return make([]bool, n) }
	for name, c := range map[string]struct {
		levels    []level
		threshold uint8
		loads     []int
		panics    []bool
	}{
		"healthy":                    {percent(100, 100), 50, []int{100, 0}, none(2)},
		"72 percent are enough":      {percent(72, 100), 50, []int{100, 0}, none(2)},
		"71 percent spill one":       {percent(71, 100), 50, []int{99, 1}, none(2)},
		"half":                       {percent(50, 100), 50, []int{70, 30}, none(2)},
		"a quarter":                  {percent(25, 100), 50, []int{35, 65}, none(2)},
		"nothing":                    {percent(0, 100), 50, []int{0, 100}, none(2)},
		"normalized":                 {percent(25, 25), 0, []int{50, 50}, none(2)},
		"normalized, rounded":        {percent(20, 20, 10), 0, []int{40, 40, 20}, none(3)},
		"roundings go to the first":  {percent(10, 10, 10), 0, []int{34, 33, 33}, none(3)},
		"three levels":               {percent(50, 20, 100), 50, []int{70, 28, 2}, none(3)},
		"panic of one":               {percent(60, 4), 50, []int{95, 5}, []bool{false, true}},
		"no panic while 100 is had":  {percent(100, 0), 50, []int{100, 0}, none(2)},
		"panic of all":               {percent(25, 25), 50, []int{50, 50}, []bool{true, true}},
		"panic of all is by size":    {[]level{{1, 30}, {0, 10}}, 50, []int{75, 25}, []bool{true, true}},
		"panic, nothing healthy":     {[]level{{0, 1}, {0, 2}}, 1, []int{34, 66}, []bool{true, true}},
		"threshold 0, none healthy":  {percent(0, 0), 0, []int{0, 0}, none(2)},
		"one level":                  {percent(40), 50, []int{100}, []bool{true}},
		"one level, healthy enough":  {percent(50), 50, []int{100}, none(1)},
		"one level, 1.4 is enough":   {percent(72), 100, []int{100}, none(1)},
		"threshold beyond 100":       {percent(71), 255, []int{100}, []bool{true}},
		"one endpoint":               {[]level{{1, 1}}, 50, []int{100}, none(1)},
		"no endpoint":                {[]level{{0, 0}}, 50, []int{0}, none(1)},
		"one of three, no threshold": {[]level{{1, 3}}, 0, []int{100}, none(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var levels []Level
			for _, l := range c.levels {
				all := placed(make([]string, l.total)...)
				for _, e := range all[l.healthy:] {
					e.Eject()
				}
				half := l.total / 2 // it does not matter how they are grouped
				levels = append(levels, Level{[]Group{{Endpoints: all[:half]}, {Endpoints: all[half:]}}})
			}
			loads, panics := spread(levels, c.threshold)
			if !slices.Equal(loads, c.loads) || !slices.Equal(panics, c.panics) {
				t.Errorf("loads %d, panics %v; want %d, %v", loads, panics, c.loads, c.panics)
			}
		})
	}
}
