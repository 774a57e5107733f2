//go:build linux

package proxy_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/conformance"
	"github.com/heddlemesh/mesh/internal/loopback"
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
	case "inbound":
		runtime.GOMAXPROCS(1) // as heddle proxy has it
		fmt.Println(benchInbound(args[0], args[1], args[2]))
	case "transparent":
		runtime.GOMAXPROCS(1)
		fmt.Println(benchTransparent())
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

// benchInbound is a sidecar's inbound side with the certificates that lie in dir, for which the command has no flag.
func benchInbound(address, up, dir string) error {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	m, err := mesh.New(context.Background())
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := proxy.Start(proxy.Config{Mesh: m, Inbound: []proxy.Inbound{{Listen: address, App: up, TLS: &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}}}})
	if err != nil {
		return err
	}
	return <-s.Failed()
}

// A contender is one of the programs that are compared, in front of one upstream.
type contender struct {
	name string
	// command gives what serves on address and asks up.
	command func(t *testing.T, address, up string) *exec.Cmd
	// behind, nil for nothing, serves what command's asks, and asks up: the two are one contender.
	behind func(t *testing.T, address, up string) *exec.Cmd
	// few says that it is compared at 1 KiB and paced only.
	few bool
}

// contenders gives what there is on this machine. HAProxy comes first and is what the others are measured by.
func contenders(t *testing.T) []contender {
	t.Helper()
	for _, tool := range []string{"wrk", "haproxy", "h2load"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing; Debian's packages are wrk, haproxy and nghttp2-client", tool)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	heddle := buildHeddle(t)
	sidecar := func(inbound bool, env ...string) func(t *testing.T, address, up string) *exec.Cmd {
		return func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			args := []string{"proxy", "--admin", "none", "--config", file(t, "mesh.yaml", service("reviews", "HTTP", up)+benchRules)}
			if inbound {
				args = append(args, "--outbound", "none", "--inbound", address+"="+up)
			} else {
				args = append(args, "--outbound", address)
			}
			cmd := exec.CommandContext(t.Context(), heddle, args...)
			cmd.Env = append(os.Environ(), env...)
			return cmd
		}
	}
	all := []contender{
		{name: "HAProxy, 1 thread", command: func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return exec.CommandContext(t.Context(), "haproxy", "-db", "-f", file(t, "haproxy.cfg", fmt.Sprintf(haproxyConfig, address, up)))
		}},
		{name: reverseProxy, command: func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return roleCommand(t, self, "reverseproxy", address, up)
		}},
		{name: "heddle outbound", command: sidecar(false)},
		{name: "heddle inbound", command: sidecar(true)},
		{name: "heddle outbound, GOMAXPROCS=2", command: sidecar(false, "GOMAXPROCS=2"), few: true},
		{name: "heddle outbound, GOGC=400", command: sidecar(false, "GOGC=400"), few: true},
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Log("nginx is missing and left out; Debian's package is nginx-light")
		return all
	}
	return slices.Insert(all, 1, contender{name: "nginx, 1 worker", command: func(t *testing.T, address, up string) *exec.Cmd {
		t.Helper()
		return exec.CommandContext(t.Context(), "nginx", "-p", t.TempDir(), "-c", file(t, "nginx.conf", fmt.Sprintf(nginxConfig, up, address)))
	}})
}

func buildHeddle(t *testing.T) string {
	t.Helper()
	heddle := filepath.Join(t.TempDir(), "heddle")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", heddle, "../cmd/heddle").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return heddle
}

