package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// A forwarder sends the requests of one listener on, and their answers back. It is safe for concurrent use.
type forwarder struct {
	direction string
	// target says where a request goes, or how it is answered if it goes nowhere.
	target   func(r *http.Request) (destination, *LocalReply)
	via      func(r *http.Request) http.RoundTripper // a sender, where it makes calls of the mesh
	report   func(LocalReply)
	tell     func(*mesh.CallInfo) // Config.OnCall on a wire, nil for nobody
	tunnels  tunnels
	overload *overload // nil for none
	// connects is the wire through which tunnels go that are asked for over HTTP/2, by CONNECT; nil where they are refused.
	connects *wire
	// draining tells clients with every answer of HTTP/1 to come back on another connection; HTTP/2 says GOAWAY for it (see internal/goaway).
	draining atomic.Bool
	active   atomic.Int64
	total    atomic.Uint64
}

// ServeHTTP is the order of what happens to a request, whichever way it goes.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.active.Add(1)
	f.total.Add(1)
	defer f.active.Add(-1)
	if f.draining.Load() && r.ProtoMajor == 1 { // of HTTP/2 net/http would make a GOAWAY that leaves streams out that are on their way
		w.Header().Set("Connection", "close")
	}

	if f.overload.sheds() {
		closeAfter(w, r)
		f.reply(w, r, overloaded())
		return
	}

	if t := f.tunnelFor(w, r); t != nil {
		t.serve()
		return
	}

	// Where to: what has two readings goes nowhere, and its connection ends.
	target, refused := f.target(r)
	if refused != nil {
		closeAfter(w, r)
		f.reply(w, r, *refused)
		return
	}
	f.pass(w, r, target, f.via(r))
}

// A sender makes one call of the mesh, whose rule has a say in the answers that are made in place of an endpoint's.
type sender interface {
	http.RoundTripper
	editReply(h http.Header)
}

// A caller is the sender of a request that net/http serves.
type caller struct {
	engine *transport.Engine
	scope  string // as wire.scope
	rt     *transport.RoundTripper
	tell   func(*mesh.CallInfo) // Config.OnCall, nil for nobody
	call   transport.Call
}

// callers gives what sends the requests of an outbound listener.
func callers(m *mesh.Mesh, tell func(*mesh.CallInfo)) func(*http.Request) http.RoundTripper {
	return callersIn("", m, tell)
}

// callersIn is callers of a listener with hosts of its own.
func callersIn(scope string, m *mesh.Mesh, tell func(*mesh.CallInfo)) func(*http.Request) http.RoundTripper {
	rt := m.RoundTripper().(*transport.RoundTripper)
	return func(*http.Request) http.RoundTripper {
		return &caller{engine: m.Engine(), scope: scope, rt: rt, tell: tell}
	}
}

// RoundTrip implements http.RoundTripper.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.tell != nil {
		info := new(mesh.CallInfo)
		r = r.WithContext(mesh.Capture(r.Context(), info))
		defer c.tell(info)
	}
	q, ok := transport.View(r)
	if !ok {
		return c.rt.RoundTrip(r)
	}
	q.Scope = c.scope
	return c.rt.Resume(c.engine.Begin(r.Context(), &c.call, q), r, &c.call, q)
}

func (c *caller) editReply(h http.Header) { c.call.EditReply(call.HTTPHeaders(h)) }

// pass sends a request on and its answer back.
func (f *forwarder) pass(w http.ResponseWriter, r *http.Request, target destination, via http.RoundTripper) {
	// The request as it goes on.
	protocol := upgradeOf(r)
	body := newRequestBody(w, r)
	defer body.stop()
	relayed := newInformational(w, r)
	out := outgoing(r, target, body, protocol, relayed)
	if c := transport.CallerFrom(r.Context()); c != nil && f.direction == "inbound" {
		out.Header[transport.ForwardedCert.Canonical()] = []string{c.Forwarded} // the mesh's handler had written it
	}

	// The answer, or our own in place of one.
	resp, err := via.RoundTrip(out)
	over := relayed.end()
	if r.ProtoMajor == 1 && (!body.complete() || protocol != "" || !r.ProtoAtLeast(1, 1)) {
		// What the client sends from here on must not be taken for another request: the rest of a body, bytes
		// of a protocol that it was not let switch to, a body that HTTP/1.0 does not frame.
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			closeAfter(w, r)
		}
	}
	if err != nil {
		if s, ok := via.(sender); ok {
			s.editReply(w.Header())
		}
		f.fail(w, r, body, over, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		f.tunnel(w, r, resp, protocol)
		return
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		f.reply(w, r, LocalReply{Status: http.StatusBadGateway, Flag: "UPE", Reason: "invalid_status",
			Text: "upstream sent an invalid status"})
		return
	}

	// Head, body, trailers. Where one cannot be passed on whole, the client's connection or stream is cut.
	announced := writeHead(w, r, resp)
	if err := copyBody(w, r, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
	writeTrailers(w.Header(), resp.Trailer, announced)
}

// fail answers a request whose call got no response.
func (f *forwarder) fail(w http.ResponseWriter, r *http.Request, body *requestBody, over bool, err error) {
	if broken := body.broken(); broken != nil {
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler) // it broke because the client has gone
		}
		l := badRequest("malformed request body")
		l.Err = broken
		f.reply(w, r, l)
		return
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if over {
		err = errors.Join(errInformational, err)
	}
	f.reply(w, r, replyOf(err))
}

