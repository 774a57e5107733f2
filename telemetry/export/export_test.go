package export_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh/telemetry/export"
)

// A field is one of a message as it is on the wire.
type field struct {
	number  protowire.Number
	bytes   []byte
	integer uint64
}

// fields reads a message. The test fails for what is none.
func fields(t *testing.T, b []byte) (all []field) {
	t.Helper()
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		b = b[size:]
		f := field{number: n}
		switch kind {
		case protowire.VarintType:
			f.integer, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.integer, size = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, size = protowire.ConsumeFixed32(b)
			f.integer = uint64(v)
		default:
			f.bytes, size = protowire.ConsumeBytes(b)
		}
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		b = b[size:]
		all = append(all, f)
	}
	return all
}

// at gives the fields of the path of numbers.
func at(t *testing.T, b []byte, path ...protowire.Number) (found []field) {
	t.Helper()
	for _, f := range fields(t, b) {
		switch {
		case f.number != path[0]:
		case len(path) == 1:
			found = append(found, f)
		default:
			found = append(found, at(t, f.bytes, path[1:]...)...)
		}
	}
	return found
}

// record makes a server span with a client's under it, and gives their IDs.
func record(p trace.TracerProvider) (server, client trace.SpanContext) {
	tracer := p.Tracer("test")
	ctx, one := tracer.Start(context.Background(), "in", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("a", "b")))
	_, two := tracer.Start(ctx, "out", trace.WithSpanKind(trace.SpanKindClient))
	two.SetAttributes(attribute.Int("n", 1), attribute.Bool("error", true), attribute.Int("n", 2), attribute.String("network.peer.address", "10.0.0.1"))
	two.SetStatus(codes.Error, "why")
	two.End()
	two.SetAttributes(attribute.Int("late", 1))
	two.End()
	one.End()
	return one.SpanContext(), two.SpanContext()
}

// requestOf holds an ExportTraceServiceRequest against what record has made.
func requestOf(t *testing.T, body []byte, server, client trace.SpanContext) {
	t.Helper()
	resource := map[string]string{}
	for _, f := range at(t, body, 1, 1, 1) {
		resource[string(at(t, f.bytes, 1)[0].bytes)] = string(at(t, f.bytes, 2, 1)[0].bytes)
	}
	if resource["service.name"] != "from-env" || resource["team"] != "a b" {
		t.Errorf("resource %v", resource)
	}
	if scope := at(t, body, 1, 2, 1, 1); len(scope) != 1 || string(scope[0].bytes) != "test" {
		t.Errorf("scope %v", scope)
	}
	spans := at(t, body, 1, 2, 2)
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	out, in := spans[0].bytes, spans[1].bytes
	text := func(b []byte, n protowire.Number) string {
		f := at(t, b, n)
		if len(f) != 1 {
			return ""
		}
		return string(f[0].bytes)
	}
	number := func(b []byte, path ...protowire.Number) uint64 {
		f := at(t, b, path...)
		if len(f) != 1 {
			return 0
		}
		return f[0].integer
	}
	id, parent := client.SpanID(), server.SpanID()
	traceID := server.TraceID()
	if text(out, 1) != string(traceID[:]) || text(out, 2) != string(id[:]) || text(out, 4) != string(parent[:]) || text(out, 5) != "out" || number(out, 6) != 3 {
		t.Errorf("the client's span is %x", out)
	}
	if text(in, 2) != string(parent[:]) || text(in, 4) != "" || number(in, 6) != 2 || number(in, 15, 3) != 0 {
		t.Errorf("the server's span is %x", in)
	}
	if number(out, 15, 3) != 2 || text(at(t, out, 15)[0].bytes, 2) != "why" || number(out, 16)&1 != 1 {
		t.Errorf("status of %x", out)
	}
	if number(out, 7) == 0 || number(out, 8) < number(out, 7) {
		t.Errorf("it goes from %d to %d", number(out, 7), number(out, 8))
	}
	if list := at(t, out, 9); len(list) != 3 || number(list[0].bytes, 2, 3) != 2 || number(list[1].bytes, 2, 2) != 1 {
		t.Errorf("attributes %v", list)
	}
}

