package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
)

// documents have a host whose rules every call passes: conditions, retries, a header operation, balancing.
const documents = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: %[1]s, ports: {http: %[2]s}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /admin}, headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /v2/}}, {headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: reviews}}]
  - retries: {attempts: 2, retryOn: "connect-failure,refused-stream,503"}
    route: [{destination: {host: reviews}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
%[3]s`

const mutual = `    tls: {mode: MUTUAL, clientCertificate: %[1]s/cert.pem, privateKey: %[1]s/key.pem, caCertificates: %[1]s/ca.pem, sni: reviews, subjectAltNames: [reviews]}
`

// A contender makes calls. ctx is what their requests have.
type contender struct {
	rt   http.RoundTripper
	url  string
	ctx  context.Context
	stop func()
	// caller gives what makes the calls of one goroutine; without it they are of rt.
	caller func() (call func() error)
}

// enter makes a contender of the name.
func enter(name, address, dir string) (*contender, error) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, "pair-"), seen), "-")
	if kind == "plain" || kind == "mtls" {
		return paired(kind, address, dir)
	}
	if kind == "grpc" {
		return enterRPC(name, strings.Split(address, ","))
	}
	secured := strings.HasSuffix(name, "mtls")
	if kind == "mesh" {
		return meshed(name, address, dir, secured)
	}
	t := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	c := &contender{rt: t, url: "http://" + address + "/reviews/1", ctx: context.Background(), stop: t.CloseIdleConnections}
	if secured {
		config, err := clientTLS(dir)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig, c.url = config, "https://"+address+"/reviews/1"
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	if kind == "otelhttp" {
		opts := []otelhttp.Option{otelhttp.WithTracerProvider(neverSampled())}
		if strings.HasPrefix(name, seen) {
			opts = append(opts, otelhttp.WithMeterProvider(measured()), otelhttp.WithPropagators(propagation.TraceContext{}))
		}
		c.rt = otelhttp.NewTransport(t, opts...)
	}
	return c, nil
}

func meshed(name, address, dir string, secured bool) (*contender, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	policy := ""
	if secured {
		policy = fmt.Sprintf(mutual, dir)
	}
	opts := []mesh.Option{mesh.WithConfig(fmt.Appendf(nil, documents, host, port, policy)), mesh.WithLogger(slog.New(slog.DiscardHandler))}
	if strings.HasSuffix(name, "nethttp") {
		opts = append(opts, mesh.WithNetHTTPTransport())
	}
	m, err := mesh.New(context.Background(), append(opts, observed(name)...)...)
	if err != nil {
		return nil, err
	}
	c := &contender{rt: m.RoundTripper(), url: "http://reviews/reviews/1", ctx: context.Background(), stop: func() { _ = m.Close() }}
	if !strings.HasPrefix(name, seen) { // where each call begins a trace of its own
		c.ctx = carried(m)
	}
	return c, nil
}

// carried is the context of a request that came in with trace headers, which its calls pass on.
func carried(m *mesh.Mesh) (ctx context.Context) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	r.Header.Set("X-Request-Id", "c9a5f1d2-2b1f-4c89-9b0e-0d5f7f6f4a11")
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })).
		ServeHTTP(httptest.NewRecorder(), r)
	return ctx
}

// run makes calls for some time and gives what one of them costs.
func run(name, address, dir string, goroutines int, seconds float64) (*measure, error) {
	c, err := enter(name, address, dir)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	var calls atomic.Int64
	var failed atomic.Pointer[error]
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			caller := c.caller
			if caller == nil {
				caller = c.requests(name)
			}
			call := caller()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := call(); err != nil {
					failed.Store(&err)
					return
				}
				calls.Add(1)
			}
		})
	}
	time.Sleep(time.Duration(seconds / 2 * float64(time.Second)))
	before := usage()
	n := calls.Load()
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	n = calls.Load() - n
	after := usage()
	close(stop)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	each := func(v float64) float64 { return v / float64(max(n, 1)) }
	return &measure{Calls: int(n), CPU: each(after.cpu - before.cpu), Allocs: each(after.allocs - before.allocs), Bytes: each(after.bytes - before.bytes)}, nil
}

// requests gives what makes HTTP requests.
func (c *contender) requests(name string) func() func() error {
	return func() func() error {
		buffer := make([]byte, 2048)
		req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, c.url, nil)
		return func() error {
			if err != nil {
				return err
			}
			return c.call(req, buffer, strings.HasSuffix(name, "deadline"), strings.HasSuffix(name, "post"))
		}
	}
}

var payload = bytes.Repeat([]byte("x"), 1024)

// call makes one call. Where nothing differs from call to call it is the same request again, which http.RoundTripper allows.
func (c *contender) call(req *http.Request, buffer []byte, deadline, post bool) (err error) {
	switch {
	case deadline:
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
		defer cancel()
		req = req.WithContext(ctx)
	case post:
		if req, err = http.NewRequestWithContext(c.ctx, http.MethodPost, c.url, bytes.NewReader(payload)); err != nil {
			return err
		}
	}
	resp, err := c.rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for {
		if _, err := resp.Body.Read(buffer); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// spent is what the process has used so far.
type spent struct{ cpu, allocs, bytes float64 }

func usage() spent {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return spent{cpu: float64(r.Utime.Nano()+r.Stime.Nano()) / 1e3, allocs: float64(m.Mallocs), bytes: float64(m.TotalAlloc)}
}

func clientTLS(dir string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(path(dir, "cert.pem"), path(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	roots, err := authorities(dir)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: roots, ServerName: "reviews"}, nil
}
