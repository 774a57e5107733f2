package main

import (
	"errors"
	"flag"
	"os"
	"time"
)

// scenarioFlags are the flags of -scenario.
type scenarioFlags struct {
	guide    *guide // nil for none
	list     bool
	interval time.Duration
}

func (f *scenarioFlags) register(set *flag.FlagSet) {
	set.Func("scenario", "go through the scenario of this `name` step by step, with -config on the bookinfo that runs there; list prints them all", func(s string) error {
		if f.list = s == "list"; f.list {
			return nil
		}
		found, err := findGuide(s)
		f.guide = &found
		return err
	})
	set.DurationVar(&f.interval, "interval", 0, "with -scenario: go on after this `time`, as in 30s, without Enter")
}

// misused tells flags that do not go together.
func (f *scenarioFlags) misused(set *flag.FlagSet) error {
	given := make(map[string]bool)
	set.Visit(func(one *flag.Flag) { given[one.Name] = true })
	switch {
	case given["scenario"] && given["check"]:
		return errors.New("-scenario is not for -check, which goes through all of them; -run chooses some")
	case given["interval"] && f.guide == nil:
		return errors.New("-interval goes with -scenario")
	case f.interval < 0:
		return errors.New("-interval is negative")
	case f.guide != nil && given["config"] && (given["addr"] || given["polyglot"] || given["transparent"]):
		return errors.New("-scenario with -config is for an application that runs already: -addr, -polyglot and -transparent are not")
	}
	return nil
}

// walk begins to go through the chosen scenario.
func (f *scenarioFlags) walk(dir string) *walk {
	return &walk{guide: *f.guide, dir: dir, interval: f.interval, entered: entered(os.Stdin), out: os.Stdout}
}
