package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

func TestStatus(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		restore := i.Inject(meshtest.Status(503))
		if a := e.Get(reviews); a.Status != 503 || a.Body != "meshtest: Status(503)\n" || a.From != i {
			t.Errorf("got %+v", a)
		}
		restore()
		restore()
		if a := e.Get(reviews); a.Status != 200 || a.Body != "fine" {
			t.Errorf("restored, got %+v", a)
		}
		calls := i.Calls()
		if len(calls) != 2 || calls[0].Status != 503 || calls[0].Fault != "Status(503)" || calls[1].Status != 200 || calls[1].Fault != "" {
			t.Errorf("the calls are %+v", calls)
		}
	})
}

// TestDelay: 30 s pass on the bubble's clock and next to nothing on the real one.
func TestDelay(t *testing.T) {
	began := time.Now()
	defer func() {
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v of real time", took)
		}
	}()
	meshtest.Run(t, meshtest.Config{}, func(t *testing.T, e *meshtest.Env) {
		i := e.HTTP("reviews:9080", nil, says("fine"))
		i.Inject(meshtest.Delay(20 * time.Second))
		i.Inject(meshtest.Delay(10 * time.Second))
		i.Inject(meshtest.First(1, meshtest.Status(429)))
		began := time.Now()
		if a := e.Get(reviews); a.Status != 429 {
			t.Errorf("got %+v", a)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
		if f := i.Calls()[0].Fault; f != "Delay(20s), Delay(10s), First(1, Status(429))" {
			t.Errorf("met %s", f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began = time.Now()
		_, err := get(e, ctx, reviews)
		if took := time.Since(began); took != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's deadline: %v after %v", err, took)
		}
	})
}

func TestReset(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		e.Get(reviews) // leaves a kept connection
		i.Inject(meshtest.Reset())
		for range 2 { // a kept connection and a new one
			_, err := get(e, t.Context(), reviews)
			if !errors.Is(err, syscall.ECONNRESET) || mesh.ReasonOf(err) != mesh.ReasonReset {
				t.Errorf("got %v", err)
			}
			var op *net.OpError
			if !errors.As(err, &op) {
				t.Errorf("%v has no net.OpError", err)
			}
		}
	})
}

func TestRefuseConn(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		e.Get(reviews)
		restore := i.Inject(meshtest.RefuseConn())
		_, err := get(e, t.Context(), reviews)
		var op *net.OpError
		if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("got %v", err)
		}
		if n := len(i.Calls()); n != 1 {
			t.Errorf("%d requests arrived", n)
		}
		if s := e.Story(); !strings.Contains(s, "tried 3   reviews version=v1 at 198.18.0.1:9080: connection refused, by RefuseConn(); no attempt left\n") {
			t.Error(s)
		}
		restore()
		if a := e.Get(reviews); a.Status != 200 {
			t.Errorf("restored, got %+v", a)
		}
	})
}

// TestRefuseConnEndsKeptConnections: a POST on a connection that is about to die could not be repeated.
func TestRefuseConnEndsKeptConnections(t *testing.T) {
	t.Parallel()
	e := meshtest.New(t, meshtest.Config{}) // on the real clock: no luck in the order of events
	dying, alive := e.HTTP("reviews:9080", nil, nil), e.HTTP("reviews:9080", nil, nil)
	for range 50 {
		for len(dying.Calls()) == 0 {
			e.Get(reviews)
		}
		restore := dying.Inject(meshtest.RefuseConn())
		for range 4 {
			resp, err := e.Client().Post(reviews, "text/plain", struct{ io.Reader }{strings.NewReader("hello")})
			if err != nil {
				t.Fatalf("%v\n%s", err, e.Story())
			}
			resp.Body.Close()
		}
		restore()
	}
	if n := len(alive.Calls()); n < 200 {
		t.Errorf("the instance that is left had %d calls", n)
	}
}

// TestRequestUnderWayIsAnswered: what an instance has begun it finishes.
func TestRequestUnderWayIsAnswered(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		i.Inject(meshtest.Delay(time.Minute))
		answered := make(chan int)
		go func() {
			status, _ := get(e, t.Context(), reviews)
			answered <- status
		}()
		time.Sleep(time.Second) // fake: the request is at the instance now
		i.Inject(meshtest.RefuseConn())
		if status := <-answered; status != 200 {
			t.Errorf("got %d", status)
		}
	})
}

func TestHang(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		i.Inject(meshtest.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", reviews, strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = e.Client().Do(req)
		if took := time.Since(began); took != time.Hour || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
		if calls := i.Calls(); len(calls) != 1 || calls[0].Status != 0 || calls[0].Fault != "Hang()" {
			t.Errorf("the calls are %+v", calls)
		}
		go func() { _, _ = get(e, context.Background(), reviews) }() // ends with the test
		time.Sleep(time.Second)
	})
}

func TestFirst(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		fault := meshtest.First(2, meshtest.Status(500))
		for range 2 { // counts anew
			restore := i.Inject(fault)
			for n, want := range []int{500, 500, 200, 200} {
				if a := e.Get(reviews); a.Status != want {
					t.Errorf("call %d: %d", n, a.Status)
				}
			}
			restore()
		}
		i.Inject(meshtest.First(0, meshtest.Hang()))
		i.Inject(meshtest.First(2, meshtest.RefuseConn())) // two connections: the third attempt gets through
		if a := e.Get(reviews); a.Status != 200 {
			t.Errorf("got %+v", a)
		}
		if s := e.Story(); strings.Count(s, "connection refused, by First(2, RefuseConn())") != 2 {
			t.Error(s)
		}
	})
}

