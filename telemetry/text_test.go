package telemetry_test

import (
	"fmt"
	"math"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// A parsed is one sample of a text.
type parsed struct {
	name   string
	labels map[string]string
	value  float64
}

// parse reads Prometheus's text format 0.0.4 as strictly as it is specified, and more: every family is described first, once,
// and whole; no series is there twice; buckets are cumulative and end with +Inf, which is the count.
func parse(text string) (all []parsed, err error) {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("the last line has no end")
	}
	kinds, seen := map[string]string{}, map[string]bool{}
	family, helped := "", ""
	below := map[string]float64{}
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fail := func(why string) error { return fmt.Errorf("line %d: %s: %q", n+1, why, line) }
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			helped, _, ok = strings.Cut(rest, " ")
			if !ok || kinds[helped] != "" {
				return nil, fail("help")
			}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if name != helped || kinds[name] != "" || !slices.Contains([]string{"gauge", "counter", "histogram"}, kind) {
				return nil, fail("type")
			}
			family, kinds[name] = name, kind
			continue
		}
		s, err := parseSample(line)
		if err != nil {
			return nil, fail(err.Error())
		}
		of := s.name
		if kinds[family] == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				of = strings.TrimSuffix(of, suffix)
			}
		}
		if of != family {
			return nil, fail("of another family than " + family)
		}
		le, bucket := s.labels["le"]
		key := s.name + fmt.Sprint(s.labels)
		if seen[key] {
			return nil, fail("twice")
		}
		seen[key] = true
		rest := fmt.Sprint(family, without(s.labels, "le"))
		switch {
		case bucket != strings.HasSuffix(s.name, "_bucket"):
			return nil, fail("le")
		case bucket:
			if s.value < below[rest] {
				return nil, fail("not cumulative")
			}
			below[rest] = s.value
			if le != "+Inf" {
				if _, err := strconv.ParseFloat(le, 64); err != nil {
					return nil, fail("le")
				}
			}
		case strings.HasSuffix(s.name, "_count") && kinds[family] == "histogram" && s.value != below[rest]:
			return nil, fail("the count is not the last bucket")
		}
		all = append(all, s)
	}
	return all, nil
}

func without(labels map[string]string, name string) map[string]string {
	out := map[string]string{}
	for k, v := range labels {
		if k != name {
			out[k] = v
		}
	}
	return out
}

func parseSample(line string) (parsed, error) {
	s := parsed{labels: map[string]string{}}
	i := strings.IndexAny(line, "{ ")
	if i <= 0 {
		return s, fmt.Errorf("no value")
	}
	s.name, line = line[:i], line[i:]
	if !isName(s.name) {
		return s, fmt.Errorf("no name")
	}
	if line[0] == '{' {
		line = line[1:]
		for !strings.HasPrefix(line, "}") {
			name, rest, ok := strings.Cut(line, `="`)
			if _, twice := s.labels[name]; !ok || twice || !isName(name) || strings.Contains(name, ":") {
				return s, fmt.Errorf("label %q", name)
			}
			var v strings.Builder
			for {
				if rest == "" {
					return s, fmt.Errorf("label without end")
				}
				c := rest[0]
				rest = rest[1:]
				if c == '"' {
					break
				}
				if c == '\\' {
					if rest == "" || !strings.ContainsRune(`\"n`, rune(rest[0])) {
						return s, fmt.Errorf("escape")
					}
					if c = rest[0]; c == 'n' {
						c = '\n'
					}
					rest = rest[1:]
				}
				v.WriteByte(c)
			}
			if !utf8.ValidString(v.String()) {
				return s, fmt.Errorf("no UTF-8")
			}
			s.labels[name] = v.String()
			if line = strings.TrimPrefix(rest, ","); line == rest && !strings.HasPrefix(rest, "}") {
				return s, fmt.Errorf("labels")
			}
		}
		line = line[1:]
	}
	v, ok := strings.CutPrefix(line, " ")
	if !ok {
		return s, fmt.Errorf("no value")
	}
	var err error
	s.value, err = strconv.ParseFloat(v, 64)
	return s, err
}

