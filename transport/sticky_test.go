package transport_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

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
