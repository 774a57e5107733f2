package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// blamed gives how many attempts the rig's endpoints are held to have failed.
func (r *rig) blamed() (n uint64) {
	for _, e := range r.engine.Clusters()[0].Endpoints {
		n += e.Counts.Failed
	}
	return n
}

// TestCallersFaultsBlameNobody: what net/http refuses to send, or the program does not deliver as announced,
// says nothing of the endpoint. Whoever may write one header value could otherwise put every endpoint of a
// service last (attacks.md, section 3, rule 3).
func TestCallersFaultsBlameNobody(t *testing.T) {
	t.Parallel()
	for _, proto := range []snapshot.Protocol{snapshot.HTTP1, snapshot.HTTP2} {
		for _, c := range []struct {
			name  string
			spoil func(*http.Request)
		}{
			{"header value", func(r *http.Request) { r.Header["X-User"] = []string{"a\r\nb"} }},
			{"header name", func(r *http.Request) { r.Header["X User"] = []string{"a"} }},
			{"nil header", func(r *http.Request) { r.Header = nil }},
			{"method", func(r *http.Request) { r.Method = "GE T" }},
			{"body shorter than announced", func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("abc")), 5
			}},
			{"body longer than announced", func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("abcdefg")), 5
			}},
			{"length without body", func(r *http.Request) { r.Method, r.Body, r.ContentLength = "POST", nil, 5 }},
			{"trailer", func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("abc")), -1
				r.Trailer = http.Header{"Content-Length": nil}
			}},
		} {
			t.Run(proto.String()+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, proto, nil, serveBoth(t, func(_ http.ResponseWriter, q *http.Request) { io.Copy(io.Discard, q.Body) }))
				var info CallInfo
				req, _ := http.NewRequestWithContext(Capture(t.Context(), &info), "GET", "http://svc/", nil)
				c.spoil(req)
				resp, err := r.rt.RoundTrip(req)
				if err == nil {
					resp.Body.Close()
					t.Skip("it is sent")
				}
				if r.blamed() != 0 || info.Attempts > 1 {
					t.Errorf("%v: the endpoint is blamed for %d, %d attempts", err, r.blamed(), info.Attempts)
				}
				if why := call.ReasonOf(err); why != call.ReasonInvalidRequest && why != call.ReasonCanceled {
					t.Errorf("reason %v: %v", why, err)
				}
			})
		}
	}
}

func serveBoth(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// TestCallersEndOfAStreamBlamesNobody: closing the body under a reader, and a context that ends with a cause.
func TestCallersEndOfAStreamBlamesNobody(t *testing.T) {
	t.Parallel()
	for _, proto := range []snapshot.Protocol{snapshot.HTTP1, snapshot.HTTP2} {
		for _, how := range []string{"close", "cause"} {
			t.Run(proto.String()+"/"+how, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, proto, nil, serveBoth(t, func(w http.ResponseWriter, q *http.Request) {
					io.WriteString(w, "x")
					w.(http.Flusher).Flush()
					<-q.Context().Done()
				}))
				for range 20 {
					ctx, cancel := context.WithCancelCause(t.Context())
					req, _ := http.NewRequestWithContext(ctx, "GET", "http://svc/", nil)
					resp, err := r.rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					read, first := make(chan struct{}), make(chan struct{})
					go func() {
						defer close(read)
						io.ReadFull(resp.Body, make([]byte, 1))
						close(first)
						io.Copy(io.Discard, resp.Body)
					}()
					<-first
					for range 100 {
						runtime.Gosched() // into the read
					}
					if how == "close" {
						resp.Body.Close()
					} else {
						cancel(errors.New("enough"))
					}
					<-read
					resp.Body.Close()
					cancel(nil)
				}
				if n := r.blamed(); n != 0 {
					t.Errorf("the endpoint is blamed for %d of 20", n)
				}
			})
		}
	}
}

// TestConnectTimeoutChanges: a reload's connectTimeout holds for endpoints that were there before it.
func TestConnectTimeoutChanges(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	pools := NewLeaves(func(ctx context.Context, _, _ string) (net.Conn, error) {
		at, _ := ctx.Deadline()
		left.Store(int64(time.Until(at)))
		return nil, errors.New("no")
	}, nil)
	r := newRig(t, snapshot.HTTP1, pools, "10.0.0.1:80")
	r.client.Get("http://svc/")
	if d := time.Duration(left.Load()); d < 9*time.Second {
		t.Fatalf("at first %v", d)
	}
	r.publish(t, snapshot.Policy{ConnectTimeout: time.Second})
	r.client.Get("http://svc/")
	if d := time.Duration(left.Load()); d > time.Second {
		t.Errorf("after the change %v", d)
	}
	if n := r.engine.Clusters()[0].Endpoints[0].Counts.Total; n < 2 {
		t.Errorf("the record was begun anew: %d attempts", n)
	}
	if n := len(pools.byKey); n != 1 {
		t.Errorf("%d pools", n)
	}
}

