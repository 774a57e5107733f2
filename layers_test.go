package mesh_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/heddlemesh/mesh"

// layers is the table of DESIGN.md §4: a package imports only lower layers. A name ending in "/..." stands
// for the directory and everything below it; "." is the module root.
var layers = [][]string{
	{"call", "transport/http1", "internal/drain", "internal/handover", "internal/attacks", "internal/goaway", "internal/guard", "internal/loopback", "internal/memory", "internal/capture", "internal/socket", "internal/inject", "internal/netns", "internal/dns", "internal/dashboards", "internal/proxyproto", "internal/services"},
	{"resilience", "telemetry", "discovery", "identity"},
	{"telemetry/accesslog", "identity/jwt", "identity/authz", "identity/ca", "identity/external", "identity/workload", "routing/balance"},
	{"routing"},
	{"snapshot"},
	{"config", "transport"},
	{"transport/grpcmesh", "internal/keep"},
	{"internal/runtime", "identity/extauthz", "telemetry/export"},
	{".", "internal/spans"},
	{"proxy", "meshtest"},
	{"internal/cli", "internal/conformance", "internal/faults", "internal/fieldsdoc"},
	{"cmd/heddle", "examples/...", "internal/sizebudget/..."},
}

// walls says which of our packages may import which third-party packages (DESIGN.md §4). The longest
// matching prefix decides. What no row covers may be imported by nobody: a dependency arrives with a wall.
var walls = []struct {
	prefix string
	within []string
}{
	{"google.golang.org/grpc", []string{
		"transport/grpcmesh", "meshtest", "examples/...", "cmd/...",
		"identity/ca", "identity/extauthz", "identity/workload", "resilience/rls", "resilience/health", "telemetry/export",
	}},
	{"github.com/spiffe/go-spiffe/v2", []string{"identity/..."}},
	// Whoever may use the SDK has to name the API's types as well.
	{"go.opentelemetry.io/otel", []string{"telemetry/...", ".", "cmd/..."}},
	{"go.opentelemetry.io/otel/sdk", []string{"telemetry/*/...", "cmd/..."}},
	{"go.opentelemetry.io/otel/exporters", []string{"telemetry/*/...", "cmd/..."}},
	{"github.com/envoyproxy/go-control-plane/envoy", []string{"identity/extauthz"}},
	{"golang.org/x/time/rate", []string{"resilience"}},
	{"github.com/sony/gobreaker", []string{"resilience"}},
	{"istio.io/api", []string{"config"}},
	{"istio.io/api/security/v1alpha1", []string{"identity/ca"}}, // the CSR protocol
	{"google.golang.org/protobuf", []string{"config", "identity/extauthz", "transport/grpcmesh", "telemetry/export", "examples/..."}},
	{"google.golang.org/genproto/googleapis/rpc/errdetails", []string{"transport/grpcmesh"}},
	{"github.com/fsnotify/fsnotify", []string{"config"}},
	{"go.yaml.in/yaml", []string{"config", "meshtest", "internal/inject", "cmd/..."}},
	{"golang.org/x/net/http2", []string{"transport", "proxy"}},
	{"golang.org/x/net/idna", []string{"transport"}},
	{"github.com/spf13/cobra", []string{"internal/cli", "cmd/..."}},
}

// programs are the packages that end up in one binary only; every other package is linked into the programs
// of users and is held to what a library may do.
var programs = []string{"cmd/...", "examples/...", "internal/cli", "internal/fieldsdoc", "internal/netns", "internal/services", "internal/sizebudget/..."}

// loggers may log (STYLE.md rule 6); everything else returns errors or calls an injected recorder.
var loggers = append([]string{".", "internal/runtime", "internal/conformance", "meshtest", "proxy"}, programs...)

// rule is one check on one package, with the sources that prove that it fires and that it does not fire.
type rule struct {
	name  string
	says  string
	check func(*source) []string
	bad   []sample
	good  []sample
}

