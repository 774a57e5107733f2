package export

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// A Span is one that has ended.
type Span struct {
	Name            string
	Scope           string // the instrumentation's name
	Kind            trace.SpanKind
	Context, Parent trace.SpanContext
	Start, End      time.Time
	Attributes      []attribute.KeyValue // the last one of a name counts
	Status          codes.Code
	Description     string // of an error
}

// An Exporter takes spans somewhere. It is called from one goroutine, never after Close.
type Exporter interface {
	Export(ctx context.Context, spans []Span) error
	Close() error
}

// BatchOptions say how spans are kept until they are exported, as OTEL_BSP_… does. Zero values are the defaults.
type BatchOptions struct {
	Queue  int           // spans that wait, 2,048: what comes then is dropped
	Batch  int           // spans of one export, 512
	Delay  time.Duration // of a batch that is not full, 5 s
	Export time.Duration // of one export with all its tries, 30 s
}

func (o BatchOptions) orDefaults() BatchOptions {
	def := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	def(&o.Queue, 2048)
	def(&o.Batch, 512)
	if o.Delay <= 0 {
		o.Delay = 5 * time.Second
	}
	if o.Export <= 0 {
		o.Export = 30 * time.Second
	}
	return o
}

// A Provider is a TracerProvider of OpenTelemetry's API for the spans of a mesh, which have neither events nor links. What it is
// asked for it records, unless the parent is not sampled: a mesh samples. It is safe for concurrent use.
type Provider struct {
	embedded.TracerProvider

	to      Exporter
	o       BatchOptions
	queue   chan Span
	dropped atomic.Uint64

	ending sync.RWMutex // held for reading while a span is put into the queue
	ended  bool
	close  sync.Once
	stop   context.CancelFunc // gives up what is being exported
	done   chan struct{}
}

// NewProvider makes a provider whose spans go to e in batches, from one goroutine that Shutdown ends.
func NewProvider(e Exporter, o BatchOptions) *Provider {
	o = o.orDefaults()
	ctx, stop := context.WithCancel(context.Background())
	p := &Provider{to: e, o: o, queue: make(chan Span, o.Queue), stop: stop, done: make(chan struct{})}
	go p.run(ctx)
	return p
}

// Dropped gives how many spans found the queue full.
func (p *Provider) Dropped() uint64 { return p.dropped.Load() }

// Shutdown takes no more spans and waits until the last have been exported. When ctx ends it gives them up, and fails.
func (p *Provider) Shutdown(ctx context.Context) error {
	p.ending.Lock()
	p.ended = true
	p.ending.Unlock()
	p.close.Do(func() { close(p.queue) })
	select {
	case <-p.done:
		p.stop()
		return nil
	case <-ctx.Done():
		p.stop()
		<-p.done
		return ctx.Err()
	}
}

// run exports a batch when it is full, or Delay after its first span.
func (p *Provider) run(ctx context.Context) {
	defer close(p.done)
	defer p.to.Close()
	var batch []Span
	timer := time.NewTimer(p.o.Delay)
	timer.Stop()
	for {
		select {
		case s, ok := <-p.queue:
			if ok {
				if batch = append(batch, s); len(batch) == 1 {
					timer.Reset(p.o.Delay)
				}
				if len(batch) < p.o.Batch {
					continue
				}
			}
			timer.Stop()
			batch = p.export(ctx, batch)
			if !ok {
				return
			}
		case <-timer.C:
			batch = p.export(ctx, batch)
		}
	}
}

// export gives an empty batch. What goes wrong is the exporter's to tell.
func (p *Provider) export(ctx context.Context, batch []Span) []Span {
	if len(batch) == 0 || ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.Export)
	defer cancel()
	_ = p.to.Export(ctx, batch)
	return nil
}

// put queues a span that has ended. It never waits.
func (p *Provider) put(s *Span) {
	p.ending.RLock()
	defer p.ending.RUnlock()
	if p.ended {
		return
	}
	select {
	case p.queue <- *s:
	default:
		p.dropped.Add(1)
	}
}

// Tracer implements trace.TracerProvider.
func (p *Provider) Tracer(name string, _ ...trace.TracerOption) trace.Tracer {
	return &tracer{provider: p, scope: name}
}

type tracer struct {
	embedded.Tracer

	provider *Provider
	scope    string
}

// Start implements trace.Tracer.
func (t *tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	config := trace.NewSpanStartConfig(opts...)
	parent := trace.SpanContextFromContext(ctx)
	if config.NewRoot() {
		parent = trace.SpanContext{}
	}
	if parent.IsValid() && !parent.IsSampled() {
		return ctx, trace.SpanFromContext(trace.ContextWithSpanContext(ctx, parent))
	}
	c := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceFlags: parent.TraceFlags() | trace.FlagsSampled, TraceState: parent.TraceState()}
	if !parent.IsValid() {
		binary.BigEndian.PutUint64(c.TraceID[:], rand.Uint64())
		binary.BigEndian.PutUint64(c.TraceID[8:], rand.Uint64()|1) // never 0
		c.TraceFlags |= trace.FlagsRandom
	}
	binary.BigEndian.PutUint64(c.SpanID[:], rand.Uint64()|1)
	s := &live{provider: t.provider, span: Span{Name: name, Scope: t.scope, Kind: trace.ValidateSpanKind(config.SpanKind()), Context: trace.NewSpanContext(c),
		Parent: parent, Start: config.Timestamp(), Attributes: config.Attributes()}}
	if s.span.Start.IsZero() {
		s.span.Start = time.Now()
	}
	return trace.ContextWithSpan(ctx, s), s
}

// A live span has not ended.
type live struct {
	noop.Span // of what a mesh does not do

	provider *Provider
	mu       sync.Mutex
	span     Span
	ended    bool
}

// SpanContext implements trace.Span, as the methods below do.
func (s *live) SpanContext() trace.SpanContext { return s.span.Context }

func (s *live) IsRecording() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

func (s *live) TracerProvider() trace.TracerProvider { return s.provider }

func (s *live) SetName(name string) { s.change(func(f *Span) { f.Name = name }) }

func (s *live) SetStatus(code codes.Code, description string) {
	s.change(func(f *Span) { f.Status, f.Description = code, description })
}

func (s *live) SetAttributes(list ...attribute.KeyValue) {
	s.change(func(f *Span) { f.Attributes = append(f.Attributes, list...) })
}

func (s *live) End(opts ...trace.SpanEndOption) {
	config := trace.NewSpanEndConfig(opts...)
	ended := false
	s.change(func(f *Span) {
		if f.End = config.Timestamp(); f.End.IsZero() {
			f.End = f.Start.Add(time.Since(f.Start)) // by the monotonic clock
		}
		f.Attributes = lastOf(f.Attributes)
		s.ended, ended = true, true
	})
	if ended {
		s.provider.put(&s.span)
	}
}

// change does something to a span that has not ended.
func (s *live) change(f func(*Span)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		f(&s.span)
	}
}

// lastOf keeps the last attribute of each name, where the first stood.
func lastOf(list []attribute.KeyValue) []attribute.KeyValue {
	at := make(map[attribute.Key]int, len(list))
	kept := make([]attribute.KeyValue, 0, len(list))
	for _, a := range list {
		if i, ok := at[a.Key]; ok {
			kept[i] = a
			continue
		}
		at[a.Key] = len(kept)
		kept = append(kept, a)
	}
	return kept
}
