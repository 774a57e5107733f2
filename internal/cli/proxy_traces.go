package cli

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/export"
)

// flushTime is how long a collector has to take the last spans.
const flushTime = 5 * time.Second

// tracing gives the options by which spans go to the collectors of documents, and to the one of OTEL_… variables where no document
// names one. flush, which is for after the mesh has ended, waits until the latter has taken what is left.
func tracing(w *mesh.Workload, log *slog.Logger) (opts []mesh.Option, flush func(), err error) {
	of := telemetry.WorkloadOf(w.Name, w.Namespace, w.Labels)
	open := export.Opener{Service: of.CanonicalService + "." + of.Namespace, Environment: os.LookupEnv, Report: func(collector string, err error) {
		if err != nil {
			log.Warn("spans are lost: the collector does not take them", "collector", collector, "error", err)
		} else {
			log.Info("the collector takes spans again", "collector", collector)
		}
	}}
	if of.CanonicalService == "" {
		open.Service = "heddle"
	}
	opts = []mesh.Option{mesh.WithTraceCollectors(open.Open, os.LookupEnv)}
	share, err := open.Sampling()
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	if share != nil {
		opts = append(opts, mesh.WithTraceSampling(*share))
	}
	c, err := open.FromEnvironment()
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	if c == nil {
		return opts, func() {}, nil
	}
	opts = append(opts, mesh.WithTracerProvider(c))
	return opts, func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			log.Warn("the last spans are lost", "error", err)
		}
	}, nil
}
