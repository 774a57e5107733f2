//go:build unix

package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// testRole makes the test's binary be the command, or a command's child, by its first argument.
const testRole = "HEDDLE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(testRole) != "" {
		limitFiles()
		switch os.Args[1] {
		case "proxy", "ca", "wait", "capture":
			os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		case "child":
			os.Exit(childMain(os.Args[2], os.Args[3:]))
		}
	}
	os.Exit(m.Run())
}

// childMain is the program behind the sidecar.
func childMain(what string, args []string) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	switch what {
	case "exit":
		n, _ := strconv.Atoi(args[0])
		return n
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "env":
		for _, name := range args {
			fmt.Printf("%s=%s\n", name, os.Getenv(name))
		}
	case "signals":
		fmt.Println("child is ready")
		for sig := range signals {
			if sig != syscall.SIGURG { // the runtime's own
				fmt.Println("child got", sig)
			}
			if sig == syscall.SIGTERM {
				return 7
			}
		}
	case "get":
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
		resp, err := client.Get(args[0])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		body, _ := io.ReadAll(resp.Body)
		fmt.Printf("%d %s", resp.StatusCode, body)
	case "serve":
		return serveChild(args[0], signals)
	}
	return 0
}

// serveChild answers until it is told to end; /slow waits for /release.
func serveChild(address string, signals <-chan os.Signal) int {
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("child is busy")
		<-release
		fmt.Println("child is done")
		_, _ = io.WriteString(w, "slow")
	})
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { close(release) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("child is ready")
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	for sig := range signals {
		if sig == syscall.SIGTERM || sig == os.Interrupt {
			fmt.Println("child got", sig)
			return 0 // at once, whatever is under way
		}
	}
	return 1
}

// A process is a heddle of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of stdout and stderr
	done   chan struct{}
	mu     sync.Mutex
	output bytes.Buffer
}

// ready waits for the addresses that it prints.
var addressPattern = regexp.MustCompile(`(inbound|outbound|admin|health|dns)=(\S+)`)

func spawn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return spawnCommand(t, env, append([]string{"proxy"}, args...)...)
}

func spawnCommand(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return spawnProgram(t, append([]string{testRole + "=1"}, env...), self, args...)
}

func spawnProgram(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), lines: make(chan string, 1000), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		defer close(p.done)
		defer r.Close()
		for s := bufio.NewScanner(r); s.Scan(); {
			p.mu.Lock()
			p.output.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		<-p.done
	})
	return p
}

// until waits for a line that has the text.
func (p *process) until(text string) string {
	p.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case line := <-p.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-p.done:
			for len(p.lines) > 0 {
				if line := <-p.lines; strings.Contains(line, text) {
					return line
				}
			}
			p.t.Fatalf("it ended without %q:\n%s", text, p.said())
		case <-limit:
			p.t.Fatalf("no %q:\n%s", text, p.said())
		}
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// untilTimes waits until it has said the text as often. What a process and its command say comes in no order, and [process.until] drops what it passes over.
func (p *process) untilTimes(n int, text string) {
	p.t.Helper()
	limit := time.After(20 * time.Second)
	for strings.Count(p.said(), text) < n {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			p.t.Fatalf("%q was not said %d times:\n%s", text, n, p.said())
		}
	}
}

