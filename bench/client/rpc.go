package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	_ "google.golang.org/grpc/xds" // outlier_detection_experimental
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// rpcs are the comparisons of RPCs, over three servers.
var rpcs = []comparison{
	{"RPC, features on ÷ grpc-go with round_robin", "grpc-mesh", "grpc-bare", 1.05},
	{"RPC, features on ÷ grpc-go with otelgrpc", "grpc-mesh", "grpc-otel", 0},
	{"RPC, features on ÷ grpc-go with outlier_detection", "grpc-mesh", "grpc-outlier", 0},
	{"RPC, features on ÷ grpc-go with least_request", "grpc-mesh", "grpc-least", 0},
	{"message of a stream ÷ grpc-go with round_robin", "grpc-mesh-stream", "grpc-bare-stream", 1.05},
}

// rpcDocuments have the host whose rules every RPC passes: conditions, retries, a time-out, balancing, ejection.
const rpcDocuments = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints:
%s---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - match: [{uri: {prefix: /admin}, headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: ratings}}]
  - match: [{uri: {prefix: /bench.v2.}}, {headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: ratings}}]
  - retries: {attempts: 2, retryOn: "connect-failure,refused-stream,unavailable"}
    route: [{destination: {host: ratings}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    outlierDetection: {consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s}
`

const (
	unaryMethod  = "/bench.Ratings/Unary"
	streamMethod = "/bench.Ratings/Stream"
)

var streamDesc = &grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}

// serveRPCs answers RPCs and messages with as much as they bring, on three ports.
func serveRPCs() (addresses []string, err error) {
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		s := grpc.NewServer()
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Ratings", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := new(wrapperspb.BytesValue)
				return in, decode(in)
			}}},
			Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				m := new(wrapperspb.BytesValue)
				for {
					switch err := s.RecvMsg(m); {
					case errors.Is(err, io.EOF):
						return nil
					case err != nil:
						return err
					}
					if err := s.SendMsg(m); err != nil {
						return err
					}
				}
			}}},
		}, nil)
		go func() { _ = s.Serve(l) }()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// enterRPC makes a contender that makes RPCs to the addresses.
func enterRPC(name string, addresses []string) (*contender, error) {
	c := &contender{ctx: context.Background()}
	var cc *grpc.ClientConn
	var err error
	if strings.HasPrefix(strings.TrimPrefix(name, seen), "grpc-mesh") {
		cc, err = c.meshRPC(name, addresses)
	} else {
		cc, err = bareRPC(name, addresses)
	}
	if err != nil {
		return nil, err
	}
	before := c.stop
	c.stop = func() {
		_ = cc.Close()
		if before != nil {
			before()
		}
	}
	in := wrapperspb.Bytes(payload)
	c.caller = func() func() error {
		out := new(wrapperspb.BytesValue)
		if !strings.HasSuffix(name, "stream") {
			return func() error { return cc.Invoke(c.ctx, unaryMethod, in, out) }
		}
		s, err := cc.NewStream(c.ctx, streamDesc, streamMethod)
		return func() error {
			if err == nil {
				err = s.SendMsg(in)
			}
			if err == nil {
				err = s.RecvMsg(out)
			}
			return err
		}
	}
	return c, nil
}

func (c *contender) meshRPC(name string, addresses []string) (*grpc.ClientConn, error) {
	var endpoints strings.Builder
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&endpoints, "  - {address: %s, ports: {grpc: %s}}\n", host, port)
	}
	opts := []mesh.Option{mesh.WithConfig(fmt.Appendf(nil, rpcDocuments, endpoints.String())), mesh.WithLogger(slog.New(slog.DiscardHandler))}
	m, err := mesh.New(context.Background(), append(opts, observed(name)...)...)
	if err != nil {
		return nil, err
	}
	c.stop = func() { _ = m.Close() }
	return grpc.NewClient(grpcmesh.Target("ratings"), grpcmesh.DialOptions(m)...)
}

// balancers are grpc-go's own, with their configuration.
var balancers = map[string]string{
	"grpc-least": `{"least_request_experimental": {"choiceCount": 2}}`,
	"grpc-outlier": `{"outlier_detection_experimental": {"interval": "10s", "baseEjectionTime": "30s",
		"failurePercentageEjection": {"threshold": 85, "minimumHosts": 3, "requestVolume": 50}, "childPolicy": [{"round_robin": {}}]}}`,
}

func bareRPC(name string, addresses []string) (*grpc.ClientConn, error) {
	r := manual.NewBuilderWithScheme("bench")
	state := resolver.State{}
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(state)
	balancer := balancers[name]
	if balancer == "" {
		balancer = `{"round_robin": {}}`
	}
	opts := []grpc.DialOption{grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [` + balancer + `]}`)}
	switch name {
	case "grpc-otel":
		opts = append(opts, grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(neverSampled()))))
	case seen + "grpc-otel":
		opts = append(opts, grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(neverSampled()),
			otelgrpc.WithMeterProvider(measured()), otelgrpc.WithPropagators(propagation.TraceContext{}))))
	}
	return grpc.NewClient("bench:///ratings", opts...)
}