func TestPercent(t *testing.T) {
	t.Parallel()
	count := func(f meshtest.Fault, opts ...meshtest.Option) (failed string) {
		meshtest.Run(t, meshtest.Config{}, func(_ *testing.T, e *meshtest.Env) {
			i := e.HTTP("reviews:9080", nil, nil)
			i.Inject(f)
			for range 200 {
				failed += fmt.Sprint(e.Get(reviews).Status, " ")
			}
		}, opts...)
		return failed
	}
	some := count(meshtest.Percent(30, meshtest.Status(500)))
	if n := strings.Count(some, "500"); n < 45 || n > 75 {
		t.Errorf("%d of 200 failed", n)
	}
	if again := count(meshtest.Percent(30, meshtest.Status(500))); again != some {
		t.Error("two runs differ")
	}
	if other := count(meshtest.Percent(30, meshtest.Status(500)), meshtest.WithSeed(2)); other == some {
		t.Error("another seed changes nothing")
	}
	if n := strings.Count(count(meshtest.Percent(0, meshtest.Hang())), "200"); n != 200 {
		t.Errorf("Percent(0) left %d", n)
	}
	if n := strings.Count(count(meshtest.Percent(100, meshtest.Status(500))), "500"); n != 200 {
		t.Errorf("Percent(100) struck %d", n)
	}
	mixed := count(meshtest.First(10, meshtest.Percent(50, meshtest.Status(500))))
	if n := strings.Count(mixed, "500"); n == 0 || n == 10 || strings.Count(mixed[40:], "500") > 0 {
		t.Errorf("First(10, Percent(50, …)) struck %s", mixed)
	}
}

func TestPercentOfConnections(t *testing.T) {
	run(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance) {
		i.Inject(meshtest.Percent(50, meshtest.RefuseConn()))
		refused := 0
		for range 100 {
			_, _ = get(e, t.Context(), reviews)
			refused += strings.Count(e.Story(), "refused, by Percent(50, RefuseConn())")
		}
		if refused < 60 || refused > 140 || len(i.Calls()) < 70 {
			t.Errorf("%d refused, %d arrived", refused, len(i.Calls()))
		}
	})
}

func TestImpossibleFaults(t *testing.T) {
	run(t, func(t *testing.T, _ *meshtest.Env, i *meshtest.Instance) {
		for name, f := range map[string]func(){
			"percent": func() { meshtest.Percent(101, meshtest.Reset()) },
			"status":  func() { i.Inject(meshtest.Status(42)) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: accepted", name)
					}
				}()
				f()
			}()
		}
	})
}

// TestFaultsOverHTTP2 meets each fault on a port that speaks HTTP/2, with a connection kept and without.
func TestFaultsOverHTTP2(t *testing.T) {
	t.Parallel()
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http2, protocol: HTTP2}]
  endpoints: [{address: 10.0.0.1}]
`
	for name, row := range map[string]struct {
		fault  meshtest.Fault
		status int
		reason mesh.Reason
	}{
		"status": {meshtest.Status(503), 503, mesh.ReasonNone},
		"delay":  {meshtest.Delay(time.Second), 200, mesh.ReasonNone},
		"reset":  {meshtest.Reset(), 0, mesh.ReasonReset},
		"refuse": {meshtest.RefuseConn(), 0, mesh.ReasonConnect},
		"hang":   {meshtest.Hang(), 0, mesh.ReasonCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meshtest.Run(t, meshtest.YAML(yaml), func(t *testing.T, e *meshtest.Env) {
				i := e.HTTP("reviews", nil, nil)
				for range 2 {
					restore := i.Inject(row.fault)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					status, err := get(e, ctx, reviews)
					cancel()
					if status != row.status || mesh.ReasonOf(err) != row.reason {
						t.Errorf("got %d, %v", status, err)
					}
					restore()
					if a := e.Get(reviews); a.Status != 200 || i.Calls()[0].Proto != "HTTP/2.0" {
						t.Errorf("restored, got %+v", a)
					}
				}
			})
		})
	}
}

// TestRequestUnderWayIsAnsweredOverHTTP2, to its last byte, and then the connection ends.
func TestRequestUnderWayIsAnsweredOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]meshtest.Fault{
		"always":        meshtest.RefuseConn(),
		"at first":      meshtest.First(1, meshtest.RefuseConn()),
		"half the time": meshtest.Percent(50, meshtest.RefuseConn()),
	} {
		t.Run(name, func(t *testing.T) {
			runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
				for range 20 {
					i.Inject(meshtest.First(1, meshtest.Delay(time.Minute)))
					answered := make(chan error)
					go func() {
						_, err := say(t.Context(), cc, "hello")
						answered <- err
					}()
					time.Sleep(30 * time.Second) // fake: the request is at the instance now
					restore := i.Inject(f)
					if err := <-answered; err != nil {
						t.Fatalf("%v\n%s", err, e.Story())
					}
					synctest.Wait()
					if _, err := say(t.Context(), cc, "hello"); err == nil && name == "always" {
						t.Error("the connection is still there")
					}
					restore()
					time.Sleep(time.Minute) // until the channel has connected again
				}
			})
		})
	}
}
