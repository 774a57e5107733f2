package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/internal/runtime"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
	"github.com/heddlemesh/mesh/transport"
)

// A Mesh is one running mesh. Any number can live in one process; they share nothing. It is safe for
// concurrent use.
type Mesh struct {
	runtime *runtime.Runtime
	inbound *transport.Inbound
}

// New starts a mesh and returns when its configuration is live. Without options it knows no host and every
// call passes through. A configuration that is refused, or a path that does not exist, is a [*ConfigError]
// that lists every finding with file, line and column. ctx bounds New only; the mesh lives until Close.
func New(ctx context.Context, opts ...Option) (*Mesh, error) {
	o := newOptions(opts)
	r, err := runtime.New(ctx, o)
	if err != nil {
		return nil, err
	}
	m := &Mesh{runtime: r, inbound: transport.NewInbound(r.Engine)}
	m.Metrics().Collect(m.families)
	return m, nil
}

// Client gives a new http.Client whose calls go through the mesh. It has no time-out of its own; redirects
// are followed as by any http.Client, each hop through the mesh.
func (m *Mesh) Client() *http.Client { return &http.Client{Transport: m.RoundTripper()} }

// RoundTripper gives the mesh as an http.RoundTripper, for clients of your own and for wrapping:
//
//	client := &http.Client{Transport: otelhttp.NewTransport(m.RoundTripper())}
//
// Which host a request means: Request.Host where it is set, else the URL's; the port is the URL's, else 80.
// Short names work as in Kubernetes: "reviews" is the reviews service of the workload's own namespace. An
// https URL is the program's own TLS: its endpoint is chosen by the mesh, rules of HTTP do not apply.
func (m *Mesh) RoundTripper() http.RoundTripper { return m.runtime.RoundTripper }

// Serve serves srv on l like srv.Serve, as a server of the mesh: behind [Mesh.Handler] and [Mesh.Listener]. It
// returns what srv.Serve returns, and http.ErrServerClosed after Shutdown or Close. It configures srv in place,
// once: Handler is wrapped, and what is not set becomes
//
//	Protocols                   HTTP/1.1, HTTP/2, HTTP/2 without TLS by prior knowledge
//	MaxHeaderBytes              64 KiB
//	ReadHeaderTimeout           10 s, unless ReadTimeout is set
//	IdleTimeout                 1 h, unless ReadTimeout is set
//	HTTP2.MaxConcurrentStreams  100
//
// So srv must not be serving by other means at that time. One server may be given several listeners.
//
// With [WithIdentity] it takes mutual TLS of the mesh, HTTP/1.1 and HTTP/2, as the PeerAuthentications of its port have
// it, and [PeerFromContext] says who calls. Under STRICT nothing else gets in.
func (m *Mesh) Serve(srv *http.Server, l net.Listener, opts ...InboundOption) error {
	return m.inbound.Serve(srv, l, opts...)
}

// Handler is what [Mesh.Serve] puts before a server's handler, for servers of your own; it goes outermost.
// Calls that next makes through the mesh with the request's context carry x-request-id and the trace headers
// of the request (docs/serving.md has the list) by themselves. A request without x-request-id is given one, a
// request of more than 100 header fields is answered with 431. One that came without mutual TLS to a port whose
// PeerAuthentication is STRICT is answered with 403: where [Mesh.Listener] is not used, that is every one. next gets the
// server's own ResponseWriter.
func (m *Mesh) Handler(next http.Handler, opts ...InboundOption) http.Handler {
	return m.inbound.Handler(next, opts...)
}

// Listener is what [Mesh.Serve] puts before a server's listener, for servers of your own: Accept returns
// connections whose first byte has come, so that silent ones, which are closed after 10 s, keep nobody
// waiting. Connections that begin with TLS are shaken hands on where the mesh has an identity, and come as *tls.Conn;
// what the PeerAuthentication of the port does not take is closed. A *tls.Conn of l itself passes as it is, but not
// under STRICT. For Handler to know the peers, http.Server.ConnContext has to be [Mesh.ConnContext].
func (m *Mesh) Listener(l net.Listener, opts ...InboundOption) net.Listener {
	return m.inbound.Listener(l, opts...)
}

// Inbound gives the receiving side of the mesh, for package proxy.
func (m *Mesh) Inbound() *transport.Inbound { return m.inbound }

// ConnContext is for http.Server.ConnContext of servers of your own, behind [Mesh.Listener] and [Mesh.Handler]: by it
// the handler knows whom the listener has verified. [Mesh.Serve] sets it.
func (m *Mesh) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return m.inbound.ConnContext(ctx, conn)
}

// A Peer is who was proved to be at the other end of a connection.
type Peer = identity.Peer

// PeerFromContext says who made the request that the context is of; ok is false where nobody was proved to be: it came
// in plain text, or the server does not stand behind the mesh.
func PeerFromContext(ctx context.Context) (p Peer, ok bool) { return transport.PeerFromContext(ctx) }

// Claims are what a verified token says, by the names of its claims; numbers are json.Number. They must not be changed.
type Claims = map[string]any

// ClaimsFromContext gives the claims of the token that a RequestAuthentication has verified; ok is false for a request
// without one. It is for contexts of requests to [Mesh.Serve], [Mesh.Handler] and gRPC servers of the mesh.
func ClaimsFromContext(ctx context.Context) (claims Claims, ok bool) {
	if t := transport.TokenFrom(ctx); t != nil {
		return t.Claims(), true
	}
	return nil, false
}

