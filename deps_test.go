package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxDirect is the number of modules that we may require ourselves (G-004).
const maxDirect = 15

// licences are those that a program under Apache-2.0 may link without asking anyone (G-004).
var licences = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC"}

// floors are the oldest versions that may be selected (G-007). A row counts when go.mod names the module, in
// whatever major version.
var floors = []struct{ module, version, why string }{
	{"go", "1.26.6", "G-007"},
	{"google.golang.org/protobuf", "1.36.12", "earlier ones cost every user's binary its dead-code elimination under Go 1.26"},
	{"golang.org/x/net", "0.56.0", "G-007"},
	{"google.golang.org/grpc", "1.82.1", "G-007"},
	{"github.com/go-jose/go-jose", "4.1.4", "G-007"},
	{"github.com/golang-jwt/jwt", "5.2.2", "G-007"},
}

// modFile is what these checks read in a go.mod file.
type modFile struct {
	goVersion string
	requires  []requirement
	refused   []string // directives that a library's go.mod may not have
}

type requirement struct {
	module, version string
	indirect        bool
}

func parseMod(text string) (modFile, error) {
	var m modFile
	block := ""
	for n, line := range strings.Split(text, "\n") {
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		switch words[0] {
		case "module", "retract", "ignore":
		case "go":
			m.goVersion = words[len(words)-1]
		case "require":
			if len(words) != 3 {
				return m, fmt.Errorf("parse go.mod: line %d: %q is no requirement", n+1, line)
			}
			m.requires = append(m.requires, requirement{words[1], words[2], strings.TrimSpace(comment) == "indirect"})
		default:
			m.refused = append(m.refused, strings.Join(words, " "))
		}
	}
	return m, nil
}

// version is the three numbers of a release; a pre-release and a pseudo-version count as the release before.
func version(s string) (v [3]int, err error) {
	s, pre, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(s, "v"), "+incompatible"), "-")
	parts := strings.Split(s, ".")
	if len(parts) > 3 {
		return v, fmt.Errorf("parse version %q: more than three numbers", s)
	}
	for i, p := range parts {
		if v[i], err = strconv.Atoi(p); err != nil {
			return v, fmt.Errorf("parse version %q: %w", s, err)
		}
	}
	if pre != "" {
		v[2]--
	}
	return v, nil
}

func checkFloors(m modFile) []string {
	var found []string
	check := func(module, has string) {
		for _, f := range floors {
			major, other := strings.CutPrefix(module, f.module+"/v")
			if _, err := strconv.Atoi(major); module != f.module && (!other || err != nil) {
				continue
			}
			want, err := version(f.version)
			got, err2 := version(has)
			if err = errors.Join(err, err2); err != nil {
				found = append(found, err.Error())
			} else if slices.Compare(got[:], want[:]) < 0 {
				found = append(found, fmt.Sprintf("%s %s is below the floor %s (%s)", module, has, f.version, f.why))
			}
		}
	}
	check("go", m.goVersion)
	for _, r := range m.requires {
		check(r.module, r.version)
	}
	return found
}

// documented is one row of docs/dependencies.md.
type documented struct {
	licences, usedBy []string
	why              string
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

func parseDocs(text string) map[string]documented {
	rows := map[string]documented{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		module := codeSpan.FindStringSubmatch(cells[0])
		if !strings.HasPrefix(line, "|") || module == nil || len(cells) != 4 {
			continue
		}
		row := documented{
			licences: strings.Split(strings.TrimSpace(cells[1]), " and "),
			why:      strings.TrimSpace(cells[3]),
		}
		for _, span := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			row.usedBy = append(row.usedBy, span[1])
		}
		rows[module[1]] = row
	}
	return rows
}