type sample struct{ dir, src string }

var rules = []rule{
	{
		name:  "layers",
		says:  "DESIGN.md §4: a package imports only lower layers, and every directory with Go files stands in the table",
		check: checkLayer,
		bad: []sample{
			{"routing", `package p; import _ "github.com/heddlemesh/mesh/snapshot"`},
			{"config", `package p; import _ "github.com/heddlemesh/mesh/transport"`},
			{"transport", `package p; import _ "github.com/heddlemesh/mesh/config"`},
			{"transport/http1", `package p; import _ "github.com/heddlemesh/mesh/call"`},
			{"internal/runtime", `package p; import _ "github.com/heddlemesh/mesh"`},
			{"examples/grpc", `package p; import _ "github.com/heddlemesh/mesh/examples/httpclient"`},
			{"util", `package p`},
			{"call/deeper", `package p`},
			{"cmd/heddle", `package p; import _ "github.com/heddlemesh/mesh/util"`},
		},
		good: []sample{
			{"routing", `package p; import _ "github.com/heddlemesh/mesh/routing/balance"`},
			{"proxy", `package p; import _ "github.com/heddlemesh/mesh"`},
			{"examples/bookinfo/reviews", `package p; import _ "github.com/heddlemesh/mesh/meshtest"`},
			{"call", `package p; import _ "strings"`},
		},
	},
	{
		name:  "walls",
		says:  "DESIGN.md §4, third-party walls: a dependency arrives with a wall and stays behind it",
		check: checkWalls,
		bad: []sample{
			{".", `package p; import _ "google.golang.org/grpc"`},
			{"internal/cli", `package p; import _ "google.golang.org/grpc/codes"`},
			{"transport", `package p; import _ "github.com/spiffe/go-spiffe/v2/spiffeid"`},
			{"proxy", `package p; import _ "go.opentelemetry.io/otel/trace"`},
			{"telemetry", `package p; import _ "go.opentelemetry.io/otel/sdk/trace"`},
			{".", `package p; import _ "go.opentelemetry.io/otel/exporters/prometheus"`},
			{"proxy", `package p; import _ "golang.org/x/time/rate"`},
			{"transport", `package p; import _ "github.com/sony/gobreaker/v2"`},
			{"snapshot", `package p; import _ "istio.io/api/networking/v1"`},
			{"meshtest", `package p; import _ "google.golang.org/protobuf/proto"`},
			{"internal/cli", `package p; import _ "go.yaml.in/yaml/v3"`},
			{"transport/http1", `package p; import _ "golang.org/x/net/http2/hpack"`},
			{"config", `package p; import _ "github.com/spf13/cobra"`},
			{"config", `package p; import _ "gopkg.in/yaml.v3"`},
			{"internal/runtime", `package p; import _ "github.com/fsnotify/fsnotify"`},
			{"transport", `package p; import _ "golang.org/x/net/html"`},
			{"config", `package p; import _ "istio.io/apiextra"`},
		},
		good: []sample{
			{"transport/grpcmesh", `package p; import _ "google.golang.org/grpc/balancer"`},
			{"identity/workload", `package p; import (_ "google.golang.org/grpc"; _ "github.com/spiffe/go-spiffe/v2/workloadapi")`},
			{"telemetry", `package p; import _ "go.opentelemetry.io/otel/metric"`},
			{"telemetry/prometheus", `package p; import _ "go.opentelemetry.io/otel/sdk/metric"`},
			{"config", `package p; import (_ "istio.io/api/networking/v1"; _ "go.yaml.in/yaml/v3"; _ "google.golang.org/protobuf/encoding/protojson")`},
			{"proxy", `package p; import _ "golang.org/x/net/http2"`},
			{"cmd/heddle", `package p; import _ "github.com/spf13/cobra"`},
		},
	},
	{
		name:  "imports",
		says:  "G-012, G-013, STYLE.md rule 6: no debug endpoints, no templates (they cost every user's binary its dead-code elimination), no log but log/slog, and that only where programs are joined",
		check: checkStdImports,
		bad: []sample{
			{"transport", `package p; import _ "text/template"`},
			{"internal/runtime", `package p; import _ "html/template"`},
			{".", `package p; import _ "net/http/pprof"`},
			{"proxy", `package p; import _ "expvar"`},
			{"cmd/heddle", `package p; import _ "log"`},
			{"transport", `package p; import _ "log/slog"`},
			{"config", `package p; import . "fmt"`},
		},
		good: []sample{
			{"internal/cli", `package p; import _ "net/http/pprof"`},
			{"proxy", `package p; import _ "log/slog"`},
		},
	},
	{
		name:  "init",
		says:  "G-013, STYLE.md rule 7: no init function but the one grpc registration in transport/grpcmesh",
		check: checkInit,
		bad:   []sample{{"config", `package p; func init() {}`}},
		good: []sample{
			{"transport/grpcmesh", `package p; func init() {}`},
			{"examples/grpc", `package p; func init() {}`},
			{"config", `package p; type t struct{}; func (t) init() {}`},
		},
	},
	{
		name:  "process",
		says:  "G-013: a library does not end the process, print, read the environment or change what the whole process shares",
		check: checkProcess,
		bad: []sample{
			{"config", `package p; import "os"; func f() { os.Exit(1) }`},
			{"proxy", `package p; import "os"; var w = os.Stdout`},
			{"proxy", `package p; import sys "os"; func f() { go func() { sys.Exit(1) }() }`},
			{".", `package p; import "os"; func f() string { return os.Getenv("HOME") }`},
			{"config", `package p; import "fmt"; func f() { fmt.Println("x") }`},
			{"config", `package p; import "fmt"; func f() { fmt.Printf("x") }`},
			{"config", `package p; func f() { println("x") }`},
			{"config", `package p; import "net/http"; func f() { http.HandleFunc("/", nil) }`},
			{".", `package p; import "log/slog"; func f() { slog.SetDefault(nil) }`},
			{".", `package p; import "go.opentelemetry.io/otel"; func f() { otel.SetTracerProvider(nil) }`},
			{".", `package p; import "net/http"; func f() { http.DefaultTransport = nil }`},
			{".", `package p; import "net/http"; func f() { a, http.DefaultClient = 1, nil }`},
			{".", `package p; import "net/http"; func f() { http.DefaultClient.Transport = nil }`},
			{".", `package p; import "net/http"; func f() { http.DefaultTransport.(*http.Transport).Proxy = nil }`},
			{".", `package p; import "net/http"; func f() { unknown.Do(func() { http.DefaultTransport = nil }) }`},
		},
		good: []sample{
			{"internal/cli", `package p; import "os"; func f() { os.Exit(1) }`},
			{"config", `package p; import "fmt"; func f(w any) { fmt.Fprintln(w, "x") }`},
			{"config", `package p; func f(os interface{ Exit(int) }) { os.Exit(1) }`},
			{"config", `package p; func println(string) {}; func f() { println("x") }`},
			{".", `package p; import "net/http"; var base = http.DefaultTransport`},
			{"examples/httpclient", `package p; import "net/http"; func f() { http.DefaultTransport = nil }`},
		},
	},
	{
		name:  "globals",
		says:  "DESIGN.md §6, no global state: any number of Mesh values live in one process",
		check: checkGlobals,
		bad: []sample{
			{"transport", `package p; var n int; func f() { n++ }`},
			{"transport", `package p; var n int; func f() { n = 1 }`},
			{"transport", `package p; var m = map[string]int{}; func f() { m["a"] = 1 }`},
			{"transport", `package p; var m = map[string]int{}; func f() { delete(m, "a") }`},
			{"transport", `package p; var s struct{ a []int }; func f() { s.a[0] += 1 }`},
			{"transport", `package p; var n int; func f() { for n = range 3 {} }`},
			{"transport", `package p; import "sync"; var mu sync.Mutex`},
			{"transport", `package p; import "sync"; var m = &sync.Map{}`},
			{"transport", `package p; import "sync/atomic"; var c atomic.Int64`},
			{"transport", `package p; var n int; func f() { x := unknown(func() { n = 1 }); _ = x }`},
		},
		good: []sample{
			{"transport", `package p; var names = []string{"a"}; func f() string { return names[0] }`},
			{"transport", `package p; var n int; func f() { n := 1; n = 2; _ = n }`},
			{"transport", `package p; import "sync"; var buffers = sync.Pool{New: func() any { return nil }}`},
			{"transport", `package p; import "sync"; var once = sync.OnceValue(func() int { x := 1; x++; return x })`},
			{"transport", `package p; import "errors"; var errOver = errors.New("over")`},
			{"internal/cli", `package p; var n int; func f() { n = 1 }`},
		},
	},
}

