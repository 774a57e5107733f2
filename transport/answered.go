package transport

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// An arrivedRequest is one request behind Handler, in one piece of memory that is never used again: its context, the
// writer that counts its answer, and its body.
type arrivedRequest struct {
	context.Context
	carried *Carried

	w      answerHTTP1
	body   arrivedBody
	engine *Engine
	group  *telemetry.Group // nil for none
	req    *http.Request    // as it came
	began  time.Duration
	flags  call.Flags
	detail string // Envoy's response code details of an answer that is not the program's
	err    error  // why it is not, nil for what the detail says
	named  string // the x-request-id that was made
	rpc    bool
	trace  telemetry.Trace
}

// Value implements context.Context.
func (a *arrivedRequest) Value(key any) any {
	switch key {
	case carriedKey{}:
		if a.carried != nil {
			return a.carried
		}
	case arrivedKey{}:
		return a
	}
	return a.Context.Value(key)
}

type arrivedKey struct{}

// Flagged notes why a handler answers the request of the context by itself, in the place of the program that it stands for:
// metrics have the flags with that answer, and the access log Envoy's details and the error. It is called before the handler
// returns.
func Flagged(ctx context.Context, f call.Flags, details string, err error) {
	if a, ok := ctx.Value(arrivedKey{}).(*arrivedRequest); ok {
		a.flags |= f
		a.detail, a.err = details, err
	}
}

// arrive begins the account of a request of net/http's. It gives the writer that the handler is to have.
func (h *handler) arrive(w http.ResponseWriter, r *http.Request, caller *Caller) (*arrivedRequest, http.ResponseWriter) {
	e := h.in.engine
	a := &arrivedRequest{engine: e, req: r}
	if e.metrics == nil {
		return a, w
	}
	said := ""
	if caller != nil {
		if said = peerSaid(r.Header); said != "" && e.peers.says != nil {
			e.peers.says.Put(w.Header())
		}
	}
	a.group, a.began = e.Arrived(caller, r.Host, said), e.now()
	a.tracesArrival(caller)
	a.rpc = speaksGRPC(r.Header)
	a.w.to, a.w.rpc = w, a.rpc
	return a, a.w.as(w)
}

// counting gives the request's body, which is counted where nobody says how long it is.
func (a *arrivedRequest) counting(body io.ReadCloser) io.ReadCloser {
	if a.group == nil || a.req.ContentLength >= 0 && !a.rpc || body == nil || body == http.NoBody {
		return body
	}
	a.body.ReadCloser, a.body.rpc = body, a.rpc
	return &a.body
}

// end records the request. whole says that the handler has returned, and not panicked.
func (a *arrivedRequest) end(whole bool) {
	if a.group == nil {
		return
	}
	status, bytes := a.w.status, a.w.bytes
	if own, ok := a.w.to.(*codecWriter); ok {
		status, bytes = own.account()
	}
	switch {
	case !whole: // its connection ends
		a.flags |= call.FlagUC
		if status == 0 {
			status = http.StatusServiceUnavailable
		}
	case a.req.Context().Err() != nil:
		a.flags |= call.FlagDC
	case status == 0:
		status = http.StatusOK
	}
	o := telemetry.Outcome{Code: statusCode(status), Flags: a.flags}
	m := telemetry.Measurement{Duration: a.engine.now() - a.began, RequestBytes: length(a.req.ContentLength), ResponseBytes: length(bytes)}
	if a.req.ContentLength < 0 {
		m.RequestBytes = a.body.bytes
	}
	if a.rpc {
		o.GRPC = a.w.grpcStatus()
		m.RequestMessages, m.ResponseMessages = a.body.messages.count, a.w.messages.count
	}
	a.group.Series(o).Record(m)
	a.trace.End(o, m)
	a.tell(o, m)
}

