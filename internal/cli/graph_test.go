package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/telemetry"
)

// TestGraph: the metrics of two processes, one that calls and one that is called, make one edge between them, in every format.
func TestGraph(t *testing.T) {
	t.Parallel()
	web := telemetry.Workload{Name: "web-v1", Namespace: "shop", Principal: "spiffe://td/ns/shop/sa/web"}
	reviews := telemetry.Workload{Name: `re"views`, Namespace: "default", Principal: "spiffe://td/ns/default/sa/reviews"}
	serve := func(record func(s *telemetry.Store)) string {
		s := telemetry.NewStore(telemetry.Options{})
		record(s)
		mux := http.NewServeMux()
		mux.Handle("GET /stats/prometheus", s)
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	caller := serve(func(s *telemetry.Store) {
		g := s.Group(telemetry.Labels{Reporter: telemetry.Source, Source: web, Destination: reviews, Service: telemetry.Service{Name: "reviews"}})
		for range 3 {
			g.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{})
		}
		g.Series(telemetry.Outcome{Code: 503}).Record(telemetry.Measurement{})
		s.Group(telemetry.Labels{Reporter: telemetry.Source, Source: web, Service: telemetry.Service{Name: "PassthroughCluster"}}).Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{})
	})
	callee := serve(func(s *telemetry.Store) {
		l := telemetry.Labels{Reporter: telemetry.Destination, Destination: reviews, Service: telemetry.Service{Name: "reviews"}}
		s.Group(l).Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{}) // by whom is not known
		s.Group(l).Series(telemetry.Outcome{Code: 200, GRPC: 14 + 1}).Record(telemetry.Measurement{})
	})
	run := func(format string) string {
		r := heddle(t, "", "graph", "--admin", caller, "--admin", callee, "-o", format)
		if r.code != exitOK {
			t.Fatalf("%s: exit code %d\n%s", format, r.code, r.stderr)
		}
		return r.stdout
	}
	if got, want := words(run("text")), "FROM TO PROTOCOL REQUESTS FAILED MTLS\nunknown re\"views.default grpc 1 100.0 % false\n"+
		"web-v1.shop PassthroughCluster http 1 0.0 % false\nweb-v1.shop re\"views.default http 4 25.0 % true\n"; got != want {
		t.Errorf("text is\n%s, want\n%s", got, want)
	}
	var all []edge
	if err := json.Unmarshal([]byte(run("json")), &all); err != nil || len(all) != 3 || all[2].Failed != 1 || !all[2].Secured {
		t.Errorf("JSON: %v, %+v", err, all)
	}
	if got := run("dot"); !strings.Contains(got, `  "web-v1.shop" -> "re\"views.default" [label="http 4, 25.0 % failed, mTLS", color=red];`) || !strings.HasSuffix(got, "}\n") {
		t.Errorf("dot:\n%s", got)
	}
	if got := run("mermaid"); !strings.Contains(got, `-->|"http 4, 25.0 % failed, mTLS"| n1`) || !strings.Contains(got, `n1["re#quot;views.default"]`) {
		t.Errorf("mermaid:\n%s", got)
	}
	if r := heddle(t, "", "graph", "--admin", "127.0.0.1:1"); r.code != exitFailed {
		t.Errorf("nobody there: exit code %d", r.code)
	}
}
