package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/internal/runtime"
	"github.com/heddlemesh/mesh/transport"
)

// A Mesh is one running mesh. Any number can live in one process; they share nothing. It is safe for
// concurrent use.
type Mesh struct {
	runtime *runtime.Runtime
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
	return &Mesh{runtime: r}, nil
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
	return Status{Version: s.Version, Documents: s.Documents, Findings: s.Findings, Refused: s.Refused,
		Clusters: m.runtime.Engine.Clusters()}
}

// Engine gives the engine, for other drivers than net/http.
func (m *Mesh) Engine() *transport.Engine { return m.runtime.Engine }

// Close ends the mesh. Calls under way finish; further calls fail with [ReasonClosed]. It waits for the
// mesh's own goroutines, not for calls. A second Close does nothing.
func (m *Mesh) Close() error {
	m.runtime.Close()
	return nil
}

// Status is the state of a mesh at one moment.
type Status struct {
	Version   string    `json:"version"`   // of the configuration that serves
	Documents int       `json:"documents"` // in it
	Findings  []Finding `json:"findings"`  // about it: warnings and references to what is not there
	// Refused is why the newest configuration was not taken; nil where it was.
	Refused  *ConfigError            `json:"refused,omitempty"`
	Clusters []transport.ClusterView `json:"clusters"`
}

// A Finding is one thing wrong, doubtful or worth knowing about a document.
type Finding = config.Finding

// A ConfigError says why a configuration was refused; it lists every finding that refused it.
type ConfigError = config.ConfigError

// A Decision is what the mesh would do with a request, and why. Its String is for people.
type Decision = transport.Decision
