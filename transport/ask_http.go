package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An askedRequest is a request of net/http that somebody is asked about.
type askedRequest struct {
	r      *http.Request
	header http.Header // as the program is to see it
}

// Header implements Asked.
func (a *askedRequest) Header() http.Header { return OwnHeader(maps.Clone(a.header)) }

// OwnHeader makes of a header, which it changes, that of an external.Check: without fields that concern one connection and
// those that only a mesh says.
func OwnHeader(h http.Header) http.Header {
	for name := range h {
		if id := http1.Identify(name); id.HopByHop() || id == http1.FieldHost || name == external.TrailHeader || name == external.PartialBody {
			delete(h, name)
		}
	}
	return h
}

// Body implements Asked.
func (a *askedRequest) Body(most int) (first []byte, more bool, err error) {
	body := a.r.Body
	if body == nil || body == http.NoBody {
		return nil, false, nil
	}
	var buf bytes.Buffer
	_, err = io.CopyN(&buf, body, int64(most)+1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	read := buf.Bytes()
	more = len(read) > most
	a.r.Body = &begunBody{Reader: io.MultiReader(bytes.NewReader(read), body), Closer: body}
	return read[:min(len(read), most)], more, nil
}

// A begunBody is a body of which the beginning was read already.
type begunBody struct {
	io.Reader
	io.Closer
}

// Size implements Asked.
func (a *askedRequest) Size() int64 { return a.r.ContentLength }

// Trail implements Asked.
func (a *askedRequest) Trail() string { return strings.Join(a.r.Header[external.TrailHeader], " ") }

// Remote implements Asked.
func (a *askedRequest) Remote() netip.AddrPort {
	at, _ := netip.ParseAddrPort(a.r.RemoteAddr)
	return at
}

// An editedWriter changes the header of an answer before that goes out. What else the server's writer can do, it can.
type editedWriter struct {
	http.ResponseWriter
	edits []external.Edit
	begun bool
}

// answerWith gives a writer that makes what an authorizer has asked for of the answer.
func answerWith(w http.ResponseWriter, v *Verdict) http.ResponseWriter {
	if !v.EditsAnswer() {
		return w
	}
	return &editedWriter{ResponseWriter: w, edits: v.answer.Response}
}

func (w *editedWriter) begin() {
	if !w.begun {
		w.begun = true
		external.Apply(w.edits, call.HTTPHeaders(w.Header()))
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *editedWriter) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *editedWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *editedWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

// Flush implements http.Flusher.
func (w *editedWriter) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *editedWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (w *editedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (w *editedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
