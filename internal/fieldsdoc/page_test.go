package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/config"
)

func written(t *testing.T) string {
	t.Helper()
	kinds, err := config.RegisteredKinds()
	if err != nil {
		t.Fatal(err)
	}
	return page(kinds)
}

// TestPageIsUpToDate fails where docs/fields.md is not what the register makes today.
func TestPageIsUpToDate(t *testing.T) {
	t.Parallel()
	have, err := os.ReadFile("../../docs/fields.md")
	if err != nil {
		t.Fatal(err)
	}
	want := written(t)
	if string(have) == want {
		return
	}
	a, b := strings.Split(string(have), "\n"), strings.Split(want, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			t.Errorf("docs/fields.md differs from line %d on, want %q: go run ./internal/fieldsdoc > docs/fields.md", i+1, b[i])
			return
		}
	}
	t.Error("docs/fields.md is longer than it should be: go run ./internal/fieldsdoc > docs/fields.md")
}

var (
	headings = regexp.MustCompile(`(?m)^##+ (.*)$`)
	links    = regexp.MustCompile(`\]\(#([^)]*)\)`)
)

// TestLinksLeadSomewhere: each heading is there once, and each link leads to one.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	text := written(t)
	at := make(map[string]bool)
	for _, m := range headings.FindAllStringSubmatch(text, -1) {
		if at[anchor(m[1])] {
			t.Errorf("heading %q is there twice", m[1])
		}
		at[anchor(m[1])] = true
	}
	for _, m := range links.FindAllStringSubmatch(text, -1) {
		if !at[m[1]] {
			t.Errorf("link to #%s leads nowhere", m[1])
		}
	}
}
