package telemetry

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh/call"
)

const (
	someTrace = "0af7651916cd43dd8448eb211c80319c"
	someSpan  = "b7ad6b7169203331"
)

func TestExtract(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header http.Header
		want   decision
		trace  string // "" for no parent
	}{
		"nothing":             {nil, undecided, ""},
		"W3C":                 {http.Header{"Traceparent": {"00-" + someTrace + "-" + someSpan + "-01"}}, sampled, someTrace},
		"W3C not sampled":     {http.Header{"Traceparent": {"00-" + someTrace + "-" + someSpan + "-00"}}, unsampled, someTrace},
		"W3C before B3":       {http.Header{"Traceparent": {"00-" + someTrace + "-" + someSpan + "-00"}, "B3": {"1"}}, unsampled, someTrace},
		"W3C of later":        {http.Header{"Traceparent": {"cc-" + someTrace + "-" + someSpan + "-01-more"}}, sampled, someTrace},
		"W3C with more":       {http.Header{"Traceparent": {"00-" + someTrace + "-" + someSpan + "-01-more"}}, undecided, ""},
		"W3C version ff":      {http.Header{"Traceparent": {"ff-" + someTrace + "-" + someSpan + "-01"}}, undecided, ""},
		"W3C capitals":        {http.Header{"Traceparent": {"00-" + strings.ToUpper(someTrace) + "-" + someSpan + "-01"}}, undecided, ""},
		"W3C zero":            {http.Header{"Traceparent": {"00-" + strings.Repeat("0", 32) + "-" + someSpan + "-01"}}, undecided, ""},
		"B3":                  {http.Header{"B3": {someTrace + "-" + someSpan + "-1-" + someSpan}}, sampled, someTrace},
		"B3 of 64 bits":       {http.Header{"B3": {someTrace[16:] + "-" + someSpan + "-d"}}, sampled, strings.Repeat("0", 16) + someTrace[16:]},
		"B3 undecided":        {http.Header{"B3": {someTrace + "-" + someSpan}}, undecided, someTrace},
		"B3 deny":             {http.Header{"B3": {"0"}}, unsampled, ""},
		"B3 fields":           {http.Header{"X-B3-Traceid": {someTrace}, "X-B3-Spanid": {someSpan}, "X-B3-Sampled": {"0"}}, unsampled, someTrace},
		"B3 fields debug":     {http.Header{"X-B3-Traceid": {someTrace}, "X-B3-Spanid": {someSpan}, "X-B3-Flags": {"1"}}, sampled, someTrace},
		"B3 fields, sampling": {http.Header{"X-B3-Sampled": {"1"}}, sampled, ""},
		"B3 fields, no span":  {http.Header{"X-B3-Traceid": {someTrace}}, undecided, ""},
	} {
		sc, d := extract(call.HTTPHeaders(c.header))
		got := ""
		if sc.IsValid() {
			got = sc.TraceID().String()
		}
		if d != c.want || got != c.trace {
			t.Errorf("%s: %v of %q, want %v of %q", name, d, got, c.want, c.trace)
		}
	}
}

// FuzzTraceContext: what OpenTelemetry's propagator reads of traceparent we read alike, and what we write of any parent we read again.
func FuzzTraceContext(f *testing.F) {
	f.Add("00-"+someTrace+"-"+someSpan+"-01", "a=b", "1", someTrace, someSpan)
	f.Add("01-"+someTrace+"-"+someSpan+"-ff-x", "a=b,c=d", someTrace+"-"+someSpan+"-d", someTrace[16:], someSpan)
	f.Add("00-", "", "-", "", "")
	f.Fuzz(func(t *testing.T, parent, state, b3, traceID, spanID string) {
		own, _ := extract(call.HTTPHeaders{"Traceparent": {parent}, "Tracestate": {state}})
		theirs := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(),
			propagation.MapCarrier{"traceparent": parent, "tracestate": state}))
		if theirs.IsValid() && (own.TraceID() != theirs.TraceID() || own.SpanID() != theirs.SpanID() || own.IsSampled() != theirs.IsSampled()) { // flags that nobody has specified it refuses
			t.Errorf("%q: %v, OpenTelemetry has %v", parent, own, theirs)
		}
		for _, h := range []call.HTTPHeaders{{"Traceparent": {parent}}, {"B3": {b3}}, {"X-B3-Traceid": {traceID}, "X-B3-Spanid": {spanID}}} {
			sc, _ := extract(h)
			if !sc.IsValid() {
				continue
			}
			for _, form := range []Formats{W3C, B3, B3Fields} {
				wrote := call.HTTPHeaders{}
				for _, field := range inject(nil, form, sc, sc.SpanID()) {
					wrote[field.Name.Canonical()] = []string{field.Value}
				}
				again, d := extract(wrote)
				if again.TraceID() != sc.TraceID() || again.SpanID() != sc.SpanID() || d != decided(sc.IsSampled()) {
					t.Errorf("%v is read of %v as %v", sc, wrote, again)
				}
			}
		}
	})
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	const id = "7f1f2b4e-0a8c-4d59-9c3a-51d1e7c2a001"
	if n, ok := idNumber(id); !ok || n != 0x7f1f2b4e {
		t.Errorf("%x, %v", n, ok)
	}
	for _, bad := range []string{"", "x", id[1:], "7g1f2b4e" + id[8:], strings.ReplaceAll(id, "-", "_")} {
		if _, ok := idNumber(bad); ok || idTraced(bad) || withReason(bad, bySampling) != bad {
			t.Errorf("%q is a UUID", bad)
		}
	}
	for _, reason := range []byte{bySampling, byForce, byClient} {
		if got := withReason(id, reason); !idTraced(got) || len(got) != len(id) || withReason(got, notTraced) != id {
			t.Errorf("%q", got)
		}
	}
	if idTraced(id) {
		t.Error("a UUID of version 4 is traced")
	}
}
