package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A cgroup bounds one process, in version 2 or 1 of the kernel's control groups, whichever has the controller.
type cgroup struct {
	t   *testing.T
	dir string
	v2  bool
}

var cgroups atomic.Int64

// newCgroup makes one below our own. Where that may not be the test is skipped and says why.
func newCgroup(t *testing.T, controller string) *cgroup {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skipf("no control groups: %v", err)
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	var why error
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if dash < 0 || len(fields) < dash+4 {
			continue
		}
		kind, options := fields[dash+1], strings.Split(fields[dash+3], ",")
		c := &cgroup{t: t, v2: kind == "cgroup2"}
		if !c.v2 && (kind != "cgroup" || !slices.Contains(options, controller)) {
			continue
		}
		if c.dir, err = makeCgroup(fields[4], string(own), controller, c.v2); err != nil {
			why = errors.Join(why, err)
			continue
		}
		t.Cleanup(c.remove)
		return c
	}
	t.Skipf("no control group with %s may be made here: %v", controller, why)
	return nil
}

// makeCgroup makes a group of ours below that of this process, or at the top of what is mounted.
func makeCgroup(mount, own, controller string, v2 bool) (dir string, err error) {
	tops := []string{mount}
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && (v2 && parts[0] == "0" || !v2 && slices.Contains(strings.Split(parts[1], ","), controller)) {
			tops = append([]string{filepath.Join(mount, parts[2])}, tops...)
		}
	}
	for _, top := range tops {
		if v2 {
			if e := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+controller), 0o600); e != nil {
				err = errors.Join(err, e)
				continue
			}
		}
		dir = filepath.Join(top, fmt.Sprintf("heddle-test-%d-%d", os.Getpid(), cgroups.Add(1)))
		e := os.Mkdir(dir, 0o700)
		if e == nil {
			return dir, nil
		}
		err = errors.Join(err, e)
	}
	return "", err
}

// set writes a file of the group: its name in version 2, and in version 1.
func (c *cgroup) set(two, one, value string) {
	c.t.Helper()
	name := one
	if c.v2 {
		name = two
	}
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(value), 0o600); err != nil {
		c.t.Skipf("the control group takes no %s: %v", name, err)
	}
}

// command is a program that runs within the group from its first moment on.
func (c *cgroup) command(program string, args ...string) (string, []string) {
	return "/bin/sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(c.dir, "cgroup.procs"), program}, args...)
}

// killed gives how many processes of the group the kernel has ended for want of memory.
func (c *cgroup) killed() int {
	c.t.Helper()
	name := "memory.oom_control"
	if c.v2 {
		name = "memory.events"
	}
	return c.number(name, "oom_kill")
}

// throttled gives how often the group has waited for its share of the processors.
func (c *cgroup) throttled() int {
	c.t.Helper()
	return c.number("cpu.stat", "nr_throttled")
}

func (c *cgroup) number(file, field string) int {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == field {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				c.t.Fatal(err)
			}
			return n
		}
	}
	c.t.Fatalf("%s has no %s:\n%s", file, field, text)
	return 0
}

// remove waits for the kernel to have done with the process, which the test has ended.
func (c *cgroup) remove() {
	for range 1000 {
		if err := os.Remove(c.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		<-time.After(time.Millisecond)
	}
	c.t.Errorf("%s cannot be removed", c.dir)
}
