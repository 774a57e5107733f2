package runtime

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/snapshot"
)

// A journal keeps what is logged, a line each.
type journal struct {
	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

func newJournal() (*journal, *slog.Logger) {
	j := &journal{news: make(chan struct{}, 1)}
	return j, slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	j.lines = append(j.lines, string(bytes.TrimSpace(p)))
	j.mu.Unlock()
	select {
	case j.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// next waits for a line, which must have all the parts.
func (j *journal) next(t *testing.T, parts ...string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		j.mu.Lock()
		if len(j.lines) > 0 {
			line := j.lines[0]
			j.lines = j.lines[1:]
			j.mu.Unlock()
			for _, p := range parts {
				if !strings.Contains(line, p) {
					t.Errorf("logged %s\nwithout %q", line, p)
				}
			}
			return
		}
		j.mu.Unlock()
		select {
		case <-j.news:
		case <-deadline:
			t.Fatalf("nothing was logged, want %q", parts)
		}
	}
}

func (j *journal) nothing(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) > 0 {
		t.Errorf("logged %q", j.lines)
	}
}

func service(name, spec string) string {
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + name +
		".default.svc.cluster.local]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n" + spec
}

const static = "  resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]\n"

func save(t *testing.T, name, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(name), ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, name); err != nil { // at one stroke: every line of the log is accounted for
		t.Fatal(err)
	}
}