// checkDocs compares go.mod, what our packages import (directories by module) and docs/dependencies.md. A
// module counts as direct when go.mod says so or when a package of ours imports it.
func checkDocs(m modFile, importers map[string][]string, docs map[string]documented) []string {
	var found []string
	required := map[string]bool{}
	direct := 0
	for _, r := range m.requires {
		required[r.module] = true
		if r.indirect && importers[r.module] == nil {
			continue
		}
		direct++
		row, ok := docs[r.module]
		if !ok {
			found = append(found, r.module+": required directly, but docs/dependencies.md has no line for it")
			continue
		}
		if row.why == "" {
			found = append(found, r.module+": docs/dependencies.md gives no reason")
		}
		for _, l := range row.licences {
			if !slices.Contains(licences, l) {
				found = append(found, fmt.Sprintf("%s: licence %q is not one of %v", r.module, l, licences))
			}
		}
		for _, dir := range importers[r.module] {
			if !within(dir, row.usedBy) {
				found = append(found, fmt.Sprintf("%s: imported by %s, docs/dependencies.md says %v", r.module, dir, row.usedBy))
			}
		}
	}
	if direct > maxDirect {
		found = append(found, fmt.Sprintf("%d direct requirements, the budget is %d", direct, maxDirect))
	}
	for module := range docs {
		if !required[module] {
			found = append(found, module+": docs/dependencies.md has a line for it, go.mod does not require it")
		}
	}
	for _, d := range m.refused {
		found = append(found, fmt.Sprintf("go.mod: %q: users cannot install a module with such a directive, or do not need it", d))
	}
	return found
}

// importersOf tells which of our directories import each required module.
func importersOf(m modFile, tree []*source) map[string][]string {
	by := map[string][]string{}
	for _, s := range tree {
		s.eachImport(func(_ *ast.ImportSpec, imported string) {
			module := ""
			for _, r := range m.requires {
				if (imported == r.module || strings.HasPrefix(imported, r.module+"/")) && len(r.module) > len(module) {
					module = r.module
				}
			}
			if module != "" && !slices.Contains(by[module], s.dir) {
				by[module] = append(by[module], s.dir)
			}
		})
	}
	return by
}

// licenceMarks are words that stand in one licence text only.
var licenceMarks = []struct {
	name string
	mark *regexp.Regexp
}{
	{"Apache-2.0", regexp.MustCompile(`(?i)apache license,?\s+version 2\.0`)},
	{"MIT", regexp.MustCompile(`Permission is hereby granted, free of charge`)},
	{"BSD", regexp.MustCompile(`Redistribution and use in source and binary forms`)},
	{"ISC", regexp.MustCompile(`Permission to use, copy, modify, and(/or)? distribute this software`)},
	{"GPL", regexp.MustCompile(`(?i)GNU (AFFERO |LESSER |LIBRARY )?GENERAL PUBLIC LICENSE`)},
	{"MPL", regexp.MustCompile(`(?i)Mozilla Public License`)},
	{"BUSL", regexp.MustCompile(`(?i)Business Source License`)},
	{"SSPL", regexp.MustCompile(`(?i)Server Side Public License`)},
}

func licencesIn(text string) []string {
	var names []string
	for _, l := range licenceMarks {
		if !l.mark.MatchString(text) {
			continue
		}
		if l.name == "BSD" {
			l.name = "BSD-2-Clause"
			if strings.Contains(text, "Neither the name") {
				l.name = "BSD-3-Clause"
			}
		}
		names = append(names, l.name)
	}
	slices.Sort(names)
	return names
}

// checkLicence holds the licence text of a linked module against the allow list and, for a module that
// docs/dependencies.md names, against what is written there.
func checkLicence(module, text string, docs map[string]documented) []string {
	got := licencesIn(text)
	if len(got) == 0 {
		return []string{module + ": no licence text recognized"}
	}
	var found []string
	for _, l := range got {
		if !slices.Contains(licences, l) {
			found = append(found, fmt.Sprintf("%s: licence %s is not one of %v", module, l, licences))
		}
	}
	if row, ok := docs[module]; ok {
		if want := slices.Sorted(slices.Values(row.licences)); !slices.Equal(got, want) {
			found = append(found, fmt.Sprintf("%s: its licence text says %v, docs/dependencies.md %v", module, got, want))
		}
	}
	return found
}

