package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/call"
)

// TracerOptions are what a Tracer is made of.
type TracerOptions struct {
	// Provider makes the spans where documents name no collector. Default: nobody does, and there are no traces.
	Provider trace.TracerProvider
	// Propagator reads and writes trace context. Default: the formats that are known here; W3C's for new traces, and those in which
	// a request has its own.
	Propagator propagation.TextMapPropagator
	// Sampling is the share of new traces that are sampled, in percent to a hundredth, where documents say nothing. Default:
	// DefaultSampling.
	Sampling *float64
	// Rand gives 64 random bits; it must be safe for concurrent use. Default: math/rand/v2's.
	Rand func() uint64
	// Workload is what the tags istio.* call the program, Node its node_id.
	Workload Workload
	Node     string
	// Environment looks a variable up, for tags. Default: there are none.
	Environment func(name string) (value string, ok bool)
}

// A Tracer makes the spans of a mesh by OpenTelemetry's API. It is safe for concurrent use, and a nil one makes none.
type Tracer struct {
	o    TracerOptions
	live atomic.Pointer[tracing]
}

// tracing is what holds at a moment. It is immutable.
type tracing struct {
	*Tracer
	otel  trace.Tracer
	modes [2]mode
	max   int
	forms Formats
}

// mode is a TraceMode, ready.
type mode struct {
	TraceMode
	most uint32 // of 10,000
	tags []attribute.KeyValue
}

const (
	scopeName = "github.com/heddlemesh/mesh"
	hundredth = 10_000
	// defaultMaxTag is how many characters of a path a tag has (MeshConfig, maxTagLength).
	defaultMaxTag = 256
)

// NewTracer makes a tracer, by whose options alone spans are made until Set.
func NewTracer(o TracerOptions) *Tracer {
	t := &Tracer{o: o}
	if t.o.Rand == nil {
		t.o.Rand = rand.Uint64
	}
	t.Set(nil, nil)
	return t
}

// Set says what becomes of traces from now on. p makes the spans, nil for TracerOptions.Provider.
func (t *Tracer) Set(c *Tracing, p trace.TracerProvider) {
	if c == nil {
		c = new(Tracing)
	}
	if p == nil {
		p = t.o.Provider
	}
	if p == nil {
		t.live.Store(nil)
		return
	}
	l := &tracing{Tracer: t, otel: p.Tracer(scopeName), max: defaultMaxTag, forms: W3C}
	if c.Provider != nil {
		if c.Provider.MaxTag > 0 {
			l.max = c.Provider.MaxTag
		}
		if c.Provider.Formats != 0 {
			l.forms = c.Provider.Formats
		}
	}
	for i := range c.Modes {
		l.modes[i] = t.mode(&c.Modes[i])
	}
	t.live.Store(l)
}

func (t *Tracer) mode(m *TraceMode) mode {
	share := DefaultSampling
	for _, said := range []*float64{m.Sampling, t.o.Sampling} {
		if said != nil {
			share = *said
			break
		}
	}
	out := mode{TraceMode: *m, most: uint32(min(max(share, 0), 100)*100 + 0.5)}
	out.tags = append(out.tags, attribute.String("component", "proxy"))
	if t.o.Node != "" {
		out.tags = append(out.tags, attribute.String("node_id", t.o.Node))
	}
	if !m.Plain {
		for _, tag := range [...][2]string{{"istio.canonical_service", t.o.Workload.CanonicalService}, {"istio.canonical_revision", t.o.Workload.CanonicalRev},
			{"istio.namespace", t.o.Workload.Namespace}, {"istio.cluster_id", t.o.Workload.Cluster}} {
			if tag[1] != "" {
				out.tags = append(out.tags, text(tag[0], tag[1]))
			}
		}
	}
	for _, tag := range m.Tags {
		value := tag.Value
		switch tag.Source {
		case TagHeader:
			continue // by request
		case TagEnvironment:
			value = tag.Default
			if t.o.Environment != nil {
				if v, ok := t.o.Environment(tag.Value); ok {
					value = v
				}
			}
		case TagLiteral:
		}
		if value != "" {
			out.tags = append(out.tags, text(tag.Name, value))
		}
	}
	return out
}

// On reports whether spans are made of the requests of a side.
func (t *Tracer) On(r Reporter) bool { return t.on(r) != nil }

// on gives what holds for a side, nil where it makes no spans.
func (t *Tracer) on(r Reporter) *tracing {
	if t == nil {
		return nil
	}
	l := t.live.Load()
	if l == nil || l.modes[r].Disabled {
		return nil
	}
	return l
}

// Asked is what a tracer is told of a request as it begins, beside the request.
type Asked struct {
	// Service and Port name what the request is for, "reviews.default.svc.cluster.local" and 9080; RPC the method of one by gRPC's
	// API, "package.Service/Method".
	Service string
	Port    uint16
	RPC     string
	// Trusted says that who sends it may ask for it to be traced.
	Trusted bool
}

