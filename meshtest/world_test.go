package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/meshtest"
)

const reviewsYAML = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports:
  - {number: 9080, name: http, protocol: HTTP}
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 80}
    - {destination: {host: reviews, subset: v2}, weight: 20}
`

const reviews = "http://reviews:9080/reviews/1"

var (
	v1 = map[string]string{"version": "v1"}
	v2 = map[string]string{"version": "v2"}
)

// says is a handler that answers with a text.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// run runs f with one instance of reviews and no rules.
func run(t *testing.T, f func(t *testing.T, e *meshtest.Env, i *meshtest.Instance)) {
	t.Helper()
	t.Parallel()
	meshtest.Run(t, meshtest.Config{}, func(t *testing.T, e *meshtest.Env) {
		f(t, e, e.HTTP("reviews:9080", v1, says("fine")))
	})
}

// get makes a call that may fail.
func get(e *meshtest.Env, ctx context.Context, url string) (status int, err error) { //nolint:revive // e is the receiver it would be
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := e.Client().Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// A fake is a testing.TB that notes what is said to it. Fatal ends its goroutine: see during.
type fake struct {
	testing.TB
	mu       sync.Mutex
	said     strings.Builder
	failed   bool
	cleanups []func()
}

// during runs f with a fake test, through to its cleanups, and gives what was said.
func during(t *testing.T, f func(tb testing.TB)) (said string, failed bool) {
	t.Helper()
	tb := &fake{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for n := len(tb.cleanups) - 1; n >= 0; n-- {
				tb.cleanups[n]()
			}
		}()
		f(tb)
	}()
	<-done
	return tb.said.String(), tb.failed
}

func (f *fake) Helper()          {}
func (f *fake) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }

func (f *fake) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *fake) Error(args ...any) { f.say(true, fmt.Sprint(args...)) }
func (f *fake) Log(args ...any)   { f.say(false, fmt.Sprint(args...)) }

func (f *fake) Errorf(format string, args ...any) { f.say(true, fmt.Sprintf(format, args...)) }
func (f *fake) Logf(format string, args ...any)   { f.say(false, fmt.Sprintf(format, args...)) }

func (f *fake) Fatalf(format string, args ...any) {
	f.say(true, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (f *fake) say(failed bool, s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = f.failed || failed
	f.said.WriteString(s + "\n")
}
