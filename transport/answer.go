package transport

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
)

// An Answer is what the rules say in place of an endpoint: a redirect, a direct response, an injected abort,
// the answer to a CORS preflight.
type Answer struct {
	Status int
	// GRPC is the grpc-status plus one for callers that speak gRPC, 0 where Status says it (grpc, HTTP to gRPC
	// status code mapping).
	GRPC    uint8
	Body    []byte
	Details string // Envoy's response code details
	// The rest is what Header writes.
	location  string
	ops       *routing.HeaderOps
	preflight bool
}

// Envoy's response code details and bodies of what is answered here.
const (
	detailsDirect = "direct_response"
	detailsAbort  = "fault_filter_abort"
	detailsCORS   = "cors_response"
)

var bodyAbort = []byte("fault filter abort")

// answer asks whether the rule answers the call itself: an injected fault, then a preflight, then what it says
// in place of a destination (istiod's order of Envoy's filters: fault, cors, router).
func (c *Call) answer(q *call.Request) (step Step, answered bool) {
	r := c.route
	if r.Fault != nil && !c.faulted {
		c.faulted = true
		delay, abort := r.Fault.Draw(c.engine.rand(), c.engine.rand())
		if delay > 0 {
			c.flag(call.FlagDI)
		}
		step.Delay = delay
		if abort {
			c.flag(call.FlagFI)
			c.reply = Answer{Status: r.Fault.AbortStatus, GRPC: r.Fault.AbortGRPC, Body: bodyAbort, Details: detailsAbort}
			if c.reply.Status == 0 {
				c.reply.Status = http.StatusOK
			}
			step.Kind = Reply
			return step, true
		}
	}
	if r.CORS != nil {
		var preflight bool
		c.origin, preflight = r.CORS.Judge(q)
		c.origin = q.Room.Join(c.origin)
		if preflight {
			c.reply = Answer{Status: http.StatusOK, Details: detailsCORS, preflight: true}
			step.Kind = Reply
			return step, true
		}
	}
	switch {
	case r.Redirect != nil:
		c.reply = Answer{Status: r.Redirect.Code, Details: detailsDirect, location: r.Redirect.Location(q, c.match), ops: r.Answer}
	case r.Direct != nil:
		c.reply = Answer{Status: r.Direct.Status, Body: r.Direct.Body, Details: detailsDirect, ops: r.Answer}
	default:
		return step, false
	}
	step.Kind = Reply
	return step, true
}

// Reply gives the rule's own answer, where a Step says Reply. It must not be changed.
func (c *Call) Reply() *Answer { return &c.reply }

// flag notes what was injected, and that no retry was left.
func (c *Call) flag(f call.Flags) {
	c.flags |= f
	if c.info != nil {
		c.info.Flags = c.flags.String()
	}
}

// ForGRPC gives what a caller that speaks gRPC is told: the status code and its message.
func (a *Answer) ForGRPC() (code uint32, message string) {
	if a.GRPC != 0 {
		return uint32(a.GRPC) - 1, string(a.Body)
	}
	return call.GRPCCode(a.Status), string(a.Body)
}

// Header writes the answer's header, as the rule edits it. q is the request that Begin was given.
func (a *Answer) Header(h call.HeaderEditor, c *Call, q *call.Request) {
	if len(a.Body) > 0 {
		h.Set(contentType, "text/plain")
	}
	if a.location != "" {
		h.Set(location, a.location)
	}
	if !a.ops.Empty() {
		v := c.values(q)
		v.Response, v.Status = h, a.Status
		a.ops.Apply(h, &v)
	}
	switch {
	case a.preflight:
		c.route.CORS.Answer(h, q, c.origin)
	case c.origin != "":
		c.route.CORS.Mark(h, c.origin)
	}
}

var (
	contentType = call.NewName("content-type")
	location    = call.NewName("location")
)

// response makes the answer a net/http response to req. Who speaks gRPC gets a trailers-only answer, as from
// Envoy.
func (a *Answer) response(req *http.Request, c *Call, q *call.Request) *http.Response {
	h := make(http.Header, 4)
	a.Header(call.HTTPHeaders(h), c, q)
	resp := &http.Response{StatusCode: a.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req}
	body := a.Body
	if speaksGRPC(req.Header) {
		code, message := a.ForGRPC()
		resp.StatusCode, resp.Proto, resp.ProtoMajor, resp.ProtoMinor = http.StatusOK, "HTTP/2.0", 2, 0
		h["Content-Type"] = []string{"application/grpc"}
		h["Grpc-Status"] = []string{strconv.FormatUint(uint64(code), 10)}
		if body = nil; message != "" {
			h["Grpc-Message"] = []string{call.GRPCMessage(message)}
		}
	}
	resp.Status = statusLine(resp.StatusCode)
	resp.ContentLength = int64(len(body))
	if bodyless := resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified; !bodyless {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	} else {
		body = nil
		resp.ContentLength = 0
		delete(h, "Content-Type")
	}
	resp.Body = http.NoBody
	if len(body) > 0 && req.Method != http.MethodHead {
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return resp
}

// statusLine is what net/http makes of a status, "404 Not Found". Istio's rules answer with 200 to 599.
func statusLine(code int) string {
	if all := statusLines(); code >= 0 && code < len(all) {
		return all[code]
	}
	return strconv.Itoa(code) + " "
}

var statusLines = sync.OnceValue(func() *[600]string {
	var all [600]string
	for code := range all {
		all[code] = strconv.Itoa(code) + " " + http.StatusText(code)
	}
	return &all
})

// speaksGRPC reports gRPC, not gRPC-Web.
func speaksGRPC(h http.Header) bool {
	v := h["Content-Type"]
	return len(v) == 1 && call.IsGRPC(v[0])
}