// TestRetryDoesNotWaitForABody: an endpoint that fails and then stalls does not hold up the retry.
func TestRetryDoesNotWaitForABody(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	r := newRig(t, snapshot.HTTP1, nil, serve(t, func(w http.ResponseWriter, q *http.Request) {
		if n.Add(1) > 1 {
			return
		}
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusServiceUnavailable)
		w.(http.Flusher).Flush()
		<-q.Context().Done()
	}))
	r.route.Retry = &resilience.Retry{Attempts: 1, On: resilience.On5xx}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://svc/", nil)
	begin := time.Now()
	resp, err := r.rt.RoundTrip(req)
	if err != nil {
		t.Fatalf("%v after %v", err, time.Since(begin))
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// TestIdempotentBodiesSurviveADeadConnection: rows that TestHiddenReplayIsOff lacks, bare net/http beside.
func TestIdempotentBodiesSurviveADeadConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		header       http.Header
		bare, mesh   int
		served       bool
	}{
		{"GET with a rewindable body", "GET", nil, 2, 2, true},
		{"PUT with key and a rewindable body", "PUT", http.Header{"Idempotency-Key": {"k"}}, 2, 2, true},
		{"POST with key and a rewindable body", "POST", http.Header{"Idempotency-Key": {"k"}}, 2, 1, false},
		{"POST with a key without value", "POST", http.Header{"Idempotency-Key": nil}, 2, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			send := func(client *http.Client, base string) error {
				warm, err := client.Get(base + "/warm")
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, warm.Body)
				warm.Body.Close()
				req, _ := http.NewRequest(c.method, base+"/it", strings.NewReader("x"))
				for k, v := range c.header {
					req.Header[k] = v
				}
				resp, err := client.Do(req)
				if err == nil {
					resp.Body.Close()
				}
				return err
			}
			bare, meshed := newFlaky(t), newFlaky(t)
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			_ = send(&http.Client{Transport: tr}, "http://"+bare.addr)
			if got := bare.copies("/it"); got != c.bare {
				t.Errorf("bare net/http sent %d copies, expected %d", got, c.bare)
			}
			r := newRig(t, snapshot.HTTP1, nil, meshed.addr)
			err := send(r.client, "http://svc")
			if got := meshed.copies("/it"); got != c.mesh || c.served != (err == nil) {
				t.Errorf("the mesh sent %d copies, want %d: %v", got, c.mesh, err)
			}
		})
	}
}

// TestKeysOfTwoSpellings: hiding the key loses no value that the program spelled the hidden way itself.
func TestKeysOfTwoSpellings(t *testing.T) {
	t.Parallel()
	r := newRig(t, snapshot.HTTP1, nil, serve(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, len(q.Header["Idempotency-Key"]))
	}))
	req, _ := http.NewRequest("POST", "http://svc/", nil)
	req.Header["Idempotency-Key"] = []string{"a"}
	req.Header["idempotency-key"] = make([]string, 1, 4)
	resp, err := r.rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "2" {
		t.Errorf("%s of 2 values arrived", got)
	}
}

// TestOpaqueURLs: what rules decide on is what is sent, however the program spells its URL.
func TestOpaqueURLs(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprintf(w, "%s %s", q.Host, q.RequestURI) })
	for _, c := range []struct {
		name  string
		u     url.URL
		path  string // as decided on
		query string
		want  string // what the upstream sees
	}{
		{"another host in the absolute form", url.URL{Opaque: "//admin/x"}, "/x", "", "svc /x"},
		{"the same host", url.URL{Opaque: "//svc/x"}, "/x", "", "svc /x"},
		{"a query inside", url.URL{Opaque: "/x?a=1"}, "/x", "a=1", "svc /x?a=1"},
		{"a query inside, and one beside", url.URL{Opaque: "/x?a=1", RawQuery: "b=2"}, "/x", "a=1?b=2", "svc /x?a=1?b=2"},
		{"a query inside, path respelled", url.URL{Opaque: "/%61?a=1"}, "/a", "a=1", "svc /a?a=1"},
		{"an encoded slash beside what a URL would escape", url.URL{Opaque: `/%61"/..%2Fadmin`}, `/a"/..%2Fadmin`, "", `svc /a"/..%2Fadmin`},
		{"a raw byte beside", url.URL{Opaque: "/%61\xff/..%2Fadmin"}, "/a\xff/..%2Fadmin", "", "svc /a%FF/..%2Fadmin"}, // the same octets
		{"double slash, respelled", url.URL{Path: "//x/../y"}, "//y", "", "svc //y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, snapshot.HTTP1, nil, addr)
			c.u.Scheme, c.u.Host = "http", "svc"
			req := &http.Request{Method: "GET", URL: &c.u, Header: http.Header{}}
			q, _ := View(req)
			if q.Path != c.path || q.Query != c.query {
				t.Errorf("decided on %q with query %q", q.Path, q.Query)
			}
			resp, err := r.rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := body(t, resp); got != c.want {
				t.Errorf("upstream saw %q, want %q", got, c.want)
			}
		})
	}
}

