package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary be the whole program.
const asProgram = "BOOKINFO_TEST_PROGRAM"

// TestMain lets the test binary be the services and sidecars too: start runs its own executable again.
func TestMain(m *testing.M) {
	switch {
	case isChild():
		os.Exit(childMain())
	case os.Getenv(asProgram) != "":
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func running(t *testing.T, languages choice) *bookinfo {
	t.Helper()
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", dir: t.TempDir(), languages: languages, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bookinfo) url(path string) string { return "http://" + b.instances[0].address() + path }

func fetch(t *testing.T, c *http.Client, u string) string {
	t.Helper()
	resp, err := c.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", u, resp.Status, err)
	}
	return string(body)
}

// version tells which version of reviews answered, by its stars.
func version(body string) string {
	switch {
	case strings.Contains(body, `"color":"black"`):
		return "v2"
	case strings.Contains(body, `"color":"red"`):
		return "v3"
	case strings.Contains(body, `"rating"`):
		return "broken"
	}
	return "v1"
}

func TestPages(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", dir: t.TempDir(), languages: off, stderr: &said})
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="mesh configuration live"`) {
		t.Errorf("a start says %q", got)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	page := fetch(t, browser, b.url("/productpage"))
	for _, want := range []string{"The Comedy of Errors", "PublisherA", "Reviewer1", "Sign in"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	// Jason sees black stars, always.
	resp, err := browser.PostForm(b.url("/login"), url.Values{"username": {"jason"}, "passwd": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for range 10 {
		if page := fetch(t, browser, b.url("/productpage")); !strings.Contains(page, `<span class="name">jason`) || !strings.Contains(page, `stars black`) {
			t.Fatal("jason does not see v2")
		}
	}
	for path, want := range map[string]string{
		"/":                          "A simple bookstore",
		"/health":                    "Product page is healthy",
		"/api/v1/products":           "The Comedy of Errors",
		"/api/v1/products/0":         `"ISBN-10":"1234567890"`,
		"/api/v1/products/0/ratings": `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`,
		"/metrics":                   `request_result_total{destination_app="reviews",response_code="200"}`,
		"/static/style.css":          "font",
	} {
		if got := fetch(t, browser, b.url(path)); !strings.Contains(got, want) {
			t.Errorf("%s: %.300s", path, got)
		}
	}
	for _, i := range b.instances {
		for page, want := range map[string]string{"/config_dump": `outbound|9080|v2|reviews.default.svc.cluster.local`,
			"/certs": "spiffe://cluster.local/ns/default/sa/bookinfo-" + i.service} {
			if got := fetch(t, browser, i.admin()+page); !strings.Contains(got, want) {
				t.Errorf("%s of %s: %.300s", page, i.name, got)
			}
		}
	}
}

// load calls reviews through productpage 200 times a second until stop is called.
type load struct {
	mu       sync.Mutex
	lastV1   time.Time
	count    map[string]int
	failures atomic.Int64
	stop     func()
}

func newLoad(t *testing.T, u string) *load {
	t.Helper()
	l := &load{count: make(map[string]int)}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	one := func() {
		resp, err := client.Get(u)
		if err != nil {
			l.failures.Add(1)
			t.Log(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		v := version(string(body))
		if err != nil || resp.StatusCode != http.StatusOK || v == "broken" {
			l.failures.Add(1)
			t.Logf("%s %v %.200s", resp.Status, err, body)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count[v]++
		if v == "v1" {
			l.lastV1 = time.Now()
		}
	}
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		slots := make(chan struct{}, 64)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				slots <- struct{}{}
				wg.Go(func() { one(); <-slots })
			}
		}
	})
	l.stop = func() { cancel(); wg.Wait(); client.CloseIdleConnections() }
	t.Cleanup(l.stop)
	return l
}

// total waits until n answers have come since.
func (l *load) wait(t *testing.T, n int) {
	t.Helper()
	sum := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.count["v1"] + l.count["v2"] + l.count["v3"]
	}
	until := sum() + n
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for sum() < until {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the load does not get through")
		}
	}
}

// TestCanaryUnderLoad: the shares are edited from 80/20 to 0/100 while 200 requests a second go through:
// none fails, and the last answer of v1 comes within a second. Then a broken file is saved: nothing fails
// and nothing changes, and the status names file and line.
//
// It is not parallel to others: a second is short on a machine that is busy with starting Java.
func TestCanaryUnderLoad(t *testing.T) {
	b := running(t, off)
	l := newLoad(t, b.url("/api/v1/products/0/reviews"))
	l.wait(t, 200)
	file := filepath.Join(b.dir, "reviews.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	if l.count["v1"] == 0 || l.count["v3"] == 0 || l.count["v2"] != 0 {
		t.Errorf("before: %v", l.count)
	}
	l.mu.Unlock()
	next := strings.NewReplacer("weight: 80", "weight: 0", "weight: 20", "weight: 100").Replace(string(text))
	saved := time.Now()
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	l.wait(t, 400)
	l.mu.Lock()
	if late := l.lastV1.Sub(saved); late > time.Second {
		t.Errorf("v1 still answered %v after the file was saved", late)
	}
	l.count = map[string]int{}
	l.mu.Unlock()

	if err := os.WriteFile(file, []byte(strings.Replace(next, "route:", "rout:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	status := awaitRefusal(t, b)
	l.wait(t, 200)
	l.stop()
	if l.failures.Load() != 0 {
		t.Errorf("%d calls failed", l.failures.Load())
	}
	if l.count["v1"] != 0 || l.count["v3"] == 0 {
		t.Errorf("a broken file changed the shares: %v", l.count)
	}
	if !strings.Contains(status, "reviews.yaml") || !strings.Contains(status, `"line":16`) || !strings.Contains(status, `did you mean \"route\"`) {
		t.Errorf("status %.2000s", status)
	}
}

// awaitRefusal waits until productpage's status speaks of a refused configuration.
func awaitRefusal(t *testing.T, b *bookinfo) string {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		body := fetch(t, http.DefaultClient, b.instances[0].admin()+"/config_dump")
		var s struct{ Refused json.RawMessage }
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Refused) > 0 && string(s.Refused) != "null" {
			var refused bytes.Buffer
			if err := json.Compact(&refused, s.Refused); err != nil {
				t.Fatal(err)
			}
			return refused.String()
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the broken file was not noticed")
		}
	}
}