func isName(s string) bool {
	for i, c := range s {
		if !(c == '_' || c == ':' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

func textOf(t testing.TB, s *telemetry.Store) string {
	t.Helper()
	var b strings.Builder
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// find gives the samples of a name that have the labels.
func find(all []parsed, name string, labels ...string) (found []parsed) {
	for _, s := range all {
		ok := s.name == name
		for i := 0; i+1 < len(labels); i += 2 {
			ok = ok && s.labels[labels[i]] == labels[i+1]
		}
		if ok {
			found = append(found, s)
		}
	}
	return found
}

func sample() telemetry.Labels {
	return telemetry.Labels{Reporter: telemetry.Source,
		Source:      telemetry.WorkloadOf("web-5d9f-x2", "shop", map[string]string{"app": "web", "version": "v1", "pod-template-hash": "5d9f"}),
		Destination: telemetry.Workload{Name: "reviews-v2", Namespace: "default", Principal: "spiffe://cluster.local/ns/default/sa/reviews"},
		Service:     telemetry.ServiceOf("reviews.default.svc.cluster.local", "")}
}

// TestStandardMetrics: Istio's names, labels, and bounds; what is not known is said to be unknown.
func TestStandardMetrics(t *testing.T) {
	t.Parallel()
	s := telemetry.NewStore(telemetry.Options{})
	g := s.Group(sample())
	g.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{Duration: 7 * time.Millisecond, RequestBytes: 10, ResponseBytes: 20000})
	g.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{Duration: 400 * time.Microsecond})
	g.Series(telemetry.Outcome{Code: 200, GRPC: 5 + 1, Flags: call.FlagURX | call.FlagUF}).Record(telemetry.Measurement{RequestMessages: 3, ResponseMessages: 1})
	all, err := parse(textOf(t, s))
	if err != nil {
		t.Fatal(err)
	}
	http := find(all, "istio_requests_total", "request_protocol", "http")
	if len(http) != 1 || http[0].value != 2 {
		t.Fatalf("requests: %v", http)
	}
	want := map[string]string{"reporter": "source", "source_workload": "web", "source_canonical_service": "web", "source_canonical_revision": "v1",
		"source_workload_namespace": "shop", "source_principal": "unknown", "source_app": "web", "source_version": "v1", "source_cluster": "unknown",
		"destination_workload": "reviews-v2", "destination_workload_namespace": "default",
		"destination_principal": "spiffe://cluster.local/ns/default/sa/reviews", "destination_app": "unknown", "destination_version": "unknown",
		"destination_service": "reviews.default.svc.cluster.local", "destination_canonical_service": "unknown", "destination_canonical_revision": "latest",
		"destination_service_name": "reviews", "destination_service_namespace": "default", "destination_cluster": "unknown",
		"request_protocol": "http", "response_code": "200", "response_flags": "-", "connection_security_policy": "unknown"}
	if got := fmt.Sprint(http[0].labels); got != fmt.Sprint(want) {
		t.Errorf("labels are\n%s, want\n%v", got, want)
	}
	rpc := find(all, "istio_requests_total", "request_protocol", "grpc", "grpc_response_status", "5", "response_flags", "UF,URX")
	if len(rpc) != 1 || len(find(all, "istio_request_messages_total", "request_protocol", "grpc")) != 1 || len(find(all, "istio_request_messages_total")) != 1 {
		t.Errorf("RPCs: %v", rpc)
	}
	for le, n := range map[string]float64{"0.5": 1, "5": 1, "10": 2, "3600000": 2, "+Inf": 2} {
		if b := find(all, "istio_request_duration_milliseconds_bucket", "request_protocol", "http", "le", le); len(b) != 1 || b[0].value != n {
			t.Errorf("bucket %s: %v, want %v", le, b, n)
		}
	}
	if b := find(all, "istio_request_duration_milliseconds_bucket", "request_protocol", "http"); len(b) != 20 {
		t.Errorf("%d buckets", len(b))
	}
	if sum := find(all, "istio_request_duration_milliseconds_sum", "request_protocol", "http"); math.Abs(sum[0].value-7.4) > 1e-9 {
		t.Errorf("sum of durations %v", sum)
	}
	if sum := find(all, "istio_response_bytes_sum", "request_protocol", "http"); sum[0].value != 20000 {
		t.Errorf("sum of bytes %v", sum)
	}
}

// TestBounded: 10,000 peers, services and answers make no more series than there may be, and nothing is lost (attacks.md B-055).
func TestBounded(t *testing.T) {
	t.Parallel()
	const most, all = 100, 10_000
	s := telemetry.NewStore(telemetry.Options{MaxSeries: most})
	for i := range all {
		l := sample()
		l.Source.Name, l.Service.Host = fmt.Sprint("w", i), fmt.Sprint("h", i%7)
		s.Group(l).Series(telemetry.Outcome{Code: uint16(i % 900)}).Record(telemetry.Measurement{})
	}
	got, err := parse(textOf(t, s))
	if err != nil {
		t.Fatal(err)
	}
	sum, series := 0.0, find(got, "istio_requests_total")
	for _, x := range series {
		sum += x.value
	}
	other := find(got, "istio_requests_total", "source_workload", "other", "response_code", "other", "reporter", "source")
	if len(series) != most+1 || sum != all || len(other) != 1 || other[0].value != all-most {
		t.Errorf("%d series of %v requests, beyond them %v", len(series), sum, other)
	}
}

// TestView: what Telemetry says of metrics, by reporter; series that are the same without a label are added up.
func TestView(t *testing.T) {
	t.Parallel()
	s := telemetry.NewStore(telemetry.Options{})
	for _, r := range []telemetry.Reporter{telemetry.Source, telemetry.Destination} {
		for code := range 4 {
			l := sample()
			l.Reporter = r
			s.Group(l).Series(telemetry.Outcome{Code: uint16(200 + code)}).Record(telemetry.Measurement{Duration: time.Millisecond})
		}
	}
	s.SetView(&telemetry.View{Overrides: [2]map[string]telemetry.Override{
		telemetry.Source: {telemetry.RequestCount: {Remove: []string{"response_code", "source_version"}, Set: map[string]string{"team": `a"b`, "source_app": "x"}},
			telemetry.RequestDuration: {Remove: []string{"response_code"}}},
		telemetry.Destination: {telemetry.RequestCount: {Disabled: true}},
	}})
	all, err := parse(textOf(t, s))
	if err != nil {
		t.Fatal(err)
	}
	n := find(all, "istio_requests_total")
	if len(n) != 1 || n[0].value != 4 || n[0].labels["team"] != `a"b` || n[0].labels["source_app"] != "x" {
		t.Errorf("requests %v", n)
	}
	if _, there := n[0].labels["response_code"]; there {
		t.Errorf("removed label is there: %v", n)
	}
	if d := find(all, "istio_request_duration_milliseconds_count", "reporter", "source"); len(d) != 1 || d[0].value != 4 {
		t.Errorf("durations %v", d)
	}
	if d := find(all, "istio_request_duration_milliseconds_count", "reporter", "destination"); len(d) != 4 {
		t.Errorf("durations of the destination %v", d)
	}
	s.SetView(nil)
	if all, err = parse(textOf(t, s)); err != nil || len(find(all, "istio_requests_total")) != 8 {
		t.Errorf("without a view: %v, %v", err, find(all, "istio_requests_total"))
	}
}

// TestRPCs: gRPC's own metrics (gRFC A66); methods that are not known beforehand are one.
func TestRPCs(t *testing.T) {
	t.Parallel()
	s := telemetry.NewStore(telemetry.Options{})
	for i := range 1100 {
		r := s.RPC(telemetry.ClientAttempt, fmt.Sprint("s/m", i), "mesh:///a")
		r.Start()
		r.End(uint32(i%20), time.Millisecond)
	}
	s.RPC(telemetry.ServerCall, "", "").End(0, time.Second)
	for _, n := range []uint64{0, 1024, 1025, 5 << 30} {
		s.RPC(telemetry.ServerCall, "", "").Sizes(0, n, 0)
	}
	all, err := parse(textOf(t, s))
	if err != nil {
		t.Fatal(err)
	}
	started := find(all, "grpc_client_attempt_started_total")
	sum := 0.0
	for _, x := range started {
		sum += x.value
	}
	if len(started) != 1001 || sum != 1100 {
		t.Errorf("%d methods, %v attempts", len(started), sum)
	}
	if x := find(all, "grpc_server_call_duration_seconds_sum", "grpc_method", "other", "grpc_status", "OK"); len(x) != 1 || x[0].value != 1 {
		t.Errorf("server calls %v", x)
	}
	const sent = "grpc_server_call_sent_total_compressed_message_size_bytes"
	for le, want := range map[string]float64{"0": 1, "1024": 2, "2048": 3, "4294967296": 3, "+Inf": 4} {
		if x := find(all, sent+"_bucket", "grpc_method", "other", "grpc_status", "OK", "le", le); len(x) != 1 || x[0].value != want {
			t.Errorf("sizes up to %s: %v, want %v", le, x, want)
		}
	}
	if x := find(all, sent+"_sum"); len(x) != 1 || x[0].value != 2049+5<<30 {
		t.Errorf("sum of sizes %v", x)
	}
	if x := find(all, "grpc_server_call_rcvd_total_compressed_message_size_bytes_bucket", "le", "0"); len(x) != 1 || x[0].value != 4 {
		t.Errorf("received sizes %v", x)
	}
	if x := find(all, "grpc_client_attempt_sent_total_compressed_message_size_bytes_count"); len(x) != 0 {
		t.Errorf("sizes of attempts %v, where nobody has told any", x)
	}
}

// FuzzLabels: whatever a label says, the text is well-formed and says it, as far as it is text and not too long.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{"", "a", `"`, `\`, "\n", `\n`, "\xff", "é", "}", `"} 1`, "a\nb", strings.Repeat("x", 300), "\x00", "\r", "a\\\"b\n\\"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s := telemetry.NewStore(telemetry.Options{})
		l := sample()
		l.Source.Name, l.Service.Host = a, b
		s.Group(l).Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{})
		s.RPC(telemetry.ClientCall, a, b).End(0, 0)
		s.Collect(func(yield func(telemetry.Family)) {
			f := telemetry.Family{Name: "x_total", Help: a, Kind: telemetry.Counter}
			f.Add(1, "a", b)
			yield(f)
		})
		all, err := parse(textOf(t, s))
		if err != nil {
			t.Fatal(err)
		}
		got := find(all, "istio_requests_total")
		if len(got) != 1 {
			t.Fatalf("%d series", len(got))
		}
		want := strings.ToValidUTF8(a, "\uFFFD")
		if want == "" {
			want = "unknown"
		}
		if v := got[0].labels["source_workload"]; v != want && len(want) <= 256 && utf8.ValidString(a) || len(v) > 256 {
			t.Errorf("label is %q, want %q", v, want)
		}
	})
}

