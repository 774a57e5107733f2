package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// TestSeriesOfStrangers is row B-055 (attacks.md): 100,000 random hosts, paths, methods, agents and tokens make no more series than there are
// outcomes, and what is remembered of them does not grow.
func TestSeriesOfStrangers(t *testing.T) {
	if raceEnabled {
		t.Skip("what 100,000 requests leave behind is measured without the race detector")
	}
	m := inboundMesh(t, inboundMetered)
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			n := fmt.Sprint(i * 7919)
			r := httptest.NewRequest("M"+strings.Map(func(c rune) rune { return c - '0' + 'A' }, n), "http://h"+n+".example/p/"+n+"?q="+n, nil)
			r.Header.Set("User-Agent", "agent/"+n)
			r.Header.Set("Authorization", "Bearer e30.eyJzdWIiOiI"+n+"In0.x")
			r.Header.Set("X-Request-Id", n)
			r.Header.Set("X-Envoy-Peer-Metadata", n)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	series := func() (n int) {
		for _, f := range m.Metrics().Gather() {
			n += len(f.Samples)
		}
		return n
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	ask(0, 10_000)
	before, bytesBefore := series(), heap()
	const all = 100_000
	ask(10_000, all)
	if after := series(); after != before {
		t.Errorf("%d series after 10,000 strangers, %d after %d", before, after, all)
	}
	// Other tests of the package run beside this one, so that the bound is far above their noise per request and far below what
	// one remembered text of each request would come to.
	if after := heap(); after > bytesBefore+all*200 {
		t.Errorf("the heap has grown from %d to %d bytes", bytesBefore, after)
	}
	if n := totalOf(m, "istio_requests_total"); n != all {
		t.Errorf("%v requests are counted", n)
	}
}

// hostile are texts that would end a line, a column or a string, or speak to a terminal (attacks.md B-110).
var hostile = []string{"a\r\nb", "\x1b[31mred\x1b[0m", `"quoted" \ and`, "\xff\xfe\xc3(", "a\x00b", "a\tb c", "\u202eevil", "\u0085\u2028", strings.Repeat("x", 1<<16)}

// TestLogInjection is row B-110: whatever stands in any text of a request, a format of text writes one line with as many columns as it has,
// one of JSON one valid object, and neither has a character that a terminal heeds.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	const texts = 14
	columns := `%REQ(:METHOD)%|%REQ(:AUTHORITY)%|%REQ(:PATH)%|%PROTOCOL%|%REQ(USER-AGENT)%|%REQ(X-SUB)%|%RESP(X-B)%|%TRAILER(X-C)%|` +
		`%REQUESTED_SERVER_NAME%|%DOWNSTREAM_PEER_URI_SAN%|%ROUTE_NAME%|%UPSTREAM_CLUSTER%|%RESPONSE_CODE_DETAILS%|%UPSTREAM_TRANSPORT_FAILURE_REASON%`
	plain, err := accesslog.ParseText(columns)
	if err != nil {
		t.Fatal(err)
	}
	object := make(map[string]any)
	for i, op := range strings.Split(columns, "|") {
		object[fmt.Sprint("k", i)] = op
		object[fmt.Sprint("w", i)] = "<" + op + ">"
	}
	asJSON, err := accesslog.ObjectFormat(object)
	if err != nil {
		t.Fatal(err)
	}
	for _, evil := range hostile {
		name := fmt.Sprintf("%.20q", evil)
		e := &accesslog.Entry{Method: evil, Authority: evil, Path: evil, Query: evil, Protocol: evil, SNI: evil, Peer: "spiffe://td/" + evil, Route: evil, Cluster: evil,
			Details: evil, Outcome: telemetry.Outcome{Code: 503, Flags: call.FlagUF}, Reason: call.ReasonConnect, Err: fmt.Errorf("%s", evil),
			Request: call.HTTPHeaders{"User-Agent": {evil}, "X-Sub": {evil}}, Response: call.HTTPHeaders{"X-B": {evil}}, Trailer: call.HTTPHeaders{"X-C": {evil}}}
		line := plain.Append(nil, e)
		if !harmless(line) || strings.Count(string(line), "|") != texts-1 || strings.Contains(string(line), " ") {
			t.Errorf("%s: the text is %.200q", name, line)
		}
		for _, f := range []*accesslog.Format{asJSON, asJSON.WithoutEmpty()} {
			line = f.Append(nil, e)
			var got map[string]string
			if err := json.Unmarshal(line, &got); err != nil || !harmless(line) || len(got) < texts {
				t.Errorf("%s: %v, %d keys: the object is %.200q", name, err, len(got), line)
			}
		}
	}
}

