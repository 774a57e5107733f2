package main

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"text/tabwriter"
)

//go:embed scenarios
var scenarioFiles embed.FS

// A guide is a folder of scenarios/: rules, one file after the other, and what to look at.
type guide struct {
	name  string // of the folder, which -scenario takes
	title string // "v3 takes over from v1 in four steps"
	about string // what its README says after the title
	steps []step // at least one
}

// A step is one file of rules. It takes the place of reviews.yaml.
type step struct {
	name string // "1-90-10.yaml"
	look string // its first comment, without the marks
	text string
}

// guides reads all folders, in the order of their names.
func guides() ([]guide, error) {
	folders, err := fs.ReadDir(scenarioFiles, "scenarios")
	if err != nil {
		return nil, err
	}
	var all []guide
	for _, f := range folders {
		g, err := readGuide(scenarioFiles, path.Join("scenarios", f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

func readGuide(from fs.FS, folder string) (guide, error) {
	g := guide{name: path.Base(folder)}
	text, err := fs.ReadFile(from, path.Join(folder, "README.md"))
	if err != nil {
		return guide{}, err
	}
	heading, about, _ := strings.Cut(string(text), "\n")
	title, ok := strings.CutPrefix(heading, "# "+g.name+": ")
	if !ok {
		return guide{}, fmt.Errorf("read %s/README.md: expected a heading %q, found %q", folder, "# "+g.name+": …", heading)
	}
	g.title, g.about = title, strings.TrimSpace(about)
	files, err := fs.Glob(from, path.Join(folder, "*.yaml"))
	if err != nil {
		return guide{}, err
	}
	for n, name := range files {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return guide{}, err
		}
		s := step{name: path.Base(name), look: firstComment(string(text)), text: string(text)}
		if !strings.HasPrefix(s.name, fmt.Sprintf("%d-", n+1)) || s.look == "" {
			return guide{}, fmt.Errorf("read %s: expected file %d of its folder by its name, with a comment first", name, n+1)
		}
		g.steps = append(g.steps, s)
	}
	if len(g.steps) == 0 {
		return guide{}, fmt.Errorf("read %s: expected files 1-….yaml and so on, found none", folder)
	}
	return g, nil
}

// firstComment gives the lines of a comment that a text begins with.
func firstComment(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(line, "# ")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSpace(comment))
	}
	return strings.Join(lines, "\n")
}

// findGuide gives one by its name.
func findGuide(name string) (guide, error) {
	all, err := guides()
	if err != nil {
		return guide{}, err
	}
	var names []string
	for _, g := range all {
		if g.name == name {
			return g, nil
		}
		names = append(names, g.name)
	}
	return guide{}, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(names, ", "))
}

// listGuides prints them all.
func listGuides(out io.Writer) error {
	all, err := guides()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tSTEPS")
	for _, g := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\n", g.name, len(g.steps), g.title)
	}
	return w.Flush()
}
