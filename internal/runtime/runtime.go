package runtime

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/internal/dns"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
	"github.com/heddlemesh/mesh/transport"
)

// Options is what a Runtime is made of.
type Options struct {
	Config      config.Options
	Sources     []config.Source    // beside the inline documents
	Inline      [][]byte           // the first inline documents
	Dial        transport.DialFunc // nil for a net.Dialer
	Resolver    discovery.Resolver // nil for the system's
	Passthrough http.RoundTripper  // nil for an http.Transport with the standard settings
	NetHTTP     bool               // HTTP/1.1 goes to endpoints over net/http
	Outbound    transport.OutboundTrafficPolicy
	// IstioRetries is transport.Config.IstioRetries.
	IstioRetries bool
	Rand         func() uint64 // nil for math/rand/v2's
	Logger       *slog.Logger
	Trace        func(ctx context.Context) (parent, state string) // transport.Config.Trace
	Decided      func(transport.PolicyEvent)                      // transport.Config.Decided
	Identity     identity.Source                                  // nil for none
	LoopbackKeys bool                                             // keys of tokens may be fetched from this machine
	// Authorizers and DialAuthorizer are transport.Config's.
	Authorizers    map[string]external.Authorizer
	DialAuthorizer transport.DialAuthorizer
	Metrics        telemetry.Options
	// Tracing says who makes spans; without a Provider and OpenCollector nobody does.
	Tracing       telemetry.TracerOptions
	OpenCollector OpenCollector
	AccessLog     accesslog.Logger     // beside what the configuration has logged; nil for nobody
	LogStreams    map[string]io.Writer // by the names of the files in whose place they are
}

// A Runtime is one running mesh. It is safe for concurrent use.
type Runtime struct {
	Engine       *transport.Engine
	RoundTripper *transport.RoundTripper

	dns    *discovery.DNS
	joined *config.Joined
	inline *config.Inline
	log    *slog.Logger
	stop   context.CancelFunc
	done   chan struct{}
	proof  *proof          // nil where the mesh has no identity
	keys   *jwt.Fetcher    // of tokens
	traces *traces         // nil where nobody makes spans
	logs   *accesslog.Logs // of requests
	own    *http.Transport // the pass-through transport, where we made it
	// unproved is the policy by which nobody can be let in, as it was last told of; refusal's own.
	unproved string

	closing sync.Once
}

// New starts a mesh and waits until its first configuration is live. Where that is refused it ends the
// mesh and gives the *config.ConfigError. ctx bounds the waiting only.
func New(ctx context.Context, o Options) (*Runtime, error) {
	registry := new(discovery.Registry)
	r := &Runtime{log: o.Logger, inline: config.NewInline(o.Inline...), done: make(chan struct{})}
	through := o.Passthrough
	if through == nil {
		r.own = standardTransport(o.Dial)
		through = r.own
	}
	if o.Identity != nil {
		var err error
		if r.proof, err = newProof(ctx, o.Identity, o.Logger); err != nil {
			return nil, err
		}
	}
	var clientTLS *tls.Config
	if t, ok := through.(*http.Transport); ok {
		clientTLS = t.TLSClientConfig
	}
	r.keys = newKeys(o, clientTLS, func() { r.Engine.KeysChanged() })
	r.logs = accesslog.New(o.AccessLog, o.LogStreams)
	leaves := transport.NewLeaves
	if o.NetHTTP {
		leaves = transport.NewNetHTTPLeaves
	}
	workload := telemetry.WorkloadOf(o.Config.Workload.Name, cmp.Or(o.Config.Workload.Namespace, "default"), o.Config.Workload.Labels)
	r.traces = newTraces(o, workload)
	r.Engine = transport.NewEngine(transport.Config{
		Registry: registry, Pools: leaves(o.Dial, clientTLS), Outbound: o.Outbound, Rand: o.Rand, Trace: o.Trace,
		IstioRetries: o.IstioRetries, Identity: r.proof.of(),
		Decided: o.Decided, Authorizers: o.Authorizers, DialAuthorizer: o.DialAuthorizer,
		Metrics: telemetry.NewStore(o.Metrics), AccessLog: r.logs,
		Tracer:   r.traces.of(),
		Workload: workload,
	})
	o.Config.Authorizers, o.Config.GRPCAuthorizers = slices.Sorted(maps.Keys(o.Authorizers)), o.DialAuthorizer != nil
	o.Config.Collectors = o.OpenCollector != nil
	r.RoundTripper = transport.NewRoundTripper(r.Engine, through)
	if o.Resolver == nil {
		o.Resolver = dns.NewLookup(nil)
	}
	r.dns = discovery.NewDNS(registry, o.Resolver, discovery.DNSOptions{Network: lookupNetwork()})
	told := reporter{log: o.Logger}
	o.Config.Report = func(s config.Status) {
		r.refusal()
		told.report(s)
	}
	r.joined = config.Join(o.Config, r.dns, append([]config.Source{r.inline}, o.Sources...)...)

	running, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.done)
		if err := r.joined.Run(running, r.publish); err != nil {
			r.log.Error("mesh configuration source ended", "error", err)
		}
	}()
	select {
	case <-r.joined.Ready():
	case <-ctx.Done():
		r.Close()
		return nil, fmt.Errorf("wait for configuration: %w", ctx.Err())
	}
	if s := r.joined.Status(); s.Refused != nil && s.Version == "" {
		r.Close()
		return nil, s.Refused
	}
	return r, nil
}