// TestLogTellsEachConfiguration: one line for what went live or was refused, whoever brought it.
func TestLogTellsEachConfiguration(t *testing.T) {
	t.Parallel()
	j, log := newJournal()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	good := service("a", static)
	warned := service("a", static+"  subjectAltNames: [\"*.x\"]\n")
	save(t, file, good)
	r, err := New(t.Context(), Options{Logger: log, Sources: []config.Source{config.WatchPaths(dir)}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j.next(t, "level=INFO", "configuration live", "version=1", "documents=1")
	j.nothing(t)

	save(t, file, strings.Replace(good, "ports", "prots", 1))
	j.next(t, "level=ERROR", "refused, the last good one keeps serving", "version=1", file+":6:3", "prots")
	if s := r.Status(); s.Refused == nil || s.Version != "1" {
		t.Errorf("%+v", s)
	}
	save(t, file, good)
	j.next(t, "level=INFO", "configuration live", "version=1")
	if s := r.Status(); s.Refused != nil {
		t.Errorf("%+v", s)
	}
	save(t, file, warned)
	j.next(t, "configuration live", "version=2")
	j.next(t, "level=WARN", "finding", "subjectAltNames")

	var refused *config.ConfigError
	if err := r.Apply(t.Context(), []byte("[")); !errors.As(err, &refused) {
		t.Errorf("Apply: %v", err)
	}
	j.next(t, "level=ERROR", "<inline 1>:1:1")
	if err := r.Apply(t.Context(), []byte(service("b", static))); err != nil {
		t.Error(err)
	}
	j.next(t, "configuration live", "version=3", "documents=2") // the warning is known
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	j.next(t, "level=ERROR", dir+") cannot read", "version=3")
	j.nothing(t)
}

// TestStrictWithoutIdentity: a program that can let nobody in is told so, by whatever policy it is, once.
func TestStrictWithoutIdentity(t *testing.T) {
	t.Parallel()
	policy := func(name, namespace, spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: " + spec + "\n"
	}
	const mine = "selector: {matchLabels: {app: web}}, "
	for name, c := range map[string]struct {
		docs []string
		want string // of the warning, "" for none
	}{
		"nothing":           {[]string{policy("a", "shop", "{}")}, ""},
		"mesh":              {[]string{policy("a", "istio-system", "{mtls: {mode: STRICT}}")}, `"PeerAuthentication istio-system/a`},
		"namespace":         {[]string{policy("a", "shop", "{mtls: {mode: STRICT}}")}, `every caller: `},
		"another namespace": {[]string{policy("a", "prod", "{mtls: {mode: STRICT}}")}, ""},
		"workload":          {[]string{policy("a", "shop", "{"+mine+"mtls: {mode: STRICT}}")}, `"PeerAuthentication shop/a`},
		"another workload":  {[]string{policy("a", "shop", "{selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}")}, ""},
		"port":              {[]string{policy("a", "shop", "{"+mine+"portLevelMtls: {8080: {mode: STRICT}}}")}, `every caller of some ports`},
		"port, under a namespace": {[]string{policy("a", "shop", "{mtls: {mode: PERMISSIVE}}"),
			policy("b", "shop", "{"+mine+"portLevelMtls: {8080: {mode: STRICT}}}")}, `"PeerAuthentication shop/b`},
		"workload over mesh": {[]string{policy("a", "istio-system", "{mtls: {mode: STRICT}}"), policy("b", "shop", "{"+mine+"mtls: {mode: DISABLE}}")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, log := newJournal()
			var docs [][]byte
			for _, d := range c.docs {
				docs = append(docs, []byte(d))
			}
			r, err := New(t.Context(), Options{Logger: log, Inline: docs,
				Config: config.Options{Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			told := func() (n int) {
				j.mu.Lock()
				defer j.mu.Unlock()
				for _, line := range j.lines {
					if strings.Contains(line, "mesh refuses") && strings.Contains(line, c.want) {
						n++
					}
				}
				return n
			}
			want := min(len(c.want), 1)
			if n := told(); n != want {
				t.Errorf("told %d times, want %d: %q", n, want, j.lines)
			}
			if err := r.Apply(t.Context(), append(docs, []byte(service("a", static)))...); err != nil {
				t.Fatal(err)
			}
			if n := told(); n != want {
				t.Errorf("after another configuration told %d times", n)
			}
		})
	}
}

// TestRefusedFirst: the error of New says it all, and nothing is left.
func TestRefusedFirst(t *testing.T) {
	before := goruntime.NumGoroutine()
	j, log := newJournal()
	_, err := New(t.Context(), Options{Logger: log, Sources: []config.Source{config.WatchPaths(filepath.Join(t.TempDir(), "no"))}})
	var refused *config.ConfigError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
	j.nothing(t)
	awaitGoroutines(t, before)
}

func awaitGoroutines(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); goruntime.NumGoroutine() > most; goruntime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", goruntime.NumGoroutine(), most, buf[:goruntime.Stack(buf, true)])
		}
	}
}

type resolver func(ctx context.Context, host string) ([]netip.Addr, error)

func (f resolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	return f(ctx, host)
}

// TestDNSServices: the first call waits for the first answer, fails fast where there is none, and gives up
// with its own context; closing ends the lookups.
func TestDNSServices(t *testing.T) {
	before := goruntime.NumGoroutine()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	_, log := newJournal()
	dns := "  resolution: DNS\n  endpoints: [{address: %, ports: {http: " + port + "}}]\n"
	r, err := New(t.Context(), Options{Logger: log, Inline: [][]byte{
		[]byte(service("slow", strings.Replace(dns, "%", "slow.example", 1))),
		[]byte(service("never", strings.Replace(dns, "%", "never.example", 1))),
		[]byte(service("nx", strings.Replace(dns, "%", "nx.example", 1))),
	}, Resolver: resolver(func(ctx context.Context, host string) ([]netip.Addr, error) {
		switch host {
		case "slow.example":
			once.Do(func() { close(asked) })
			<-answer
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		case "never.example":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	})})
	if err != nil {
		t.Fatal(err)
	}
	get := func(ctx context.Context, host string) error {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host, nil)
		resp, err := r.RoundTripper.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	first := make(chan error)
	go func() { first <- get(context.Background(), "slow") }()
	<-asked
	close(answer)
	if err := <-first; err != nil {
		t.Errorf("slow: %v", err)
	}
	if err := get(t.Context(), "nx"); call.ReasonOf(err) != call.ReasonNoEndpoint || !strings.Contains(err.Error(), "lookup nx.example: no such host") {
		t.Errorf("nx: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := get(ctx, "never"); call.ReasonOf(err) != call.ReasonCanceled || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("never: %v", err)
	}
	r.Close()
	if err := get(t.Context(), "never"); call.ReasonOf(err) != call.ReasonClosed {
		t.Errorf("after Close: %v", err)
	}
	s.Close()
	awaitGoroutines(t, before)
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                       "ip",
		"127.0.0.1/8 ::1/128":    "ip",
		"127.0.0.1/8 10.0.0.1/8": "ip4",
		"127.0.0.1/8 ::1/128 10.0.0.1/8 fe80::1/64": "ip4",
		"10.0.0.1/8 2001:db8::1/64":                 "ip",
		"127.0.0.1/8 fd00::1/64":                    "ip6",
	} {
		var addrs []net.Addr
		for s := range strings.FieldsSeq(list) {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := families(addrs); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
	if got := lookupNetwork(); !strings.HasPrefix(got, "ip") {
		t.Errorf("this machine: %q", got)
	}
}
