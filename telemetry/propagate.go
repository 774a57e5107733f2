package telemetry

import (
	"context"
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/call"
)

// Formats are the forms in which trace context travels.
type Formats uint8

// The formats that a mesh reads and writes itself.
const (
	W3C      Formats = 1 << iota // traceparent and tracestate (W3C Trace Context, version 00)
	B3                           // b3, all in one (openzipkin/b3-propagation)
	B3Fields                     // x-b3-traceid and the others
)

// The fields of these formats, and of the request's identity.
var (
	TraceParent = call.NewName("traceparent")
	TraceState  = call.NewName("tracestate")
	RequestID   = call.NewName("x-request-id")

	b3Single   = call.NewName("b3")
	b3Trace    = call.NewName("x-b3-traceid")
	b3Span     = call.NewName("x-b3-spanid")
	b3Parent   = call.NewName("x-b3-parentspanid")
	b3Sampled  = call.NewName("x-b3-sampled")
	b3Flags    = call.NewName("x-b3-flags")
	forceTrace = call.NewName("x-envoy-force-trace")
	clientID   = call.NewName("x-client-trace-id")
)

// A decision is whether a trace is sampled, as whoever began it has said.
type decision uint8

const (
	undecided decision = iota
	sampled
	unsampled
)

// maxTraceState is how much of a tracestate goes on, in bytes: what every implementation has to propagate (W3C Trace Context
// §3.3.1.5).
const maxTraceState = 512

// extract reads the trace context of a header: W3C's where it has that, else B3's. sc is invalid where there is none; B3 can
// say whether to sample all the same.
func extract(h call.Headers) (sc trace.SpanContext, d decision) {
	if v, ok := h.Value(TraceParent, 0); ok {
		if sc, ok := parseTraceParent(v); ok {
			if state, ok := h.Value(TraceState, 0); ok && len(state) <= maxTraceState {
				if ts, err := trace.ParseTraceState(strings.Clone(state)); err == nil {
					sc = sc.WithTraceState(ts)
				}
			}
			return sc, decided(sc.IsSampled())
		}
	}
	if v, ok := h.Value(b3Single, 0); ok {
		if sc, d, ok := parseB3(v); ok {
			return sc, d
		}
	}
	return extractB3Fields(h)
}

func decided(yes bool) decision {
	if yes {
		return sampled
	}
	return unsampled
}