// publish makes a snapshot live, with the keys of its tokens.
func (r *Runtime) publish(ctx context.Context, s *snapshot.Snapshot) error {
	with := *s
	with.Authentication = r.keys.Follow(ctx, s.Authentication)
	err := r.Engine.Publish(ctx, &with)
	r.keys.Keep(r.Engine.Snapshot().Authentication)
	r.traces.follow(r.Engine, s.Tracing)
	return err
}

// refusal says in the log by which policy nobody can be let in. It is called where no lock is held: a program's slog.Handler may call the mesh.
func (r *Runtime) refusal() {
	in := &r.Engine.Snapshot().Inbound
	origin, strict := in.Strict()
	if strict && r.proof == nil && origin != r.unproved {
		what := "every caller"
		if in.MTLS != snapshot.Strict {
			what = "every caller of some ports"
		}
		r.log.Warn("mesh refuses "+what+": a PeerAuthentication requires mutual TLS, and the program has no identity (WithIdentity)",
			"policy", origin)
	}
	r.unproved = origin
}

// Keys says how the sources of the keys of tokens fare.
func (r *Runtime) Keys() []jwt.SourceStatus { return r.keys.Status() }

// Apply puts the documents in place of the inline ones. It returns when they are live, or with the
// *config.ConfigError that refused them.
func (r *Runtime) Apply(ctx context.Context, docs ...[]byte) error {
	return r.inline.Replace(ctx, docs...)
}

// AccessLogs says how the files of the access log fare.
func (r *Runtime) AccessLogs() []accesslog.FileCounts { return r.logs.Counts() }

// Status says which configuration serves.
func (r *Runtime) Status() config.Status { return r.joined.Status() }

// Secrets says which certificates the identity holds, nil where there is none.
func (r *Runtime) Secrets() *identity.Secrets {
	if i := r.proof.of(); i != nil {
		return i.Secrets()
	}
	return nil
}

// Close ends the mesh: sources stop, further calls fail, connections not in use are closed. It waits for
// the mesh's own goroutines, not for calls.
func (r *Runtime) Close() {
	r.closing.Do(func() {
		r.stop()
		r.traces.close()
		r.Engine.Close()
		<-r.done
		r.dns.Close()
		r.keys.Close()
		r.proof.close()
		r.RoundTripper.CloseIdleConnections()
		r.logs.Close()
	})
}

// standardTransport has the settings of net/http's DefaultTransport, which a program may have replaced by
// the mesh's own RoundTripper.
func standardTransport(dial transport.DialFunc) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}
