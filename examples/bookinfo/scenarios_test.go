package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/internal/cli"
)

// TestGuides: every folder of scenarios/ can be read, is checked by -check and is told of in the README, and nothing else is.
func TestGuides(t *testing.T) {
	t.Parallel()
	all, err := guides()
	if err != nil {
		t.Fatal(err)
	}
	checked := make(map[string]bool)
	for _, s := range scenarios {
		if name, ok := strings.CutPrefix(s.name, "scenarios/"); ok {
			checked[name] = true
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if !checked[g.name] {
			t.Errorf("-check does not go through %s", g.name)
		}
		delete(checked, g.name)
		if !strings.Contains(string(readme), "| `"+g.name+"` |") {
			t.Errorf("the README does not tell of %s", g.name)
		}
		for _, s := range g.steps {
			if !strings.Contains(s.look, "Look: ") {
				t.Errorf("%s/%s does not say what to look at", g.name, s.name)
			}
		}
	}
	if len(checked) > 0 {
		t.Errorf("-check goes through %v, of which there is no folder", checked)
	}
	var out bytes.Buffer
	if err := listGuides(&out); err != nil || strings.Count(out.String(), "\n") != 1+len(all) || !strings.Contains(out.String(), "v3 takes over from v1 in four steps") {
		t.Errorf("%v, %s", err, &out)
	}
}

// TestScenariosAnalyze: heddle analyze finds nothing to say of any step, in its place among the bundled rules.
func TestScenariosAnalyze(t *testing.T) {
	t.Parallel()
	all, err := guides()
	if err != nil {
		t.Fatal(err)
	}
	instances, _, err := cast(t.Context(), off)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		i.addr = "127.0.0.1:9"
	}
	for _, g := range all {
		for _, s := range g.steps {
			b := &bookinfo{dir: t.TempDir(), rules: s.text, instances: instances}
			if err := b.prepareDir(); err != nil {
				t.Fatal(err)
			}
			if err := b.writeServices(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(b.dir, reviewsFile)); err != nil || string(got) != s.text {
				t.Errorf("%s/%s is not in its place: %v", g.name, s.name, err)
			}
			var out bytes.Buffer
			if code := cli.Main([]string{"analyze", "--failure-threshold", "Info", b.dir}, strings.NewReader(""), &out, &out); code != 0 {
				t.Errorf("%s/%s: exit code %d\n%s", g.name, s.name, code, &out)
			}
		}
	}
}

func TestReadGuide(t *testing.T) {
	t.Parallel()
	const rules = "# Look: here.\n# And there.\nkind: VirtualService\n# not this\n"
	folder := func(files ...string) fstest.MapFS {
		all := fstest.MapFS{"s/new/README.md": {Data: []byte("# new: a title\n\nWhat it is.\n")}}
		for _, f := range files {
			all["s/new/"+f] = &fstest.MapFile{Data: []byte(rules)}
		}
		return all
	}
	with := func(name, text string) fstest.MapFS {
		all := folder("1-a.yaml")
		all["s/new/"+name] = &fstest.MapFile{Data: []byte(text)}
		return all
	}
	for name, test := range map[string]struct {
		files fstest.MapFS
		err   string
	}{
		"good":             {folder("1-a.yaml", "2-b.yaml"), ""},
		"no steps":         {folder(), "found none"},
		"not from 1":       {folder("2-b.yaml"), "expected file 1"},
		"a gap":            {folder("1-a.yaml", "3-b.yaml"), "expected file 2"},
		"no number":        {folder("1-a.yaml", "b.yaml"), "expected file 2"},
		"no comment":       {with("2-b.yaml", "kind: VirtualService\n"), "with a comment first"},
		"no README":        {fstest.MapFS{"s/new/1-a.yaml": {Data: []byte(rules)}}, "README.md"},
		"a wrong heading":  {with("README.md", "# old: a title\n"), `expected a heading "# new: …"`},
		"an empty heading": {with("README.md", ""), "expected a heading"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := readGuide(test.files, "s/new")
			expects(t, err, test.err)
			if err == nil && (g.name != "new" || g.title != "a title" || g.about != "What it is." || len(g.steps) != 2 || g.steps[1].look != "Look: here.\nAnd there.") {
				t.Errorf("got %+v", g)
			}
		})
	}
}

func TestScenarioFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-scenario canary":                            "",
		"-scenario list":                              "",
		"-scenario canary -interval 5s -addr :1":      "",
		"-scenario canary -config d -interval 5s":     "",
		"-scenario mine":                              `there is no scenario "mine"; there are a-b, abort,`,
		"-scenario canary -check":                     "-scenario is not for -check",
		"-scenario list -check":                       "-scenario is not for -check",
		"-interval 5s":                                "-interval goes with -scenario",
		"-scenario list -interval 5s":                 "-interval goes with -scenario",
		"-scenario canary -interval -5s":              "-interval is negative",
		"-scenario canary -config d -addr :1":         "-addr, -polyglot and -transparent are not",
		"-scenario canary -config d -polyglot=python": "-addr, -polyglot and -transparent are not",
	} {
		set := flag.NewFlagSet("bookinfo", flag.ContinueOnError)
		set.SetOutput(new(bytes.Buffer))
		for _, name := range []string{"addr", "config", "polyglot"} {
			set.String(name, "", "")
		}
		set.Bool("check", false, "")
		var f scenarioFlags
		f.register(set)
		err := set.Parse(strings.Fields(args))
		if err == nil {
			err = f.misused(set)
		}
		expects(t, err, want)
	}
}

