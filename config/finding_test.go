package config

import (
	"fmt"
	"strings"
	"testing"
)

// A want is a finding as a test expects it; message and hint need only be contained.
type want struct {
	code    string // codeSchema where empty
	at      string // line:column
	path    string
	message string
	hint    string
}

// load parses text as m.yaml and decodes what is served.
func load(text string) ([]Resource, []Finding) {
	resources, findings := Parse("m.yaml", []byte(text))
	for _, r := range resources {
		if kinds[r.Key.Kind].state == kindServed {
			findings = append(findings, r.doc.decode()...)
		}
	}
	return resources, findings
}

// expectRefused checks that findings are the wanted ones, in order, and that each refuses.
func expectRefused(t *testing.T, findings []Finding, wants ...want) {
	t.Helper()
	for i, f := range findings {
		if i >= len(wants) {
			t.Errorf("unexpected finding: %s", f)
			continue
		}
		w := wants[i]
		if w.code == "" {
			w.code = codeSchema
		}
		if !f.Refused || f.Level != Error {
			t.Errorf("finding does not refuse: %s", f)
		}
		at := fmt.Sprintf("%d:%d", f.Line, f.Column)
		if f.Code != w.code || at != w.at || f.Path != w.path ||
			!strings.Contains(f.Message, w.message) || !strings.Contains(f.Hint, w.hint) {
			t.Errorf("finding %d:\n got %s %s %s | %s | %s\nwant %s %s %s | %s | %s", i,
				f.Code, at, f.Path, f.Message, f.Hint, w.code, w.at, w.path, w.message, w.hint)
		}
	}
	for _, w := range wants[min(len(wants), len(findings)):] {
		t.Errorf("missing finding: %+v", w)
	}
}

// A refusedText is one row of a table of refused texts.
type refusedText struct {
	name  string
	text  string
	wants []want
}

func runRefusals(t *testing.T, rows []refusedText) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, findings := load(row.text)
			expectRefused(t, findings, row.wants...)
		})
	}
}

// virtualServiceText writes a VirtualService whose spec begins on line 5, indented by two.
func virtualServiceText(spec string) string { return servedText("VirtualService", spec) }

func servedText(kind, spec string) string {
	return "apiVersion: networking.istio.io/v1\nkind: " + kind + "\nmetadata: {name: x}\nspec:\n" + spec
}
