package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/snapshot"
)

// askingSnapshot asks "opa" about /admin, and denies /never.
func askingSnapshot(t testing.TB, custom bool, p *external.Provider) *snapshot.Snapshot {
	t.Helper()
	on := func(path string) []authz.Rule {
		return []authz.Rule{{To: [][]authz.Term{{{Attribute: authz.Path, Values: []string{path}}}}}}
	}
	policies := []authz.Policy{{Namespace: "default", Name: "never", Action: authz.Deny, Rules: on("/never")}}
	if custom {
		policies = append(policies, authz.Policy{Namespace: "default", Name: "ask", Action: authz.Custom, Provider: "opa", Rules: on("/admin")})
	}
	set, err := authz.New(policies)
	if err != nil {
		t.Fatal(err)
	}
	return &snapshot.Snapshot{Authorization: set, Provider: p}
}

func publishAsking(t testing.TB, e *Engine, s *snapshot.Snapshot) {
	t.Helper()
	if err := e.Publish(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

var allowing = external.AuthorizerFunc(func(context.Context, *external.Check) (external.Answer, error) {
	return external.Answer{Allowed: true}, nil
})

func askingEngine(t testing.TB, custom bool) *Engine {
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools), Authorizers: map[string]external.Authorizer{"opa": allowing}})
	t.Cleanup(e.Close)
	publishAsking(t, e, askingSnapshot(t, custom, nil))
	return e
}

func arrivalAt(path string) *Arrival {
	q := &Arrival{Request: authz.Request{Authority: "web", Request: &call.Request{Method: "GET", Path: path, Headers: call.HTTPHeaders{}}}}
	q.Prepare()
	return q
}

// TestAllocsOfGate: what no CUSTOM policy selects costs nothing more, where there are none and where there are.
func TestAllocsOfGate(t *testing.T) { // not parallel: AllocsPerRun counts those of all goroutines
	for _, custom := range []bool{false, true} {
		g, q := askingEngine(t, custom).Gate(), arrivalAt("/reviews/1")
		n := testing.AllocsPerRun(100, func() {
			if g.Custom(q) != "" || g.Decide(q).Status != 0 {
				t.Error("selected or refused")
			}
		})
		if n != 0 {
			t.Errorf("CUSTOM policies %v: %v allocations", custom, n)
		}
	}
}

// TestGateComparesAsBefore: a gate is equal to the next one until something is published.
func TestGateComparesAsBefore(t *testing.T) {
	t.Parallel()
	e := askingEngine(t, true)
	g := e.Gate()
	if g != e.Gate() {
		t.Error("differs without a change")
	}
	publishAsking(t, e, askingSnapshot(t, true, nil))
	if g == e.Gate() {
		t.Error("is the same after a change")
	}
}

// BenchmarkGate is the decision about a request: with and without CUSTOM policies, and asked about in the program.
func BenchmarkGate(b *testing.B) {
	for _, c := range []struct {
		name, path string
		custom     bool
	}{{"no CUSTOM policy", "/reviews/1", false}, {"not selected", "/reviews/1", true}, {"asked in the program", "/admin", true}} {
		b.Run(c.name, func(b *testing.B) {
			g := askingEngine(b, c.custom).Gate()
			r := httptest.NewRequest(http.MethodGet, "http://web"+c.path, nil)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				q := Arrival{Request: authz.Request{Authority: "web", Request: &call.Request{Method: "GET", Path: c.path, Headers: call.HTTPHeaders(r.Header)}}}
				q.Prepare()
				if rule := g.Custom(&q); rule != "" {
					if v := g.Ask(ctx, &q, rule, &askedRequest{r, r.Header}); v.Status != 0 {
						b.Fatal(v)
					}
				}
				if v := g.Decide(&q); v.Status != 0 {
					b.Fatal(v)
				}
			}
		})
	}
}

// A countedClient notes when it is closed, and holds its answers until it is told.
type countedClient struct {
	to     string
	asked  chan struct{}
	answer chan struct{}
	closed chan struct{}
}

func (c *countedClient) Authorize(ctx context.Context, _ *external.Check) (external.Answer, error) {
	c.asked <- struct{}{}
	select {
	case <-c.answer:
		return external.Answer{Allowed: true}, nil
	case <-ctx.Done():
		return external.Answer{}, ctx.Err()
	}
}

func (c *countedClient) Close() error { close(c.closed); return nil }