func TestLayers(t *testing.T) {
	t.Parallel()
	tree, err := loadTree(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) < 2 {
		t.Fatalf("found %d directories with Go files: the walk is broken", len(tree))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range tree {
				for _, found := range r.check(s) {
					t.Errorf("%s\n\t%s", found, r.says)
				}
			}
		})
	}
}

func TestLayersRulesFire(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		for i, c := range r.bad {
			t.Run(fmt.Sprintf("%s/refuses/%d", r.name, i), func(t *testing.T) {
				t.Parallel()
				if got := r.check(parseSample(t, c)); len(got) == 0 {
					t.Errorf("accepted in %s: %s", c.dir, c.src)
				}
			})
		}
		for i, c := range r.good {
			t.Run(fmt.Sprintf("%s/accepts/%d", r.name, i), func(t *testing.T) {
				t.Parallel()
				if got := r.check(parseSample(t, c)); len(got) != 0 {
					t.Errorf("refused in %s: %s\n%q", c.dir, c.src, got)
				}
			})
		}
	}
}

// TestLayersTable keeps the table itself sound: a package in two layers would be held to neither.
func TestLayersTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, names := range layers {
		for _, name := range names {
			if seen[name] {
				t.Errorf("%s stands in two layers", name)
			}
			seen[name] = true
		}
	}
}

