package config

import (
	"slices"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"retries", "route", "timeout", "perTryTimeout", "ROUND_ROBIN", "port"}
	for name, want := range map[string]string{
		"retrise": "retries", "Retries": "retries", "rout": "route", "per_try_timeout": "perTryTimeout", "ROUNDROBIN": "ROUND_ROBIN",
		"prot": "port", "x": "", "": "", "circuitBreaker": "", strings.Repeat("port", 100): "",
	} {
		if got, ok := nearest(name, known); got != want || ok != (want != "") {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}

func TestOneOfCutsLongLists(t *testing.T) {
	t.Parallel()
	known := strings.Fields("n m l k j i h g f e d c b a")
	if got := oneOf("zzz", known); got != "expected one of [a b c d e f g h i j k l … and 2 more]" {
		t.Errorf("got %s", got)
	}
	if known[0] != "n" {
		t.Error("the caller's list was sorted")
	}
}

func TestKnownKinds(t *testing.T) {
	t.Parallel()
	got := KnownKinds()
	if !slices.IsSorted(got) || len(got) != len(kinds) || !slices.Contains(got, "VirtualService") {
		t.Errorf("got %v", got)
	}
}
