package conformance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/internal/memory"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/export"
	"github.com/heddlemesh/mesh/transport"
)

// An account is what one place tells of how requests ended, one text each, of one side.
type account struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // has room for one
}

func newAccount() *account { return &account{more: make(chan struct{}, 1)} }

func (a *account) add(line string) {
	a.mu.Lock()
	a.lines = append(a.lines, line)
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// atLeast waits until there are n, and gives all of them, sorted.
func (a *account) atLeast(t testing.TB, n int, where string) []string {
	t.Helper()
	late := time.NewTimer(recordedPatience)
	defer late.Stop()
	for {
		a.mu.Lock()
		lines := slices.Sorted(slices.Values(a.lines))
		a.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-a.more:
		case <-late.C:
			t.Errorf("%s: %d of %d: %q", where, len(lines), n, lines)
			return lines
		}
	}
}

// The places where requests are told of: metrics, the access log, spans and Failures.
type places struct {
	side                          telemetry.Reporter
	metrics, log, spans, failures *account
	provider                      *export.Provider
	spanless                      atomic.Int64 // requests that came to no call, or were none
}

// newPlaces gives them, with the options of the mesh that tells them. It ends with the test.
func newPlaces(t testing.TB, side telemetry.Reporter) (*places, []mesh.Option) {
	p := &places{side: side, metrics: newAccount(), log: newAccount(), spans: newAccount(), failures: newAccount()}
	p.provider = export.NewProvider(p, export.BatchOptions{Batch: 1})
	t.Cleanup(func() { _ = p.provider.Shutdown(context.Background()) })
	return p, []mesh.Option{mesh.WithMetricsSink(p), mesh.WithAccessLog(p), mesh.WithTracerProvider(p.provider), mesh.WithTraceSampling(100)}
}

// Request implements mesh.MetricsSink.
func (p *places) Request(l *telemetry.Labels, o telemetry.Outcome, _ telemetry.Measurement) {
	if l.Reporter == p.side {
		p.metrics.add(outcomeText(o))
	}
}

// Log implements mesh.AccessLogger. What Failures is to have it notes on the way.
func (p *places) Log(e *mesh.AccessLogEntry) {
	if e.Reporter != p.side {
		return
	}
	defer p.log.add(outcomeText(e.Outcome)) // last: that is waited for
	if e.Details == "http1.codec_error" || e.Reporter == telemetry.Source && e.Details == "bad_request" {
		p.spanless.Add(1)
	}
	serious := e.Code >= 500 || e.Code == 0 || e.Flags&^(call.FlagDI|call.FlagFI) != 0
	switch int(e.GRPC) - 1 {
	case 2, 4, 13, 14, 15:
		serious = true
	}
	if serious && !e.Ruled {
		p.failures.add(failureText(int(e.Code), telemetry.GRPCStatusName(e.GRPC), e.Flags.String(), e.Details, e.Reason))
	}
}

func failureText(code int, grpc, flags, details string, reason call.Reason) string {
	text := fmt.Sprintf("code %d, grpc %s, flags %s, details %s", code, grpc, flags, details)
	if reason != call.ReasonNone {
		text += ", " + reason.String()
	}
	return text
}

// Export implements export.Exporter. Spans that say flags are those of whole calls and requests.
func (p *places) Export(_ context.Context, spans []export.Span) error {
	for _, s := range spans {
		var o telemetry.Outcome
		whole := false
		for _, a := range s.Attributes {
			switch a.Key {
			case "response_flags":
				o.Flags, whole = call.ParseFlags(a.Value.AsString()), true
			case "http.status_code":
				n, _ := strconv.Atoi(a.Value.AsString())
				o.Code = uint16(n)
			case "grpc.status_code":
				n, _ := strconv.Atoi(a.Value.AsString())
				o.GRPC = uint8(n) + 1
			}
		}
		if whole && (s.Kind == trace.SpanKindServer) == (p.side == telemetry.Destination) {
			p.spans.add(outcomeText(o))
		}
	}
	return nil
}

func (*places) Close() error { return nil }

// agree holds the places against each other after n requests, and gives how they ended.
func (p *places) agree(t testing.TB, m *mesh.Mesh, n int) []string {
	t.Helper()
	log := p.log.atLeast(t, n, "the access log")
	if got := p.metrics.atLeast(t, n, "metrics"); !slices.Equal(got, log) {
		t.Errorf("metrics have %q, the access log %q", got, log)
	}
	spanless := int(p.spanless.Load())
	spans := p.spans.atLeast(t, n-spanless, "spans")
	for _, one := range spans {
		if !slices.Contains(log, one) {
			t.Errorf("a span has %q, the access log %q", one, log)
		}
	}
	if len(spans) != n-spanless {
		t.Errorf("%d spans of %d requests: %q", len(spans), n, spans)
	}
	var failures []string
	for _, f := range m.Engine().Failures() {
		if f.Reporter == p.side.String() {
			reason := call.ReasonNone
			for r := call.ReasonNone; r.String() != "unknown"; r++ {
				if r.String() == f.Reason {
					reason = r
				}
			}
			failures = append(failures, failureText(f.Status, f.GRPC, f.Flags, f.Details, reason))
		}
	}
	slices.Sort(failures)
	if want := p.failures.atLeast(t, 0, ""); !slices.Equal(failures, want) {
		t.Errorf("/failures has %q, the access log %q", failures, want)
	}
	return log
}