// addresses gives those of the listeners, by name.
func (p *process) addresses() map[string]string {
	p.t.Helper()
	found := map[string]string{}
	for _, m := range addressPattern.FindAllStringSubmatch(p.until("heddle proxy is ready"), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// code waits for the end.
func (p *process) code() int {
	p.t.Helper()
	_ = p.cmd.Wait()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// child gives the arguments that make the test's binary a child.
func childOf(args ...string) []string {
	self, _ := os.Executable()
	return append([]string{"--", self, "child"}, args...)
}

// configDir writes a directory with a service "ratings" of one endpoint.
func configDir(t *testing.T, address string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	text := fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: %s, ports: {http: %s}}]
`, host, port)
	if err := os.WriteFile(filepath.Join(dir, "ratings.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// One processor, unless the environment asks for others.
func TestProxyProcessors(t *testing.T) { // not parallel: it is the process's
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	t.Setenv("GOMAXPROCS", "3")
	limitProcessors()
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors, although the environment says 3", n)
	}
	t.Setenv("GOMAXPROCS", "")
	limitProcessors()
	if n := runtime.GOMAXPROCS(0); n != proxyProcessors {
		t.Errorf("%d processors", n)
	}
}

// apart are listeners that nothing else on the machine uses.
var apart = []string{"--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0"}

func TestProxyUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no config", nil, "no --config given; for the directory you are in: --config ."},
		{"empty config", []string{"--config", ""}, "a path is empty"},
		{"standard input", []string{"--config", "-"}, "standard input is the command's: give --config a file or directory"},
		{"argument without --", []string{"--config", ".", "node", "ratings.js"}, `unexpected argument "node"; a command follows after --`},
		{"argument before --", []string{"--config", ".", "x", "--", "node"}, `unexpected argument "x"; a command follows after --`},
		{"inbound", []string{"--config", ".", "--inbound", ":9080"},
			`invalid argument ":9080" for "--inbound" flag: expected LISTEN=APP, each [host]:port, as in :9080=127.0.0.1:19080`},
		{"inbound's port", []string{"--config", ".", "--inbound", ":90800=:1"},
			`invalid argument ":90800=:1" for "--inbound" flag: expected LISTEN=APP, each [host]:port, as in :9080=127.0.0.1:19080`},
		{"outbound", []string{"--config", ".", "--outbound", "15001"}, "--outbound 15001: expected host:port"},
		{"admin", []string{"--config", ".", "--admin", "127.0.0.1:x"}, "--admin 127.0.0.1:x: expected a port from 0 to 65535"},
		{"one address twice", []string{"--config", ".", "--outbound", "127.0.0.1:15000"}, "--outbound and --admin both listen on 127.0.0.1:15000"},
		{"one inbound address twice", []string{"--config", ".", "--inbound", ":9080=:1", "--inbound", ":9080=:2"}, "--inbound and --inbound both listen on :9080"},
		{"outbound traffic policy", []string{"--config", ".", "--outbound-traffic-policy", "NONE"},
			`invalid argument "NONE" for "--outbound-traffic-policy" flag: expected one of ALLOW_ANY, REGISTRY_ONLY`},
		{"idle time-out", []string{"--config", ".", "--stream-idle-timeout", "-1s"}, "--stream-idle-timeout is negative"},
		{"two identities", []string{"--config", ".", "--svid", "a", "--svid-key", "b", "--svid-bundle", "c", "--workload-api", "unix:///a"},
			"--svid and --workload-api are two identities: give one"},
		{"Workload API", []string{"--config", ".", "--workload-api", "/run/agent.sock"},
			`--workload-api: address of the Workload API "/run/agent.sock": expected unix:///path or tcp://ip:port`},
		{"hint", []string{"--config", ".", "--workload-api-hint", "a"}, "--workload-api-hint goes with --workload-api"},
		{"drain delay", []string{"--config", ".", "--drain-delay", "-1s"}, "--drain-delay is negative"},
		{"takeover of a command", []string{"--config", ".", "--takeover", "s", "--", "node"}, "--takeover starts no command: two of them would listen on the same port"},
		{"probes", []string{"--config", ".", "--health", "127.0.0.1:0", "--app-probes", `{"/x":{}}`},
			`--app-probes: read probes: "/x": expected /app-health/<container>/ and livez, readyz or startupz`},
		{"probes for nobody", []string{"--config", ".", "--app-probes", `{"/app-health/a/livez":{"tcpSocket":{"port":1}}}`},
			"--app-probes goes with --health: nobody could ask for the probes"},
		{"namespace", []string{"--config", ".", "--namespace", "Shop"},
			`invalid argument "Shop" for "--namespace" flag: expected lower case letters, digits, '-' and '.'`},
		{"empty command", []string{"--config", ".", "--", ""}, "the command is empty"},
		{"unknown flag", []string{"--upstream", "x"}, "unknown flag: --upstream"},
	} {
		r := heddle(t, "", append([]string{"proxy"}, c.args...)...)
		first, rest, _ := strings.Cut(r.stderr, "\n")
		if r.code != exitUsage || r.stdout != "" || !strings.HasPrefix(rest, "Usage: heddle proxy --config PATH") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", c.name, r.code, r.stdout, r.stderr)
		}
		same(t, c.name, first, "heddle: "+c.says)
	}
	if r := heddle(t, "", "proxy", "--help"); r.code != exitOK || !strings.Contains(r.stdout, "Examples:\n  heddle proxy") {
		t.Errorf("help: exit code %d, %s", r.code, r.stdout)
	}
}

