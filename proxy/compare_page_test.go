//go:build linux

package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// table gives costs as a table of Markdown. Ratios are those of one repetition, and their medians.
func table(title string, all []contender, costs [][]float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n| | CPU µs a request | ÷ HAProxy | ÷ ReverseProxy |\n|---|---|---|---|\n", title)
	by := func(of []float64, name string) string {
		i := slices.IndexFunc(all, func(c contender) bool { return strings.HasPrefix(c.name, name) })
		if i < 0 {
			return "–"
		}
		return spread(ratios(of, costs[i]), "%.2f")
	}
	for n, c := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name, spread(costs[n], "%.1f"), by(costs[n], "HAProxy"), by(costs[n], reverseProxy))
	}
	return b.String()
}

func ratios(v, by []float64) []float64 {
	r := make([]float64, len(v))
	for i := range v {
		r[i] = v[i] / by[i]
	}
	return r
}

// spread gives the median with the least and the greatest.
func spread(v []float64, format string) string {
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf("**"+format+"** ["+format+"–"+format+"]", v[len(v)/2], v[0], v[len(v)-1])
}

// idleConnections is how many connections are opened to see what one costs.
const idleConnections = 2000

// heldMemory measures what the contenders hold at rest, and for a connection that has had a request and is idle.
func heldMemory(t *testing.T, all []contender, idle int) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	up := loopback.Free(t)
	_, stop := command(t, up, roleCommand(t, self, "upstream", up, "1024"))
	defer stop()
	var b strings.Builder
	fmt.Fprintf(&b, "\n### Memory (PSS)\n\n| | at rest, after the first request | with %d idle connections | for each |\n|---|---|---|---|\n", idle)
	for _, c := range all {
		address := loopback.Free(t)
		p, stop := command(t, address, c.command(t, address, up))
		conns := []net.Conn{visitor(t, address)}
		rest := pss(t, p.Pid)
		for range idle {
			conns = append(conns, visitor(t, address))
		}
		full := pss(t, p.Pid)
		for _, nc := range conns {
			_ = nc.Close()
		}
		stop()
		fmt.Fprintf(&b, "| %s | %.1f MB | %.1f MB | %.1f KB |\n", c.name, float64(rest)/1024, float64(full)/1024, float64(full-rest)/float64(idle))
	}
	return b.String()
}

// visitor opens a connection, has one request answered, and leaves it.
func visitor(t *testing.T, address string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err == nil {
		_, err = io.WriteString(nc, "GET /reviews/1 HTTP/1.1\r\nHost: reviews\r\n\r\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	if _, err := br.Discard(1024); err != nil {
		t.Fatal(err)
	}
	return nc
}

// pss gives the proportional set size of a process in KB.
func pss(t *testing.T, pid int) int {
	t.Helper()
	time.Sleep(time.Second) // what it does after an answer
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	t.Fatal("no Pss")
	return 0
}

var (
	cpuName = regexp.MustCompile(`model name\s*: (.*)`)
	release = regexp.MustCompile(`^\d+\.\d+`)
	number  = regexp.MustCompile(`\d+\.[\d.]+`)
)

// machine describes where it was measured.
func machine(t *testing.T) string {
	t.Helper()
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := "unknown"
	if found := cpuName.FindSubmatch(cpus); found != nil {
		model = string(found[1])
	}
	tools := ""
	for _, tool := range [][]string{{"haproxy", "-v"}, {"nginx", "-v"}, {"wrk", "-v"}, {"h2load", "--version"}} {
		out, _ := exec.CommandContext(t.Context(), tool[0], tool[1:]...).CombinedOutput() // wrk says it and fails
		tools += ", " + tool[0] + " " + string(number.Find(out))
	}
	return fmt.Sprintf("%d processors (%s), Linux %s, %s%s. Everything over loopback, client and upstream on the same processors.", runtime.NumCPU(), model,
		release.FindString(string(kernel)), runtime.Version(), tools)
}

const measuredBegin, measuredEnd = "<!-- measured: written by make bench-proxy -->\n", "<!-- measured: end -->\n"

// writeMeasured puts what was measured between the two marks of the page.
func writeMeasured(t *testing.T, path, text string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), measuredBegin)
	_, after, closed := strings.Cut(rest, measuredEnd)
	if !ok || !closed {
		t.Fatalf("%s has no marks for what is measured", path)
	}
	if err := os.WriteFile(path, []byte(before+measuredBegin+text+measuredEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
