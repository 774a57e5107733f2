package telemetry

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/call"
)

// A span is that of a request, with the one of the attempt under way. Names of attributes are those of OpenTelemetry's semantic
// conventions for HTTP and RPC (v1.43.0), and Istio's tags.
type span struct {
	mu     sync.Mutex // guards sent, last and ended
	live   *tracing
	ctx    context.Context // of the request's span
	otel   trace.Span
	side   Reporter
	parent trace.SpanID
	name   string
	method string // of HTTP, "" of an RPC
	sent   int    // attempts
	last   *attempt
	ended  bool
}

// An attempt is one that is under way, or has ended.
type attempt struct {
	otel   trace.Span
	picked bool
	ended  bool
}

// start begins a span. What a caller has written is cut short and made UTF-8; of the path the query is left out, where secrets
// stand.
func (l *tracing) start(ctx context.Context, r Reporter, req *call.Request, q Asked, id string, parent trace.SpanContext) *span {
	m := &l.modes[r]
	s := &span{live: l, side: r, parent: parent.SpanID(), name: q.Service + ":" + strconv.Itoa(int(q.Port)) + "/*"}
	list := make([]attribute.KeyValue, 0, 24+len(m.tags))
	list = append(list, m.tags...)
	path := l.cut(req.Path)
	agent, _ := req.Headers.Value(userAgent, 0)
	if q.RPC != "" {
		s.name = q.RPC
		list = append(list, attribute.String("rpc.system.name", "grpc"), text("rpc.method", q.RPC))
	} else {
		s.method = methodOf(req.Method)
		list = append(list, attribute.String("http.request.method", s.method))
		if s.method != req.Method {
			list = append(list, text("http.request.method_original", l.cut(req.Method)))
		}
	}
	list = append(list, text("http.method", l.cut(req.Method)), text("http.url", schemeOf(req)+"://"+l.cut(req.Authority)+path),
		text("user_agent.original", l.cut(agent)), text("user_agent", l.cut(agent)), text("guid:x-request-id", l.cut(id)))
	if req.Protocol != "" {
		list = append(list, text("http.protocol", l.cut(req.Protocol)), text("network.protocol.version", strings.TrimPrefix(l.cut(req.Protocol), "HTTP/")))
	}
	if host, port, err := call.SplitAuthority(req.Authority); err == nil {
		if port == 0 {
			port = req.Port
		}
		list = append(list, text("server.address", l.cut(host)))
		if port != 0 {
			list = append(list, attribute.Int("server.port", int(port)))
		}
	}
	kind := trace.SpanKindInternal
	if r == Destination {
		kind = trace.SpanKindServer
		list = append(list, text("url.path", path), attribute.String("url.scheme", schemeOf(req)))
		if req.Source.IsValid() {
			from := req.Source.Unmap().String()
			list = append(list, attribute.String("client.address", from), attribute.String("peer.address", from))
		}
	} else {
		list = append(list, text("url.full", schemeOf(req)+"://"+l.cut(req.Authority)+path))
	}
	for _, tag := range m.Tags {
		if tag.Source != TagHeader {
			continue
		}
		v, ok := req.Headers.Value(tag.Header, 0)
		if !ok {
			v = tag.Default
		}
		if v != "" {
			list = append(list, text(tag.Name, l.cut(v)))
		}
	}
	s.ctx, s.otel = l.otel.Start(ctx, s.name, trace.WithSpanKind(kind), trace.WithAttributes(present(list)...))
	if !s.otel.SpanContext().IsValid() { // a provider that makes none
		return nil
	}
	return s
}

var userAgent = call.NewName("user-agent")

func schemeOf(q *call.Request) string {
	if q.Scheme == "https" {
		return "https"
	}
	return "http"
}

// methodOf keeps what a caller is free to write out of what has to have few values.
func methodOf(m string) string {
	for _, known := range [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"} {
		if m == known {
			return known // m may be a buffer's
		}
	}
	return "_OTHER"
}

// cut keeps the first characters of a text. The result is a copy: the text may be a buffer's.
func (l *tracing) cut(s string) string {
	if len(s) > l.max {
		s = s[:l.max]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, n := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && n == 1 {
			s = s[:len(s)-1]
		}
	}
	return strings.Clone(s)
}

// text is an attribute of UTF-8.
func text(name, value string) attribute.KeyValue {
	return attribute.String(name, strings.ToValidUTF8(value, "\uFFFD"))
}

// present leaves out what says nothing.
func present(list []attribute.KeyValue) []attribute.KeyValue {
	kept := list[:0]
	for _, a := range list {
		if a.Value.Type() != attribute.STRING || a.Value.AsString() != "" {
			kept = append(kept, a)
		}
	}
	return kept
}

// Context gives a context in which the request's span is the active one.
func (t *Trace) Context(ctx context.Context) context.Context {
	if t.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, t.span.otel)
}

// Fields appends the fields by which a request that was received goes on to the program. h is its header.
func (t *Trace) Fields(list []Field, h call.Headers) []Field {
	if t.id != "" {
		list = append(list, Field{RequestID, t.id})
	}
	switch {
	case t.span != nil:
		return t.span.fields(list, t.span.otel, t.span.parent, h)
	case t.parent != "":
		return append(list, Field{TraceParent, t.parent})
	}
	return list
}

