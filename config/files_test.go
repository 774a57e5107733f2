package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// updateOf runs a source to its end and gives its one update.
func updateOf(t *testing.T, s Source) Update {
	t.Helper()
	var updates []Update
	err := s.Run(t.Context(), func(u Update) []Verdict {
		updates = append(updates, u)
		return nil
	})
	if err != nil || len(updates) != 1 || !updates[0].Full || updates[0].Remove != nil {
		t.Fatalf("got %v, %v", updates, err)
	}
	return updates[0]
}

func named(name string) string { return strings.Replace(minimal, "name: reviews", "name: "+name, 1) }

func names(u Update) string {
	var list []string
	for _, r := range u.Upsert {
		list = append(list, r.Origin.File+":"+r.Key.Name)
	}
	return strings.Join(list, " ")
}

// expectFindings compares the findings of an update, each written as code, level, file and message.
func expectFindings(t *testing.T, u Update, want ...string) {
	t.Helper()
	var got []string
	for _, f := range u.Findings {
		got = append(got, fmt.Sprintf("%s %s %t %s: %s", f.Code, f.Level, f.Refused, f.Position(), f.Message))
	}
	if !slices.Equal(got, want) {
		t.Errorf("findings\n got %q\nwant %q", got, want)
	}
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFromPathsReadsInOrder(t *testing.T) {
	dir := writeTree(t, map[string]string{
		"mesh/b.yaml": named("b1") + "---\n" + named("b2"), "mesh/a.yml": named("a"), "mesh/sub/c.json": named("c"), "mesh/sub.yaml": named("s"),
		"mesh/notes.txt": "not: [yaml", "mesh/.hidden.yaml": "[", "mesh/.git/x.yaml": "[", "mesh/d.yaml/e.yaml": named("e"), "mesh/empty.yaml": "# nothing\n",
		"conf": named("named"),
	})
	t.Chdir(dir)
	u := updateOf(t, FromPaths("conf", "./mesh/", "mesh/a.yml", "mesh", "mesh/sub"))
	expectFindings(t, u)
	const want = "conf:named mesh/a.yml:a mesh/b.yaml:b1 mesh/b.yaml:b2 mesh/d.yaml/e.yaml:e mesh/sub.yaml:s mesh/sub/c.json:c"
	if got := names(u); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFromPathsFollowsLinksToFiles(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, map[string]string{"m/..2026/vs.yaml": named("mounted"), "other/o.yaml": named("o")})
	m := filepath.Join(dir, "m")
	for link, to := range map[string]string{"..data": "..2026", "vs.yaml": "..data/vs.yaml", "away": "../other", "back.yaml": ".", "loop.yaml": "loop.yaml", "gone.yaml": "nowhere", "gone": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(m, link)); err != nil {
			t.Fatal(err)
		}
	}
	u := updateOf(t, FromPaths(m))
	expectFindings(t, u,
		"HDL0001 Warning false "+m+"/away: symbolic link to a directory is not followed",
		"HDL0001 Warning false "+m+"/back.yaml: symbolic link to a directory is not followed",
		"HDL0001 Error true "+m+"/gone.yaml: cannot read: no such file or directory",
		"HDL0001 Error true "+m+"/loop.yaml: cannot read: too many levels of symbolic links")
	if got := names(u); got != m+"/vs.yaml:mounted" {
		t.Errorf("got %s", got)
	}
	link := filepath.Join(m, "away")
	if got := names(updateOf(t, FromPaths(link))); got != link+"/o.yaml:o" {
		t.Errorf("a link that is named itself gives %q", got)
	}
}

func TestFromPathsWithoutDocuments(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, map[string]string{"a/b": "", "k/d.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", "empty.yaml": "", "bad/x.yaml": "["})
	join := func(name string) string { return filepath.Join(dir, name) }
	expectFindings(t, updateOf(t, FromPaths()))
	expectFindings(t, updateOf(t, FromPaths(join("a"))), "HDL0005 Warning false "+join("a")+": no documents")
	expectFindings(t, updateOf(t, FromPaths(join("k"))),
		"HDL0004 Info false "+join("k/d.yaml")+":2:7: Deployment default/x skipped: not a mesh document",
		"HDL0005 Warning false "+join("k")+": no documents")
	expectFindings(t, updateOf(t, FromPaths(join("empty.yaml"))))
	expectFindings(t, updateOf(t, FromPaths(join("bad"))), "IST0106 Error true "+join("bad/x.yaml")+":1:1: cannot parse YAML: did not find expected node content: the text is cut off")
	expectFindings(t, updateOf(t, FromPaths(join("gone"), "")),
		"HDL0001 Error true "+join("gone")+": cannot read: no such file or directory",
		"HDL0001 Error true : cannot read: no such file or directory")
}