// harmless reports one line of UTF-8 without a control character, a separator of lines, or one that turns the text around.
func harmless(line []byte) bool {
	text, ok := strings.CutSuffix(string(line), "\n")
	return ok && utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool {
		return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069'
	})
}

// TestLogInjectionOnTheWire is B-110 through whatever serves: what gets as far as a log is one line a request.
func TestLogInjectionOnTheWire(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var out lockedBuffer
			m := inboundMesh(t, inboundMetered, mesh.WithAccessLogFile("/dev/stdout", true), mesh.WithAccessLogStream("/dev/stdout", &out))
			addr := f.serve(t, m, new(recorder))
			visits := []visit{
				{method: "GET", target: "/%0d%0aforged%1b%5b31m", host: "web"},
				{method: "GET", target: "/?q=%0a&x=\"'", host: "web"},
				{method: "GET", target: "/", host: "web", header: http.Header{"User-Agent": {"a\tb\"\\ \x80\xff"}, "X-Request-Id": {"\"}, {\"forged\":true"}}},
				{method: "GET", target: "/" + strings.Repeat("x", 20_000), host: "web"},
			}
			for _, v := range visits {
				f.ask(t, addr, v)
			}
			lines := out.lines(t, m, len(visits))
			for _, line := range lines {
				if !json.Valid([]byte(line)) || !harmless([]byte(line+"\n")) {
					t.Errorf("%.200q", line)
				}
			}
			if len(lines) != len(visits) {
				t.Errorf("%d lines of %d requests", len(lines), len(visits))
			}
		})
	}
}

// A lockedBuffer is written to by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines gives what the mesh, which it ends, has written after n requests.
func (b *lockedBuffer) lines(t *testing.T, m *mesh.Mesh, n int) []string {
	t.Helper()
	written := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return bytes.Count(b.b.Bytes(), []byte("\n"))
	}
	for late := time.Now().Add(recordedPatience); written() < n && !time.Now().After(late); time.Sleep(time.Millisecond) {
		continue // a request ends after its answer, and its line comes last
	}
	_ = m.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSuffix(b.b.String(), "\n"), "\n")
}

// TestScrapeBesideTraffic is the scraping half of row E-019: while 100,000 series, as Prometheus counts them, are scraped by a reader that
// takes nothing, requests are recorded and answered as ever: none waits for a scrape. `make bench-seeing` has a hundred scrapes under way
// at once (HEDDLE_SCRAPES).
func TestScrapeBesideTraffic(t *testing.T) {
	t.Parallel()
	const n = 1_600 // callers, each of more than 65 series with the buckets of its histograms
	scrapes := 1
	if many, err := strconv.Atoi(os.Getenv("HEDDLE_SCRAPES")); err == nil && many > 1 {
		scrapes = many
	}
	m := inboundMesh(t, inboundMetered, mesh.WithMaxMetricSeries(2*n))
	store := m.Metrics()
	for i := range n {
		store.Group(telemetry.Labels{Reporter: telemetry.Source, Source: telemetry.Workload{Name: fmt.Sprint("w", i)}}).Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{})
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	free, scraped := make(chan struct{}), make(chan error, scrapes)
	for range scrapes {
		begun := make(chan struct{})
		go func() { scraped <- store.WriteText(&heldWriter{begun: begun, free: free}) }()
		<-begun // it is under way, and whoever wants it takes nothing
	}
	const requests = 1000
	for i := range requests {
		r := httptest.NewRequest(http.MethodGet, "http://web/", nil)
		if i%2 == 0 {
			r.Host = "elsewhere.example" // another series
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	select {
	case err := <-scraped:
		t.Fatalf("a scrape is over: %v", err)
	default:
	}
	close(free)
	for range scrapes {
		if err := <-scraped; err != nil {
			t.Error(err)
		}
	}
	if got := totalOf(m, "istio_requests_total"); got != float64(n+requests) {
		t.Errorf("%v requests are counted, want %d", got, n+requests)
	}
}

// A heldWriter takes nothing until it is let.
type heldWriter struct {
	once        sync.Once
	begun, free chan struct{}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.free
	return len(p), nil
}