// TestProxyRefusals: what keeps it from starting, by exit code.
func TestProxyRefusals(t *testing.T) {
	t.Parallel()
	good := configDir(t, "127.0.0.1:1")
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "a.yaml"), []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], htp: []}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"refused configuration", append([]string{"--config", bad}, apart...), exitFindings, []string{"Error [IST0106]", "a.yaml:4", "the configuration is refused"}},
		{"missing path", append([]string{"--config", filepath.Join(bad, "nowhere")}, apart...), exitInput, []string{"nowhere"}},
		{"in use", []string{"--config", good, "--outbound", "127.0.0.1:0", "--admin", taken.Addr().String()}, exitFailed,
			[]string{"listen admin " + taken.Addr().String(), "address already in use"}},
		{"everybody's outbound", []string{"--config", good, "--outbound", ":0", "--admin", "none"}, exitFailed, []string{"listen outbound :0", "not a loopback address"}},
		{"everybody's admin", []string{"--config", good, "--outbound", "127.0.0.1:0", "--admin", "0.0.0.0:0"}, exitFailed, []string{"listen admin 0.0.0.0:0", "not a loopback address"}},
		{"no such command", append(append([]string{"--config", good}, apart...), "--", filepath.Join(bad, "nobody")), exitNotFound, []string{"start command"}},
		{"no such command in the path", append(append([]string{"--config", good}, apart...), "--", "heddle-test-no-such-command"), exitNotFound, []string{"start command"}},
		{"not a program", append(append([]string{"--config", good}, apart...), "--", filepath.Join(bad, "a.yaml")), exitNotRunnable, []string{"start command"}},
	} {
		r := heddle(t, "", append([]string{"proxy"}, c.args...)...)
		if r.code != c.code {
			t.Errorf("%s: exit code %d: %s", c.name, r.code, r.stderr)
		}
		for _, want := range c.says {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: stderr has no %q: %s", c.name, want, r.stderr)
			}
		}
	}
}

func TestProxySettings(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"HEDDLE_CONFIG": "a.d, b.d", "HEDDLE_WORKLOAD": "ratings-v1", "HEDDLE_SERVICE_ACCOUNT": "bookinfo", "HEDDLE_LABELS": "app=ratings,version=v1",
		"HEDDLE_INBOUND": ":9080=:19080,:9081=127.0.0.1:19081", "HEDDLE_OUTBOUND": "127.0.0.1:1", "HEDDLE_ALLOW_NON_LOOPBACK": "true",
		"HEDDLE_DRAIN_TIMEOUT": "3s", "HEDDLE_ADMIN": "", "HEDDLE_NAMESPACE": "shop",
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cmd := proxyCommand()
	if err := cmd.ParseFlags([]string{"--outbound", "127.0.0.1:2", "--namespace", "mine"}); err != nil {
		t.Fatal(err)
	}
	if err := settingsFrom(cmd, lookup); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"config": "[a.d,b.d]", "workload": "ratings-v1", "namespace": "mine", "service-account": "bookinfo",
		"outbound": "127.0.0.1:2", "admin": "127.0.0.1:15000", "allow-non-loopback": "true", "drain-timeout": "3s"} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("%s is %s, want %s", flag, got, want)
		}
	}
	in := cmd.Flags().Lookup("inbound").Value.(*inbounds)
	if len(*in) != 2 || (*in)[0].App != "127.0.0.1:19080" || (*in)[1].Listen != ":9081" {
		t.Errorf("inbound is %v", *in)
	}
	for name, value := range map[string]string{"HEDDLE_INBOUND": "9080", "HEDDLE_ALLOW_NON_LOOPBACK": "maybe", "HEDDLE_LABELS": "x", "HEDDLE_DRAIN_TIMEOUT": "10"} {
		err := settingsFrom(proxyCommand(), func(n string) (string, bool) { return value, n == name })
		var f *failure
		if !errors.As(err, &f) || f.code != exitUsage || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	for _, s := range proxySettings {
		if cmd.Flags().Lookup(s.flag) == nil {
			t.Errorf("no flag %s", s.flag)
		}
	}
}

