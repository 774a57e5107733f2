package main

import (
	"strings"
	"testing"
)

// TestRun keeps the example true: what it prints is what the README shows.
func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.Contains(got, "v2  100.0 %") || !strings.Contains(got, "v1    0.0 %") {
		t.Errorf("after the change some calls went to v1:\n%s", got)
	}
	if !strings.Contains(got, "verdict    forward") {
		t.Errorf("no explanation:\n%s", got)
	}
}
