package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs in other languages do what those in Go do: each is run alone, without a sidecar, and asked the
// same. What they call is a proxy of the test's own, which they know by their environment.

// backends stands for the services that are called, by name. What they answer depends on the product.
type backends struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]http.Header // by URL: the last request
	n    map[string]int
}

const evil = `"'><img src=x onerror=alert(1)>{{title}}&amp;`

func newBackends(t *testing.T) *backends {
	t.Helper()
	b := &backends{seen: make(map[string]http.Header), n: make(map[string]int)}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.seen[r.URL.String()] = r.Header
		b.n[r.URL.String()]++
		b.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		service, _, _ := strings.Cut(r.URL.Host, ":")
		w.Header().Set("x-served-by", service+"-v9 (Test 1)")
		switch r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] {
		case "1":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "2":
			_, _ = io.WriteString(w, "no JSON")
		case "3":
			_, _ = fmt.Fprintf(w, `{"id":3,"ratings":{"Reviewer1":0}}`)
		case "4":
			if hj, ok := w.(http.Hijacker); ok {
				c, _, _ := hj.Hijack()
				_ = c.Close()
			}
		case "5": // says nothing until the caller has gone
			<-r.Context().Done()
		default:
			b.answer(w, r, service)
		}
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backends) answer(w http.ResponseWriter, r *http.Request, service string) {
	bad := r.Header.Get("end-user") == "mallory"
	switch service {
	case "ratings":
		_, _ = io.WriteString(w, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`)
	case "details":
		d := details{Author: "A", Year: 1595, Type: "paperback", Pages: 200, Publisher: "P", Language: "L", ISBN10: "1", ISBN13: "2"}
		if bad {
			d.Author, d.Publisher = evil, evil
		}
		_ = json.NewEncoder(w).Encode(d)
	case "reviews":
		a := reviewsAnswer{ID: "0", Podname: "pod", Clustername: "null", Reviews: []review{
			{Reviewer: "R1", Text: "T1", Rating: &rating{Stars: new(5), Color: "red"}},
			{Reviewer: "R2", Text: "T2", Rating: &rating{Stars: new(0), Color: "black"}},
			{Reviewer: "R3", Text: "T3", Rating: &rating{Error: "Ratings service is currently unavailable"}},
			{Reviewer: "R4", Text: "T4"}}}
		if bad {
			w.Header().Set("x-served-by", evil+" (a<b>)")
			a.Podname = evil
			a.Reviews = []review{{Reviewer: evil, Text: evil, Rating: &rating{Stars: new(99), Color: evil}}, {Rating: &rating{Error: evil}}}
		}
		_ = json.NewEncoder(w).Encode(a)
	}
}

func (b *backends) last(u string) (header http.Header, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[u], b.n[u]
}

// inGo serves a service in the test's process, with the proxy in place of the mesh.
func inGo(t *testing.T, service, version string, b *backends) string {
	t.Helper()
	proxy, _ := url.Parse(b.URL)
	calls := &caller{client: &http.Client{Transport: &tracing{&http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}}}
	mux := http.NewServeMux()
	if service == "reviews" {
		s := newReviews(calls, version)
		s.stars, s.color, s.timeout = true, "red", 2500*time.Millisecond
		s.register(mux)
	} else {
		mux = routes(service, version, calls)
	}
	srv := httptest.NewServer(identified(service, version, mux))
	t.Cleanup(srv.Close)
	return srv.URL
}

// tracing passes on what the mesh would: the headers that the test sends.
type tracing struct{ next http.RoundTripper }

func (t *tracing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range sent {
		r.Header[http.CanonicalHeaderKey(k)] = []string{v}
	}
	return t.next.RoundTrip(r)
}

// A script is a program of another language that runs alone.
type script struct {
	cmd  *exec.Cmd
	url  string
	text *bytes.Buffer
}

// alone runs a language's program, or skips the test.
func alone(t *testing.T, l *language, b *backends) *script {
	t.Helper()
	i, err := l.find(t.Context())
	if err != nil {
		t.Skip(err)
	}
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	args := i.command("polyglot/"+l.script, port)
	s := &script{cmd: exec.Command(args[0], args[1:]...), url: "http://" + addr, text: &bytes.Buffer{}}
	host, proxyPort, _ := net.SplitHostPort(strings.TrimPrefix(b.URL, "http://"))
	s.cmd.Env = append(os.Environ(), "http_proxy="+b.URL, "no_proxy=127.0.0.1", "SERVICE_VERSION=v2", "ENABLE_RATINGS=true", "STAR_COLOR=red",
		"JAVA_TOOL_OPTIONS=-Dhttp.proxyHost="+host+" -Dhttp.proxyPort="+proxyPort)
	s.cmd.Stdout, s.cmd.Stderr = s.text, s.text
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			if s.cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("%s after SIGTERM: %v\n%s", l.script, s.cmd.ProcessState, s.text)
			}
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
			<-ended
			t.Errorf("%s does not end after SIGTERM", l.script)
		}
	})
	p := &process{exited: ended}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := p.poll(ctx, s.url+"/health", func([]byte) error { return nil }); err != nil {
		t.Fatalf("%v\n%s", err, s.text)
	}
	return s
}

// sent are the headers of every request of the table.
var sent = map[string]string{
	"x-request-id": "id-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b",
	"x-b3-traceid": "1", "x-ot-span-context": "2", "x-datadog-trace-id": "3", "x-cloud-trace-context": "4",
	"grpc-trace-bin": "5", "sw8": "6", "x-b3-sampled": "1", "x-b3-flags": "0", "x-b3-spanid": "7", "x-b3-parentspanid": "8",
	"x-datadog-parent-id": "9", "x-datadog-sampling-priority": "1", "user-agent": "shape", "authorization": "Bearer b", "jwt": "j",
}

// A question is one request of the table.
type question struct {
	method, path string
	body         string
	cookie       string
	status       bool // only the status counts: the words are each server's own
}

type told struct {
	status         int
	kind, location string
	cookie         string
	served         string
	body           string
}

var runtimeName = regexp.MustCompile(`\b(Go|Python|Node|Ruby|Java) [\w.+-]+|</b> (Go|Python|Node|Ruby|Java) [\w.+-]+`)

func (q question) ask(t *testing.T, base string) told {
	t.Helper()
	req, err := http.NewRequest(q.method, base+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range sent {
		req.Header.Set(k, v)
	}
	if q.cookie != "" {
		req.Header.Set("Cookie", q.cookie)
	}
	if q.body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // no redirect is followed
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	if q.method != http.MethodHead && resp.ContentLength < 0 && resp.StatusCode == http.StatusOK && len(body) < 2000 {
		t.Errorf("%s %s: no Content-Length", q.method, q.path)
	}
	if q.status {
		return told{status: resp.StatusCode}
	}
	a := told{status: resp.StatusCode, kind: resp.Header.Get("Content-Type"), location: resp.Header.Get("Location"),
		served: runtimeName.ReplaceAllString(resp.Header.Get(served), "X"), body: runtimeName.ReplaceAllString(string(body), "X")}
	if c := resp.Cookies(); len(c) == 1 {
		a.cookie = fmt.Sprintf("%s=%s %s %v %v %v", c[0].Name, c[0].Value, c[0].Path, c[0].HttpOnly, c[0].SameSite, c[0].MaxAge)
	}
	if a.status == http.StatusFound {
		a.kind, a.body = "", ""
	}
	return a
}

// alike compares two answers, JSON by its meaning.
func alike(a, b told) bool {
	if a.kind == "application/json" && b.kind == a.kind {
		var va, vb any
		if json.Unmarshal([]byte(a.body), &va) == nil && json.Unmarshal([]byte(b.body), &vb) == nil && reflect.DeepEqual(va, vb) {
			a.body, b.body = "", ""
		}
	}
	return a == b
}

func compare(t *testing.T, l *language, service, version string, table []question) *backends {
	t.Helper()
	b := newBackends(t)
	s := alone(t, l, b)
	reference := inGo(t, service, version, b)
	for _, q := range table {
		want, got := q.ask(t, reference), q.ask(t, s.url)
		if !alike(want, got) {
			t.Errorf("%s %s %s:\n%+v\nin Go:\n%+v", q.method, q.path, q.body, got, want)
		}
	}
	return b
}

func TestRatingsInNode(t *testing.T) {
	t.Parallel()
	compare(t, node, "ratings", "v1", []question{
		{method: "GET", path: "/health"}, {method: "GET", path: "/ratings/0"}, {method: "GET", path: "/ratings/7?x=1"}, {method: "HEAD", path: "/ratings/0", status: true},
		{method: "GET", path: "/ratings/x"}, {method: "GET", path: "/ratings/-1"}, {method: "GET", path: "/ratings/1.5"}, {method: "GET", path: "/ratings/1234567890"}, {method: "GET", path: "/ratings/007"},
		{method: "POST", path: "/ratings/0", body: `{"Reviewer1":1,"Reviewer2":2}`}, {method: "GET", path: "/ratings/0"}, {method: "GET", path: "/ratings/7"},
		{method: "POST", path: "/ratings/1", body: `{}`}, {method: "GET", path: "/ratings/1"}, {method: "POST", path: "/ratings/x", body: `{}`},
		{method: "POST", path: "/ratings/0", body: `{`}, {method: "POST", path: "/ratings/0", body: `[1]`}, {method: "POST", path: "/ratings/0", body: `null`}, {method: "POST", path: "/ratings/0", body: `{} {}`},
		{method: "POST", path: "/ratings/0", body: `{"a":"b"}`}, {method: "POST", path: "/ratings/0", body: `{"a":1.5}`}, {method: "POST", path: "/ratings/0"},
		{method: "POST", path: "/ratings/0", body: `{"a":` + strings.Repeat(" ", 70<<10) + `1}`, status: true}, {method: "POST", path: "/ratings/2", body: `{"__proto__":1}`}, {method: "GET", path: "/ratings/2"},
		{method: "GET", path: "/ratings/0"}, {method: "DELETE", path: "/ratings/0", status: true}, {method: "GET", path: "/", status: true}, {method: "GET", path: "/ratings/", status: true}, {method: "GET", path: "/ratings/0/x", status: true},
	})
}

func TestDetailsInRuby(t *testing.T) {
	t.Parallel()
	compare(t, ruby, "details", "v1", []question{
		{method: "GET", path: "/health"}, {method: "GET", path: "/details/0"}, {method: "GET", path: "/details/42?x=1"}, {method: "HEAD", path: "/details/0", status: true},
		{method: "GET", path: "/details/x"}, {method: "GET", path: "/details/-1"}, {method: "GET", path: "/details/1234567890"}, {method: "GET", path: "/details/007"},
		{method: "GET", path: "/details/0", body: "a body that nobody reads"}, {method: "GET", path: "/details/1"},
		{method: "POST", path: "/details/0", status: true}, {method: "GET", path: "/", status: true}, {method: "GET", path: "/details/", status: true},
	})
}

func TestReviewsInJava(t *testing.T) {
	t.Parallel()
	b := compare(t, java, "reviews", "v2", []question{
		{method: "GET", path: "/health"}, {method: "GET", path: "/reviews/0", cookie: "session=jason"}, {method: "GET", path: "/reviews/007"}, {method: "HEAD", path: "/reviews/0", status: true},
		{method: "GET", path: "/reviews/1"}, {method: "GET", path: "/reviews/2"}, {method: "GET", path: "/reviews/3"}, {method: "GET", path: "/reviews/4"},
		{method: "GET", path: "/reviews/x"}, {method: "GET", path: "/reviews/-1"}, {method: "GET", path: "/reviews/1234567890"},
		{method: "POST", path: "/reviews/0", status: true}, {method: "GET", path: "/", status: true},
	})
	header, _ := b.last("http://ratings:9080/ratings/0")
	for k, v := range sent {
		if got := header.Get(k); got != v {
			t.Errorf("%s arrived as %q", k, got)
		}
	}
}

func TestProductpageInPython(t *testing.T) {
	t.Parallel()
	b := compare(t, python, "productpage", "v1", []question{
		{method: "GET", path: "/health"}, {method: "GET", path: "/"}, {method: "GET", path: "/index.html"}, {method: "HEAD", path: "/productpage", status: true},
		{method: "GET", path: "/productpage"}, {method: "GET", path: "/productpage?u=normal"}, {method: "GET", path: "/productpage", cookie: "a=b; session=jason"},
		{method: "GET", path: "/productpage", cookie: "session=mallory"}, {method: "GET", path: "/productpage", cookie: "session=" + url.QueryEscape(evil)},
		{method: "GET", path: "/productpage", cookie: "session=%C3%BC+%E2%82%AC"}, {method: "GET", path: "/productpage", cookie: "session=a%0Ab"}, {method: "GET", path: "/productpage", cookie: "session=" + strings.Repeat("x", 65)},
		{method: "GET", path: "/api/v1/products"}, {method: "GET", path: "/api/v1/products/0"}, {method: "GET", path: "/api/v1/products/0/reviews"}, {method: "GET", path: "/api/v1/products/0/ratings"},
		{method: "GET", path: "/api/v1/products/1"}, {method: "GET", path: "/api/v1/products/1/reviews"}, {method: "GET", path: "/api/v1/products/1/ratings"},
		{method: "GET", path: "/api/v1/products/2"}, {method: "GET", path: "/api/v1/products/4"}, {method: "GET", path: "/api/v1/products/4/reviews"},
		{method: "GET", path: "/api/v1/products/x"}, {method: "GET", path: "/api/v1/products/-1/reviews"}, {method: "GET", path: "/api/v1/products/0/prices", status: true},
		{method: "POST", path: "/login", body: "username=jason&passwd=x"}, {method: "POST", path: "/login", body: "username=" + url.QueryEscape(`<i>"ü €`) + "&passwd="},
		{method: "POST", path: "/login", body: "username=a%0Ab", status: true}, {method: "POST", path: "/login", body: "username=" + strings.Repeat("x", 65), status: true}, {method: "POST", path: "/login", body: "username=" + strings.Repeat("x", 5000), status: true},
		{method: "GET", path: "/logout", cookie: "session=jason"}, {method: "GET", path: "/login", status: true}, {method: "POST", path: "/productpage", status: true},
		{method: "GET", path: "/static/style.css"}, {method: "GET", path: "/static/icon.svg"}, {method: "GET", path: "/static/..%2fpage%2fproducts.json", status: true}, {method: "GET", path: "/static/nothing", status: true}, {method: "GET", path: "/nothing", status: true},
		{method: "GET", path: "/metrics"},
	})
	header, _ := b.last("http://details:9080/details/0")
	for k, v := range sent {
		if got := header.Get(k); got != v {
			t.Errorf("%s arrived as %q", k, got)
		}
	}
}

// TestContinue: a client that waits with its body is told to go on, and the connection serves another request.
func TestContinue(t *testing.T) {
	t.Parallel()
	for _, l := range []struct {
		*language
		request string
	}{{python, "POST /login"}, {node, "POST /ratings/0"}, {ruby, "GET /details/0"}, {java, "GET /reviews/0"}} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			s := alone(t, l.language, newBackends(t))
			c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			in := bufio.NewReader(c)
			for range 2 {
				fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n", l.request)
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != http.StatusContinue {
					t.Fatalf("%v, %v", resp, err)
				}
				_, _ = io.WriteString(c, "username=jason")
				if resp, err = http.ReadResponse(in, nil); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.Close || resp.StatusCode == http.StatusContinue {
					t.Errorf("%s, close %v", resp.Status, resp.Close)
				}
			}
		})
	}
}

