package main

import (
	"strings"
	"testing"
)

// TestRun keeps the example true: the rule moves the calls it matches and no others.
func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(out.String(), "changed while running")
	for _, row := range []struct{ half, line string }{
		{before, "without end-user   v1 10   v2  0"}, {before, "end-user: jason    v1  0   v2 10"}, {before, "end-user: james    v1 10   v2  0"},
		{after, "without end-user   v1 10   v2  0"}, {after, "end-user: jason    v1 10   v2  0"}, {after, "end-user: james    v1  0   v2 10"},
		{after, "route      testers"},
	} {
		if !strings.Contains(row.half, row.line) {
			t.Errorf("no %q in\n%s", row.line, out.String())
		}
	}
}
