package workload_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	api "github.com/heddlemesh/mesh/identity/workload"
)

// An agent is a Workload API written straight from the protocol: each stream is given what the test hands over, until it
// hands over an error.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	streams chan chan any // *workload.X509SVIDResponse or error
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, s grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	if v := md.Get("workload.spiffe.io"); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	says := make(chan any)
	select {
	case a.streams <- says:
	case <-s.Context().Done():
		return nil
	}
	for {
		select {
		case what := <-says:
			if err, ok := what.(error); ok || what == nil {
				return err
			}
			if err := s.Send(what.(*workload.X509SVIDResponse)); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

// socketDir is a directory whose name is short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// serve serves the agent on the socket; stop ends it at once, as a crash would.
func (a *agent) serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, a)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	stop = func() {
		s.Stop()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// A watched is an identity that a source feeds, and what it told.
type watched struct {
	*identity.Identity
	events chan identity.Event
}

func watch(t *testing.T, s identity.Source) *watched {
	t.Helper()
	w := &watched{events: make(chan identity.Event, 1000)}
	w.Identity = identity.New(identity.Options{Report: func(e identity.Event) { w.events <- e }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx, s)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// await waits for an event; of refusals it has to be one that says so.
func (w *watched) await(t *testing.T, kind identity.EventKind, says string) identity.Event {
	t.Helper()
	for e := range w.events {
		if e.Kind == kind && (e.Err == nil || strings.Contains(e.Err.Error(), says)) {
			return e
		}
	}
	return identity.Event{}
}

func authority(t *testing.T, domain string) *ca.Authority {
	t.Helper()
	a, err := ca.New(domain, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// svid is an SVID as the protocol has it.
func svid(t *testing.T, a *ca.Authority, account, hint string) *workload.X509SVID {
	t.Helper()
	id, err := identity.Workload(a.TrustDomain(), "default", account)
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := a.SignNew(id, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &workload.X509SVID{SpiffeId: id.String(), Bundle: der(a.Bundle()...), X509Svid: der(chain...), Hint: hint}
	if s.X509SvidKey, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	return s
}

func der(list ...*x509.Certificate) (all []byte) {
	for _, c := range list {
		all = append(all, c.Raw...)
	}
	return all
}

func response(all ...*workload.X509SVID) *workload.X509SVIDResponse {
	return &workload.X509SVIDResponse{Svids: all}
}

// TestStream: what the agent streams is taken as it comes; what is broken changes nothing; a stream that ends, for
// whatever reason, is opened again.
func TestStream(t *testing.T) {
	t.Parallel()
	a, other := authority(t, "cluster.local"), authority(t, "other.example")
	agent := &agent{streams: make(chan chan any)}
	socket := filepath.Join(socketDir(t), "agent.sock")
	w := watch(t, api.API{Address: "unix://" + socket}) // which is not there yet
	w.await(t, identity.EventRefused, socket)
	stop := agent.serve(t, socket)
	stream := <-agent.streams
	stream <- status.Error(codes.PermissionDenied, "no identity issued")
	w.await(t, identity.EventRefused, "PermissionDenied: no identity issued")
	stream = <-agent.streams
	stream <- response(svid(t, a, "web", ""))
	if e := w.await(t, identity.EventTaken, ""); e.ID.String() != "spiffe://cluster.local/ns/default/sa/web" {
		t.Errorf("%s", e.ID)
	}

	federated := response(svid(t, a, "web", ""))
	federated.FederatedBundles = map[string][]byte{"spiffe://other.example": der(other.Bundle()...)}
	stream <- federated
	w.await(t, identity.EventTaken, "")
	if got := w.Status().Bundles; len(got) != 2 || !got["other.example"][0].Equal(other.Bundle()[0]) {
		t.Errorf("%d bundles", len(got))
	}

	held := w.Status().Chain[0].SerialNumber
	strange, noKey, noBundle, cutShort, foreignKey := svid(t, a, "web", ""), svid(t, a, "web", ""), svid(t, a, "web", ""), svid(t, a, "web", ""), svid(t, a, "web", "")
	strange.SpiffeId = "spiffe://cluster.local/ns/default/sa/admin"
	noKey.X509SvidKey = []byte("secret")
	noBundle.Bundle = nil
	cutShort.Bundle = cutShort.Bundle[:len(cutShort.Bundle)-1]
	foreignKey.X509SvidKey = svid(t, a, "web", "").X509SvidKey
	emptyFederated := response(svid(t, a, "web", ""))
	emptyFederated.FederatedBundles = map[string][]byte{"spiffe://other.example": nil}
	ownFederated := response(svid(t, a, "web", ""))
	ownFederated.FederatedBundles = map[string][]byte{"spiffe://cluster.local": der(other.Bundle()...)}
	badList := response(svid(t, a, "web", ""))
	badList.Crl = [][]byte{{1, 2, 3}}
	for _, row := range []struct {
		answer *workload.X509SVIDResponse
		says   string
	}{
		{response(), "without an SVID"},
		{response(strange), "not that of this ID"},
		{response(noKey), "PKCS #8"},
		{response(foreignKey), "the key is not that of the certificate"},
		{response(noBundle), `bundle of "cluster.local"`},
		{response(cutShort), `bundle of "cluster.local"`},
		{response(svid(t, other, "web", "")), ""}, // another trust domain is another identity, and sound
		{emptyFederated, `bundle of "other.example"`},
		{ownFederated, "own trust domain"},
		{badList, "revocation lists"},
	} {
		stream <- row.answer
		if row.says == "" {
			w.await(t, identity.EventTaken, "")
			held = w.Status().Chain[0].SerialNumber
			continue
		}
		e := w.await(t, identity.EventRefused, row.says)
		if strings.Contains(e.Err.Error(), "secret") {
			t.Errorf("a key is in %v", e.Err)
		}
		if w.Status().Chain[0].SerialNumber.Cmp(held) != 0 {
			t.Errorf("%s: the last good one is gone", row.says)
		}
	}

	for name, end := range map[string]func(){
		"the stream ends":                func() { stream <- nil },
		"the server ends":                func() { stop(); stop = agent.serve(t, socket) },
		"the server says it is canceled": func() { stream <- status.Error(codes.Canceled, "shutting down") },
		"the server refuses the request": func() { stream <- status.Error(codes.InvalidArgument, "what?") },
	} {
		end()
		stream = <-agent.streams
		stream <- response(svid(t, a, "web", ""))
		w.await(t, identity.EventTaken, "")
		if w.ID().TrustDomain() != "cluster.local" {
			t.Errorf("after %s: %s", name, w.ID())
		}
	}
}

// TestSeveral: of several SVIDs the first is taken, or the first with the hint that is asked for.
func TestSeveral(t *testing.T) {
	t.Parallel()
	a := authority(t, "cluster.local")
	agent := &agent{streams: make(chan chan any)}
	socket := filepath.Join(socketDir(t), "agent.sock")
	agent.serve(t, socket)
	for hint, want := range map[string]string{"": "one", "internal": "two", "external": "three"} {
		w := watch(t, api.API{Address: "unix://" + socket, Hint: hint})
		stream := <-agent.streams
		stream <- response(svid(t, a, "one", ""), svid(t, a, "two", "internal"), svid(t, a, "three", "external"), svid(t, a, "four", "internal"))
		if e := w.await(t, identity.EventTaken, ""); !strings.HasSuffix(e.ID.String(), "/"+want) {
			t.Errorf("hint %q: %s", hint, e.ID)
		}
	}
	w := watch(t, api.API{Address: "unix://" + socket, Hint: "nobody's"})
	stream := <-agent.streams
	stream <- response(svid(t, a, "one", ""), svid(t, a, "two", "internal"))
	w.await(t, identity.EventRefused, `no SVID with hint "nobody's" among`)
}

// TestRevoked: revocation lists of the API count as those of files do.
func TestRevoked(t *testing.T) {
	t.Parallel()
	mine := new(signing)
	issuer, key := mine.authority(t, "cluster.local")
	list := func(serials ...*big.Int) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
		for _, s := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
		}
		out, err := x509.CreateRevocationList(rand.Reader, l, issuer, key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	agent := &agent{streams: make(chan chan any)}
	socket := filepath.Join(socketDir(t), "agent.sock")
	agent.serve(t, socket)
	w := watch(t, api.API{Address: "unix://" + socket})
	stream := <-agent.streams
	one := mine.svid(t, "web")
	good := response(one)
	good.Crl = [][]byte{list(big.NewInt(7))}
	stream <- good
	w.await(t, identity.EventTaken, "")
	leaf, err := x509.ParseCertificate(one.GetX509Svid())
	if err != nil {
		t.Fatal(err)
	}
	revoked := response(one)
	revoked.Crl = [][]byte{list(leaf.SerialNumber)}
	stream <- revoked
	w.await(t, identity.EventRefused, "is revoked")
}

// TestAddress: SPIFFE Workload Endpoint §4.
func TestAddress(t *testing.T) {
	t.Parallel()
	for address, sound := range map[string]bool{
		"unix:///run/agent.sock": true, "unix:///a%20b/agent.sock": true, "tcp://127.0.0.1:8000": true, "tcp://[::1]:8000": true,
		"": false, "/run/agent.sock": false, "unix:run/agent.sock": false, "unix://run/agent.sock": false, "unix:///": false, "unix://": false,
		"unix:///run/a.sock?x=1": false, "unix:///run/a.sock#x": false, "unix://u@/run/a.sock": false, "tcp://localhost:8000": false,
		"tcp://127.0.0.1": false, "tcp://127.0.0.1:": false, "tcp://127.0.0.1:8000/": false, "tcp://:8000": false, "http://127.0.0.1:8000": false, "unix:///\x00": false,
	} {
		if err := api.CheckAddress(address); (err == nil) != sound {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := (api.API{Address: "nowhere"}).Run(t.Context(), identity.New(identity.Options{})); err == nil {
		t.Error("an address that is none is tried for ever")
	}
}

// TestOurs: the server of package ca, with another root and at the end of an SVID's half life.
func TestOurs(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{Life: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	web, err := ca.ParseWorkload("cluster.local", "shop/web")
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Listen(ca.ServerOptions{Sockets: filepath.Join(socketDir(t), "s"), Workloads: []ca.Workload{web}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w := watch(t, api.API{Address: "unix://" + s.Socket(web)})
	serials := map[string]bool{}
	for range 3 {
		if e := w.await(t, identity.EventTaken, ""); e.ID != web.ID {
			t.Errorf("%s", e.ID)
		}
		serials[w.Status().Chain[0].SerialNumber.String()] = true
	}
	if len(serials) < 2 {
		t.Errorf("%d SVIDs taken", len(serials))
	}
	if err := a.AddRoot(); err != nil {
		t.Fatal(err)
	}
	for len(w.Status().Bundles["cluster.local"]) != 2 {
		w.await(t, identity.EventTaken, "")
	}
}