// TestClientsOfAuthorizers: a client is kept as long as the provider's service is the same, and goes when the last question
// is answered.
func TestClientsOfAuthorizers(t *testing.T) {
	t.Parallel()
	var clients []*countedClient
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools), DialAuthorizer: func(_ *Engine, host string, port uint16) (AuthorizerClient, error) {
		if host == "broken" {
			return nil, errors.New("broken")
		}
		c := &countedClient{fmt.Sprint(host, ":", port), make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
		clients = append(clients, c)
		return c, nil
	}})
	provider := func(host string, timeout time.Duration) *external.Provider {
		return &external.Provider{Name: "opa", Kind: external.GRPC, Host: host, Port: 9191, Timeout: timeout}
	}
	isClosed := func(c *countedClient) bool {
		select {
		case <-c.closed:
			return true
		default:
			return false
		}
	}
	ask := func() Verdict {
		g, q := e.Gate(), arrivalAt("/admin")
		return g.Ask(t.Context(), q, g.Custom(q), &askedRequest{r: httptest.NewRequest(http.MethodGet, "/admin", nil)})
	}

	publishAsking(t, e, askingSnapshot(t, true, provider("a", time.Hour)))
	publishAsking(t, e, askingSnapshot(t, true, provider("a", 2*time.Hour))) // other settings of the same service
	if len(clients) != 1 || clients[0].to != "a:9191" || isClosed(clients[0]) {
		t.Fatalf("clients %v", clients)
	}
	verdict := make(chan Verdict)
	go func() { verdict <- ask() }()
	<-clients[0].asked
	publishAsking(t, e, askingSnapshot(t, true, provider("b", time.Hour)))
	if len(clients) != 2 || isClosed(clients[0]) {
		t.Error("a client is closed that is being asked")
	}
	close(clients[0].answer)
	if v := <-verdict; v.Status != 0 {
		t.Errorf("refused: %+v", v)
	}
	<-clients[0].closed
	publishAsking(t, e, askingSnapshot(t, true, provider("broken", time.Hour)))
	<-clients[1].closed
	if v := ask(); v.Status != http.StatusForbidden || v.Details != externalError {
		t.Errorf("who cannot be dialled lets in: %+v", v)
	}
	publishAsking(t, e, askingSnapshot(t, true, provider("c", time.Hour)))
	publishAsking(t, e, askingSnapshot(t, false, nil))
	<-clients[2].closed
	publishAsking(t, e, askingSnapshot(t, true, provider("d", time.Hour)))
	e.Close()
	<-clients[3].closed
}

// TestTrailOfQuestions: a mesh knows its own questions, through others, and refuses those that go on for too long.
func TestTrailOfQuestions(t *testing.T) {
	t.Parallel()
	trail := ""
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools), Authorizers: map[string]external.Authorizer{
		"opa": external.AuthorizerFunc(func(_ context.Context, c *external.Check) (external.Answer, error) {
			trail = c.Trail
			return external.Answer{Allowed: true}, nil
		})}})
	t.Cleanup(e.Close)
	publishAsking(t, e, askingSnapshot(t, true, nil))
	ask := func(trail string) int {
		r := httptest.NewRequest(http.MethodGet, "/admin", nil)
		r.Header.Set(external.TrailHeader, trail)
		g, q := e.Gate(), arrivalAt("/admin")
		return g.Ask(t.Context(), q, g.Custom(q), &askedRequest{r, r.Header}).Status
	}
	if ask("") != 0 || trail == "" {
		t.Fatalf("trail %q", trail)
	}
	own := trail
	if ask("other") != 0 || trail != "other "+own {
		t.Errorf("trail %q", trail)
	}
	for _, came := range []string{own, "other " + own + " third", strings.Repeat("x", maxTrail+1)} {
		if ask(came) != http.StatusForbidden {
			t.Errorf("asked for the sake of %q", came)
		}
	}
}

// TestEditedWriter: the changes are made once, before the header goes out, whichever way it does; informational answers
// are left alone.
func TestEditedWriter(t *testing.T) {
	t.Parallel()
	v := &Verdict{answer: &external.Answer{Response: []external.Edit{{Name: "x-seen", Value: "yes"}}}}
	for name, write := range map[string]func(http.ResponseWriter){
		"nothing":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints); w.WriteHeader(http.StatusOK) },
		"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"Write":       func(w http.ResponseWriter) { _, _ = w.Write([]byte("a")) },
		"ReadFrom":    func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("a")) },
		"Flush":       func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"controller":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	} {
		rec := httptest.NewRecorder()
		w := answerWith(rec, v)
		w.Header().Set("X-Seen", "no")
		write(w)
		if got := rec.Header()["X-Seen"]; len(got) != 1 || got[0] != "yes" {
			t.Errorf("%s: X-Seen %q", name, got)
		}
	}
	rec := httptest.NewRecorder()
	if w := answerWith(rec, new(Verdict)); w != http.ResponseWriter(rec) {
		t.Error("a writer that nothing is changed by is wrapped")
	}
}
