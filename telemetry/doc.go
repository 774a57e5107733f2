// Package telemetry keeps the metrics of a mesh: Istio's standard metrics of requests, gRPC's own of RPCs, and whatever
// else a part of the mesh has counted itself.
//
// There is one [Store] in a mesh. What is recorded for each request goes through two handles that are looked up once and
// kept: a [Group] is a caller and a callee, a [Series] one outcome between them. Recording is a handful of atomic additions:
//
//	group := store.Group(telemetry.Labels{Reporter: telemetry.Source, Source: us, Destination: them, Service: service})
//	group.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{Duration: took})
//
// A [Tracer] makes the spans of a mesh by OpenTelemetry's API, and says what of trace context goes on.
//
// The store goes out as Prometheus's text ([Store.WriteText]; it is an http.Handler), through telemetry/prometheus as a
// client_golang Collector, and through telemetry/otel as an OpenTelemetry Producer.
//
// It starts no goroutine, writes nowhere by itself and knows no exporter. Layer L1.
package telemetry
