package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
)

// callerLimit writes a RateLimit of two requests a day for each value of a key.
func callerLimit(by string) string {
	return "---\napiVersion: heddle.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: l}\nspec:\n  direction: INBOUND\n  rateLimitHeaders: true\n" +
		"  limits: [{name: each, by: [" + by + "], requests: 2, unit: DAY, maxKeys: 100}]\n"
}

// A claimStep is a request with a token of these claims, nil for none, and what is left of its limit; -1 where it is refused.
type claimStep struct {
	claims map[string]any
	left   int
}

// TestCallerLimits: limits by jwtClaim and peerIdentity, in every face. Who has no such claim, or no token, is counted with all
// others who have none; the same words of two issuers are two.
func TestCallerLimits(t *testing.T) {
	t.Parallel()
	of := func(pairs ...any) map[string]any {
		claims := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			claims[pairs[i].(string)] = pairs[i+1]
		}
		return claims
	}
	const other = "https://other.example"
	for _, c := range []struct {
		name, by string
		steps    []claimStep
	}{
		{"text", "{jwtClaim: sub}", []claimStep{{of(), 1}, {of("sub", "bob"), 1}, {of(), 0}, {of(), -1}, {of("sub", "bob"), 0}, {of("sub", "bob"), -1}}},
		{"another token of the same", "{jwtClaim: sub}", []claimStep{{of("jti", "1"), 1}, {of("jti", "2"), 0}, {of("jti", "3"), -1}}},
		{"two issuers", "{jwtClaim: sub}", []claimStep{{of(), 1}, {of("iss", other), 1}, {of(), 0}, {of(), -1}, {of("iss", other), 0}}},
		{"none and no token", "{jwtClaim: team}", []claimStep{{nil, 1}, {of(), 0}, {nil, -1}, {of("team", "a"), 1}, {of("team", []any{}), -1}, {of("team", 1.5), -1}}},
		{"within others", "{jwtClaim: org.team}", []claimStep{{of("org", of("team", "a")), 1}, {of("org", of("team", "b")), 1}, {of("org", of("team", "a")), 0},
			{of("org.team", "a"), 1}, {of("org", "a"), 0}, {of("org", of("team", "a")), -1}}},
		{"number and truth", "{jwtClaim: tier}", []claimStep{{of("tier", 1), 1}, {of("tier", 2), 1}, {of("tier", true), 1}, {of("tier", 1), 0}, {of("tier", 1), -1}, {of("tier", true), 0}}},
		{"a list", "{jwtClaim: groups}", []claimStep{{of("groups", []string{"a", "b"}), 1}, {of("groups", []string{"a"}), 1}, {of("groups", []string{"a", "b"}), 0}, {of("groups", []string{"ab"}), 1}}},
		{"a claim and a header", "{jwtClaim: sub}, {header: x-kind}", []claimStep{{of(), 1}, {of("sub", "bob"), 1}, {of(), 0}, {of(), -1}}},
	} {
		documents := authentication("r", "https://issuer.example", "") + authentication("o", other, "") + callerLimit(c.by)
		for _, f := range faces {
			t.Run(f.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				app := &witness{make(chan string, len(c.steps))}
				addr := f.serve(t, inboundMesh(t, documents), app)
				for i, s := range c.steps {
					v := visit{method: "GET", target: "/", host: "web", header: http.Header{}}
					if s.claims != nil {
						v.header.Set("Authorization", "Bearer "+tokenOf(s.claims))
					}
					got := f.ask(t, addr, v)
					left, want := fmt.Sprint(max(s.left, 0)), 200
					if s.left < 0 {
						want = http.StatusTooManyRequests
					}
					if got.status != want || got.header.Get("X-Ratelimit-Remaining") != left || (want == 429) != (strings.TrimSpace(got.body) == "local_rate_limited") {
						t.Errorf("step %d: %d %q, %s left; want %d, %s left", i, got.status, got.body, got.header.Get("X-Ratelimit-Remaining"), want, left)
					}
					if seen := len(app.seen) > 0; seen != (want == 200) {
						t.Errorf("step %d: the program is asked: %v", i, seen)
					} else if seen {
						<-app.seen
					}
				}
			})
		}
		t.Run("gRPC/"+c.name, func(t *testing.T) {
			t.Parallel()
			f := newGRPCFace(t, inboundMesh(t, documents))
			for i, s := range c.steps {
				md := metadata.MD{}
				if s.claims != nil {
					md.Set("authorization", "Bearer "+tokenOf(s.claims))
				}
				want := codes.OK
				if s.left < 0 {
					want = codes.Unavailable
				}
				if code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", md); code != want || ran != (want == codes.OK) {
					t.Errorf("step %d: %v %q, ran %v; want %v", i, code, message, ran, want)
				}
			}
		})
	}
}

// TestRefusedAreNotCounted: who is refused by policies takes nothing from a limit by claims.
func TestRefusedAreNotCounted(t *testing.T) {
	t.Parallel()
	documents := authentication("r", "https://issuer.example", "") + callerLimit("{jwtClaim: team}") +
		policy("p", "{rules: [{from: [{source: {requestPrincipals: ['*/alice']}}]}]}")
	for _, f := range faces {
		addr := f.serve(t, inboundMesh(t, documents), &witness{make(chan string, 1)})
		bearer := func(token string) visit {
			return visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": {"Bearer " + token}}}
		}
		for range 3 {
			if got := f.ask(t, addr, bearer(tokenOf(map[string]any{"sub": "bob", "team": "a"}))); got.status != 403 {
				t.Errorf("%s: bob is answered %d", f.name, got.status)
			}
			if got := f.ask(t, addr, bearer("a.b.c")); got.status != 401 {
				t.Errorf("%s: a broken token is answered %d", f.name, got.status)
			}
		}
		if got := f.ask(t, addr, bearer(tokenOf(map[string]any{"team": "a"}))); got.status != 200 || got.header.Get("X-Ratelimit-Remaining") != "1" {
			t.Errorf("%s: alice is answered %d, %s left", f.name, got.status, got.header.Get("X-Ratelimit-Remaining"))
		}
	}
}

// TestPeerLimits: by peerIdentity each workload has its own count, however many connections it makes, and all who prove nothing
// share one.
func TestPeerLimits(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faces {
		if f.http2 {
			continue
		}
		addr := f.serve(t, inboundMesh(t, callerLimit("{peerIdentity: true}"), mesh.WithIdentity(a.Source(workloadID(t, "web")))), new(recorder))
		for _, account := range []string{"reviews", "productpage", ""} {
			for i, want := range []int{200, 200, 429} {
				var answer *http.Response
				if account == "" {
					answer = askAs(t, addr, nil)
				} else {
					answer = askAs(t, addr, clientTLS(t, a, account, "istio-http/1.1", "http/1.1"))
				}
				if answer.StatusCode != want {
					t.Errorf("%s: request %d of %q is answered %d, want %d", f.name, i, account, answer.StatusCode, want)
				}
			}
		}
	}
	rpc := newGRPCFace(t, inboundMesh(t, strings.Replace(callerLimit("{peerIdentity: true}"), "rateLimitHeaders", "rateLimitedAsResourceExhausted", 1),
		mesh.WithIdentity(a.Source(workloadID(t, "web")))))
	for _, account := range []string{"reviews", "productpage"} {
		for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
			if err := callAs(t, rpc, clientTLS(t, a, account, "istio-h2", "h2")); grpcstatus.Code(err) != want {
				t.Errorf("gRPC: call %d of %s: %v", i, account, err)
			}
		}
	}
}
