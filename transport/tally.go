package transport

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// A Tally tells of one connection that is not HTTP: its bytes go into the metrics as they pass, and at its end it is a line of the
// access log. What that needs is looked up once, at the beginning. Received and Sent may be called concurrently, the others not.
type Tally struct {
	engine         *Engine
	reporter       telemetry.Reporter
	labels         *telemetry.Labels // nil without metrics
	conns          *telemetry.Conns  // of what goes well; nil before Opened, and without metrics
	entry          *accesslog.Entry  // nil where nobody hears of it, and before it is known that somebody does
	began          time.Time
	received, sent atomic.Uint64
}

// Ends are the addresses of a connection that was taken: where it was made to, who made it, who is at its other end where that is
// another, and the host that its ClientHello names.
type Ends struct {
	Local, Remote, Direct netip.AddrPort
	ServerName            string
}

// Tally begins that of the call's connection, which is open, or has come to nothing where err is not nil.
func (c *Call) Tally(began time.Time, at Ends, err error) *Tally {
	t := &Tally{engine: c.engine, reporter: telemetry.Source, began: began}
	if g := c.metrics(); g != nil {
		t.labels = g.Labels()
	}
	if err != nil || t.engine.access.On(t.reporter) {
		t.entry = &accesslog.Entry{Local: at.Local, Remote: at.Remote, SNI: at.ServerName}
		c.describe(t.entry, err)
		t.entry.Details = "" // it is of answers
	}
	t.open()
	return t
}

// Tally begins that of a connection to the workload, from a proved caller or, where that is nil, from anybody. said is what he says of himself,
// telemetry.PeerMetadata, "" for nothing.
func (e *Engine) Tally(began time.Time, at Ends, caller *Caller, said string) *Tally {
	t := &Tally{engine: e, reporter: telemetry.Destination, began: began}
	g := e.Arrived(caller, "", said)
	if g != nil {
		t.labels = g.Labels()
	}
	t.entry = &accesslog.Entry{SNI: at.ServerName, Direct: at.Direct}
	e.Received(t.entry, g, at.Local, at.Remote)
	t.entry.Route = ""
	t.open()
	return t
}

func (t *Tally) open() {
	if t.labels != nil {
		t.conns = t.engine.metrics.Conns(*t.labels, 0)
	}
}

// Opened says that the connection goes on to an endpoint, over one that begins at local.
func (t *Tally) Opened(endpoint string, local netip.AddrPort) {
	if t.conns != nil {
		t.conns.Opened()
	}
	switch {
	case t.reporter == telemetry.Destination && !t.engine.access.On(t.reporter):
		t.entry = nil
	case t.entry != nil:
		t.entry.UpstreamLocal = local
		if t.entry.Endpoint == "" {
			t.entry.Endpoint = endpoint
		}
		t.entry.Attempts = max(t.entry.Attempts, 1)
	}
}

// Received counts bytes that have come from the caller, and Sent those that it was sent.
func (t *Tally) Received(n int) {
	t.received.Add(uint64(n))
	if t.conns != nil {
		t.conns.Received(uint64(n))
	}
}

// Sent is described at Received.
func (t *Tally) Sent(n int) {
	t.sent.Add(uint64(n))
	if t.conns != nil {
		t.conns.Sent(uint64(n))
	}
}

// Closed ends a connection that was Opened.
func (t *Tally) Closed() {
	if t.conns != nil {
		t.conns.Closed()
	}
	t.tell(0)
}

// Failed ends one that was not, for the reason that the flags say, or for what policies say against it.
func (t *Tally) Failed(flags call.Flags, terminated string, err error) {
	if t.labels != nil {
		failed := t.engine.metrics.Conns(*t.labels, flags)
		failed.Opened()
		failed.Closed()
	}
	if t.entry != nil {
		t.entry.Terminated = terminated
		if t.entry.Err = err; t.entry.Reason == call.ReasonNone {
			t.entry.Reason = call.ReasonOf(err)
		}
		t.tell(flags)
	}
}

// tell tells of the end.
func (t *Tally) tell(flags call.Flags) {
	x := t.entry
	if x == nil {
		return
	}
	x.Reporter, x.Start, x.Duration, x.Flags = t.reporter, t.began, time.Since(t.began), flags
	x.RequestBytes, x.ResponseBytes = t.received.Load(), t.sent.Load()
	if flags != 0 || x.Terminated != "" {
		t.engine.failures.add(x)
	}
	if t.engine.access.On(t.reporter) {
		t.engine.access.Log(x)
	}
	t.entry = nil
}
