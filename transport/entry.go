package transport

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// Each request is told at its end by one entry: to the access log where there is one, and to Failures where it failed. Drivers
// fill in what they know of it.

var entries = sync.Pool{New: func() any { return new(accesslog.Entry) }}

// Entry begins the entry of a request that came in, or of one of the program's that came to no call; nil where nobody hears of
// it. Engine.Log ends it.
func (e *Engine) Entry(r telemetry.Reporter, o telemetry.Outcome, m telemetry.Measurement) *accesslog.Entry {
	if !e.access.On(r) && !failed(o) {
		return nil
	}
	x := entries.Get().(*accesslog.Entry)
	x.Reporter, x.Outcome, x.Measurement = r, o, m
	return x
}

// Logged reports whether there is an access log of what the reporter tells.
func (e *Engine) Logged(r telemetry.Reporter) bool { return e.access.On(r) }

// Answers reports whether entries are to have the headers of answers.
func (e *Engine) Answers() bool { return e.access != nil && e.access.Answers() }

// Log tells an entry to whoever hears of it. It is not to be used afterwards; nil tells nothing.
func (e *Engine) Log(x *accesslog.Entry) {
	if x == nil {
		return
	}
	if x.Start.IsZero() {
		x.Start = time.Now().Add(-x.Duration)
	}
	if failed(x.Outcome) && !x.Ruled {
		e.failures.add(x)
	}
	if e.access.On(x.Reporter) {
		e.access.Log(x)
	}
	*x = accesslog.Entry{}
	entries.Put(x)
}

// detailsAnswered are Envoy's details of an answer that is not the mesh's own.
const detailsAnswered = "via_upstream"

// Entry begins the entry of the call, which o and m say the end of; nil where nobody hears of it. err is what the program was
// told in the place of an answer.
func (c *Call) Entry(q *call.Request, o telemetry.Outcome, m telemetry.Measurement, err error) *accesslog.Entry {
	if c.engine == nil {
		return nil
	}
	o.Flags |= c.flags
	ruled := c.reply.Status != 0 && err == nil
	if ruled && !c.engine.access.On(telemetry.Source) {
		return nil
	}
	x := c.engine.Entry(telemetry.Source, o, m)
	if x == nil {
		return nil
	}
	c.describe(x, err)
	x.Ruled = ruled
	x.Method, x.Scheme, x.Authority, x.Path, x.Query = q.Method, q.Scheme, q.Authority, q.Path, q.Query
	x.Protocol, x.Request = q.Protocol, q.Headers
	return x
}

// describe says where the call went.
func (c *Call) describe(x *accesslog.Entry, err error) {
	x.Err, x.Reason = err, call.ReasonOf(err)
	x.Details = c.details(x.Reason)
	if err == nil && x.Details == "" && x.Code != 0 {
		x.Details = detailsAnswered
	}
	if c.route != nil {
		x.Route = c.routeName
	}
	switch {
	case c.cluster != nil:
		x.Cluster = c.cluster.def.Name
	case c.service == "" && x.Reason == call.ReasonUnknownHost:
		x.Cluster = BlackHoleCluster
	case c.service == "":
		x.Cluster = PassthroughCluster
	}
	if c.last != nil {
		x.Endpoint = c.last.Def.Address.String()
	}
	x.Attempts, x.Tries = c.attempts, c.story
}

// details gives Envoy's response code details of a call that ended for the reason, or by the rules' own answer.
func (c *Call) details(r call.Reason) string {
	switch {
	case r == call.ReasonTimeout && c.last != nil && c.late:
		return "upstream_per_try_timeout"
	case r != call.ReasonNone:
		return r.Details()
	}
	return c.reply.Details
}

// mostTold bounds the attempts that a call tells of beside its last.
const mostTold = 16

// tell notes an attempt that another follows, for whoever is told of the call's end.
func (c *Call) tell(ep *balance.Endpoint, o *call.Outcome) {
	if ep == nil || len(c.story) >= mostTold {
		return
	}
	why := o.Reason.String()
	if o.Reason == call.ReasonNone {
		why = "answered"
	}
	c.story = append(c.story, accesslog.Try{Endpoint: ep.Def.Address.String(), Status: o.Status, Reason: o.Reason, Why: why})
}

