package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"connectrpc.com/connect"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

type (
	request  = testpb.SimpleRequest
	response = testpb.SimpleResponse
)

const (
	unary  = "/test.Connect/Unary"
	other  = "/test.Connect/Other" // unary too
	duplex = "/test.Connect/Duplex"
)

// connectServer serves connect-go's three protocols by a mesh of the configuration, and gives its address.
func connectServer(t *testing.T, config string) string {
	t.Helper()
	mux := http.NewServeMux()
	echo := func(_ context.Context, r *connect.Request[request]) (*connect.Response[response], error) {
		if s := r.Msg.GetResponseStatus(); s != nil {
			err := connect.NewError(connect.Code(s.Code), errors.New(s.Message))
			detail, derr := connect.NewErrorDetail(durationpb.New(7 * time.Second))
			if derr != nil {
				return nil, derr
			}
			err.AddDetail(detail)
			err.Meta().Set("X-Tail", "with the error")
			return nil, err
		}
		res := connect.NewResponse(&response{Payload: r.Msg.GetPayload(), Username: r.Header().Get("X-Name")})
		res.Header().Set("X-Head", "h")
		res.Trailer().Set("X-Tail", "t")
		return res, nil
	}
	for _, method := range []string{unary, other} {
		mux.Handle(method, connect.NewUnaryHandler(method, echo, connect.WithIdempotency(connect.IdempotencyNoSideEffects)))
	}
	mux.Handle(duplex, connect.NewBidiStreamHandler(duplex, func(_ context.Context, s *connect.BidiStream[request, response]) error {
		for {
			m, err := s.Receive()
			if errors.Is(err, io.EOF) {
				s.ResponseTrailer().Set("X-Tail", "t")
				return nil
			}
			if err == nil {
				err = s.Send(&response{Payload: m.GetPayload()})
			}
			if err != nil {
				return err
			}
		}
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, m := new(http.Server), newMesh(t, config)
	srv.Handler = mux
	go func() { _ = m.Serve(srv, l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// TestConnect: connect-go's client speaks its three protocols over the library's RoundTripper, and gRPC-Web, which is what browsers
// have, through two sidecars.
func TestConnect(t *testing.T) {
	t.Parallel()
	for _, p := range []struct {
		name, port string
		opts       []connect.ClientOption
	}{
		{"connect", "HTTP", nil},
		{"connect over HTTP/2", "HTTP2", nil},
		{"gRPC", "GRPC", []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-Web", "GRPC-WEB", []connect.ClientOption{connect.WithGRPCWeb()}},
		{"gRPC-Web over HTTP/2", "HTTP2", []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			t.Run("library", func(t *testing.T) {
				c := knowing(t, connectServer(t, ""), p.port).Client()
				unaries(t, c, p.opts)
				if p.port == "GRPC" || p.port == "HTTP2" {
					bidirectional(t, c, p.opts)
				}
			})
			t.Run("sidecars", func(t *testing.T) {
				if p.port == "GRPC" {
					t.Skip("an HTTP client reaches a proxy by HTTP/1.1: TestInterop has gRPC")
				}
				inbound := behind(t, newMesh(t, ""), connectServer(t, ""))
				s := start(t, proxy.Config{Mesh: knowing(t, inbound, p.port), Outbound: "127.0.0.1:0"})
				tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.OutboundAddr().String()})}
				t.Cleanup(tr.CloseIdleConnections)
				unaries(t, &http.Client{Transport: tr}, p.opts)
			})
		})
	}
}

// TestConnectPolicies: what a policy says of a method holds in whichever of the protocols it is called, behind Serve and behind a sidecar.
func TestConnectPolicies(t *testing.T) {
	t.Parallel()
	const config = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny}\nspec: {action: DENY, rules: [{to: [{operation: {paths: [" + other + "]}}]}]}\n"
	over := func(t *testing.T, http2 bool) *http.Client {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!http2)
		tr.Protocols.SetUnencryptedHTTP2(http2)
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	for _, p := range []struct {
		name  string
		http2 bool
		opts  []connect.ClientOption
	}{
		{"connect", false, nil},
		{"connect over HTTP/2", true, nil},
		{"connect by GET", false, []connect.ClientOption{connect.WithHTTPGet(), connect.WithIdempotency(connect.IdempotencyNoSideEffects)}},
		{"gRPC", true, []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-Web", false, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"gRPC-Web over HTTP/2", true, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		for face, serve := range map[string]func(*testing.T) string{
			"Serve":   func(t *testing.T) string { return connectServer(t, config) },
			"sidecar": func(t *testing.T) string { return behind(t, newMesh(t, config), connectServer(t, "")) },
		} {
			t.Run(p.name+", "+face, func(t *testing.T) {
				t.Parallel()
				addr, c := serve(t), over(t, p.http2)
				for method, allowed := range map[string]bool{unary: true, other: false, "//test.Connect/Other": false, "/test.Connect/%4Fther": false} {
					_, err := connect.NewClient[request, response](c, "http://"+addr+method, p.opts...).CallUnary(t.Context(), connect.NewRequest(&request{}))
					if code := connect.CodeOf(err); allowed && err != nil || !allowed && (err == nil || method == other && code != connect.CodePermissionDenied) {
						t.Errorf("%s: %v", method, err)
					}
				}
			})
		}
	}
}

// knowing gives a mesh that knows the address as interop:80, of the protocol.
func knowing(t *testing.T, addr, protocol string) *mesh.Mesh {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	return newMesh(t, fmt.Sprintf(entry, protocol, port, host, ""))
}

// unaries makes calls that succeed, and one that fails with details.
func unaries(t *testing.T, c *http.Client, opts []connect.ClientOption) {
	t.Helper()
	client := connect.NewClient[request, response](c, "http://interop"+unary, opts...)
	for _, size := range []int{0, 100, 300 << 10} {
		r := connect.NewRequest(&request{Payload: &testpb.Payload{Body: make([]byte, size)}})
		r.Header().Set("X-Name", "jason")
		res, err := client.CallUnary(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Msg.GetPayload().GetBody()) != size || res.Msg.GetUsername() != "jason" || res.Header().Get("X-Head") != "h" || res.Trailer().Get("X-Tail") != "t" {
			t.Errorf("%d bytes: %d came back, %q, header %v, trailer %v", size, len(res.Msg.GetPayload().GetBody()), res.Msg.GetUsername(), res.Header(), res.Trailer())
		}
	}
	_, err := client.CallUnary(t.Context(), connect.NewRequest(&request{ResponseStatus: &testpb.EchoStatus{Code: int32(connect.CodeFailedPrecondition), Message: "not now, ü"}}))
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != connect.CodeFailedPrecondition || told.Message() != "not now, ü" || len(told.Details()) != 1 || told.Meta().Get("X-Tail") == "" {
		t.Errorf("the error is %v", err)
	}
}

// bidirectional has each message answered before the next is sent.
func bidirectional(t *testing.T, c *http.Client, opts []connect.ClientOption) {
	t.Helper()
	s := connect.NewClient[request, response](c, "http://interop"+duplex, opts...).CallBidiStream(t.Context())
	for i := range 5 {
		if err := s.Send(&request{Payload: &testpb.Payload{Body: make([]byte, i)}}); err != nil {
			t.Fatal(err)
		}
		m, err := s.Receive()
		if err != nil || len(m.GetPayload().GetBody()) != i {
			t.Fatalf("message %d: %d bytes, %v", i, len(m.GetPayload().GetBody()), err)
		}
	}
	if err := s.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	if got := s.ResponseTrailer().Get("X-Tail"); got != "t" {
		t.Errorf("trailer %v", s.ResponseTrailer())
	}
}