// parseTraceParent reads version 00, and of later versions what it knows (W3C Trace Context §4.3).
func parseTraceParent(s string) (trace.SpanContext, bool) {
	const length = 55
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.HasPrefix(s, "ff") ||
		strings.HasPrefix(s, "00") && len(s) != length || len(s) > length && s[length] != '-' {
		return trace.SpanContext{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || !unhex(flags[:], s[53:55]) {
		return trace.SpanContext{}, false
	}
	return contextOf(s[3:35], s[36:52], trace.TraceFlags(flags[0])&(trace.FlagsSampled|trace.FlagsRandom))
}

// contextOf makes a remote parent of its IDs in lower case hexadecimal digits. A trace ID of 64 bits is one of 128 (B3).
func contextOf(traceID, spanID string, flags trace.TraceFlags) (trace.SpanContext, bool) {
	c := trace.SpanContextConfig{TraceFlags: flags, Remote: true}
	half := len(c.TraceID) / 2
	to := c.TraceID[:]
	if len(traceID) == 2*half {
		to = c.TraceID[half:]
	}
	if !unhex(to, traceID) || !unhex(c.SpanID[:], spanID) {
		return trace.SpanContext{}, false
	}
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

// unhex reads lower case digits that fill b. It does not allocate.
func unhex(b []byte, s string) bool {
	if len(s) != 2*len(b) {
		return false
	}
	for i := range b {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi|lo > 15 {
			return false
		}
		b[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// parseB3 reads the single header: {trace}-{span}[-{sampled}[-{parent}]], or the sampling alone.
func parseB3(s string) (sc trace.SpanContext, d decision, ok bool) {
	if len(s) == 1 {
		d = b3Decision(s)
		return sc, d, d != undecided
	}
	traceID, rest, _ := strings.Cut(s, "-")
	spanID, rest, more := strings.Cut(rest, "-")
	if more {
		said, _, _ := strings.Cut(rest, "-")
		d = b3Decision(said)
	}
	sc, ok = contextOf(traceID, spanID, flagsOf(d))
	return sc, d, ok
}

func b3Decision(s string) decision {
	switch s {
	case "1", "d", "true": // debug is sampled, and more
		return sampled
	case "0", "false":
		return unsampled
	}
	return undecided
}

func flagsOf(d decision) trace.TraceFlags {
	if d == sampled {
		return trace.FlagsSampled
	}
	return 0
}

func extractB3Fields(h call.Headers) (sc trace.SpanContext, d decision) {
	if v, ok := h.Value(b3Sampled, 0); ok {
		d = b3Decision(v)
	}
	if v, ok := h.Value(b3Flags, 0); ok && v == "1" {
		d = sampled
	}
	traceID, ok := h.Value(b3Trace, 0)
	if !ok {
		return sc, d
	}
	spanID, _ := h.Value(b3Span, 0)
	sc, _ = contextOf(traceID, spanID, flagsOf(d))
	return sc, d
}

// formatsOf tells which formats a header has fields of.
func formatsOf(h call.Headers) (f Formats) {
	if _, ok := h.Value(TraceParent, 0); ok {
		f |= W3C
	}
	if _, ok := h.Value(b3Single, 0); ok {
		f |= B3
	}
	if _, ok := h.Value(b3Trace, 0); ok {
		f |= B3Fields
	}
	return f
}

// A Field is a header field that is written in the place of those of its name.
type Field struct {
	Name  *call.Name
	Value string
}

// inject appends the fields by which a span's context travels on. parent is the ID of the span above it, if there is one.
func inject(list []Field, f Formats, sc trace.SpanContext, parent trace.SpanID) []Field {
	traceID, spanID := sc.TraceID().String(), sc.SpanID().String()
	said := "0"
	if sc.IsSampled() {
		said = "1"
	}
	if f&W3C != 0 {
		list = append(list, Field{TraceParent, traceParent(sc)}, Field{TraceState, sc.TraceState().String()})
	}
	if f&B3 != 0 {
		v := traceID + "-" + spanID + "-" + said
		if parent.IsValid() {
			v += "-" + parent.String()
		}
		list = append(list, Field{b3Single, v})
	}
	if f&B3Fields != 0 {
		list = append(list, Field{b3Trace, traceID}, Field{b3Span, spanID}, Field{b3Sampled, said})
		if parent.IsValid() {
			list = append(list, Field{b3Parent, parent.String()})
		}
	}
	return list
}

// traceParent writes version 00. Of the flags it passes on those that are specified, sampled and random, as OpenTelemetry's own
// propagator does.
func traceParent(sc trace.SpanContext) string {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	var b [parentLength]byte
	writeTraceParent(&b, traceID, spanID, sc.TraceFlags()&(trace.FlagsSampled|trace.FlagsRandom))
	return string(b[:])
}

const parentLength = 55

func writeTraceParent(b *[parentLength]byte, traceID trace.TraceID, spanID trace.SpanID, flags trace.TraceFlags) {
	copy(b[:], "00-")
	hex.Encode(b[3:], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:], spanID[:])
	b[52] = '-'
	hex.Encode(b[53:], []byte{byte(flags)})
}

// ActiveSpan gives the traceparent and tracestate of the OpenTelemetry span that the context holds, "" where it holds none.
func ActiveSpan(ctx context.Context) (parent, state string) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return "", ""
	}
	return traceParent(sc), sc.TraceState().String()
}