func TestA007FilesAreCappedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "large.yaml")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil { // sparse: reading it would find NUL bytes
		t.Fatal(err)
	}
	expectFindings(t, updateOf(t, FromPaths(dir)), "HDL0001 Error true "+name+": cannot read: the file is larger than 32 MiB (33554432 bytes)")
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	t.Parallel()
	expectFindings(t, updateOf(t, FromPaths("/dev/zero")), "HDL0001 Error true /dev/zero: cannot read: not a regular file")
}

// A growing FS understates the size of its files, as a file does that is written to while it is read.
type growing struct{ fstest.MapFS }

func (g growing) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(g.MapFS, name)
	return smaller{info}, err
}

type smaller struct{ fs.FileInfo }

func (smaller) Size() int64 { return 1 }

// A locked FS neither opens YAML files nor lists the directory "shut".
type locked struct{ fstest.MapFS }

func (l locked) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".yaml") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return l.MapFS.Open(name)
}

func (l locked) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "shut" {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrPermission}
	}
	return l.MapFS.ReadDir(name)
}

func (l locked) Stat(name string) (fs.FileInfo, error) { return fs.Stat(l.MapFS, name) }

func TestFromFS(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
	tree := fstest.MapFS{"mesh/a.yaml": file(named("a")), "mesh/sub/b.yml": file(named("b")), "z.json": file(named("z")), "readme.md": file("#"), "mesh/conf.txt": file(named("t"))}
	for _, row := range []struct {
		patterns, want string
	}{
		{"", "mesh/a.yaml:a mesh/sub/b.yml:b z.json:z"},
		{"mesh", "mesh/a.yaml:a mesh/sub/b.yml:b"},
		{"mesh/*", "mesh/a.yaml:a mesh/conf.txt:t mesh/sub/b.yml:b"},
		{"z.json mesh/*.yaml *.json", "z.json:z mesh/a.yaml:a"},
	} {
		u := updateOf(t, FromFS(tree, strings.Fields(row.patterns)...))
		expectFindings(t, u)
		if got := names(u); got != row.want {
			t.Errorf("%q: got %s", row.patterns, got)
		}
	}
	expectFindings(t, updateOf(t, FromFS(tree, "x/*.yaml", "[")),
		"HDL0001 Error true x/*.yaml: cannot read: no such file", "HDL0001 Error true [: cannot read: syntax error in pattern")
	expectFindings(t, updateOf(t, FromFS(fstest.MapFS{})), "HDL0005 Warning false .: no documents")

	closed := locked{fstest.MapFS{"a.yaml": file(minimal), "shut/b.json": file(minimal), "c.json": file(minimal)}}
	u := updateOf(t, FromFS(closed))
	expectFindings(t, u, "HDL0001 Error true shut: cannot read: permission denied", "HDL0001 Error true a.yaml: cannot read: permission denied")
	if got := names(u); got != "c.json:reviews" {
		t.Errorf("got %s", got)
	}
	expectFindings(t, updateOf(t, FromFS(growing{fstest.MapFS{"a.yaml": file(strings.Repeat("#", MaxFileBytes+1))}}, "a.yaml")),
		"HDL0001 Error true a.yaml: cannot read: the file is larger than 32 MiB (33554432 bytes)")
}

func TestA017DuplicateDocuments(t *testing.T) {
	t.Parallel()
	other := strings.Replace(minimal, "networking.istio.io/v1", "networking.istio.io/v1beta1", 1)
	u := inlineUpdate([][]byte{[]byte(minimal), []byte("---\n" + other + "---\n" + strings.Replace(other, "VirtualService", "ServiceEntry", 1))})
	expectFindings(t, u, "HDL0006 Error true <inline 2>:5:9: VirtualService default/reviews is already declared at <inline 1>:4:9")
	if got := names(u); got != "<inline 1>:reviews <inline 2>:reviews" {
		t.Errorf("got %s", got)
	}
	var c collection
	c.text("one", []byte(minimal+"---\n"+minimal))
	u = c.update()
	expectFindings(t, u, "HDL0006 Error true one:11:9: VirtualService default/reviews is already declared at one:4:9")
}

func TestSourcesEndWithTheirContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := FromPaths(t.TempDir()).Run(ctx, func(Update) []Verdict {
		t.Error("applied after the end")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