// Attempt begins the span of the next attempt of a call, unless that of the last one was not used, and appends the fields that it
// goes with. h is the header as it goes on.
func (t *Trace) Attempt(list []Field, h call.Headers) []Field {
	s := t.span
	if s == nil {
		return t.Fields(list, h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.id != "" {
		list = append(list, Field{RequestID, t.id})
	}
	if s.last == nil || s.last.picked {
		s.attempted(nil)
		name := s.method
		if name == "" {
			name = s.name
		}
		_, next := s.live.otel.Start(s.ctx, name, trace.WithSpanKind(trace.SpanKindClient))
		s.last = &attempt{otel: next}
	}
	return s.fields(list, s.last.otel, s.otel.SpanContext().SpanID(), h)
}

// fields writes the context of one of the span's.
func (s *span) fields(list []Field, of trace.Span, parent trace.SpanID, h call.Headers) []Field {
	l := s.live
	if l.modes[s.side].Silent {
		return list
	}
	if l.o.Propagator != nil {
		var wrote []Field // of its own: the list is on the driver's stack
		l.o.Propagator.Inject(trace.ContextWithSpan(context.Background(), of), carrier{wrote: &wrote})
		return append(list, wrote...)
	}
	from := len(list)
	list = inject(list, formatsOf(h)|l.forms, of.SpanContext(), parent)
	for i := from; i < len(list); i++ {
		if list[i].Value == "" { // no tracestate
			list = append(list[:i], list[i+1:]...)
			i--
		}
	}
	return list
}

// Picked notes where the attempt under way goes: to which cluster, and the address of the endpoint.
func (t *Trace) Picked(cluster, address string) {
	s := t.span
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.last
	if a == nil {
		return
	}
	a.picked = true
	s.sent++
	list := []attribute.KeyValue{text("upstream_cluster", cluster), text("upstream_cluster.name", cluster), text("peer.address", address)}
	if host, port, err := call.SplitAuthority(address); err == nil {
		list = append(list, text("network.peer.address", host), attribute.Int("network.peer.port", int(port)))
	}
	if s.method != "" {
		list = append(list, attribute.String("http.request.method", s.method))
	}
	if s.sent > 1 {
		list = append(list, attribute.Int("http.request.resend_count", s.sent-1))
	}
	a.otel.SetAttributes(list...)
}

// Failed ends the span of an attempt that another one follows.
func (t *Trace) Failed(o call.Outcome) {
	if s := t.span; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attempted(&o)
	}
}

// attempted ends the last attempt's span; s.mu is held. o is how it failed, nil where that is not known.
func (s *span) attempted(o *call.Outcome) {
	a := s.last
	if a == nil || a.ended {
		return
	}
	a.ended = true
	if o != nil {
		why := ""
		switch {
		case o.Status != 0 && s.method != "":
			a.otel.SetAttributes(attribute.Int("http.response.status_code", o.Status))
			why = strconv.Itoa(o.Status)
		case o.Reason != call.ReasonNone:
			why = o.Reason.Details()
		}
		if why != "" {
			a.otel.SetAttributes(attribute.String("error.type", why))
			a.otel.SetStatus(codes.Error, why)
		}
	}
	a.otel.End()
}

// End ends the request's span, once, and that of its last attempt. It may be called again.
func (t *Trace) End(o Outcome, m Measurement) {
	s := t.span
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if a := s.last; a != nil && !a.ended {
		a.ended = true
		if a.picked { // else no endpoint has seen it
			s.finish(a.otel, o, nil)
		}
		a.otel.End()
	}
	code := strconv.Itoa(int(o.Code))
	s.finish(s.otel, o, []attribute.KeyValue{attribute.String("http.status_code", code), attribute.String("response_flags", o.Flags.String()),
		attribute.Int64("request_size", int64(m.RequestBytes)), attribute.Int64("response_size", int64(m.ResponseBytes)),
		attribute.Int64("http.request.body.size", int64(m.RequestBytes)), attribute.Int64("http.response.body.size", int64(m.ResponseBytes))})
	s.otel.End()
}

// finish says how one of the spans ended.
func (s *span) finish(of trace.Span, o Outcome, list []attribute.KeyValue) {
	why := s.failure(o)
	if s.method != "" && o.Code != 0 {
		list = append(list, attribute.Int("http.response.status_code", int(o.Code)))
	}
	if o.GRPC != 0 {
		name := grpcCodes[min(int(o.GRPC)-1, len(grpcCodes)-1)]
		list = append(list, attribute.String("rpc.response.status_code", name), attribute.String("grpc.status_code", strconv.Itoa(int(o.GRPC)-1)))
	}
	if why != "" {
		list = append(list, attribute.String("error.type", why), attribute.Bool("error", true))
		of.SetStatus(codes.Error, "")
	}
	of.SetAttributes(list...)
}

// failure gives error.type, "" where the conventions call it no error: of a server's answers those of a client's mistakes.
func (s *span) failure(o Outcome) string {
	const client = 400
	least := uint16(client)
	if s.side == Destination {
		least += 100
	}
	switch {
	case o.GRPC > 1:
		if s.side == Destination && !serverFault(o.GRPC-1) {
			return ""
		}
		return grpcCodes[min(int(o.GRPC)-1, len(grpcCodes)-1)]
	case o.Code >= least:
		return strconv.Itoa(int(o.Code))
	case o.Code == 0, o.Flags&(call.FlagDC|call.FlagUC|call.FlagUT|call.FlagSI) != 0:
		return o.Flags.String()
	}
	return ""
}

// serverFault lists the status codes that are errors of a server's span (semantic conventions for gRPC).
func serverFault(code uint8) bool {
	switch code {
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}
