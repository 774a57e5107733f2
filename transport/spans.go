package transport

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/telemetry"
)

// TracesArrivals reports whether requests that come in have spans.
func (e *Engine) TracesArrivals() bool { return e.tracer.On(telemetry.Destination) }

// traceCall begins the trace of the call, once: a call that is decided anew goes on with its own.
func (c *Call) traceCall(ctx context.Context, q *call.Request) {
	e := c.engine
	if c.traced || !e.tracer.On(telemetry.Source) || untraced(ctx) {
		return
	}
	c.traced = true
	a := telemetry.Asked{Service: c.service, Port: q.Port, RPC: c.rpc, Trusted: true}
	if a.Service == "" {
		a.Service = q.Host
	}
	var carried call.Headers
	if from := CarriedFrom(ctx); from != nil {
		carried = from
	}
	c.trace = e.tracer.Call(ctx, q, a, carried)
}

type untracedKey struct{}

// WithoutTrace gives a context whose calls have no spans: those that take spans to a collector.
func WithoutTrace(ctx context.Context) context.Context {
	return context.WithValue(ctx, untracedKey{}, true)
}

func untraced(ctx context.Context) bool {
	yes, _ := ctx.Value(untracedKey{}).(bool)
	return yes
}

// OfRPC notes, before Begin, that the call is an RPC by gRPC's own API: "package.Service/Method".
func (c *Call) OfRPC(method string) { c.rpc = method }

// Traced reports whether the call has a span.
func (c *Call) Traced() bool { return c.trace.Active() }

// traceMarks appends the fields by which the trace goes on with the next attempt. Where the mesh does not take part in it there
// are none.
func (c *Call) traceMarks(list []Mark, h call.Headers) []Mark {
	return c.trace.Attempt(list, h)
}

// tracePick notes which endpoint the attempt goes to.
func (c *Call) tracePick(ep *balance.Endpoint) {
	if c.trace.Active() {
		c.trace.Picked(c.cluster.def.Name, ep.Def.Address.Addr)
	}
}

// tracesArrival begins the trace of a request of net/http's.
func (a *arrivedRequest) tracesArrival(caller *Caller) {
	e, r := a.engine, a.req
	if !e.tracer.On(telemetry.Destination) {
		return
	}
	q := call.Request{Method: r.Method, Scheme: "http", Authority: r.Host, Path: r.URL.EscapedPath(), Protocol: r.Proto, Headers: call.HTTPHeaders(r.Header)}
	if r.TLS != nil {
		q.Scheme = "https"
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		q.Source = from.Addr()
	}
	a.trace = e.TraceArrival(r.Context(), &q, caller, "")
}

// TraceArrival begins the trace of a request that was received. caller is who was proved to send it, nil for nobody; rpc is the
// method of one by gRPC's own API. q does not escape.
func (e *Engine) TraceArrival(ctx context.Context, q *call.Request, caller *Caller, rpc string) telemetry.Trace {
	if !e.tracer.On(telemetry.Destination) {
		return telemetry.Trace{}
	}
	a := telemetry.Asked{Service: e.state.Load().serviceNamed(q.Authority).Host, Port: 80, Trusted: caller != nil, RPC: rpc}
	if a.Service == "" {
		a.Service = telemetry.Unknown
	} else if _, port, err := call.SplitAuthority(q.Authority); err == nil && port != 0 {
		a.Port = port
	}
	return e.tracer.Arrived(ctx, q, a)
}

// traced gives the header as the program is to see it the fields of the request's trace. It is the program's own already.
func (a *arrivedRequest) traced(header http.Header) {
	var few [4]telemetry.Field
	for _, f := range a.trace.Fields(few[:0], call.HTTPHeaders(header)) {
		header[f.Name.Canonical()] = []string{f.Value}
	}
}
