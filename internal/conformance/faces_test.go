package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// A face is one way in which requests come in to a program of the mesh.
type face struct {
	name string
	// serve stands the program behind the mesh and gives its address.
	serve func(t testing.TB, m *mesh.Mesh, app http.Handler) string
	http2 bool
}

// faces are those of HTTP; gRPC's own is in grpcFace.
var faces = []face{
	{name: "Serve", serve: plainlyByMesh},
	{name: "Serve, HTTP/2", serve: plainlyByMesh, http2: true},
	{name: "Serve by the codec", serve: serveByCodec},
	{name: "proxy", serve: serveByProxy},
	{name: "proxy, HTTP/2", serve: serveByProxy, http2: true},
}

// A visit is a request as it is written on the wire.
type visit struct {
	method, target, host string
	header               http.Header
	body                 string
}

// An answer is what came back: status 0 where the connection ended.
type answer struct {
	status int
	header http.Header
	body   string
}

func listenLocal(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func plainlyByMesh(t testing.TB, m *mesh.Mesh, app http.Handler) string {
	return serveByMesh(t, m, app)
}

func serveByCodec(t testing.TB, m *mesh.Mesh, app http.Handler) string {
	return serveByMesh(t, m, app, mesh.WithServerCodec())
}

func serveByMesh(t testing.TB, m *mesh.Mesh, app http.Handler, opts ...mesh.InboundOption) string {
	l := listenLocal(t)
	srv := &http.Server{Handler: app, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Serve(srv, l, opts...)
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}

func serveByProxy(t testing.TB, m *mesh.Mesh, app http.Handler) string {
	l := listenLocal(t)
	srv := &http.Server{Handler: app, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return sidecarBefore(t, m, l.Addr().String())
}

// sidecarBefore stands a sidecar before a program that listens already.
func sidecarBefore(t testing.TB, m *mesh.Mesh, app string) string {
	t.Helper()
	s, err := proxy.Start(proxy.Config{Mesh: m, Inbound: []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return s.InboundAddrs()[0].String()
}

// ask sends a request to the face as it is written.
func (f *face) ask(t testing.TB, addr string, v visit) answer {
	t.Helper()
	if f.http2 {
		return askHTTP2(t, addr, v)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", v.method, v.target, v.host)
	for name, values := range v.header {
		for _, one := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, one)
		}
	}
	if v.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(v.body))
	}
	b.WriteString("\r\n" + v.body)
	if _, err := io.WriteString(c, b.String()); err != nil {
		return answer{}
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: v.method})
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// http2Client is one of its own for each request: a later server may listen on the port of one before, whose connection must not be taken.
func http2Client() *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

func askHTTP2(t testing.TB, addr string, v visit) answer {
	t.Helper()
	var body io.Reader
	if v.body != "" {
		body = strings.NewReader(v.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), v.method, "http://"+addr+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = v.host
	path, query, asked := strings.Cut(v.target, "?")
	req.URL = &url.URL{Scheme: "http", Host: addr, Opaque: path, RawQuery: query, ForceQuery: asked}
	if strings.HasPrefix(path, "//") { // to net/url that is a host
		req.URL.Opaque, req.URL.Path = "", path
	}
	for name, values := range v.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	client := http2Client()
	defer client.CloseIdleConnections()
	resp, err := client.RoundTrip(req)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// inboundMesh makes the mesh of a program that serves: workload web-v1 of namespace default, app=web.
func inboundMesh(t testing.TB, documents string, opts ...mesh.Option) *mesh.Mesh {
	t.Helper()
	m, err := mesh.New(context.Background(), append([]mesh.Option{mesh.WithConfig([]byte(documents)),
		mesh.WithWorkload(mesh.Workload{Name: "web-v1", Labels: map[string]string{"app": "web"}}),
		mesh.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatalf("new mesh: %v\n%s", err, documents)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A grpcFace is a server of gRPC with one method, /pkg.Service/Method, which counts its calls, and a channel to it.
type grpcFace struct {
	conn *grpc.ClientConn
	mu   sync.Mutex
	ran  int
}

func newGRPCFace(t testing.TB, m *mesh.Mesh) *grpcFace {
	t.Helper()
	f := new(grpcFace)
	unary := func(_ any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(emptypb.Empty)
		if err := dec(in); err != nil {
			return nil, err
		}
		run := func(context.Context, any) (any, error) {
			f.mu.Lock()
			f.ran++
			f.mu.Unlock()
			return in, nil
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/pkg.Service/Method"}, run)
	}
	srv := grpc.NewServer(grpcmesh.ServerOptions(m)...)
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "pkg.Service", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Method", Handler: unary}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", Handler: echoes, ServerStreams: true, ClientStreams: true}}}, struct{}{})
	l := listenLocal(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	f.conn = conn
	t.Cleanup(func() { _ = conn.Close(); srv.Stop(); <-done })
	return f
}

// call calls a method, as a caller spells it, and reports whether any ran.
func (f *grpcFace) call(ctx context.Context, method, host string, md metadata.MD) (code codes.Code, message string, ran bool) {
	f.mu.Lock()
	before := f.ran
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, md), 30*time.Second)
	defer cancel()
	err := f.conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty), grpc.CallAuthority(host))
	f.mu.Lock()
	defer f.mu.Unlock()
	return grpcstatus.Code(err), grpcstatus.Convert(err).Message(), f.ran > before
}
