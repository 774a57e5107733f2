package transport

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
)

// Metrics gives the store that the engine's calls and requests are recorded in, nil for none.
func (e *Engine) Metrics() *telemetry.Store { return e.metrics }

// Now reads the engine's clock: the time since some fixed moment.
func (e *Engine) Now() time.Duration { return e.now() }

// Workload gives what metrics call the program.
func (e *Engine) Workload() telemetry.Workload { return e.workload }

// self gives the engine's own workload, with its principal where it has proved itself by mutual TLS.
func (e *Engine) self(proved bool) telemetry.Workload {
	w := e.workload
	if proved && e.identity != nil {
		if id := e.identity.ID(); !id.IsZero() {
			w.Principal = id.String()
		}
	}
	return w
}

// measure gives an endpoint of the cluster its metrics at its first call, where there are any: its labels say which workload it is of. Who
// it is, is what a handshake with it has to prove: its service account, where discovery knows that.
func (e *Engine) measure(ep *balance.Endpoint, c *snapshot.Cluster) {
	if e.metrics == nil || ep.Metrics() != nil {
		return
	}
	d, t := ep.Def, e.EndpointPolicy(&c.Policy, ep.Def).TLS
	_, name, _ := strings.Cut(d.Workload, "/")
	there := telemetry.WorkloadOf(name, d.Namespace, d.Labels)
	secured := t != nil && t.Mesh
	if secured && d.ServiceAccount != "" && e.identity != nil {
		there.Principal = "spiffe://" + e.identity.ID().TrustDomain() + "/ns/" + d.Namespace + "/sa/" + d.ServiceAccount
	}
	ep.Measure(e.metrics.Group(telemetry.Labels{Reporter: telemetry.Source, Source: e.self(secured), Destination: there,
		Service: serviceOf(c.Set, d)}))
}

// serviceOf names the service of a set; whoever declares its endpoints gives a host of no Kubernetes its namespace.
func serviceOf(k discovery.Key, d *discovery.Endpoint) telemetry.Service {
	return telemetry.ServiceOf(k.Host, d.Namespace)
}

// metrics gives what the call is recorded in, nil for nothing. Where no endpoint was tried that says how far it came; a host
// that the mesh does not know is no label.
func (c *Call) metrics() *telemetry.Group {
	e := c.engine
	switch {
	case e == nil || e.metrics == nil:
		return nil
	case c.heard != nil:
		return c.heard
	case c.last != nil && c.last.Metrics() != nil:
		if had := c.last.Heard(); had != nil {
			return had.Metrics
		}
		return c.last.Metrics()
	}
	l := telemetry.Labels{Reporter: telemetry.Source, Source: e.self(false)}
	switch {
	case c.cluster != nil:
		l.Service = telemetry.ServiceOf(c.cluster.def.Set.Host, "")
	case c.service != "":
		l.Service = telemetry.ServiceOf(c.service, "")
	case c.state != nil && c.state.policy == RegistryOnly:
		l.Service.Name = BlackHoleCluster
	default:
		l.Service.Name = PassthroughCluster
	}
	return e.metrics.Group(l)
}

// Unsent gives what requests of the program are recorded in that came to no call: nobody can tell where they would have
// gone. It is nil for nothing.
func (e *Engine) Unsent() *telemetry.Group {
	if e.metrics == nil {
		return nil
	}
	return e.metrics.Group(telemetry.Labels{Reporter: telemetry.Source, Source: e.self(false)})
}

// Record puts the call into the metrics, once, when all of it has ended. o says what the caller was answered, with the flags
// that are the driver's to know. The duration is the time since Begin, which it gives.
func (c *Call) Record(o telemetry.Outcome, m telemetry.Measurement) time.Duration {
	g := c.metrics()
	if g == nil {
		return 0
	}
	o.Flags |= c.flags
	m.Duration = c.engine.now() - c.began
	g.Series(o).Record(m)
	c.trace.End(o, m)
	return m.Duration
}

// Failure gives the outcome of a call that ended with an error, as a proxy would answer it. rpc says that the caller speaks
// gRPC.
func Failure(err error, rpc bool) telemetry.Outcome {
	e, ok := call.AsError(err)
	if !ok {
		r := call.ReasonConnect // of a call that passed through, of which no more is known
		if o := classify(context.Background(), nil, err); o.Reason != call.ReasonReset {
			r = o.Reason
		}
		if errors.Is(err, context.Canceled) {
			r = call.ReasonCanceled
		}
		e = &call.Error{Reason: r}
	}
	o := telemetry.Outcome{Code: uint16(e.HTTPStatus()), Flags: e.Reason.Flags()}
	switch {
	case e.Reason == call.ReasonCanceled:
		o.Code = 0 // nobody was answered (Envoy)
		if rpc {
			o.GRPC = 1 + 1 // CANCELLED
		}
	case rpc:
		o.Code, o.GRPC = http.StatusOK, uint8(e.GRPCStatusCode())+1
	}
	return o
}

// answeredBy records a call that the rules answer, or that passed through: that is known by its head.
func (c *Call) answeredBy(req *http.Request, q *call.Request, resp *http.Response) {
	if c.engine.metrics == nil {
		return
	}
	o := telemetry.Outcome{Code: statusCode(resp.StatusCode)}
	if speaksGRPC(req.Header) {
		o.GRPC = grpcStatus(resp.Header)
	}
	m := telemetry.Measurement{RequestBytes: length(req.ContentLength), ResponseBytes: length(resp.ContentLength)}
	m.Duration = c.Record(o, m)
	if x := c.Entry(q, o, m, nil); x != nil {
		x.Response = call.HTTPHeaders(resp.Header)
		c.engine.Log(x)
	}
}

func length(n int64) uint64 { return uint64(max(n, 0)) }

// statusCode makes a label of a status: three digits.
func statusCode(code int) uint16 {
	if code < 0 || code > 999 {
		return 0
	}
	return uint16(code)
}

// grpcStatus reads the field of that name, plus one; UNKNOWN where it says nothing (gRPC over HTTP/2).
func grpcStatus(h http.Header) uint8 {
	v := h["Grpc-Status"]
	if len(v) == 0 {
		return 2 + 1
	}
	return telemetry.GRPCStatus(v[0])
}

// answering gives what a call with an answer will be recorded in if nothing goes wrong any more, nil for nothing, and whether
// it is an RPC: only its end says how it went.
func (c *Call) answering(req *http.Request, resp *http.Response) (s *telemetry.Series, rpc bool) {
	g := c.metrics()
	if g == nil {
		return nil, false
	}
	o := telemetry.Outcome{Code: statusCode(resp.StatusCode), Flags: c.flags}
	if rpc = speaksGRPC(req.Header); rpc {
		o.GRPC = grpcStatus(resp.Header)
	}
	return g.Series(o), rpc
}
