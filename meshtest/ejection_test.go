package meshtest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestEjection: thirty seconds of outlier detection in no time. One of three instances fails; the callers of the mesh see
// three errors, and it is back when its time is over.
func TestEjection(t *testing.T) {
	began := time.Now()
	defer func() {
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v of real time", took)
		}
	}()
	config := meshtest.YAML(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 3, interval: 5s, baseEjectionTime: 30s, maxEjectionPercent: 50}
`)
	meshtest.Run(t, config, func(t *testing.T, e *meshtest.Env) {
		bad := e.HTTP("reviews:9080", nil, says("fine"))
		e.HTTP("reviews:9080", nil, says("fine"))
		e.HTTP("reviews:9080", nil, says("fine"))
		restore := bad.Inject(meshtest.Status(500))
		errors := func(n int) (failed int) {
			for range n {
				if e.Get(reviews).Status == 500 {
					failed++
				}
			}
			return failed
		}
		if n := errors(90); n != 3 {
			t.Errorf("%d errors, want those that the threshold takes", n)
		}
		ejected := time.Now()
		time.Sleep(25 * time.Second)
		if n := errors(90); n != 0 {
			t.Errorf("%d errors while it is out", n)
		}
		for _, c := range e.Mesh().Status().Clusters {
			for _, ep := range c.Endpoints {
				if out := ep.Address == bad.Address(); out != (ep.Ejected != nil) {
					t.Errorf("%s: ejected %+v", ep.Address, ep.Ejected)
				}
			}
		}
		time.Sleep(time.Until(ejected.Add(35 * time.Second)))
		if n := errors(30); n != 3 {
			t.Errorf("%d errors once it is back and still fails", n)
		}
		restore()
		time.Sleep(65 * time.Second) // twice as long
		if n := errors(30); n != 0 || len(bad.Calls()) == 0 {
			t.Errorf("%d errors in good health", n)
		}
	})
}

// TestCallersEjectNobody: who gives up says nothing of the endpoint that is slow to answer.
func TestCallersEjectNobody(t *testing.T) {
	config := meshtest.YAML(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}
`)
	meshtest.Run(t, config, func(t *testing.T, e *meshtest.Env) {
		i := e.HTTP("reviews:9080", nil, says("fine"))
		restore := i.Inject(meshtest.Hang())
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := get(e, ctx, reviews); mesh.ReasonOf(err) != mesh.ReasonCanceled {
				t.Errorf("got %v", err)
			}
			cancel()
		}
		restore()
		if a := e.Get(reviews); a.Status != 200 {
			t.Errorf("got %+v", a)
		}
	})
}

// TestRetriesAndDeadline: a per-try time-out saves the call, and the caller's deadline bounds it with all its tries.
func TestRetriesAndDeadline(t *testing.T) {
	config := meshtest.YAML(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}}]
    retries: {attempts: 2, perTryTimeout: 2s, retryOn: "reset,5xx"}
`)
	meshtest.Run(t, config, func(t *testing.T, e *meshtest.Env) {
		hangs := e.HTTP("reviews:9080", nil, says("fine"))
		e.HTTP("reviews:9080", nil, says("fine"))
		hangs.Inject(meshtest.Hang())
		for range 10 {
			began := time.Now()
			if a := e.Get(reviews); a.Status != 200 || a.From == hangs || time.Since(began) > 2100*time.Millisecond {
				t.Errorf("got %+v after %v", a, time.Since(began))
			}
		}
		for range 10 {
			n := len(hangs.Calls())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			_, err := get(e, ctx, reviews)
			if hung := len(hangs.Calls()) > n; hung != (err != nil) || time.Since(began) > time.Second {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
			cancel()
		}
		// One attempt, if the program wants no more.
		for n := len(hangs.Calls()); len(hangs.Calls()) == n; {
			var info mesh.CallInfo
			ctx := mesh.ContextWithoutRetry(mesh.Capture(t.Context(), &info))
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, reviews, nil)
			resp, err := e.Client().Do(req)
			if err == nil {
				_ = resp.Body.Close()
			} else if mesh.ReasonOf(err) != mesh.ReasonTimeout || info.Attempts != 1 || info.Why[0].String() != "turned off by the program" {
				t.Errorf("got %v, %+v", err, info.Why)
			}
		}
	})
}