// entryAt begins the entry of a call whose answer's head is there; nil where nobody hears of it. Log is for its body's end.
func (c *Call) entryAt(req *http.Request, resp *http.Response, a Attempt) *accesslog.Entry {
	o := telemetry.Outcome{Code: statusCode(resp.StatusCode), Flags: c.flags}
	x := c.engine.Entry(telemetry.Source, o, telemetry.Measurement{RequestBytes: length(req.ContentLength)})
	if x == nil {
		return nil
	}
	c.describe(x, nil)
	x.UpstreamTime = c.engine.now() - a.began
	if fillEntry(x, req); c.engine.Answers() {
		x.Response = call.HTTPHeaders(maps.Clone(resp.Header)) // it is the program's from now on
	}
	return x
}

// ended tells of a call whose answer has no body, and endedWith of one whose body has ended.
func (e *Engine) ended(x *accesslog.Entry, s *telemetry.Series, m telemetry.Measurement) {
	if x == nil {
		return
	}
	if x.Measurement = m; s != nil {
		x.Outcome = s.Outcome()
	}
	e.Log(x)
}

func (e *Engine) endedWith(c *counts, o telemetry.Outcome, m telemetry.Measurement) {
	x := c.entry
	if x == nil {
		if x = e.Entry(telemetry.Source, o, m); x == nil || c.resp.Request == nil {
			return
		}
		fillEntry(x, c.resp.Request)
	}
	x.Outcome, x.Measurement = o, m
	if o.Flags&call.FlagDC != 0 {
		x.Details = call.ReasonCanceled.Details()
	}
	if e.Answers() {
		x.Trailer = call.HTTPHeaders(c.resp.Trailer)
	}
	e.Log(x)
}

// broke tells of a call whose answer has broken off, of which less was kept.
func (e *Engine) broke(b *trackedBody, o telemetry.Outcome, m telemetry.Measurement) {
	x := e.Entry(telemetry.Source, o, m)
	if x == nil {
		return
	}
	fillEntry(x, b.req)
	x.Cluster, x.Endpoint, x.Attempts, x.Details = b.attempt.cluster.def.Name, b.attempt.Endpoint.Def.Address.String(), 1, detailsAnswered
	e.Log(x)
}

// fillEntry writes what a net/http request says of itself.
func fillEntry(x *accesslog.Entry, req *http.Request) {
	x.Method, x.Authority, x.Protocol, x.Request = req.Method, req.Host, protocolName(req), call.HTTPHeaders(req.Header)
	if x.Method == "" {
		x.Method = http.MethodGet
	}
	if u := req.URL; u != nil {
		x.Path, x.Query, x.Scheme = rawPath(u), u.RawQuery, u.Scheme
		if x.Authority == "" {
			x.Authority = u.Host
		}
	}
}

// addrPort reads an address of net/http's, "" and what is none as the zero one.
func addrPort(s string) netip.AddrPort {
	a, _ := netip.ParseAddrPort(s)
	return a
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// inboundCluster gives Istio's name of the cluster of a port of the workload.
func (e *Engine) inboundCluster(port uint16) string {
	slot := &e.ports[port%uint16(len(e.ports))]
	if had := slot.Load(); had != nil && had.port == port {
		return had.name
	}
	n := &inboundName{port, "inbound|" + strconv.Itoa(int(port)) + "||"}
	slot.Store(n)
	return n.name
}

// An inboundName is one that was made.
type inboundName struct {
	port uint16
	name string
}

// Received writes what the mesh knows of a request that came in on a connection with these addresses.
func (e *Engine) Received(x *accesslog.Entry, g *telemetry.Group, local, remote netip.AddrPort) {
	if x == nil {
		return
	}
	if x.Local, x.Remote = local, remote; local.IsValid() {
		x.Cluster = e.inboundCluster(local.Port())
	}
	x.Route = "default" // Istio's name of the one route of a workload's port
	if g != nil {
		x.Peer = g.Labels().Source.Principal
	}
	if x.Details == "" && x.Code != 0 {
		x.Details = detailsAnswered
	}
}
