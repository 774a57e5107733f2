package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/internal/conformance"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

// securedBy is the rule by which calls to reviews go by TLS with certificates of both sides.
func securedBy(ca *conformance.Authority) string {
	cert, key := ca.Files("caller", ca.Issue("caller"))
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {tls: {mode: MUTUAL, caCertificates: %s, clientCertificate: %s, privateKey: %s, subjectAltNames: [reviews.inside]}}
`, ca.CAFile, cert, key)
}

// A countingListener counts what it accepts.
type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// A securedPair is two sidecars with TLS between: a caller's, and an application's.
type securedPair struct {
	outbound, inbound string
	ca                *conformance.Authority // nil where the mesh's own TLS is between
	between           atomic.Int64           // connections
	callers, callee   *rig
}

func startPair(t testing.TB, app string) *securedPair {
	t.Helper()
	p := &securedPair{ca: conformance.NewAuthority(t)}
	p.callee = start(t, "", func(c *proxy.Config) {
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app, TLS: &tls.Config{MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{p.ca.Issue("reviews.inside")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.ca.Pool()}}}
		c.Listen = func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			return countingListener{l, &p.between}, err
		}
	})
	p.inbound = p.callee.sidecar.InboundAddrs()[0].String()
	p.callers = start(t, service("reviews", "HTTP", p.inbound)+securedBy(p.ca), nil)
	p.outbound = p.callers.sidecar.OutboundAddr().String()
	return p
}

// eachPair runs a test with TLS by files and with the mesh's own between two sidecars.
func eachPair(t *testing.T, app func(*testing.T) string, test func(*testing.T, *securedPair)) {
	t.Parallel()
	t.Run("files", func(t *testing.T) { t.Parallel(); test(t, startPair(t, app(t))) })
	t.Run("mesh", func(t *testing.T) { t.Parallel(); test(t, startMeshPair(t, app(t))) })
}

// TestSecuredPair: two sidecars with TLS between pass on all that HTTP/1.1 has, over one connection while that is enough.
func TestSecuredPair(t *testing.T) { eachPair(t, summing, testSecuredPair) }

// summing echoes bodies, and a trailer.
func summing(t *testing.T) string {
	return upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("X-Sum") != "" || r.ContentLength < 0 {
			w.Header().Set("Trailer", "X-Sum")
			defer w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = w.Write(body)
	}))
}

func testSecuredPair(t *testing.T, p *securedPair) {
	c, br := dial(t, p.outbound)
	for _, size := range []int{0, 1, 8 << 10, 40 << 10, 3 << 20} {
		body := string(bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size])
		for _, chunked := range []bool{false, true} {
			go func() {
				if chunked {
					_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n", hostLine)
					if size > 0 {
						_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", size, body)
					}
					_, _ = io.WriteString(c, "0\r\nX-Sum: 7\r\n\r\n")
				} else {
					_, _ = io.WriteString(c, posted(fmt.Sprintf("Content-Length: %d\r\n", size), body))
				}
			}()
			resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodPost})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body || chunked && resp.Trailer.Get("X-Sum") != "7" {
				t.Errorf("%d bytes, chunked %t: %d came back, %v, trailer %v", size, chunked, len(got), err, resp.Trailer)
			}
		}
		send(t, c, "HEAD / HTTP/1.1\r\n"+hostLine+"\r\n")
		if resp, _ := read(t, br, http.MethodHead); resp.StatusCode != http.StatusOK {
			t.Errorf("HEAD: status %d", resp.StatusCode)
		}
	}
	if n := p.between.Load(); n != 1 {
		t.Errorf("%d connections were made for one at a time", n)
	}

	if p.ca == nil {
		return
	}
	// Who has no certificate, or no TLS, is nobody.
	if _, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}).Get("https://" + p.inbound); err == nil {
		t.Error("a caller without a certificate is served")
	}
	if resp, err := http.Get("http://" + p.inbound); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("a caller without TLS is served")
	}
	// HTTP/2 is agreed on by ALPN, and is net/http's.
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: p.ca.Pool(), ServerName: "reviews.inside", Certificates: []tls.Certificate{p.ca.Issue("caller")}, MinVersion: tls.VersionTLS12}}
	resp, err := clientOf(t, tr).Post("https://"+p.inbound, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "hello" || resp.ProtoMajor != 2 {
		t.Errorf("%s: %q, %v", resp.Proto, got, err)
	}
}

// TestSecuredTunnel: a WebSocket goes through two sidecars and TLS, both ways, and ends at both ends.
func TestSecuredTunnel(t *testing.T) {
	release := make(chan struct{})
	close(release)
	eachPair(t, func(t *testing.T) string { return raw(t, echo(t, release, nil)) }, testSecuredTunnel)
}

func testSecuredTunnel(t *testing.T, p *securedPair) {
	c, br := dial(t, p.outbound)
	send(t, c, upgradeRequest+"early ")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	send(t, c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); err != nil || string(got) != "EARLY HELLObye" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSecuredClientGone (B-095): the end of a TLS connection shows behind its last record, while a request is under way.
func TestSecuredClientGone(t *testing.T) {
	t.Parallel()
	asked, left := make(chan struct{}, 1), make(chan time.Time, 1)
	p := startPair(t, raw(t, endless("", "", asked, left)))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, err := tls.Dial("tcp", p.inbound, &tls.Config{RootCAs: p.ca.Pool(), ServerName: "reviews.inside", MaxVersion: version, MinVersion: version,
			Certificates: []tls.Certificate{p.ca.Issue("caller")}})
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, "GET / HTTP/1.1\r\n"+hostLine+"\r\n")
		<-asked
		_ = c.Close()
		<-left
	}
	c, _ := dial(t, p.outbound)
	send(t, c, "GET / HTTP/1.1\r\n"+hostLine+"\r\n")
	<-asked
	_ = c.Close()
	<-left
}

// TestSecuredTruncation: an answer that breaks off is broken off for a client to whom the end of TLS would say that it is
// whole.
func TestSecuredTruncation(t *testing.T) {
	t.Parallel()
	p := startPair(t, raw(t, answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")))
	c, err := tls.Dial("tcp", p.inbound, &tls.Config{RootCAs: p.ca.Pool(), ServerName: "reviews.inside", MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{p.ca.Issue("caller")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, "GET / HTTP/1.0\r\n"+hostLine+"\r\n")
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("%q is taken for the whole", got)
	}
}

// TestSilentHandshake (B-050): who begins no handshake, or ends none, is gone after ten seconds.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	certificate := conformance.NewAuthority(t).Issue("reviews.inside")
	for name, first := range map[string]string{"nothing": "", "half": "\x16\x03\x01\x02\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemoryListener("127.0.0.1:9080")
				r := start(t, "", func(c *proxy.Config) {
					c.Outbound = ""
					c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:9080", App: "127.0.0.1:19080", TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}}}
					c.Listen = func(string, string) (net.Listener, error) { return l, nil }
				})
				defer r.sidecar.Shutdown(t.Context())
				began := time.Now()
				c, err := l.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				go func() { _, _ = io.WriteString(c, first) }()
				_, _ = io.Copy(io.Discard, c)
				if took := time.Since(began); took < 10*time.Second || took > 10*time.Second+200*time.Millisecond {
					t.Errorf("it was closed after %v", took)
				}
			})
		})
	}
}

// TestConnectionTerms: how long a connection is kept, and for how many requests, is what the policy says.
func TestConnectionTerms(t *testing.T) {
	t.Parallel()
	rule := func(pool string) string {
		return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec: {host: reviews, trafficPolicy: {connectionPool: " + pool + "}}\n"
	}
	for name, c := range map[string]struct {
		rules  string
		every  time.Duration
		want   int
		closes int // the request on a connection that says so, 0 for none
	}{
		"no policy":       {"", 80 * time.Second, 1, 0},
		"idle":            {rule("{http: {idleTimeout: 60s}}"), 50 * time.Second, 1, 0},
		"idle too long":   {rule("{http: {idleTimeout: 40s}}"), 50 * time.Second, 10, 0},
		"max age":         {rule("{tcp: {maxConnectionDuration: 45s}}"), 10 * time.Second, 2, 0},
		"one request":     {rule("{http: {maxRequestsPerConnection: 1}}"), time.Second, 10, 1},
		"three requests":  {rule("{http: {maxRequestsPerConnection: 3}}"), time.Second, 4, 3},
		"client protocol": {rule("{http: {useClientProtocol: true}}"), time.Second, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, stop := startMemory(t, c.rules)
				conns := 0
				defer r.answer(func(nc net.Conn, br *bufio.Reader) {
					conns++ // one after the other
					for n := 1; ; n++ {
						req, err := http.ReadRequest(br)
						if err != nil {
							return
						}
						if req.Close != (n == c.closes) {
							t.Errorf("the endpoint is told to close: %t", req.Close)
						}
						_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				})()
				defer stop()
				client, err := r.out.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				br := bufio.NewReader(client)
				for range 10 {
					send(t, client, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
					read(t, br, http.MethodGet)
					time.Sleep(c.every)
				}
				if conns != c.want {
					t.Errorf("%d connections, want %d", conns, c.want)
				}
			})
		})
	}
}

// TestOutsideOnTheWire: a call that passes through is made on connections that are kept, is repeated on another where a kept one
// has ended, and fails as the dialer says.
func TestOutsideOnTheWire(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		conns.Add(1)
		for range 3 {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		}
		_, _ = br.Peek(1) // and ends without a word
	})
	r := start(t, "", nil)
	c, br := dial(t, r.sidecar.OutboundAddr().String())
	for range 9 {
		send(t, c, "GET / HTTP/1.1\r\nHost: "+up+"\r\n\r\n")
		if resp, body := read(t, br, http.MethodGet); resp.StatusCode != http.StatusOK || body != "hi" {
			t.Fatalf("status %d, %q", resp.StatusCode, body)
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for nine requests of three each", n)
	}
	for host, want := range map[string]proxy.LocalReply{
		loopback.Dead(t):  {Status: 503, Flag: "UF", Reason: "connect"},
		"169.254.169.254": {Status: 403, Flag: "UH", Reason: "destination_refused"},
	} {
		send(t, c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		resp, _ := read(t, br, http.MethodGet)
		if l := r.last(); resp.StatusCode != want.Status || l.Flag != want.Flag || l.Reason != want.Reason {
			t.Errorf("%s: status %d, %+v", host, resp.StatusCode, l)
		}
	}
}

// TestOutsideWithoutGuard: without one the mesh's own transport takes them, whatever that is.
func TestOutsideWithoutGuard(t *testing.T) {
	t.Parallel()
	r := start(t, "", func(c *proxy.Config) { c.Guard = nil })
	c, br := dial(t, r.sidecar.OutboundAddr().String())
	send(t, c, "GET / HTTP/1.1\r\nHost: "+loopback.Dead(t)+"\r\n\r\n")
	if resp, _ := read(t, br, http.MethodGet); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", resp.StatusCode)
	}
}
