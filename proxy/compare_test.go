//go:build linux

package proxy_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// benchRole makes the test's binary one of the processes that TestCompare compares.
const benchRole = "HEDDLE_BENCH_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(benchRole); role != "" {
		benchMain(role, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// benchMain runs until it is killed.
func benchMain(role string, args []string) {
	switch role {
	case "upstream":
		size, _ := strconv.Atoi(args[1])
		benchUpstream(args[0], size)
	case "reverseproxy":
		target := &url.URL{Scheme: "http", Host: args[1]}
		tr := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
		rp := &httputil.ReverseProxy{Transport: tr, BufferPool: new(pool), Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.SetXForwarded()
		}}
		fmt.Println((&http.Server{Addr: args[0], Handler: rp, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
	case "outbound", "inbound":
		guard := proxy.NewGuard(nil)
		m, err := mesh.New(context.Background(), mesh.WithConfig([]byte(service("reviews", "HTTP", args[1])+benchRules)), mesh.WithDialer(guard.DialContext),
			mesh.WithPassthrough(proxy.Passthrough(guard.DialContext)), mesh.WithLogger(slog.New(slog.DiscardHandler)))
		if err == nil {
			c := proxy.Config{Mesh: m, Guard: guard}
			if role == "outbound" {
				c.Outbound = args[0]
			} else {
				c.Inbound = []proxy.Inbound{{Listen: args[0], App: args[1]}}
			}
			_, err = proxy.Start(c)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		select {}
	}
}

// benchRules make every request pass a few conditions and a retry policy.
const benchRules = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /admin}, headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /v2/}}, {headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: reviews}}]
  - retries: {attempts: 2, retryOn: "connect-failure,refused-stream,503"}
    route: [{destination: {host: reviews}}]
`

// benchUpstream answers every head with ready-made bytes.
func benchUpstream(address string, size int) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: " +
		strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size))
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			br := bufio.NewReader(c)
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}
		}()
	}
}

// TestCompare measures the CPU that a request costs in the sidecar, in httputil.ReverseProxy and in HAProxy with one thread:
// user and system time of the process from /proc/PID/stat by the requests that wrk counted, each repetition with fresh
// processes and in the other order (reference/performance.md §1, §6). It runs where HEDDLE_COMPARE says how many
// repetitions there are to be, as by make bench-proxy.
func TestCompare(t *testing.T) {
	repetitions, _ := strconv.Atoi(os.Getenv("HEDDLE_COMPARE"))
	if repetitions <= 0 {
		t.Skip("HEDDLE_COMPARE is not set")
	}
	for _, tool := range []string{"wrk", "haproxy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing; Debian has it as a package", tool)
		}
	}
	seconds := cmp.Or(os.Getenv("HEDDLE_COMPARE_SECONDS"), "3")
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		compare(t, size, repetitions, seconds)
	}
}

func compare(t *testing.T, size, repetitions int, seconds string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	up := closedPort(t)
	run(t, up, self, "upstream", up, strconv.Itoa(size))
	names := []string{"haproxy", "reverseproxy", "outbound", "inbound"}
	costs := map[string][]float64{}
	for i := range repetitions {
		order := slices.Clone(names)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			address := closedPort(t)
			var p *os.Process
			var stop func()
			if name == "haproxy" {
				config := filepath.Join(t.TempDir(), "haproxy.cfg")
				text := fmt.Sprintf("global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"+
					"  option forwardfor\n  http-reuse always\nfrontend f\n  bind %s\n  default_backend b\nbackend b\n  server s %s\n", address, up)
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				p, stop = command(t, address, exec.CommandContext(t.Context(), "haproxy", "-db", "-f", config))
			} else {
				p, stop = role(t, address, self, name, address, up)
			}
			load(t, address, "1")
			before := ticks(t, p.Pid)
			requests := load(t, address, seconds)
			costs[name] = append(costs[name], float64(ticks(t, p.Pid)-before)*1e4/float64(requests))
			stop()
		}
	}
	base, reverse := median(costs["haproxy"]), median(costs["reverseproxy"])
	for _, name := range names {
		c := costs[name]
		t.Logf("%7d B %-13s %7.1f µs a request [%.1f–%.1f] × haproxy %.2f × ReverseProxy %.2f", size, name, median(c), slices.Min(c), slices.Max(c), median(c)/base, median(c)/reverse)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// run starts a role until the test ends.
func run(t *testing.T, address, self, name string, args ...string) {
	t.Helper()
	_, stop := role(t, address, self, name, args...)
	t.Cleanup(stop)
}

func role(t *testing.T, address, self, name string, args ...string) (*os.Process, func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), benchRole+"="+name)
	return command(t, address, cmd)
}

// command starts a process and waits until it listens.
func command(t *testing.T, address string, cmd *exec.Cmd) (*os.Process, func()) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = os.Stderr, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return cmd.Process, stop
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	t.Fatalf("%s does not listen on %s", cmd.Path, address)
	return nil, nil
}

var wrkCount = regexp.MustCompile(`(\d+) requests in`)

// load sends requests from 64 connections and gives their number.
func load(t *testing.T, address, seconds string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "wrk", "-t1", "-c64", "-d"+seconds+"s", "-H", "Host: reviews", "http://"+address+"/reviews/1").CombinedOutput()
	found := wrkCount.FindSubmatch(out)
	if err != nil || found == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		t.Fatalf("wrk: %v: %s", err, out)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// ticks gives the user and system time of a process, in 10 ms.
func ticks(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}
