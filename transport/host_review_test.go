package transport

import (
	"net/http"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestHostSpellings: however a host is spelled, what net/http would dial for it is what its rules are looked
// up by; and a Host header that is none does not lead past them.
func TestHostSpellings(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	for _, host := range []string{"svc", "SVC", "svc.", "ｓｖｃ", "ｓvc", "svc。", "ſvc"} {
		var info CallInfo
		req, err := http.NewRequestWithContext(Capture(t.Context(), &info), "GET", "http://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.rt.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		resp.Body.Close()
		if info.Cluster != "outbound|80||svc" {
			t.Errorf("%s went to %s", host, info.Cluster)
		}
	}
	for _, host := range []string{"a,b", "u@h", "svc/x", "svc:99999", "a b"} {
		req, _ := http.NewRequest("GET", "http://svc/", nil)
		req.Host = host
		resp, err := r.rt.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		if call.ReasonOf(err) != call.ReasonInvalidRequest {
			t.Errorf("Host %q: %v", host, err)
		}
	}
}

// TestTriedIsBounded: however often a rule lets a call be tried, what it remembers of it stays small.
func TestTriedIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, snapshot.HTTP1, nil, loopback.Dead(t), loopback.Dead(t))
	r.route.Retry.Attempts, r.route.Retry.Backoff.Base, r.route.Retry.Backoff.Max = 150, 1, 1
	var info CallInfo
	req, _ := http.NewRequestWithContext(Capture(t.Context(), &info), "GET", "http://svc/", nil)
	if _, err := r.rt.RoundTrip(req); call.ReasonOf(err) != call.ReasonConnect {
		t.Fatal(err)
	}
	if info.Attempts != 151 || len(info.Tried) != maxTold {
		t.Errorf("%d attempts, %d told", info.Attempts, len(info.Tried))
	}
}
