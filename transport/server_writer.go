package transport

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// A codecWriter is the ResponseWriter of one request: what net/http's does, by its rules. Its methods may be called by
// several goroutines; after the handler has returned they do nothing, and give an error where they can.
type codecWriter struct {
	s     *codecSession
	req   *http.Request
	body  *codecBody
	waits atomic.Bool // the client waits for 100 (Continue)

	mu     sync.Mutex // guards what follows, and the writing side of the connection
	state  answerState
	header http.Header
	answerHead
	written int64
	pending *[pendingBytes]byte // what is not sent yet: pending[:n]
	n       int
	closing bool // the connection ends with the answer
	duplex  bool // the body may be read after the answer has begun
}

// An answerHead is what is known of a head that is not complete.
type answerHead struct {
	status     int
	length     int64 // -1 for unknown
	connection []string
	announced  []string // trailer fields
	coding     string   // Transfer-Encoding, as the handler would have it
	typed      bool     // has a Content-Type, or is to have none
	dated      bool
	encoded    bool
	late       bool // there are trailer fields
	chunked    bool
}

type answerState uint8

const (
	answerOpen answerState = iota
	answerBegun
	answerHeaded // the head is complete
	answerHijacked
	answerOver
)

const (
	// Up to so many bytes an answer is announced by its length, where the handler has not said it. It is net/http's.
	measuredBytes = 2 << 10
	pendingBytes  = 4 << 10
)

var pendings = sync.Pool{New: func() any { return new([pendingBytes]byte) }}

func (w *codecWriter) begin(s *codecSession, b *codecBody, r *http.Request) {
	w.s, w.body, w.req = s, b, r
	w.length = -1
	w.closing = r.Close
	w.waits.Store(s.q.ExpectContinue())
}

// account says what was answered: 0 for nothing yet, 101 for a connection that is the handler's.
func (w *codecWriter) account() (status int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.state {
	case answerOpen:
		return 0, 0
	case answerHijacked:
		return http.StatusSwitchingProtocols, 0
	case answerBegun, answerHeaded, answerOver:
	}
	return w.status, w.written
}

// Header implements http.ResponseWriter. What it gives is looked at by WriteHeader, and for trailer fields at the end.
func (w *codecWriter) Header() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.header == nil {
		w.header = make(http.Header, 4)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *codecWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.state == answerHijacked:
		w.s.line.codec.report("http: response.WriteHeader on hijacked connection")
	case w.state != answerOpen:
		w.s.line.codec.report("http: superfluous response.WriteHeader call")
	case status < 100 || status > 999: // as net/http
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.inform(status)
	default:
		w.start(status)
	}
}

// inform sends an informational answer (RFC 9110 §15.2), which HTTP/1.0 does not know.
func (w *codecWriter) inform(status int) {
	if status == http.StatusContinue {
		w.waits.Store(false)
	}
	if w.req.ProtoMinor == 0 {
		return
	}
	hw := &w.s.w
	hw.Response(status, http.StatusText(status), w.req.Method)
	for name, values := range w.header {
		if id := http1.Identify(name); id != http1.FieldContentLength && id != http1.FieldTransferEncoding {
			w.fields(name, values)
		}
	}
	_ = hw.Finish(nil)
}

// proceed sends 100 (Continue), once, where the client waits for that and no answer has begun.
func (w *codecWriter) proceed() {
	if !w.waits.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == answerOpen && w.waits.CompareAndSwap(true, false) {
		w.s.w.Response(http.StatusContinue, "Continue", w.req.Method)
		_ = w.s.w.Finish(nil)
	}
}

// start writes the head but for what depends on the body.
func (w *codecWriter) start(status int) {
	w.state, w.status = answerBegun, status
	if status > 599 { // RFC 9110 §15
		w.s.line.codec.report("http: status %d is none; 500 is sent", status)
		w.status = http.StatusInternalServerError
	}
	reason := http.StatusText(w.status)
	if reason == "" {
		reason = "status code " + strconv.Itoa(w.status)
	}
	w.s.w.Response(w.status, reason, w.req.Method)
	for name, values := range w.header {
		w.note(name, values)
	}
}

