package mesh

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/internal/runtime"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// An Option changes how a mesh is made. Options are applied in order; where two set the same thing the last
// one counts, and those that name documents or kinds add up.
type Option interface {
	apply(*runtime.Options)
}

type option func(*runtime.Options)

func (f option) apply(o *runtime.Options) { f(o) }

func newOptions(opts []Option) runtime.Options {
	o := runtime.Options{Trace: telemetry.ActiveSpan}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(&o)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// WithConfigPath reads configuration from files and directories and watches them: a change is live as soon as
// the files have been at rest for 100 ms. Of a directory it takes .yaml, .yml and .json, subdirectories too. All
// of it is taken or none: where a change is refused, the last good configuration goes on, and the log and
// Status say why with file and line. Default: no files.
func WithConfigPath(paths ...string) Option {
	return option(func(o *runtime.Options) { o.Sources = append(o.Sources, config.WatchPaths(paths...)) })
}

// WithConfigFS reads configuration, once, from the files of a file system that match the patterns of path.Match,
// all its .yaml, .yml and .json files without patterns. Default: none.
func WithConfigFS(fsys fs.FS, patterns ...string) Option {
	return option(func(o *runtime.Options) {
		if fsys != nil {
			o.Sources = append(o.Sources, config.FromFS(fsys, patterns...))
		}
	})
}

// WithConfig takes configuration from texts, YAML or JSON of any number of documents each. Mesh.Apply
// replaces them. Default: none.
func WithConfig(docs ...[]byte) Option {
	return option(func(o *runtime.Options) { o.Inline = append(o.Inline, docs...) })
}

// WithSource takes configuration from a source of your own, beside the others. What two sources name alike is refused. Default: none.
func WithSource(s config.Source) Option {
	return option(func(o *runtime.Options) { o.Sources = append(o.Sources, s) })
}

// A Workload says who the program is: its namespace decides what short names mean and which rules it sees,
// its labels which rules are meant for it.
type Workload = snapshot.Workload

// WithWorkload says who the program is. Default: namespace and service account "default", no labels. The
// library reads no environment.
func WithWorkload(w Workload) Option {
	return option(func(o *runtime.Options) { o.Config.Workload = w })
}

// WithDialer opens all connections with dial, to endpoints and, unless WithPassthrough says otherwise, to
// other hosts. Default: a net.Dialer.
func WithDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return option(func(o *runtime.Options) { o.Dial = dial })
}

// A Resolver looks up the names of endpoints; *net.Resolver is one.
type Resolver = discovery.Resolver

// WithResolver looks up the names of services with resolution DNS through r: every address is an endpoint,
// and a name is asked for again every 5 s, or when the TTL is over where r can tell it (discovery.TimedResolver). It is not asked
// for hosts that the mesh does not know. Default: a net.Resolver with its standard settings, whose answers' TTLs count wherever
// Go's own resolver makes them and not the system's.
func WithResolver(r Resolver) Option {
	return option(func(o *runtime.Options) { o.Resolver = r })
}

// WithPassthrough sends calls to hosts that the mesh does not know, where WithOutboundTrafficPolicy lets them out,
// through rt. Where rt is an
// *http.Transport, its TLSClientConfig serves https URLs of known hosts too. Default: an http.Transport of
// the mesh's own with the standard settings, so that http.DefaultTransport = m.RoundTripper() works.
func WithPassthrough(rt http.RoundTripper) Option {
	return option(func(o *runtime.Options) { o.Passthrough = rt })
}

// WithNetHTTPTransport sends calls to endpoints over net/http's Transport, in place of our own, which needs about
// half the time and sends nothing twice that the engine did not decide to. What Transport does not do is then not done: it
// repeats some requests by itself, and the limits tcp.maxConnections, http1MaxPendingRequests and a
// maxRequestsPerConnection above 1 have no effect. https URLs and calls to hosts that the mesh does not know are net/http's in any
// case. Default: our own transport.
func WithNetHTTPTransport() Option {
	return option(func(o *runtime.Options) { o.NetHTTP = true })
}

// WithTracerProvider has tp make OpenTelemetry spans of every call, each of its attempts, and every request that is received:
// docs/observability.md has their names and attributes. Whether a request is traced is said by who began its trace: its
// own header, else the context's active span, else the request that is being served; of those that begin here the mesh samples
// [WithTraceSampling], or what Telemetry documents say, and tp's own sampler what it gets. tp must not be nil; it is the
// program's to shut down, after the mesh. Default: the mesh makes no spans, and never uses OpenTelemetry's global provider, so that
// there are none twice beside otelhttp; trace context travels all the same.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return option(func(o *runtime.Options) { o.Tracing.Provider = tp })
}

// WithPropagator reads and writes trace context by p. Default: W3C's traceparent and tracestate and B3's header, single and
// several, are read; new traces are told by W3C's, others in each form that the request has.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return option(func(o *runtime.Options) { o.Tracing.Propagator = p })
}

