package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// What is not sent on the wire — to HTTP/2, to mirrors beside, to clusters whose endpoints are still to be found, and
// without a Guard to hosts that the mesh does not know — is sent by net/http, with the forwarder as for requests that came
// in HTTP/2. To that a wire is a net/http server.

// handOver sends the call, on which the mesh has decided, by net/http.
func (x *exchange) handOver(step transport.Step) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !x.s.attendCall(cancel) {
		x.account.flags |= call.FlagDC
		x.aborted = true
		return
	}
	defer x.s.attendCall(nil)
	w := &responder{x: x, header: make(http.Header)}
	r := x.request(ctx, w)
	if x.f.draining.Load() {
		w.header.Set("Connection", "close")
	}
	u := *r.URL
	u.Scheme, u.Host = "http", x.s.wire.at(x.host)
	if x.s.to.IsValid() {
		u.Host = x.s.wire.captor.names.beyond(x.s.to)
	}
	if path, anew := spell(x.q.Path()); anew && !setPath(&u, path) {
		x.closing, x.unread = true, true
		x.reply(badRequest("malformed request target"))
		return
	}
	x.view.Headers = call.HTTPHeaders(r.Header)
	via := resumed{x, step}
	x.aborted = !serveHTTP(func() { x.f.pass(w, r, destination{&u, r.Host}, via) })
	if x.aborted && !w.began && x.s.cause() == streamStill {
		x.aborted = false
		x.reply(x.stillReply(nil))
	} else {
		w.finish()
	}
	if !x.handed && !x.q.Body.Done() {
		x.closing, x.unread = true, true
		x.s.readAgain()
	}
	x.upload.complete.Store(true)
}

// serveHTTP runs a handler. It reports whether that came to its end.
func serveHTTP(handle func()) (whole bool) {
	defer func() {
		if r := recover(); r != nil {
			if err, ok := r.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(r)
			}
			whole = false
		}
	}()
	handle()
	return true
}

// A resumed is a call whose first step is decided, as a http.RoundTripper for its request.
type resumed struct {
	x    *exchange
	step transport.Step
}

// editReply implements sender.
func (r resumed) editReply(h http.Header) { r.x.call.EditReply(call.HTTPHeaders(h)) }

// RoundTrip implements http.RoundTripper.
func (r resumed) RoundTrip(req *http.Request) (*http.Response, error) {
	r.x.view.Headers = call.HTTPHeaders(req.Header)
	r.x.account.others = true
	resp, err := r.x.s.wire.mesh.others.Resume(r.step, req, &r.x.call, &r.x.view)
	r.x.told(err)
	return resp, err
}

// request makes net/http's form of the request. Nothing in it aliases a buffer: its transport may hold on to it.
func (x *exchange) request(ctx context.Context, w *responder) *http.Request {
	q := &x.q
	x.view.Room = nil
	x.room.Leave()
	x.host = strings.Clone(x.host)
	x.view.Method, x.view.Authority = strings.Clone(x.view.Method), x.host
	x.view.Path, x.view.Query = strings.Clone(x.view.Path), strings.Clone(x.view.Query)
	x.view.Host = strings.Clone(x.view.Host)
	r := &http.Request{Method: x.view.Method, Host: x.host, RequestURI: strings.Clone(q.Target()), Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: q.Minor(), Header: make(http.Header, q.Len()), ContentLength: q.Body.Length(), Body: http.NoBody, Close: x.closing}
	if q.Minor() == 0 {
		r.Proto = "HTTP/1.0"
	}
	r.URL = &url.URL{RawQuery: x.view.Query, ForceQuery: x.view.Query == "" && strings.HasSuffix(q.Target(), "?")}
	if path := strings.Clone(q.Path()); !setPath(r.URL, path) {
		r.URL.Path = path
	}
	for i := range q.Len() {
		switch q.ID(i) {
		case http1.FieldHost, http1.FieldTransferEncoding, http1.FieldTrailer:
		default:
			key := textproto.CanonicalMIMEHeaderKey(strings.Clone(q.Name(i)))
			r.Header[key] = append(r.Header[key], strings.Clone(q.Value(i)))
		}
	}
	if names := announced(&q.Fields); names != "" && q.Body.Framing() == http1.Chunked {
		r.Trailer = make(http.Header)
		for _, name := range strings.Split(names, ", ") {
			r.Trailer[textproto.CanonicalMIMEHeaderKey(strings.Clone(name))] = nil
		}
	}
	switch q.Body.Framing() {
	case http1.NoBody:
		r.ContentLength = 0
	case http1.Chunked:
		r.TransferEncoding = []string{"chunked"}
		r.Body = &requestReader{w: w, r: r}
	default:
		r.Body = &requestReader{w: w, r: r}
	}
	return r.WithContext(ctx)
}

// A requestReader is the body of such a request. Its Close closes nothing: what is left is the wire's.
type requestReader struct {
	w *responder
	r *http.Request
}

