package mesh

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// activeSpan gives the traceparent and tracestate of the OpenTelemetry span that the context holds, "" where
// it holds none (W3C Trace Context Level 2, version 00). Of the flags it passes on those that are specified,
// sampled and random, as OpenTelemetry's own propagator does.
func activeSpan(ctx context.Context) (parent, state string) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return "", ""
	}
	traceID, spanID := sc.TraceID(), sc.SpanID()
	flags := byte(sc.TraceFlags() & (trace.FlagsSampled | trace.FlagsRandom))
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:], spanID[:])
	b[52] = '-'
	hex.Encode(b[53:], []byte{flags})
	return string(b[:]), sc.TraceState().String()
}
