package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/identity"
)

// securityHeader is what every request to the Workload API carries (SPIFFE Workload Endpoint §6): a request that some
// program was talked into by a URL does not.
const securityHeader = "workload.spiffe.io"

// ServeWorkloadAPI serves the SPIFFE Workload API, its X509-SVID profile, on a listener whose every caller is the
// workload of the ID: so it must be a Unix socket that only the workload can reach. It ends with ctx, or with an error of
// the listener, which it closes. Each stream is given an SVID with a key of its own, another one at 40 to 50 % of its life,
// and all that changes at once.
func (a *Authority) ServeWorkloadAPI(ctx context.Context, l net.Listener, id identity.ID) error {
	return a.serveWorkloadAPI(ctx, l, Workload{ID: id})
}

func (a *Authority) serveWorkloadAPI(ctx context.Context, l net.Listener, w Workload) error {
	if l.Addr().Network() != "unix" {
		_ = l.Close()
		return fmt.Errorf("serve the Workload API on %s %s: Unix sockets only", l.Addr().Network(), l.Addr())
	}
	s := grpc.NewServer(grpc.ChainStreamInterceptor(secureStream), grpc.ChainUnaryInterceptor(secureCall),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(10*time.Second))
	workload.RegisterSpiffeWorkloadAPIServer(s, &workloadAPI{authority: a, id: w.ID, on: l.Addr().String()})
	return serveGRPC(ctx, s, attested{l, w.User})
}

// What a caller can make us read at most, and how many streams one connection has.
const (
	maxRequest = 64 << 10
	maxStreams = 100
)

// serveGRPC serves until ctx ends.
func serveGRPC(ctx context.Context, s *grpc.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	s.Stop()
	return err
}

func secureStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := secured(s.Context()); err != nil {
		return err
	}
	return next(srv, s)
}

func secureCall(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := secured(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func secured(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(securityHeader); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	return nil
}

// workloadAPI serves one workload. The profiles of tokens are not served: they are Unimplemented, as the standard has it.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	authority *Authority
	id        identity.ID
	on        string
}

// FetchX509SVID implements the Workload API §5.2.1.
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, s grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	for {
		changed := w.authority.Changed()
		m, err := w.authority.issue(w.id, w.caller(s.Context()))
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		answer, err := w.answer(m)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if err := s.Send(answer); err != nil {
			return err
		}
		t := time.NewTimer(w.authority.renewal(m.SVID.Leaf))
		select {
		case <-s.Context().Done():
			t.Stop()
			return status.FromContextError(s.Context().Err()).Err()
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}

// FetchX509Bundles implements the Workload API §5.2.2.
func (w *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, s grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	for {
		changed := w.authority.Changed()
		if err := s.Send(&workload.X509BundlesResponse{Bundles: bundlesByID(w.authority.bundles())}); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
			return status.FromContextError(s.Context().Err()).Err()
		case <-changed:
		}
	}
}

// answer writes an SVID as the Workload API has it.
func (w *workloadAPI) answer(m *identity.Material) (*workload.X509SVIDResponse, error) {
	key, err := x509.MarshalPKCS8PrivateKey(m.SVID.PrivateKey)
	if err != nil {
		return nil, err
	}
	own := w.authority.domain
	svid := &workload.X509SVID{SpiffeId: w.id.String(), X509SvidKey: key, Bundle: concatenated(m.Bundles[own])}
	for _, der := range m.SVID.Certificate {
		svid.X509Svid = append(svid.X509Svid, der...)
	}
	federated := bundlesByID(m.Bundles)
	delete(federated, domainID(own))
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}, FederatedBundles: federated}, nil
}

// caller says for the log who asks.
func (w *workloadAPI) caller(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if ok && p.Addr != nil && p.Addr.String() != "" && p.Addr.String() != "@" {
		return p.Addr.String() + " on " + w.on
	}
	return w.on
}

func domainID(domain string) string { return "spiffe://" + domain }

func bundlesByID(bundles map[string][]*x509.Certificate) map[string][]byte {
	by := make(map[string][]byte, len(bundles))
	for domain, bundle := range bundles {
		by[domainID(domain)] = concatenated(bundle)
	}
	return by
}

// concatenated gives certificates as the Workload API has several of them: one DER after the other.
func concatenated(list []*x509.Certificate) (der []byte) {
	for _, c := range list {
		der = append(der, c.Raw...)
	}
	return der
}