// note writes a field of the handler's, or keeps what it says until the head is complete.
func (w *codecWriter) note(name string, values []string) {
	switch http1.Identify(name) {
	case http1.FieldContentLength:
		w.measure(values)
	case http1.FieldTransferEncoding:
		w.coding = strings.Join(values, ", ")
	case http1.FieldConnection:
		w.connection = values
		w.closing = w.closing || listsClose(values)
	case http1.FieldTrailer:
		w.announce(values)
		w.fields(name, values)
	default:
		w.noteOther(name, values)
	}
}

func (w *codecWriter) noteOther(name string, values []string) {
	switch {
	case strings.HasPrefix(name, http.TrailerPrefix):
		w.late = true
		return
	case name == "Content-Type":
		if w.typed = true; w.status == http.StatusNotModified {
			return // as net/http
		}
	case name == "Date":
		w.dated = true
	case name == "Content-Encoding":
		w.encoded = len(values) > 0 && values[0] != ""
	}
	w.fields(name, values)
}

// measure takes the handler's Content-Length.
func (w *codecWriter) measure(values []string) {
	if len(values) == 0 || values[0] == "" {
		return
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n < 0 {
		w.s.line.codec.report("http: invalid Content-Length of %q", values[0])
		return
	}
	w.length = n
}

// announce takes the names of the trailer fields, of those that can be.
func (w *codecWriter) announce(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); http1.IsTrailerName(name) {
				w.late = true
				w.announced = append(w.announced, http.CanonicalHeaderKey(name))
			}
		}
	}
}

// fields writes field lines. A name that is none is left out, what could end a line becomes a space.
func (w *codecWriter) fields(name string, values []string) {
	if !http1.IsFieldName(name) {
		return
	}
	for _, v := range values {
		w.s.w.Field(name, fieldValue(v))
	}
}

func fieldValue(v string) string {
	if http1.IsFieldValue(v) {
		return v
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, v))
}

func listsClose(values []string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), "close") {
				return true
			}
		}
	}
	return false
}

// complete ends the head (net/http, chunkWriter.writeHeader). first is what the body begins with, and all of it where done.
func (w *codecWriter) complete(first []byte, done bool) {
	hw := &w.s.w
	w.state = answerHeaded
	w.settleBody()
	head, bodied := w.req.Method == http.MethodHead, w.bodied()
	if bodied && !w.typed && !w.encoded && w.coding == "" && len(first) > 0 {
		hw.Field("Content-Type", http.DetectContentType(first))
	}
	if !w.dated {
		hw.Field("Date", w.s.line.codec.date.Field(time.Now()))
	}
	switch {
	case !bodied:
	case w.length >= 0:
		hw.Length(w.length)
	case done && !w.late && w.coding == "" && (!head || len(first) > 0):
		hw.Length(int64(len(first)))
	case head:
	case w.req.ProtoMinor == 0 || w.coding == "identity":
		w.closing = true
		hw.UntilClose()
	default:
		w.chunked = true
		hw.Chunked()
	}
	switch {
	case w.closing && !w.tunnel():
		hw.Field("Connection", "close")
	default:
		w.fields("Connection", w.connection)
	}
	_ = hw.End()
}

// settleBody makes sure that what is left of the request's body is not taken for a request.
func (w *codecWriter) settleBody() {
	w.closing = w.closing || w.s.line.codec.draining.Load() || w.tunnel()
	switch {
	case w.body.w == nil:
	case w.waits.Load(): // and it may come or not
		w.closing = true
	case !w.closing && !w.duplex:
		w.closing = !w.body.drain(w.s)
	}
}

// bodied reports an answer that can have a body (RFC 9110 §6.4.1, §9.3.6).
func (w *codecWriter) bodied() bool {
	if w.tunnel() {
		return false
	}
	return w.status >= 200 && w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// tunnel reports an answer after which the connection speaks something else, for which the handler hijacks it.
func (w *codecWriter) tunnel() bool {
	return w.status == http.StatusSwitchingProtocols || w.req.Method == http.MethodConnect && w.status/100 == 2
}