// securedContenders are pairs with TLS 1.3 and certificates of both sides between.
func securedContenders(t *testing.T) []contender {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	heddle, ca := buildHeddle(t), conformance.NewAuthority(t)
	server, serverKey := ca.Files("server", ca.Issue("reviews.inside"))
	caller, callerKey := ca.Files("caller", ca.Issue("caller"))
	both := func(name, certificate, key string) string {
		var text []byte
		for _, part := range []string{certificate, key} {
			pem, err := os.ReadFile(part)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, pem...)
		}
		return file(t, name, string(text))
	}
	serverBoth, callerBoth := both("server.both", server, serverKey), both("caller.both", caller, callerKey)
	haproxy := func(bind, ask string) func(t *testing.T, address, up string) *exec.Cmd {
		return func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return exec.CommandContext(t.Context(), "haproxy", "-db", "-f", file(t, "haproxy.cfg", fmt.Sprintf(haproxyConfig, address+bind, up+ask)))
		}
	}
	return []contender{
		{name: "HAProxy, two", command: haproxy("", " ssl verify required verifyhost reviews.inside sni str(reviews.inside) ca-file "+ca.CAFile+" crt "+callerBoth),
			behind: haproxy(" ssl verify required ca-file "+ca.CAFile+" crt "+serverBoth, "")},
		{name: "heddle, outbound and inbound", command: func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			rules := fmt.Sprintf(benchSecured, ca.CAFile, caller, callerKey)
			return exec.CommandContext(t.Context(), heddle, "proxy", "--admin", "none", "--outbound", address,
				"--config", file(t, "mesh.yaml", service("reviews", "HTTP", up)+benchRules+rules))
		}, behind: func(t *testing.T, address, up string) *exec.Cmd {
			t.Helper()
			return roleCommand(t, self, "inbound", address, up, ca.Dir)
		}},
	}
}

// benchSecured is the policy of the pair.
const benchSecured = `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {tls: {mode: MUTUAL, caCertificates: %s, clientCertificate: %s, privateKey: %s, sni: reviews.inside}}}
`

// reverseProxy is served by the tests' own program, whose memory says nothing about it.
const reverseProxy = "ReverseProxy"

const haproxyConfig = `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend f
  bind %s
  default_backend b
backend b
  server s %s
`

const nginxConfig = `daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  upstream u { server %s; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen %s;
    location / {
      proxy_pass http://u;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`

// file writes a file that is gone when the test ends.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCompare measures what a request costs in the sidecar, in HAProxy with one thread, in nginx and in
// httputil.ReverseProxy, each repetition with fresh processes and in the other order, and what their connections cost that are
// idle. It runs where HEDDLE_COMPARE says how many repetitions there are to be, as by make bench-proxy;
// HEDDLE_COMPARE_SECONDS is how long one lasts, and HEDDLE_COMPARE_DOC names the page whose measured part is
// written anew.
func TestCompare(t *testing.T) {
	repetitions, _ := strconv.Atoi(os.Getenv("HEDDLE_COMPARE"))
	if repetitions <= 0 {
		t.Skip("HEDDLE_COMPARE is not set")
	}
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("HEDDLE_COMPARE_SECONDS"), "3"))
	if err != nil || seconds <= 0 {
		t.Fatal("HEDDLE_COMPARE_SECONDS is no number of seconds")
	}
	all := contenders(t)
	var page strings.Builder
	fmt.Fprintf(&page, "%s %d repetitions of %d s (paced: %d s).\n", machine(t), repetitions, seconds, 2*seconds)
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		these := slices.DeleteFunc(slices.Clone(all), func(c contender) bool { return c.few && size > 1<<10 })
		title := fmt.Sprintf("%d KiB, 64 connections, as fast as they go", size>>10)
		page.WriteString(compare(t, title, these, size, repetitions, func(address string) int { return load(t, address, seconds) }, ticks))
	}
	page.WriteString(compare(t, "1 KiB, 1,000 requests a second over 16 connections", all, 1<<10, repetitions,
		func(address string) int { return paced(t, address, 2*seconds) }, ran))
	pairs := securedContenders(t)
	for _, size := range []int{1 << 10, 64 << 10} {
		title := fmt.Sprintf("Two with TLS between, %d KiB, 64 connections, as fast as they go", size>>10)
		page.WriteString(compare(t, title, pairs, size, repetitions, func(address string) int { return load(t, address, seconds) }, ticks))
	}
	page.WriteString(heldMemory(t, slices.DeleteFunc(slices.Clone(all), func(c contender) bool { return c.few || c.name == reverseProxy }), idleConnections))
	t.Log("\n" + page.String())
	if path := os.Getenv("HEDDLE_COMPARE_DOC"); path != "" {
		writeMeasured(t, path, page.String())
	}
}