// Apply puts the documents, YAML or JSON, in place of those given by [WithConfig] or an earlier Apply; what
// came from paths stays. It returns when the new configuration is live for every call that begins from then
// on, or with the [*ConfigError] that refused it; then the old one goes on serving.
func (m *Mesh) Apply(ctx context.Context, docs ...[]byte) error {
	if err := m.runtime.Apply(ctx, docs...); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// Explain says what the mesh would do with the request, and why, without sending it. It fails for requests
// that the mesh leaves to net/http: schemes other than http and https, hosts that have no canonical name.
func (m *Mesh) Explain(r *http.Request) (Decision, error) {
	if r == nil || r.URL == nil {
		return Decision{}, errors.New("explain: no request URL")
	}
	q, ok := transport.View(r)
	if !ok {
		return Decision{}, fmt.Errorf("explain: %s %q is not a host of a mesh", r.URL.Scheme, r.URL.Host)
	}
	return m.runtime.Engine.Explain(q), nil
}

// Status says which configuration serves, what was last refused and how the endpoints fare.
func (m *Mesh) Status() Status {
	s := m.runtime.Status()
	return Status{Identity: m.runtime.Secrets(),
		Version: s.Version, Preset: s.Preset, Documents: s.Documents, Findings: s.Findings, Refused: s.Refused,
		Clusters: m.runtime.Engine.Clusters(), Inbound: m.inbound.Counts(),
		Policies: m.runtime.Engine.Decided(), TokenKeys: m.runtime.Keys(), AccessLogs: m.runtime.AccessLogs(),
		Failures: m.runtime.Engine.Failures()}
}

// WaitReady waits until calls can be made: the configuration is live, which it is when New has returned, and
// each of the hosts has an endpoint. A host is written as in a URL, "reviews" or "reviews:9080"; without a
// port, any of its ports will do. It fails when ctx ends, naming the hosts that are missing, and with
// [ReasonClosed] once the mesh is closed.
func (m *Mesh) WaitReady(ctx context.Context, hosts ...string) error {
	if err := m.runtime.Engine.WaitReady(ctx, hosts...); err != nil {
		return fmt.Errorf("wait until ready: %w", err)
	}
	return nil
}

// Engine gives the engine, for other drivers than net/http.
func (m *Mesh) Engine() *transport.Engine { return m.runtime.Engine }

// Shutdown ends the mesh in good order: the servers given to [Mesh.Serve] take no more connections, the
// requests under way finish, with the mesh to make their calls through, and then it closes. Where ctx ends
// before, it closes at once and gives the error of each server, joined; the requests left go on without the
// mesh. Hijacked connections are not waited for. It may be called again.
func (m *Mesh) Shutdown(ctx context.Context) error {
	err := m.inbound.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("shut down: %w", err)
	}
	return errors.Join(err, m.Close())
}

// Close ends the mesh. Calls under way finish; further calls fail with [ReasonClosed]. It waits for the
// mesh's own goroutines, not for calls, and leaves servers alone. A second Close does nothing.
func (m *Mesh) Close() error {
	m.runtime.Close()
	return nil
}

// Status is the state of a mesh at one moment.
type Status struct {
	Version   string    `json:"version"`   // of the configuration that serves
	Preset    Preset    `json:"preset"`    // by WithPreset
	Documents int       `json:"documents"` // in it
	Findings  []Finding `json:"findings"`  // about it: warnings and references to what is not there
	// Refused is why the newest configuration was not taken; nil where it was.
	Refused  *ConfigError            `json:"refused,omitempty"`
	Clusters []transport.ClusterView `json:"clusters"`
	// Inbound counts the connections that listeners of the mesh closed before a server saw them.
	Inbound transport.InboundCounts `json:"inbound"`
	// Identity has the certificates that are held; nil for a program without an identity.
	Identity *identity.Secrets `json:"identity,omitempty"`
	// Policies counts what AuthorizationPolicies decided about requests that came in.
	Policies transport.InboundDecided `json:"policies"`
	// TokenKeys says how the sources fare that keys of tokens are fetched from.
	TokenKeys []TokenKeys `json:"tokenKeys,omitempty"`
	// AccessLogs counts the lines of each file, and those that had no room in its buffer.
	AccessLogs []AccessLogCounts `json:"accessLogs,omitempty"`
	// Failures are the last requests that failed, 256 at most, the oldest first. They have no path, no query and no header.
	Failures []Failure `json:"failures,omitempty"`
}

// TokenKeys says how one source of keys of tokens fares: a jwksUri, or an issuer that is asked.
type TokenKeys = jwt.SourceStatus

// AccessLogCounts says how one file of the access log fares.
type AccessLogCounts = accesslog.FileCounts

// A Failure is a call or a request that failed, with its whole story.
type Failure = transport.FailureView

// A Finding is one thing wrong, doubtful or worth knowing about a document.
type Finding = config.Finding

// A ConfigError says why a configuration was refused; it lists every finding that refused it.
type ConfigError = config.ConfigError

// A Decision is what the mesh would do with a request, and why. Its String is for people.
type Decision = transport.Decision
