package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/spans"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry/export"
)

// TestTraces: on the wire and over HTTP/2, a call is two spans under the one that the program has named, and a request one; what goes
// on names the last of them, in every form in which it came. A program that passes its headers on joins them to one trace.
func TestTraces(t *testing.T) {
	t.Parallel()
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			seen := make(chan http.Header, 1)
			app := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }))
			app.Config.Protocols = new(http.Protocols)
			app.Config.Protocols.SetHTTP1(true)
			app.Config.Protocols.SetUnencryptedHTTP2(true)
			app.Start()
			defer app.Close()
			ended, provider := spans.Keep(t)
			with := mesh.WithTracerProvider(provider)
			in := startMesh(t, "", inboundOf(app.Listener.Addr().String()), with, mesh.WithTraceSampling(0))
			out := startMesh(t, service("reviews", protocol, in.sidecar.InboundAddrs()[0].String()), nil, with, mesh.WithTraceSampling(0))
			for i, header := range []http.Header{
				{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "B3": {id + "-" + parent + "-1"}},
				{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}, "X-B3-Sampled": {"1"}},
			} {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://reviews/reviews/1?a=secret", http.NoBody)
				req.Header = header
				resp, err := out.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				above, _ := trace.SpanIDFromHex(parent)
				byParent := map[trace.SpanID]export.Span{}
				for range 3 {
					s := <-ended
					byParent[s.Parent.SpanID()] = s
				}
				for _, kind := range []trace.SpanKind{trace.SpanKindInternal, trace.SpanKindClient, trace.SpanKindServer} {
					s, ok := byParent[above]
					if !ok || s.Kind != kind || s.Context.TraceID().String() != id {
						t.Fatalf("request %d: under %s there is %v", i, above, s)
					}
					above = s.Context.SpanID()
				}
				h := <-seen
				if got := h.Get("Traceparent"); !strings.HasPrefix(got, "00-"+id+"-"+above.String()+"-0") || len(h["Traceparent"]) != 1 {
					t.Errorf("request %d: the program gets traceparent %q, the span is %s", i, h["Traceparent"], above)
				}
				if got := h.Get("B3") + h.Get("X-B3-Spanid"); !strings.Contains(got, above.String()) || len(h["B3"])+len(h["X-B3-Spanid"]) != 1 {
					t.Errorf("request %d: the program gets b3 %q and %q", i, h["B3"], h["X-B3-Spanid"])
				}
				if x := h.Get("X-Request-Id"); len(h["X-Request-Id"]) != 1 || len(x) != 36 {
					t.Errorf("request %d: x-request-id %q", i, h["X-Request-Id"])
				}
			}
		})
	}
}

// TestTraceRefusals: a request that policies refuse, and a call without an endpoint, have spans with the flag of the answer.
func TestTraceRefusals(t *testing.T) {
	t.Parallel()
	ended, provider := spans.Keep(t)
	with := mesh.WithTracerProvider(provider)
	r := startMesh(t, service("reviews", "HTTP", "127.0.0.1:1")+`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {action: DENY, rules: [{}]}
`, inboundOf("127.0.0.1:1"), with, mesh.WithTraceSampling(100))
	flag := func(want, code string) {
		t.Helper()
		for {
			s := <-ended
			got := map[string]string{}
			for _, a := range s.Attributes {
				got[string(a.Key)] = a.Value.String()
			}
			if s.Kind == trace.SpanKindClient { // the attempt
				continue
			}
			if got["response_flags"] != want || got["http.status_code"] != code || got["error.type"] == "" && code >= "500" {
				t.Errorf("flag %s, code %s, want %s, %s", got["response_flags"], got["http.status_code"], want, code)
			}
			return
		}
	}
	get := func(client *http.Client, url string) {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	get(clientOf(t, new(http.Transport)), "http://"+r.sidecar.InboundAddrs()[0].String()+"/")
	flag("-", "403")
	get(r.client, "http://reviews/")
	flag("UF,URX", "503")
}

// TestTraceAllocs: what is not sampled costs two allocations on the wire, in either direction, and without traces nothing more.
func TestTraceAllocs(t *testing.T) { // not parallel: allocations are counted
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	up := answering(t)
	inbound := func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} }
	_, provider := spans.Keep(t)
	with := mesh.WithTracerProvider(provider)
	r := startMesh(t, service("reviews", "HTTP", up), inbound, with, mesh.WithTraceSampling(0))
	for way, address := range map[string]string{"outbound": r.sidecar.OutboundAddr().String(), "inbound": r.sidecar.InboundAddrs()[0].String()} {
		each := allocsOf(t, address)
		t.Logf("%s: %.2f allocations a request", way, each)
		if each > 2.1 {
			t.Errorf("%s: %.2f allocations a request that is not sampled, the budget is 2", way, each)
		}
	}
}
