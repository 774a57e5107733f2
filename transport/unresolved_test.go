package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// An answer is what a call made in the background came to.
type answer struct {
	err  error
	took time.Duration
	info *CallInfo
}

// calling makes a call in the background. The rig's leaves answer at once: all time is spent waiting.
func (r *rig) calling(ctx context.Context, body io.Reader) <-chan answer {
	done := make(chan answer, 1)
	begin := time.Now()
	go func() {
		var info CallInfo
		req, _ := http.NewRequestWithContext(Capture(ctx, &info), http.MethodPost, "http://svc/", body)
		resp, err := r.rt.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- answer{err, time.Since(begin), &info}
	}()
	return done
}

// TestFirstCallWaits: a call to a service whose endpoints are not known yet waits within its own context.
func TestFirstCallWaits(t *testing.T) {
	t.Parallel()
	inRig := func(name string, f func(t *testing.T, r *rig)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.HTTP1, new(noopPools), "10.0.0.1:80")
				r.registry.Publish(key, nil)
				f(t, r)
			})
		})
	}
	inRig("until it is published", func(t *testing.T, r *rig) {
		first, second := r.calling(t.Context(), strings.NewReader("x")), r.calling(t.Context(), nil)
		time.Sleep(3 * time.Second)
		publish(r.registry, "10.0.0.2:80")
		for _, a := range []answer{<-first, <-second} {
			if a.err != nil || a.took != 3*time.Second || a.info.Endpoint != "10.0.0.2:80" || a.info.Attempts != 1 {
				t.Errorf("%v after %v: %+v", a.err, a.took, a.info)
			}
		}
		if a := <-r.calling(t.Context(), nil); a.err != nil || a.took != 0 {
			t.Errorf("then %v after %v", a.err, a.took)
		}
	})
	inRig("until it is known to have none", func(t *testing.T, r *rig) {
		done := r.calling(t.Context(), nil)
		synctest.Wait()
		publish(r.registry)
		if a := <-done; call.ReasonOf(a.err) != call.ReasonNoEndpoint || !strings.Contains(a.err.Error(), "has no endpoints") {
			t.Errorf("%v", a.err)
		}
	})
	inRig("until its context ends", func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closed := &closeCounter{Reader: strings.NewReader("x")}
		a := <-r.calling(ctx, closed)
		if call.ReasonOf(a.err) != call.ReasonCanceled || !errors.Is(a.err, context.DeadlineExceeded) || a.took != time.Second ||
			!strings.Contains(a.err.Error(), "waiting for the first addresses of svc") {
			t.Errorf("%v after %v", a.err, a.took)
		}
		if closed.n.Load() == 0 || a.info.Attempts != 0 || a.info.Reason != call.ReasonCanceled {
			t.Errorf("body closed %d times, %+v", closed.n.Load(), a.info)
		}
	})
	inRig("until the mesh closes", func(t *testing.T, r *rig) {
		done := r.calling(t.Context(), nil)
		synctest.Wait()
		r.engine.Close()
		if a := <-done; call.ReasonOf(a.err) != call.ReasonClosed {
			t.Errorf("%v", a.err)
		}
	})
	inRig("across snapshots", func(t *testing.T, r *rig) {
		done := r.calling(t.Context(), nil)
		synctest.Wait()
		r.publish(t, snapshot.Policy{Config: balance.Config{Algorithm: balance.RoundRobin}}) // defines the cluster anew, twice
		r.publish(t, snapshot.Policy{Config: balance.Config{Algorithm: balance.Random}})
		select {
		case a := <-done:
			t.Fatalf("a new snapshot ended the waiting: %v", a.err)
		default:
		}
		time.Sleep(time.Second)
		publish(r.registry, "10.0.0.2:80")
		if a := <-done; a.err != nil || a.took != time.Second {
			t.Errorf("%v after %v", a.err, a.took)
		}
	})
	inRig("until its cluster is gone", func(t *testing.T, r *rig) {
		done := r.calling(t.Context(), nil)
		synctest.Wait()
		if err := r.engine.Publish(t.Context(), &snapshot.Snapshot{Version: "2"}); err != nil {
			t.Fatal(err)
		}
		if a := <-done; call.ReasonOf(a.err) != call.ReasonNoEndpoint || !strings.Contains(a.err.Error(), "not known yet") {
			t.Errorf("%v", a.err)
		}
	})
}

// TestWhyThereIsNoEndpoint: the resolver's words reach the caller.
func TestWhyThereIsNoEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.HTTP1, new(noopPools))
		d := discovery.NewDNS(r.registry, noSuchHost{}, discovery.DNSOptions{})
		defer d.Close()
		d.Publish(key, discovery.NewSet(discovery.Endpoint{Address: discovery.TCP("db.example", 80), Resolve: true}))
		synctest.Wait()
		if a := <-r.calling(t.Context(), nil); call.ReasonOf(a.err) != call.ReasonNoEndpoint ||
			!strings.Contains(a.err.Error(), "has no endpoints: lookup db.example: no such host") {
			t.Errorf("%v", a.err)
		}
	})
}

type noSuchHost struct{}

func (noSuchHost) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, errors.New("lookup " + host + ": no such host")
}