// source is what the checks know of one directory: its syntax, and what its identifiers stand for as far as
// that can be told without reading any imported package.
type source struct {
	dir   string
	fset  *token.FileSet
	files []*ast.File // the non-test files
	pkg   *types.Package
	uses  map[*ast.Ident]types.Object
}

// loadTree parses the non-test Go files of the module that owns root. Build constraints are not evaluated:
// a file for another system is held to the same rules. A directory with tests only is listed without files.
func loadTree(root string) ([]*source, error) {
	byDir := map[string]*source{}
	err := walkGo(root, func(name string) error {
		dir := path.Dir(name)
		s := byDir[dir]
		if s == nil {
			s = &source{dir: dir, fset: token.NewFileSet()}
			byDir[dir] = s
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(s.fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		if !ignored(f) {
			s.files = append(s.files, f)
		}
		return nil
	})
	tree := make([]*source, 0, len(byDir))
	for _, s := range byDir {
		s.resolve()
		tree = append(tree, s)
	}
	slices.SortFunc(tree, func(a, b *source) int { return strings.Compare(a.dir, b.dir) })
	return tree, err
}

// walkGo calls visit with the slash-separated name of each Go file of the module that owns root, leaving out
// what the go tool leaves out: testdata, hidden directories and nested modules.
func walkGo(root string, visit func(name string) error) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if rel == "." {
				return nil
			}
			nested, err := filepath.Glob(filepath.Join(name, "go.mod"))
			if err != nil {
				return err
			}
			if base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor" || len(nested) > 0 {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		return visit(filepath.ToSlash(rel))
	})
}

