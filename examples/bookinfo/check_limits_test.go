package main

import (
	"slices"
	"testing"
)

// TestJudgeOpen: calls that failed for another reason are not for the breaker to take credit for.
func TestJudgeOpen(t *testing.T) {
	t.Parallel()
	open := failure{Flag: "UO", Details: "… the circuit breaker of default/ratings for ratings.default.svc.cluster.local is open"}
	dead := failure{Flag: "UF", Details: "connect failure"}
	other := failure{Flag: "UO", Details: "another breaker is open"}
	for name, c := range map[string]struct {
		shown []failure
		want  int // 0 for an error
	}{
		"all":       {slices.Repeat([]failure{open}, 10), 10},
		"most":      {[]failure{dead, open, open, open}, 3},
		"few":       {[]failure{dead, dead, dead, open}, 0},
		"none":      {[]failure{dead, dead}, 0},
		"nothing":   {nil, 0},
		"another's": {[]failure{other, other}, 0},
	} {
		got, err := judgeOpen(c.shown)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
