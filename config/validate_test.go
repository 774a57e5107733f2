package config

import (
	"fmt"
	"strings"
	"testing"
)

// A validateCase is one document, given by its kind and what follows "spec:", and all that is found about
// it. The spec begins on line 5. A want is "CODE! line:column path ~ piece of message or hint": "!" marks a
// finding that refuses, "?" a warning.
type validateCase struct {
	name string
	spec string
	want []string
}

func validateText(kind, spec string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: reviews, namespace: shop}\nspec:\n%s\n",
		kind, strings.Trim(spec, "\n"))
}

// validateOne parses, decodes and validates the one document of text.
func validateOne(t *testing.T, text string) []Finding {
	t.Helper()
	resources, findings := Parse("a.yaml", []byte(text))
	if len(resources) != 1 || len(findings) != 0 {
		t.Fatalf("%d resources, findings %v", len(resources), findings)
	}
	d := resources[0].doc
	if findings := d.decode(); len(findings) != 0 {
		t.Fatalf("decode: %v", findings)
	}
	return d.validate()
}

func runValidate(t *testing.T, kind string, cases []validateCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expectFound(t, validateOne(t, validateText(kind, c.spec)), c.want)
		})
	}
}

func expectFound(t *testing.T, found []Finding, want []string) {
	t.Helper()
	ok := len(found) == len(want)
	for i := range min(len(found), len(want)) {
		head, piece, cut := strings.Cut(want[i], " ~ ")
		ok = ok && cut && head == findingHead(found[i]) && strings.Contains(found[i].Message+"; "+found[i].Hint, piece)
		ok = ok && found[i].Refused == (found[i].Level == Error)
	}
	if !ok {
		var b strings.Builder
		for _, f := range found {
			fmt.Fprintf(&b, "\t%s ~ %s; %s\n", findingHead(f), f.Message, f.Hint)
		}
		t.Errorf("found:\n%swant:\n\t%s", b.String(), strings.Join(want, "\n\t"))
	}
}

func findingHead(f Finding) string {
	mark := "?"
	if f.Refused {
		mark = "!"
	}
	return fmt.Sprintf("%s%s %d:%d %s", f.Code, mark, f.Line, f.Column, f.Path)
}

// TestValidateLimits: more than a hundred findings of a kind become a hundred and one, and warnings alone
// never refuse.
func TestValidateLimits(t *testing.T) {
	t.Parallel()
	count := func(found []Finding) (refused, warned int) {
		for _, f := range found {
			if f.Refused {
				refused++
			} else {
				warned++
			}
		}
		return refused, warned
	}
	warn := "  hosts: [a]\n  http:\n" + strings.Repeat("  - route: [{destination: {host: a}}]\n    match: [{statPrefix: x, port: 1}]\n", 150)
	if refused, warned := count(validateOne(t, validateText("VirtualService", warn))); refused != 0 || warned != 101 {
		t.Errorf("150 warnings: %d refused, %d warned", refused, warned)
	}
	both := warn + strings.Repeat("  - route: [{destination: {host: a b}}]\n", 150)
	if refused, warned := count(validateOne(t, validateText("VirtualService", both))); refused != 101 || warned != 101 {
		t.Errorf("150 of both: %d refused, %d warned", refused, warned)
	}
}

// TestValidateOrder: findings come in the order of the lines, whatever the order of the fields in Go.
func TestValidateOrder(t *testing.T) {
	t.Parallel()
	found := validateOne(t, validateText("VirtualService", `
  http:
  - retries: {attempts: -1}
    route:
    - destination: {host: a*b}
  exportTo: [X]
  hosts: [foo_bar]`))
	last := 0
	for _, f := range found {
		if f.Line < last {
			t.Errorf("%v comes after line %d", f, last)
		}
		last = f.Line
	}
	if len(found) != 4 {
		t.Errorf("found %v", found)
	}
}

func FuzzValidate(f *testing.F) {
	for _, kind := range []string{"VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry"} {
		for _, cases := range [][]validateCase{acceptedVirtualServices, acceptedDestinationRules, acceptedServiceEntries,
			hostCases, actionCases, routeCases, matchCases, retryCases, policyCases, balancerCases, entryCases, workloadCases} {
			for _, c := range cases {
				if len(c.spec) < 4<<10 { // a seed of a megabyte takes the fuzzer a minute
					f.Add([]byte(validateText(kind, c.spec)))
				}
			}
		}
	}
	for kind, cases := range map[string][]validateCase{"Service": serviceCases, "EndpointSlice": sliceCases, "Pod": podCases} {
		for _, c := range cases {
			f.Add([]byte(kubeText(kind, c.spec)))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		resources, _ := Parse("fuzz.yaml", text)
		for _, r := range resources {
			if kinds[r.Key.Kind].state != kindServed || len(r.doc.decode()) > 0 {
				continue
			}
			for _, found := range r.doc.validate() {
				if found.Line < 1 || found.Column < 1 || found.Path == "" || found.Message == "" {
					t.Errorf("no position, path or message: %#v", found)
				}
				if found.Refused != (found.Level == Error) {
					t.Errorf("refused %v at level %v", found.Refused, found.Level)
				}
			}
		}
	})
}
