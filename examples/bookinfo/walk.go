package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// This file applies a scenario to an application that runs: its files take the place of reviews.yaml one after
// the other, when somebody presses Enter or after a time, and the next call follows them.

// A walk is on its way through a guide.
type walk struct {
	guide    guide
	dir      string          // of the configuration
	interval time.Duration   // after which the next step comes by itself, 0 for never
	entered  <-chan struct{} // a value for each line that people enter, closed where there will be none
	out      io.Writer
}

// entered gives a value for each line that is read. Reading from a terminal cannot be called off: the goroutine ends
// with its input, or with the program.
func entered(in io.Reader) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for all := bufio.NewReader(in); ; {
			if _, err := all.ReadString('\n'); err != nil {
				return
			}
			c <- struct{}{}
		}
	}()
	return c
}

// steps applies the files and returns when the last of them is done with, or when ctx ends.
func (w *walk) steps(ctx context.Context) error {
	fmt.Fprintf(w.out, "Scenario %s: %s.\n%s\n", w.guide.name, w.guide.title, w.guide.about)
	for n, s := range w.guide.steps {
		if err := replaceFile(filepath.Join(w.dir, reviewsFile), []byte(s.text)); err != nil {
			return err
		}
		fmt.Fprintf(w.out, "\nStep %d of %d, %s\n  %s\n", n+1, len(w.guide.steps), s.name, strings.ReplaceAll(s.look, "\n", "\n  "))
		if !w.wait(ctx, n == len(w.guide.steps)-1) {
			return nil
		}
	}
	return nil
}

// wait returns at the next line or after the interval, with false when ctx ends. The last step has no interval.
func (w *walk) wait(ctx context.Context, last bool) bool {
	var after <-chan time.Time
	switch {
	case last:
		fmt.Fprintln(w.out, "Enter or Ctrl-C: the end.")
	case w.interval > 0:
		t := time.NewTimer(w.interval)
		defer t.Stop()
		after = t.C
		fmt.Fprintf(w.out, "The next step: in %s, or with Enter.\n", w.interval)
	default:
		fmt.Fprintln(w.out, "Enter: the next step.")
	}
	for {
		select {
		case _, more := <-w.entered:
			if more {
				return true
			}
			w.entered = nil // and nobody can press Enter: the time goes on, or nothing does
		case <-after:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// beforeSuffix marks the rules that a scenario has taken the place of. No mesh reads such a file.
const beforeSuffix = ".before"

// visitRunning applies a scenario to an application that another process runs on the directory, and gives it its
// rules back at the end.
func visitRunning(ctx context.Context, w *walk) (err error) {
	if own, err := os.ReadFile(filepath.Join(w.dir, servicesFile)); err != nil || !bytes.HasPrefix(own, []byte(servicesMark)) {
		return fmt.Errorf("no bookinfo runs on %s: start one with -config %[1]s, or leave -config out and one is started", w.dir)
	}
	name := filepath.Join(w.dir, reviewsFile)
	rules, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%w: a scenario takes the place of this file", err)
	}
	kept, err := os.OpenFile(name+beforeSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there: another scenario is being applied; if none is, it was killed, and that file has the rules from before", name+beforeSuffix)
	}
	if err != nil {
		return err
	}
	_, err = kept.Write(rules)
	if err = errors.Join(err, kept.Close()); err != nil {
		return err
	}
	defer func() {
		if failed := os.Rename(name+beforeSuffix, name); failed != nil {
			err = errors.Join(err, failed)
			return
		}
		fmt.Fprintf(w.out, "\n%s is as it was before.\n", name)
	}()
	return w.steps(ctx)
}