// walked starts a walk through canary in a directory, and gives what ends it and its error.
func walked(t *testing.T, w *walk) (ctx context.Context, cancel context.CancelFunc) {
	t.Helper()
	g, err := findGuide("canary")
	if err != nil {
		t.Fatal(err)
	}
	w.guide, w.dir, w.out = g, t.TempDir(), new(bytes.Buffer)
	return context.WithCancel(t.Context())
}

// rulesIn names the step whose rules are in a directory.
func (w *walk) rulesIn(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, reviewsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range w.guide.steps {
		if s.text == string(text) {
			return s.name
		}
	}
	return string(text)
}

// TestWalkByEnter: each line brings the next step, the last one the end.
func TestWalkByEnter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enter := make(chan struct{})
		w := &walk{entered: enter}
		ctx, cancel := walked(t, w)
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() {
			if err := w.steps(ctx); err != nil {
				t.Error(err)
			}
		})
		for n, s := range w.guide.steps {
			synctest.Wait()
			if got := w.rulesIn(t); got != s.name {
				t.Errorf("step %d: %s", n+1, got)
			}
			enter <- struct{}{}
		}
		running.Wait()
		said := w.out.(*bytes.Buffer).String()
		for _, want := range []string{"Scenario canary: v3 takes over", "Step 1 of 4, 1-90-10.yaml\n  One page in ten", "Step 4 of 4, 4-0-100.yaml", "Enter: the next step.", "Enter or Ctrl-C: the end."} {
			if !strings.Contains(said, want) {
				t.Errorf("no %q in\n%s", want, said)
			}
		}
	})
}

// TestWalkByTime: an interval goes on without anybody, also where nobody can press Enter, and stays at the last step.
func TestWalkByTime(t *testing.T) {
	t.Parallel()
	for interval, want := range map[time.Duration][]string{
		time.Minute: {"1-90-10.yaml", "2-70-30.yaml", "3-50-50.yaml", "4-0-100.yaml", "4-0-100.yaml"},
		0:           {"1-90-10.yaml", "1-90-10.yaml"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &walk{entered: entered(strings.NewReader("")), interval: interval}
			ctx, cancel := walked(t, w)
			var running sync.WaitGroup
			running.Go(func() {
				if err := w.steps(ctx); err != nil {
					t.Error(err)
				}
			})
			for n, step := range want {
				synctest.Wait()
				if got := w.rulesIn(t); got != step {
					t.Errorf("interval %s, after %d of them: %s", interval, n, got)
				}
				time.Sleep(time.Minute)
			}
			cancel()
			running.Wait()
		})
	}
}

// TestVisitRunning: a running application has its own rules back at the end, and nobody's rules are lost.
func TestVisitRunning(t *testing.T) {
	t.Parallel()
	const theirs = "# my own rules\n"
	for name, test := range map[string]struct {
		files map[string]string
		err   string
	}{
		"it runs":                {map[string]string{servicesFile: servicesMark, reviewsFile: theirs}, ""},
		"nothing runs":           {map[string]string{reviewsFile: theirs}, "no bookinfo runs on"},
		"somebody else's":        {map[string]string{servicesFile: "# mine\n", reviewsFile: theirs}, "no bookinfo runs on"},
		"no file to replace":     {map[string]string{servicesFile: servicesMark}, "a scenario takes the place of this file"},
		"another one is applied": {map[string]string{servicesFile: servicesMark, reviewsFile: theirs, reviewsFile + beforeSuffix: "older"}, "another scenario is being applied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &walk{}
				ctx, cancel := walked(t, w)
				defer cancel()
				for name, text := range test.files {
					if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				done := make(chan error, 1)
				go func() { done <- visitRunning(ctx, w) }()
				synctest.Wait()
				if test.err == "" {
					if got := w.rulesIn(t); got != "1-90-10.yaml" {
						t.Errorf("while it is applied: %s", got)
					}
				}
				cancel()
				expects(t, <-done, test.err)
				if err := os.Remove(filepath.Join(w.dir, reviewsFile+".new")); err == nil {
					t.Error("half a file is left")
				}
				for name, text := range test.files {
					if got, err := os.ReadFile(filepath.Join(w.dir, name)); err != nil || string(got) != text {
						t.Errorf("%s: %v, %q", name, err, got)
					}
				}
				left, _ := filepath.Glob(filepath.Join(w.dir, "*"))
				if len(left) != len(test.files) {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// TestInterrupted: whenever run is interrupted, also while it starts, that is no error.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 10 * time.Millisecond, 60 * time.Millisecond, 500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		dir := t.TempDir()
		if err := run(ctx, settings{addr: "127.0.0.1:0", dir: dir, languages: auto}, scenarioFlags{}); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
		cancel()
		if _, err := os.Stat(filepath.Join(dir, servicesFile)); err == nil {
			t.Errorf("after %s: services.yaml is still there", after)
		}
	}
	if err := run(t.Context(), settings{addr: "nowhere", languages: off}, scenarioFlags{}); err == nil {
		t.Error("a start that fails is no error")
	}
}

// TestScenarioFromTheStart: the application begins with the first step of the scenario.
func TestScenarioFromTheStart(t *testing.T) {
	t.Parallel()
	g, err := findGuide("blue-green")
	if err != nil {
		t.Fatal(err)
	}
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: off, rules: g.steps[1].text, stderr: new(bytes.Buffer)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	for range 20 {
		if got := version(fetch(t, browser, b.url(reviewsPath))); got != "v3" {
			t.Fatalf("got %s", got)
		}
	}
}
