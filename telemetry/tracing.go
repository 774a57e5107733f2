package telemetry

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/call"
)

// DefaultSampling is the share of new traces that are sampled where nothing says another one, in percent (Istio,
// PILOT_TRACE_SAMPLING).
const DefaultSampling = 1.0

// A Tracing is what documents say of the workload's traces: Telemetry's tracing, and MeshConfig. It is immutable. Its zero value
// is what holds without them.
type Tracing struct {
	// Provider is where spans go, by the documents; nil for wherever the program sends them.
	Provider *TraceProvider
	// Modes are by the side that reports: calls that are made, requests that are received.
	Modes [2]TraceMode
}

// A TraceMode is what becomes of the spans of one side.
type TraceMode struct {
	// Sampling is the share of new traces that are sampled, in percent to a hundredth; nil for TracerOptions.Sampling.
	Sampling *float64
	// Disabled has no spans made: what others say of a trace goes on as it is (disableSpanReporting).
	Disabled bool
	// Apart draws by chance, and not by x-request-id (useRequestIdForTraceSampling: false).
	Apart bool
	// Silent has spans made that no call tells of (disableContextPropagation).
	Silent bool
	// Plain leaves out the tags istio.* (enableIstioTags: false).
	Plain bool
	Tags  []TraceTag
}

// A TagSource says whence the value of a tag is.
type TagSource uint8

// The sources of tags (Telemetry, customTags).
const (
	TagLiteral     TagSource = iota // TraceTag.Value
	TagEnvironment                  // the variable of that name
	TagHeader                       // the request's field Header
)

// A TraceTag is one more attribute of every span.
type TraceTag struct {
	Name    string
	Source  TagSource
	Value   string
	Header  *call.Name
	Default string // where there is no such variable or field; "" for no attribute
}

// A TraceKind is the protocol of a collector of spans.
type TraceKind uint8

// The protocols (MeshConfig, extensionProviders opentelemetry and zipkin).
const (
	OTLPGRPC TraceKind = iota
	OTLPHTTP
	Zipkin
)

// A TraceProvider is a collector of spans that documents name.
type TraceProvider struct {
	Name    string
	Kind    TraceKind
	Host    string // of the mesh, or any other
	Port    uint16
	Path    string            // of OTLPHTTP and Zipkin
	Headers map[string]string // of each export
	// Variables are headers whose values are of the environment: the variable by the name of the header.
	Variables map[string]string
	Timeout   time.Duration // of each export, 0 for the exporter's own
	Formats   Formats       // that new traces are told in; 0 for W3C
	MaxTag    int           // most characters of a path in a tag, 0 for 256
}

// Same reports whether two providers are one and the same. Either can be nil.
func (p *TraceProvider) Same(q *TraceProvider) bool {
	if p == nil || q == nil {
		return p == q
	}
	a, b := *p, *q
	return maps.Equal(a.Headers, b.Headers) && maps.Equal(a.Variables, b.Variables) && a.Name == b.Name && a.Kind == b.Kind && a.Host == b.Host && a.Port == b.Port && a.Path == b.Path && a.Timeout == b.Timeout &&
		a.Formats == b.Formats && a.MaxTag == b.MaxTag
}

// A Trace is what becomes of one request's trace: a span, or the word that there is none. Its zero value knows of no trace. It
// belongs to whoever handles the request.
type Trace struct {
	span   *span  // nil where the request is not sampled
	id     string // x-request-id as it is to be, "" for the one there is
	parent string // the traceparent of a new trace that is not sampled, "" for none
}

// Active reports whether there is a span.
func (t *Trace) Active() bool { return t.span != nil }

// RequestID gives the x-request-id that was made, or changed, for the request; "" where its own stays.
func (t *Trace) RequestID() string { return t.id }

// A TracerProvider makes tracers, as OpenTelemetry's API has it.
type TracerProvider = trace.TracerProvider

// A Collector is a TracerProvider whose spans go to a collector, and that has to be shut down.
type Collector interface {
	TracerProvider
	Shutdown(ctx context.Context) error
}
