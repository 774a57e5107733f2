package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestDeadInstance: a hundred calls, half of which would meet it, do not notice an instance that is dead.
func TestDeadInstance(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, alive *meshtest.Instance) {
		dead := e.HTTP("reviews", v1, nil)
		dead.Inject(meshtest.RefuseConn())
		for range 100 {
			resp, err := e.Client().Post(reviews, "text/plain", struct{ io.Reader }{strings.NewReader("hello")})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if a, d := len(alive.Calls()), len(dead.Calls()); a != 100 || d != 0 {
			t.Errorf("the living one had %d calls, the dead one %d", a, d)
		}
	})
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "reviews.yaml"), []byte(reviewsYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	list := "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.Trim(reviewsYAML, "\n"), "\n", "\n  ")
	list = strings.ReplaceAll(list, "\n  ---\n  ", "\n- ")
	for name, c := range map[string]meshtest.Config{
		"dir":  meshtest.Dir(dir),
		"file": meshtest.Dir(filepath.Join(dir, "reviews.yaml")),
		"yaml": meshtest.YAML(reviewsYAML),
		"list": meshtest.YAML(list),
		"fs":   meshtest.FS(fstest.MapFS{"a/reviews.yaml": {Data: []byte(reviewsYAML)}, "b.yaml": {Data: []byte("{")}}, "a/*.yaml"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meshtest.Run(t, c, func(t *testing.T, e *meshtest.Env) {
				e.WantRoute("GET", reviews, "jason", "end-user: jason")
				two := e.HTTP("reviews", v2, says("two"))
				e.HTTP("reviews", v1, says("one"))
				if a := e.Get(reviews, "end-user: jason"); a.Body != "two" || a.From != two {
					t.Errorf("got %+v\n%s", a, e.Story())
				}
			})
		})
	}
}

func TestRefusedConfigs(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		config meshtest.Config
		want   string
	}{
		"missing":   {meshtest.Dir("no/such/directory"), "no/such/directory"},
		"syntax":    {meshtest.YAML("\na: {"), "<yaml>:2"},
		"a field":   {meshtest.YAML(strings.Replace(reviewsYAML, "weight", "wait", 1)), "<yaml>:33:50"},
		"two of it": {meshtest.YAML(reviewsYAML + "---" + reviewsYAML), "already declared at <yaml>:4:18"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said, failed := during(t, func(tb testing.TB) {
				meshtest.New(tb, row.config)
				tb.Error("went on")
			})
			if !failed || !strings.Contains(said, row.want) || strings.Contains(said, "went on") {
				t.Error(said)
			}
		})
	}
}

func TestUnknownHost(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance) {
		for url, want := range map[string]string{
			"http://ratings:9080/":   "host ratings:9080 is not in the test's mesh, which has reviews;",
			"https://example.com/":   "host example.com is not in the test's mesh",
			"http://reviews:1/":      "the mesh does not know the host on port 1, but on 9080",
			"http://[::1]:1/a":       "host [::1]:1 is not in the test's mesh",
			"http://198.18.0.1:9080": "is not in the test's mesh",
		} {
			if _, err := get(e, t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
}

// TestEndpointWithoutInstance: what only the YAML declares is there, but nobody answers.
func TestEndpointWithoutInstance(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(reviewsYAML), func(t *testing.T, e *meshtest.Env) {
		_, err := get(e, t.Context(), reviews)
		if mesh.ReasonOf(err) != mesh.ReasonConnect || !strings.Contains(err.Error(), "add one with Env.HTTP") {
			t.Errorf("got %v", err)
		}
	})
}

func TestInstancesReplaceEndpoints(t *testing.T) {
	t.Parallel()
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: shop}
spec:
  hosts: [carts.shop.svc.cluster.local, stock.shop.svc.cluster.local, api.example.com]
  resolution: DNS
  ports: &ports
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 81, name: grpc, protocol: HTTP2}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: ratings}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ratings}
spec: {address: 10.0.0.1, labels: {app: ratings}}
`
	meshtest.Run(t, meshtest.YAML(yaml), func(t *testing.T, e *meshtest.Env) {
		synctest.Wait() // until the names of the YAML have been looked up
		carts, api := e.HTTP("carts.shop", nil, nil), e.HTTP("api.example.com:81", nil, nil)
		ratings := e.HTTP("ratings", nil, nil)
		odd := e.HTTP("odd", map[string]string{"x": "yes", "n": "1"}, nil)
		for url, want := range map[string]*meshtest.Instance{
			"http://carts.shop/":                             carts,
			"http://carts.shop.svc.cluster.local:81/":        carts,
			"http://api.example.com/":                        api,
			"http://api.example.com:81/":                     api,
			"http://ratings:9080/":                           ratings,
			"http://ratings.default.svc.cluster.local:9080/": ratings,
			"http://odd/":                                    odd,
		} {
			if a := e.Get(url); a.From != want || a.Body != want.String()+"\n" {
				t.Errorf("%s was answered by %v", url, a.From)
			}
		}
		if s := e.As(mesh.Workload{}); s.Get("http://carts.shop/").From != carts ||
			!strings.Contains(s.Story(), "rule      ServiceEntry shop/shop.meshtest-1 (<yaml>:9), route") {
			t.Errorf("the rewritten entry is no longer where it was: %s", s.Story())
		}
		if carts.Address() != "198.18.0.1:8080" || api.Address() != "198.18.0.2:81" || odd.Address() != "198.18.0.4:80" {
			t.Errorf("addresses %s %s %s", carts.Address(), api.Address(), odd.Address())
		}
		if odd.String() != "odd n=1,x=yes at 198.18.0.4:80" {
			t.Errorf("%s", odd)
		}
		if _, err := get(e, t.Context(), "http://stock.shop/"); mesh.ReasonOf(err) != mesh.ReasonNoEndpoint || !strings.Contains(err.Error(), "no such host in the test") {
			t.Errorf("stock keeps the YAML's endpoint: %v", err)
		}
		e.WantRoute("GET", "http://stock.shop/", "UH")
	})
	said, _ := during(t, func(tb testing.TB) {
		meshtest.New(tb, meshtest.YAML(yaml)).HTTP("ratings:9081", nil, nil)
	})
	if !strings.Contains(said, "ratings.default.svc.cluster.local (<yaml>:12) has no port 9081; its ports: 9080") {
		t.Error(said)
	}
}

// TestAs: the rules of the caller's namespace and the services exported to it.
func TestAs(t *testing.T) {
	t.Parallel()
	const yaml = reviewsYAML + `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.default.svc.cluster.local]
  exportTo: ["."]
  http:
  - fault: {}
    route: [{destination: {host: reviews.default.svc.cluster.local, subset: v2}}]