// WithTraceSampling samples a share of the traces that begin here, in percent from 0 to 100 to a hundredth, where no document
// says another one. Default: 1, as in Istio.
func WithTraceSampling(percent float64) Option {
	return option(func(o *runtime.Options) { o.Tracing.Sampling = &percent })
}

// OpenCollector makes what takes spans to the collector of a document: package telemetry/export has one.
type OpenCollector = runtime.OpenCollector

// WithTraceCollectors has the spans go where documents say (MeshConfig's extensionProviders opentelemetry and zipkin, chosen by
// Telemetry or defaultProviders), by open; each is shut down when another takes its place, and with the mesh, within 5 s.
// environment looks up what documents take of the environment for tags; nil for nothing. Default: such providers are
// warned about, and WithTracerProvider's is asked.
func WithTraceCollectors(open OpenCollector, environment func(name string) (string, bool)) Option {
	return option(func(o *runtime.Options) { o.Tracing.Environment, o.OpenCollector = environment, open })
}

// A MetricsSink hears of every request that is recorded in Mesh.Metrics, at its end.
type MetricsSink = telemetry.MetricsSink

// WithMetricsSink tells s of every call that is made and every request that is received, when it has ended. s is called
// concurrently and must not wait. Default: nobody is told.
func WithMetricsSink(s MetricsSink) Option {
	return option(func(o *runtime.Options) { o.Metrics.Sink = s })
}

// WithMaxMetricSeries bounds the series of Istio's metrics of requests: each is a caller, a callee and an outcome, of about 1 KiB
// of memory. What goes beyond is counted under labels that say "other". Default: 10 000, which 0 or less mean too.
func WithMaxMetricSeries(n int) Option {
	return option(func(o *runtime.Options) { o.Metrics.MaxSeries = n })
}

// An OutboundTrafficPolicy says what becomes of calls to hosts that the mesh does not know, and to ports that a
// known host does not declare.
type OutboundTrafficPolicy = transport.OutboundTrafficPolicy

// The modes of MeshConfig.outboundTrafficPolicy.
const (
	AllowAny     = transport.AllowAny     // ALLOW_ANY: they pass through to the host itself
	RegistryOnly = transport.RegistryOnly // REGISTRY_ONLY: they are rejected
)

// WithOutboundTrafficPolicy is Istio's MeshConfig.outboundTrafficPolicy.mode. Under RegistryOnly a call to what
// the mesh does not know is rejected, whatever its scheme, as Istio's BlackHoleCluster does it: an [*Error] with
// [ReasonUnknownHost], an answer 502 of the sidecar, UNAVAILABLE of an RPC. A host that a document names is known,
// and so allowed, also where it has no endpoints of its own (ServiceEntry with resolution NONE). It is no fence
// around a program, which may dial by itself. Default: AllowAny.
func WithOutboundTrafficPolicy(p OutboundTrafficPolicy) Option {
	return option(func(o *runtime.Options) { o.Outbound = p })
}

// A Preset is a set of values for what no document says.
type Preset = config.Preset

// The presets.
const (
	NoPreset   = config.NoPreset   // Istio's own defaults
	Production = config.Production // deadlines, time-outs of tries, retry budgets, ejection: docs/resilience.md has the values
)

// WithPreset gives every call a deadline, a time-out of its tries, a retry budget and ejection, where no document says how
// long, how often or by what; documents go before it. Calls to hosts that the mesh does not know stay as they are.
// Default: NoPreset.
func WithPreset(p Preset) Option {
	return option(func(o *runtime.Options) { o.Config.Preset = p })
}

// WithIstioRetries repeats requests as Istio does, whatever their method: a POST that may have been carried out is sent again
// where its rule's retryOn says so, and may be carried out twice. Default: such a request is repeated only where its
// method is idempotent, the program has set a key by [ContextWithIdempotencyKey], or its rule is annotated
// heddle.dev/retry-non-idempotent; one that was certainly not processed is always repeated.
func WithIstioRetries() Option {
	return option(func(o *runtime.Options) { o.IstioRetries = true })
}

// A PolicyEvent is what policies had to say about a request that came in: that it is denied, and by which rule, or what
// AUDIT and dry-run policies tell of it.
type PolicyEvent = transport.PolicyEvent

// WithPolicyLog hears of the requests that AuthorizationPolicies deny, those of action CUSTOM by whom they ask, of those that AUDIT policies mark, and of what
// dry-run policies would do. told is called concurrently, before the request goes on, and must not wait. Callers of the
// program hear nothing of it: they are told "RBAC: access denied". Default: nobody hears; Status counts.
func WithPolicyLog(told func(PolicyEvent)) Option {
	return option(func(o *runtime.Options) { o.Decided = told })
}

// An Authorizer decides about requests that AuthorizationPolicies of action CUSTOM select; external.AuthorizerFunc makes one
// of a function.
type Authorizer = external.Authorizer