// compare measures the contenders by turns. load sends requests and gives their number, spent is what a process has used.
func compare(t *testing.T, title string, all []contender, size, repetitions int, load func(address string) int, spent func(*testing.T, int) time.Duration) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	up := loopback.Free(t)
	upstream, stop := command(t, up, roleCommand(t, self, "upstream", up, strconv.Itoa(size)))
	defer stop()
	direct := contender{name: "no proxy (the upstream itself)"}
	all = append([]contender{direct}, all...)
	costs := make([][]float64, len(all))
	for i := range repetitions {
		for n := range all {
			if i%2 == 1 {
				n = len(all) - 1 - n
			}
			address, pids, stop := up, []int{upstream.Pid}, func() {}
			if all[n].command != nil {
				address, pids, stop = all[n].start(t, up)
			}
			costs[n] = append(costs[n], cost(t, address, pids, load, spent))
			stop()
		}
	}
	return table(title, all, costs)
}

// start starts the contender in front of up, and gives where it is asked.
func (c *contender) start(t *testing.T, up string) (address string, pids []int, stop func()) {
	t.Helper()
	stopBehind := func() {}
	if c.behind != nil {
		between := loopback.Free(t)
		var process *os.Process
		process, stopBehind = command(t, between, c.behind(t, between, up))
		pids, up = append(pids, process.Pid), between
	}
	address = loopback.Free(t)
	process, stopFront := command(t, address, c.command(t, address, up))
	return address, append(pids, process.Pid), func() {
		stopFront()
		stopBehind()
	}
}

// cost gives the CPU of one request in µs.
func cost(t *testing.T, address string, pids []int, load func(string) int, spent func(*testing.T, int) time.Duration) float64 {
	t.Helper()
	sum := func() (all time.Duration) {
		for _, pid := range pids {
			all += spent(t, pid)
		}
		return all
	}
	warm(t, address)
	before := sum()
	requests := load(address)
	return float64(sum()-before) / float64(time.Microsecond) / float64(requests)
}

// roleCommand is this binary in a role.
func roleCommand(t *testing.T, self, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), benchRole+"="+name)
	return cmd
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
func load(t *testing.T, address string, seconds int) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "wrk", "-t1", "-c64", fmt.Sprintf("-d%ds", seconds), "-H", "Host: reviews", "http://"+address+"/reviews/1").CombinedOutput()
	found := wrkCount.FindSubmatch(out)
	if err != nil || found == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		t.Fatalf("wrk: %v: %s", err, out)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func warm(t *testing.T, address string) {
	t.Helper()
	load(t, address, 1)
}

// paced sends 1,000 requests a second from 16 connections.
func paced(t *testing.T, address string, seconds int) int {
	t.Helper()
	n := 1000 * seconds
	out, err := exec.CommandContext(t.Context(), "h2load", "--h1", "-t1", "-c16", "--rps=62.5", fmt.Sprintf("-n%d", n),
		"-H", ":authority: reviews", "http://"+address+"/reviews/1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf(" %d 2xx", n)) {
		t.Fatalf("h2load: %v: %s", err, out)
	}
	return n
}

// ticks gives the user and system time of a process, in steps of 10 ms.
func ticks(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// ran gives the time that the threads of a process have run, as exactly as the scheduler knows.
func ran(t *testing.T, pid int) time.Duration {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("no schedstat", err)
	}
	sum := 0
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.Atoi(first)
		sum += n
	}
	return time.Duration(sum)
}
