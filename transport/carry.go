package transport

import (
	"context"
	"slices"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// A family is the headers of one format of trace context. They make sense only together and from one
// writer, so they are carried together or not at all.
type family uint16

const (
	ofRequest family = 1 << iota
	ofW3C
	ofB3 // the single header and the several say the same
	ofDatadog
	ofOpenTracing
	ofGoogle
	ofGRPC
	ofAmazon
	ofSkyWalking
)

// carried are the headers that belong to a whole call tree: whoever serves a request passes them on with
// the calls it makes for it (istio.io, distributed tracing; what Istio's own samples forward).
var carried = []struct {
	name   *call.Name
	family family
}{
	{telemetry.RequestID, ofRequest},
	{telemetry.TraceParent, ofW3C},
	{telemetry.TraceState, ofW3C},
	{call.NewName("b3"), ofB3},
	{call.NewName("x-b3-traceid"), ofB3},
	{call.NewName("x-b3-spanid"), ofB3},
	{call.NewName("x-b3-parentspanid"), ofB3},
	{call.NewName("x-b3-sampled"), ofB3},
	{call.NewName("x-b3-flags"), ofB3},
	{call.NewName("x-ot-span-context"), ofOpenTracing},
	{call.NewName("x-cloud-trace-context"), ofGoogle},
	{call.NewName("grpc-trace-bin"), ofGRPC},
	{call.NewName("x-amzn-trace-id"), ofAmazon},
	{call.NewName("x-datadog-trace-id"), ofDatadog},
	{call.NewName("x-datadog-parent-id"), ofDatadog},
	{call.NewName("x-datadog-sampling-priority"), ofDatadog},
	{call.NewName("sw8"), ofSkyWalking},
}

// A Carried is what one received request gives to the calls made for it. It is immutable.
type Carried struct {
	fields   []CarriedField
	families family
}

// A CarriedField is one header value on its way from an inbound request to an outbound one.
type CarriedField struct {
	Name   *call.Name
	Value  string
	family family
}

// Collect takes the carried headers out of a received request, nil where it has none. Of a field that is
// there several times the first value counts; oversized values are left out, so that a caller cannot make
// us multiply his bytes.
func Collect(h call.Headers) *Carried {
	c := new(Carried)
	total := 0
	for i := range carried {
		f := &carried[i]
		if v, ok := h.Value(f.name, 0); ok && v != "" && len(v) <= maxCarried && total+len(v) <= maxCarriedAll {
			total += len(v)
			if c.fields == nil {
				c.fields = make([]CarriedField, 0, 4)
			}
			c.fields = append(c.fields, CarriedField{f.name, v, f.family})
			c.families |= f.family
		}
	}
	if c.fields == nil {
		return nil
	}
	return c
}

// What is carried is bounded, in bytes, for it goes with every call: W3C's tracestate may have 512, vendors'
// a little more, and all of them together must leave a callee's header limit room.
const (
	maxCarried    = 4 << 10
	maxCarriedAll = 16 << 10
)

type carriedKey struct{}

// WithCarried gives a context whose calls carry the fields.
func WithCarried(ctx context.Context, c *Carried) context.Context {
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, carriedKey{}, c)
}

// CarriedFrom gives what calls of the context carry, nil for nothing.
func CarriedFrom(ctx context.Context) *Carried {
	c, _ := ctx.Value(carriedKey{}).(*Carried)
	return c
}

// Value implements call.Headers.
func (c *Carried) Value(n *call.Name, i int) (string, bool) {
	for _, f := range c.fields {
		if i == 0 && f.Name.Lower() == n.Lower() {
			return f.Value, true
		}
	}
	return "", false
}

// Fields lists the headers. The list must not be changed.
func (c *Carried) Fields() []CarriedField {
	if c == nil {
		return nil
	}
	return c.fields
}

// Missing lists the carried headers that a request should be given: those of every trace format of which
// it has no header itself. Where there are none it is nil or empty. The list must not be changed.
func (c *Carried) Missing(h call.Headers) []CarriedField {
	if c == nil {
		return nil
	}
	return c.without(present(h, c.families))
}

func (c *Carried) without(own family) []CarriedField {
	if c.families&own == 0 {
		return c.fields
	}
	return slices.DeleteFunc(slices.Clone(c.fields), func(f CarriedField) bool { return f.family&own != 0 })
}

// Carry lists the headers that a call of the context is given beside its own, h. A header that the request
// has wins; then the context's active span (Config.Trace), as traceparent and tracestate; then what was
// received with the request that the context belongs to. Headers of one trace format come from one of the
// three and are not mixed: who sets traceparent gets no received tracestate, who sets b3 no x-b3-traceid.
// The list must not be changed; it is empty, and nothing is allocated, where there is neither span nor
// received header.
func (e *Engine) Carry(ctx context.Context, h call.Headers) []CarriedField {
	c := CarriedFrom(ctx)
	if e.trace == nil {
		return c.Missing(h)
	}
	parent, state := e.trace(ctx)
	if parent == "" {
		return c.Missing(h)
	}
	if c == nil {
		c = new(Carried)
	}
	own := present(h, c.families|ofW3C)
	if own&ofW3C != 0 {
		return c.without(own)
	}
	fields := make([]CarriedField, 0, 2+len(c.fields))
	fields = append(fields, CarriedField{telemetry.TraceParent, parent, ofW3C})
	if state != "" {
		fields = append(fields, CarriedField{telemetry.TraceState, state, ofW3C})
	}
	for _, f := range c.fields {
		if f.family&(own|ofW3C) == 0 {
			fields = append(fields, f)
		}
	}
	return fields
}

// present tells which of the families a request has a header of.
func present(h call.Headers, of family) family {
	var found family
	for i := range carried {
		if f := &carried[i]; f.family&of&^found != 0 {
			if _, ok := h.Value(f.name, 0); ok {
				found |= f.family
			}
		}
	}
	return found
}