func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// TestOverHTTP: OTLP in protobuf and Zipkin's JSON, with the headers of the variables; a collector that asks to come again is asked
// again.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	got := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got <- r
		bodies <- body
	}))
	defer receiver.Close()
	open := func(more ...string) *export.Provider {
		p, err := export.Opener{Service: "default", Environment: environment(append(more, "OTEL_SERVICE_NAME", "from-env", "OTEL_RESOURCE_ATTRIBUTES", "service.name=no,team=a%20b")...)}.FromEnvironment()
		if err != nil || p == nil {
			t.Fatal(err)
		}
		return p
	}
	p := open("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL+"/base/", "OTEL_EXPORTER_OTLP_HEADERS", "X-Key=a%3Db, x-b=c")
	server, client := record(p)
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.URL.Path != "/base/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Key") != "a=b" || r.Header.Get("X-B") != "c" ||
		r.Header.Get("Traceparent") != "" {
		t.Errorf("%s %v", r.URL, r.Header)
	}
	requestOf(t, <-bodies, server, client)

	p = open("OTEL_EXPORTER_ZIPKIN_ENDPOINT", receiver.URL+"/api/v2/spans")
	server, client = record(p)
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var spans []map[string]any
	if r, body := <-got, <-bodies; r.URL.Path != "/api/v2/spans" || json.Unmarshal(body, &spans) != nil || len(spans) != 2 {
		t.Fatalf("%s: %s", r.URL, body)
	}
	out, in := spans[0], spans[1]
	tags, _ := out["tags"].(map[string]any)
	if out["traceId"] != server.TraceID().String() || out["parentId"] != in["id"] || out["id"] != client.SpanID().String() || out["kind"] != "CLIENT" ||
		in["kind"] != "SERVER" || in["parentId"] != nil || tags["n"] != "2" || tags["error"] != "true" || out["duration"].(float64) < 1 {
		t.Errorf("%v under %v", out, in)
	}
	if local, _ := out["localEndpoint"].(map[string]any); local["serviceName"] != "from-env" {
		t.Errorf("it is from %v", local)
	}
}

// TestOverGRPC: OTLP to TraceService.Export.
func TestOverGRPC(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var m emptypb.Empty // keeps what it does not know
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(s)
		md, _ := metadata.FromIncomingContext(s.Context())
		if method != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" || len(md["x-key"]) != 1 {
			return errors.New(method)
		}
		got <- m.ProtoReflect().GetUnknown()
		return s.SendMsg(new(emptypb.Empty))
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() { srv.Stop(); <-served }()
	p, err := export.Opener{Environment: environment("OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String(),
		"OTEL_EXPORTER_OTLP_HEADERS", "X-Key=a", "OTEL_RESOURCE_ATTRIBUTES", "service.name=from-env,team=a b")}.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	server, client := record(p)
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	requestOf(t, <-got, server, client)
}

