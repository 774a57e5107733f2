package grpcmesh

import (
	"encoding/json"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/health" // what asks, for WithHealthCheck
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/transport"
)

// An Option changes how channels and servers join the mesh.
type Option interface {
	apply(*options)
}

type options struct {
	creds  credentials.TransportCredentials
	health *string
	sizes  bool
}

func optionsOf(opts []Option) (o options) {
	for _, opt := range opts {
		if opt != nil {
			opt.apply(&o)
		}
	}
	return o
}

type option func(*options)

func (f option) apply(o *options) { f(o) }

// WithCredentials gives the program's own transport credentials. They secure connections to targets outside
// the mesh and to endpoints that have no TLS setting of the mesh's (DestinationRule trafficPolicy.tls). Default:
// none; then those endpoints are plaintext and calls to targets outside the mesh fail with Unavailable. It means
// nothing to a server.
func WithCredentials(c credentials.TransportCredentials) Option {
	return option(func(o *options) { o.creds = c })
}

// WithHealthCheck has channels ask each endpoint over its connection whether it serves the service, "" for all of it, by
// grpc.health.v1.Health/Watch (gRPC health checking protocol). One that says no, or nothing, gets no RPCs while there are others; RPCs
// under way go on. One that does not know the protocol serves. Default: nobody is asked. It means nothing to a server.
func WithHealthCheck(service string) Option {
	return option(func(o *options) { o.health = &service })
}

// DialOptions makes a channel a client of the mesh. Give them to grpc.NewClient after your own options, with
// a target made by [Target]; they may serve any number of channels. They set the resolver, the balancer,
// transport credentials, dialer, connect back-off (0.1 s to 5 s) and no proxy, and add interceptors that run
// after those given before them. A service config has no say.
func DialOptions(m interface{ Engine() *transport.Engine }, opts ...Option) []grpc.DialOption {
	o := optionsOf(opts)
	d := newDriver(m.Engine(), o)
	list := []grpc.DialOption{
		grpc.WithResolvers(d),
		grpc.WithDefaultServiceConfig(d.serviceConfig()),
		grpc.WithTransportCredentials(meshCredentials{engine: d.engine, own: d.creds}),
		grpc.WithContextDialer(d.dial),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(connectParams),
		grpc.WithChainUnaryInterceptor(d.unary),
		grpc.WithChainStreamInterceptor(d.stream),
	}
	if o.sizes && d.engine.Metrics() != nil {
		list = append(list, grpc.WithStatsHandler(sizes{}))
	}
	return list
}

// connectParams: an endpoint that is back is found soon. What an RPC waits for it asks for at once, whatever
// the back-off.
var connectParams = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 20 * time.Second, // grpc-go's own; the dialer keeps the cluster's connect time-out
}

// maxHeaderListSize is that of Serve, where grpc-go's own is 16 MiB.
const maxHeaderListSize = 64 << 10

// ServerOptions makes a server one of the mesh. RPCs that the AuthorizationPolicies of the workload do not allow end with
// PERMISSION_DENIED before the method runs, or as an authorizer says whom those of action CUSTOM ask; one under way ends so at once when policies change and no longer allow it, its
// context with it. The method of a stream runs in a goroutine of its own, which may outlast the RPC then.
//
// The trace headers and request id of an RPC travel, by its context, to the calls made for it over the same or another mesh;
// an RPC without x-request-id is given one, as Envoy does, which is in its incoming metadata too. One that is too many for a
// rate limit ends with Unavailable, or ResourceExhausted where the limit says so; a stream counts once. The interceptors run
// before those given after them.
//
// A mesh with an identity makes the server's handshakes: mutual TLS, plain text or neither, as the PeerAuthentication of
// the port says, in the place of credentials of the program's own; transport.PeerFromContext says who calls, and so does
// x-forwarded-client-cert in the metadata, where a caller's own is taken off. An RPC that came without mutual TLS to a port
// that requires it gets PERMISSION_DENIED, also where the mesh has no identity.
//
// Metadata is bounded as in a Handler: to 64 KiB, with 32 bytes for each field (grpc.MaxHeaderListSize, which may be given again after
// these), beyond which grpc-go ends the stream, and to transport.MaxHeaderFields fields, beyond which the RPC ends with
// RESOURCE_EXHAUSTED.
func ServerOptions(m interface{ Engine() *transport.Engine }, opts ...Option) []grpc.ServerOption {
	v := server{m.Engine(), transport.NewInbound(m.Engine()), saying(m.Engine()), m.Engine().Metrics() != nil && optionsOf(opts).sizes}
	list := []grpc.ServerOption{
		grpc.MaxHeaderListSize(maxHeaderListSize),
		grpc.ChainUnaryInterceptor(v.unary),
		grpc.ChainStreamInterceptor(v.stream),
	}
	if v.sizes {
		list = append(list, grpc.StatsHandler(sizes{}))
	}
	if v.inbound.Identified() {
		list = append(list, grpc.Creds(serverCredentials{v.engine, v.inbound}))
	}
	return list
}

// A driver is what the channels of one DialOptions share. It is immutable.
type driver struct {
	engine *transport.Engine
	creds  credentials.TransportCredentials // nil for none
	health *string                          // the service that endpoints are asked about, nil for none
	saying metadata.MD                      // of the program's workload, to endpoints; nil for nothing. It must not be changed
}

// serviceConfig keeps the balancer on, and says what endpoints are asked about.
func (d *driver) serviceConfig() string {
	if d.health == nil {
		return serviceConfig
	}
	name, _ := json.Marshal(*d.health) // of a string it does not fail
	return serviceConfig[:len(serviceConfig)-1] + `,"healthCheckConfig":{"serviceName":` + string(name) + `}}`
}

func newDriver(e *transport.Engine, o options) *driver {
	return &driver{engine: e, creds: o.creds, health: o.health, saying: saying(e)}
}
