package conformance

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// exchanged are the fields by which peers tell each other of their workloads.
var exchanged = []string{telemetry.PeerMetadata.Canonical(), telemetry.PeerMetadataID.Canonical()}

const forgedPeer = "forged"

// An onlooker is a program behind the mesh that notes what of the exchange it sees, and tries to take part in it.
type onlooker struct {
	mu   sync.Mutex
	seen []string
}

func (w *onlooker) note(where string, h http.Header) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range h {
		if strings.Contains(strings.ToLower(name), "peer-metadata") || strings.Contains(strings.ToLower(name), "peer_metadata") {
			w.seen = append(w.seen, where+" "+name)
		}
	}
}

func (w *onlooker) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) > 0 {
		t.Errorf("programs see %q", w.seen)
	}
}

// serving are the ways in which a program serves.
func (w *onlooker) serving() map[string]func(t testing.TB, m *mesh.Mesh) string {
	app := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.note("program", r.Header)
		_, _ = io.Copy(rw, r.Body)
	})
	forging := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for _, name := range exchanged {
			rw.Header().Set(name, forgedPeer)
		}
		app(rw, r)
	})
	return map[string]func(t testing.TB, m *mesh.Mesh) string{
		"Serve":        func(t testing.TB, m *mesh.Mesh) string { return serveByMesh(t, m, app) },
		"server codec": func(t testing.TB, m *mesh.Mesh) string { return serveByMesh(t, m, app, mesh.WithServerCodec()) },
		"proxy":        func(t testing.TB, m *mesh.Mesh) string { return serveByProxy(t, m, forging) },
		"gRPC":         w.serveRPC,
	}
}

