package mesh_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// wallClock are the files that may ask what time it is for people, and why. All else counts how long something took: a time.Time keeps its
// monotonic reading there, which a step of the system's clock, or NTP, does not touch.
var wallClock = map[string]string{
	"identity/ca/authority.go":          "when a certificate was issued, in a log",
	"telemetry/export/zipkin.go":        "when a span began, for a collector",
	"telemetry/export/otlp.go":          "when a span began, for a collector",
	"telemetry/accesslog/clock.go":      "when a request came, for people",
	"call/template.go":                  "when a request came, for people",
	"transport/leaf_conns.go":           "when a certificate ends, after which its connections rest",
	"transport/grpcmesh/credentials.go": "when a certificate ends, after which its connections rest",
	"transport/http1/date.go":           "the Date of answers",
	"internal/cli/proxy.go":             "which second a line of the log is of: twenty are written in each",
	"internal/capture/install.go":       "since when rules are lifted, for people",
	"internal/capture/failopen.go":      "since when rules are lifted, for people",
	"internal/keep/form.go":             "when a snapshot was written, for people",
}

// TestClockSteps: ejections, time-outs, budgets, limits, caches and back-offs do not see a step of the system's clock (E-022): nothing takes the
// monotonic reading off a time but what has to say what time it is.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && strings.HasPrefix(name, ".") || name == "testdata" || path == "examples" || path == "bench" || path == "internal/faults" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !stripsMonotonic(method.Sel.Name, call.Args) {
				return true
			}
			found++
			if wallClock[filepath.ToSlash(path)] == "" {
				t.Errorf("%s: %s takes the monotonic reading off: a step of the clock would be taken for time that has passed", set.Position(call.Pos()), method.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("nothing was looked at")
	}
}

func stripsMonotonic(name string, args []ast.Expr) bool {
	switch name {
	case "Unix", "UnixNano", "UnixMilli", "UnixMicro", "UTC", "Local":
		return len(args) == 0
	case "Round":
		if len(args) == 1 {
			zero, ok := args[0].(*ast.BasicLit)
			return ok && zero.Value == "0"
		}
	}
	return false
}
