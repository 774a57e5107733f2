package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// bomb writes a document whose aliases multiply tenfold at each of levels.
func bomb(levels int) string {
	var b strings.Builder
	b.WriteString("  l0: &l0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := range levels {
		fmt.Fprintf(&b, "  l%d: &l%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d, ", i), 10), ", "))
	}
	return virtualServiceText(b.String())
}

func TestA006Bombs(t *testing.T) {
	nested := func(open, inner, closing string) string {
		return strings.Repeat(open, 1000) + inner + strings.Repeat(closing, 1000)
	}
	for _, row := range []struct{ name, text, message string }{
		{"aliases", bomb(9), "aliases stand for more than 200000 values"},
		{"cycle", virtualServiceText("  http: &a [{match: *a}]\n"), "nested deeper than 64 levels"},
		{"lists", virtualServiceText("  http: " + nested("[", "", "]") + "\n"), "nested deeper than 64 levels"},
		{"objects", virtualServiceText("  http: " + nested("{a: ", "1", "}") + "\n"), "nested deeper than 64 levels"},
		{"JSON", `{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "x"}, "spec": ` + nested(`{"a":`, "1", "}") + "}", "nested deeper"},
		{"unclosed", virtualServiceText("  http: " + strings.Repeat("[", 100_000)), "exceeded"},
		{"blocks", virtualServiceText("  http:\n  " + strings.Repeat("- ", 1000) + "a\n"), "nested deeper than 64 levels"},
		{"merge keys", virtualServiceText("  http: &a []\n  <<: {http: *a}\n"), "merge key << is not accepted"},
		{"dense", virtualServiceText("  hosts: [" + strings.Repeat("a,", 900_000) + "]\n"), "more than 800000 values"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, findings := load(row.text)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if len(findings) != 1 || !findings[0].Refused || findings[0].Line < 1 || findings[0].Column < 1 || !strings.Contains(findings[0].Message, row.message) {
				t.Errorf("got %v", findings)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("allocated %d bytes", used)
			}
			if took > time.Second { // the rule is 100 ms; the rest is for a slow machine under the race detector
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestA006AliasBudgetIsOneForAList(t *testing.T) {
	t.Parallel()
	text := "apiVersion: v1\nkind: List\nx: &x [" + strings.Repeat("a,", 1000) + "]\nitems:\n" +
		strings.Repeat("- {apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x}, spec: {hosts: *x}}\n", 300)
	resources, findings := load(text)
	if len(resources) != 199 || len(findings) != 101 || !strings.Contains(findings[0].Message, "aliases stand for more") {
		t.Errorf("%d resources, %d findings", len(resources), len(findings))
	}
}

func TestAliasesWithinBudget(t *testing.T) {
	t.Parallel()
	resources, findings := load(virtualServiceText("  hosts: [a]\n  http:\n  - &r {timeout: 1s}\n  - *r\n"))
	if len(findings) > 0 || len(resources) != 1 {
		t.Fatal(findings)
	}
}

func TestA006ShapesThatAreRefused(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"merge key", virtualServiceText("  http: &a []\n  <<: {http: *a}\n"), []want{{at: "6:3", path: "spec", message: "merge key <<", hint: "write the merged fields out"}}},
		{"quoted merge key is a name", virtualServiceText("  \"<<\": 1\n"), []want{{at: "5:3", path: `spec["<<"]`, message: "unknown field"}}},
		{"alias as key", virtualServiceText("  hosts: [&a b]\n  *a : c\n"), []want{{at: "6:3", path: "spec", message: "not plain text"}}},
		{"list as key", virtualServiceText("  ? [a]\n  : b\n"), []want{{at: "5:5", path: "spec", message: "not plain text"}}},
		{"explicit type", virtualServiceText("  http: [{match: [{port: !!int \"80\"}]}]\n"), []want{{at: "5:26", path: "spec.http[0].match[0].port", message: "explicit type !!int"}}},
		{"own type", virtualServiceText("  http: !mine []\n"), []want{{at: "5:9", path: "spec.http", message: "explicit type !mine"}}},
	})
}

func TestA007Caps(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"document", "# x\n" + virtualServiceText("  hosts: ["+strings.Repeat("a", MaxDocumentBytes)+"]\n"), []want{{at: "2:1", message: "larger than 4 MiB (4194304 bytes)"}}},
		{"one line of 10 MiB", "a: " + strings.Repeat("x", 10<<20), []want{{at: "1:1", message: "larger than 4 MiB"}}},
		{"text", strings.Repeat("#", MaxFileBytes+1), []want{{at: "1:1", message: "larger than 32 MiB (33554432 bytes)"}}},
		{"a large document beside others", "a: " + strings.Repeat("x", 5<<20) + "\n---\nkind: [\n",
			[]want{{at: "1:1", message: "larger than 4 MiB"}, {at: "3:7", message: "cannot parse"}}},
	})
	if _, findings := load("#" + strings.Repeat(" ", MaxFileBytes-1)); len(findings) > 0 {
		t.Errorf("a file of exactly the cap: %v", findings)
	}
}