// TestPatience: productpage gives a call 3 s and tries reviews twice, in both languages.
func TestPatience(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 6 s")
	}
	t.Parallel()
	for _, where := range []string{"Go", "Python"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackends(t)
			var base string
			if where == "Go" {
				base = inGo(t, "productpage", "v1", b)
			} else {
				base = alone(t, python, b).url
			}
			began := time.Now()
			got := question{method: "GET", path: "/api/v1/products/5/reviews"}.ask(t, base)
			took := time.Since(began)
			_, tries := b.last("http://reviews:9080/reviews/5")
			if got.status != http.StatusInternalServerError || tries != 2 || took < 5900*time.Millisecond || took > 15*time.Second ||
				!strings.Contains(got.body, "Sorry, product reviews are currently unavailable for this book.") {
				t.Errorf("%d tries in %v: %+v", tries, took, got)
			}
		})
	}
}

// TestEscaping: nothing that a user or another service says becomes markup.
func TestEscaping(t *testing.T) {
	t.Parallel()
	b := newBackends(t)
	base := inGo(t, "productpage", "v1", b)
	for _, cookie := range []string{"session=mallory", "session=" + url.QueryEscape(evil)} {
		page := question{method: "GET", path: "/productpage", cookie: cookie}.ask(t, base).body
		if strings.Contains(page, "<img") || strings.Contains(page, "<b>)") || !strings.Contains(page, "&lt;img") || !strings.Contains(page, "{{title}}") {
			t.Errorf("%s: %s", cookie, page)
		}
	}
}