// Call begins the trace of a call. The parent is what the request's own header says, else the context's active span, else what
// carried, which may be nil, says; it says too whether there is to be a span. Where nobody does, Tracing's Sampling does. q does
// not escape.
func (t *Tracer) Call(ctx context.Context, q *call.Request, a Asked, carried call.Headers) Trace {
	if l := t.on(Source); l != nil {
		return l.begin(ctx, Source, q, a, carried)
	}
	return Trace{}
}

// Arrived begins the trace of a request that was received. q does not escape.
func (t *Tracer) Arrived(ctx context.Context, q *call.Request, a Asked) Trace {
	if l := t.on(Destination); l != nil {
		return l.begin(ctx, Destination, q, a, nil)
	}
	return Trace{}
}

func (l *tracing) begin(ctx context.Context, r Reporter, q *call.Request, a Asked, carried call.Headers) Trace {
	h, m := q.Headers, &l.modes[r]
	parent, d := l.extract(h)
	if !parent.IsValid() && d == undecided && r == Source {
		if parent = trace.SpanContextFromContext(ctx); parent.IsValid() {
			d = decided(parent.IsSampled())
		} else if carried != nil {
			parent, d = l.extract(carried)
		}
	}
	var t Trace
	id := ""
	if d == undecided {
		if id, d = l.draw(m, h, a.Trusted, carried, &t); d == unsampled && !parent.IsValid() {
			l.unsampled(m, &t)
		}
	}
	if d != sampled {
		return t
	}
	if parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent.WithTraceFlags(parent.TraceFlags()|trace.FlagsSampled))
	} else {
		ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	}
	if id == "" {
		id = idOf(h, carried)
	}
	t.span = l.start(ctx, r, q, a, id, parent)
	return t
}

// extract reads the context of a header.
func (l *tracing) extract(h call.Headers) (trace.SpanContext, decision) {
	if l.o.Propagator == nil {
		return extract(h)
	}
	sc := trace.SpanContextFromContext(l.o.Propagator.Extract(context.Background(), carrier{read: h}))
	if !sc.IsValid() {
		return sc, undecided
	}
	return sc, decided(sc.IsSampled())
}

// idOf finds the request's x-request-id.
func idOf(h, carried call.Headers) string {
	if v, ok := h.Value(RequestID, 0); ok && v != "" {
		return v
	}
	if carried != nil {
		v, _ := carried.Value(RequestID, 0)
		return v
	}
	return ""
}

// draw decides about a new trace as Envoy does (ConnectionManagerUtility::mutateTracingRequestHeader): by the request's ID, which
// all who see the request draw alike by, and which then says what was decided. It gives the ID where that is another.
func (l *tracing) draw(m *mode, h call.Headers, trusted bool, carried call.Headers, t *Trace) (id string, d decision) {
	id = idOf(h, carried)
	if id == "" {
		id = NewRequestID(l.o.Rand(), l.o.Rand())
		t.id = id
	}
	n, ok := idNumber(id)
	if !ok || m.Apart {
		n = uint32(l.o.Rand() >> 32)
	}
	reason := byte(notTraced)
	if !m.Apart && idTraced(id) {
		return id, sampled
	}
	if _, asked := h.Value(clientID, 0); asked {
		reason = byClient
	} else if _, asked := h.Value(forceTrace, 0); asked && trusted {
		reason = byForce
	} else if n%hundredth < m.most {
		reason = bySampling
	}
	if reason == notTraced {
		return id, unsampled
	}
	if marked := withReason(id, reason); marked != id {
		id, t.id = marked, marked
	}
	return id, sampled
}

// unsampled makes the context of a new trace that nobody is to sample.
func (l *tracing) unsampled(m *mode, t *Trace) {
	if m.Silent || l.o.Propagator != nil || l.forms&W3C == 0 {
		return
	}
	var ids [24]byte
	binary.BigEndian.PutUint64(ids[:], l.o.Rand())
	binary.BigEndian.PutUint64(ids[8:], l.o.Rand()|1) // never 0
	binary.BigEndian.PutUint64(ids[16:], l.o.Rand()|1)
	var b [parentLength]byte
	writeTraceParent(&b, trace.TraceID(ids[:16]), trace.SpanID(ids[16:]), 0)
	t.parent = string(b[:])
}

// A carrier shows a header to a propagator, and takes what that writes.
type carrier struct {
	read  call.Headers
	wrote *[]Field
}

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	if c.read == nil {
		return ""
	}
	v, _ := c.read.Value(call.NewName(key), 0)
	return v
}

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(key, value string) {
	if c.wrote != nil {
		*c.wrote = append(*c.wrote, Field{call.NewName(key), value})
	}
}

// Keys implements propagation.TextMapCarrier: the fields of a request are looked up, not listed.
func (carrier) Keys() []string { return nil }
