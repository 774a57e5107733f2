//go:build unix

package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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

// versioned is a service whose rule, destination and subset are of one version each, and a host more in every other version. An endpoint
// that fails once is ejected for an hour.
func versioned(address string, version int) string {
	host, port, _ := net.SplitHostPort(address)
	extra := ""
	if version%2 == 0 {
		extra = "---\n" + fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: extra-%[1]d}\nspec: {hosts: [extra-%[1]d.example], resolution: NONE, "+
			"ports: [{number: 80, name: http, protocol: HTTP}]}\n", version)
	}
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: %[1]s, ports: {http: %[2]s}, labels: {app: ratings}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - headers: {response: {set: {x-rule: "%[3]d"}}}
    timeout: 1h
    route:
    - {destination: {host: ratings, subset: s%[3]d}, weight: %[4]d, headers: {response: {set: {x-destination: "%[3]d"}}}}
    - {destination: {host: ratings, subset: t%[3]d}, weight: %[5]d, headers: {response: {set: {x-destination: "%[3]d"}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 1h, maxEjectionPercent: 100}}
  subsets: [{name: s%[3]d, labels: {app: ratings}}, {name: t%[3]d, labels: {app: ratings}}]
%[6]s`, host, port, version, version%101, 100-version%101, extra)
}

// paired is versioned where the rule tells its version in the request, and what the workload receives is refused where it is of a rule that
// is newer than the policy.
func paired(address string, version int) string {
	newer := make([]string, 8) // of a version in every four the rule is refused
	for i := range newer {
		newer[i] = strconv.Quote(strconv.Itoa(version + 1 + i))
	}
	return strings.Replace(versioned(address, version), "  - headers: {response:", fmt.Sprintf(`  - headers: {request: {set: {x-version: "%d"}}, response:`, version), 1) +
		"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: newer}\nspec: {action: DENY, rules: [{when: [{key: \"request.headers[x-version]\", values: [" +
		strings.Join(newer, ", ") + "]}]}]}\n"
}

// TestLifeChanges: while the configuration changes all the time, rules, weights, subsets and hosts, with what is refused and with nothing
// there in between, no call fails, and each is made by one version as a whole, and never received by the policy of a version before that
// (E-001, E-002; E-012 and E-013 as far as files are concerned).
// make life has it 60,000 times.
func TestLifeChanges(t *testing.T) {
	t.Parallel()
	n := times(t, "HEDDLE_LIFE_CHANGES", 60)
	app := upstreamOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	dir := t.TempDir()
	file := filepath.Join(dir, "mesh.d", "a.yaml")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	inbound := loopback.Free(t)
	replaceFile(t, file, paired(inbound, 0))
	p := spawn(t, nil, slices.Concat([]string{"--config", filepath.Dir(file), "--inbound", inbound + "=" + app}, apart)...)
	through := &url.URL{Scheme: "http", Host: p.addresses()["outbound"]}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var answered, seen, failed atomic.Int64
	for range 4 {
		asking.Go(func() {
			tr := &http.Transport{Proxy: http.ProxyURL(through)}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			for last := ""; ; {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("http://ratings:9080/")
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				rule, destination := resp.Header.Get("X-Rule"), resp.Header.Get("X-Destination")
				if resp.StatusCode != http.StatusOK || rule == "" || rule != destination {
					failed.Add(1)
					t.Errorf("%s by rule %q and destination %q", resp.Status, rule, destination)
					return
				}
				if rule != last {
					seen.Add(1)
				}
				last = rule
				answered.Add(1)
			}
		})
	}
	reload := func(want string) {
		t.Helper()
		p.signal(syscall.SIGHUP)
		if line := p.until("SIGHUP: files were read anew"); !strings.Contains(line, want) {
			t.Fatalf("no %q: %s", want, line)
		}
	}
	began, bad := time.Now(), 0
	for i := 1; i <= n && !t.Failed(); i++ {
		switch i % 4 {
		case 0:
			bad++
			replaceFile(t, file, strings.Replace(paired(inbound, i), "weight:", "wait:", 1))
			reload("level=ERROR")
		case 2:
			bad++
			if err := os.Rename(filepath.Dir(file), filepath.Join(dir, "away")); err != nil {
				t.Fatal(err)
			}
			reload("level=ERROR")
			if err := os.Rename(filepath.Join(dir, "away"), filepath.Dir(file)); err != nil {
				t.Fatal(err)
			}
		default:
			replaceFile(t, file, paired(inbound, i))
			reload("level=INFO")
		}
		if n > 1000 {
			<-time.After(time.Until(began.Add(time.Duration(i) * 10 * time.Millisecond)))
		}
	}
	took := time.Since(began)
	for from := answered.Load(); answered.Load() < from+10 && !t.Failed(); {
		<-time.After(time.Millisecond)
	}
	close(stop)
	asking.Wait()
	t.Logf("%d reloads in %s, %.0f a second, %d of them refused; %d calls, %d failed or of two versions; %d changes of version seen", n, took.Truncate(time.Millisecond),
		float64(n)/took.Seconds(), bad, answered.Load(), failed.Load(), seen.Load())
}

// limited is the variable by which the test's binary, as a process of its own, has only so many descriptors.
const limited = "HEDDLE_TEST_NOFILE"

// limitFiles is for TestMain.
func limitFiles() {
	if n, err := strconv.ParseUint(os.Getenv(limited), 10, 64); err == nil {
		var limit syscall.Rlimit
		assign(&limit.Cur, n)
		assign(&limit.Max, n)
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

// assign is for fields whose type is the system's.
func assign[T int64 | uint64](to *T, n uint64) { *to = T(n) }

// TestLifeDescriptors: with 256 descriptors and 1,000 clients it stops accepting without turning in circles, serves those whom it has,
// blames no endpoint for what it cannot do itself, and goes on when there is room (E-014).
func TestLifeDescriptors(t *testing.T) {
	t.Parallel()
	app := upstreamOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	inbound := loopback.Free(t)
	dir := t.TempDir()
	replaceFile(t, filepath.Join(dir, "a.yaml"), versioned(app, 1))
	p := spawn(t, []string{limited + "=256"}, slices.Concat([]string{"--config", dir, "--inbound", inbound + "=" + app}, apart)...)
	at := p.addresses()
	had := &http.Transport{MaxConnsPerHost: 1}
	defer had.CloseIdleConnections()
	ask := func(client *http.Transport, target string) int {
		t.Helper()
		resp, err := (&http.Client{Transport: client}).Get(target)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	calls := &http.Transport{MaxConnsPerHost: 1, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: at["outbound"]})}
	defer calls.CloseIdleConnections()
	// Its connection is open, and it has called nobody yet.
	if status := ask(calls, "http://"+loopback.Dead(t)+"/"); status < 500 {
		t.Errorf("a call to nobody: %d", status)
	}
	if status := ask(had, "http://"+inbound+"/"); status != http.StatusOK {
		t.Errorf("before: %d", status)
	}
	admin := &http.Transport{MaxConnsPerHost: 1}
	defer admin.CloseIdleConnections()
	if status := ask(admin, "http://"+at["admin"]+"/ready"); status != http.StatusOK {
		t.Errorf("before: %d", status)
	}
	var crowd []net.Conn
	defer func() {
		for _, c := range crowd {
			_ = c.Close()
		}
	}()
	for range 1000 {
		c, err := net.DialTimeout("tcp", inbound, time.Second)
		if err != nil {
			break // the kernel's queue takes those who are not accepted, as many as there is room for
		}
		crowd = append(crowd, c)
	}
	full := func() bool { // it has no descriptor left
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		return err != nil || len(fds) >= 255
	}
	for !full() {
		<-time.After(time.Millisecond)
	}
	used, from := cpuOf(t, p), time.Now()
	<-time.After(time.Second)
	spent, took := cpuOf(t, p)-used, time.Since(from)
	if spent > took/2 { // a circle would be all of it; how little it is says the log
		t.Errorf("%s of CPU in %s: it turns in circles", spent, took)
	}
	for range 10 {
		if status := ask(had, "http://"+inbound+"/"); status != http.StatusOK {
			t.Errorf("who was there is answered with %d", status)
		}
	}
	for range 5 {
		if status := ask(calls, "http://ratings:9080/"); status != http.StatusServiceUnavailable && status != http.StatusOK {
			t.Errorf("a call without a descriptor: %d", status)
		}
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	crowd = nil
	fresh := &http.Transport{DisableKeepAlives: true}
	if status := ask(fresh, "http://"+inbound+"/"); status != http.StatusOK {
		t.Errorf("when there is room again: %d", status)
	}
	if status := ask(calls, "http://ratings:9080/"); status != http.StatusOK {
		t.Errorf("the endpoint was blamed: %d", status)
	}
	t.Logf("without a descriptor: %s of CPU in %s", spent, took.Truncate(time.Millisecond))
}

// cpuOf gives what a process has used, where there is /proc.
func cpuOf(t *testing.T, p *process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// TestLifePaused: a process that stands still for a while, once for long and again and again for most of the time, with one processor,
// loses no call, ejects nobody, and is healthy (E-017, E-022).
func TestLifePaused(t *testing.T) {
	t.Parallel()
	pause := time.Duration(times(t, "HEDDLE_LIFE_PAUSE", 1)) * time.Second
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	counts := undisturbed(t, self, nil, func(p *process, all func(int64)) {
		still := func(d time.Duration) {
			p.signal(syscall.SIGSTOP)
			<-time.After(d)
			p.signal(syscall.SIGCONT)
		}
		still(pause)
		all(100)
		for range 20 { // a fifth of a processor
			still(80 * time.Millisecond)
			<-time.After(20 * time.Millisecond)
		}
	})
	t.Logf("still for %s, and 20 times for 80 of 100 ms: %s", pause, counts)
}

// undisturbed has a sidecar with one processor receive requests, make calls, and be asked how it is, and disturbs it meanwhile: nothing may be lost,
// and nobody be ejected. all waits until every kind has so many answers more.
func undisturbed(t *testing.T, program string, before []string, disturb func(p *process, all func(n int64))) (counts string) {
	t.Helper()
	app := upstreamOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	dir := t.TempDir()
	replaceFile(t, filepath.Join(dir, "a.yaml"), versioned(app, 1))
	p := spawnProgram(t, []string{testRole + "=1", "GOMAXPROCS=1"}, program, slices.Concat(before, []string{"proxy", "--config", dir, "--inbound", loopback.Free(t) + "=" + app,
		"--health", loopback.Free(t)}, apart)...)
	at := p.addresses()
	crowds := []*crowd{newCrowd(t, "http://"+at["inbound"]+"/x", 3, 0), newCrowd(t, "http://"+at["health"]+"/healthz/ready", 2, 0)}
	calls := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: at["outbound"]})}
	defer calls.CloseIdleConnections()
	stop := make(chan struct{})
	var calling sync.WaitGroup
	var called atomic.Int64
	calling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			resp, err := (&http.Client{Transport: calls}).Get("http://ratings:9080/")
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("a call: %s", resp.Status)
				return
			}
			called.Add(1)
		}
	})
	all := func(n int64) {
		for _, c := range crowds {
			c.hasAnswers(n)
		}
	}
	all(100)
	disturb(p, all)
	all(100)
	close(stop)
	calling.Wait()
	for _, c := range crowds {
		close(c.stop)
		c.running.Wait()
		if c.lost.Load()+c.refused.Load() > 0 {
			t.Errorf("%d lost, %d refused", c.lost.Load(), c.refused.Load())
		}
	}
	return fmt.Sprintf("%d requests, %d of health, %d calls, 0 lost", crowds[0].answered.Load(), crowds[1].answered.Load(), called.Load())
}
