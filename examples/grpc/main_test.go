package main

import (
	"strings"
	"testing"
)

// TestRun keeps the example true: the rule moves the calls it matches and no others, RPCs are spread where connections are not, and a
// server that fails is out and comes back.
func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	before, rest, _ := strings.Cut(out.String(), "changed while running")
	after, rest, _ := strings.Cut(rest, "The lesson of kube-proxy")
	lesson, ejection, _ := strings.Cut(rest, "Outlier detection")
	for _, row := range []struct{ part, line string }{
		{before, "without end-user           stable-1   5   stable-2   5   canary   0"},
		{before, "end-user: jason            stable-1   0   stable-2   0   canary  10"},
		{before, "end-user: james            stable-1   5   stable-2   5   canary   0"},
		{after, "end-user: jason            stable-1   5   stable-2   5   canary   0"},
		{after, "end-user: james            stable-1   0   stable-2   0   canary  10"},
		{after, "route      testers"},
		{lesson, "connections balanced       stable-1 300   stable-2   0   canary   0"},
		{lesson, "RPCs balanced by the mesh   stable-1 100   stable-2 100   canary 100"},
		{ejection, "stable-2   0"},
		{ejection, "0 of 60 RPCs failed for the caller"},
		{ejection, "stable-2 was asked "},
		{ejection, "stable-2 is well again, and back after"},
	} {
		if !strings.Contains(row.part, row.line) {
			t.Errorf("no %q in\n%s", row.line, out.String())
		}
	}
}
