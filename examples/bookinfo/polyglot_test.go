package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needs skips a test where a language is missing.
func needs(t *testing.T, languages ...*language) {
	t.Helper()
	if _, missing := find(t.Context(), languages); len(missing) > 0 {
		for l, err := range missing {
			t.Logf("%s: %v", l.name, err)
		}
		t.Skip("a language is missing")
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(what)
		}
	}
}

// logged reports whether an instance has written a line with all the parts.
func (b *bookinfo) logged(name string, parts ...string) bool {
	return slices.ContainsFunc(b.log(name), func(line string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
	})
}

// TestPolyglot: whatever is installed runs behind its sidecar, by the same rules, and the page says who answered.
func TestPolyglot(t *testing.T) {
	t.Parallel()
	needs(t, python, node)
	b := running(t, require)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	page := fetch(t, client, b.url("/productpage"))
	for _, want := range []string{"<b>productpage-v1</b> Python", "<b>details-v1", "<b>reviews-v", "Reviewer1", "Sign in"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}

	const trace = "0af7651916cd43dd8448eb211c80319c"
	answered := map[string]bool{}
	ask := func(path string) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url(path), http.NoBody)
		req.Header.Set("Cookie", "session=jason")
		req.Header.Set("traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if strings.HasSuffix(path, "reviews") && version(string(body)) != "v2" {
			t.Errorf("jason got %d %s", resp.StatusCode, body)
		}
		for _, by := range strings.Split(resp.Header.Get(served), ", ") {
			name, _, _ := strings.Cut(by, " ")
			answered[name] = true
		}
	}
	for range 40 {
		ask("/api/v1/products/0")
		ask("/api/v1/products/0/reviews")
	}
	for _, i := range b.list() {
		if want := i.service != "reviews" || i.version == "v2"; answered[i.name] != want {
			t.Errorf("%s (%s) answered jason: %v", i.name, i.runtime, !want)
		}
		if answered[i.name] {
			eventually(t, i.name+" has not heard of the trace", func() bool { return b.logged(i.name, "traceparent=00-"+trace) })
		}
	}
	req := regexp.MustCompile(`x-request-id=([0-9a-f-]{36}) `)
	var id string
	for _, line := range b.log("productpage-v1") {
		if m := req.FindStringSubmatch(line); m != nil && strings.Contains(line, "/reviews ") {
			id = m[1]
		}
	}
	eventually(t, "the request's id is not the same everywhere", func() bool { return id != "" && b.logged("ratings-v1", "x-request-id="+id) })
	if got := fetch(t, client, b.adminURL("ratings-v1")+"/server_info"); !strings.Contains(got, "bookinfo-ratings") {
		t.Errorf("/server_info %s", got)
	}
}

// TestKillAndRestart: without ratings the reviews say so, at once, and the stars come back with it.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	for _, languages := range []choice{off, auto} {
		t.Run(string(languages), func(t *testing.T) {
			t.Parallel()
			if languages == auto {
				needs(t, node)
			}
			b := running(t, languages)
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			stars := func() string {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url("/api/v1/products/0/reviews"), http.NoBody)
				req.Header.Set("Cookie", "session=jason")
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if bytes.Contains(body, []byte("Ratings service is currently unavailable")) {
					return "unavailable"
				}
				return version(string(body))
			}
			endings := map[string]func(string) error{"kill": b.kill, "killInstance": b.killInstance,
				"signal": func(name string) error { return b.signal(name, syscall.SIGTERM) }}
			for what, end := range endings {
				if got := stars(); got != "v2" {
					t.Fatalf("before %s: %s", what, got)
				}
				before := b.list()[len(b.instances)-1]
				if err := b.restart(t.Context(), "ratings-v1"); err == nil {
					t.Error("restarted while it runs")
				}
				if err := end("ratings-v1"); err != nil {
					t.Fatal(err)
				}
				if err := b.awaitEnd(t.Context(), "ratings-v1"); err != nil {
					t.Fatal(err)
				}
				for _, pid := range []int{before.app, before.sidecar} {
					eventually(t, fmt.Sprintf("%s: process %d lives", what, pid), func() bool { return pid == 0 || !alive(pid) })
				}
				if got := stars(); got != "unavailable" {
					t.Errorf("after %s: %s", what, got)
				}
				if err := b.kill("ratings-v1"); err == nil {
					t.Error("killed what is dead")
				}
				if err := b.restart(t.Context(), "ratings-v1"); err != nil {
					t.Fatal(err)
				}
				if after := b.list()[len(b.instances)-1]; after.addr != before.addr || after.app == before.app || after.app == 0 {
					t.Errorf("%s: before %+v, after %+v", what, before, after)
				}
			}
			if got := stars(); got != "v2" {
				t.Errorf("after all: %s", got)
			}
			select {
			case err := <-b.died:
				t.Errorf("taken for an accident: %v", err)
			default:
			}
			if err := b.kill("nobody"); err == nil || b.adminURL("nobody") != "" || b.log("nobody") != nil {
				t.Errorf("nobody: %v", err)
			}
		})
	}
}

