package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A choice says which languages run: flag -polyglot.
type choice string

const (
	auto    choice = "auto"    // those that are installed
	require choice = "require" // those, and it is an error where Python or Node are not
	off     choice = "off"     // Go alone
)

func (c *choice) String() string { return string(*c) }

// Set reads the flag.
func (c *choice) Set(s string) error {
	switch choice(s) {
	case auto, require, off:
		*c = choice(s)
		return nil
	}
	return errors.New("expected auto, require or off")
}

// A language is how programs of it are found and run.
type language struct {
	name     string
	commands []string // the names of its interpreter, the first found is taken
	// probe makes the interpreter print its version and, where it knows better than PATH, what to run. It fails
	// where something is missing that our program needs.
	probe  []string
	least  [2]int // major and minor version
	script string // in polyglot/
	flags  []string
	needed bool // by -polyglot=require
}

var (
	python = &language{name: "Python", commands: []string{"python3", "python"}, least: [2]int{3, 9}, script: "productpage.py", flags: []string{"-B"}, needed: true,
		probe: []string{"-c", "import http.server, json, sys, urllib.request; print(sys.version.split()[0]); print(sys.executable)"}}
	node = &language{name: "Node", commands: []string{"node", "nodejs"}, least: [2]int{18, 0}, script: "ratings.js", needed: true,
		probe: []string{"-e", "console.log(process.versions.node); console.log(process.execPath)"}}
	ruby = &language{name: "Ruby", commands: []string{"ruby"}, least: [2]int{2, 7}, script: "details.rb",
		probe: []string{"-rjson", "-rrbconfig", "-rsocket", "-e", "puts RUBY_VERSION, RbConfig.ruby"}}
	// Java runs a source file where it has the compiler, which a JRE has not. The flags make it small and quick to start.
	java = &language{name: "Java", commands: []string{"java"}, least: [2]int{17, 0}, script: "Reviews.java",
		flags: []string{"-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"},
		probe: []string{"--describe-module", "jdk.compiler"}}
)

// An interpreter is a language that is there.
type interpreter struct {
	language *language
	program  string
	version  string
}

// find looks for the languages, all at the same time. What is not there has its reason.
func find(ctx context.Context, languages []*language) (map[*language]*interpreter, map[*language]error) {
	found, missing := make(map[*language]*interpreter), make(map[*language]error)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, l := range languages {
		wg.Go(func() {
			i, err := l.find(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing[l] = err
				return
			}
			found[l] = i
		})
	}
	wg.Wait()
	return found, missing
}

var versionPattern = regexp.MustCompile(`(\d+)\.?(\d*)[-+.\w]*`)

// find runs the interpreter once: what is in PATH need not work.
func (l *language) find(ctx context.Context) (*interpreter, error) {
	if !canReplaceProcess {
		return nil, errors.New("not on this operating system")
	}
	program, err := "", error(nil)
	for _, name := range l.commands {
		if program, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("there is no %s in PATH", l.commands[0])
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, l.probe...) //nolint:gosec // the user's own interpreter
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()+string(out)), "\n")
		return nil, fmt.Errorf("%s does not work: %w: %s", program, err, said)
	}
	version, better, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	number := versionPattern.FindStringSubmatch(version)
	if number == nil {
		return nil, fmt.Errorf("%s does not tell its version: %.80q", program, version)
	}
	major, _ := strconv.Atoi(number[1])
	minor, _ := strconv.Atoi(number[2])
	if major < l.least[0] || major == l.least[0] && minor < l.least[1] {
		return nil, fmt.Errorf("%s is %s, at least %d.%d is needed", program, number[0], l.least[0], l.least[1])
	}
	// What Java prints after its first line is no path.
	if better = strings.TrimSpace(better); better != "" && !strings.ContainsAny(better, " \n") {
		program = better
	}
	return &interpreter{language: l, program: program, version: number[0]}, nil
}

// String is what the table prints: "Python 3.11.7".
func (i *interpreter) String() string { return i.language.name + " " + i.version }

// command gives the command line of the language's program.
func (i *interpreter) command(script, port string) []string {
	return append(append([]string{i.program}, i.language.flags...), script, port)
}
