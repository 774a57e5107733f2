package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A watched is a source that runs, with the updates it made.
type watched struct {
	mu      sync.Mutex
	updates []Update
	changed chan struct{}
	end     func()
}

// startWatch runs a source that may go on for ever, until the test ends.
func startWatch(t testing.TB, s Source) *watched {
	t.Helper()
	w := &watched{changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(u Update) []Verdict {
			w.mu.Lock()
			w.updates = append(w.updates, u)
			w.mu.Unlock()
			select {
			case w.changed <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	w.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
	})
	t.Cleanup(w.end)
	return w
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.updates)
}

// state tells the last update in a line: the documents' names in order, or why it is refused.
func (w *watched) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.updates) == 0 {
		return "nothing"
	}
	u := w.updates[len(w.updates)-1]
	if !u.Full || u.Remove != nil {
		return "not a full update"
	}
	for _, f := range u.Findings {
		if f.Refused {
			return "refused: " + filepath.Base(f.File) + " " + f.Message
		}
	}
	var list []string
	for _, r := range u.Upsert {
		list = append(list, r.Key.Name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// await waits until the last update is the wanted one.
func (w *watched) await(t testing.TB, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for w.state() != want {
		select {
		case <-w.changed:
		case <-deadline:
			t.Fatalf("the last of %d updates is %q, want %q", w.count(), w.state(), want)
		}
	}
}

// A files is a directory under test, with the operations of people and programs on it.
type files struct {
	tb  testing.TB
	dir string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }
func (f files) check(err error) {
	f.tb.Helper()
	if err != nil {
		f.tb.Fatal(err)
	}
}
func (f files) write(name, text string) {
	f.tb.Helper()
	f.check(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.check(os.WriteFile(f.path(name), []byte(text), 0o644))
}

// replace changes a file at one stroke, for tests that count what becomes of it.
func (f files) replace(name, text string) {
	f.tb.Helper()
	f.write(".new", text)
	f.move(".new", name)
}
func (f files) move(from, to string)   { f.tb.Helper(); f.check(os.Rename(f.path(from), f.path(to))) }
func (f files) remove(name string)     { f.tb.Helper(); f.check(os.RemoveAll(f.path(name))) }
func (f files) link(target, at string) { f.tb.Helper(); f.check(os.Symlink(target, f.path(at))) }

const gone = "cannot read: no such file or directory"

// TestWatchPaths: A-070 — whatever changes files loads or keeps last good, and the watching goes on.
func TestWatchPaths(t *testing.T) {
	t.Parallel()
	type step struct {
		do   func(f files)
		want string
	}
	in := func(name string) func(f files) { return func(f files) { f.write("m/"+name, named("x")) } }
	for _, c := range []struct {
		name  string
		watch string // under the directory; "m" where empty
		setup func(f files)
		steps []step
	}{
		{name: "written in place", steps: []step{{in("a.yaml"), "b x"}}},
		{name: "new file", steps: []step{{in("new.yml"), "a b x"}}},
		{name: "new file of another kind, renamed", steps: []step{{func(f files) {
			f.write("m/c.txt", named("c"))
			f.move("m/c.txt", "m/c.json")
		}, "a b c"}}},
		{name: "deleted", steps: []step{{func(f files) { f.remove("m/a.yaml") }, "b"}, {in("a.yaml"), "b x"}}},
		{name: "renamed over from beside", steps: []step{{func(f files) {
			f.write("m/.a.yaml.tmp", named("x"))
			f.move("m/.a.yaml.tmp", "m/a.yaml")
		}, "b x"}}},
		{name: "renamed over from elsewhere", steps: []step{{func(f files) {
			f.write("other", named("x"))
			f.move("other", "m/a.yaml")
		}, "b x"}}},
		{name: "as vim saves", steps: []step{{func(f files) {
			f.write("m/4913", "")
			f.remove("m/4913")
			f.move("m/a.yaml", "m/a.yaml~")
			f.write("m/a.yaml", named("x"))
			f.remove("m/a.yaml~")
		}, "b x"}}},
		{name: "as emacs saves", steps: []step{{func(f files) {
			f.link("somebody@host:1", "m/.#a.yaml")
			f.write("m/a.yaml~", named("a"))
			f.write("m/a.yaml", named("x"))
			f.remove("m/.#a.yaml")
		}, "b x"}}},
		{name: "as JetBrains saves", steps: []step{{func(f files) {
			f.write("m/a.yaml___jb_tmp___", named("x"))
			f.move("m/a.yaml", "m/a.yaml___jb_old___")
			f.move("m/a.yaml___jb_tmp___", "m/a.yaml")
			f.remove("m/a.yaml___jb_old___")
		}, "b x"}}},
		{name: "subdirectories", steps: []step{
			{in("c/d/e/x.yaml"), "a b x"},
			{func(f files) { f.write("m/c/d/e/x.yaml", named("y")) }, "a b y"},
			{func(f files) { f.move("m/c", "m/d"); f.write("m/d/d/z.yaml", named("z")) }, "a b y z"},
			{func(f files) { f.write("m/d/d/e/x.yaml", named("w")) }, "a b w z"},
			{func(f files) { f.remove("m/d") }, "a b"},
		}},
		{name: "the directory removed and made again", steps: []step{
			{func(f files) { f.remove("m") }, "refused: m " + gone},
			{in("n.yaml"), "x"},
			{func(f files) { f.write("m/n.yaml", named("y")) }, "y"},
			{func(f files) { f.remove("m"); f.write("m/n.yaml", named("z")) }, "z"},
			{func(f files) { f.write("m/n.yaml", named("w")) }, "w"},
		}},
		{name: "the directory moved", steps: []step{
			{func(f files) { f.move("m", "n"); f.write("n/a.yaml", named("x")) }, "refused: m " + gone},
			{func(f files) { f.move("n", "m") }, "b x"},
			{func(f files) { f.write("m/y.yaml", named("y")) }, "b x y"},
		}},
		{name: "another directory in its place", setup: func(f files) { f.write("n/x.yaml", named("x")) }, steps: []step{
			{func(f files) { f.move("m", "o"); f.move("n", "m") }, "x"},
			{func(f files) { f.write("o/a.yaml", named("o")); f.write("m/y.yaml", named("y")) }, "x y"},
		}},
		{name: "all above removed and made again", watch: "p/q/m", setup: func(f files) { f.write("p/q/m/a.yaml", named("a")) }, steps: []step{
			{func(f files) { f.remove("p") }, "refused: m " + gone},
			{func(f files) { f.write("p/q/m/x.yaml", named("x")) }, "x"},
			{func(f files) { f.write("p/q/m/x.yaml", named("y")) }, "y"},
		}},
		{name: "one file", watch: "m/a.yaml", steps: []step{
			{in("a.yaml"), "x"},
			{func(f files) { f.remove("m/a.yaml") }, "refused: a.yaml " + gone},
			{func(f files) { f.write("n", named("y")); f.move("n", "m/a.yaml") }, "y"},
			{func(f files) { f.remove("m"); f.write("m/a.yaml", named("z")) }, "z"},
		}},
		{name: "a ConfigMap", watch: "k", setup: func(f files) {
			f.write("k/..1/a.yaml", named("a"))
			f.link("..1", "k/..data")
			f.link("..data/a.yaml", "k/a.yaml")
		}, steps: []step{
			{func(f files) { swap(f, "..1", "..2", named("x")) }, "x"},
			{func(f files) { swap(f, "..2", "..3", named("y")) }, "y"},
			{func(f files) { f.write("k/..3/a.yaml", named("z")) }, "z"},
		}},
		{name: "a file of a ConfigMap", watch: "k/a.yaml", setup: func(f files) {
			f.write("k/..1/a.yaml", named("a"))
			f.link("..1", "k/..data")
			f.link("..data/a.yaml", "k/a.yaml")
		}, steps: []step{{func(f files) { swap(f, "..1", "..2", named("x")) }, "x"}}},
		{name: "a link to a directory", watch: "l", setup: func(f files) {
			f.write("v1/a.yaml", named("a"))
			f.write("v2/a.yaml", named("x"))
			f.link("v1", "l")
		}, steps: []step{
			{func(f files) { f.link("v2", "l2"); f.move("l2", "l") }, "x"},
			{func(f files) { f.write("v1/a.yaml", named("b")); f.write("v2/c.yaml", named("c")) }, "c x"},
			{func(f files) { f.remove("v2") }, "refused: l " + gone},
			{func(f files) { f.write("v2/d.yaml", named("d")) }, "d"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := files{t, t.TempDir()}
			f.write("m/a.yaml", named("a"))
			f.write("m/sub/b.yaml", named("b"))
			if c.setup != nil {
				c.setup(f)
			}
			if c.watch == "" {
				c.watch = "m"
			}
			w := startWatch(t, WatchPaths(f.path(c.watch)))
			w.await(t, map[bool]string{true: "a b", false: "a"}[c.watch == "m"])
			for i, s := range c.steps {
				s.do(f)
				w.await(t, s.want)
				if t.Failed() {
					t.Fatalf("at step %d", i+1)
				}
			}
		})
	}
}

// swap replaces the content of a mounted ConfigMap as kubelet does.
func swap(f files, from, to, text string) {
	f.write("k/"+to+"/a.yaml", text)
	f.link(to, "k/..data_tmp")
	f.move("k/..data_tmp", "k/..data")
	f.remove("k/" + from)
}

// TestA002HalfWritten: the half is refused, and the rest makes one update, not two.
func TestA002HalfWritten(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.write("a.yaml", named("a"))
	w := startWatch(t, WatchPaths(f.dir))
	w.await(t, "a")
	text := strings.Replace(named("x"), "spec:", "spec: {hosts: [x], # ", 1)
	half, rest := text[:strings.Index(text, "[")+1], text[strings.Index(text, "[")+1:]
	out, err := os.Create(f.path("a.yaml"))
	f.check(err)
	defer out.Close()
	_, err = out.WriteString(half)
	f.check(err)
	w.await(t, "refused: a.yaml cannot parse YAML: did not find expected node content: the text is cut off")
	if w.count() != 2 {
		t.Errorf("%d updates before the rest", w.count())
	}
	begin := time.Now()
	for i := range len(rest) { // byte by byte, as slowly as a machine writes
		_, err = out.WriteString(rest[i : i+1])
		f.check(err)
	}
	f.check(out.Truncate(0))
	_, err = out.WriteAt([]byte(named("x")), 0)
	f.check(err)
	wrote := time.Since(begin)
	w.await(t, "x")
	if w.count() != 3 && wrote < quietTime { // else the machine was asleep, and looking was right
		t.Errorf("%d updates in all", w.count())
	}
}

// TestWatchIgnores: what changes nothing of the documents makes no update.
func TestWatchIgnores(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	w := startWatch(t, WatchPaths(f.path("m")))
	w.await(t, "a")
	f.write("m/a.yaml", named("a")) // the same bytes
	f.check(os.Chtimes(f.path("m/a.yaml"), time.Now(), time.Now().Add(-time.Hour)))
	f.check(os.Chmod(f.path("m/a.yaml"), 0o600))
	f.write("m/notes.txt", "not: [yaml")
	f.write("m/.hidden.yaml", "[")
	f.write("m/.git/x.yaml", "[")
	f.write("beside.yaml", "[")
	f.write("m/z.yaml", named("z")) // the only one
	w.await(t, "a z")
	if w.count() != 2 {
		t.Errorf("%d updates", w.count())
	}
}

// TestWatchMissingAtStart: as FromPaths has it, and then it comes.
func TestWatchMissingAtStart(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.write("b.yaml", named("b"))
	w := startWatch(t, WatchPaths(f.path("b.yaml"), f.path("no/such/dir")))
	w.await(t, "refused: dir "+gone)
	f.write("no/such/dir/a.yaml", named("a"))
	w.await(t, "a b")
	empty := startWatch(t, WatchPaths(""))
	empty.await(t, "refused: . "+gone)
}

// TestWatchRelative: a relative path means what it meant when Run began, and is shown as it was written.
func TestWatchRelative(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	t.Chdir(f.dir)
	w := startWatch(t, WatchPaths("m"))
	w.await(t, "a")
	t.Chdir(t.TempDir())
	f.write("m/b.yaml", named("b"))
	w.await(t, "a b")
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := fmt.Sprint(names(w.updates[1])); got != "m/a.yaml:a m/b.yaml:b" {
		t.Errorf("got %s", got)
	}
}

// TestWatchReload: what is asked for is read at once, where the system tells of nothing and the next look is far away.
func TestWatchReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &PathWatch{paths: []string{dir}, open: func() (*fsnotify.Watcher, error) { return nil, errors.New("none left") }}
	if err := s.Reload(t.Context()); err != nil {
		t.Errorf("before it runs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	updates := make(chan int, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(u Update) []Verdict {
			updates <- len(u.Upsert)
			return nil
		})
	}()
	if n := <-updates; n != 0 {
		t.Fatalf("%d documents", n)
	}
	for n := range 5 {
		text := fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s%d}\nspec: {hosts: [a%d], resolution: NONE}\n", n, n)
		next := filepath.Join(dir, ".next") // as a whole: the watch looks by itself too
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, filepath.Join(dir, fmt.Sprintf("%d.yaml", n)))); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		select { // it has been applied by now; the watch's own look may have come first
		case got := <-updates:
			if got != n+1 {
				t.Errorf("%d documents, want %d", got, n+1)
			}
		default:
			t.Error("nothing was applied")
		}
	}
	if err := s.Reload(t.Context()); err != nil || len(updates) != 0 {
		t.Errorf("unchanged files were applied again, or %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Errorf("after its end: %v", err)
	}
}