`
	meshtest.Run(t, meshtest.YAML(strings.Replace(strings.Replace(yaml, "  - fault: {}\n    route", "  - route", 1),
		"  hosts: [reviews]\n", "  hosts: [reviews]\n  exportTo: [\".\"]\n", 1)), func(t *testing.T, e *meshtest.Env) {
		shop := e.As(mesh.Workload{Namespace: "shop", Name: "web"})
		one, two := e.HTTP("reviews", v1, nil), shop.HTTP("reviews.default", v2, nil)
		e.WantRoute("GET", reviews, "reviews/v1 80%, reviews/v2 20%")
		shop.WantRoute("GET", "http://reviews.default:9080/", "reviews.default/v2")
		shop.WantRoute("GET", "http://reviews:9080/", "passthrough")
		for range 20 {
			if a := shop.Get("http://reviews.default:9080/"); a.From != two {
				t.Fatalf("from %s\n%s", a.From, shop.Story())
			}
		}
		if len(one.Calls()) != 0 || !strings.Contains(shop.Story(), "from      shop/web\n") {
			t.Error(shop.Story())
		}
		if strings.Contains(e.Story(), "reviews") {
			t.Error("the first workload has made no call: ", e.Story())
		}
		if err := shop.Apply(""); err != nil {
			t.Fatal(err)
		}
		e.WantRoute("GET", reviews, "reviews:9080") // what Apply takes away, it takes away for all
		if err := e.Apply("kind: VirtualService"); err == nil {
			t.Error("accepted")
		}
	})
}

func TestApply(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(reviewsYAML), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", v1, nil)
		two := e.HTTP("reviews", v2, nil)
		if err := e.Apply(strings.NewReplacer("weight: 80", "weight: 0", "weight: 20", "weight: 100").Replace(reviewsYAML)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if a := e.Get(reviews); a.From != two {
				t.Fatalf("from %s\n%s", a.From, e.Story())
			}
		}
		err := e.Apply("", strings.Replace(reviewsYAML, "subset: v2", "subzet: v2", 1))
		var refused *mesh.ConfigError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "<yaml 2>:31:") {
			t.Errorf("got %v", err)
		}
		if a := e.Get(reviews); a.From != two {
			t.Errorf("the refused set changed something: from %s", a.From)
		}
		if err := e.Apply(); err != nil {
			t.Fatal(err)
		}
		e.Distribution(10, reviews, map[string]float64{"v1": 0.5, "v2": 0.5}, 0.3) // the service stays, its rules have gone
	})
}

func TestLeftOpen(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance) {
		big := e.HTTP("big", nil, says(strings.Repeat("x", 1<<20)))
		resp, err := e.Client().Get("http://big/")
		if err != nil || len(big.Calls()) != 1 {
			t.Fatal(err)
		}
		_ = resp.Body // nobody closes it, and still the bubble ends
	})
}

func TestHandlerPanics(t *testing.T) {
	t.Parallel()
	said, failed := during(t, func(tb testing.TB) {
		e := meshtest.New(tb, meshtest.Config{})
		e.HTTP("a", nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }))
		_, _ = get(e, context.Background(), "http://a/")
	})
	if !failed || !strings.Contains(said, "the handler of a at 198.18.0.1:80 panicked: oops") || !strings.Contains(said, "TestHandlerPanics") {
		t.Error(said)
	}
}

// TestOwnCapture: the code under test may use mesh.Capture itself.
func TestOwnCapture(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		var info mesh.CallInfo
		if _, err := get(e, mesh.Capture(t.Context(), &info), reviews); err != nil {
			t.Fatal(err)
		}
		if info.Endpoint != i.Address() {
			t.Errorf("captured %s", info.Endpoint)
		}
		if s := e.Story(); !strings.Contains(s, "tried 1   "+i.String()+": 200") {
			t.Error(s)
		}
	})
}

// TestParallel uses worlds beside each other, and each by many goroutines, on the real clock.
func TestParallel(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			e := meshtest.New(t, meshtest.YAML(reviewsYAML))
			flaky := e.HTTP("reviews", v1, nil)
			e.HTTP("reviews", v1, nil)
			e.HTTP("reviews", v2, nil)
			done := make(chan struct{})
			for range 4 {
				go func() {
					defer func() { done <- struct{}{} }()
					for range 50 {
						_, _ = get(e, t.Context(), reviews)
						_ = e.Story()
						_ = flaky.Calls()
					}
				}()
			}
			for range 10 {
				flaky.Inject(meshtest.RefuseConn())()
				flaky.Inject(meshtest.Delay(time.Microsecond))()
				e.As(mesh.Workload{Namespace: "shop"})
			}
			e.HTTP("ratings", nil, nil)
			for range 4 {
				<-done
			}
		})
	}
}
