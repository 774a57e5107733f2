package transport_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh/meshtest"
)

const stickyReviews = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {consistentHash: {KEY}}}
`

// named answers with a name, and a cookie of its own.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "own=1")
		_, _ = io.WriteString(w, name)
	})
}

// TestBrowserStays: a browser that has no cookie is given one, beside the program's own, and stays where that led it.
// Another browser is led where its own leads.
func TestBrowserStays(t *testing.T) {
	meshtest.Run(t, meshtest.YAML(strings.Replace(stickyReviews, "KEY", "httpCookie: {name: route, path: /, ttl: 0s}", 1)), func(t *testing.T, e *meshtest.Env) {
		for _, name := range []string{"a", "b", "c"} {
			e.HTTP("reviews", nil, named(name))
		}
		led := map[string]int{}
		for range 20 {
			jar, _ := cookiejar.New(nil)
			browser := &http.Client{Transport: e.Client().Transport, Jar: jar}
			first := ""
			for i := range 5 {
				resp, err := browser.Get("http://reviews:9080/")
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if n := len(resp.Cookies()); i == 0 && n != 2 || i > 0 && n != 1 {
					t.Fatalf("call %d: %q", i, resp.Header["Set-Cookie"])
				}
				if first == "" {
					first = string(b)
				}
				if string(b) != first {
					t.Fatalf("led to %s, then to %s", first, b)
				}
			}
			led[first]++
		}
		if len(led) != 3 {
			t.Errorf("20 browsers were led to %v", led)
		}
	})
}

// TestUsersStay: calls with one header value, or query parameter, stay together, also when an instance comes: then most do.
func TestUsersStay(t *testing.T) {
	for name, c := range map[string]struct{ key, url, header string }{
		"header": {"httpHeaderName: x-user", "http://reviews:9080/", "x-user: #"},
		"query":  {"httpQueryParameterName: user", "http://reviews:9080/?user=#", ""},
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Run(t, meshtest.YAML(strings.Replace(stickyReviews, "KEY", c.key+", maglev: {}", 1)), func(t *testing.T, e *meshtest.Env) {
				for _, name := range []string{"a", "b", "c"} {
					e.HTTP("reviews", nil, named(name))
				}
				at := func(user string) string {
					var headers []string
					if c.header != "" {
						headers = append(headers, strings.Replace(c.header, "#", user, 1))
					}
					return e.Get(strings.Replace(c.url, "#", user, 1), headers...).Body
				}
				users := strings.Fields("jason anna bob carol dave eve frank grace heidi ivan judy ken lena mia noah olaf paul quinn rosa sven")
				before := map[string]string{}
				for _, u := range users {
					before[u] = at(u)
				}
				for _, u := range users {
					if got := at(u); got != before[u] {
						t.Errorf("%s was led to %s, then to %s", u, before[u], got)
					}
				}
				e.HTTP("reviews", nil, named("d"))
				moved := 0
				for _, u := range users {
					if at(u) != before[u] {
						moved++
					}
				}
				if moved == 0 || moved > len(users)/2 {
					t.Errorf("%d of %d moved when a fourth came", moved, len(users))
				}
			})
		})
	}
}

// TestCopiesStay: copies for a mirror that keeps calls together are kept together too, by the caller's own header, whatever the
// rule makes of it.
func TestCopiesStay(t *testing.T) {
	const mirrored = stickyReviews + `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: front}
spec:
  hosts: [front.default.svc.cluster.local]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec: {hosts: [front], http: [{route: [{destination: {host: front}}], mirror: {host: reviews}, headers: {request: {set: {x-user: all}}}}]}
`
	meshtest.Run(t, meshtest.YAML(strings.Replace(mirrored, "KEY", "httpHeaderName: x-user", 1)), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("front", nil, named("front"))
		at := make(map[string]map[string]int)
		var mu sync.Mutex
		for _, name := range []string{"a", "b", "c"} {
			e.HTTP("reviews", nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				user := r.URL.Query().Get("user")
				if at[user] == nil {
					at[user] = make(map[string]int)
				}
				at[user][name]++
			}))
		}
		for range 5 {
			for _, user := range strings.Fields("jason anna bob carol dave eve frank grace heidi ivan") {
				e.Get("http://front:9080/?user="+user, "x-user: "+user)
			}
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		used := make(map[string]bool)
		for user, of := range at {
			for name, n := range of {
				if used[name] = true; n != 5 {
					t.Errorf("%s: %v", user, of)
				}
			}
		}
		if len(at) != 10 || len(used) < 2 {
			t.Errorf("copies of %d users at %v", len(at), used)
		}
	})
}