// ignored reports whether the file is a generator that no build includes.
func ignored(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if c.Pos() < f.Package && constraint.IsGoBuild(c.Text) {
				expr, err := constraint.Parse(c.Text)
				return err == nil && expr.String() == "ignore"
			}
		}
	}
	return false
}

func parseSample(t *testing.T, c sample) *source {
	t.Helper()
	s := &source{dir: c.dir, fset: token.NewFileSet()}
	f, err := parser.ParseFile(s.fset, c.dir+"/sample.go", c.src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	s.files = []*ast.File{f}
	s.resolve()
	return s
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not read") }

// resolve binds identifiers to declarations. Every import fails on purpose: go/types then puts an empty
// package in its place, which is all that telling os.Exit from a variable called os needs.
func (s *source) resolve() {
	s.uses = map[*ast.Ident]types.Object{}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}, FakeImportC: true}
	s.pkg, _ = conf.Check(s.dir, s.fset, s.files, &types.Info{Uses: s.uses})
}

// name is the directory as messages show it.
func (s *source) name() string {
	if s.dir == "." {
		return "mesh"
	}
	return s.dir
}

func (s *source) at(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

func (s *source) eachImport(visit func(spec *ast.ImportSpec, imported string)) {
	for _, f := range s.files {
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			visit(spec, imported)
		}
	}
}

func (s *source) inspect(visit func(ast.Node) bool) {
	for _, f := range s.files {
		ast.Inspect(f, visit)
	}
}

// qualified returns "net/http.DefaultClient" for a selector on an imported package, else "".
func (s *source) qualified(n ast.Node) string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	name, ok := s.uses[x].(*types.PkgName)
	if !ok {
		return ""
	}
	return name.Imported().Path() + "." + sel.Sel.Name
}

// within reports whether dir matches one of the patterns: a name, a name and what is below it ("a/..."), or
// only what is below it ("a/*/...").
func within(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if below, ok := strings.CutSuffix(p, "/*/..."); ok {
			return strings.HasPrefix(dir, below+"/")
		}
		if top, ok := strings.CutSuffix(p, "/..."); ok {
			return dir == top || strings.HasPrefix(dir, top+"/")
		}
		return dir == p
	})
}

func layerOf(dir string) int {
	return slices.IndexFunc(layers, func(names []string) bool { return within(dir, names) })
}

// ownDir turns an import path of this module into its directory.
func ownDir(imported string) (string, bool) {
	if imported == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imported, modulePath+"/")
}

func checkLayer(s *source) []string {
	own := layerOf(s.dir)
	if own < 0 {
		return []string{s.name() + ": has Go files and no layer"}
	}
	var found []string
	s.eachImport(func(spec *ast.ImportSpec, imported string) {
		dir, ours := ownDir(imported)
		if !ours {
			return
		}
		if l := layerOf(dir); l < 0 {
			found = append(found, fmt.Sprintf("%s: %s imports %s, which has no layer", s.at(spec), s.name(), dir))
		} else if l >= own {
			found = append(found, fmt.Sprintf("%s: %s (L%d) imports %s (L%d)", s.at(spec), s.name(), own, dir, l))
		}
	})
	return found
}

func checkWalls(s *source) []string {
	var found []string
	s.eachImport(func(spec *ast.ImportSpec, imported string) {
		first, _, _ := strings.Cut(imported, "/")
		if _, ours := ownDir(imported); ours || !strings.Contains(first, ".") {
			return
		}
		best := -1
		for i, w := range walls {
			if (imported == w.prefix || strings.HasPrefix(imported, w.prefix+"/")) &&
				(best < 0 || len(w.prefix) > len(walls[best].prefix)) {
				best = i
			}
		}
		switch {
		case best < 0:
			found = append(found, fmt.Sprintf("%s: %s imports %s, which has no wall", s.at(spec), s.name(), imported))
		case !within(s.dir, walls[best].within):
			found = append(found, fmt.Sprintf("%s: %s imports %s, allowed in %s only",
				s.at(spec), s.name(), imported, strings.Join(walls[best].within, ", ")))
		}
	})
	return found
}