// TestAsteriskIsForOPTIONS: B-032.
func TestAsteriskIsForOPTIONS(t *testing.T) {
	t.Parallel()
	r := newRig(t, snapshot.HTTP1, nil, serve(t, func(http.ResponseWriter, *http.Request) {}))
	for method, want := range map[string]call.Reason{"OPTIONS": call.ReasonNone, "GET": call.ReasonInvalidRequest} {
		resp, err := r.rt.RoundTrip(&http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: "svc", Path: "*"}, Header: http.Header{}})
		if err == nil {
			resp.Body.Close()
		}
		if call.ReasonOf(err) != want {
			t.Errorf("%s *: %v", method, err)
		}
	}
}

// TestUpstreamCannotAskForARepetition: an answer that reads like net/http's own error is no refusal.
func TestUpstreamCannotAskForARepetition(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var posts atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.Copy(io.Discard, q.Body)
				posts.Add(1)
			}
			io.WriteString(c, "http2: Transport: cannot retry err [x]\r\n\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	r := newRig(t, snapshot.HTTP1, nil, l.Addr().String())
	_, err = r.client.Post("http://svc/", "", strings.NewReader("x"))
	if posts.Load() != 1 {
		t.Errorf("the POST was sent %d times: %v", posts.Load(), err)
	}
}

// TestRetiredEndpointsConnectionsGo: also where the last call ended after the endpoint was gone.
func TestRetiredEndpointsConnectionsGo(t *testing.T) {
	t.Parallel()
	for _, proto := range []snapshot.Protocol{snapshot.HTTP1, snapshot.HTTP2} {
		t.Run(proto.String(), func(t *testing.T) {
			t.Parallel()
			var open atomic.Int32
			pools := NewLeaves(func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err == nil {
					open.Add(1)
					c = &countedConn{c, &open, atomic.Bool{}}
				}
				return c, err
			}, nil)
			r := newRig(t, proto, pools, serveBoth(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
			for range 20 {
				resp, err := r.rt.RoundTrip(mustGet(t))
				if err != nil {
					t.Fatal(err)
				}
				at := r.engine.Clusters()[0].Endpoints[0].Address
				r.registry.Publish(key, discovery.NewSet())
				body(t, resp)
				publish(r.registry, at)
			}
			r.registry.Publish(key, discovery.NewSet())
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(2 * time.Second); open.Load() > 0 && time.Now().Before(end); {
				<-tick.C
			}
			if n := open.Load(); n > 0 {
				t.Errorf("%d connections to endpoints that are gone", n)
			}
		})
	}
}

func mustGet(t *testing.T) *http.Request {
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
	return req
}

type countedConn struct {
	net.Conn
	open   *atomic.Int32
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// TestRewindableBodiesAreClosedOnce: the program's own and each that GetBody made, also where the last is not
// sent because there is no endpoint any more.
func TestRewindableBodiesAreClosedOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fail   int // attempts
		vanish bool
		made   int // by GetBody
	}{{"at once", 0, false, 0}, {"after a retry", 1, false, 1}, {"in vain", 3, false, 2}, {"no endpoint left", 1, true, 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var registry *discovery.Registry
			left := c.fail
			pools := leafPools{func(req *http.Request) (*http.Response, error) {
				req.Body.Close()
				if left--; left < 0 {
					return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
				}
				if c.vanish {
					registry.Publish(key, discovery.NewSet())
				}
				return nil, &connectError{errors.New("no")}
			}}
			r := newRig(t, snapshot.HTTP1, pools, "10.0.0.1:80")
			registry = r.registry
			first := &closeCounter{Reader: strings.NewReader("x")}
			bodies := []*closeCounter{first}
			req, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://svc/", first)
			req.GetBody = func() (io.ReadCloser, error) {
				b := &closeCounter{Reader: strings.NewReader("x")}
				bodies = append(bodies, b)
				return b, nil
			}
			_, _ = r.rt.RoundTrip(req)
			if len(bodies) != 1+c.made {
				t.Errorf("%d bodies", len(bodies))
			}
			for i, b := range bodies {
				if n := b.n.Load(); n != 1 {
					t.Errorf("body %d was closed %d times", i, n)
				}
			}
		})
	}
}

// leafPools gives every endpoint the same leaf.
type leafPools struct {
	leaf func(*http.Request) (*http.Response, error)
}

func (p leafPools) Open(*discovery.Endpoint, snapshot.Policy, *Load) any { return p }
func (p leafPools) Release(any)                                          {}
func (p leafPools) RoundTrip(req *http.Request) (*http.Response, error)  { return p.leaf(req) }
