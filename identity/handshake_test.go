//go:build unix

package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// handshakers are both ends of a handshake by this package, and by bare crypto/tls with the same certificates, verified in full by their
// authority.
func handshakers(t testing.TB) (ours, bare func()) {
	t.Helper()
	root := newMaker(t, nil)
	issuing := root.below(t, nil)
	web, reviews := issuing.svid(t, webID, nil, issuing), issuing.svid(t, restID, nil, issuing)
	clock := func() time.Time { return now }
	hold := func(c tls.Certificate) *identity.Identity {
		i := identity.New(identity.Options{Now: clock})
		if err := i.Take(&identity.Material{SVID: c, Bundles: bundles(map[string]*maker{domain: root})}); err != nil {
			t.Fatal(err)
		}
		return i
	}
	client, server := hold(web), hold(reviews)
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	// crypto/tls holds a server's certificate against names of hosts, of which an SVID has none: its chain is verified by hand, as the
	// client's is by crypto/tls.
	verify := func(s tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		for _, c := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(opts)
		return err
	}
	protocols := []string{"http/1.1"}
	meet := func(c, s *tls.Config) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		done := make(chan error, 1)
		go func() { done <- tls.Server(b, s).Handshake() }()
		if err := tls.Client(a, c).Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	ours = func() {
		c, err := client.ClientConfig(identity.ClientOptions{ServerName: "reviews", Protocols: protocols, Accounts: []string{"default/reviews"}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.ServerConfig(identity.ServerOptions{Protocols: protocols})
		if err != nil {
			t.Fatal(err)
		}
		meet(c, s)
	}
	bareClient := &tls.Config{Certificates: []tls.Certificate{web}, InsecureSkipVerify: true, VerifyConnection: verify, ServerName: "reviews",
		NextProtos: protocols, Time: clock, SessionTicketsDisabled: true}
	bareServer := &tls.Config{Certificates: []tls.Certificate{reviews}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: protocols,
		Time: clock, SessionTicketsDisabled: true}
	return ours, func() { meet(bareClient, bareServer) }
}

// TestHandshakeAllocs: a handshake of both ends allocates at most a tenth more than crypto/tls's own with full verification.
func TestHandshakeAllocs(t *testing.T) {
	ours, bare := handshakers(t)
	mine, theirs := testing.AllocsPerRun(50, ours), testing.AllocsPerRun(50, bare)
	t.Logf("%.0f allocations, bare crypto/tls %.0f", mine, theirs)
	if mine > 1.1*theirs {
		t.Errorf("%.0f allocations for both ends, and %.0f by bare crypto/tls", mine, theirs)
	}
}

// BenchmarkHandshake is a full handshake, both ends and both verified, beside bare crypto/tls's, in turns: CPU in µs, and the ratio.
func BenchmarkHandshake(b *testing.B) {
	ours, bare := handshakers(b)
	cpu := func(f func()) (spent float64) {
		var before, after syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		for range 20 { // the clock of CPU time is coarse
			f()
		}
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		return float64(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	}
	var mine, theirs float64
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 {
			mine += cpu(ours)
			theirs += cpu(bare)
		} else {
			theirs += cpu(bare)
			mine += cpu(ours)
		}
	}
	b.ReportMetric(mine/float64(b.N)/20/1e3, "cpu-µs/handshake")
	b.ReportMetric(theirs/float64(b.N)/20/1e3, "cpu-µs/bare")
	b.ReportMetric(mine/theirs, "÷bare")
	b.ReportMetric(0, "ns/op")
}