func checkStdImports(s *source) []string {
	var found []string
	s.eachImport(func(spec *ast.ImportSpec, imported string) {
		bad := false
		switch imported {
		case "text/template", "html/template", "net/http/pprof", "expvar":
			bad = !within(s.dir, programs)
		case "log":
			bad = true
		case "log/slog":
			bad = !within(s.dir, loggers)
		}
		if bad || spec.Name != nil && spec.Name.Name == "." {
			found = append(found, fmt.Sprintf("%s: %s imports %s", s.at(spec), s.name(), imported))
		}
	})
	return found
}

func checkInit(s *source) []string {
	if s.dir == "transport/grpcmesh" || within(s.dir, programs) {
		return nil
	}
	var found []string
	for _, f := range s.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, s.at(fn)+": func init")
			}
		}
	}
	return found
}

func checkProcess(s *source) []string {
	if within(s.dir, programs) {
		return nil
	}
	var found []string
	add := func(n ast.Node, what string) { found = append(found, s.at(n)+": "+what) }
	s.inspect(func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			q := s.qualified(n)
			switch q {
			case "os.Exit", "syscall.Exit", "os.Stdout", "os.Getenv", "os.LookupEnv", "os.Environ", "os.Setenv",
				"fmt.Print", "fmt.Printf", "fmt.Println", "net/http.Handle", "net/http.HandleFunc", "log/slog.SetDefault":
				add(n, q)
			default:
				if strings.HasPrefix(q, "go.opentelemetry.io/otel.Set") {
					add(n, q)
				}
			}
		case *ast.Ident:
			if b, ok := s.uses[n].(*types.Builtin); ok && (b.Name() == "print" || b.Name() == "println") {
				add(n, b.Name())
			}
		}
		for _, lhs := range written(n) {
			if q := s.qualified(root(lhs, s)); strings.HasPrefix(q, "net/http.Default") {
				add(n, "assigns "+q)
			}
		}
		return true
	})
	return found
}

// checkGlobals finds package variables that are written after their declaration, and locks and atomics at
// package level, which exist for nothing else. A sync.Pool holds no state that anyone can see.
func checkGlobals(s *source) []string {
	if s.dir == "transport/grpcmesh" || within(s.dir, programs) {
		return nil
	}
	var found []string
	s.inspect(func(n ast.Node) bool {
		for _, lhs := range written(n) {
			id, _ := root(lhs, s).(*ast.Ident)
			if v, ok := s.uses[id].(*types.Var); ok && v.Parent() == s.pkg.Scope() {
				found = append(found, fmt.Sprintf("%s: writes the package variable %s", s.at(n), v.Name()))
			}
		}
		return true
	})
	for _, f := range s.files {
		for _, d := range f.Decls {
			if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.VAR {
				found = append(found, s.locks(decl)...)
			}
		}
	}
	return found
}

func (s *source) locks(decl *ast.GenDecl) []string {
	var found []string
	ast.Inspect(decl, func(n ast.Node) bool {
		if _, ok := n.(*ast.FuncLit); ok {
			return false
		}
		q := s.qualified(n)
		switch q {
		case "sync.Mutex", "sync.RWMutex", "sync.Map", "sync.Once", "sync.WaitGroup", "sync.Cond":
			found = append(found, s.at(n)+": a package variable holds a "+q)
		default:
			if strings.HasPrefix(q, "sync/atomic.") {
				found = append(found, s.at(n)+": a package variable holds a "+q)
			}
		}
		return true
	})
	return found
}

// written lists the expressions that the statement or call changes.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// root peels fields, elements, assertions and indirections off an expression: what is left is the variable
// whose content changes, an identifier or a selector on an imported package.
func root(e ast.Expr, s *source) ast.Node {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			if s.qualified(x) != "" {
				return x
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.TypeAssertExpr:
			e = x.X
		default:
			return e
		}
	}
}
