package main

import (
	"errors"
	"flag"
	"os"
	"regexp"
)

// checkFlags are the flags of -check.
type checkFlags struct {
	wanted  bool
	verbose bool
	only    *regexp.Regexp
}

func (f *checkFlags) register(set *flag.FlagSet) {
	set.BoolVar(&f.wanted, "check", false, "run the application on free ports with a configuration of its own, put it through every scenario, and fail where one does")
	set.BoolVar(&f.verbose, "v", false, "with -check: say more")
	set.Func("run", "with -check: only the scenarios whose name matches the `regexp`", func(s string) (err error) {
		f.only, err = regexp.Compile(s)
		return err
	})
}

// misused tells flags that do not go together.
func (f *checkFlags) misused(set *flag.FlagSet) (err error) {
	set.Visit(func(one *flag.Flag) {
		switch one.Name {
		case "addr", "config", "targets":
			if f.wanted {
				err = errors.New("-" + one.Name + " is not for -check, which takes a free port and a directory of its own")
			}
		case "run", "v":
			if !f.wanted {
				err = errors.New("-" + one.Name + " goes with -check")
			}
		}
	})
	return err
}

func (f *checkFlags) settings(languages choice, captured bool) checkSettings {
	return checkSettings{languages: languages, captured: captured, only: f.only, verbose: f.verbose, out: os.Stdout, notes: os.Stderr}
}
