//go:build linux

package proxy_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const haproxyTCPConfig = `global
  nbthread 1
  maxconn %d
  maxpipes 64
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
%s
listen f
  bind %s
  server s %s
`

// idleTCP is how many idle connections there are, where a process may have so many descriptors; of each a proxy has two.
const idleTCP = 10_000

func idleAllowed(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return min(idleTCP, int(limit.Cur)/2-400)
}

// TestCompareTCP measures what it costs to pass bytes through as TCP, by an explicit listener, beside HAProxy with one thread, and what
// idle connections cost, of which each has two sides. It runs where HEDDLE_COMPARE_TCP says how many repetitions there are to be, as
// by make bench-tcp; HEDDLE_COMPARE_SECONDS is how long one lasts.
func TestCompareTCP(t *testing.T) {
	repetitions, _ := strconv.Atoi(os.Getenv("HEDDLE_COMPARE_TCP"))
	if repetitions <= 0 {
		t.Skip("HEDDLE_COMPARE_TCP is not set")
	}
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("HEDDLE_COMPARE_SECONDS"), "3"))
	if err != nil || seconds <= 0 {
		t.Fatal("HEDDLE_COMPARE_SECONDS is no number of seconds")
	}
	for _, tool := range []string{"wrk", "haproxy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing; Debian's packages are wrk and haproxy", tool)
		}
	}
	heddle, idle := buildHeddle(t), idleAllowed(t)
	haproxy := func(option string) func(t *testing.T, address, up string) *exec.Cmd {
		return func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return exec.CommandContext(t.Context(), "haproxy", "-db", "-f", file(t, "haproxy.cfg", fmt.Sprintf(haproxyTCPConfig, idle+100, option, address, up)))
		}
	}
	all := []contender{
		{name: "HAProxy, 1 thread", command: haproxy("")},
		{name: "HAProxy, 1 thread, option splice-auto", command: haproxy("  option splice-auto")},
		{name: "heddle", command: func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return exec.CommandContext(t.Context(), heddle, "proxy", "--admin", "none", "--outbound", "none", "--outbound-tcp", address+"=reviews:80",
				"--config", file(t, "mesh.yaml", service("reviews", "TCP", up)))
		}},
	}
	var page strings.Builder
	fmt.Fprintf(&page, "%s %d repetitions of %d s.\n", machine(t), repetitions, seconds)
	for _, size := range []int{1 << 20, 1 << 10} {
		title := fmt.Sprintf("%d KiB through TCP, 64 connections, as fast as they go", size>>10)
		page.WriteString(compare(t, title, all, size, repetitions, func(address string) int { return load(t, address, seconds) }, ticks))
	}
	page.WriteString(heldMemory(t, all, idle))
	t.Log("\n" + page.String())
}