// importsC reports a file that needs cgo.
func importsC(f *ast.File) bool {
	return slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"C"` })
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseMod(string(text))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	docs := parseDocs(string(page))
	if len(m.requires) == 0 || len(docs) == 0 {
		t.Fatalf("read %d requirements and %d documented modules: the parsing is broken", len(m.requires), len(docs))
	}
	t.Run("floors", func(t *testing.T) {
		t.Parallel()
		for _, found := range checkFloors(m) {
			t.Errorf("%s\n\tG-007: the toolchain and some dependencies have a floor", found)
		}
	})
	t.Run("documented", func(t *testing.T) {
		t.Parallel()
		tree, err := loadTree(".")
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range checkDocs(m, importersOf(m, tree), docs) {
			t.Errorf("%s\n\tG-004: at most %d direct dependencies, each with a reason and a licence", found, maxDirect)
		}
	})
	t.Run("cgo", func(t *testing.T) {
		t.Parallel()
		files := 0
		err := walkGo(".", func(name string) error {
			files++
			f, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(name), nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			if importsC(f) {
				t.Errorf("%s imports \"C\"\n\tG-004: no cgo", name)
			}
			return nil
		})
		if err != nil || files == 0 {
			t.Fatalf("read %d files: %v", files, err)
		}
	})
	t.Run("licences", func(t *testing.T) {
		t.Parallel()
		for module, dir := range linkedModules(t) {
			text := ""
			for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err == nil {
					text += string(b)
				}
			}
			for _, found := range checkLicence(module, text, docs) {
				t.Errorf("%s\n\tG-004: licence allow list", found)
			}
		}
	})
}

// linkedModules maps the modules that our packages link to the directories of their sources.
func linkedModules(t *testing.T) map[string]string {
	t.Helper()
	goTool := findGo(t)
	cmd := exec.CommandContext(t.Context(), goTool, "list", "-e", "-deps", "-json=Module", "./...")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for dec := json.NewDecoder(out); ; {
		var p struct{ Module *struct{ Path, Dir string } }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Error(err)
			break
		}
		if p.Module != nil && p.Module.Path != modulePath {
			modules[p.Module.Path] = p.Module.Dir
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	return modules
}

func TestDependenciesRulesFire(t *testing.T) {
	t.Parallel()
	const sound = "module a.b/c\n\ngo 1.26.8 // newest\n\nrequire a.b/one v1.2.3\n\nrequire (\n\ta.b/two v0.1.0 // indirect\n)\n"
	docs := parseDocs("| Module | Licence | Used by | Why |\n|---|---|---|---|\n| `a.b/one` | MIT and Apache-2.0 | `config`, `cmd/...` | it reads |\n")
	many := strings.Builder{}
	manyDocs := map[string]documented{}
	for i := range maxDirect + 1 {
		name := "a.b/m" + strconv.Itoa(i)
		fmt.Fprintf(&many, "require %s v1.0.0\n", name)
		manyDocs[name] = documented{licences: []string{"ISC"}, why: "x"}
	}
	rows := []struct {
		name      string
		mod       string
		importers map[string][]string
		docs      map[string]documented
		want      string // part of the one finding; "" = none
	}{
		{"sound", sound, map[string][]string{"a.b/one": {"config", "cmd/heddle"}}, docs, ""},
		{"undocumented", sound, nil, map[string]documented{}, "a.b/one: required directly"},
		{"undocumented but marked indirect", sound, map[string][]string{"a.b/two": {"config"}}, docs, "a.b/two: required directly"},
		{"documented for another package", sound, map[string][]string{"a.b/one": {"routing"}}, docs, "imported by routing"},
		{"no reason", "require a.b/one v1.0.0", nil, map[string]documented{"a.b/one": {licences: []string{"MIT"}}}, "gives no reason"},
		{"licence", "require a.b/one v1.0.0", nil, map[string]documented{"a.b/one": {licences: []string{"GPL"}, why: "x"}}, `licence "GPL"`},
		{"stale line", "require a.b/two v1.0.0 // indirect", nil, docs, "go.mod does not require it"},
		{"too many", many.String(), nil, manyDocs, "the budget is 15"},
		{"replace", sound + "replace a.b/one => ../one\n", nil, docs, "replace a.b/one"},
		{"go floor", "go 1.26.5", nil, nil, "go 1.26.5 is below"},
		{"go without patch", "go 1.26", nil, nil, "go 1.26 is below"},
		{"protobuf floor", "go 1.27\nrequire google.golang.org/protobuf v1.36.11 // indirect", nil, nil, "protobuf v1.36.11 is below"},
		{"x/net floor", "go 1.27\nrequire golang.org/x/net v0.55.9 // indirect", nil, nil, "x/net v0.55.9 is below"},
		{"grpc floor", "go 1.27\nrequire google.golang.org/grpc v1.82.1-dev // indirect", nil, nil, "grpc v1.82.1-dev is below"},
		{"go-jose floor", "go 1.27\nrequire github.com/go-jose/go-jose/v3 v3.9.9 // indirect", nil, nil, "go-jose/v3 v3.9.9 is below"},
		{"jwt floor", "go 1.27\nrequire github.com/golang-jwt/jwt/v5 v5.2.1 // indirect", nil, nil, "jwt/v5 v5.2.1 is below"},
		{"at the floor", "go 1.26.6\nrequire golang.org/x/net v0.56.0 // indirect", nil, nil, ""},
		{"unreadable version", "go 1.x", nil, nil, "parse version"},
		{"no go line", "module a.b/c", nil, nil, "parse version"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m, err := parseMod(row.mod)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			if row.docs != nil {
				found = checkDocs(m, row.importers, row.docs)
			} else {
				found = checkFloors(m)
			}
			switch {
			case row.want == "" && len(found) != 0:
				t.Errorf("found %q, want nothing", found)
			case row.want != "" && (len(found) != 1 || !strings.Contains(found[0], row.want)):
				t.Errorf("found %q, want one with %q", found, row.want)
			}
		})
	}
	t.Run("unreadable requirement", func(t *testing.T) {
		t.Parallel()
		if _, err := parseMod("require (\na.b/c\n)"); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("cgo", func(t *testing.T) {
		t.Parallel()
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package p; import "C"`, parser.ImportsOnly)
		if err != nil || !importsC(f) {
			t.Errorf("not found: %v", err)
		}
	})
	t.Run("importers", func(t *testing.T) {
		t.Parallel()
		s := parseSample(t, sample{"config", `package p; import (_ "a.b/one/sub"; _ "a.b/onemore")`})
		m := modFile{requires: []requirement{{module: "a.b/one"}, {module: "a.b/onemor"}}}
		if got := importersOf(m, []*source{s}); len(got) != 1 || !slices.Equal(got["a.b/one"], []string{"config"}) {
			t.Errorf("got %v", got)
		}
	})
	for name, want := range map[string]string{
		"":                                   "no licence text",
		"GNU LESSER GENERAL PUBLIC LICENSE":  "licence GPL",
		"Mozilla Public License Version 2.0": "licence MPL",
		"Permission is hereby granted, free of charge, to": "says [MIT], docs/dependencies.md [Apache-2.0 MIT]",
	} {
		t.Run("licence text/"+path.Base(want), func(t *testing.T) {
			t.Parallel()
			found := checkLicence("a.b/one", name, docs)
			if len(found) == 0 || !strings.Contains(found[0], want) {
				t.Errorf("found %q, want %q", found, want)
			}
		})
	}
}