func (w *onlooker) serveRPC(t testing.TB, m *mesh.Mesh) string {
	look := func(ctx context.Context) {
		md, _ := metadata.FromIncomingContext(ctx)
		w.note("method", http.Header(md))
	}
	unary := func(_ any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(emptypb.Empty)
		if err := dec(in); err != nil {
			return nil, err
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/pkg.Service/Method"}, func(ctx context.Context, in any) (any, error) {
			look(ctx)
			return in, nil
		})
	}
	fails := func(_ any, s grpc.ServerStream) error {
		look(s.Context())
		return io.ErrUnexpectedEOF
	}
	echo := func(srv any, s grpc.ServerStream) error {
		look(s.Context())
		if err := echoes(srv, s); err != io.EOF { //nolint:errorlint // as grpc-go has it
			return err
		}
		return nil
	}
	srv := grpc.NewServer(grpcmesh.ServerOptions(m)...)
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "pkg.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Method", Handler: unary}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", Handler: echo, ServerStreams: true, ClientStreams: true}, {StreamName: "Fails", Handler: fails, ServerStreams: true}}}, struct{}{})
	l := listenLocal(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

// calling are the ways in which a program calls a host: each makes one call.
func (w *onlooker) calling() map[string]func(t *testing.T, m *mesh.Mesh, host string) {
	ask := func(t *testing.T, rt http.RoundTripper, host string) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/", strings.NewReader("body"))
		for _, name := range exchanged {
			req.Header.Set(name, forgedPeer)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		w.note("caller", resp.Header)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	sidecar := func(two bool) func(t *testing.T, m *mesh.Mesh, host string) {
		return func(t *testing.T, m *mesh.Mesh, host string) {
			rt := newProxyServer(t, m).client(two, false)
			t.Cleanup(rt.CloseIdleConnections)
			ask(t, rt, host)
		}
	}
	channel := func(t *testing.T, m *mesh.Mesh, host string) *grpc.ClientConn {
		conn, err := grpc.NewClient(grpcmesh.Target(host), grpcmesh.DialOptions(m)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	stream := func(name string, ends bool) func(t *testing.T, m *mesh.Mesh, host string) {
		return func(t *testing.T, m *mesh.Mesh, host string) {
			s, err := channel(t, m, host).NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/pkg.Service/"+name)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SendMsg(new(emptypb.Empty))
			_ = s.CloseSend()
			for err == nil {
				err = s.RecvMsg(new(emptypb.Empty))
			}
			md, _ := s.Header()
			w.note("caller", http.Header(md))
			w.note("caller", http.Header(s.Trailer()))
			if (err == io.EOF) != ends { //nolint:errorlint // as grpc-go has it
				t.Error(err)
			}
		}
	}
	return map[string]func(t *testing.T, m *mesh.Mesh, host string){
		"RoundTripper":  func(t *testing.T, m *mesh.Mesh, host string) { ask(t, m.RoundTripper(), host) },
		"proxy":         sidecar(false),
		"proxy, HTTP/2": sidecar(true),
		"gRPC": func(t *testing.T, m *mesh.Mesh, host string) {
			var header, trailer metadata.MD
			if err := channel(t, m, host).Invoke(t.Context(), "/pkg.Service/Method", new(emptypb.Empty), new(emptypb.Empty), grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
				t.Error(err)
			}
			w.note("caller", http.Header(header))
			w.note("caller", http.Header(trailer))
		},
		"gRPC, stream":         stream("Stream", true),
		"gRPC, failing stream": stream("Fails", false),
	}
}

// TestWorkloadsOfPeers: by every way of calling and of serving, over the mesh's TLS, both sides know the other's workload though no document
// says anything of it; namespace and account are those of the certificates, and no program sees how it came.
func TestWorkloadsOfPeers(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	callerIs := telemetry.Workload{Name: "productpage-v2", Namespace: "default", Principal: webID, App: "productpage", Version: "v2", Cluster: "east",
		CanonicalService: "pages", CanonicalRev: "v2"}
	calleeIs := telemetry.Workload{Name: "reviews-v3", Namespace: "default", Principal: reviewsID, App: "reviews", Version: "v3", CanonicalService: "reviews", CanonicalRev: "v3"}
	w := new(onlooker)
	for served, serve := range w.serving() {
		for called, ask := range w.calling() {
			rpc := strings.HasPrefix(called, "gRPC")
			if rpc != (served == "gRPC") {
				continue
			}
			for _, protocol := range map[bool][]string{false: {"HTTP", "HTTP2"}, true: {"GRPC"}}[rpc] {
				t.Run(called+" to "+served+" by "+protocol, func(t *testing.T) {
					t.Parallel()
					defer w.check(t)
					there, here := make(sink, 8), make(sink, 8)
					// What a program says of its namespace is not asked.
					callee := inboundMesh(t, peerAuthentication("STRICT"), mesh.WithIdentity(held{a.Material(meshDomain, reviewsID)}), mesh.WithMetricsSink(there),
						mesh.WithWorkload(mesh.Workload{Name: "reviews-v3", Namespace: "elsewhere", Labels: map[string]string{"app": "reviews", "version": "v3"}}))
					caller, err := mesh.New(t.Context(), mesh.WithConfig([]byte(serviceAt("reviews", protocol, serve(t, callee)))),
						mesh.WithIdentity(held{a.Material(meshDomain, webID)}), mesh.WithMetricsSink(here), mesh.WithLogger(slog.New(slog.DiscardHandler)),
						mesh.WithWorkload(mesh.Workload{Name: "productpage-v2", Namespace: "elsewhere", Labels: map[string]string{"app": "productpage", "version": "v2",
							"service.istio.io/canonical-name": "pages", "topology.istio.io/cluster": "east"}}))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = caller.Close() })
					ask(t, caller, "reviews.default.svc.cluster.local")
					if got := here.next(t); got.Labels.Destination != calleeIs || got.Labels.Source.Name != "productpage-v2" {
						t.Errorf("the caller has %+v", got.Labels)
					}
					if got := there.next(t); got.Labels.Source != callerIs || got.Security != telemetry.MutualTLS || got.Labels.Destination.Name != "reviews-v3" {
						t.Errorf("the callee has %+v", got.Labels)
					}
				})
			}
		}
	}
}

// TestForgedWorkloads: what a caller says of himself is believed of one who was proved to be of the mesh, and there are bounds to it;
// of anybody else, or where it is no such thing, the workload is unknown. Nobody is answered who has not asked, or proved himself.
func TestForgedWorkloads(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	tell := func(w telemetry.Workload) string { said, _ := telemetry.TellPeer(w); return said }
	evil := tell(telemetry.Workload{Name: "admin", Namespace: "kube-system", App: "admin", Version: "1", CanonicalService: "admin", CanonicalRev: "1"})
	long := tell(telemetry.Workload{Name: strings.Repeat("a", 6500), App: "long"})
	w := new(onlooker)
	for served, serve := range w.serving() {
		if served == "gRPC" {
			continue // TestWorkloadsOfPeers; what is read of a field is alike
		}
		t.Run(served, func(t *testing.T) {
			t.Parallel()
			defer w.check(t)
			all := make(sink, 8)
			addr := serve(t, inboundMesh(t, peerAuthentication("PERMISSIVE"), mesh.WithIdentity(held{a.Material(meshDomain, webID)}), mesh.WithMetricsSink(all)))
			mine := a.Issue(reviewsID)
			of := telemetry.Workload{Namespace: "default", Principal: reviewsID}
			named := of
			named.Name, named.App, named.Version, named.CanonicalService, named.CanonicalRev = "admin", "admin", "1", "admin", "1"
			for _, row := range []struct {
				name, fields string
				secure       bool
				want         telemetry.Workload
				told         bool
			}{
				{"proved", "X-Envoy-Peer-Metadata: " + evil + "\r\nX-Envoy-Peer-Metadata-Id: x\r\n", true, named, true},
				{"proved, without padding, in small letters", "x-envoy-peer-metadata: " + strings.TrimRight(evil, "=") + "\r\n", true, named, true},
				{"plain text", "X-Envoy-Peer-Metadata: " + evil + "\r\n", false, telemetry.Workload{}, false},
				{"said twice", "X-Envoy-Peer-Metadata: " + evil + "\r\nX-Envoy-Peer-Metadata: " + evil + "\r\n", true, of, false},
				{"nothing said", "X-Envoy-Peer-Metadata-Id: x\r\nX_Envoy_Peer_Metadata: " + evil + "\r\n", true, of, false},
				{"no base64", "X-Envoy-Peer-Metadata: *\r\n", true, of, true},
				{"no struct", "X-Envoy-Peer-Metadata: /////w==\r\n", true, of, true},
				{"too long", "X-Envoy-Peer-Metadata: " + long + "\r\n", true, of, true},
				{"no names", "X-Envoy-Peer-Metadata: " + tell(telemetry.Workload{Name: "a\nb", App: "\x1b[31m", Version: strings.Repeat("v", 300)}) + "\r\n", true, of, true},
			} {
				resp := say(t, addr, row.fields, map[bool]*tls.Config{true: {InsecureSkipVerify: true, NextProtos: []string{"istio-http/1.1", "istio", "http/1.1"},
					Certificates: []tls.Certificate{mine}}}[row.secure])
				if told := resp.Header.Get("X-Envoy-Peer-Metadata"); (told != "") != row.told || told == forgedPeer {
					t.Errorf("%s: told %q", row.name, told)
				}
				if got := all.next(t); got.Source != row.want {
					t.Errorf("%s: %+v, want %+v", row.name, got.Source, row.want)
				}
			}
		})
	}
}

// say makes one request with these fields.
func say(t testing.TB, addr, fields string, secure *tls.Config) *http.Response {
	t.Helper()
	c := dialLocal(t, addr, secure)
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n"+fields+"Connection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestManyWorkloads: one identity is believed to be in a bounded number of workloads; the rest are "other".
func TestManyWorkloads(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	all := make(sink, 8)
	addr := serveByMesh(t, inboundMesh(t, "", mesh.WithIdentity(held{a.Material(meshDomain, webID)}), mesh.WithMetricsSink(all)), new(recorder), mesh.WithServerCodec())
	c := dialLocal(t, addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio-http/1.1", "istio", "http/1.1"}, Certificates: []tls.Certificate{a.Issue(reviewsID)}})
	defer c.Close()
	r := bufio.NewReader(c)
	names := make(map[string]int)
	const many = 300
	for i := range many {
		said, _ := telemetry.TellPeer(telemetry.Workload{Name: fmt.Sprint("w", i)})
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nX-Envoy-Peer-Metadata: "+said+"\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		got := all.next(t)
		if names[got.Source.Name]++; got.Source.Namespace != "default" || got.Source.Principal != reviewsID {
			t.Fatalf("%+v", got.Source)
		}
	}
	if len(names) != 256+1 || names[telemetry.Other] != many-256 {
		t.Errorf("%d workloads, of which %d requests are of others", len(names), names[telemetry.Other])
	}
}

func dialLocal(t testing.TB, addr string, secure *tls.Config) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if secure != nil {
		return tls.Client(c, secure)
	}
	return c
}