// TestComesBack: an instance whose address or port is lost comes back on another; one that ends by itself is reported.
func TestComesBack(t *testing.T) {
	t.Parallel()
	b := running(t, auto)
	i, err := b.find("ratings-v1")
	if err != nil {
		t.Fatal(err)
	}

	before := i.address()
	if err := b.killInstance(i.name); err != nil {
		t.Fatal(err)
	}
	if err := b.awaitEnd(t.Context(), i.name); err != nil {
		t.Fatal(err)
	}
	var taken net.Listener
	eventually(t, "the address is not free", func() bool {
		taken, err = net.Listen("tcp", before)
		return err == nil
	})
	defer taken.Close()
	if err := b.restart(t.Context(), i.name); err != nil {
		t.Fatal(err)
	}
	if i.address() == before {
		t.Errorf("again at %s", before)
	}
	if got := fetch(t, http.DefaultClient, b.url("/api/v1/products/0/ratings")); !strings.Contains(got, "Reviewer1") {
		t.Errorf("ratings: %s", got)
	}

	if i.interpreter != nil { // its program ends before it has answered
		lost := i.process()
		if err := b.kill(i.name); err != nil {
			t.Fatal(err)
		}
		if err := b.settle(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		if p := i.process(); p == lost || p.behind == lost.behind {
			t.Errorf("still %s", p.behind)
		}
	}

	p := i.process()
	if p.killProgram(); i.interpreter == nil {
		_ = p.cmd.Process.Kill()
	}
	select {
	case err := <-b.died:
		if !strings.Contains(err.Error(), i.name) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed")
	}
}

// TestNoOrphans: when the program is killed, so that it can end nothing, everything ends all the same.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir() // for what it cannot take away
	cmd := exec.Command(self, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+temp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	processes := regexp.MustCompile(` (\d+)(?:, proxy (\d+))?$`)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Stop") {
		if m := processes.FindStringSubmatch(lines.Text()); m != nil && strings.Contains(lines.Text(), "http://") {
			for _, s := range m[1:] {
				if pid, err := strconv.Atoi(s); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(pids) < 6 {
		t.Errorf("processes %v", pids)
	}
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d lives", pid), func() bool { return !alive(pid) })
	}
}

// TestLanguages: what is missing, too old or broken is left out and told, or is an error where it is required.
func TestLanguages(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	tool := func(name, text string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tool("python3", "echo 3.6.1; echo /bin/sh")
	tool("ruby", "echo broken >&2; exit 1")
	tool("java", "echo jdk.compiler not found; exit 1")
	all, notes, err := cast(t.Context(), auto)
	if err != nil || len(all) != 6 || len(notes) != 4 {
		t.Fatalf("%d instances, %q, %v", len(all), notes, err)
	}
	for n, want := range []string{"is 3.6.1, at least 3.9 is needed", "there is no node in PATH", "broken", "jdk.compiler not found"} {
		if !strings.Contains(notes[n], want) || !strings.Contains(notes[n], "in Go instead") {
			t.Errorf("%q does not say %q", notes[n], want)
		}
	}
	if _, _, err = cast(t.Context(), require); err == nil || !strings.Contains(err.Error(), "-polyglot=require: no Python: ") {
		t.Errorf("required: %v", err)
	}
	tool("python3", "echo 3.9.0rc1; echo /opt/py")
	tool("node", "echo 18.0.0; echo /opt/node")
	all, notes, err = cast(t.Context(), require)
	if err != nil || len(all) != 6 || len(notes) != 2 || all[0].program() != "Python 3.9.0rc1" || all[0].interpreter.program != "/opt/py" {
		t.Errorf("%d instances, %q, %v", len(all), notes, err)
	}
	if all, notes, err = cast(t.Context(), off); err != nil || len(all) != 6 || len(notes) != 0 {
		t.Errorf("off: %d instances, %q, %v", len(all), notes, err)
	}
	var c choice
	if c.Set("maybe") == nil || c.Set("require") != nil || c != require {
		t.Errorf("choice %q", c)
	}
}

// TestBrokenProgram: a program that does not come up ends the start with what it said.
func TestBrokenProgram(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	const text = "#!/bin/sh\nif [ \"$1\" = -e ]; then echo 20.0.0; else echo 'cannot do that' >&2; exit 3; fi\n"
	if err := os.WriteFile(filepath.Join(bin, "node"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, stderr: io.Discard})
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "ratings-v1 (Node 20.0.0) did not become ready") || !strings.Contains(err.Error(), "cannot do that") {
		t.Errorf("got %v", err)
	}
}

// TestRefusedConfiguration: what is wrong with the user's own rules is told once.
func TestRefusedConfiguration(t *testing.T) {
	t.Parallel()
	for _, languages := range []choice{off, auto} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hots: [a]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		_, err := start(t.Context(), settings{addr: "127.0.0.1:0", dir: dir, languages: languages, stderr: &out})
		if err == nil || strings.Count(err.Error()+out.String(), "spec.hots") != 1 || !strings.Contains(err.Error(), "mine.yaml:4") {
			t.Errorf("%s: %v\n%s", languages, err, out.String())
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	var l lines
	w := &lineWriter{line: l.add}
	for n := range keptLines + 2 {
		fmt.Fprintf(w, "%d\r\n", n)
	}
	_, _ = io.WriteString(w, "in ")
	_, _ = io.WriteString(w, "pieces\n"+strings.Repeat("x", 2*longestLine)+"y\nlast")
	all := l.all()
	if len(all) != keptLines || all[0] != "4" || all[keptLines-2] != "in pieces" || len(all[keptLines-1]) != longestLine {
		t.Errorf("%d lines: %q … %.20q", len(all), all[0], all[keptLines-2:])
	}
	for line, want := range map[string][2]bool{
		"Traceback": {true, true},
		`time=2026 level=INFO msg="heddle proxy is ready"`:    {false, false},
		`time=2026 level=INFO msg="mesh configuration live"`:  {false, true},
		`time=2026 level=WARN msg="answered by the proxy"`:    {false, true},
		"Picked up JAVA_TOOL_OPTIONS: -Dhttp.proxyHost=::1 …": {false, false},
	} {
		if got := [2]bool{audible(line, false), audible(line, true)}; got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// TestStopEarly: a start that is called off leaves nothing.
func TestStopEarly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	b, err := start(ctx, settings{addr: "127.0.0.1:0", dir: dir, languages: auto, stderr: io.Discard})
	if err == nil {
		b.stop()
		t.Skip("it was quicker")
	}
	if _, err := os.Stat(filepath.Join(dir, servicesFile)); err == nil {
		t.Error("services.yaml is still there")
	}
}