// closeAfter ends an HTTP/1 connection with the answer about to be written: net/http then stops reading, and
// leaves the client time to read the answer before it closes.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 {
		return
	}
	w.Header().Set("Connection", "close")
	var one [1]byte
	_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(one[:])
}

// outgoing makes the request that goes on. Only what is named here differs from what came.
func outgoing(r *http.Request, to destination, body *requestBody, protocol string, relayed *informational) *http.Request {
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &relayed.trace))
	out.URL, out.Host = to.url, to.host
	out.RequestURI = ""
	out.Header = requestHeader(r, protocol)
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1
	if r.ProtoMajor == 2 { // for endpoints that are to be spoken to as the client speaks
		out.Proto, out.ProtoMajor, out.ProtoMinor = r.Proto, r.ProtoMajor, r.ProtoMinor
	}
	out.Close = false
	out.Body, out.GetBody = nil, nil
	out.TransferEncoding, out.Trailer = nil, nil
	if body != nil {
		out.Body, out.Trailer = body, body.trailer
		if out.ContentLength < 0 {
			out.TransferEncoding = []string{"chunked"}
		}
	}
	return out
}

// writeHead passes the head of a response on. It gives the trailers that it announces.
func writeHead(w http.ResponseWriter, r *http.Request, resp *http.Response) (announced []string) {
	h := w.Header()
	copyResponseHeader(h, resp.Header)
	// A key without values keeps net/http from adding what the endpoint did not send.
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	if _, ok := h["Content-Length"]; !ok && r.ProtoMajor >= 2 {
		h["Content-Length"] = nil
	} else if ok && r.ProtoMajor == 1 && resp.ProtoMajor >= 2 && isGRPC(resp.Header) {
		delete(h, "Content-Length") // the status comes after the body, and HTTP/1.1 has trailers after chunks only
		resp.ContentLength = -1
	}
	if len(resp.Trailer) > 0 && r.Method != http.MethodHead {
		for k := range resp.Trailer {
			if !forbiddenTrailer(k) {
				announced = append(announced, k)
			}
		}
		if len(announced) > 0 {
			slices.Sort(announced)
			h["Trailer"] = []string{strings.Join(announced, ", ")}
			delete(h, "Content-Length") // HTTP/1.1 has trailers after chunks only
		}
	}
	w.WriteHeader(resp.StatusCode)
	if len(announced) > 0 {
		clear(h) // net/http takes trailers from here, and a header of the same name is none
	}
	return announced
}

// writeTrailers passes trailers on, the announced ones and those that came without.
func writeTrailers(h, trailer http.Header, announced []string) {
	if len(trailer) == 0 {
		return
	}
	for k, v := range trailer {
		switch {
		case len(v) == 0 || forbiddenTrailer(k):
		case slices.Contains(announced, k):
			h[k] = v
		default:
			h[http.TrailerPrefix+k] = v
		}
	}
}

const copyBufferSize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// copyBody passes the body on as it comes: nothing waits here for more. Only the last piece of a body of
// known length is left to the server to send, together with the end. It fails where the body breaks off or
// the client has gone.
func copyBody(w http.ResponseWriter, r *http.Request, resp *http.Response) error {
	if resp.Body == http.NoBody {
		return nil
	}
	rc := http.NewResponseController(w)
	if resp.ContentLength < 0 && r.Method != http.MethodHead {
		if err := rc.Flush(); err != nil {
			return err
		}
	}
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	var written int64
	for {
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			written += int64(n)
		}
		switch {
		case err == io.EOF: // io.Reader gives EOF itself, and this is asked at every read
			return nil
		case err != nil:
			return err
		case n > 0 && written != resp.ContentLength:
			if err := rc.Flush(); err != nil {
				return err
			}
		}
	}
}
