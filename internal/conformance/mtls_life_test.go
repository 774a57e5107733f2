package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// A provedServer serves HTTP and RPCs by TLS with a certificate that changes. It holds the first request
// until released.
type provedServer struct {
	addr     string
	srv      *http.Server
	own      atomic.Pointer[tls.Certificate]
	caller   atomic.Pointer[x509.Certificate] // who shook hands last
	asked    atomic.Int64                     // requests
	shaken   atomic.Int64                     // handshakes begun
	holding  chan struct{}
	released chan struct{}

	mu    sync.Mutex // guards what follows
	conns []net.Conn
}

func startProved(t testing.TB, own tls.Certificate) *provedServer {
	t.Helper()
	p := &provedServer{holding: make(chan struct{}, 1), released: make(chan struct{})}
	p.own.Store(&own)
	p.srv = &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: p,
		TLSConfig: &tls.Config{NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequestClientCert,
			GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				p.shaken.Add(1)
				p.mu.Lock()
				defer p.mu.Unlock()
				p.conns = append(p.conns, h.Conn)
				return p.own.Load(), nil
			},
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) > 0 {
					p.caller.Store(s.PeerCertificates[0])
				}
				return nil
			}}}
	l := listenLocal(t)
	p.addr = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.srv.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() { _ = p.srv.Close(); <-done })
	return p
}

// cut ends all connections.
func (p *provedServer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *provedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if p.asked.Add(1) == 1 {
		p.holding <- struct{}{}
		<-p.released
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5))
		w.Header().Set("Grpc-Status", "0")
	}
}

// TestCertificateEndsMeanwhile is row D-034: the certificate of an endpoint becomes worth nothing while a call is under way on it. That
// call comes to its end, no other is sent to it, and with another endpoint beside it none fails and it is ejected.
func TestCertificateEndsMeanwhile(t *testing.T) {
	t.Parallel()
	for _, caller := range callers {
		t.Run(caller.name, func(t *testing.T) {
			t.Parallel()
			a := NewAuthority(t)
			bad, good := startProved(t, a.Issue(reviewsID)), startProved(t, a.Issue(reviewsID))
			close(good.released)
			_, port, _ := net.SplitHostPort(good.addr)
			two := serviceAt("two", caller.protocol, bad.addr)
			two = strings.Replace(two, "serviceAccount: reviews}", "serviceAccount: reviews}, {address: 127.0.0.1, ports: {p: "+port+"}, serviceAccount: reviews}", 1) +
				"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: two}\nspec: {host: two, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, " +
				"outlierDetection: {consecutive5xxErrors: 1, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}}\n---\n"
			call := caller.start(t, serviceAt("one", caller.protocol, bad.addr)+two, held{a.Material(meshDomain, webID)})
			first := make(chan int)
			go func() { first <- call("one") }()
			<-bad.holding
			expired := a.IssueAs(nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, reviewsID)
			bad.own.Store(&expired)
			close(bad.released)
			if status := <-first; status != http.StatusOK {
				t.Errorf("the call under way: %d", status)
			}
			bad.cut()
			asked := bad.asked.Load()
			if status := call("one"); status != 0 {
				t.Errorf("by an expired certificate: %d", status)
			}
			for i := range 20 {
				if status := call("two"); status != http.StatusOK {
					t.Errorf("call %d with another endpoint: %d", i, status)
				}
			}
			shaken := bad.shaken.Load()
			for range 20 {
				call("two")
			}
			if n := bad.shaken.Load() - shaken; n > 0 {
				t.Errorf("%d connections to it after it was ejected", n)
			}
			if n := bad.asked.Load() - asked; n > 0 {
				t.Errorf("%d requests were sent to it", n)
			}
		})
	}
}

// TestRotationUnderWay is row C-022: of requests under way none fails when both SVIDs are replaced, and the next handshake is by the new
// ones.
func TestRotationUnderWay(t *testing.T) {
	t.Parallel()
	n := 10_000
	if raceEnabled {
		n = 1_000 // it bounds goroutines
	}
	a := NewAuthority(t)
	server, client := newFed(a.Material(meshDomain, reviewsID)), newFed(a.Material(meshDomain, webID))
	other := startProved(t, a.Issue(reviewsID))
	close(other.released)
	var waiting sync.WaitGroup
	waiting.Add(n)
	release := make(chan struct{})
	m := inboundMesh(t, peerAuthentication("STRICT"), mesh.WithIdentity(server))
	addr := serveByMesh(t, m, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		waiting.Done()
		<-release
	}))
	web := callingMesh(t, serviceAt("reviews", "HTTP2", addr)+serviceAt("other", "HTTP", other.addr), client).Client()
	get := func(url string) error {
		resp, err := web.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	answers := make(chan error, n)
	for range n {
		go func() {
			answers <- get("http://reviews/")
		}()
	}
	waiting.Wait()
	ours, theirs := a.Material(meshDomain, webID), a.Material(meshDomain, reviewsID)
	client.give(ours)
	server.give(theirs)
	if err := get("http://other/"); err != nil || other.caller.Load().SerialNumber.Cmp(ours.SVID.Leaf.SerialNumber) != 0 {
		t.Errorf("the client shows another than its new SVID, %v", err)
	}
	conn, err := tls.Dial("tcp", addr, doors[0].as(a.Issue(webID)))
	if err != nil {
		t.Fatal(err)
	}
	if shown := conn.ConnectionState().PeerCertificates[0]; shown.SerialNumber.Cmp(theirs.SVID.Leaf.SerialNumber) != 0 {
		t.Error("the server shows another than its new SVID")
	}
	_ = conn.Close()
	close(release)
	failed := 0
	for range n {
		if err := <-answers; err != nil {
			failed++
			t.Log(err)
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d failed", failed, n)
	}
}
