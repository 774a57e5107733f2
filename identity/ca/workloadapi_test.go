package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/identity/ca"
)

// An issuanceLog is heard by several goroutines.
type issuanceLog struct {
	mu    sync.Mutex
	lines []ca.Issuance
}

func (l *issuanceLog) add(i ca.Issuance) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, i)
	return nil
}

func (l *issuanceLog) of(what string) (all []ca.Issuance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.lines {
		if i.What == what {
			all = append(all, i)
		}
	}
	return all
}

// run serves a server's options until the test ends, or stop is called.
func run(t *testing.T, a *ca.Authority, o ca.ServerOptions) (s *ca.Server, stop func()) {
	t.Helper()
	if o.Sockets == "" {
		o.Sockets = filepath.Join(shortDir(t), "s")
	}
	s, err := a.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func workloadOf(t *testing.T, text string) ca.Workload {
	t.Helper()
	w, err := ca.ParseWorkload("cluster.local", text)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// serveWeb serves the Workload API to shop/web, and gives its socket.
func serveWeb(t *testing.T, o ca.Options) (*ca.Authority, ca.Workload, string) {
	t.Helper()
	a, err := ca.New("cluster.local", o)
	if err != nil {
		t.Fatal(err)
	}
	w := workloadOf(t, "shop/web")
	s, _ := run(t, a, ca.ServerOptions{Workloads: []ca.Workload{w}})
	return a, w, s.Socket(w)
}

// dial gives a connection straight from the protocol, without any client's own ideas.
func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func secure(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
}

// TestWorkloadAPI: a socket is one workload's, whatever is asked for; what changes is streamed; all of it is logged.
func TestWorkloadAPI(t *testing.T) {
	t.Parallel()
	log := new(issuanceLog)
	a, err := ca.New("cluster.local", ca.Options{Issued: log.add})
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.New("other.example", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(bundle, ca.EncodeCertificates(other.Bundle()...), 0o600); err != nil {
		t.Fatal(err)
	}
	w := workloadOf(t, "web-1=shop/web")
	s, stop := run(t, a, ca.ServerOptions{Workloads: []ca.Workload{w}, Federated: map[string]string{"other.example": bundle}})
	for name, mode := range map[string]os.FileMode{s.Socket(w): 0o600, filepath.Dir(s.Socket(w)): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	client := workload.NewSpiffeWorkloadAPIClient(dial(t, s.Socket(w)))
	stream, err := client.FetchX509SVID(secure(t.Context()), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *workload.X509SVIDResponse {
		t.Helper()
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	first := next()
	svid := first.GetSvids()[0]
	chain, err := x509.ParseCertificates(svid.GetX509Svid())
	if err != nil || len(first.GetSvids()) != 1 || len(chain) != 2 {
		t.Fatalf("%d SVIDs of %d certificates, %v", len(first.GetSvids()), len(chain), err)
	}
	const id = "spiffe://cluster.local/ns/shop/sa/web"
	if svid.GetSpiffeId() != id || chain[0].URIs[0].String() != id {
		t.Errorf("%s, %v", svid.GetSpiffeId(), chain[0].URIs)
	}
	if got := log.of("svid"); len(got) != 1 || got[0].ID != id || got[0].Serial != chain[0].SerialNumber.Text(16) ||
		!strings.Contains(got[0].To, "pid "+strconv.Itoa(os.Getpid())) || !strings.Contains(got[0].To, s.Socket(w)) {
		t.Errorf("the log has %+v", got)
	}
	if got := first.GetFederatedBundles(); len(got) != 1 || !bytes.Equal(got["spiffe://other.example"], other.Bundle()[0].Raw) {
		t.Errorf("federated with %d", len(got))
	}
	bundles, err := client.FetchX509Bundles(secure(t.Context()), &workload.X509BundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bundles.Recv(); err != nil || len(b.GetBundles()) != 2 || !bytes.Equal(b.GetBundles()["spiffe://cluster.local"], a.Bundle()[0].Raw) {
		t.Errorf("bundles: %v, %v", b, err)
	}
	if err := a.AddRoot(); err != nil {
		t.Fatal(err)
	}
	second := next().GetSvids()[0]
	if roots, err := x509.ParseCertificates(second.GetBundle()); err != nil || len(roots) != 2 || bytes.Equal(second.GetX509SvidKey(), svid.GetX509SvidKey()) {
		t.Errorf("%d roots, %v", len(roots), err)
	}
	if b, err := bundles.Recv(); err != nil {
		t.Errorf("bundles: %v, %v", b, err)
	} else if roots, err := x509.ParseCertificates(b.GetBundles()["spiffe://cluster.local"]); err != nil || len(roots) != 2 {
		t.Errorf("bundles: %d roots, %v", len(roots), err)
	}
	stop()
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	if left, _ := os.ReadDir(filepath.Dir(s.Socket(w))); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestWorkloadAPIRefuses: a request that anybody could have been talked into, the profiles that are not served, a listener
// that is not a Unix socket.
func TestWorkloadAPIRefuses(t *testing.T) {
	t.Parallel()
	a, w, socket := serveWeb(t, ca.Options{})
	client := workload.NewSpiffeWorkloadAPIClient(dial(t, socket))
	svid := func(ctx context.Context) error {
		stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	bundles := func(ctx context.Context) error {
		stream, err := client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	jwt := func(ctx context.Context) error {
		_, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}})
		return err
	}
	with := func(values ...string) context.Context {
		return metadata.NewOutgoingContext(t.Context(), metadata.MD{"workload.spiffe.io": values})
	}
	for _, row := range []struct {
		name string
		ask  func(context.Context) error
		ctx  context.Context
		want codes.Code
	}{
		{"SVID without the header", svid, with(), codes.InvalidArgument},
		{"SVID with another value", svid, with("false"), codes.InvalidArgument},
		{"SVID with the header twice", svid, with("true", "true"), codes.InvalidArgument},
		{"SVID", svid, with("true"), codes.OK},
		{"bundles without the header", bundles, with(), codes.InvalidArgument},
		{"token without the header", jwt, with(), codes.InvalidArgument},
		{"token", jwt, with("true"), codes.Unimplemented},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(row.ctx)
			defer cancel()
			if got := status.Code(row.ask(ctx)); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
	t.Run("TCP", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.ServeWorkloadAPI(t.Context(), l, w.ID); err == nil || !strings.Contains(err.Error(), "Unix sockets only") {
			t.Errorf("served: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("it listens: %v", err)
		}
	})
}

// TestWorkloadAPIRenews: at half its life a stream has another SVID.
func TestWorkloadAPIRenews(t *testing.T) {
	t.Parallel()
	_, _, socket := serveWeb(t, ca.Options{Life: 2 * time.Second})
	stream, err := workload.NewSpiffeWorkloadAPIClient(dial(t, socket)).FetchX509SVID(secure(t.Context()), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for range 3 {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := x509.ParseCertificates(answer.GetSvids()[0].GetX509Svid())
		if err != nil {
			t.Fatal(err)
		}
		serials[chain[0].SerialNumber.String()] = true
	}
	if len(serials) != 3 {
		t.Errorf("%d SVIDs in 3 answers", len(serials))
	}
}

// TestWorkloadAPIOfGoSPIFFE: the client that others use understands it.
func TestWorkloadAPIOfGoSPIFFE(t *testing.T) {
	t.Parallel()
	_, w, socket := serveWeb(t, ca.Options{})
	source, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	svid, err := source.GetX509SVID()
	if err != nil || svid.ID.String() != w.ID.String() {
		t.Errorf("%v, %v", svid, err)
	}
	if b, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain()); err != nil || len(b.X509Authorities()) != 1 {
		t.Errorf("bundle: %v", err)
	}
}

// TestListenRefuses: what cannot be served is not served by half.
func TestListenRefuses(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := workloadOf(t, "shop/web")
	for _, row := range []struct {
		name string
		o    func(t *testing.T) ca.ServerOptions
		says string
	}{
		{"directory for all", func(t *testing.T) ca.ServerOptions {
			dir := shortDir(t)
			_ = os.Chmod(dir, 0o755)
			return ca.ServerOptions{Sockets: dir}
		}, "0700 is right"},
		{"a file in the place of a socket", func(t *testing.T) ca.ServerOptions {
			dir := shortDir(t)
			_ = os.WriteFile(filepath.Join(dir, "web.sock"), nil, 0o600)
			return ca.ServerOptions{Sockets: dir}
		}, "is no socket"},
		{"somebody listens", func(t *testing.T) ca.ServerOptions {
			s, _ := run(t, a, ca.ServerOptions{Workloads: []ca.Workload{w}})
			return ca.ServerOptions{Sockets: filepath.Dir(s.Socket(w))}
		}, "somebody listens"},
		{"long path", func(t *testing.T) ca.ServerOptions {
			return ca.ServerOptions{Sockets: filepath.Join(shortDir(t), strings.Repeat("x", 100))}
		}, "longer than"},
		{"Istio's protocol for all", func(t *testing.T) ca.ServerOptions {
			return ca.ServerOptions{Sockets: shortDir(t), Istio: "0.0.0.0:0"}
		}, "not a loopback address"},
		{"a bundle with a key in it", func(t *testing.T) ca.ServerOptions {
			_, key, err := a.SignNew(w.ID, 0, "")
			if err != nil {
				t.Fatal(err)
			}
			text, _ := ca.EncodeKey(key)
			name := filepath.Join(t.TempDir(), "bundle.pem")
			_ = os.WriteFile(name, append(ca.EncodeCertificates(a.Bundle()...), text...), 0o600)
			return ca.ServerOptions{Sockets: shortDir(t), Federated: map[string]string{"other.example": name}}
		}, "a private key where there should be none"},
		{"federated with itself", func(t *testing.T) ca.ServerOptions {
			name := filepath.Join(t.TempDir(), "bundle.pem")
			_ = os.WriteFile(name, ca.EncodeCertificates(a.Bundle()...), 0o600)
			return ca.ServerOptions{Sockets: shortDir(t), Federated: map[string]string{"cluster.local": name}}
		}, "own trust domain"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o := row.o(t)
			o.Workloads = []ca.Workload{w}
			if _, err := a.Listen(o); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want %q", err, row.says)
			}
		})
	}
	t.Run("a socket that was left", func(t *testing.T) {
		t.Parallel()
		dir := shortDir(t)
		l, err := net.Listen("unix", filepath.Join(dir, "web.sock"))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = l.Close()
		s, stop := run(t, a, ca.ServerOptions{Sockets: dir, Workloads: []ca.Workload{w}})
		conn, err := net.Dial("unix", s.Socket(w))
		if err != nil {
			t.Error(err)
		} else {
			_ = conn.Close()
		}
		stop()
	})
}

// TestFederatedChanges: another bundle of a federated trust domain is streamed, and one that is broken changes nothing.
func TestFederatedChanges(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.New("other.example", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "other.pem")
	if err := ca.WriteFile(name, ca.EncodeCertificates(other.Bundle()...)); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 10)
	w := workloadOf(t, "shop/web")
	s, _ := run(t, a, ca.ServerOptions{Workloads: []ca.Workload{w}, Federated: map[string]string{"other.example": name},
		Report: func(err error) { failed <- err }})
	stream, err := workload.NewSpiffeWorkloadAPIClient(dial(t, s.Socket(w))).FetchX509SVID(secure(t.Context()), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFile(name, []byte("-----BEGIN CERTIFICATE-----\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
	if err := other.AddRoot(); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFile(name, ca.EncodeCertificates(other.Bundle()...)); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseCertificates(answer.GetFederatedBundles()["spiffe://other.example"]); err != nil || len(list) != 2 {
		t.Errorf("%d certificates, %v", len(list), err)
	}
}