// TestPromtool has Prometheus's own tool read the text, where it is installed. What it says of names that are Istio's and Envoy's is
// theirs to hear.
func TestPromtool(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; the parser of this package has read the same text")
	}
	s := telemetry.NewStore(telemetry.Options{})
	s.Group(sample()).Series(telemetry.Outcome{Code: 200, GRPC: 1}).Record(telemetry.Measurement{Duration: time.Second})
	r := s.RPC(telemetry.ServerCall, "a/b", "")
	r.Start()
	r.End(0, time.Second)
	r.Sizes(0, 1, 2)
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(textOf(t, s))
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "istio_request_duration_milliseconds") && !strings.HasPrefix(line, "envoy_") {
			t.Errorf("promtool: %s (%v)", line, err)
		}
	}
}

// filled makes a store of n series.
func filled(n int) *telemetry.Store {
	s := telemetry.NewStore(telemetry.Options{MaxSeries: n})
	for i := range n {
		l := sample()
		l.Destination.Name = fmt.Sprint("workload-", i/8)
		s.Group(l).Series(telemetry.Outcome{Code: uint16(200 + i%8)}).Record(telemetry.Measurement{Duration: time.Duration(i) * time.Microsecond})
	}
	return s
}

// TestMemory: 10,000 series, each a caller, a callee and an outcome with all its histograms, within 24 MB.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := filled(10_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("10,000 series take %d KiB", used>>10)
	if used > 24<<20 {
		t.Errorf("10,000 series take %d bytes", used)
	}
	runtime.KeepAlive(s)
}