func TestProxyExitCodes(t *testing.T) {
	t.Parallel()
	dir := configDir(t, "127.0.0.1:1")
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"exit", "0"}, 0}, {[]string{"exit", "3"}, 3}, {[]string{"exit", "64"}, 64}, {[]string{"die"}, 137}} {
		p := spawn(t, nil, slices.Concat([]string{"--config", dir}, apart, childOf(c.args...))...)
		if got := p.code(); got != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, got, c.code)
		}
		if s := p.said(); strings.Contains(s, "Usage:") {
			t.Errorf("%q: %s", c.args, s)
		}
	}
}

func TestProxyChildEnvironment(t *testing.T) {
	t.Parallel()
	p := spawn(t, []string{"no_proxy=example.com", "JAVA_TOOL_OPTIONS=-Xmx64m", "http_proxy=http://old:1", "NO_PROXY="},
		slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart,
			childOf("env", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "NODE_USE_ENV_PROXY", "JAVA_TOOL_OPTIONS"))...)
	at := p.addresses()["outbound"]
	u, err := url.Parse("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"http_proxy=http://" + at, "HTTP_PROXY=http://" + at, "no_proxy=example.com,localhost,127.0.0.1,::1",
		"NO_PROXY=localhost,127.0.0.1,::1", "NODE_USE_ENV_PROXY=1",
		"JAVA_TOOL_OPTIONS=-Xmx64m -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=" + u.Port() + " -Dhttp.nonProxyHosts=localhost|127.*|[::1]"} {
		if got := p.until(strings.SplitN(want, "=", 2)[0] + "="); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestProxyChildCalls: an unmodified program reaches a service by its name, and hears of it when there is none.
func TestProxyChildCalls(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host+"\n") })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	dir := configDir(t, l.Addr().String())
	p := spawn(t, nil, slices.Concat([]string{"--config", dir}, apart, childOf("get", "http://ratings:9080/"))...)
	if got := p.until("200 "); got != "200 ratings:9080" {
		t.Errorf("got %q", got)
	}
	dead := configDir(t, "127.0.0.1:1")
	p = spawn(t, nil, slices.Concat([]string{"--config", dead}, apart, childOf("get", "http://ratings:9080/"))...)
	line := p.until("answered by the proxy")
	for _, want := range []string{"flag=UF", "status=503", "host=ratings:9080", "outbound|9080||ratings.default.svc.cluster.local"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	p.until("503 upstream connect error")
}

func TestProxySignals(t *testing.T) {
	t.Parallel()
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart, childOf("signals"))...)
	p.until("child is ready")
	p.signal(syscall.SIGUSR1)
	p.until("child got user defined signal 1")
	p.signal(syscall.SIGHUP)
	p.until("child got hangup")
	p.signal(syscall.SIGTERM)
	p.until("child got terminated")
	if code := p.code(); code != 7 {
		t.Errorf("exit code %d", code)
	}
}

// TestProxyDrains: under load, SIGTERM loses nothing: requests under way end before the command is told, and
// every client has either its whole answer or was refused at the door.
func TestProxyDrains(t *testing.T) {
	t.Parallel()
	app := loopback.Free(t)
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", "127.0.0.1:0=" + app, "--drain-delay", "0"}, apart,
		childOf("serve", app))...)
	at := p.addresses()
	p.until("child is ready")

	slow := make(chan error, 1)
	go func() {
		body, err := fetch("http://" + at["inbound"] + "/slow")
		if err == nil && body != "slow" {
			err = fmt.Errorf("got %q", body)
		}
		slow <- err
	}()
	p.until("child is busy")

	var answered, reset atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				body, err := fetch("http://" + at["inbound"] + "/x")
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if errors.Is(err, syscall.ECONNRESET) && reset.Add(1) == 1 {
					return // one may have come between the last look at the kernel's queue and its end
				}
				if err != nil || body != "/x" {
					t.Errorf("request %d: %q, %v", n, body, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for answered.Load() < 100 {
		<-time.After(time.Millisecond)
	}
	p.signal(syscall.SIGTERM)
	clients.Wait() // the listener is closed
	if status, err := statusOf("http://" + at["admin"] + "/ready"); status != http.StatusServiceUnavailable {
		t.Errorf("ready while draining: %d, %v", status, err)
	}
	if _, err := fetch("http://" + app + "/release"); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said := p.said()
	if done, told := strings.Index(said, "child is done"), strings.Index(said, "child got terminated"); done < 0 || told < done {
		t.Errorf("the command was told before it was done:\n%s", said)
	}
}

// TestProxyAlone: without a command it serves until it is told to end, by a signal or on its admin page.
func TestProxyAlone(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"signal", "page"} {
		p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart)...)
		at := p.addresses()
		if status, err := statusOf("http://" + at["admin"] + "/ready"); status != http.StatusOK {
			t.Errorf("ready: %d, %v", status, err)
		}
		if how == "signal" {
			p.signal(os.Interrupt)
		} else if resp, err := http.Post("http://"+at["admin"]+"/quitquitquit", "", nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%v, %v", resp, err)
		} else {
			_ = resp.Body.Close()
		}
		if code := p.code(); code != 0 {
			t.Errorf("%s: exit code %d: %s", how, code, p.said())
		}
	}
}