// TestFlagsAgree: of every row of the table that ends with a flag, the caller, metrics, the access log, spans and /failures
// tell the same, in every column.
func TestFlagsAgree(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := make(map[string]call.Flags) // by column
	t.Run("rows", func(t *testing.T) {
		for _, d := range drivers[:3] { // the fourth is the third, asked by another name
			for _, row := range Cases() {
				c, why := d.Adapt(row)
				flags := flagsOf(&c)
				if why != "" || flags == 0 || c.Repeat > 50 {
					continue
				}
				t.Run(d.Name()+"/"+c.Group+"/"+c.Name, func(t *testing.T) {
					t.Parallel()
					if flagsAgree(t, d, &c) {
						mu.Lock()
						seen[d.Name()] |= flags
						mu.Unlock()
					}
				})
			}
		}
	})
	for _, d := range drivers[:3] {
		t.Logf("%s: %v", d.Name(), seen[d.Name()])
	}
}

func flagsOf(c *Case) (f call.Flags) {
	for _, w := range []Result{c.Want, c.Then} {
		f |= call.ParseFlags(w.Flag) | call.ParseFlags(w.Flags)
	}
	return f
}

// flagsAgree makes a row's calls.
func flagsAgree(t *testing.T, d Driver, c *Case) bool {
	do := func(t *testing.T) {
		p, opts := newPlaces(t, telemetry.Source)
		if o, ok := d.(interface{ Options() []mesh.Option }); ok {
			opts = append(opts, o.Options()...)
		}
		b := NewBench(t, c, nil, opts...)
		results := d.Do(t, c, b)
		p.agree(t, b.Mesh, len(results))
	}
	if !c.Fake {
		do(t)
		return !t.Failed()
	}
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // servers take their time to end connections
		do(t)
	})
	return !t.Failed()
}

// rareFlags are those that no row of the table ends with in every column: what makes them, by one call.
var rareFlags = map[string]func(t *testing.T, opts []mesh.Option) (m *mesh.Mesh, end func()){
	"LR": func(t *testing.T, opts []mesh.Option) (*mesh.Mesh, func()) {
		m := inboundMesh(t, inboundMetered, opts...)
		_ = m.Close()
		resp, err := m.Client().Get("http://web/") //nolint:noctx // of a mesh that is closed
		if err == nil {
			resp.Body.Close()
			t.Fatal("a closed mesh answers")
		}
		if mesh.ReasonOf(err) != mesh.ReasonClosed {
			t.Errorf("the error is %v", err)
		}
		return m, func() {}
	},
	"UPE": func(t *testing.T, opts []mesh.Option) (*mesh.Mesh, func()) {
		m := inboundMesh(t, inboundMetered, append(opts, mesh.WithDialer(func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				_, _ = server.Read(make([]byte, 4096))
				_, _ = io.WriteString(server, "SSH-2.0\r\n\r\n")
				_ = server.Close()
			}()
			return client, nil
		}))...)
		resp, err := m.Client().Get("http://web/") //nolint:noctx // as a test has it
		if err == nil {
			resp.Body.Close()
			t.Fatal("what is no HTTP is an answer")
		}
		if mesh.ReasonOf(err) != mesh.ReasonProtocol {
			t.Errorf("the error is %v", err)
		}
		return m, func() {}
	},
	"SI": func(t *testing.T, opts []mesh.Option) (*mesh.Mesh, func()) { // by the sidecar
		l := memory.Listen(memory.Addr("127.0.0.1:15001"))
		return toSilence(t, opts, l, func() (net.Conn, error) { return l.Dial(t.Context(), "", "") }, func(c net.Conn) { go func() { _, _ = io.Copy(io.Discard, c) }() })
	},
}

// toSilence has a client of a sidecar ask an endpoint that never answers, and what is to follow done when it has been asked.
func toSilence(t *testing.T, opts []mesh.Option, l net.Listener, dial func() (net.Conn, error), then func(net.Conn)) (*mesh.Mesh, func()) {
	asked := make(chan struct{})
	m := inboundMesh(t, inboundMetered, append(opts, mesh.WithDialer(func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			_, _ = server.Read(make([]byte, 4096))
			close(asked)
			_, _ = io.Copy(io.Discard, server)
		}()
		t.Cleanup(func() { _ = server.Close() })
		return client, nil
	}))...)
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: l.Addr().String(), StreamIdleTimeout: 10 * time.Second,
		Listen: func(string, string) (net.Listener, error) { return l, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	<-asked
	then(c)
	return m, func() { _ = c.Close() }
}