// WithAuthorizer has CUSTOM policies ask a, in the program, where their provider is of the name. Where a document has a
// provider of that name too (MeshConfig extensionProviders), a is asked in its place, and of the document its timeout,
// failOpen, statusOnError and includeRequestBodyInCheck count; otherwise they are 600 s, false, 403 and no body. A nil a
// takes the name back. Default: no authorizer; what a policy of an unknown provider selects is refused.
func WithAuthorizer(name string, a Authorizer) Option {
	return option(func(o *runtime.Options) {
		o.Authorizers = maps.Clone(o.Authorizers)
		switch {
		case a == nil:
			delete(o.Authorizers, name)
		case o.Authorizers == nil:
			o.Authorizers = map[string]Authorizer{name: a}
		default:
			o.Authorizers[name] = a
		}
	})
}

// WithGRPCAuthorizers asks providers that documents name as envoyExtAuthzGrpc by dial, which is extauthz.Dial of package
// identity/extauthz: a program that gives it links gRPC. Default: what such a provider would be asked about is refused.
func WithGRPCAuthorizers(dial transport.DialAuthorizer) Option {
	return option(func(o *runtime.Options) { o.DialAuthorizer = dial })
}

// An IdentitySource knows who the program is: its SVID, and the authorities that are believed. [identity.Files] is one,
// package identity/ca has one for tests.
type IdentitySource = identity.Source

// WithIdentity gives the program an identity, by which its connections in the mesh are secured with mutual TLS: those
// that it takes, as the PeerAuthentications say ([Mesh.Serve], [Mesh.Listener]), and those that it makes, to endpoints that
// take it or where a DestinationRule says ISTIO_MUTUAL. New waits for the first SVID, at most
// 30 s, and fails where none comes. What comes later replaces it; where nothing sound comes, the last one goes on until
// it expires, and then every handshake is refused: nothing falls back to plain text. Default: no identity, and no
// mutual TLS.
func WithIdentity(s IdentitySource) Option {
	return option(func(o *runtime.Options) { o.Identity = s })
}

// WithLoopbackKeys lets the keys of tokens be fetched from this machine (RequestAuthentication jwksUri, and issuers that are
// asked), for tests and for issuers beside the program. Default: loopback addresses are refused as link-local ones and
// metadata services always are, because a configuration could make the program ask what listens for it alone.
func WithLoopbackKeys() Option {
	return option(func(o *runtime.Options) { o.LoopbackKeys = true })
}

// An InboundOption says how one server of the program takes its callers.
type InboundOption = transport.InboundOption

// WithInboundPort says which workload port a server's policies are those of. Default: the port of its listener.
func WithInboundPort(port uint16) InboundOption { return transport.WithInboundPort(port) }

// WithAppTLS serves TLS that is not the mesh's with the program's own configuration, on ports whose policy is PERMISSIVE
// or DISABLE. Default: such connections are closed.
func WithAppTLS(config *tls.Config) InboundOption { return transport.WithAppTLS(config) }

// WithOpaque says of a [Mesh.Listener] that what is spoken on its connections is not HTTP: AuthorizationPolicies decide about
// each connection, by what is known of it, and again when they change; what they do not let in is closed. Default: they decide
// about requests, in [Mesh.Handler].
func WithOpaque() InboundOption { return transport.WithOpaque() }

// WithServerCodec has [Mesh.Serve] read HTTP/1.1 by the mesh's own codec instead of net/http's: what RFC 9112 calls invalid,
// and what two readers can understand in two ways, is refused, and a connection costs one goroutine. HTTP/2 stays
// net/http's. It counts for the first Serve of a server; docs/serving.md says what is different. Default: net/http.
//
// Where the server has no ErrorLog, panics of its handler are told to slog.Default().
func WithServerCodec() InboundOption {
	return transport.WithServerCodec(func(format string, args ...any) { slog.Error(fmt.Sprintf(format, args...)) })
}

// WithLogger receives events of configuration, never of calls. Default: slog.Default().
func WithLogger(l *slog.Logger) Option {
	return option(func(o *runtime.Options) { o.Logger = l })
}

// WithStrictConfig refuses a configuration for every warning, and for references to what is not there.
// Default: those are findings in Status.
func WithStrictConfig() Option {
	return option(func(o *runtime.Options) { o.Config.Strict = true })
}

// WithIgnoredKinds leaves documents of the kinds out, with one line of information each: "Sidecar",
// "AuthorizationPolicy". Default: none; kinds that restrict traffic and cannot be enforced are refused.
func WithIgnoredKinds(kinds ...string) Option {
	return option(func(o *runtime.Options) { o.Config.IgnoredKinds = append(o.Config.IgnoredKinds, kinds...) })
}

// WithSeed makes every random choice — weighted splits, balancing, back-off — follow from the seed and the
// order of calls, for tests. Default: choices differ from run to run.
func WithSeed(seed uint64) Option {
	return option(func(o *runtime.Options) {
		var mu sync.Mutex
		src := rand.NewPCG(seed, seed)
		o.Rand = func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			return src.Uint64()
		}
	})
}