// TestEnvironmentRefused: what cannot be read is said by the variable's name, and no value of a header is.
func TestEnvironmentRefused(t *testing.T) {
	t.Parallel()
	for _, c := range [][]string{
		{"OTEL_TRACES_EXPORTER", "jaeger"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "otel:4318"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_TRACES_EXPORTER", "otlp"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "1s", "OTEL_TRACES_EXPORTER", "otlp"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "secret", "OTEL_TRACES_EXPORTER", "otlp"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OTEL_TRACES_EXPORTER", "otlp"},
	} {
		_, err := export.Opener{Environment: environment(c...)}.FromEnvironment()
		if err == nil || !strings.Contains(err.Error(), c[0]) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", c, err)
		}
	}
	for _, c := range [][]string{{}, {"OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"}, {"OTEL_SDK_DISABLED", "true", "OTEL_TRACES_EXPORTER", "otlp"}} {
		if p, err := (export.Opener{Environment: environment(c...)}).FromEnvironment(); p != nil || err != nil {
			t.Errorf("%v: %v, %v", c, p, err)
		}
	}
	for sampler, want := range map[string]float64{"always_on": 100, "parentbased_always_off": 0, "parentbased_traceidratio": 25, "traceidratio": 25} {
		if got, err := (export.Opener{Environment: environment("OTEL_TRACES_SAMPLER", sampler, "OTEL_TRACES_SAMPLER_ARG", "0.25")}).Sampling(); err != nil || *got != want {
			t.Errorf("%s: %v, %v", sampler, got, err)
		}
	}
	for _, c := range [][]string{{"OTEL_TRACES_SAMPLER", "jaeger_remote"}, {"OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "2"}} {
		if _, err := (export.Opener{Environment: environment(c...)}).Sampling(); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
}

// stuck is a collector that never answers.
type stuck struct {
	taken chan int
	done  chan struct{}
}

func (s *stuck) Export(ctx context.Context, spans []export.Span) error {
	s.taken <- len(spans)
	<-ctx.Done()
	return ctx.Err()
}

func (s *stuck) Close() error { close(s.done); return nil }

// TestStuckCollector (attacks.md E-019): who ends a span never waits; what finds the queue full is dropped and counted, and Shutdown
// gives up when it is told to.
func TestStuckCollector(t *testing.T) {
	t.Parallel()
	s := &stuck{make(chan int, 100), make(chan struct{})}
	p := export.NewProvider(s, export.BatchOptions{Queue: 10, Batch: 2, Export: time.Hour})
	tracer := p.Tracer("test")
	end := func() {
		_, span := tracer.Start(context.Background(), "x")
		span.End()
	}
	end()
	end()
	<-s.taken // and that is all it takes
	for range 1000 {
		end()
	}
	if n := p.Dropped(); n < 980 || n > 1000 {
		t.Errorf("%d of 1000 spans were dropped, and 10 fit the queue", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Shutdown(ctx); err == nil {
		t.Error("nothing was lost")
	}
	<-s.done
	end() // is for nobody
}

type taking struct{ batches chan []export.Span }

func (s taking) Export(_ context.Context, spans []export.Span) error {
	s.batches <- spans
	return nil
}

func (taking) Close() error { return nil }

// TestBatches: a batch goes when it is full, after Delay, and at the end.
func TestBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := taking{make(chan []export.Span, 10)}
		p := export.NewProvider(s, export.BatchOptions{Batch: 3, Delay: time.Minute})
		tracer := p.Tracer("test")
		end := func(n int) {
			for range n {
				_, span := tracer.Start(context.Background(), "x")
				span.End()
			}
			synctest.Wait()
		}
		sizes := func() (all []int) {
			for {
				select {
				case b := <-s.batches:
					all = append(all, len(b))
				default:
					return all
				}
			}
		}
		end(4)
		if got := sizes(); len(got) != 1 || got[0] != 3 {
			t.Errorf("of four spans %v went", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := sizes(); len(got) != 1 || got[0] != 1 {
			t.Errorf("after a minute %v went", got)
		}
		end(2)
		if err := p.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sizes(); len(got) != 1 || got[0] != 2 {
			t.Errorf("at the end %v went", got)
		}
	})
}

// TestParents: a parent that is not sampled has no spans under it, and one that is gives its trace and state.
func TestParents(t *testing.T) {
	t.Parallel()
	s := taking{make(chan []export.Span, 10)}
	p := export.NewProvider(s, export.BatchOptions{Batch: 1})
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx, span := p.Tracer("x").Start(trace.ContextWithSpanContext(t.Context(), parent), "no")
	if span.End(); span.IsRecording() || !trace.SpanContextFromContext(ctx).Equal(parent) {
		t.Errorf("%v", span.SpanContext())
	}
	_, span = p.Tracer("x").Start(trace.ContextWithSpanContext(t.Context(), parent.WithTraceFlags(trace.FlagsSampled)), "yes")
	span.End()
	if got := <-s.batches; got[0].Name != "yes" || got[0].Parent.SpanID() != parent.SpanID() || got[0].Context.TraceID() != parent.TraceID() {
		t.Errorf("%v", got)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}
