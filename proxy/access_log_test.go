package proxy_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

const logEverything = `apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {accessLogFile: /dev/stdout}
---
`

const repeated = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{name: twice, retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: reviews}}]}]}
---
`

// A written is a writer of lines that can be waited for.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // of one
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

// lines waits until there are n, and gives them.
func (w *written) lines(t *testing.T, n int) []string {
	t.Helper()
	for {
		w.mu.Lock()
		all := strings.SplitAfter(w.text.String(), "\n")
		w.mu.Unlock()
		if len(all) > n {
			return all[:n]
		}
		select {
		case <-w.more:
		case <-t.Context().Done():
			t.Fatalf("%d lines of %d", len(all)-1, n)
		}
	}
}

// TestAccessLog: a line of Istio's for every request, whichever way it goes, with what the sidecar knows of both connections.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := &written{more: make(chan struct{}, 1)}
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/503" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		text, _ := io.ReadAll(r.Body)
		_, _ = w.Write(text)
	}))
	r := startMesh(t, logEverything+service("reviews", "HTTP", up)+repeated, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} },
		mesh.WithAccessLogStream("/dev/stdout", w))
	in := r.sidecar.InboundAddrs()[0].String()
	const start, id = `^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] `, `"[-0-9a-f]{36}"`
	const local = `127\.0\.0\.1:\d+`
	upAt := regexp.QuoteMeta(up)
	_, port, _ := net.SplitHostPort(in)
	for i, c := range []struct {
		name string
		send func()
		want string
	}{
		{"outbound", func() { r.ask(t, http.MethodPost, "http://reviews/a?b=%22c", "hello") },
			start + `"POST /a\?b=%22c HTTP/1\.1" 200 - via_upstream - "-" 5 5 \d+ \d+ "-" "me\\"" "-" "reviews" "` + upAt + `" outbound\|80\|\|reviews\.default\.svc\.cluster\.local ` + local + ` ` + local + ` ` + local + ` - twice` + "\n$"},
		{"an answer that fails", func() { r.ask(t, http.MethodGet, "http://reviews/503", "") },
			start + `"GET /503 HTTP/1\.1" 503 URX via_upstream - "-" 0 0 \d+ \d+ `},
		{"refused by the guard", func() { r.ask(t, http.MethodPost, "http://169.254.169.254/x", "") },
			start + `"POST /x HTTP/1\.1" 403 UH destination_refused - "[^"]*" 0 \d+ \d+ - "-" "me\\"" "-" "169\.254\.169\.254" "-" PassthroughCluster - `},
		{"inbound", func() { sendTo(t, in, "GET /i HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") },
			start + `"GET /i HTTP/1\.1" 200 - via_upstream - "-" 0 0 \d+ \d+ "-" "-" ` + id + ` "reviews" "` + upAt + `" inbound\|` + port + `\|\| ` + local + ` ` + regexp.QuoteMeta(in) + ` ` + local + ` - default` + "\n$"},
		{"no request", func() { sendTo(t, in, "GET  / HTTP/1.1\r\n\r\n") },
			start + `"- - -" 400 DPE http1\.codec_error - "-" 0 \d+ \d+ - "-" "-" "-" "-" "-" inbound\|` + port + `\|\| - `},
	} {
		c.send()
		if got := w.lines(t, i+1)[i]; !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%s: the line is\n%s, want\n%s", c.name, got, c.want)
		}
	}
	failures := r.mesh.Status().Failures
	if len(failures) != 3 {
		t.Fatalf("failures are %+v", failures)
	}
	if f := failures[0]; f.Status != 503 || f.Flags != "URX" || f.Attempts < 2 || len(f.Earlier) != f.Attempts-1 || f.Earlier[0].Status != 503 || f.Earlier[0].Endpoint != up ||
		f.Cluster != "outbound|80||reviews.default.svc.cluster.local" || f.Host != "reviews" {
		t.Errorf("the story of a call that was repeated: %+v", f)
	}
	if f := failures[1]; f.Status != 403 || !strings.Contains(f.Error, "link-local") {
		t.Errorf("the story of a call that was refused: %+v", f)
	}
	if f := failures[2]; f.Reporter != "destination" || f.Flags != "DPE" || f.Details != "http1.codec_error" {
		t.Errorf("the story of a request that was none: %+v", f)
	}
}

func (r *rig) ask(t *testing.T, method, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["User-Agent"] = []string{`me"`}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func sendTo(t *testing.T, address, request string) {
	t.Helper()
	c, br := dial(t, address)
	send(t, c, request)
	_, _ = io.Copy(io.Discard, br)
	_ = c.Close()
}

// TestAccessLogAllocs: a line in Istio's text costs no allocation on the wire but for the x-request-id that is made.
func TestAccessLogAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	up := answering(t)
	r := startMesh(t, logEverything+service("reviews", "HTTP", up), func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} },
		mesh.WithAccessLogStream("/dev/stdout", io.Discard))
	for way, address := range map[string]net.Addr{"outbound": r.sidecar.OutboundAddr(), "inbound": r.sidecar.InboundAddrs()[0]} {
		if each := allocsOf(t, address.String()); each > 1.1 {
			t.Errorf("%s: %.2f allocations a request, the budget is 1", way, each)
		} else {
			t.Logf("%s: %.2f allocations a request", way, each)
		}
	}
}
