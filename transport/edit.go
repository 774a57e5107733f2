package transport

import (
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// What the rule of a call changes in the request on its way and in the answer. Every driver asks the same
// questions; q is the request that Begin was given.

// Timeout bounds all that is left of the call from now on, the answer's body included; 0 for no bound. It is the rule's, or
// that which the request itself tells where that is shorter (Heed).
func (c *Call) Timeout() time.Duration {
	if c.route == nil {
		return 0
	}
	if d := c.route.Timeout; d > 0 && (c.told == 0 || d <= c.told) {
		return d
	}
	if c.told > 0 {
		return c.told + toldGrace
	}
	return 0
}

// EditsRequest reports whether the rule changes the request at all.
func (c *Call) EditsRequest() bool {
	return c.dest != nil && (c.route.Rewrite != nil || c.dest.Authority != "" || !c.dest.Request.Empty())
}

// EditsResponse reports whether the rule changes the answer's header.
func (c *Call) EditsResponse() bool {
	return c.origin != "" || c.cookie != "" || c.dest != nil && !c.dest.Response.Empty()
}

// Target gives path and authority of the request as it is to be sent.
func (c *Call) Target(q *call.Request) (path, authority string) {
	path, authority = c.path, q.Authority
	if path == "" {
		path = q.Path
	}
	if a := c.dest.Authority; a != "" {
		authority = a
	}
	if w := c.route.Rewrite; w != nil && w.Authority != "" {
		authority = w.Authority
	}
	return path, authority
}

var (
	originalPath = call.NewName("x-envoy-original-path")
	originalHost = call.NewName("x-envoy-original-host")
)

// EditRequest edits the header of the request that goes to path and authority, as Target gave them. Where they
// are new the old ones are kept in x-envoy-original-path, with the query, and x-envoy-original-host.
func (c *Call) EditRequest(h call.HeaderEditor, q *call.Request, path, authority string) {
	if !c.dest.Request.Empty() {
		v := c.values(q)
		v.Request.Headers = h // as it goes there: what the rule has removed cannot be copied
		c.dest.Request.Apply(h, &v)
	}
	if path != q.Path {
		old := q.Path
		if q.Query != "" {
			old = q.Room.Join(old, "?", q.Query)
		}
		h.Set(originalPath, old)
	}
	if authority != q.Authority {
		h.Set(originalHost, q.Authority)
	}
}

// EditResponse edits the header of an endpoint's answer.
func (c *Call) EditResponse(h call.HeaderEditor, q *call.Request, status int) {
	if c.dest != nil && !c.dest.Response.Empty() {
		v := c.values(q)
		v.Response, v.Status = h, status
		if c.last != nil {
			v.Endpoint = c.last.Def.Address.String()
		}
		c.dest.Response.Apply(h, &v)
	}
	if c.origin != "" {
		c.route.CORS.Mark(h, c.origin)
	}
	if c.cookie != "" {
		p := &c.cluster.def.Policy.Hash
		h.Add(setCookieField, setCookie(p.Name, c.cookie, p.Cookie))
	}
}

// EditReply edits the header of an answer that a driver makes itself, for a call that got none: the rule's corsPolicy holds for
// it too, or browsers could not read it (Envoy's cors filter sees local replies as it sees others).
func (c *Call) EditReply(h call.HeaderEditor) {
	if c.origin != "" {
		c.route.CORS.Mark(h, c.origin)
	}
}

// values is what templates can say about the call.
func (c *Call) values(q *call.Request) call.Values {
	v := call.Values{Request: *q, Protocol: q.Protocol, Route: c.routeName, Time: time.Now(), Flags: c.flags.String()}
	if c.dest != nil {
		v.Cluster = c.dest.Cluster
	}
	return v
}

// requestHeader is a request's header as rules edit it.
type requestHeader struct{ call.HTTPHeaders }

// Remove implements call.HeaderEditor. In place of a User-Agent that is not there net/http would send its own;
// an empty one it leaves out.
func (h requestHeader) Remove(n *call.Name) {
	if n.Canonical() == "User-Agent" {
		h.Set(n, "")
		return
	}
	h.HTTPHeaders.Remove(n)
}

// Add implements call.HeaderEditor. Of several User-Agents net/http would send the first: they are joined, as Envoy
// joins them.
func (h requestHeader) Add(n *call.Name, value string) {
	if n.Canonical() == "User-Agent" {
		if first, _ := h.Value(n, 0); first != "" {
			value = first + "," + value
		}
		h.Set(n, value)
		return
	}
	h.HTTPHeaders.Add(n, value)
}

// editResponse makes the rule's changes to the header of an answer. A passthrough of the program's own may have left it
// out.
func editResponse(resp *http.Response, c *Call, q *call.Request) {
	if !c.EditsResponse() {
		return
	}
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	c.EditResponse(call.HTTPHeaders(resp.Header), q, resp.StatusCode)
}
