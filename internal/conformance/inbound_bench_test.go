package conformance

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/transport"
)

// nobody is a ResponseWriter that keeps nothing.
type nobody struct{ h http.Header }

func (n nobody) Header() http.Header                        { return n.h }
func (nobody) Write(b []byte) (int, error)                  { return len(b), nil }
func (nobody) WriteHeader(int)                              {}
func (nobody) ServeHTTP(http.ResponseWriter, *http.Request) {}

// tenPolicies allow and deny by path, method and a header field, five each.
func tenPolicies() string {
	ten := strings.Builder{}
	for i := range 10 {
		ten.WriteString(policy(fmt.Sprint("p", i), fmt.Sprintf("{action: %s, rules: [{to: [{operation: {paths: ['/svc%d/*'], methods: [GET]}}], "+
			"when: [{key: 'request.headers[x-team]', values: [team%d]}]}]}", []string{"ALLOW", "DENY"}[i%2], i, i)))
	}
	return ten.String()
}

// wholeChain is ten policies, two of which name the caller, a rule for tokens and a limit by the caller and one by a claim.
func wholeChain() string {
	return tenPolicies() + policy("who", "{action: DENY, rules: [{from: [{source: {notNamespaces: [default]}}]}]}") +
		policy("whose", "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['https://issuer.example/*']}}]}]}") +
		authentication("r", "https://issuer.example", "") + `---
apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: l}
spec:
  direction: INBOUND
  limits:
  - {name: each, by: [{peerIdentity: true}], requests: 1000000000, unit: SECOND, maxKeys: 10}
  - {name: sub, by: [{jwtClaim: sub}], requests: 1000000000, unit: SECOND, maxKeys: 10}
`
}

// chainRequest is a request with a token, of a caller whose certificate was verified.
func chainRequest(b testing.TB) *http.Request {
	id, err := identity.ParseID("spiffe://cluster.local/ns/default/sa/web")
	if err != nil {
		b.Fatal(err)
	}
	who, err := authz.ParsePrincipal(id.String())
	if err != nil {
		b.Fatal(err)
	}
	ctx := transport.WithCaller(b.Context(), &transport.Caller{Peer: identity.Peer{ID: id}, Policy: who})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web/svc4/x", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI, r.RemoteAddr = "/svc4/x", "192.0.2.7:1234"
	r.Header = http.Header{"X-Team": {"team4"}, "X-Request-Id": {"a"}, "User-Agent": {"b"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"},
		"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Authorization": {"Bearer " + tokenOf(nil)}}
	return r
}

// BenchmarkInbound is what Handler does before and after the program: policies, request id, trace headers, metrics, the record of what
// is under way, and in the whole chain caller, token and limits; in parallel too, for what of it is shared.
func BenchmarkInbound(b *testing.B) {
	for name, config := range map[string]string{"bare": "-", "no policies": "", "10 policies": tenPolicies(), "whole chain": wholeChain()} {
		b.Run(name, func(b *testing.B) {
			var h http.Handler = nobody{}
			if config != "-" {
				m := inboundMesh(b, config)
				h = m.Handler(h)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := chainRequest(b)
				if config == wholeChain() && !passes(h, r) {
					b.Error("refused")
				}
				w := nobody{make(http.Header)}
				for pb.Next() {
					h.ServeHTTP(w, r)
				}
			})
		})
	}
}

// passes reports whether the handler lets a request in.
func passes(h http.Handler, r *http.Request) bool {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code == http.StatusOK
}

// TestAllocsOfChain: callers, policies, tokens that are known and limits cost no more allocations than what carries them on: the
// context that knows the token, and what a limit remembers of the caller's key.
func TestAllocsOfChain(t *testing.T) { // not parallel: AllocsPerRun counts those of all goroutines
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := chainRequest(t)
	count := func(config string) float64 {
		m := inboundMesh(t, config)
		h := m.Handler(nobody{})
		if config != "" && !passes(h, r) {
			t.Fatal("refused")
		}
		w := nobody{make(http.Header)}
		return testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) })
	}
	const most = 1
	if bare, all := count(""), count(wholeChain()); all-bare > most {
		t.Errorf("%v allocations more than the %v of Handler without them, want %d", all-bare, bare, most)
	}
}