// TestAllocs: looking up and recording allocates nothing.
func TestAllocs(t *testing.T) {
	s := telemetry.NewStore(telemetry.Options{})
	l := sample()
	o := telemetry.Outcome{Code: 200, GRPC: 1}
	s.Group(l).Series(o)
	s.RPC(telemetry.ClientAttempt, "a/b", "t").End(0, 0)
	s.RPC(telemetry.ClientAttempt, "a/b", "t").Sizes(0, 0, 0)
	if n := testing.AllocsPerRun(100, func() {
		s.Group(l).Series(o).Record(telemetry.Measurement{Duration: time.Millisecond, RequestMessages: 1})
		r := s.RPC(telemetry.ClientAttempt, "a/b", "t")
		r.Start()
		r.End(0, time.Millisecond)
		r.Sizes(0, 1, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	s := telemetry.NewStore(telemetry.Options{})
	g := s.Group(sample())
	g.Series(telemetry.Outcome{Code: 404})
	b.ReportAllocs()
	for b.Loop() {
		g.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{Duration: 3 * time.Millisecond, RequestBytes: 100, ResponseBytes: 4000})
	}
}

// BenchmarkScrape reads a store: of 150 series, which are ten thousand lines and to Prometheus as many series, and of ten times that.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{150, 1500} {
		s := filled(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var w discard
				if err := s.WriteText(&w); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(w), "bytes/op")
			}
		})
	}
}

type discard int

func (d *discard) Write(p []byte) (int, error) {
	*d += discard(len(p))
	return len(p), nil
}