// TestProxyNoMemoryLimit: no word for "no limit" is one that everything is beyond.
func TestProxyNoMemoryLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"", "off", "0"} {
		p := spawn(t, []string{"GOMEMLIMIT=" + limit}, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart)...)
		stats, err := fetch("http://" + p.addresses()["admin"] + "/stats/prometheus")
		if err != nil || stats == "" || strings.Contains(stats, "envoy_overload") {
			t.Errorf("GOMEMLIMIT=%s: %v\n%s", limit, err, stats)
		}
	}
}

// TestProxyDrainDelay: after SIGTERM it says that it ends and goes on serving, for those who have not heard of it
// yet. Ctrl-C is somebody who does not want to wait.
func TestProxyDrainDelay(t *testing.T) {
	t.Parallel()
	app := loopback.Free(t)
	start := func() (*process, map[string]string) {
		p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", "127.0.0.1:0=" + app, "--drain-delay", "1h"},
			apart, childOf("serve", app))...)
		at := p.addresses()
		p.until("child is ready")
		return p, at
	}
	p, at := start()
	p.signal(syscall.SIGTERM)
	for { // it is on its way out
		if status, _ := statusOf("http://" + at["admin"] + "/ready"); status == http.StatusServiceUnavailable {
			break
		}
	}
	for range 3 {
		if body, err := fetch("http://" + at["inbound"] + "/x"); err != nil || body != "/x" {
			t.Errorf("while it says so: %q, %v", body, err)
		}
	}
	if strings.Contains(p.said(), "child got") {
		t.Errorf("the command was told:\n%s", p.said())
	}
	p.signal(syscall.SIGTERM)
	p.until("child got terminated")
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	p, _ = start()
	p.signal(os.Interrupt)
	p.until("child got interrupt")
	if code := p.code(); code != 0 {
		t.Errorf("after Ctrl-C: exit code %d: %s", code, p.said())
	}
}

// TestProxyHurry: being told twice cuts the waiting short.
func TestProxyHurry(t *testing.T) {
	t.Parallel()
	app := loopback.Free(t)
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", "127.0.0.1:0=" + app, "--drain-delay", "0", "--drain-timeout", "1h"},
		apart, childOf("serve", app))...)
	at := p.addresses()
	p.until("child is ready")
	go func() { _, _ = fetch("http://" + at["inbound"] + "/slow") }()
	p.until("child is busy")
	p.signal(syscall.SIGTERM)
	for { // it drains
		if status, _ := statusOf("http://" + at["admin"] + "/ready"); status == http.StatusServiceUnavailable {
			break
		}
	}
	p.signal(syscall.SIGTERM)
	p.until("inbound requests were cut off")
	p.until("child got terminated")
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestProxyInProcess: a context that ends is a SIGTERM, so that programs can run the command.
func TestProxyInProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout bytes.Buffer
	pr, pw := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, slices.Concat([]string{"proxy", "--config", configDir(t, "127.0.0.1:1")}, apart), nil, &stdout, pw)
		_ = pw.Close()
	}()
	s := bufio.NewScanner(pr)
	for s.Scan() {
		if strings.Contains(s.Text(), "heddle proxy is ready") {
			cancel()
		}
	}
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d", got)
	}
}

func fetch(url string) (string, error) {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(body), err
}

func statusOf(url string) (int, error) {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
