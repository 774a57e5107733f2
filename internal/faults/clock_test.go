package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestDeadline is D-027: of a call whose time is over no attempt begins, and the one under way is canceled at the upstream,
// though each attempt alone, and each wait, would have had more time.
func TestDeadline(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ledger}
spec:
  hosts: [ledger]
  http:
  - route: [{destination: {host: ledger}}]
    retries: {attempts: 10, perTryTimeout: 10s, retryOn: "5xx,reset", backoff: 100ms}
`), func(t *testing.T, e *meshtest.Env) {
		const n = 300
		type exchange struct{ began, ended time.Time }
		var mu sync.Mutex
		seen := make(map[string][]*exchange)
		for range 3 {
			e.HTTP("ledger", nil, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				x := &exchange{began: time.Now()}
				mu.Lock()
				id := req.Header.Get(identityField)
				seen[id] = append(seen[id], x)
				mu.Unlock()
				select {
				case <-time.After(rand.N(time.Second)):
					w.WriteHeader(http.StatusServiceUnavailable)
				case <-req.Context().Done():
				}
				mu.Lock()
				x.ended = time.Now()
				mu.Unlock()
			}))
		}
		deadlines := make(map[string]time.Time, n)
		var calls sync.WaitGroup
		for i := range n {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond+rand.N(3*time.Second))
			id := fmt.Sprint(i)
			deadlines[id], _ = ctx.Deadline()
			calls.Go(func() {
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://ledger/", nil)
				req.Header.Set(identityField, id)
				resp, err := e.Client().Do(req)
				if err == nil {
					_ = resp.Body.Close()
				} else if r := mesh.ReasonOf(err); r != mesh.ReasonCanceled && r != mesh.ReasonTimeout {
					t.Errorf("%s: %v", id, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		calls.Wait()
		time.Sleep(time.Minute) // for what comes too late
		mu.Lock()
		defer mu.Unlock()
		attempts := 0
		for id, deadline := range deadlines {
			attempts += len(seen[id])
			for i, x := range seen[id] {
				if x.began.After(deadline) {
					t.Errorf("%s: attempt %d began %v after the deadline", id, i+1, x.began.Sub(deadline))
				}
				if late := x.ended.Sub(deadline); late > 100*time.Millisecond {
					t.Errorf("%s: attempt %d was not canceled for %v", id, i+1, late)
				}
			}
		}
		if attempts <= n {
			t.Errorf("%d attempts of %d calls: nothing was repeated", attempts, n)
		}
	})
}