// tell tells of the request's end.
func (a *arrivedRequest) tell(o telemetry.Outcome, m telemetry.Measurement) {
	x := a.engine.Entry(telemetry.Destination, o, m)
	if x == nil {
		return
	}
	fillEntry(x, a.req)
	x.Scheme = "http"
	if a.req.TLS != nil {
		x.Scheme, x.SNI = "https", a.req.TLS.ServerName
	}
	x.Details, x.Err, x.Reason, x.RequestID = a.detail, a.err, call.ReasonOf(a.err), a.named
	if o.Flags&call.FlagDC != 0 && x.Details == "" {
		x.Details = call.ReasonCanceled.Details()
	}
	if a.engine.Answers() {
		x.Response = call.HTTPHeaders(a.w.to.Header())
	}
	local, _ := a.req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	a.engine.Received(x, a.group, addrPortOf(local), addrPort(a.req.RemoteAddr))
	a.engine.Log(x)
}

// An arrivedBody counts what is read of a request's body.
type arrivedBody struct {
	io.ReadCloser
	rpc      bool
	bytes    uint64
	messages messages
}

func (b *arrivedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += uint64(n)
	if b.rpc {
		b.messages.add(p[:n])
	}
	return n, err
}

// An answerWriter counts an answer.
type answerWriter struct {
	to       http.ResponseWriter
	status   int
	bytes    int64
	rpc      bool
	messages messages
}

// as gives the writer as one that can do what it writes to can. Of our own codec that itself does.
func (w *answerHTTP1) as(to http.ResponseWriter) http.ResponseWriter {
	switch to := to.(type) {
	case *codecWriter:
		return to
	case interface {
		http.Hijacker
		http.Flusher
		io.ReaderFrom
	}:
		return w
	case http.Pusher:
		return (*answerHTTP2)(w)
	case http.Flusher:
		return (*answerFlusher)(w)
	}
	return &w.answerWriter
}

// Header implements http.ResponseWriter.
func (w *answerWriter) Header() http.Header { return w.to.Header() }

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.to.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if w.count(int64(n)); w.rpc {
		w.messages.add(p[:n])
	}
	return n, err
}

// WriteString implements io.StringWriter.
func (w *answerWriter) WriteString(s string) (int, error) {
	n, err := io.WriteString(w.to, s)
	w.count(int64(n))
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.to }

func (w *answerWriter) count(n int64) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.bytes += n
}

// grpcStatus gives that of an RPC's answer, plus one.
func (w *answerWriter) grpcStatus() uint8 {
	h := w.to.Header()
	if v := h[http.TrailerPrefix+"Grpc-Status"]; len(v) > 0 {
		return telemetry.GRPCStatus(v[0])
	}
	return grpcStatus(h)
}

// An answerHTTP1 is one that can do what net/http's of HTTP/1 can.
type answerHTTP1 struct{ answerWriter }

// Flush implements http.Flusher.
func (w *answerHTTP1) Flush() { w.flush() }

// Hijack implements http.Hijacker.
func (w *answerHTTP1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.to.(http.Hijacker).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// ReadFrom implements io.ReaderFrom.
func (w *answerHTTP1) ReadFrom(src io.Reader) (int64, error) {
	n, err := w.to.(io.ReaderFrom).ReadFrom(src)
	w.count(n)
	return n, err
}

// An answerHTTP2 is one that can do what net/http's of HTTP/2 can.
type answerHTTP2 struct{ answerWriter }

// Flush implements http.Flusher.
func (w *answerHTTP2) Flush() { w.flush() }

// Push implements http.Pusher.
func (w *answerHTTP2) Push(target string, opts *http.PushOptions) error {
	return w.to.(http.Pusher).Push(target, opts)
}

// An answerFlusher is one that can flush.
type answerFlusher struct{ answerWriter }

// Flush implements http.Flusher.
func (w *answerFlusher) Flush() { w.flush() }

func (w *answerWriter) flush() {
	w.count(0)
	w.to.(http.Flusher).Flush()
}