// Read implements io.Reader. The first time it asks a client for the body that wants to be asked.
func (b *requestReader) Read(p []byte) (int, error) {
	x := b.w.x
	b.w.proceed()
	n, err := x.q.Body.Read(p)
	x.s.moved()
	switch {
	case errors.Is(err, io.EOF):
		late := x.q.Body.Trailer()
		for i := range late.Len() {
			if key := textproto.CanonicalMIMEHeaderKey(strings.Clone(late.Name(i))); b.r.Trailer != nil {
				if _, ok := b.r.Trailer[key]; ok {
					b.r.Trailer[key] = append(b.r.Trailer[key], strings.Clone(late.Value(i)))
				}
			}
		}
	case err != nil && !refusedByCodec(err) && !timedOut(err):
		x.s.left()
	}
	return n, err
}

// Close implements io.Closer.
func (b *requestReader) Close() error { return nil }

// A responder is a http.ResponseWriter on a wire.
type responder struct {
	x      *exchange
	header http.Header

	mu       sync.Mutex // guards what follows, and x.w until the answer has begun: a body is asked for from elsewhere
	began    bool       // the head is written, but for its framing
	framed   bool
	length   int64 // -1 for none
	status   int
	trailers []string
	asked    bool
}

// Header implements http.ResponseWriter, as do WriteHeader and Write.
func (w *responder) Header() http.Header { return w.header }

func (w *responder) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.x
	if w.began || x.handed {
		return
	}
	x.w.Response(status, statusText(status), x.q.Method())
	if status < 200 {
		w.fields()
		if x.w.Finish(nil) != nil {
			x.s.left()
		}
		return
	}
	w.began, w.status, w.length = true, status, -1
	if v := w.header["Connection"]; listed(v, "close") {
		x.closing = true
	}
	x.s.answering()
	w.fields()
	if _, ok := w.header["Date"]; !ok {
		x.w.Field("Date", x.s.wire.date.Field(time.Now()))
	}
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil {
			w.length = n
		}
	}
	for _, v := range w.header["Trailer"] {
		for one := range strings.SplitSeq(v, ",") {
			w.trailers = append(w.trailers, strings.TrimSpace(one))
		}
	}
}

// fields writes the header in the order of its keys.
func (w *responder) fields() {
	keys := make([]string, 0, len(w.header))
	for k := range w.header {
		if k != "Content-Length" && k != "Connection" && k != "Transfer-Encoding" && k != "Trailer" && !strings.HasPrefix(k, http.TrailerPrefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		for _, v := range w.header[k] {
			w.x.w.Field(k, v)
		}
	}
}

// frame ends the head. over says that no body will follow.
func (w *responder) frame(over bool) {
	if w.framed {
		return
	}
	w.framed = true
	x := w.x
	bodiless := w.bodiless()
	unknown := !bodiless && w.length < 0 && !over
	if unknown && x.q.Minor() < 1 {
		x.closing = true
	}
	if x.closing {
		x.w.Field("Connection", "close")
	}
	switch {
	case unknown && x.q.Minor() < 1:
		x.w.UntilClose()
	case unknown || len(w.trailers) > 0 && !bodiless:
		x.w.Chunked()
		if len(w.trailers) > 0 {
			x.w.Field("Trailer", strings.Join(w.trailers, ", "))
		}
	case w.length >= 0:
		x.w.Length(w.length)
	case !bodiless:
		x.w.Length(0)
	}
}

func (w *responder) bodiless() bool {
	return w.x.q.Method() == http.MethodHead || w.status == http.StatusNoContent || w.status == http.StatusNotModified
}

func (w *responder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.frame(false)
	if w.bodiless() {
		return len(p), nil
	}
	w.x.s.moved()
	return w.x.w.Write(p)
}

// FlushError implements http.ResponseController's Flush.
func (w *responder) FlushError() error {
	w.WriteHeader(http.StatusOK)
	w.frame(false)
	return w.x.w.Flush()
}

// SetReadDeadline implements what http.ResponseController asks for, as does EnableFullDuplex.
func (w *responder) SetReadDeadline(t time.Time) error { return w.x.s.nc.SetReadDeadline(t) }

// EnableFullDuplex does nothing: a wire is.
func (w *responder) EnableFullDuplex() error { return nil }

// Hijack implements http.Hijacker.
func (w *responder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x := w.x
	x.handed = true
	early := bytes.NewReader(taken(x.s.conn))
	x.s.finish()
	x.s.tunnelled.Store(true)
	x.s.attend(nil)
	return x.s.nc, bufio.NewReadWriter(bufio.NewReader(io.MultiReader(early, x.s.nc)), bufio.NewWriter(x.s.nc)), nil
}

// proceed asks the client for its body, once, where it waits for that and no answer has begun.
func (w *responder) proceed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.x
	if w.asked || !x.q.ExpectContinue() || w.began || x.handed {
		return
	}
	w.asked = true
	x.w.Response(http.StatusContinue, "Continue", x.q.Method())
	_ = x.w.Finish(nil) // an error shows at the next write
}

// finish ends the answer.
func (w *responder) finish() {
	x := w.x
	if x.handed || x.aborted {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.frame(true)
	if x.q.Minor() > 0 {
		for k, v := range w.header {
			name, late := strings.CutPrefix(k, http.TrailerPrefix)
			if !late && !slices.Contains(w.trailers, k) {
				continue
			}
			for _, one := range v {
				x.w.Trailer(name, one)
			}
		}
	}
	if x.w.Finish(nil) != nil {
		x.aborted = true
	}
}

// statusText gives a reason phrase, as net/http has it for every status.
func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "status code " + strconv.Itoa(status)
}
