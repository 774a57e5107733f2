package main

import (
	"slices"
	"testing"

	"github.com/heddlemesh/mesh"
)

// TestJudgeOpen: calls that failed for another reason are not for the breaker to take credit for.
func TestJudgeOpen(t *testing.T) {
	t.Parallel()
	open := mesh.Failure{Reporter: "source", Flags: "UO", Error: "… the circuit breaker of default/ratings for ratings.default.svc.cluster.local is open"}
	dead := mesh.Failure{Reporter: "source", Flags: "UF", Error: "connect failure"}
	other := mesh.Failure{Reporter: "source", Flags: "UO", Error: "another breaker is open"}
	for name, c := range map[string]struct {
		shown []mesh.Failure
		want  int // 0 for an error
	}{
		"all":       {slices.Repeat([]mesh.Failure{open}, 10), 10},
		"most":      {[]mesh.Failure{dead, open, open, open}, 3},
		"few":       {[]mesh.Failure{dead, dead, dead, open}, 0},
		"none":      {[]mesh.Failure{dead, dead}, 0},
		"nothing":   {nil, 0},
		"another's": {[]mesh.Failure{other, other}, 0},
	} {
		got, err := judgeOpen(c.shown)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