// TestNothingIsLeft: after stop no process lives and no port is held.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	before, sockets := b.list(), listening(t)
	b.stop()
	left := listening(t)
	for n, i := range b.instances {
		for _, pid := range []int{before[n].app, before[n].sidecar} {
			if pid != 0 && alive(pid) {
				t.Errorf("%s: process %d lives", i.name, pid)
			}
		}
		for _, addr := range []string{i.address(), i.process().admin, i.process().behind} {
			if addr == "" {
				continue
			}
			if socket, ok := sockets[addr]; !ok && sockets != nil {
				t.Errorf("%s did not listen on %s", i.name, addr)
			} else if ok && left[addr] == socket {
				t.Errorf("%s still listens on %s", i.name, addr)
			}
		}
	}
	for _, dir := range []string{b.dir, b.place.scripts, b.issuer.dir} {
		if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
			t.Errorf("%s is still there", dir)
		}
	}
}

// listening names the socket behind each IPv4 address of the machine that is listened on: a port of ours may be somebody else's a
// moment after it is let go. It is nil where the system does not say.
func listening(t *testing.T) map[string]string {
	t.Helper()
	sockets := map[string]string{}
	for file, mapped := range map[string]string{"/proc/net/tcp": "", "/proc/net/tcp6": "0000000000000000FFFF0000"} {
		table, err := os.ReadFile(file)
		if err != nil && mapped == "" {
			t.Logf("not looked at who listens: %v", err)
			return nil
		}
		for line := range strings.Lines(string(table)) {
			const local, state, inode = 1, 3, 9
			f := strings.Fields(line)
			if len(f) <= inode || f[state] != "0A" {
				continue
			}
			var ip [4]byte
			var port uint16
			addr := strings.TrimPrefix(f[local], mapped)
			if len(addr) != len("0100007F:0050") {
				continue
			}
			if _, err := fmt.Sscanf(addr, "%02X%02X%02X%02X:%04X", &ip[3], &ip[2], &ip[1], &ip[0], &port); err != nil {
				t.Fatalf("%q: %v", addr, err)
			}
			sockets[netip.AddrPortFrom(netip.AddrFrom4(ip), port).String()] = f[inode]
		}
	}
	return sockets
}

func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

// TestPortTaken: an address in use is an error that names it, and leaves nothing behind.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, languages := range []choice{off, auto} {
		_, err := start(t.Context(), settings{addr: l.Addr().String(), languages: languages, stderr: io.Discard})
		if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("%s: got %v", languages, err)
		}
	}
}
