package transport

import (
	"math/rand/v2"
	"net/http"
	"unsafe"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
)

// What a driver needs that sends calls on connections of its own.

// Plain reports whether a call to be forwarded is one of HTTP/1.1 to endpoints that are known, without copies to
// mirrors or a limit of connections: one that takes no more than Pick and a connection as Engine.Open makes it, by
// Attempt.TLS. Others are RoundTripper.Resume's.
func (c *Call) Plain() bool {
	p := c.Policy()
	return p.Protocol != snapshot.HTTP2 && p.Limits.Connections+p.Limits.Pending == 0 && len(c.route.Mirrors) == 0 && c.Unresolved() == nil
}

// TLS gives what secures connections to the endpoint, nil for plain text: its cluster's policy, or with TLS of the mesh
// its own, which names its service account.
func (a Attempt) TLS() *snapshot.TLS {
	if h, ok := a.Endpoint.Conns.(*lease); !ok {
		return a.cluster.engine.EndpointPolicy(&a.cluster.def.Policy, a.Endpoint.Def).TLS
	} else if h.key.secured {
		return &h.key.tls
	}
	return nil
}

// Ruled reports whether a rule leads the call to where it goes. One to a host that the mesh does not know has none.
func (c *Call) Ruled() bool { return c.dest != nil }

// Mirrored reports whether the rule of the call has copies of it sent to mirrors.
func (c *Call) Mirrored() bool { return c.dest != nil && len(c.route.Mirrors) > 0 }

// Resume does with a call that has begun what RoundTrip does after Begin. req is the request that q shows; the contract is
// RoundTrip's.
func (t *RoundTripper) Resume(step Step, req *http.Request, c *Call, q *call.Request) (*http.Response, error) {
	resp, err := t.take(step, req, c, q)
	if err != nil {
		c.failed(req, err)
		return nil, err
	}
	c.End(nil)
	return resp, nil
}

// failed ends a call that got no answer.
func (c *Call) failed(req *http.Request, err error) {
	c.End(err)
	if c.engine.metrics != nil {
		o, m := Failure(err, speaksGRPC(req.Header)), telemetry.Measurement{RequestBytes: length(req.ContentLength)}
		m.Duration = c.Record(o, m)
		o.Flags |= c.flags
		if x := c.engine.Entry(telemetry.Source, o, m); x != nil {
			c.describe(x, err)
			fillEntry(x, req)
			c.engine.Log(x)
		}
	}
}

// View shows a net/http request as the engine sees it. It reports false for what the mesh leaves to
// net/http: other schemes, and hosts that have no canonical name. The view aliases the request.
func View(req *http.Request) (*call.Request, bool) {
	var q call.Request
	ok := view(&q, req)
	return &q, ok
}

// RequestID is Engine.RequestID in b, which the text aliases, for who has no engine.
func RequestID(b *[36]byte) string {
	telemetry.PutRequestID(b, rand.Uint64(), rand.Uint64())
	return unsafe.String(&b[0], len(b))
}