// TestRareFlagsAgree is TestFlagsAgree for them.
func TestRareFlagsAgree(t *testing.T) {
	t.Parallel()
	for name, ending := range rareFlags {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, opts := newPlaces(t, telemetry.Source)
				m, end := ending(t, opts)
				defer end()
				if lines := p.agree(t, m, 1); len(lines) != 1 || !strings.HasSuffix(lines[0], "flags "+name) {
					t.Errorf("%q, want flags %s", lines, name)
				}
			})
		})
	}
}

// TestGoneClientAgrees: a client of the sidecar that goes is DC, in every place.
func TestGoneClientAgrees(t *testing.T) {
	t.Parallel()
	p, opts := newPlaces(t, telemetry.Source)
	l := listenLocal(t)
	m, end := toSilence(t, opts, l, func() (net.Conn, error) { return dialLocal(t, l.Addr().String(), nil), nil }, func(c net.Conn) { _ = c.Close() })
	defer end()
	if lines := p.agree(t, m, 1); len(lines) != 1 || !strings.HasPrefix(lines[0], "code 0, ") || !strings.HasSuffix(lines[0], "flags DC") {
		t.Errorf("%q", lines)
	}
}

// TestInboundFlagsAgree: of requests that come in, refused or not, metrics, the access log, spans and /failures tell the same, by every
// face.
func TestInboundFlagsAgree(t *testing.T) {
	t.Parallel()
	const web = "web.default.svc.cluster.local"
	many := make(http.Header)
	for i := range transport.MaxHeaderFields + 1 {
		many[fmt.Sprintf("X-%d", i)] = []string{"a"}
	}
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p, opts := newPlaces(t, telemetry.Destination)
			m := inboundMesh(t, inboundMetered, append(opts, mesh.WithAuthorizer("nobody", external.AuthorizerFunc(
				func(context.Context, *external.Check) (external.Answer, error) { return external.Answer{}, nil })))...)
			addr := f.serve(t, m, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/break" {
					panic(http.ErrAbortHandler)
				}
			}))
			for _, v := range []visit{
				{method: "GET", target: "/", host: web},
				{method: "GET", target: "/denied", host: web},
				{method: "GET", target: "/asked", host: web},
				{method: "GET", target: "/few", host: web},
				{method: "GET", target: "/few", host: web},
				{method: "GET", target: "/break", host: web},
				{method: "GET", target: "/many", host: web, header: many},
			} {
				f.ask(t, addr, v)
			}
			lines := p.agree(t, m, 7)
			text := strings.Join(lines, "; ")
			for _, flag := range []string{"flags -", "code 403, grpc -1, flags UAEX", "code 429, grpc -1, flags RL", "flags UC", "flags DPE"} {
				if !strings.Contains(text, flag) {
					t.Errorf("nothing ends with %s: %s", flag, text)
				}
			}
		})
	}
	t.Run("gRPC", func(t *testing.T) {
		t.Parallel()
		p, opts := newPlaces(t, telemetry.Destination)
		m := inboundMesh(t, inboundMetered, append(opts, mesh.WithAuthorizer("nobody", external.AuthorizerFunc(
			func(context.Context, *external.Check) (external.Answer, error) { return external.Answer{}, nil })))...)
		f := newGRPCFace(t, m)
		ask := func(md metadata.MD) { f.call(t.Context(), "/pkg.Service/Method", web, md) }
		change := func(old string) {
			if err := m.Apply(t.Context(), []byte(strings.ReplaceAll(inboundMetered, old, "/pkg.Service/Method"))); err != nil {
				t.Fatal(err)
			}
		}
		ask(nil)
		ask(metadata.MD(lowered(many)))
		change("/asked")
		ask(nil)
		change("/pkg.Service/Denied")
		ask(nil)
		change("/few")
		ask(nil)
		ask(nil)
		lines := p.agree(t, m, 6)
		text := strings.Join(lines, "; ")
		for _, want := range []string{"grpc 0, flags -", "grpc 8, flags DPE", "grpc 7, flags UAEX", "grpc 7, flags -", "grpc 14, flags RL"} {
			if !strings.Contains(text, want) {
				t.Errorf("nothing ends with %s: %s", want, text)
			}
		}
	})
}

func lowered(h http.Header) map[string][]string {
	low := make(map[string][]string, len(h))
	for name, v := range h {
		low[strings.ToLower(name)] = v
	}
	return low
}
