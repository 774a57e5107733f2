package faults_test

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestIstioCircuitBreaking is the task "Circuit Breaking" of Istio's documentation with its DestinationRule to the letter:
// while its one connection is busy and one call waits for it, further ones overflow (UO); one error ejects, for three minutes nothing
// is sent, and then calls are answered again.
func TestIstioCircuitBreaking(t *testing.T) {
	meshtest.Run(t, meshtest.YAML(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 1
      http:
        http1MaxPendingRequests: 1
        maxRequestsPerConnection: 1
    outlierDetection:
      consecutive5xxErrors: 1
      interval: 1s
      baseEjectionTime: 3m
      maxEjectionPercent: 100
`), func(t *testing.T, e *meshtest.Env) {
		const url = "http://httpbin:8000/get"
		var status atomic.Int64
		status.Store(http.StatusOK)
		release := make(chan struct{})
		busy, most := atomic.Int64{}, atomic.Int64{}
		httpbin := e.HTTP("httpbin:8000", nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			most.Store(max(most.Load(), busy.Add(1)))
			<-release
			busy.Add(-1)
			w.WriteHeader(int(status.Load()))
		}))

		// Twenty callers at a time: one has the connection, one waits, eighteen overflow.
		var answered, overflowed atomic.Int64
		var callers sync.WaitGroup
		call := func() {
			callers.Go(func() {
				var info mesh.CallInfo
				req, _ := http.NewRequestWithContext(mesh.Capture(t.Context(), &info), http.MethodGet, url, nil)
				resp, err := e.Client().Do(req)
				if err == nil {
					_ = resp.Body.Close()
					answered.Add(1)
					return
				}
				var failed *mesh.Error
				if !errors.As(err, &failed) || failed.Reason != mesh.ReasonOverflow || failed.Flag() != "UO" {
					t.Errorf("got %v", err)
				}
				overflowed.Add(1)
			})
			synctest.Wait()
		}
		for range 20 {
			call()
		}
		if n := overflowed.Load(); n != 18 || len(httpbin.Calls()) != 1 {
			t.Errorf("%d calls overflow while %d is answered, want 18 and 1", n, len(httpbin.Calls()))
		}
		close(release)
		callers.Wait()
		if answered.Load() != 2 || most.Load() != 1 || len(httpbin.Calls()) != 2 {
			t.Errorf("%d are answered, %d at a time, of %d sent", answered.Load(), most.Load(), len(httpbin.Calls()))
		}

		// One error, and three minutes without a request.
		status.Store(http.StatusInternalServerError)
		if a := e.Get(url); a.Status != http.StatusInternalServerError {
			t.Errorf("got %+v", a)
		}
		status.Store(http.StatusOK)
		ejected, sent := time.Now(), len(httpbin.Calls())
		for time.Since(ejected) < 3*time.Minute {
			_, err := e.Client().Get(url)
			if mesh.ReasonOf(err) != mesh.ReasonNoEndpoint {
				t.Fatalf("got %v after %v", err, time.Since(ejected))
			}
			time.Sleep(time.Second)
		}
		if n := len(httpbin.Calls()); n != sent {
			t.Errorf("%d requests were sent within three minutes", n-sent)
		}
		time.Sleep(time.Second) // the next sweep
		if a := e.Get(url); a.Status != http.StatusOK {
			t.Errorf("got %+v after %v", a, time.Since(ejected))
		}
	})
}
