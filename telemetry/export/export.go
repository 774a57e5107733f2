// Package export takes spans to a collector: by OTLP over gRPC and over HTTP, and by Zipkin's JSON. A [Provider] is a small
// TracerProvider of OpenTelemetry's API, for the mesh's own spans: those that have ended wait in a bounded queue and are handed over
// in batches. For spans of a program's own there is OpenTelemetry's SDK, whose provider mesh.WithTracerProvider takes as well; it
// and its exporters would be five requirements more here.
//
//	open := export.Opener{Service: "ratings.default"}.Open
//	m, err := mesh.New(ctx, mesh.WithTraceCollectors(open, os.LookupEnv))
//
// No call waits for a collector. Of spans that find the queue full, or that the collector has not taken after a few tries,
// nothing is left. Layer L7.
package export

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// An Opener makes collectors for one program. It is immutable.
type Opener struct {
	// Service is the program's name, service.name. OTEL_SERVICE_NAME goes before it, and OTEL_RESOURCE_ATTRIBUTES adds to it.
	Service string
	// Environment looks variables up. Default: there are none.
	Environment func(name string) (value string, ok bool)
	// Report hears when a collector stops taking spans, with the reason, and with nil when it takes them again. It is called
	// concurrently. Default: nobody does.
	Report func(collector string, err error)
}

// Open makes the collector of a document, which is mesh.OpenCollector: it is called through the mesh where the mesh knows it, and
// such calls have no spans. Timeouts of the document count, else 10 s for each try.
func (o Opener) Open(e *transport.Engine, p *telemetry.TraceProvider) (telemetry.Collector, error) {
	address := net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))
	headers := maps.Clone(p.Headers)
	for name, variable := range p.Variables {
		if headers == nil {
			headers = make(map[string]string, len(p.Variables))
		}
		headers[name] = o.variables()(variable)
	}
	name := p.Name + " (" + address + ")"
	if p.Kind == telemetry.OTLPGRPC {
		options := grpcmesh.DialOptions(engine{e}, grpcmesh.WithCredentials(insecure.NewCredentials()))
		conn, err := grpc.NewClient(grpcmesh.Target(address), options...)
		if err != nil {
			return nil, fmt.Errorf("dial collector %s: %w", name, err)
		}
		return o.collector(name, &sender{to: &overGRPC{conn: conn, headers: headers}, encode: encodeOTLP, timeout: p.Timeout})
	}
	outside := new(http.Transport)
	to := &overHTTP{client: transport.NewRoundTripper(e, outside), done: outside.CloseIdleConnections, headers: headers,
		url: &url.URL{Scheme: "http", Host: address, Path: p.Path}}
	return o.collector(name, toHTTP(to, p.Kind, p.Timeout))
}

func toHTTP(to *overHTTP, kind telemetry.TraceKind, timeout time.Duration) *sender {
	s := &sender{to: to, encode: encodeOTLP, timeout: timeout}
	if to.media = "application/x-protobuf"; kind == telemetry.Zipkin {
		to.media, s.encode = "application/json", encodeZipkin
	}
	return s
}

// dial makes the collector of an address outside the mesh.
func (o Opener) dial(t *target) (*Provider, error) {
	name := t.url.Redacted()
	if t.kind == telemetry.OTLPGRPC {
		creds := insecure.NewCredentials()
		if t.url.Scheme == "https" {
			creds = credentials.NewTLS(nil)
		}
		conn, err := grpc.NewClient(t.url.Host, grpc.WithTransportCredentials(creds))
		if err != nil {
			return nil, fmt.Errorf("dial collector %s: %w", name, err)
		}
		return o.collector(name, &sender{to: &overGRPC{conn: conn, headers: t.headers}, encode: encodeOTLP, timeout: t.timeout})
	}
	through := &http.Transport{Proxy: nil, ForceAttemptHTTP2: true}
	return o.collector(name, toHTTP(&overHTTP{client: through, done: through.CloseIdleConnections, headers: t.headers, url: t.url}, t.kind, t.timeout))
}

// collector joins what is known of the program, and how spans are kept.
func (o Opener) collector(name string, s *sender) (*Provider, error) {
	s.name, s.report = name, o.Report
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	v := o.variables()
	s.resource = v.resource(o.Service)
	batch, err := v.batch()
	if err != nil {
		return nil, errors.Join(err, s.to.close())
	}
	return NewProvider(s, batch), nil
}

type engine struct{ e *transport.Engine }

func (e engine) Engine() *transport.Engine { return e.e }
