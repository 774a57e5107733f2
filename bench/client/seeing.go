package main

import (
	"io"
	"strings"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/heddlemesh/mesh"
)

// seen is before the names of contenders whose calls are watched, or begin a trace of their own as those do.
const seen = "see-"

// seeings are what watching costs: metrics, which the mesh always has, a line of the access log in Istio's text, and a trace that is not
// sampled. otelhttp and otelgrpc have metrics and such traces, by OpenTelemetry's SDK, and no access log.
var seeings = []comparison{
	{"metrics, text access log, unsampled tracing ÷ metrics alone", "see-mesh-all", "see-mesh-metrics", 0},
	{"metrics and text access log ÷ metrics alone", "see-mesh-log", "see-mesh-metrics", 0},
	{"metrics and unsampled tracing ÷ metrics alone", "see-mesh-trace", "see-mesh-metrics", 0},
	{"all of them ÷ bare http.Transport", "see-mesh-all", "see-bare", 0.70},
	{"all of them ÷ Transport with otelhttp, traces and metrics", "see-mesh-all", "see-otelhttp", 0.42},
	{"RPC, all of them ÷ metrics alone", "see-grpc-mesh-all", "see-grpc-mesh-metrics", 0},
	{"RPC, all of them ÷ grpc-go with round_robin", "see-grpc-mesh-all", "see-grpc-bare", 1.05},
	{"RPC, all of them ÷ grpc-go with otelgrpc, traces and metrics", "see-grpc-mesh-all", "see-grpc-otel", 0},
}

// observed gives what a mesh of the name has beside metrics.
func observed(name string) (opts []mesh.Option) {
	if !strings.HasPrefix(name, seen) {
		return nil
	}
	whole := strings.HasSuffix(name, "-all")
	if whole || strings.HasSuffix(name, "-log") {
		opts = append(opts, mesh.WithAccessLogFile("/dev/stdout", false), mesh.WithAccessLogStream("/dev/stdout", io.Discard))
	}
	if whole || strings.HasSuffix(name, "-trace") {
		opts = append(opts, mesh.WithTracerProvider(neverSampled()), mesh.WithTraceSampling(0))
	}
	return opts
}

func neverSampled() *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
}

// measured records measurements that nobody collects.
func measured() *sdkmetric.MeterProvider {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}
