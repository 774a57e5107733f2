package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// An OpenCollector makes what takes spans to a collector. It must not connect, and e is for reaching services of the mesh.
type OpenCollector func(e *transport.Engine, p *telemetry.TraceProvider) (telemetry.Collector, error)

// flushTime is how long a collector has to take what is left when it is not asked any more.
const flushTime = 5 * time.Second

// traces are the mesh's tracer and the collector that documents name. A nil one makes no spans.
type traces struct {
	tracer *telemetry.Tracer
	open   OpenCollector
	log    *slog.Logger

	mu       sync.Mutex // guards what follows
	named    *telemetry.TraceProvider
	to       telemetry.Collector // nil for none
	closed   bool
	retiring sync.WaitGroup
}

func newTraces(o Options, w telemetry.Workload) *traces {
	if o.Tracing.Provider == nil && o.OpenCollector == nil {
		return nil
	}
	o.Tracing.Rand, o.Tracing.Workload = o.Rand, w
	return &traces{tracer: telemetry.NewTracer(o.Tracing), open: o.OpenCollector, log: o.Logger}
}

func (t *traces) of() *telemetry.Tracer {
	if t == nil {
		return nil
	}
	return t.tracer
}

// follow does as the live configuration says.
func (t *traces) follow(e *transport.Engine, c *telemetry.Tracing) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	var named *telemetry.TraceProvider
	if c != nil && t.open != nil {
		named = c.Provider
	}
	old := t.to
	if !named.Same(t.named) {
		t.named, t.to = named, nil
		if named != nil {
			to, err := t.open(e, named)
			if err != nil {
				t.log.Error("mesh makes no spans for a collector", "provider", named.Name, "error", err)
			} else {
				t.to = to
			}
		}
	}
	if t.to != nil {
		t.tracer.Set(c, t.to)
	} else {
		t.tracer.Set(c, nil)
	}
	if old != nil && old != t.to {
		t.retiring.Go(func() { t.end(old) })
	}
}

// end has a collector take what is left.
func (t *traces) end(c telemetry.Collector) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := c.Shutdown(ctx); err != nil {
		t.log.Warn("mesh has lost spans", "error", err)
	}
}

// close waits until what is left of spans has gone, or its time is over.
func (t *traces) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	last := t.to
	t.to, t.closed = nil, true
	t.mu.Unlock()
	if last != nil {
		t.end(last)
	}
	t.retiring.Wait()
}
